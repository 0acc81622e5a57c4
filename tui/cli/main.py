"""Click group `cifartui`: lazy table of commands, shared options, errors as one sentence."""

import errno
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

import click

from engine.runs import run_dir
from presets.errors import CifartuiError
from tui.account import check_account
from tui.cli.options import given_display_options, places, with_display, with_places
from tui.cli.output import say


class _Group(click.Group):
    """A click group that prints a CifartuiError as one sentence, exit 2, and loads commands when called."""

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            return super().main(*args, **options)
        except OSError as error:  # a reader that has gone is click's own
            if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            for stream in (sys.stdout, sys.stderr):
                _try_to_flush(stream)
            with suppress(OSError):
                say(f"cifartui: What is printed cannot be written ({error.strerror}); is the disk full?", err=True)
            sys.exit(2)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            check_account()
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

        held = vars(import_module(f"tui.cli.{module}")).values()
        return next(each for each in held if isinstance(each, click.Command) and each.name == cmd_name)


def _try_to_flush(stream: TextIO) -> None:
    """Write what is left in a stream, or let it go nowhere, or Python would complain of it at its end."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _modules() -> dict[str, str]:
    """Return which module holds which command, in the order of the help text."""
    return {
        "train": "train",
        "lr-find": "lr_find",
        "queue": "queue",
        "attach": "runs",
        "runs": "runs",
        "show": "show",
        "compare": "compare",
        "stop": "control",
        "next": "control",
        "pause": "control",
        "continue": "control",
        "save": "control",
        "validate": "control",
        "lr": "control",
        "abort": "control",
        "resume": "train",
        "ablation": "compare",
        "evaluate": "evaluate",
        "predict": "predict",
        "report": "report",
        "export": "export",
        "delete": "runs",
        "presets": "presets",
        "preview": "preview",
        "data": "data",
        "notify": "notify",
        "gpus": "doctor",
        "doctor": "doctor",
    }


@click.group(cls=_Group, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@with_places
@with_display
@click.version_option(package_name="cifartui")
@click.pass_context
def cifartui(ctx: click.Context) -> None:
    """Train image classifiers from a terminal. Without a command: the dashboard."""
    if ctx.invoked_subcommand is None:
        show_dashboard(ctx)


def show_dashboard(ctx: click.Context, attach: run_dir.RunDir | None = None) -> None:
    """Show the dashboard until the user leaves it; see `tui.main.open_dashboard`."""
    from tui.main import open_dashboard

    where = places(ctx)
    ctx.exit(open_dashboard(where.runs_dir, where.data_dir, attach, given_display_options(ctx)))
