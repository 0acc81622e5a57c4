"""What the Runs screen says above its table and in place of it. Knows what was listed; no files."""

from pathlib import Path

from rich.text import Text

from tui import format as fmt
from tui.data.run_list import RunsListed
from tui.data.summary import SortKey
from tui.text.layout import left_and_right
from tui.theme import MUTED, TEXT, VAL
from tui.widgets.run_table import Order

_ORDERS: dict[SortKey, tuple[str, str, str]] = {
    "started": ("start", "newest first", "oldest first"),
    "val": ("best val", "highest first", "lowest first"),
    "test": ("test", "highest first", "lowest first"),
    "duration": ("duration", "longest first", "shortest first"),
    "size": ("size on disk", "largest first", "smallest first"),
}


def heading(listed: RunsListed, order: Order, num_rows: int, num_marked: int, width: int) -> Text:
    """Return how many runs are shown, in what order, how many are marked, and what all take on disk."""
    name, falling, rising = _ORDERS[order.key]
    left = Text.assemble(
        ("Runs", f"bold {TEXT}"), (f"   {_shown(listed, num_rows)}", TEXT),
        (f"   by {name}, {rising if order.rising else falling}", MUTED),
    )  # fmt: skip
    if num_marked:
        left.append(f"   {num_marked} marked", VAL)
    num_bytes = sum(run.num_bytes or 0 for run in listed.runs) + sum(run.num_bytes for run in listed.damaged)
    return left_and_right(left, Text(f"{fmt.memory(num_bytes)} on disk" if num_bytes else "", MUTED), width)


def _shown(listed: RunsListed, num_rows: int) -> str:
    num_all = fmt.count(listed.num_all)
    if listed.num_unread:
        return (
            f"reading … {fmt.count(listed.num_all - listed.num_unread)} of {num_all}" if listed.num_all else "reading …"
        )
    return num_all if num_rows == listed.num_all else f"{fmt.count(num_rows)} of {num_all}"


def nothing(listed: RunsListed, runs_dir: Path) -> Text:
    """Return why there is no row, and what to do."""
    if listed.num_unread:
        return Text("reading the runs …", MUTED)
    if listed.num_all:
        return Text("No run has all these words. Esc takes the filter away.", MUTED)
    return Text(
        f"No runs in {runs_dir} yet.\n\nEsc goes back to Home, where Enter starts the highlighted preset; "
        "demo needs no data.\nRuns kept elsewhere are shown with: cifartui --runs-dir DIR",
        MUTED,
    )
