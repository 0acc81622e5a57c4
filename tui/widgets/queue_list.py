"""What the queue's screen shows in columns: the entries that wait, and the runs that train. Reads no files."""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui import format as fmt
from tui.data.summary import Summary
from tui.text import queue_text, run_text
from tui.text.layout import in_a_row, labelled
from tui.theme import MUTED, TEXT, TONES, TRAIN
from tui.widgets.lists import Pickable

_MOST_LIVE_SHOWN = 4
_GAP = "  "


class EntryList(Pickable, inherit_bindings=False):
    """A line an entry. Enter is left to the screen: an entry has nothing to open yet."""

    BINDINGS: ClassVar[list[BindingType]] = [
        binding
        for binding in (*OptionList.BINDINGS, *Pickable.BINDINGS)
        if isinstance(binding, Binding) and binding.key != "enter"
    ]

    _cut: frozenset[str] = frozenset()

    @property
    def is_cut(self) -> bool:
        """Whether the line under the cursor does not show all that is to be known."""
        return self.chosen() in self._cut

    def show(self, rows: Sequence[queue_text.Row], widths: Sequence[int]) -> None:
        """List `rows` in columns of these widths; the cursor stays on its entry, or where that one was."""
        lines = [_line(row, widths) for row in rows]
        self._cut = frozenset(row.id for row in rows if _is_cut(row, widths))
        shown = [(option.id, option.prompt.markup) for option in self.options if isinstance(option.prompt, Text)]
        if [(row.id, line.markup) for row, line in zip(rows, lines, strict=True)] == shown:
            return
        before = self.highlighted or 0
        is_gone = self.chosen() not in {row.id for row in rows}
        self.fill([Option(line, id=row.id) for line, row in zip(lines, rows, strict=True)])
        if is_gone:
            self.highlighted = min(before, len(rows) - 1)


def widths_of(rows: Sequence[queue_text.Row], width: int) -> tuple[int, int, int, int, int]:
    """Return the widths of number, preset, changes, device and state; the changes are cut first."""
    number = max(2, len(str(len(rows))))
    device = min(8, max(6, *(len(row.device) for row in rows)))
    state = min(width // 3, max(5, *(len(row.state) for row in rows)))
    room = width - number - device - state - 4 * len(_GAP)
    name = min(room * 5 // 8, max(6, *(len(queue_text.name(row)) for row in rows)))
    changes = min(room - name, max(8, *(len(queue_text.changes(row)) for row in rows)))
    return number, name, changes, device, state


def heading(widths: Sequence[int]) -> Text:
    """Return the names of the columns."""
    number, name, changes, device, _ = widths
    cells = (f"{'':>{number}}", f"{'preset':<{name}}", f"{'changes':<{changes}}", f"{'device':<{device}}", "state")
    return Text(_GAP.join(cells), MUTED, no_wrap=True)


def _line(row: queue_text.Row, widths: Sequence[int]) -> Text:
    number, name, changes, device, state = widths
    is_next = row.state == "next"
    return Text.assemble(
        (f"{row.number:>{number}}{_GAP}", MUTED),
        (fmt.column(queue_text.name(row), name, keep_end=row.preset_name.endswith(".toml")) + _GAP, TEXT),
        (fmt.column(queue_text.changes(row) or "as it is", changes) + _GAP, TEXT if queue_text.changes(row) else MUTED),
        (fmt.column(row.device, device) + _GAP, MUTED),
        (fmt.column(row.state, state).rstrip(), TRAIN if is_next else MUTED),
        no_wrap=True,
    )


def _is_cut(row: queue_text.Row, widths: Sequence[int]) -> bool:
    return cell_len(queue_text.name(row)) > widths[1] or cell_len(queue_text.changes(row)) > widths[2]


def live_lines(live: Sequence[Summary], now: float, width: int) -> Text:
    """Return a line for each of the newest living runs; `now` is Unix seconds."""
    if not live:
        return Text("Nothing is training.", MUTED)
    lines = [_live_line(run, now, width) for run in live[:_MOST_LIVE_SHOWN]]
    if len(live) > _MOST_LIVE_SHOWN:
        lines.append(Text(f"and {len(live) - _MOST_LIVE_SHOWN} more", MUTED))
    return Text("\n").join(lines)


def _live_line(run: Summary, now: float, width: int) -> Text:
    fields = [
        Text.assemble((f"{run.status:<11}", TONES[run_text.tone(run.status)]), (fmt.short_id(run.id), TEXT)),
        labelled("epoch", f"{run.epoch}/{run.epochs}"),
        labelled("best val", fmt.percent(run.best_val_top1)),
        labelled("started", fmt.ago(max(0.0, now - run.created)), MUTED),
        labelled("on", run.device, MUTED),
    ]
    return in_a_row(fields, width)
