"""`cifartui delete`: remove runs from the disk, after asking."""

import sys

import click

from engine.runs.delete import check_deletable, delete_run, size_bytes
from engine.runs.run_dir import find_run
from presets.errors import CifartuiError
from tui import format as fmt
from tui.cli.main import places, with_places
from tui.cli.output import say


@click.command()
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_places
@click.pass_context
def delete(ctx: click.Context, names: tuple[str, ...], yes: bool) -> None:
    """Delete runs for good: their records, curves and checkpoints. Asks first; a run with a worker is refused."""
    runs_dir = places(ctx).runs_dir
    ids = list(dict.fromkeys(find_run(runs_dir, name).id for name in names))
    runs = [check_deletable(runs_dir, run_id) for run_id in ids]  # all are checked before any is deleted
    if not yes:
        _ask({run.id: size_bytes(run.path) for run in runs})
    for run_id in ids:
        say(f"deleted {run_id}, {fmt.memory(delete_run(runs_dir, run_id))} freed")


def _ask(sizes: dict[str, int]) -> None:
    """Return if the user says yes; end with exit 1 where not.

    Raises:
        CifartuiError: there is no terminal to ask on.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CifartuiError("nothing is deleted without a terminal to ask on; add --yes if you are sure.")
    for run_id, num_bytes in sizes.items():
        say(f"{run_id}  {fmt.memory(num_bytes)}")
    what = "this run" if len(sizes) == 1 else f"these {len(sizes)} runs"
    click.confirm(f"Delete {what} for good, {fmt.memory(sum(sizes.values()))} in all?", abort=True)
