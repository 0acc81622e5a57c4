"""Monitor: one run, live or finished. Shows its state and passes wishes on; reads no journal itself."""

import threading
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Footer, Static

from engine.runs import events as ev
from engine.runs import journal, launch
from engine.runs.commands import Abort, AnyCommand, Continue, NextStage, Pause, SaveCheckpoint, Stop
from engine.runs.folder import RunFolder, RunInfo, Status, status_of
from engine.runs.state import RunState, apply
from presets.errors import CifartuiError
from tui import words
from tui.follow import RunOpened, RunProgressed, RunUnreadable, follow_run
from tui.palette import MUTED, TONES
from tui.screens.panels import ConfirmAbort
from tui.widgets.charts import MemoryChart, MetricChart
from tui.widgets.command_strip import CommandStrip
from tui.widgets.devices import run_memory
from tui.widgets.log_pane import LogPane
from tui.widgets.notice import Notice
from tui.widgets.plot import Plot
from tui.widgets.preparation import Preparation
from tui.widgets.quiet import Quiet
from tui.widgets.run_header import RunHeader, RunView
from tui.widgets.too_small import TooSmall

if TYPE_CHECKING:
    from tui.app import CifartuiApp

_PAINT_EVERY_S = 0.5
_ZOOMS = ("all", "loss", "accuracy", "memory")
_LOG_AT_OPENING = 300


class Monitor(Screen[None]):
    """Header, plots, memory, log, and a row that answers every key."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop('batch')", "stop", id="monitor.stop"),
        Binding("e", "stop('epoch')", "after epoch", id="monitor.stop_after_epoch"),
        Binding("n", "next_stage", "next", id="monitor.next_stage"),
        Binding("p", "pause", "pause", id="monitor.pause"),
        Binding("c", "checkpoint", "save", id="monitor.checkpoint"),
        Binding("X", "abort", "abort", id="monitor.abort"),
        Binding("r", "resume", "resume", id="monitor.resume"),
        Binding("z", "zoom", "zoom", id="monitor.zoom"),
        Binding("i", "images", "images", id="monitor.images"),
        Binding("escape", "back", "Home", show=False, id="monitor.back"),
    ]
    app: "CifartuiApp"

    def __init__(self, run: RunFolder) -> None:
        """Watch `run`."""
        super().__init__()
        self.run_folder = run
        self.info: RunInfo | None = None
        self.state = RunState()
        self._lives: bool | None = None
        self._log_tail: tuple[str, ...] = ()
        self._charts: dict[str, MetricChart | MemoryChart] = {}
        self._wants_pause: bool | None = None
        self._stop = threading.Event()
        self._offered: tuple[bool, bool] | None = None
        self.zoomed = "all"

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        plain = self.app.plain_characters
        yield TooSmall()
        with Vertical(id="body"):
            yield RunHeader(id="header")
            yield Notice(id="notice")
            with Vertical(id="stage"):
                yield Preparation(id="preparation")
                with Horizontal(id="plots"):
                    yield Plot(id="loss", plain=plain)
                    yield Plot(id="accuracy", plain=plain)
            with Horizontal(id="below"):
                with Vertical(id="memory-pane"):
                    yield Quiet(id="memory-row")
                    yield Plot(id="memory", plain=plain)
                yield LogPane()
            yield CommandStrip()
            yield Footer(show_command_palette=False, compact=True)
        yield Static(id="unreadable")

    def on_mount(self) -> None:
        """Follow the run in a thread; paint at most twice a second."""
        self.query_one("#memory-pane").border_title = "memory"
        self.query_one("#notice").display = False
        self.query_one("#unreadable").display = False
        self.query_one("#plots").display = False
        self.query_one(RunHeader).tell(Text("reading the run …", MUTED))
        self._follow()
        self.set_interval(_PAINT_EVERY_S, self._paint)

    def on_unmount(self) -> None:
        """Let the thread end at once."""
        self._stop.set()

    @work(thread=True)
    def _follow(self) -> None:
        follow_run(self.run_folder, self.post_message, self._stop)

    # --- what arrives ----------------------------------------------------------------------------

    def on_run_opened(self, event: RunOpened) -> None:
        """Take the history over."""
        self.info, self.state = event.info, event.state
        self._lives, self._log_tail = event.lives, event.log_tail
        report = event.info.preset.report
        self._charts = {
            "loss": MetricChart("loss", report),
            "accuracy": MetricChart("top1", report),
            "memory": MemoryChart(),
        }
        self.query_one(LogPane).add(self.state.log[-_LOG_AT_OPENING:])
        self._paint()

    def on_run_unreadable(self, event: RunUnreadable) -> None:
        """Say why there is nothing to see."""
        notice = self.query_one("#unreadable", Static)
        notice.update(Text.assemble((event.problem, TONES["bad"]), ("\n\nEsc goes back to Home.", MUTED)))
        notice.display = True
        self.query_one("#body").display = False

    def on_run_progressed(self, event: RunProgressed) -> None:
        """Fold what is new; the plots follow at the next paint, the answer to a key at once."""
        self._lives, self._log_tail = event.lives, event.log_tail
        for fact in event.events:
            apply(self.state, fact)
            if isinstance(fact, ev.CommandApplied):
                self.query_one(CommandStrip).answer(fact, self._now())
            elif isinstance(fact, ev.Paused | ev.Continued | ev.RunFinished):
                self._wants_pause = None
        self.query_one(LogPane).add(event.events)

    # --- painting --------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """The run's status now."""
        return status_of(self.state, self._lives, self._now())

    @property
    def is_live(self) -> bool:
        """Whether the run is known and a worker is there to obey."""
        return self.info is not None and words.is_live(self.status)

    def _now(self) -> float:
        return self.app.surroundings.now()

    def _paint(self) -> None:
        if self.info is None or not self.is_mounted:
            return
        view = RunView(self.run_folder, self.info, self.state, self.status, self._now())
        strip = self.query_one(CommandStrip)
        if not self.is_live:
            strip.give_up("the run ended before it could answer", view.now)
        strip.show(view.now)
        self.query_one(RunHeader).show(view)
        self.query_one(Notice).show(view, self._log_tail, max(2, self.size.height // 6))
        has_curves = bool(self.state.steps or self.state.epochs)
        preparation = self.query_one(Preparation)
        preparation.display = not has_curves
        self.query_one("#plots").display = has_curves
        self.set_class(self.status in {"failed", "lost"}, "-troubled")
        offered = (self.is_live, "best" in self.state.checkpoints)
        if offered != self._offered:  # r, n and i come and go; the footer is built anew for them
            self._offered = offered
            self.refresh_bindings()
        if not has_curves:
            preparation.show(view)
        width = self.query_one("#memory-pane").content_size.width
        self.query_one("#memory-row", Quiet).tell(run_memory(self.state, max(30, width)))
        self.paint_plots()

    def paint_plots(self) -> dict[str, list[int]]:
        """Draw the plots that are in view; return which rows of each changed."""
        changed = {}
        for name, maker in self._charts.items():
            plot = self.query_one(f"#{name}", Plot)
            if plot.size.width and plot.display:
                changed[name] = plot.show(maker.chart(self.state, plot))
        return changed

    def on_resize(self) -> None:
        """Set everything anew once the layout is known."""
        self.call_after_refresh(self._paint)

    def action_zoom(self) -> None:
        """Show all, then one plot after the other."""
        self.remove_class(f"-zoom-{self.zoomed}")
        self.zoomed = _ZOOMS[(_ZOOMS.index(self.zoomed) + 1) % len(_ZOOMS)]
        self.add_class(f"-zoom-{self.zoomed}")
        self.call_after_refresh(self._paint)

    # --- wishes ----------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer resume without a worker, the next stage where there are stages, images once there are best weights."""
        if action == "resume":
            return self.info is not None and not self.is_live
        if action == "next_stage":
            return self.info is not None and len(self.info.preset.stages) > 1 and self.is_live
        return action != "images" or "best" in self.state.checkpoints

    def action_stop(self, after: str) -> None:
        """Ask the run to stop."""
        if after == "epoch":
            self._ask(Stop(after="epoch"), "stop after this epoch")
        else:
            self._ask(Stop(after="batch"), "stop after this batch")

    def action_pause(self) -> None:
        """Ask the run to pause, or to go on."""
        pausing = self.state.phase != "paused" if self._wants_pause is None else not self._wants_pause
        if self._ask(Pause(), "pause") if pausing else self._ask(Continue(), "continue"):
            self._wants_pause = pausing

    def action_next_stage(self) -> None:
        """Ask the run to end this stage."""
        self._ask(NextStage(), "next stage")

    def action_images(self) -> None:
        """Show what the best weights say of the test images."""
        from tui.screens.predictions import PredictionsScreen

        assert self.info is not None, "offered only when the run is known"
        best = self.state.checkpoints["best"]
        self.app.push_screen(PredictionsScreen(self.run_folder, self.info, best.global_step, self.is_live))

    def action_checkpoint(self) -> None:
        """Ask for a checkpoint."""
        self._ask(SaveCheckpoint(), "checkpoint")

    def action_abort(self) -> None:
        """Ask whether to abort, then ask the run."""
        if not self._can_obey("abort"):
            return

        def answered(sure: bool | None) -> None:
            if sure:
                self._ask(Abort(), "abort")

        self.app.push_screen(ConfirmAbort(), answered)

    def action_resume(self) -> None:
        """Start a worker that goes on from the last checkpoint."""
        self.query_one(CommandStrip).say("resume: starting a worker…", "warn", self._now())
        self._resume()

    def action_back(self) -> None:
        """Go back to Home."""
        self.dismiss()

    def _can_obey(self, label: str) -> bool:
        if self.is_live:
            return True
        if self.info is None:
            why = "the run is still being read; try again in a moment."
        elif self.status == "completed":
            why = "this run is completed; Esc goes Home to start another."
        else:
            why = f"this run has no worker ({words.status(self.status, self.state)}); r resumes it."
        self.query_one(CommandStrip).say(f"{label}: {why}", "warn", self._now())
        return False

    def _ask(self, command: AnyCommand, label: str) -> bool:
        if not self._can_obey(label):
            return False
        self.query_one(CommandStrip).ask(command.id, label, self._now())
        self._write(command)
        return True

    @work(thread=True, group="commands")
    def _write(self, command: AnyCommand) -> None:
        try:
            journal.append_command(self.run_folder.commands, command)
        except OSError as error:
            why = f"cannot write to {self.run_folder.commands} ({error.strerror}); is its disk full or gone?"
            self.app.call_from_thread(self.query_one(CommandStrip).fail, command.id, why, self._now())

    @work(thread=True, group="commands")
    def _resume(self) -> None:
        try:
            launch.start_worker(self.run_folder, resume=True)
        except (CifartuiError, OSError) as error:
            self._say(f"resume: {error}", bad=True)
            return
        self._say("resume: a worker was started; PyTorch takes a few seconds to load", bad=False)

    def _say(self, text: str, *, bad: bool) -> None:
        self.app.call_from_thread(self.query_one(CommandStrip).say, text, "bad" if bad else "good", self._now())
