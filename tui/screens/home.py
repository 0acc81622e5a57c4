"""Home: what can be trained, what the machine has, and what was trained lately."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, Input, OptionList, Static

from engine.runs.folder import RunFolder
from presets.errors import CifartuiError
from tui import words
from tui.follow import RunLister, RunsListed, keep_listing
from tui.notify import newly_ended
from tui.palette import MUTED, TEXT, TONES
from tui.screens.panels import StartPanel
from tui.summary import Summary
from tui.surroundings import GpuReadings
from tui.widgets import describe
from tui.widgets.devices import gpus_now
from tui.widgets.fields import left_and_right
from tui.widgets.lists import PresetList, RunList
from tui.widgets.quiet import Quiet
from tui.widgets.too_small import TooSmall

if TYPE_CHECKING:
    from presets.catalog import Listed
    from tui.app import CifartuiApp

_LOOK_EVERY_S = 2.0
_GPU_ROWS = 4
"""More GPUs than this are counted, not listed."""


class GpusRead(Message):
    """A reading of the GPUs."""

    def __init__(self, readings: GpuReadings) -> None:
        self.readings = readings
        super().__init__()


class DataLocated(Message):
    """Whether a preset's data is there."""

    def __init__(self, name: str, status: Text) -> None:
        self.name, self.status = name, status
        super().__init__()


class Home(Screen[None]):
    """Presets left, the highlighted one described right, GPUs and recent runs below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("tab", "swap", "presets / runs", key_display="tab"),
        Binding("a", "attach", "attach"),
        Binding("t", "ablation", "ablation"),
        Binding("escape", "clear_filter", "Back", show=False),
    ]
    app: "CifartuiApp"

    def __init__(self) -> None:
        super().__init__()
        self._presets: dict[str, Listed] = {}
        self._data_status: dict[str, Text] = {}
        self.runs: tuple[Summary, ...] = ()
        self._num_runs = 0
        self._stop, self._wake = threading.Event(), threading.Event()
        self._readings: GpuReadings | None = None
        self._is_asleep = False

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield TooSmall()
        with Vertical(id="body"):
            yield Quiet(id="top")
            with Horizontal(id="choice"):
                with Vertical(id="left"):
                    yield Input(placeholder="filter", id="filter", compact=True)
                    yield PresetList(id="presets", compact=True)
                with VerticalScroll(id="right", can_focus=False):
                    yield Static(id="description")
            yield Quiet(id="gpus")
            with Vertical(id="recent"):
                yield Quiet(id="no-runs")
                yield RunList(id="runs", compact=True)
            yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Show the presets now; look for runs and GPUs in threads."""
        self.query_one("#filter").display = False
        self.query_one("#gpus").border_title = "GPUs now"
        self.query_one("#recent").border_title = "recent runs"
        listed = self.app.surroundings.presets()
        self._presets = {each.name: each for each in listed}
        self.query_one(PresetList).show(listed, "")
        self.query_one(PresetList).focus()
        self._show_runs()
        self._list_runs(RunLister(self.app.runs_dir, self.app.surroundings.now))
        self._read_gpus(self.app.surroundings.gpu_reader)

    def on_unmount(self) -> None:
        """Let the threads end at once."""
        self._stop.set()
        self._wake.set()

    def on_screen_resume(self) -> None:
        """Look at the runs again: one may just have been started."""
        self._is_asleep = False
        self._wake.set()

    def on_screen_suspend(self) -> None:
        """Hear nothing while another screen is above: each message here would make Textual paint that one anew."""
        self._is_asleep = True

    def _post(self, message: Message) -> None:
        if isinstance(message, RunsListed):  # the palette offers the runs on every screen
            for run in newly_ended(self.runs, message.runs):
                self.app.call_later(self.app.run_ended, run.title, run.status, run.reason, run.id)
            self.runs, self._num_runs = message.runs, message.num_all
        if not self._is_asleep:
            self.post_message(message)

    def on_resize(self) -> None:
        """Set in columns anew what depends on the width."""
        self.call_after_refresh(self._show_widths)

    def _show_widths(self) -> None:
        top = self.query_one("#top", Quiet)
        name = Text.assemble(("cifartui", f"bold {TEXT}"), ("   train image classifiers from a terminal", MUTED))
        host = Text.assemble(("on ", MUTED), (self.app.surroundings.host, TEXT))
        top.tell(left_and_right(name, host, max(40, top.content_size.width)))
        self._show_gpus()
        self._show_runs()

    # --- presets ---------------------------------------------------------------------------------

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Describe the preset under the cursor."""
        if event.option_list.id == "presets" and event.option.id is not None:
            self._describe(event.option.id)

    def _describe(self, name: str) -> None:
        listed = self._presets[name]
        pane = self.query_one("#description", Static)
        if listed.preset is None:
            pane.update(describe.problem(name, str(listed.path), listed.problem))
            return
        status = self._data_status.get(name)
        pane.update(describe.description(listed.preset, status or Text("looking for the data …", MUTED)))
        if status is None:
            self._locate(name)

    @work(thread=True, exclusive=True, group="locate")
    def _locate(self, name: str) -> None:
        preset = self._presets[name].preset
        assert preset is not None, "a broken preset is not located"
        try:
            found = self.app.surroundings.locate(preset.data, self.app.data_dir)
        except CifartuiError as error:
            self.post_message(DataLocated(name, Text(str(error), TONES["bad"])))
            return
        color = TONES["warn"] if found.advice else TONES["good"]
        self.post_message(DataLocated(name, Text(f"{found.text} {found.advice}".strip(), color)))

    def on_data_located(self, event: DataLocated) -> None:
        """Say whether the data is there, if that preset is still the one described."""
        self._data_status[event.name] = event.status
        if self.query_one(PresetList).chosen() == event.name:
            self._describe(event.name)

    def action_filter(self) -> None:
        """Open the filter."""
        field = self.query_one("#filter", Input)
        field.display = True
        field.focus()

    def action_clear_filter(self) -> None:
        """Close the filter and show every preset."""
        field = self.query_one("#filter", Input)
        field.value = ""
        field.display = False
        self.query_one(PresetList).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as typed."""
        self.query_one(PresetList).show(list(self._presets.values()), event.value)

    def on_input_submitted(self) -> None:
        """Go from the filter to what it found."""
        self.query_one(PresetList).focus()

    # --- runs ------------------------------------------------------------------------------------

    @work(thread=True)
    def _list_runs(self, lister: RunLister) -> None:
        keep_listing(lister, self._post, self._wake, self._stop, _LOOK_EVERY_S)

    def on_runs_listed(self) -> None:
        """Show the runs found."""
        self._show_runs()

    def _show_runs(self) -> None:
        listing, empty = self.query_one(RunList), self.query_one("#no-runs", Quiet)
        listing.display, empty.display = bool(self.runs), not self.runs
        if self.runs:
            listing.show(self.runs, self.app.surroundings.now())
        else:
            empty.tell(Text("No runs yet. Press Enter to start the highlighted preset; demo needs no data.", MUTED))
        more = self._num_runs - len(self.runs)
        self.query_one("#recent").border_title = f"recent runs (and {more} older)" if more > 0 else "recent runs"

    def action_attach(self) -> None:
        """Open the newest run that is alive."""
        live = next((run for run in self.runs if words.is_live(run.status)), None)
        if live is None:
            self.notify("No run is alive. Press Enter to start the highlighted preset.")
            return
        self.app.open_monitor(RunFolder(Path(live.path)))

    def action_ablation(self) -> None:
        """Show the ablation's table; a step chosen there that was not run yet can be started here."""
        from tui.screens.ablation import AblationScreen

        def answered(name: str | None) -> None:
            if name is not None:
                self._ask_to_start(name)

        self.app.push_screen(AblationScreen(list(self._presets.values())), answered)

    # --- GPUs ------------------------------------------------------------------------------------

    @work(thread=True)
    def _read_gpus(self, make_reader: Callable[[], Callable[[], GpuReadings]]) -> None:
        read = make_reader()
        while not self._stop.is_set():
            self._post(GpusRead(read()))
            self._stop.wait(_LOOK_EVERY_S)

    def on_gpus_read(self, event: GpusRead) -> None:
        """Show the reading."""
        self._readings = event.readings
        self._show_gpus()

    def _show_gpus(self) -> None:
        pane = self.query_one("#gpus", Quiet)
        pane.tell(gpus_now(self._readings, max(40, pane.content_size.width), _GPU_ROWS))

    # --- starting --------------------------------------------------------------------------------

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Start the preset, or open the run, under the cursor."""
        if event.option.id is None:
            return
        if event.option_list.id == "runs":
            self.app.open_monitor(RunFolder(self.app.runs_dir / event.option.id))
        else:
            self._ask_to_start(event.option.id)

    def action_open(self) -> None:
        """Start the highlighted preset (from the palette, or where no list has the focus)."""
        name = self.query_one(PresetList).chosen()
        if name is not None:
            self._ask_to_start(name)

    def _ask_to_start(self, name: str) -> None:
        if self._presets[name].preset is None:
            self.notify("This preset cannot be used as it is: its file needs mending.", severity="warning")
            return

        def answered(overrides: list[str] | None) -> None:
            if overrides is not None:
                self._start(name, overrides)

        self.app.push_screen(StartPanel(name, self.app.surroundings.load), answered)

    @work(thread=True, group="start")
    def _start(self, name: str, overrides: list[str]) -> None:
        from tui.start import start_run

        try:
            run = start_run(self.app.runs_dir, name, overrides, data_dir=self.app.data_dir)
        except CifartuiError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error", timeout=15)
            return
        self.app.call_from_thread(self.app.open_monitor, run)

    def action_swap(self) -> None:
        """Move between presets and runs."""
        presets, listing = self.query_one(PresetList), self.query_one(RunList)
        if presets.has_focus and self.runs:
            listing.focus()
        else:
            presets.focus()
