"""Command `data`: places of data sets, or what lies at one path."""

import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from engine.shared.data_locations import locate
from engine.shared.image_archives import OnBytes, say_nothing
from engine.shared.image_scan import Poll, shown
from presets.errors import CifartuiError
from presets.safe_text import visible_in_a_row
from presets.schema import DATASETS, Data
from tui.cli.options import as_json_option, places, with_places
from tui.cli.output import say, say_json

_SHOWN_AFTER_S = 1.0
"""Time that most folders are read in, after which there is something to show."""
_ENDS = "Ctrl-C ends that"


@click.command()
@click.argument("path", metavar="[PATH]", required=False)
@click.option(
    "--all",
    "with_all",
    is_flag=True,
    help="Print every class, and all that is not read, however many there are; the headers of all images are read.",
)
@click.option(
    "--labels", metavar="TABLE", help="CSV or TSV of files and labels, in PATH or anywhere: data.labels of a run."
)
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="data.labels=TABLE, as for train: --labels."
)
@click.option("--files", "with_files", is_flag=True, help="Print every image and the part that it is in.")
@as_json_option
@with_places
@click.pass_context
def data(
    ctx: click.Context,
    path: str | None,
    labels: str | None,
    overrides: tuple[str, ...],
    with_all: bool,
    with_files: bool,
    as_json: bool,
) -> None:
    """Look into PATH: layout, classes, sizes, split, a preset for it. Without PATH: what data is found, and where."""
    labels = _labels(labels, overrides)
    if path is None:
        if with_all or with_files or labels:
            raise CifartuiError("--all, --files and --labels are about one folder; name it: cifartui data PATH")
        _list_data_sets(places(ctx).data_dir, as_json)
    elif with_files:
        _print_files(path, labels, as_json)
    else:
        _print_summary(path, labels, as_json, with_all)


def _labels(labels: str | None, overrides: tuple[str, ...]) -> str | None:
    """Return the table that is named by either option.

    Raises:
        CifartuiError: something else is set.
    """
    for override in overrides:
        key, _, value = override.partition("=")
        if key.strip() != "data.labels" or not value.strip():
            raise CifartuiError(f"cifartui data takes --set data.labels=TABLE, and not {visible_in_a_row(override)}.")
        labels = value.strip().strip("\"'")
    return labels


def _list_data_sets(data_dir: str | None, as_json: bool) -> None:
    found = [locate(Data(dataset=name), data_dir) for name in DATASETS if name != "class-folders"]
    if as_json:
        say_json(found)
        return
    for location in found:
        say(f"{location.dataset:<14} {location.text}")
        if location.kind == "absent":
            say(f"{'':<14} {location.advice}")


def _print_summary(path: str, labels: str | None, as_json: bool, with_all: bool) -> None:
    from tui.data import folder_summary

    with shown_progress() as (poll, on_bytes):
        summary = folder_summary.summarize(path, poll, on_bytes, labels, every_header=with_all)
    if as_json:
        say_json(summary)
        return
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for label, text in folder_summary.rows(summary, None if with_all else folder_summary.MOST_SENTENCES):
        say(labelled(label, text, columns))
    if summary.classes:
        say("")
        for line in folder_summary.class_rows(summary, None if with_all else folder_summary.MOST_CLASSES):
            say(line)
        if not with_all and len(summary.classes) > folder_summary.MOST_CLASSES:
            say("--all prints every class.")
    if (command := folder_summary.command(summary, path)) is not None:
        say(f"\nTrain on it: {command}")


def labelled(label: str, text: str, columns: int | None) -> str:
    """Return a label and a sentence beside it, in lines of at most `columns` between words; None: in one line."""
    if columns is None:
        return f"{label:<9} {text}"
    return "\n".join(
        textwrap.wrap(
            text, columns, initial_indent=f"{label:<9} ", subsequent_indent=" " * 10, break_long_words=False,
            break_on_hyphens=False,
        )
    )  # fmt: skip


@contextmanager
def shown_progress() -> Iterator[tuple[Poll, OnBytes]]:
    """Give the block functions that show, on a terminal, for how long names are read, and how far an unpacking is."""
    from tui.cli.live_line import LiveLine
    from tui.data import folder_summary

    if not sys.stderr.isatty():
        yield lambda: None, say_nothing
        return
    began = time.monotonic()

    def poll() -> None:
        seconds = time.monotonic() - began
        if seconds > _SHOWN_AFTER_S:
            line.show(lambda columns: f"looking at the files, {seconds:.0f} s   {_ENDS}"[:columns])

    def on_bytes(done: int, total: int) -> None:
        line.show(lambda columns: f"{folder_summary.unpacking(done, total)}   {_ENDS}"[:columns])

    with LiveLine(sys.stderr, lambda: None) as line:
        yield poll, on_bytes
        line.clear()


def _print_files(path: str, labels: str | None, as_json: bool) -> None:
    """Print part, class and file of each image, separated by tabs."""
    from tui.data import folder_summary

    with shown_progress() as (poll, on_bytes):
        found = folder_summary.files_of(path, poll, on_bytes, labels)
    if as_json:
        say_json(found, indent=0)
        return
    for each in found:
        say(f"{each.part}\t{each.class_name or ''}\t{shown(each.file)}")
