"""Queue screen: the run that trains, the entries that wait, and the process that starts them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from engine.queue.allocation import QueuePosition, queue_positions
from engine.queue.queue_file import Entry
from engine.runs.notify_settings import Notify
from tui import format as fmt
from tui.data.environment import Environment
from tui.data.queue_editor import QueueEdited, QueueEditor, QueueRead
from tui.data.run_list import RunLister, RunsListed
from tui.data.summary import Summary
from tui.screens.run_listing import Listing
from tui.text import queue_text, run_text
from tui.text.layout import in_a_row, labelled, left_and_right
from tui.text.run_name import run_name, settings, shared_words
from tui.theme import MUTED, TEXT, TONES, TRAIN
from tui.widgets.basic import ChangedStatic, TooSmall
from tui.widgets.key_bar import KeyBar
from tui.widgets.lists import Pickable

if TYPE_CHECKING:
    from tui.app import CifartuiApp
    from tui.hosts.listing import HostListing


class QueueScreen(Listing[None]):
    """A line an entry, in the order in which they are started. Edits show at once and are made in a thread."""

    CSS_PATH = "queue.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter", "attach", "watch", id="queue.attach", tooltip="watch the run that trains", key_display="enter"
        ),
        Binding("d", "remove", "take out", id="queue.remove", tooltip="take out of the queue"),
        Binding("delete", "remove", "take out", id="queue.remove", tooltip="take out of the queue", show=False),
        Binding("u", "put_back", "put back", id="queue.put_back", tooltip="put back what was taken out last"),
        Binding("K", "move(-1)", "earlier", id="queue.earlier", tooltip="move up"),
        Binding("shift+up", "move(-1)", "earlier", id="queue.earlier", tooltip="move up", show=False),
        Binding("J", "move(1)", "later", id="queue.later", tooltip="move down"),
        Binding("shift+down", "move(1)", "later", id="queue.later", tooltip="move down", show=False),
        Binding(
            "r", "start_runner", "start runner", id="queue.start_runner", tooltip="let the queue be worked off again"
        ),
        Binding("escape", "back", "back", id="queue.back", tooltip="back"),
    ]
    app: "CifartuiApp"

    def __init__(self, runs_dir: Path, environment: Environment, notify: Notify) -> None:
        """Show the queue of `runs_dir`, which need not exist; `notify` is who is told, for a runner."""
        super().__init__()
        self._queue_editor = QueueEditor(runs_dir, self.post, environment, notify)
        self._live: tuple[Summary, ...] = ()
        self._here = RunsListed((), 0)
        self._edited: QueueEdited | None = None
        self.read: QueueRead | None = None
        """The queue as it was read last, with the edits since; None before the first time."""

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield TooSmall()
        with Vertical(id="body"):
            yield ChangedStatic(id="top")
            yield ChangedStatic(id="now")
            with Vertical(id="waiting"):
                yield ChangedStatic(id="nothing")
                yield ChangedStatic(id="columns")
                yield EntryList(id="entries", compact=True)
            yield ChangedStatic(id="footnote")
            yield KeyBar()

    def on_mount(self) -> None:
        """Read the queue and the runs in threads."""
        self.query_one("#now").border_title = "training now"
        self.query_one("#waiting").border_title = "waiting"
        self.query_one(EntryList).focus()
        self._run_editor()
        self.list_runs(RunLister(self.app.runs_dir, self.app.environment.now))
        self._show()

    def on_unmount(self) -> None:
        """Let the queue's thread end, after the edits requested."""
        self._queue_editor.close()

    def on_screen_resume(self) -> None:
        """Look at the queue again at once."""
        self._queue_editor.show(True)

    def on_screen_suspend(self) -> None:
        """Leave the queue alone while another screen is above."""
        self._queue_editor.show(False)

    @work(thread=True)
    def _run_editor(self) -> None:
        self._queue_editor.work()

    # --- messages ----------------------------------------------------------------------------------

    def on_queue_read(self, event: QueueRead) -> None:
        """Show the queue, unless it was read before the last edit: then another reading is on its way."""
        if event.num_edits == self._queue_editor.num_requested:
            self.read = event
            self._show()

    def on_queue_edited(self, event: QueueEdited) -> None:
        """Say what became of an edit."""
        self._edited = event
        self._show()

    def on_runs_listed(self, event: RunsListed) -> None:
        """Show what is training."""
        self._here = event
        self.on_hosts_changed()

    def on_hosts_changed(self) -> None:
        """Show what trains and waits on this machine and on the others."""
        listed = self._here if self.app.others is None else self.app.others.joined(self._here)
        self._live = tuple(run for run in listed.runs if run_text.is_live(run.status))
        self._show()

    def on_resize(self) -> None:
        """Set the columns anew."""
        self.call_after_refresh(self._show)

    # --- what is shown -----------------------------------------------------------------------------

    @property
    def _entries(self) -> tuple[Entry, ...]:
        return self.read.entries if self.read is not None else ()

    @property
    def _positions(self) -> list[QueuePosition]:
        return queue_positions(self.read.entries, self.read.held, self.read.gpus) if self.read is not None else []

    def _show(self) -> None:
        top = self.query_one("#top", ChangedStatic)
        width = max(40, top.content_size.width)
        top.set_text(_title(self.read, width))
        self.query_one("#now", ChangedStatic).set_text(live_lines(self._live, self.app.environment.now(), width))
        rows = queue_text.rows_of(self._entries, self._positions)
        listing, columns, nothing = self.query_one(EntryList), self.query_one("#columns"), self.query_one("#nothing")
        listing.display = columns.display = bool(rows)
        nothing.display = not rows
        if rows:
            widths = widths_of(rows, width)
            self.query_one("#columns", ChangedStatic).set_text(heading(widths))
            listing.show(rows, widths)
        else:
            self.query_one("#nothing", ChangedStatic).set_text(_nothing(self.read))
        self._show_footnote()
        self.refresh_bindings()

    def _show_footnote(self) -> None:
        listing, index = self.query_one(EntryList), self._chosen()
        cut = self._entries[index] if index is not None and listing.is_cut else None
        footnote = self.query_one("#footnote", ChangedStatic)
        others = queue_elsewhere(self.app.others.listings()) if self.app.others is not None else Text("")
        text = _footnote(self.read, self._edited, cut, self.app.key_of("queue.start_runner", "r"))
        text = Text("\n").join([part for part in (others, text) if part])
        footnote.display = bool(text)
        footnote.set_text(text)

    def on_option_list_option_highlighted(self) -> None:
        """Spell the entry under the cursor out where its line is cut."""
        self._show_footnote()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only the keys that have something to act on."""
        if action in {"remove", "move"}:
            return bool(self._entries)
        if action == "put_back":
            return bool(self._queue_editor.removed)
        if action == "attach":
            return bool(self._live)
        if action == "start_runner":
            return self.read is not None and bool(self._entries) and not self.read.lives
        return True

    # --- keys --------------------------------------------------------------------------------------

    def _chosen(self) -> int | None:
        """Return which entry the cursor is on."""
        chosen = self.query_one(EntryList).chosen()
        return next((index for index, entry in enumerate(self._entries) if entry.id == chosen), None)

    def action_remove(self) -> None:
        """Take the entry under the cursor out; the one after it is under the cursor then."""
        index = self._chosen()
        if index is not None:
            self._queue_editor.remove(self._entries[index], index)
            self._show_entries([*self._entries[:index], *self._entries[index + 1 :]])

    def action_move(self, places: int) -> None:
        """Move the entry under the cursor, and the cursor with it."""
        index = self._chosen()
        if index is not None and 0 <= index + places < len(self._entries):
            self._queue_editor.move(self._entries[index], places)
            wanted = list(self._entries)
            wanted.insert(index + places, wanted.pop(index))
            self._show_entries(wanted)

    def _show_entries(self, wanted: Sequence[Entry]) -> None:
        """Show an edit before it is made: the next reading brings the truth."""
        assert self.read is not None, "there were entries"
        self.read.entries = tuple(wanted)
        self._show()

    def action_put_back(self) -> None:
        """Put back what was taken out last."""
        self._queue_editor.put_back()

    def action_start_runner(self) -> None:
        """Start the runner."""
        self._queue_editor.start_runner()

    def action_attach(self) -> None:
        """Open the run that the entry under the cursor waits for, or else the newest one that trains."""
        index = self._chosen()
        runs = self._positions[index].waits_for if index is not None else ()
        names = [run.id for run in runs] or [run.id for run in self._live]
        if names:
            self.app.open_run(names[0])

    def action_back(self) -> None:
        """Go back."""
        self.dismiss(None)


def _title(read: QueueRead | None, width: int) -> Text:
    num_waiting = len(read.entries) if read is not None else 0
    text = f"{num_waiting or 'nothing'} wait{'s' if num_waiting < 2 else ''} to be trained" if read is not None else ""
    left = Text.assemble(("Queue", f"bold {TEXT}"), (f"   {text}", MUTED))
    right = Text()
    if read is not None and read.lives:
        right = Text(queue_text.runner(read.lives, read.mark), TONES["good"])
    elif num_waiting:
        right = Text(queue_text.runner(False, None), TONES["bad"])
    return left_and_right(left, right, width)


def _nothing(read: QueueRead | None) -> Text:
    if read is None:
        return Text("Reading …", MUTED)
    if read.problem:
        return Text(read.problem, TONES["bad"])
    return Text.assemble(
        ("Nothing waits to be trained.\n\n", TEXT),
        ("Presets get here from Home: mark them with ", MUTED),
        ("Space", TRAIN),
        (", then press ", MUTED),
        ("Enter", TRAIN),
        (". One trains at a time on every GPU, or on the processor.\n", MUTED),
        ("From the command line: ", MUTED),
        ("cifartui queue add demo basenet", TEXT),
        ("\n\nThe queue needs neither the dashboard nor the terminal: leave, and it goes on.", MUTED),
    )


def _footnote(read: QueueRead | None, edited: QueueEdited | None, cut: Entry | None, start_key: str) -> Text:
    """Return what there is to know: of the entry under the cursor where its line is cut, the last edit, the runner."""
    lines = []
    if cut is not None:
        lines.append(Text(queue_text.described(cut), TEXT))
    if edited is not None:
        lines.append(Text(edited.text, TEXT if edited.is_done else TONES["warn"]))
    if read is not None and read.entries and not read.lives:
        lines.append(Text(f"{queue_text.NO_RUNNER} Press {start_key} to start one.", TONES["bad"]))
    if read is not None and read.last_logged:
        lines.append(Text(f"queue.log: {read.last_logged}", MUTED))
    return Text("\n").join(lines)


def queue_elsewhere(listings: "Sequence[HostListing]") -> Text:
    """Return a row for every host on which something waits: how much, and what is next."""
    rows = []
    for listing in listings:
        if listing.queue and listing.line.is_up:
            first = listing.queue[0]
            text = f"{len(listing.queue)} waiting, next {queue_text.name(first)}: {first.state}"
            idle = "" if listing.is_worked_on else "; no runner is alive there"
            rows.append(Text.assemble((f"{listing.name}: ", TEXT), (text, MUTED), (idle, TONES["bad"]), no_wrap=True))
    return Text("\n").join(rows)


_MOST_LIVE_SHOWN = 4
_LIVE_NAME = 45
"""Columns of a living run's name."""
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
        """True if the row under the cursor has more details than its line shows."""
        return self.chosen() in self._cut

    def show(self, rows: Sequence[queue_text.Row], widths: Sequence[int]) -> None:
        """List `rows` in columns of these widths; the cursor stays on its entry, or where that one was."""
        shared = shared_words((row.preset_name, queue_text.words(row)) for row in rows)
        lines = [_line(row, widths, shared.get(row.preset_name, frozenset())) for row in rows]
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
    """Return the widths of number, preset, changes, device and state.

    Changes that all entries of a preset share are cut first, then the preset to no less than a third, then the others.
    """
    number = max(2, len(str(len(rows))))
    device = min(8, max(6, *(len(row.device) for row in rows)))
    state = min(width // 3, max(5, *(len(row.state) for row in rows)))
    room = width - number - device - state - 4 * len(_GAP)
    shared = shared_words((row.preset_name, queue_text.words(row)) for row in rows)
    needed = least = 8
    for row in rows:
        words = queue_text.words(row)
        own = [word for word in words if word not in shared.get(row.preset_name, frozenset())]
        needed = max(needed, cell_len(" ".join(words)))
        least = max(least, cell_len(" ".join(own if len(own) == len(words) else (*own, "…"))))
    name = min(max(room - least, room // 3), max(6, *(cell_len(queue_text.name(row)) for row in rows)))
    changes = min(room - name, needed)
    return number, name, changes, device, state


def heading(widths: Sequence[int]) -> Text:
    """Return the names of the columns."""
    number, name, changes, device, _ = widths
    cells = (f"{'':>{number}}", f"{'preset':<{name}}", f"{'changes':<{changes}}", f"{'device':<{device}}", "state")
    return Text(_GAP.join(cells), MUTED, no_wrap=True)


def _line(row: queue_text.Row, widths: Sequence[int], shared: frozenset[str]) -> Text:
    number, name, changes, device, state = widths
    words = queue_text.words(row)
    is_next = row.state == "next"
    return Text.assemble(
        (f"{row.number:>{number}}{_GAP}", MUTED),
        (fmt.column(_cut_name(row, name), name) + _GAP, TEXT),
        (fmt.column(settings(words, changes, shared) or "as it is", changes) + _GAP, TEXT if words else MUTED),
        (fmt.column(row.device, device) + _GAP, MUTED),
        (fmt.column(row.state, state).rstrip(), TRAIN if is_next else MUTED),
        no_wrap=True,
    )


def _cut_name(row: queue_text.Row, width: int) -> str:
    text = queue_text.name(row)
    return fmt.cut(text, width, keep_end=True) if text.endswith(".toml") else fmt.cut_middle(text, width)


def _is_cut(row: queue_text.Row, widths: Sequence[int]) -> bool:
    return cell_len(queue_text.name(row)) > widths[1] or cell_len(" ".join(queue_text.words(row))) > widths[2]


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
        Text.assemble(
            (f"{run.status:<11}", TONES[run_text.tone(run.status)]),
            (run_name(run.id, run.preset_name, run.words, _LIVE_NAME), TEXT),
        ),
        labelled("epoch", f"{run.epoch}/{run.epochs}"),
        labelled("best val", fmt.percent(run.best_val_top1)),
        labelled("started", fmt.ago(max(0.0, now - run.created)), MUTED),
        labelled("on", run.device, MUTED),
    ]
    return in_a_row(fields, width)
