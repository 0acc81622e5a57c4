"""Monitor: one run, live or finished, in the view that the user wants. Reads no journal itself."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from engine.journal import events as ev
from engine.journal.state import RunState, fold
from engine.runs.run_dir import RunDir, Status, status_of
from tui.data.follower import History, RunOpened, RunProgressed, RunUnreadable, follow_run
from tui.data.range_test import NO_WEIGHTS
from tui.screens.steering import OF_WEIGHTS, Steering
from tui.text import run_text
from tui.text.device_text import memory_panel
from tui.theme import MUTED, TONES
from tui.widgets.basic import ChangedStatic, TooSmall
from tui.widgets.key_bar import KeyBar
from tui.widgets.log_pane import LogPane
from tui.widgets.lr_chart import LrChart
from tui.widgets.memory_chart import MemoryChart
from tui.widgets.metric_chart import MetricChart, View, XUnit
from tui.widgets.monitor_panes import Alerts, CommandStrip, OutcomeNotice, Preparation, RunHeader, RunView
from tui.widgets.plot import Plot

_ZOOMS = ("all", "loss", "accuracy", "memory")
_SMOOTHINGS = (0.6, 0.9, 0.0)
_X_UNITS: tuple[XUnit, ...] = ("epochs", "steps", "min")
_OF_A_RUN_AT_REST = {"resume", "resume_changed"}
_TICK_S = 0.5
"""While an answer is awaited, how long it has been is told so often."""
_LOG_AT_OPENING = 100
_LOG_AFTER_S = 0.1
"""The lines of a long history take as long to lay out as its curves, which come first."""
_FEW_ROWS, _MANY_ROWS = 34, 55
"""Heights of the terminal from which there is room for more."""


class Monitor(Steering):
    """Header, plots, memory, log, and a row that answers every key."""

    CSS_PATH = "monitor.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("z", "zoom", "zoom", id="monitor.zoom", tooltip="zoom: loss, accuracy, memory, all"),
        Binding("m", "smoothing", "smoothing", id="monitor.smoothing",
                tooltip="smooth the training curves more, not at all, a little"),
        Binding("y", "log_scale", "log scale", id="monitor.log_scale", tooltip="loss on a logarithmic axis"),
        Binding("x", "x_axis", "axis", id="monitor.x_axis", tooltip="x axis: epochs, steps, minutes"),
        Binding("L", "log", "log", id="monitor.log", tooltip="the log alone, to scroll in"),
        Binding("i", "images", "images", id="monitor.images", tooltip="test images, as the best weights see them"),
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

    def __init__(self, run: RunDir, ahead: Callable[[], History | None] | None = None) -> None:
        """Watch `run`, whose history `ahead` may wait for (`tui.data.follower.read_ahead`)."""
        super().__init__()
        self.run_folder = run
        self._ahead = ahead
        self.info = None
        self.state = RunState()
        self._lives: bool | None = None
        self._heard_at: float | None = None
        self._log_tail: tuple[str, ...] = ()
        self._unlogged: list[ev.AnyEvent] = []
        self._metrics: dict[str, MetricChart | LrChart] = {}
        self._memory = MemoryChart()
        self._stop = threading.Event()
        self._offered: tuple[bool, bool] | None = None
        self.zoomed = "all"
        self.view = View()

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        grain = self.app.plot_style
        yield TooSmall()
        with Vertical(id="body"):
            yield RunHeader(id="header")
            yield OutcomeNotice(id="notice")
            with Vertical(id="stage"):
                yield Preparation(id="preparation")
                with Horizontal(id="plots"):
                    yield Plot(id="loss", grain=grain)
                    yield Plot(id="accuracy", grain=grain)
            yield Alerts(id="alerts")
            with Horizontal(id="below"):
                with Vertical(id="memory-pane"):
                    yield ChangedStatic(id="memory-rows")
                    yield Plot(id="memory", grain=grain)
                yield LogPane()
            yield CommandStrip()
            yield KeyBar()
        yield Static(id="unreadable")

    def on_mount(self) -> None:
        """Follow the run in a thread; paint now and then."""
        self.query_one("#memory-pane").border_title = "memory"
        for name in ("#notice", "#alerts", "#unreadable", "#plots"):
            self.query_one(name).display = False
        self.query_one(RunHeader).tell(Text("reading the run …", MUTED))
        self._follow()
        self.set_interval(self.app.paint_every_s, self._paint)
        self.set_interval(self.app.plots_every_s, self.paint_plots)
        self.set_interval(_TICK_S, self._tick)

    def on_unmount(self) -> None:
        """Let the thread end at once."""
        self._stop.set()

    @work(thread=True)
    def _follow(self) -> None:
        follow_run(self.run_folder, self.post_message, self._stop, self._ahead)

    # --- what arrives ----------------------------------------------------------------------------

    def on_run_opened(self, event: RunOpened) -> None:
        """Take the history over."""
        self.info, self.state = event.info, event.state
        self._lives, self._log_tail = event.lives, event.log_tail
        preset = event.info.preset
        self.set_class(self.is_range_test, "-range-test")
        if self.is_range_test:
            self._metrics = {"loss": LrChart(preset)}
        else:
            self._metrics = {"loss": MetricChart("loss", preset.report), "accuracy": MetricChart("top1", preset.report)}
        self.query_one(CommandStrip).show(self.now())
        self._unlogged = self.state.log[-_LOG_AT_OPENING:]
        self.set_timer(_LOG_AFTER_S, self._log_news)
        self._paint()

    def on_run_unreadable(self, event: RunUnreadable) -> None:
        """Say why there is nothing to see."""
        self._lives = False
        notice = self.query_one("#unreadable", Static)
        notice.update(Text.assemble((event.problem, TONES["bad"]), ("\n\nEsc goes back to Home.", MUTED)))
        notice.display = True
        self.query_one("#body").display = False

    def on_run_progressed(self, event: RunProgressed) -> None:
        """Fold what is new; the plots follow at the next paint, the answer to a key at once."""
        was_live = self.is_live
        if event.events or event.lives != self._lives:
            self._heard_at = self.app.environment.steady()
        self._lives, self._log_tail = event.lives, event.log_tail
        self.info = event.info or self.info
        fold(event.events, self.state)
        if was_live and not self.is_live and self.info is not None:
            detail = run_text.result(self.state)
            self.app.run_ended(self.info.preset.title, self.status, detail, self.info.id)
        for fact in event.events:
            if isinstance(fact, ev.CommandApplied):
                self.query_one(CommandStrip).answer(fact, self.now())
            elif isinstance(fact, ev.Paused | ev.Continued | ev.RunFinished):
                self._wants_pause = None
        self._unlogged += event.events
        self._log_news()

    # --- painting --------------------------------------------------------------------------------

    @property
    def status(self) -> Status:  # type: ignore[override]
        """The run's status now."""
        heard_s = None if self._heard_at is None else self.app.environment.steady() - self._heard_at
        return status_of(self.state, self._lives, self.now(), heard_s)

    @property
    def is_live(self) -> bool:  # type: ignore[override]
        """Whether the run is known and a worker is there to obey."""
        return self.info is not None and run_text.is_live(self.status)

    @property
    def idle_actions(self) -> frozenset[str]:
        """What would come to nothing now: not offered, and answered with the reason."""
        idle = set() if "best" in self.state.checkpoints else {"images"}
        if not self.has_stages:
            idle.add("next_stage")
        if self.is_range_test:
            idle |= _OF_A_RUN_AT_REST | OF_WEIGHTS | {"smoothing", "x_axis"}
        if self.is_live:
            return frozenset(idle | _OF_A_RUN_AT_REST)
        asking = {each.action for each in Binding.make_bindings(Steering.BINDINGS)}
        return frozenset(idle | asking - _OF_A_RUN_AT_REST)

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
        if not self.is_live:
            self.query_one(CommandStrip).give_up("the run ended before it could answer", view.now)
        self.query_one(RunHeader).show(view)
        resume_key = "" if self.is_range_test else self.app.key_of("monitor.resume", "r")
        self.query_one(OutcomeNotice).show(view, self._log_tail, max(2, self.size.height // 6), resume_key)
        rows = 1 if self.size.height < _FEW_ROWS else 3
        self.query_one(Alerts).show(self.state, view.now, rows if self.is_live else 0)
        has_curves = bool(self.state.steps or self.state.epochs)
        preparation, plots = self.query_one(Preparation), self.query_one("#plots")
        if has_curves != plots.display:
            preparation.display, plots.display = not has_curves, has_curves
        self.set_class(self.status in {"failed", "lost"}, "-troubled")
        if not has_curves:
            preparation.show(view)
        offered = (self.is_live, "best" in self.state.checkpoints)
        if offered != self._offered:  # r, n and i come and go; the row of keys is built anew for them
            self._offered = offered
            self.refresh_bindings()
        self._paint_memory()

    def _paint_memory(self) -> None:
        pane = self.query_one("#memory-pane")
        if not pane.display or not pane.size.width:
            return
        is_short = self.size.height < _FEW_ROWS and self.zoomed != "memory"
        max_rows = 1 if is_short else 4 if self.size.height < _MANY_ROWS else 10
        self.query_one("#memory-rows", ChangedStatic).tell(
            memory_panel(self.state, max(30, pane.content_size.width), max_rows)
        )

    def paint_plots(self) -> dict[str, list[int]]:
        """Draw the plots that are in view; return which rows of each changed."""
        changed = {}
        for name, metric in self._metrics.items():
            plot = self.query_one(f"#{name}", Plot)
            if plot.size.width and plot.display:
                cursor = self.view.cursor if self.zoomed == name else None
                view = replace(self.view, cursor=cursor, is_large=self.zoomed == name)
                changed[name] = plot.show(metric.chart(self.state, plot, view))
        plot = self.query_one("#memory", Plot)
        if plot.size.width and plot.display:
            changed["memory"] = plot.show(self._memory.chart(self.state, plot))
        return changed

    def on_resize(self) -> None:
        """Set everything anew once the layout is known."""
        self.call_after_refresh(self._paint_anew)

    def on_plot_sized(self) -> None:
        """Draw what has come into view, or has another size."""
        self.call_next(self.paint_plots)

    def _paint_anew(self) -> None:
        self._paint()
        self.paint_plots()

    # --- the view --------------------------------------------------------------------------------

    def action_zoom(self) -> None:
        """Show all, then one plot after the other."""
        zooms = [name for name in _ZOOMS if name in {"all", "memory"} or name in self._metrics]
        self._zoom_to(zooms[(zooms.index(self.zoomed) + 1) % len(zooms)] if self.zoomed in zooms else "all")
        on = self.app.key_of("monitor.zoom", "z")
        self._say(
            f"← → read values off the curve; {on} goes on to the next plot" if self.zoomed in self._metrics else ""
        )

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
        self.view = replace(self.view, cursor=None)
        self.add_class(f"-zoom-{name}")
        self.call_after_refresh(self._paint_anew)

    def action_smoothing(self) -> None:
        """Smooth the training curves more, not at all, a little."""
        if self.is_range_test:
            self._say("smoothing: that of a range test stays as it is")
            return
        smoothing = _SMOOTHINGS[(_SMOOTHINGS.index(self.view.smoothing) + 1) % len(_SMOOTHINGS)]
        self._see(replace(self.view, smoothing=smoothing), f"smoothing {smoothing:g}" if smoothing else "no smoothing")

    def action_log_scale(self) -> None:
        """Draw the loss on a logarithmic axis, or on a linear one again."""
        is_log = not self.view.is_log
        self._see(replace(self.view, is_log=is_log), f"loss on a {'logarithmic' if is_log else 'linear'} axis")

    def action_x_axis(self) -> None:
        """Let the x axis count epochs, steps or minutes."""
        if self.is_range_test:
            self._say("x axis: of a range test it is the learning rate")
            return
        unit = _X_UNITS[(_X_UNITS.index(self.view.x) + 1) % len(_X_UNITS)]
        self._see(replace(self.view, x=unit), f"x axis: {'minutes since the start' if unit == 'min' else unit}")

    def action_read(self, columns: int) -> None:
        """Move the place where values are read, in a zoomed plot."""
        if self.zoomed not in self._metrics:
            return
        plot = self.query_one(f"#{self.zoomed}", Plot)
        at = plot.last_place if self.view.cursor is None else self.view.cursor + columns / max(1, plot.size.width)
        self.view = replace(self.view, cursor=min(1.0, max(0.0, at)))
        self.paint_plots()

    def _see(self, view: View, said: str) -> None:
        self.view = view
        self._say(said)
        self.paint_plots()

    def _say(self, text: str) -> None:
        self.query_one(CommandStrip).say(text, "calm", self.now())

    def action_images(self) -> None:
        """Show what the best weights say of the test images."""
        from tui.screens.predictions import PredictionsScreen

        if self.is_range_test:
            self._say(f"images: {NO_WEIGHTS}")
            return
        best = self.state.checkpoints.get("best")
        if best is None or self.info is None:
            self._say("images: there are no best weights yet; an epoch has to be validated first")
            return
        self.app.push_screen(PredictionsScreen(self.run_folder, self.info, best.global_step, self.is_live))

    def action_back(self) -> None:
        """Leave off reading values, the zoom or the log; else go back to Home."""
        if self.view.cursor is not None:
            self._see(replace(self.view, cursor=None), "")
        elif self.zoomed == "log":
            self.action_log()
        elif self.zoomed != "all":
            self._zoom_to("all")
            self._say("")
        else:
            self.dismiss()
