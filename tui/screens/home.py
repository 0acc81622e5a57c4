"""Home screen: presets, GPUs and queue of this machine, recent runs; starts and queues presets."""

import threading
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import Screen
from textual.widgets import OptionList

from presets.schema import Data, Preset
from tui.data.environment import GpuReadings, Queued, watch_machine
from tui.data.preset_info import DataLocated, FactsFound, PresetInfo
from tui.text import preset_text
from tui.text.layout import left_and_right
from tui.theme import MUTED, TEXT, TONES
from tui.widgets.basic import ChangedStatic, TooSmall
from tui.widgets.home_panes import GpuPane, PresetChooser, PresetPane, QueueRow, RecentRuns, no_runs, size_of
from tui.widgets.key_bar import KeyBar
from tui.widgets.lists import PresetList, RunList

if TYPE_CHECKING:
    from presets.catalog import Listed
    from tui.app import CifartuiApp
    from tui.data.network_facts import NetworkFacts
    from tui.data.run_list import RunsListed
    from tui.data.summary import Summary
    from tui.screens.starting import PresetStarts

_READ_EVERY_S = 2.0
_FIRST_SCREEN_S = 0.1
"""The threads start after this delay, so that the first paint has the interpreter alone."""
_COVERED_S = 3.0
"""The same if a run was opened at once, whose journal may be long."""


class MachineRead(Message):
    """The GPUs and the queue were read anew."""


class Home(Screen[None]):
    """Presets left, the highlighted one described right, GPUs and recent runs below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "find", key_display="/", id="home.filter",
                tooltip="filter the presets by words of their name, title or group"),
        Binding("o", "open_folder", "open", id="home.open",
                tooltip="open a folder of images: what is in it, and the presets for it"),
        Binding("l", "layers", "layers", id="home.layers", tooltip="the layer table, or back to the description"),
        Binding("tab", "swap", "presets / runs", key_display="tab", show=False, id="home.swap",
                tooltip="move between presets and recent runs"),
        Binding("d", "demo", "demo", show=False, id="home.demo",
                tooltip="start demo at once: images that the program generates, no data, no GPU needed"),
        Binding("a", "attach", "attach", id="home.attach", tooltip="open the newest run that is alive"),
        Binding("r", "runs", "runs", id="home.runs", tooltip="all runs"),
        Binding("Q", "queue", "queue", show=False, id="home.queue", tooltip="the queue: what is trained next"),
        Binding("t", "ablation", "table", id="home.ablation", tooltip="the ablation's table"),
        Binding("f", "find_lr", "find lr", show=False, id="home.find_lr",
                tooltip="find a learning rate for the highlighted preset: a range test of 2,000 batches"),
        Binding("i", "preview", "images", show=False, id="home.preview",
                tooltip="training images of the highlighted preset, as its network is given them"),
        Binding("down", "leave_filter", "to the list", key_display="↓", id="home.leave_filter",
                tooltip="from the filter to what it found; so does enter"),
        Binding("escape", "back", "Back", show=False, id="home.back",
                tooltip="close the layers, show all presets again, take all marks away"),
    ]  # fmt: skip
    app: "CifartuiApp"

    def __init__(self) -> None:
        super().__init__()
        self._presets: dict[str, Listed] = {}
        self.runs: tuple[Summary, ...] = ()
        self._elsewhere: list[Summary] = []
        self._num_runs: int | None = None
        self._runs_problem = ""
        self._stop, self._wake, self._read_again = threading.Event(), threading.Event(), threading.Event()
        self._readings: GpuReadings | None = None
        self._queued = Queued()
        self._described: tuple[object, ...] = ()
        self._is_asleep = False
        self._known = PresetInfo(self.app.environment, self.app.data_dir)

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield TooSmall()
        with Vertical(id="body"):
            yield ChangedStatic(id="top")
            with Horizontal(id="choice"):
                yield PresetChooser(id="left", sign="*" if self.app.plot_style == "ascii" else "✓")
                yield PresetPane(id="about")
            yield QueueRow(id="queue-row")
            yield GpuPane(id="gpus")
            if self.app.has_others:
                from tui.widgets.other_hosts import OtherHosts

                yield OtherHosts(id="hosts")
            yield RecentRuns(id="recent")
            yield KeyBar()

    def on_mount(self) -> None:
        """Show the presets; everything else is read in threads, once these are painted."""
        listed = self.app.environment.presets()
        self._presets = {each.name: each for each in listed}
        self.query_one(PresetChooser).show(listed)
        self._show_widths()
        self._describe_again()
        self.set_timer(_COVERED_S if self.app.opens_on_a_run else _FIRST_SCREEN_S, self._start_threads)

    def _start_threads(self) -> None:
        self.app.connect()
        if self.app.others is not None and not self._is_asleep:
            self.app.others.watch(self, self._post)
        self._list_runs()
        self._watch_machine()
        self._look_up_first()

    def on_unmount(self) -> None:
        """Let the threads end at once."""
        for event in (self._stop, self._wake, self._read_again):
            event.set()
        self._known.close()

    def on_screen_resume(self) -> None:
        """List the runs again: one may just have been started."""
        was_asleep, self._is_asleep = self._is_asleep, False
        if self.app.others is not None:
            self.app.others.watch(self, self._post)
        self._wake.set()
        if was_asleep:
            self._describe_again()

    def on_screen_suspend(self) -> None:
        """Post nothing while another screen is above: each message here would make Textual paint that one anew."""
        self._is_asleep = True
        if self.app.others is not None:
            self.app.others.unwatch(self)

    def _post(self, message: Message) -> None:
        """Post a message from a thread, if this screen is in view."""
        if not self._is_asleep:
            self.post_message(message)

    def _store(self, message: DataLocated | FactsFound) -> None:
        self._known.store(message)
        self._post(message)

    def on_resize(self) -> None:
        """Draw anew the parts that depend on the width."""
        self.call_after_refresh(self._show_widths)

    def _show_widths(self) -> None:
        top = self.query_one("#top", ChangedStatic)
        name = Text.assemble(("cifartui", f"bold {TEXT}"), ("   train image classifiers from a terminal", MUTED))
        host = Text.assemble(("on ", MUTED), (self.app.environment.host, TEXT))
        top.set_text(left_and_right(name, host, max(40, top.content_size.width)))
        self.query_one(PresetPane).show_layers()
        self._show_machine()
        self._show_runs()

    # --- presets ---------------------------------------------------------------------------------

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Describe the preset under the cursor."""
        if event.option_list.id == "presets" and event.option.id is not None:
            self._describe(event.option.id)

    def _describe_again(self) -> None:
        name = self.query_one(PresetList).chosen()
        if name is not None:
            self._describe(name)
        elif self._described:
            self._described = ()
            self.query_one(PresetPane).show("", preset_text.nothing(), "No preset is chosen.")

    def on_input_changed(self) -> None:
        """Describe the preset under the cursor; the list has applied the filter already."""
        self._describe_again()

    def _describe(self, name: str) -> None:
        listed, pane = self._presets[name], self.query_one(PresetPane)
        if listed.preset is None:
            self._described = ()
            pane.show(name, preset_text.problem(name, str(listed.path), listed.problem), "This preset cannot be used.")
            return
        status, found = self._known.data_status.get(name), self._known.facts.get(name)
        if status is None:
            self._locate(name, listed.preset.data)
        withdraw = self._known.wanted_facts(name)
        if withdraw is not None:
            self._find_facts(name, listed.preset, withdraw)
        memory, earlier = self._memory(listed.preset, found), self._earlier(name)
        if self._described == (name, status, found, memory, earlier):
            return  # a new reading that says the same is no reason to paint
        self._described = (name, status, found, memory, earlier)
        where = status or Text("looking for the data …", MUTED)
        pane.show(name, preset_text.description(listed.preset, where, size_of(found), memory, earlier), found)

    def _earlier(self, name: str) -> str:
        if not self.runs:
            return ""
        from tui.data.summary import earlier

        return earlier(self.runs, name, self.app.environment.host)

    def _memory(self, preset: Preset, found: "NetworkFacts | str | None") -> Text:
        if found is None or isinstance(found, str):
            return Text("")
        from tui.data import memory_fit

        text, tone = memory_fit.fits(preset, found, "auto", self._readings, self.app.environment.visible_gpus)
        return Text(text, TONES[tone])

    @work(thread=True, exclusive=True, group="locate")
    def _locate(self, name: str, data: Data) -> None:
        self._store(self._known.locate(name, data))

    @work(thread=True)
    def _look_up_first(self) -> None:
        usable = {name: listed.preset for name, listed in self._presets.items() if listed.preset is not None}
        self._store(self._known.first_facts(usable))
        self._store(self._known.locate("", Data(dataset="cifar100")))

    @work(thread=True, group="facts")
    def _find_facts(self, name: str, preset: Preset, withdraw: threading.Event) -> None:
        self._known.find_facts(name, preset, withdraw, self._store)

    def on_data_located(self, event: DataLocated) -> None:
        """Show the state of the data, if that preset is still the one described."""
        if not event.name:
            self._show_runs()
        elif self.query_one(PresetList).chosen() == event.name:
            self._describe(event.name)

    def on_facts_found(self) -> None:
        """Describe the preset under the cursor with the facts found."""
        self._describe_again()

    def action_layers(self) -> None:
        """Show the layer table in place of the description, or the description again; on wide screens hide it."""
        self.toggle_class("-layers")
        self.call_after_refresh(self.query_one(PresetPane).show_layers)

    def action_page(self, direction: int) -> None:
        """Scroll the description."""
        self.query_one(PresetPane).page(direction)

    def action_filter(self) -> None:
        """Open the filter."""
        self.query_one(PresetChooser).open_filter()

    def action_leave_filter(self) -> None:
        """Move from the filter to the list."""
        self.query_one(PresetChooser).leave_filter()

    def action_back(self) -> None:
        """Undo the last change of the view: the filter, the layers, the marks."""
        if self.query_one(PresetChooser).close_filter():
            return
        if self.has_class("-layers"):
            self.action_layers()
        else:
            self.query_one(PresetList).unmark()

    # --- runs ------------------------------------------------------------------------------------

    @work(thread=True)
    def _list_runs(self) -> None:
        from tui.data.run_list import RunLister, list_repeatedly, newly_ended

        def listed(message: "RunsListed") -> None:
            for run in newly_ended(self.runs, message.runs):
                title = " ".join((run.title, *run.words))
                self.app.call_later(self.app.run_ended, title, run.status, run.reason, run.id)
            self.runs, self._num_runs = message.runs, message.num_all
            self._runs_problem = message.problem
            self._post(message)

        lister = RunLister(self.app.runs_dir, self.app.environment.now)
        list_repeatedly(lister, listed, self._wake, self._stop, _READ_EVERY_S)

    def on_runs_listed(self) -> None:
        """Show the runs found."""
        self._show_runs()
        self._show_machine()
        self._describe_again()

    def on_hosts_changed(self) -> None:
        """Show what other hosts told, and notify the user of runs that ended there."""
        from tui.data.run_list import newly_ended
        from tui.widgets.other_hosts import OtherHosts

        if self.app.others is None:
            return
        listings = self.app.others.listings()
        self.query_one(OtherHosts).show(listings)
        before, self._elsewhere = self._elsewhere, [run for listing in listings for run in listing.shown()]
        for run in newly_ended(before, self._elsewhere):
            self.app.run_ended(" ".join((run.title, *run.words, "on", run.host)), run.status, run.reason, run.id)
        self._show_runs()

    def everywhere(self) -> "RunsListed":
        """Return the runs of this machine and of the others together."""
        from tui.data.run_list import RunsListed

        here = RunsListed(self.runs, self._num_runs or 0)
        return here if self.app.others is None else self.app.others.joined(here)

    def _show_runs(self) -> None:
        has_gpu = None if self._readings is None else bool(self._readings.gpus)
        empty = no_runs(self._num_runs, self._known.has_cifar, has_gpu, self._runs_problem)
        runs, num_all = self.runs, self._num_runs or 0
        if self.app.others is not None:
            joined = self.everywhere()
            runs, num_all = joined.runs, joined.num_all
        is_listed = self._num_runs is not None
        self.query_one(RecentRuns).show(
            runs, num_all - len(runs), self.app.environment.now(), empty, is_listed=is_listed
        )

    def action_attach(self) -> None:
        """Open the newest run that is alive."""
        from tui.text import run_text

        live = next((run for run in self.everywhere().runs if run_text.is_live(run.status)), None)
        if live is None:
            self.notify("No run is alive. Press Enter to start the highlighted preset.")
            return
        self.app.open_run(live.id)

    def action_runs(self) -> None:
        """Show all runs."""
        self.app.open_runs()

    def action_queue(self) -> None:
        """Show the queue."""
        self.app.open_queue()

    def action_ablation(self) -> None:
        """Show the ablation's table; a step chosen there that was not run yet can be started here."""
        from tui.screens.ablation import AblationScreen

        def answered(name: str | None) -> None:
            if name is not None:
                self.starts.offer(name)

        self.app.push_screen(AblationScreen(list(self._presets.values())), answered)

    def starts_by_name(self) -> "Iterator[tuple[str, str, Callable[[], object]]]":
        """Yield a title, a sentence about it and the start: of the highlighted preset on each other host, of every one.

        The start asks first what to change.
        """
        name, others = self.query_one(PresetList).chosen(), self.app.others
        if name is not None and others is not None:
            from tui.widgets.other_hosts import gpus_in_short

            for listing in others.listings():
                if listing.line.is_up:
                    about = gpus_in_short(listing.readings).plain if listing.readings is not None else ""
                    yield f"Start {name} on {listing.name}", about, partial(self._start_elsewhere, listing.name, name)
        for each in self._presets.values():
            if each.preset is not None:
                yield f"Start {each.name}", each.preset.title, partial(self._start_from_anywhere, each.name)

    def _start_from_anywhere(self, name: str) -> None:
        """Come back to Home, and ask what to change of a preset."""
        while self.app.screen is not self:
            self.app.pop_screen()
        self.starts.offer(name)

    def _start_elsewhere(self, host: str, name: str) -> None:
        from tui.screens.starting import offer_elsewhere

        if self.starts.is_usable(name):
            offer_elsewhere(self.app, host, name)

    def action_swap(self) -> None:
        """Move between presets and runs."""
        presets, listing = self.query_one(PresetList), self.query_one(RunList)
        if presets.has_focus and self.everywhere().runs:
            listing.focus()
        else:
            presets.focus()

    # --- the machine and its queue ---------------------------------------------------------------

    @work(thread=True)
    def _watch_machine(self) -> None:
        def found(readings: GpuReadings, queued: Queued) -> None:
            self._readings, self._queued = readings, queued
            self._post(MachineRead())

        watch_machine(
            self.app.environment, self.app.runs_dir, found, self._read_again, self._stop, every_s=_READ_EVERY_S
        )

    def on_machine_read(self) -> None:
        """Show the reading."""
        self._show_machine()
        self._show_runs()
        self._describe_again()

    def _show_machine(self) -> None:
        environment = self.app.environment
        # Until runs are listed one GPU is assumed, of which nothing is said.
        seen = 1 if self._num_runs is None else environment.torch_gpus(self.runs, environment.host)
        self.query_one(GpuPane).show(self._readings, seen)
        self.query_one(QueueRow).show(self._queued)

    # --- starting --------------------------------------------------------------------------------

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Start the preset, queue the marked ones, or open the run under the cursor."""
        if event.option.id is None:
            return
        if event.option_list.id == "runs":
            self.app.open_run(event.option.id)
            return
        marked = self.query_one(PresetList).marked
        if marked:
            self.starts.offer_queue(marked)
        else:
            self.starts.offer(event.option.id)

    @cached_property
    def starts(self) -> "PresetStarts":
        """Starts of the presets, made with the first one: its module is not needed before."""
        from tui.screens.starting import PresetStarts

        return PresetStarts(self, self._presets, self._show_queued)

    def action_open(self) -> None:
        """Start the highlighted preset (from the palette, or where no list has the focus)."""
        self._offer(self.starts.offer)

    def _offer(self, offer: Callable[[str], object]) -> None:
        name = self.query_one(PresetList).chosen()
        if name is not None:
            offer(name)

    def action_demo(self) -> None:
        """Start demo as it is."""
        self.starts.start_demo()

    def action_find_lr(self) -> None:
        """Start the range test of the highlighted preset; asks first what to change."""
        self._offer(self.starts.offer_range_test)

    def action_preview(self) -> None:
        """Show training images of the highlighted preset, as a run with seed 0 would be given them."""
        self._offer(self.starts.preview)

    def action_open_folder(self) -> None:
        """Ask for a folder of images, say what is in it, and start a preset on it."""
        self.starts.open_folder()

    def readings(self) -> GpuReadings | None:
        """Return the latest reading of the machine."""
        return self._readings

    def _show_queued(self, queued: str) -> None:
        """Take the marks away, and notify the user of the queue, unless this screen is closed."""
        if self not in self.app.screen_stack:
            return
        self._read_again.set()
        self.query_one(PresetList).unmark()
        shown = self.app.key_of("home.queue", "Q")
        self.notify(f"Queued {queued}. {shown} shows whose turn it is.")
