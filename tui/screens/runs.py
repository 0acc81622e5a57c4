"""Runs screen: table of all runs, to filter, sort, open, compare, export, resume and delete."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.widgets import Input

from engine import files
from presets.problems import printable
from presets.range_test import is_range_test_name
from tui import format as fmt
from tui.data.run_list import RunLister, RunsListed
from tui.data.seed_group import Listed, SeedGroup, run_ids, table_rows, with_groups
from tui.data.summary import SORT_KEYS, Damaged, Summary, has_words
from tui.plots.overlay import COLORS, OverlaidRun, overlaid
from tui.screens.run_listing import Listing
from tui.text import run_text
from tui.text.run_name import run_name
from tui.theme import MUTED, TONES, Tone
from tui.widgets import run_table
from tui.widgets.basic import ChangedStatic, TextField, TooSmall
from tui.widgets.curve_overlay import Overlay
from tui.widgets.key_bar import KeyBar
from tui.widgets.run_columns import Order
from tui.widgets.run_table import Mark, Row, RunHeading, RunTable, SortChosen

if TYPE_CHECKING:
    from tui.data.compare import Difference
    from tui.screens.run_dialogs import Export, ExportPanel

_Answer = TypeVar("_Answer")
_ASKED = 54
"""Columns of a run's id and settings in the question before it is deleted, beside its size."""
_VERY_WIDE = 150
"""From this width on the curves are beside the table unless they are hidden."""


class RunsScreen(Listing[None]):
    """The table, the curves of the marked runs beside or below it, and a row with the answer to every key."""

    CSS_PATH = "runs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open", show=False, id="runs.open", tooltip="open the run, or a group of seeds"),
        Binding("right,l", "unfold", "unfold", show=False, id="runs.unfold", tooltip="open a group of seeds"),
        Binding("left,h", "fold", "fold", show=False, id="runs.fold", tooltip="close a group of seeds"),
        Binding("slash", "filter", "filter", key_display="/", id="runs.filter",
                tooltip="filter by words of id, preset, title, state, changes"),
        Binding("o", "order", "order", id="runs.order", tooltip="sort by the next value"),
        Binding("O", "reverse", "reverse", show=False, id="runs.reverse", tooltip="sort the other way round"),
        Binding("space", "mark", "mark", key_display="space", id="runs.mark",
                tooltip="mark the run, or take its mark away"),
        Binding("u", "unmark", "unmark all", show=False, id="runs.unmark", tooltip="take all marks away"),
        Binding("v", "overlay", "curves", id="runs.overlay", tooltip="curves of the marked runs over each other"),
        Binding("y", "log_scale", "log scale", show=False, id="runs.log_scale",
                tooltip="loss of the curves on a logarithmic axis"),
        Binding("equals_sign", "difference", "diff", key_display="=", id="runs.difference",
                tooltip="in what the marked runs differ"),
        Binding("R", "resume", "resume", id="runs.resume", tooltip="resume the run"),
        Binding("x", "export", "export", id="runs.export", tooltip="export its network or curves"),
        Binding("D", "delete", "delete", id="runs.delete", tooltip="delete the marked runs, or this one (asks first)"),
        Binding("Y", "copy_path", "path", show=False, id="runs.copy_path",
                tooltip="copy its folder's path, and show it"),
        Binding("escape", "back", "Back", show=False, id="runs.back", tooltip="back"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.listed = RunsListed((), 0, num_unread=1)
        """The runs of this machine and of the others."""
        self._here = self.listed
        self.order = Order()
        self.marked: list[str] = []
        """Ids of runs and groups, in the order in which they were marked."""
        self.opened: frozenset[str] = frozenset()
        """Ids of the groups that are open."""
        self._wants_overlay: bool | None = None
        self.idle_actions = {"resume"}
        """Actions without effect on the row under the cursor: not offered, and answered with the reason."""
        self._message: tuple[str, Tone] | None = None

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield TooSmall()
        with Vertical(id="body"):
            yield ChangedStatic(id="top")
            yield TextField(
                placeholder="words of the id, preset, title, state or changes", id="run-filter", compact=True
            )
            with Container(id="split"):
                with Vertical(id="listing"):
                    yield RunHeading(id="run-heading")
                    yield RunTable()
                    yield ChangedStatic(id="no-rows")
                yield Overlay(grain=self.app.plot_style)
            yield ChangedStatic(id="message")
            yield KeyBar()

    def on_mount(self) -> None:
        """Look for runs in a thread."""
        self.query_one("#run-filter").display = False
        self.query_one(RunTable).focus()
        self.list_runs(RunLister(self.app.runs_dir, self.app.environment.now, limit=None))

    def on_runs_listed(self, event: RunsListed) -> None:
        """Show the runs found so far."""
        self._here = event
        self.on_hosts_changed()

    def on_hosts_changed(self) -> None:
        """Show the runs of this machine and of the others together."""
        event = self._here if self.app.others is None else self.app.others.joined(self._here)
        self.listed = event
        if not event.num_unread:
            known = {run.id for run in (*event.runs, *event.damaged, *with_groups(event.runs))}
            self.marked = [run_id for run_id in self.marked if run_id in known]
        self._show()

    # --- showing ---------------------------------------------------------------------------------

    def on_resize(self) -> None:
        """Set everything anew once the layout is known."""
        self.set_class(self.shows_overlay, "-overlay")
        self.call_after_refresh(self._show)

    @property
    def shows_overlay(self) -> bool:
        """True if the curves are in view: the user's choice, else if they fit beside the table."""
        return self.size.width >= _VERY_WIDE if self._wants_overlay is None else self._wants_overlay

    @property
    def rows(self) -> list[Row]:
        """The runs that the filter lets through, in order, those of a group as one row; the damaged ones last."""
        wanted = self.query_one("#run-filter", Input).value
        runs = table_rows(self.listed.runs, wanted, self.order.key, self.opened, rising=self.order.rising)
        return [*runs, *(run for run in self.listed.damaged if has_words(f"{run.id} {run.state}", wanted))]

    def _show(self) -> None:
        if not self.is_mounted:
            return
        table, empty = self.query_one(RunTable), self.query_one("#no-rows", ChangedStatic)
        rows = self.rows
        top = self.query_one("#top", ChangedStatic)
        width = max(40, top.content_size.width)
        is_run = (row.id for row in rows if not (isinstance(row, Damaged) and row.state == "no line"))
        num_runs = len(run_ids(is_run, self._known))
        top.set_text(run_table.heading(self.listed, self.order, num_runs, len(self.marked), width))
        table.display, empty.display = bool(rows), not rows
        self.query_one(RunHeading).display = bool(rows)
        if not rows:
            empty.set_text(run_table.nothing(self.listed, self.app.runs_dir))
        table.show(rows, self.app.environment.now(), self.order, self._marks(), self.opened)
        self.query_one(RunHeading).show(table.fitting, self.order, plain=self.app.plot_style == "ascii")
        self._show_overlay()
        self._show_message()
        self._show_keys()

    def _marks(self) -> dict[str, Mark]:
        colored = [Mark(str(number + 1), color) for number, color in enumerate(COLORS)]
        more = [Mark("+", MUTED)] * max(0, len(self.marked) - len(COLORS))
        return dict(zip(self.marked, [*colored, *more], strict=False))

    def _show_overlay(self) -> None:
        if self.shows_overlay:
            self.query_one(Overlay).show(self._drawn(), max(0, len(self._chosen_ids()) - len(COLORS)))

    def _drawn(self) -> list[OverlaidRun]:
        """Return the curves of the marked runs and groups, or else of the one under the cursor."""
        return overlaid(self._chosen_ids(), self._known, self.listed.curves)

    def _show_message(self) -> None:
        chosen = self.query_one(RunTable).chosen
        if self._message is not None:
            text, tone = self._message
            message = Text(text, TONES[tone])
        else:
            message = run_table.hint(chosen)
        self.query_one("#message", ChangedStatic).set_text(message)

    def _show_keys(self) -> None:
        chosen = self.query_one(RunTable).chosen
        idle = set() if isinstance(chosen, Summary) and not _why_not_resumed(chosen) else {"resume"}
        if self.idle_actions != idle:
            self.idle_actions = idle
            self.refresh_bindings()

    def _say(self, text: str, tone: Tone) -> None:
        if self not in self.app.screen_stack:  # left meanwhile: the result is still shown
            self.app.notify(text)
            return
        self._message = (text, tone)
        self._show_message()

    def _act(self, label: str, action: Callable[[], _Answer], then: Callable[[_Answer], object]) -> None:
        """Run a disk action in a thread, then call `then` with its result, or show its error."""

        def answered(answer: _Answer) -> None:
            then(answer)
            self.list_again()

        def failed(why: str) -> None:
            self._say(f"{label}: {why}", "bad")
            self.list_again()

        self.app.run_in_background(action, answered, failed)

    def _act_and_say(self, label: str, action: Callable[[], str]) -> None:
        self._act(label, action, lambda text: self._say(f"{label}: {text}", "good"))

    # --- moving, filter, order -------------------------------------------------------------------

    def on_run_table_moved(self, event: RunTable.Moved) -> None:
        """Let the last answer go, unless it is why the cursor moved, and draw the run under the cursor."""
        self._message = None if event.by_user else self._message
        self._show_message()
        self._show_overlay()
        self._show_keys()

    def on_run_table_opened(self) -> None:
        """Open what was clicked twice."""
        self.action_open()

    def on_sort_chosen(self, event: SortChosen) -> None:
        """Sort by the heading clicked; clicked again, the other way round."""
        is_same = event.key == self.order.key
        self._sort(Order(event.key, not self.order.rising if is_same else False))

    def action_order(self) -> None:
        """Sort by the next value."""
        self._sort(Order(SORT_KEYS[(SORT_KEYS.index(self.order.key) + 1) % len(SORT_KEYS)]))

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._sort(replace(self.order, rising=not self.order.rising))

    def _sort(self, order: Order) -> None:
        self.order = order
        self._show()

    def action_filter(self) -> None:
        """Open the filter."""
        field = self.query_one("#run-filter", Input)
        field.display = True
        field.focus()

    def on_input_changed(self) -> None:
        """Filter as typed."""
        self._show()

    def on_input_submitted(self) -> None:
        """Go from the filter to what it found."""
        self.query_one(RunTable).focus()

    def action_back(self) -> None:
        """Take the filter away, or else go back."""
        field = self.query_one("#run-filter", Input)
        if field.display:
            field.display = False
            field.value = ""
            self.query_one(RunTable).focus()
        else:
            self.dismiss()

    # --- marks, curves, differences --------------------------------------------------------------

    @property
    def _known(self) -> dict[str, Listed]:
        """All runs and groups by id."""
        return {row.id: row for row in (*self.listed.runs, *with_groups(self.listed.runs))}

    def _chosen_ids(self) -> list[str]:
        """Return the marked runs and groups, or else the one under the cursor."""
        chosen = self.query_one(RunTable).chosen
        return self.marked or ([chosen.id] if chosen is not None else [])

    def action_mark(self) -> None:
        """Mark the run under the cursor, or take its mark away, and go on to the next."""
        table = self.query_one(RunTable)
        if table.chosen is None:
            return
        if table.chosen.id in self.marked:
            self.marked.remove(table.chosen.id)
        else:
            self.marked.append(table.chosen.id)
        table.action_move(1)
        self._show()

    def action_unmark(self) -> None:
        """Take all marks away."""
        self.marked = []
        self._show()

    def action_overlay(self) -> None:
        """Show the curves, or put them away."""
        self._wants_overlay = not self.shows_overlay
        self.set_class(self._wants_overlay, "-overlay")
        self.call_after_refresh(self._show)

    def action_log_scale(self) -> None:
        """Draw the loss of the curves on a logarithmic axis, or on a linear one again."""
        if not self.shows_overlay:
            self._say(f"the curves are hidden; {self.app.key_of('runs.overlay', 'v')} shows them.", "warn")
            return
        overlay = self.query_one(Overlay)
        overlay.show_log(is_log=not overlay.is_log)
        self._say(f"loss on a {'logarithmic' if overlay.is_log else 'linear'} axis", "calm")

    def action_difference(self) -> None:
        """Show in what the marked runs differ."""
        from tui.screens import run_actions

        whole = [run_id for run_id in run_ids(self.marked, self._known) if run_id in self.listed.curves]
        if len(whole) < 2:
            self._say("Mark two runs or more with space; = then tells in what they differ.", "warn")
            return
        self._say(f"diff: reading {len(whole)} runs …", "busy")
        compare = partial(run_actions.compare, self.app.runs_dir, whole)
        self._act("diff", compare, lambda found: self._show_differences(found, fmt.short_ids(whole)))

    def _show_differences(self, found: "list[Difference]", names: list[str]) -> None:
        from tui.screens.run_dialogs import DifferencePanel

        if self.app.screen is not self:  # left meanwhile
            return
        self._message = None
        self._show_message()
        self.app.push_screen(DifferencePanel(found, [printable(name) for name in names]))

    # --- the run under the cursor ----------------------------------------------------------------

    def _whole_run(self, verb: str) -> Summary | None:
        chosen = self.query_one(RunTable).chosen
        if isinstance(chosen, SeedGroup):
            self._say(f"This is a group of {len(chosen.members)} runs: open it with enter, and choose one.", "warn")
        elif isinstance(chosen, Damaged):
            self._say(f"This run cannot be {verb}: {printable(chosen.problem)}", "bad")
        elif chosen is None:
            self._say("There is no run here.", "warn")
        return chosen if isinstance(chosen, Summary) else None

    def _is_elsewhere(self, ids: Sequence[str]) -> bool:
        """Return whether one of these runs is on another host, and then say that this is done there."""
        others = self.app.others
        host = next((host for row_id in ids if others is not None and (host := others.host_of(row_id))), "")
        if host:
            self._say(f"This is on {host}: enter opens a run of it, everything else is done there.", "warn")
        return bool(host)

    def action_open(self) -> None:
        """Open the Monitor, or a group; a group that is open is closed."""
        chosen = self.query_one(RunTable).chosen
        if isinstance(chosen, SeedGroup):
            self._set_opened(self.opened ^ {chosen.id})
        elif (run := self._whole_run("opened")) is not None:
            self.app.open_run(run.id)

    def action_unfold(self) -> None:
        """Open the group under the cursor."""
        chosen = self.query_one(RunTable).chosen
        if isinstance(chosen, SeedGroup):
            self._set_opened(self.opened | {chosen.id})

    def action_fold(self) -> None:
        """Close the group under the cursor, or the one whose run is there, and move to it."""
        table = self.query_one(RunTable)
        chosen = table.chosen
        for row in table.rows:
            if isinstance(row, SeedGroup) and row.id in self.opened and (row is chosen or chosen in row.members):
                table.go_to_row(row.id)
                self._set_opened(self.opened - {row.id})
                return

    def _set_opened(self, opened: frozenset[str]) -> None:
        self.opened = opened
        self._show()

    def action_copy_path(self) -> None:
        """Copy the folder's path, and show it."""
        from tui.terminal.sequences import copy

        chosen = self.query_one(RunTable).chosen
        if chosen is None or isinstance(chosen, SeedGroup):
            self._whole_run("copied")
            return
        if self._is_elsewhere([chosen.id]):
            return
        path = str(self.app.runs_dir / chosen.id)
        copy(self.app, path)
        self._say(f"sent to the terminal's clipboard, if it takes it: {printable(path, 10_000)}", "good")

    def action_resume(self) -> None:
        """Start a worker that goes on from the last checkpoint."""
        from tui.screens import run_actions

        if (run := self._whole_run("resumed")) is None or self._is_elsewhere([run.id]):
            return
        name = run_name(run.id, run.preset_name, run.words)
        if why := _why_not_resumed(run):
            self._say(f"{name} {why}", "warn")
            return
        self._say(f"resume {name}: starting a worker …", "busy")
        resume = partial(run_actions.resume, self.app.runs_dir, run.id, self.app.display_settings.notify)
        self._act_and_say(f"resume {name}", resume)

    # --- export ----------------------------------------------------------------------------------

    def action_export(self) -> None:
        """Ask what to write of the run's network or curves, or of the curves of several marked, and where."""
        from tui.screens import run_actions
        from tui.screens.run_dialogs import ExportPanel

        folder = str(files.working_folder()).rstrip("/")
        if len(drawn := self._drawn()) > 1:
            is_log = self.query_one(Overlay).is_log
            panel = ExportPanel(f"{len(drawn)} curves", f"{folder}/overlay", ExportPanel.SEVERAL)
            self._export(panel, lambda chosen: run_actions.export_overlay(drawn, chosen.path, is_log=is_log))
        elif (run := self._whole_run("exported")) is not None and not self._is_elsewhere([run.id]):
            run_id, runs_dir, data_dir = run.id, self.app.runs_dir, self.app.data_dir
            panel = ExportPanel(run_name(run_id, run.preset_name, run.words), f"{folder}/{run_id}")
            self._export(panel, lambda chosen: run_actions.export(runs_dir, run_id, chosen.kind, chosen.path, data_dir))

    def _export(self, panel: "ExportPanel", write: "Callable[[Export], str]") -> None:
        def answered(chosen: "Export | None") -> None:
            if chosen is not None:
                self._say(f"export: writing {printable(chosen.path)} …", "busy")
                self._act_and_say("export", lambda: write(chosen))

        self.app.push_screen(panel, answered)

    # --- deleting --------------------------------------------------------------------------------

    def action_delete(self) -> None:
        """Ask whether to delete the marked runs, or else the one under the cursor; of a group all runs."""
        from tui.screens import run_actions

        ids = run_ids(self._chosen_ids(), self._known)
        if not ids:
            self._say("There is no run here.", "warn")
            return
        if self._is_elsewhere(ids):
            return
        self._say("delete: looking at what is there …", "busy")
        self._act("delete", partial(run_actions.weigh, self.app.runs_dir, ids), self._ask_to_delete)

    def _ask_to_delete(self, weighed: tuple[dict[str, int], list[str]]) -> None:
        from tui.screens import run_actions
        from tui.screens.run_dialogs import ConfirmDelete

        sizes, refused = weighed
        if self.app.screen is not self:  # left meanwhile: nothing is asked over another screen
            return
        if not sizes:
            self._say(f"delete: {refused[0]}", "warn")
            return

        def answered(sure: bool | None) -> None:
            if sure:
                self._say(f"delete: removing {fmt.plural(len(sizes), 'run')} …", "busy")
                self._act_and_say("delete", partial(run_actions.delete, self.app.runs_dir, list(sizes)))
            else:
                self._say("delete: nothing was deleted.", "calm")

        known = {run.id: fmt.cut(" ".join((run.id, *run.words)), max(len(run.id), _ASKED)) for run in self.listed.runs}
        named = {known.get(run_id, run_id): size for run_id, size in sizes.items()}
        self.app.push_screen(ConfirmDelete(named, refused), answered)


def _why_not_resumed(run: Summary) -> str:
    """Return why the table resumes a run not, as a clause after its name, and what to do; nothing if it does."""
    if run_text.is_live(run.status):
        return f"has a worker already ({run.status}); Enter opens it."
    if is_range_test_name(run.preset_name):
        return "is a range test, which keeps no weights: run it anew instead."
    if run.status == "completed":
        return "is completed: open it with enter, and R there trains it for more epochs."
    if not run.has_checkpoint:
        return "has no checkpoint to go on from; Enter opens it, and it can be started anew there."
    return ""
