"""Command `show`: a run on one page, or in full as JSON."""

import shutil
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click
import msgspec

from engine.files import DAMAGED
from engine.journal.state import RunState
from engine.runs.find_run import find_runs
from engine.runs.run_dir import RunDir
from presets.errors import CifartuiError
from presets.safe_text import visible
from tui.cli.hosts import remote
from tui.cli.options import places, with_places
from tui.cli.output import say, say_json
from tui.data.run_detail import MOST_STEPS, RunDetail, detail_and_state, run_detail

if TYPE_CHECKING:
    from rich.text import Text

    from tui.hosts.wire import RunPage

_PIPE_COLUMNS = 80
_FEWEST_STEPS = 10


@click.command()
@click.argument("name", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; docs/show.md says what its fields mean.")
@click.option(
    "--steps",
    metavar="N|all",
    help=f"With --json: how many points of the steps' curves at most (default {MOST_STEPS}).",
)
@with_places
@click.pass_context
def show(ctx: click.Context, name: str, as_json: bool, steps: str | None) -> None:
    """Print what is known of a run on one page; of a group of seeds a page a run, or a list of them in JSON."""
    if steps is not None and not as_json:
        raise CifartuiError("--steps is about the points in JSON; add --json.")
    most_steps = _most_steps(steps)
    with remote(name) as elsewhere:
        if elsewhere is not None:
            _show_page(elsewhere.page(min(most_steps or 10_000, 10_000)), elsewhere.host, as_json=as_json)
            return
    runs = find_runs(places(ctx).runs_dir, name)
    if as_json:
        details = [run_detail(run, time.time(), most_steps) for run in runs]
        say_json(details if len(details) > 1 else details[0], indent=0)
        return
    for number, run in enumerate(runs):
        if number:
            say("")
        _print(*detail_and_state(run, time.time(), most_steps))
        _say_whose(run)


def _show_page(page: "RunPage", host: str, *, as_json: bool) -> None:
    """Print what another host told of a run, whatever it is."""
    if as_json:
        say_json(msgspec.json.decode(page.detail), indent=0)
        return
    from tui.hosts.history import decode_history

    try:
        _print(msgspec.json.decode(page.detail, type=RunDetail), decode_history(page.state))
    except (ValueError, OverflowError, *DAMAGED) as error:
        raise CifartuiError(f"{host}: what it says of the run cannot be shown; --json prints it as it is.") from error


def _most_steps(text: str | None) -> int | None:
    if text is None:
        return MOST_STEPS
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < _FEWEST_STEPS:
        raise CifartuiError(f'--steps {text} is neither "all" nor a number from {_FEWEST_STEPS} on.')
    return int(text)


def _say_whose(run: RunDir) -> None:
    """Print a sentence if the run belongs to another user."""
    try:
        run.check_ours()
    except CifartuiError as error:
        say(f"\n{error}")


def _print(found: RunDetail, state: RunState) -> None:
    from tui.cli.run_page import run_page

    say_rows(lambda width, coloured: run_page(found, state, width, coloured=coloured))


def say_rows(rows: "Callable[[int, bool], list[Text]]") -> None:
    """Print rows that are made for so many columns, in colours or without, as standard output can show them."""
    from rich.console import Console

    from tui.terminal.streams import ascii_only, in_ascii, may_colour

    is_terminal, coloured, plain = sys.stdout.isatty(), may_colour(sys.stdout), ascii_only(sys.stdout)
    width = shutil.get_terminal_size().columns if is_terminal else _PIPE_COLUMNS
    console = Console(file=sys.stdout, width=1000, force_terminal=coloured, no_color=not coloured, highlight=False)
    for row in rows(width, coloured and not plain):
        row.plain = visible(row.plain)
        if plain:
            row.plain = in_ascii(row.plain)
        if coloured:
            console.print(row, soft_wrap=True)
        else:
            say(row.plain.rstrip())
