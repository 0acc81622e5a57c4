"""The options about how the dashboard looks, laid over the configuration file and over what the terminal can show."""

import locale
import os
from typing import Any, get_args

import click
from msgspec import structs

from presets.errors import CifartuiError
from tui import terminal
from tui.config import Config, config_path, read_config
from tui.look import ColorDepth, Look, PlotStyle, Theme

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


def chosen_look(ctx: click.Context) -> Look:
    """Return the look that the options ask for, then the configuration, then the terminal.

    Raises:
        CifartuiError: the terminal has no screen, or the configuration is not valid.
    """
    if not terminal.has_screen(os.environ):
        raise CifartuiError(
            f"the dashboard needs a terminal that can move its cursor, and TERM={os.environ.get('TERM')} says that "
            "this one cannot; here, start runs with `cifartui train PRESET`."
        )
    return look_of(structs.replace(checked_config(), **ctx.meta.get(_OPTIONS, {})))


def checked_config() -> Config:
    """Return the configuration, its keys checked against the screens.

    Raises:
        CifartuiError: something in it is not valid.
    """
    config = read_config()
    if config.keys:
        from tui.keys import check_keys  # imports the screens

        check_keys(config.keys, str(config_path()))
    return config


def look_of(config: Config) -> Look:
    """Return `config` with what it leaves to the terminal decided."""
    plots, colors = plot_choice(config), color_choice(config)
    return Look(
        theme=config.theme,
        plots=plots.value,
        colors=colors.value,
        low_bandwidth=config.low_bandwidth,
        bell=config.bell,
        keys=config.keys,
        notify=config.notify,
    )


def plot_choice(config: Config) -> terminal.Choice[PlotStyle]:
    """Return what plots are drawn with, and why."""
    if config.plots != "auto":
        return terminal.Choice(config.plots, "as configured")
    return terminal.plot_style(os.environ, locale.getpreferredencoding(False))


def color_choice(config: Config) -> terminal.Choice[ColorDepth]:
    """Return how many colours are sent, and why."""
    if config.colors != "auto":
        return terminal.Choice(config.colors, "as configured")
    return terminal.color_depth(os.environ)
