"""Commands `attach`, `runs` and `delete`."""

import sys
import time

import click

from engine.runs.delete import check_deletable, delete_run, size_bytes
from engine.runs.find_run import find_run, find_runs
from presets.errors import CifartuiError
from tui import format as fmt
from tui.cli.hosts import hosts_of, listings_of
from tui.cli.main import show_dashboard
from tui.cli.options import as_json_option, places, with_display, with_hosts, with_places
from tui.cli.output import say, say_json
from tui.data.summaries import summarise_all
from tui.data.summary import SORT_KEYS, Damaged, SortKey, has_words, matches, ordered
from tui.text.run_text import newer


@click.command()
@click.argument("name", metavar="[RUN]", required=False, default="latest")
@with_places
@with_display
@with_hosts
@click.pass_context
def attach(ctx: click.Context, name: str) -> None:
    """Open the dashboard on a run (the newest, if none is named); on one of another host as HOST:RUN."""
    if ":" in name:
        show_dashboard(ctx, elsewhere=name)
    else:
        show_dashboard(ctx, find_run(places(ctx).runs_dir, name))


@click.command()
@click.option(
    "--filter",
    "wanted",
    metavar="TEXT",
    default="",
    help="Only runs with these words in id, preset, title, state or changes.",
)
@click.option("--sort", "key", type=click.Choice(SORT_KEYS), default="started", help="Greatest (newest) first.")
@as_json_option
@with_hosts
@with_places
@click.pass_context
def runs(ctx: click.Context, wanted: str, key: SortKey, as_json: bool) -> None:
    """List all runs, newest first; with --hosts also those of other machines."""
    runs_dir, hosts = places(ctx).runs_dir, hosts_of(ctx)
    unread: list[Damaged] = []
    found = summarise_all(runs_dir, unread.append)
    for listing in listings_of(hosts) if hosts else ():
        found += listing.shown()
        unread += listing.away()
    summaries = ordered([summary for summary in found if matches(summary, wanted)], key)
    if as_json:
        for bad in unread:
            say(f"left out: {bad.problem}", err=True)
        say_json(summaries)
        return
    num_found = len(found) + len(unread)
    unread = [bad for bad in unread if has_words(f"{bad.id} {bad.state}", wanted)]
    if num_found and not summaries and not unread:
        say(f"None of {num_found} runs matches: {wanted}")
        return
    if not summaries and not unread:
        say(f"No runs in {runs_dir} yet. Start one with: cifartui train demo")
        return
    width = max(len(run_id) for run_id in (*(run.id for run in summaries), *(run.id for run in unread)))
    balanced = any(summary.best_val_balanced is not None for summary in summaries)
    hosts_width = max([4, *(len(summary.host) for summary in summaries)]) if hosts else 0
    has_settings = any(summary.words for summary in summaries)
    host_heading = f"  {'HOST':<{hosts_width}}" if hosts else ""
    say(
        f"{'RUN':<{width}}{host_heading}  {'STATE':<10}  {'EPOCH':>9}  {'BEST VAL':>8}"
        f"{'  BALANCED' if balanced else ''}  {'TEST':>8}"
        f"  {'DURATION':>12}  {'SIZE':>8}  {'STARTED     SETTINGS' if has_settings else 'STARTED'}"
    )
    now = time.time()
    rows = []
    for summary in summaries:
        of_classes = f"  {fmt.percent(summary.best_val_balanced):>8}" if balanced else ""
        epochs, settings = f"{summary.epoch}/{summary.epochs}", " ".join(summary.words)
        ago = fmt.ago(now - summary.created)
        host = f"  {summary.host:<{hosts_width}}" if hosts else ""
        rows.append(
            f"{summary.id:<{width}}{host}  {summary.status:<10}  {epochs:>9}  {fmt.percent(summary.best_val_top1):>8}"
            f"{of_classes}  {summary.no_test or fmt.percent(summary.test_top1):>8}"
            f"  {fmt.duration(summary.duration_s):>12}  {fmt.memory(summary.num_bytes):>8}"
            f"  {f'{ago:<10}  {settings}' if settings else ago}{newer(summary.not_understood)}"
        )
    gap = " " * (hosts_width + 2) if hosts else ""
    rows += [f"{bad.id:<{width}}{gap}  {bad.state:<10}  {bad.reason}" for bad in unread]
    say("\n".join(rows))


@click.command()
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_places
@click.pass_context
def delete(ctx: click.Context, names: tuple[str, ...], yes: bool) -> None:
    """Delete runs for good: their records, curves and checkpoints. Asks first; a run with a worker is refused.

    Of a group of seeds all runs are meant.
    """
    runs_dir = places(ctx).runs_dir
    ids = list(dict.fromkeys(run.id for name in names for run in find_runs(runs_dir, name)))
    runs = [check_deletable(runs_dir, run_id) for run_id in ids]  # all are checked before any is deleted
    if not yes:
        _confirm({run.id: size_bytes(run.path) for run in runs})
    for run_id in ids:
        say(f"deleted {run_id}, {fmt.memory(delete_run(runs_dir, run_id))} freed")


def _confirm(sizes: dict[str, int]) -> None:
    """Ask the user to confirm; exit with 1 unless the answer is yes.

    Raises:
        CifartuiError: there is no terminal to ask on.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CifartuiError("nothing is deleted without a terminal to ask on; add --yes if you are sure.")
    for run_id, num_bytes in sizes.items():
        say(f"{run_id}  {fmt.memory(num_bytes)}")
    what = "this run" if len(sizes) == 1 else f"these {len(sizes)} runs"
    click.confirm(f"Delete {what} for good, {fmt.memory(sum(sizes.values()))} in all?", abort=True)
