"""Monitor screen: curves, memory, log and commands of one run, live or finished. A thread reads the journal."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Static

from engine.journal import events as ev
from engine.journal import jsonl
from engine.journal.commands import (
    Abort,
    AnyCommand,
    Continue,
    NextStage,
    Pause,
    SaveCheckpoint,
    ScaleLearningRate,
    Stop,
    Validate,
)
from engine.journal.state import RunState, fold
from engine.runs.newer_info import not_understood
from engine.runs.run_dir import RunDir, RunInfo, Status, status_of
from tui.data.follower import History, RunOpened, RunProgressed, RunUnreadable, follow_run
from tui.data.range_test import NO_WEIGHTS, is_range_test
from tui.data.reference import report_of
from tui.screens.run_keys import RUN_KEYS, again_key, has_stages, idle_actions, next_ways, why_not_resumed, why_not_sent
from tui.text import run_text
from tui.text.run_name import name_of, title_of
from tui.theme import MUTED, TONES, Tone
from tui.widgets.basic import TooSmall
from tui.widgets.key_bar import KeyBar
from tui.widgets.log_pane import LogPane
from tui.widgets.monitor_panes import Alerts, CommandStrip, OutcomeNotice, Preparation, RunHeader, RunView
from tui.widgets.monitor_plots import FEW_ROWS, Curves, MemoryPane

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel

    from tui.app import CifartuiApp
    from tui.hosts.remote_run import LineChanged, RemoteRun

_ZOOMS = ("all", "loss", "accuracy", "lr", "norm", "memory")
_TICK_S = 0.5
"""Interval of the clock beside a command without an answer."""
_LOG_AT_OPENING = 100
_LOG_AFTER_S = 0.1
"""Delay of the log: the lines of a long history take as long to lay out as its curves, which are first."""


class Monitor(Screen[None]):
    """Header, plots, memory, log, and a row with the answer to every command."""

    CSS_PATH = "monitor.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *RUN_KEYS,
        Binding("z", "zoom", "zoom", id="monitor.zoom",
                tooltip="zoom: loss, accuracy, learning rate, gradient norm, memory, all"),
        Binding("m", "smoothing", "smoothing", id="monitor.smoothing",
                tooltip="smooth the training curves more, not at all, a little"),
        Binding("y", "log_scale", "log scale", id="monitor.log_scale",
                tooltip="loss and gradient norm on a logarithmic axis"),
        Binding("x", "x_axis", "axis", id="monitor.x_axis", tooltip="x axis: epochs, steps, minutes"),
        Binding("L", "log", "log", id="monitor.log", tooltip="the log alone, to scroll in"),
        Binding("i", "images", "images", id="monitor.images", tooltip="test images, as the best weights see them"),
        Binding("I", "preview", "preview", show=False, id="monitor.preview",
                tooltip="training images of this run, as its network is given them"),
        Binding("left", "read(-1)", "read values", show=False, id="monitor.read_left",
                tooltip="in a zoomed plot: read values, a column at a time"),
        Binding("right", "read(1)", "read values", show=False, id="monitor.read_right",
                tooltip="in a zoomed plot: read values, a column at a time"),
        Binding("shift+left", "read(-10)", "read values", show=False, id="monitor.read_far_left",
                tooltip="ten columns at a time"),
        Binding("shift+right", "read(10)", "read values", show=False, id="monitor.read_far_right",
                tooltip="ten columns at a time"),
        Binding("escape", "back", "Home", show=False, id="monitor.back", tooltip="back"),
    ]  # fmt: skip
    app: "CifartuiApp"

    def __init__(
        self,
        run: RunDir,
        ahead: Callable[[], History | None] | None = None,
        elsewhere: "RemoteRun | None" = None,
    ) -> None:
        """Watch a run.

        Args:
            run: one of this machine, or the name of one elsewhere.
            ahead: waits for its history (`tui.data.follower.read_ahead`).
            elsewhere: the run, if it is one of another host.
        """
        super().__init__()
        self.run_folder = run
        self.elsewhere = elsewhere
        self._line_problem = ""
        self._ahead = ahead
        self.info: RunInfo | None = None
        self.state = RunState()
        self._wants_pause: bool | None = None
        self._lives: bool | None = None
        self._observed_at: float | None = None
        self._log_tail: tuple[str, ...] = ()
        self._unlogged: list[ev.AnyEvent] = []
        self._stop = threading.Event()
        self._offered: tuple[bool, ...] | None = None
        self.zoomed = "all"

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        grain = self.app.plot_style
        yield TooSmall()
        with Vertical(id="body"):
            yield RunHeader(id="header")
            yield OutcomeNotice(id="notice")
            with Vertical(id="stage"):
                yield Preparation(id="preparation")
                yield Curves(grain)
            yield Alerts(id="alerts")
            with Horizontal(id="below"):
                yield MemoryPane(grain)
                yield LogPane()
            yield CommandStrip()
            yield KeyBar()
        yield Static(id="unreadable")

    def on_mount(self) -> None:
        """Follow the run in a thread; paint at intervals."""
        for name in ("#notice", "#alerts", "#unreadable", "#plots"):
            self.query_one(name).display = False
        self.query_one(RunHeader).set_text(Text("reading the run …", MUTED))
        self._follow()
        self.set_interval(self.app.paint_every_s, self._paint)
        self.set_interval(self.app.plots_every_s, self.paint_plots)
        self.set_interval(_TICK_S, self._tick)

    def on_unmount(self) -> None:
        """Let the thread end at once."""
        self._stop.set()

    @work(thread=True)
    def _follow(self) -> None:
        if self.elsewhere is not None:
            self.elsewhere.follow(self.post_message, self._stop)
        else:
            follow_run(self.run_folder, self.post_message, self._stop, self._ahead)

    # --- what arrives ----------------------------------------------------------------------------

    def on_run_opened(self, event: RunOpened) -> None:
        """Take over the folded history; again, after the line to another host was away for long."""
        last_seq = self.state.log[-1].seq if self.state.log else 0
        self.info, self.state = event.info, event.state
        if self.elsewhere is not None:
            self.run_folder = self.elsewhere.folder
            self._observed_at = self.app.environment.steady()  # its clock may differ from ours
        self._lives, self._log_tail = event.lives, event.log_tail
        self.set_class(self.is_range_test, "-range-test")
        self.query_one(Curves).open(event.info.preset, report_of(event.info))
        self.query_one(CommandStrip).show(self.now())
        self._unlogged = [fact for fact in self.state.log[-_LOG_AT_OPENING:] if fact.seq > last_seq]
        for told in self.state.commands.values():
            self.query_one(CommandStrip).answer(told, self.now())
        self.set_timer(_LOG_AFTER_S, self._log_news)
        self._paint()

    def on_run_unreadable(self, event: RunUnreadable) -> None:
        """Show the reason in place of the run."""
        self._lives = False
        notice = self.query_one("#unreadable", Static)
        notice.update(Text.assemble((event.problem, TONES["bad"]), ("\n\nEsc goes back to Home.", MUTED)))
        notice.display = True
        self.query_one("#body").display = False

    def on_line_changed(self, event: "LineChanged") -> None:
        """Say that the line to the run's host dropped, or that it is back."""
        self._line_problem = event.problem
        self._observed_at = self.app.environment.steady()
        if event.problem:
            self._say(f"{event.problem} The run goes on; the line is tried again.", "warn")
        else:
            self._say("the line is back", "good")

    def on_run_progressed(self, event: RunProgressed) -> None:
        """Fold the new events; the plots follow at the next paint, the answer to a command at once."""
        was_live = self.is_live
        if event.events or event.lives != self._lives:
            self._observed_at = self.app.environment.steady()
        self._lives, self._log_tail = event.lives, event.log_tail
        self.info = event.info or self.info
        fold(event.events, self.state)
        if was_live and not self.is_live and self.info is not None:
            detail = run_text.result(self.state)
            self.app.run_ended(title_of(self.info), self.status, detail, self.shown_run)
        for fact in event.events:
            if isinstance(fact, ev.CommandApplied):
                self.query_one(CommandStrip).answer(fact, self.now())
            elif isinstance(fact, ev.Paused | ev.Continued | ev.RunFinished):
                self._wants_pause = None
        self._unlogged += event.events
        self._log_news()

    # --- painting --------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """The run's status now."""
        quiet_s = None if self._observed_at is None else self.app.environment.steady() - self._observed_at
        if self._line_problem:  # of its silence nothing follows
            quiet_s = 0.0
        return status_of(self.state, self._lives, self.now(), quiet_s)

    @property
    def is_live(self) -> bool:
        """True if the run is read and has a live worker."""
        return self.info is not None and run_text.is_live(self.status)

    @property
    def idle_actions(self) -> frozenset[str]:
        """Actions without effect now: not offered, and answered with the reason."""
        return idle_actions(self.info, self.state, is_live=self.is_live)

    @property
    def shown_run(self) -> str:
        """The run's name in lists: its id, with the host before it if that is another one."""
        return self.elsewhere.name if self.elsewhere is not None else self.run_folder.id

    @property
    def is_range_test(self) -> bool:
        """True if the run is a range test."""
        return self.info is not None and is_range_test(self.info.preset)

    def now(self) -> float:
        """Return Unix seconds."""
        return self.app.environment.now()

    def _log_news(self) -> None:
        unlogged, self._unlogged = self._unlogged, []
        self.query_one(LogPane).add(unlogged)

    def _tick(self) -> None:
        strip = self.query_one(CommandStrip)
        if strip.pending:
            strip.show(self.now())

    def _paint(self) -> None:
        if self.info is None or not self.is_mounted:
            return
        view = RunView(self.run_folder, self.info, self.state, self.status, self.now())
        strip = self.query_one(CommandStrip)
        if not self.is_live:
            strip.give_up("the run ended before it could answer", view.now)
        ways = next_ways(self.info, self.state, self.status, self.app.key_of, is_here=self.elsewhere is None)
        strip.offer(ways, view.now)
        self.query_one(RunHeader).show(view)
        resume_key = "" if self.is_range_test else self.app.key_of("monitor.resume", "r")
        num_lines = max(2, self.size.height // 6)
        self.query_one(OutcomeNotice).show(
            view,
            self._log_tail,
            num_lines,
            resume_key=resume_key,
            again_key=again_key(self.app.key_of),
            images_key=self.app.key_of("monitor.images", "i"),
        )
        rows = 1 if self.size.height < FEW_ROWS else 3
        self.query_one(Alerts).show(self.state, view.now, rows if self.is_live else 0)
        has_curves = bool(self.state.steps or self.state.epochs)
        preparation, plots = self.query_one(Preparation), self.query_one("#plots")
        if has_curves != plots.display:
            preparation.display, plots.display = not has_curves, has_curves
        self.set_class(self.status in {"failed", "lost"}, "-troubled")
        if not has_curves:
            preparation.show(view)
        offered = (self.is_live, "best" in self.state.checkpoints, bool(self.state.checkpoints))
        if offered != self._offered:  # r, n and i come and go; the row of keys is built anew for them
            self._offered = offered
            self.refresh_bindings()
        self.query_one(MemoryPane).show_rows(self.state, is_zoomed=self.zoomed == "memory")

    def paint_plots(self) -> dict[str, list[int]]:
        """Draw the plots that are in view; return which rows of each changed."""
        changed = self.query_one(Curves).show(self.state, self.zoomed, is_over=not self.is_live)
        return {**changed, **self.query_one(MemoryPane).show_plot(self.state)}

    def on_resize(self) -> None:
        """Paint everything anew after the layout."""
        self.call_after_refresh(self._paint_anew)

    def on_plot_sized(self) -> None:
        """Draw the plots that are new in view or have another size."""
        self.call_next(self.paint_plots)

    def _paint_anew(self) -> None:
        self._paint()
        self.paint_plots()

    # --- the view --------------------------------------------------------------------------------

    def action_zoom(self) -> None:
        """Show all, then one plot after the other."""
        curves = self.query_one(Curves).names
        zooms = [name for name in _ZOOMS if name in {"all", "memory"} or name in curves]
        self._zoom_to(zooms[(zooms.index(self.zoomed) + 1) % len(zooms)] if self.zoomed in zooms else "all")
        on = self.app.key_of("monitor.zoom", "z")
        self._say(f"← → read values off the curve; {on} goes on to the next plot" if self.zoomed in curves else "")

    def action_log(self) -> None:
        """Show nothing but the log, or all again."""
        self._zoom_to("all" if self.zoomed == "log" else "log")
        log = self.query_one(LogPane)
        log.can_focus = self.zoomed == "log"
        if log.can_focus:
            log.focus()
            self._say(f"the log: ↑ ↓ scroll, {self.app.key_of('monitor.log', 'L')} or Esc goes back")

    def _zoom_to(self, name: str) -> None:
        self.remove_class(f"-zoom-{self.zoomed}")
        self.zoomed = name
        self.query_one(Curves).drop_cursor()
        self.add_class(f"-zoom-{name}")
        self.call_after_refresh(self._paint_anew)

    def action_smoothing(self) -> None:
        """Smooth the training curves more, not at all, a little."""
        self._change_view(self.query_one(Curves).smooth)

    def action_log_scale(self) -> None:
        """Draw loss and gradient norm on a logarithmic axis, or on a linear one again."""
        self._change_view(self.query_one(Curves).toggle_log)

    def action_x_axis(self) -> None:
        """Let the x axis count epochs, steps or minutes."""
        self._change_view(self.query_one(Curves).change_x)

    def _change_view(self, change: Callable[[], str]) -> None:
        self._say(change())
        self.paint_plots()

    def action_read(self, columns: int) -> None:
        """Move the place where values are read, in a zoomed plot."""
        curves = self.query_one(Curves)
        if self.zoomed in curves.names:
            curves.move_cursor(self.zoomed, columns)
            self.paint_plots()

    def _say(self, text: str, tone: Tone = "calm") -> None:
        self.query_one(CommandStrip).say(text, tone, self.now())

    def action_preview(self) -> None:
        """Show the training images of this run's first epochs, as its network is given them."""
        if self.info is None or self._is_elsewhere("preview"):
            return
        from engine.runs.preview import Question
        from tui.screens.preview import PreviewScreen

        info = self.info
        if unknown := not_understood(info):
            self._say(f"not previewed:{run_text.newer(list(unknown))}")
            return
        device = self.state.started.device if self.state.started is not None else info.device
        question = Question(
            preset=info.preset, seed=info.seed, device=device, data_dir=self.app.data_dir or info.data_dir
        )
        self.app.push_screen(PreviewScreen(title_of(info), question))

    def action_images(self) -> None:
        """Open the test images, or those of validation if there is no test part, as the best weights see them."""
        from tui.screens.predictions import PredictionsScreen

        if self.is_range_test:
            self._say(f"images: {NO_WEIGHTS}")
            return
        if self._is_elsewhere("images"):
            return
        best = self.state.checkpoints.get("best")
        if best is None or self.info is None:
            self._say("images: there are no best weights yet; an epoch has to be validated first")
            return
        has_test = not run_text.has_no_test(self.state.data)
        self.app.push_screen(PredictionsScreen(self.run_folder, self.info, best.global_step, self.is_live, has_test))

    def action_back(self) -> None:
        """Leave off reading values, the zoom or the log; else go back to Home."""
        curves = self.query_one(Curves)
        if curves.view.cursor is not None:
            curves.drop_cursor()
            self._say("")
            self.paint_plots()
        elif self.zoomed == "log":
            self.action_log()
        elif self.zoomed != "all":
            self._zoom_to("all")
            self._say("")
        else:
            self.dismiss()

    # --- commands to the run ---------------------------------------------------------------------

    def action_stop(self, after: str) -> None:
        """Send a stop, after this batch or epoch."""
        if after == "epoch":
            self._send(Stop(after="epoch"), "stop after this epoch")
        else:
            self._send(Stop(after="batch"), "stop after this batch")

    def action_pause(self) -> None:
        """Send a pause, or a continue if the run is paused."""
        pausing = self.state.phase != "paused" if self._wants_pause is None else not self._wants_pause
        if self._send(Pause(), "pause") if pausing else self._send(Continue(), "continue"):
            self._wants_pause = pausing

    def action_next_stage(self) -> None:
        """Send the command to end this stage."""
        if self.info is not None and not has_stages(self.info):
            self._say("next: this run has one stage; s stops it", "warn")
            return
        self._send(NextStage(), "next stage")

    def action_checkpoint(self) -> None:
        """Send the command to write a checkpoint."""
        self._send(SaveCheckpoint(), "checkpoint")

    def action_validate(self) -> None:
        """Send the command to validate."""
        self._send(Validate(), "validate")

    def action_scale_lr(self, factor: float) -> None:
        """Send a factor for the learning rate."""
        self._send(ScaleLearningRate(factor=factor), f"lr ×{factor:g}")

    def action_abort(self) -> None:
        """Send an abort, if the user confirms it."""
        from tui.screens.dialogs import ConfirmAbort

        def answered(sure: bool | None) -> None:
            if sure:
                self._send(Abort(), "abort")

        if self._can_send("abort"):
            self.app.push_screen(ConfirmAbort(), answered)

    def action_resume(self) -> None:
        """Resume from the last checkpoint; ask for changes first if the run would end or fail again without."""
        if self.status == "completed" or run_text.remedy(self.state):
            self.action_resume_changed()
        elif self._can_resume():
            self._resume([])

    def action_resume_changed(self) -> None:
        """Ask for changes, then resume from the last checkpoint."""
        from tui.screens.dialogs import ResumePanel

        def answered(changes: list[str] | None) -> None:
            if changes is not None:
                self._resume(changes)

        if self.info is not None and self._can_resume():
            self.app.push_screen(ResumePanel(self.info, self.state), answered)

    def _can_resume(self) -> bool:
        """Return whether the run can be resumed; show the reason if not."""
        why = why_not_resumed(self.info, self.state, self.app.key_of, is_live=self.is_live)
        if why:
            self._say(f"resume: {why}", "warn")
        return not why

    def action_start_again(self) -> None:
        """Ask as before a start, with the settings of this run filled in, and start a run of its own."""
        from tui.screens import starting

        if self._is_elsewhere("start again"):
            return
        if self.info is None or self.is_live:
            why = "the run is still being read" if self.info is None else "this run has its worker still"
            self._say(f"start again: {why}", "warn")
            return
        starting.start_again(self.app, self.info, run_text.remedy(self.state), self._say)

    def _is_elsewhere(self, label: str) -> bool:
        """Return whether the run is on another host, and then say that this is done there."""
        if self.elsewhere is not None:
            self._say(f"{label}: the run is on {self.elsewhere.host}; open it there for that.", "warn")
        return self.elsewhere is not None

    def _can_send(self, label: str) -> bool:
        if self.is_live:
            return True
        why = why_not_sent(self.info, self.state, self.status, self.app.key_of)
        self._say(f"{label}: {why}", "warn")
        return False

    def _send(self, command: AnyCommand, label: str) -> bool:
        if not self._can_send(label):
            return False
        self.query_one(CommandStrip).add(command.id, label, self.now())
        self._write(command)
        return True

    def _run_name(self) -> str:
        return name_of(self.info) if self.info is not None else self.run_folder.id

    def _write(self, command: AnyCommand) -> None:
        run = self.run_folder

        def failed(why: str) -> None:
            if self in self.app.screen_stack:
                self.query_one(CommandStrip).fail(command.id, why, self.now())
            else:
                self.app.notify(why, title=self._run_name(), severity="error")

        if self.elsewhere is None:
            self.app.run_in_background(lambda: jsonl.append_command(run.commands, command), lambda _: None, failed)
            return
        later = self.app.call_later  # nobody waits: at the end the dashboard waits for the line's thread
        self.elsewhere.send(command, lambda why: later(failed, why), lambda text: later(self._say_if_here, text))

    def _say_if_here(self, text: str) -> None:
        if self in self.app.screen_stack:
            self._say(text, "warn")

    def _resume(self, changes: list[str]) -> None:
        from tui.screens import starting

        def say(text: str, tone: Tone) -> None:
            if self in self.app.screen_stack:
                self._say(text, tone)
            else:
                severity: SeverityLevel = "error" if tone == "bad" else "information"
                self.app.notify(text, title=self._run_name(), severity=severity)

        self._say("resume: starting a worker…", "warn")
        if self.elsewhere is None:
            starting.resume(self.app, self.run_folder, changes, say)
            return
        elsewhere = self.elsewhere
        self.app.run_in_background(
            lambda: elsewhere.resume(changes),
            lambda _: say(f"resume: {run_text.STARTED}", "good"),
            lambda why: say(f"resume: {why}", "bad"),
        )
