"""The options about how the dashboard looks; they go before the configuration file."""

from typing import Any, get_args

import click

from tui.display import ColorDepth, PlotStyle, Theme

_OPTIONS = "look"


def _keep(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value is not None and param.name is not None:
        ctx.meta.setdefault(_OPTIONS, {})[param.name] = value


def with_look(command: Any) -> Any:
    """Give a command that opens the dashboard --theme, --plots, --colors and --low-bandwidth."""
    for name, allowed, text in (
        ("--theme", get_args(Theme), "Colours for a dark or a light room."),
        ("--plots", ("auto", *get_args(PlotStyle)), "What curves are drawn with; ascii is for everything."),
        ("--colors", ("auto", *get_args(ColorDepth)), "How many colours are sent."),
    ):
        command = click.option(
            name, type=click.Choice(allowed), callback=_keep, expose_value=False, default=None, help=text
        )(command)
    return click.option(
        "--low-bandwidth/--no-low-bandwidth", default=None, callback=_keep, expose_value=False,
        help="Paint less often, for a slow line.",
    )(command)  # fmt: skip


def asked_for(ctx: click.Context) -> dict[str, Any]:
    """Return what the options say, by the names of the configuration's fields."""
    options: dict[str, Any] = ctx.meta.get(_OPTIONS, {})
    return options
