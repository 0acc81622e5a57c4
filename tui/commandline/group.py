"""The top of the command line: the options every command shares, and how errors reach the user."""

from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from engine.runs import folder
from presets.errors import CifartuiError
from tui.commandline.looks import asked_for, with_look
from tui.commandline.say import say


class Places(Struct, frozen=True):
    """Where runs are kept, and where data is looked for first (None: CIFARTUI_DATA, then the user's folder)."""

    runs_dir: Path
    data_dir: str | None


class _Group(click.Group):
    """A click group that prints a CifartuiError as one sentence, exit 2, and loads commands when called."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CifartuiError as error:
            say(f"cifartui: {error}", err=True)
            ctx.exit(2)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_modules())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _modules().get(cmd_name)
        if module is None:
            return None
        from importlib import import_module

        held = vars(import_module(f"tui.commandline.{module}")).values()
        return next(each for each in held if isinstance(each, click.Command) and each.name == cmd_name)


def _modules() -> dict[str, str]:
    """Return which module holds which command, in the order of the help text."""
    return {
        "train": "train",
        "lr-find": "lr_find",
        "queue": "queue",
        "attach": "looking",
        "runs": "looking",
        "show": "show",
        "compare": "compare",
        "stop": "steering",
        "next": "steering",
        "pause": "steering",
        "continue": "steering",
        "save": "steering",
        "validate": "steering",
        "lr": "steering",
        "abort": "steering",
        "resume": "train",
        "ablation": "compare",
        "evaluate": "evaluate",
        "export": "export",
        "delete": "delete",
        "presets": "about",
        "data": "about",
        "gpus": "gpus",
        "doctor": "doctor",
    }


def _set_runs_dir(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta["runs_dir"] = value


def _set_data_dir(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta["data_dir"] = value


def with_places(command: Any) -> Any:
    """Give a command --runs-dir and --data-dir, which may also stand before the command's name."""
    for name, callback, text in (
        ("--runs-dir", _set_runs_dir, "Where runs are kept (else CIFARTUI_RUNS, else your state folder)."),
        ("--data-dir", _set_data_dir, "Where data is looked for first (then CIFARTUI_DATA, then your data folder)."),
    ):
        command = click.option(name, metavar="DIR", callback=callback, expose_value=False, help=text)(command)
    return command


def as_json_option(command: Any) -> Any:
    """Give a command --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def places(ctx: click.Context) -> Places:
    """Return the folders that the options, or else the environment, name."""
    named_runs, named_data = ctx.meta.get("runs_dir"), ctx.meta.get("data_dir")
    runs_dir = Path(named_runs).expanduser() if named_runs else folder.default_runs_dir()
    data_dir = str(Path(named_data).expanduser().absolute()) if named_data else None
    if data_dir is not None and not Path(data_dir).is_dir():
        raise CifartuiError(f"--data-dir {named_data} is not a folder; name the one that holds the data.")
    return Places(runs_dir.absolute(), data_dir)


@click.group(cls=_Group, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@with_places
@with_look
@click.version_option(package_name="cifartui")
@click.pass_context
def cifartui(ctx: click.Context) -> None:
    """Train image classifiers from a terminal. Without a command: the dashboard."""
    if ctx.invoked_subcommand is None:
        show_dashboard(ctx)


def show_dashboard(ctx: click.Context, attach: folder.RunFolder | None = None) -> None:
    """Show the dashboard until the user leaves it; see `tui.dashboard.open_dashboard`."""
    from tui.dashboard import open_dashboard

    where = places(ctx)
    open_dashboard(where.runs_dir, where.data_dir, attach, asked_for(ctx))
