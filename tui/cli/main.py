"""Click group `cifartui`: lazy table of commands, shared options, errors as one sentence."""

import errno
import os
import signal
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

import click

from engine import files
from engine.runs import run_dir
from presets.errors import CifartuiError
from tui.account import check_account
from tui.cli.interrupts import HUNG_UP, INTERRUPTED
from tui.cli.options import COMPLETE, CommandGroup, given_display_options, places, with_display, with_hosts, with_places
from tui.cli.output import say

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class _Group(CommandGroup):
    """A click group that prints a CifartuiError as one sentence, exit 2, and loads commands when called."""

    def main(self, *args: Any, **options: Any) -> Any:
        if COMPLETE in os.environ:
            import tui.cli.completion  # noqa: F401 (its shells take the place of click's)
            from tui.cli.suggestions import suggest_for

            suggest_for(self)
        try:
            return super().main(*args, **options)
        except OSError as error:  # a reader that has gone is click's own
            if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            has_hung_up = error.errno == errno.EIO and _is_device(sys.stdout)
            for stream in (sys.stdout, sys.stderr):
                _try_to_flush(stream)
            if has_hung_up:
                sys.exit(HUNG_UP)
            with suppress(OSError):
                say(f"cifartui: What is printed cannot be written ({error.strerror}); is the disk full?", err=True)
            sys.exit(2)

    def invoke(self, ctx: click.Context) -> Any:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # set by `cifartui.main`, while modules are imported
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            check_account()
            return super().invoke(ctx)
        except (CifartuiError, OSError) as error:
            if isinstance(error, OSError) and not isinstance(error.filename, str | bytes):
                raise  # what is printed cannot be written
            say(f"cifartui: {files.unusable(error) if isinstance(error, OSError) else error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            with suppress(OSError):
                say("\nInterrupted." if sys.stderr.isatty() else "Interrupted.", err=True)  # behind a ^C
            ctx.exit(INTERRUPTED)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_modules())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _modules().get(cmd_name)
        if module is None:
            return None
        from importlib import import_module

        held = vars(import_module(f"tui.cli.{module}")).values()
        command = next(each for each in held if isinstance(each, click.Command) and each.name == cmd_name)
        if not ctx.resilient_parsing:
            return command
        from tui.cli.suggestions import suggest_for

        return suggest_for(command)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Complete names of commands, whose modules are not loaded for their help."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name) for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]


def _is_device(stream: TextIO) -> bool:
    """Return whether a stream leads to a terminal, also to one that has hung up, which is none any more to `isatty`."""
    return stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)


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
        "log": "log",
        "delete": "runs",
        "presets": "presets",
        "preview": "preview",
        "data": "data",
        "notify": "notify",
        "relay": "relay",
        "gpus": "doctor",
        "doctor": "doctor",
        "completion": "completion",
    }


@click.group(cls=_Group, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@with_places
@with_display
@with_hosts
@click.version_option(package_name="cifartui")
@click.pass_context
def cifartui(ctx: click.Context) -> None:
    """Train image classifiers from a terminal. Without a command: the dashboard."""
    if ctx.invoked_subcommand is None:
        show_dashboard(ctx)


def show_dashboard(ctx: click.Context, attach: run_dir.RunDir | None = None, elsewhere: str = "") -> None:
    """Show the dashboard until the user leaves it; see `tui.main.open_dashboard`."""
    from tui.main import open_dashboard

    where = places(ctx)
    options = given_display_options(ctx)
    named = ctx.meta.get("hosts")
    ctx.exit(open_dashboard(where.runs_dir, where.data_dir, attach, options, named, elsewhere))
