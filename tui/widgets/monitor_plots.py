"""Plots of the Monitor: the curves in the view that the user chose, and the pane of memory."""

from dataclasses import replace

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from engine.journal.state import RunState
from presets.schema import Preset, Report
from tui.data.range_test import is_range_test
from tui.display import PlotStyle
from tui.plots.lr_range import LrChart
from tui.plots.memory import MemoryChart
from tui.plots.metrics import MetricChart, View, XUnit
from tui.plots.step_chart import StepChart
from tui.text.device_text import memory_panel
from tui.widgets.basic import ChangedStatic
from tui.widgets.plot import Plot

_SMOOTHINGS = (0.6, 0.9, 0.0)
_X_UNITS: tuple[XUnit, ...] = ("epochs", "steps", "min")
FEW_ROWS, _MANY_ROWS = 34, 55
"""Heights of the terminal from which more rows are shown."""


class Curves(Horizontal):
    """Loss and accuracy of a run, or the loss of a range test; zoomed, also learning rate and gradient norm.

    The methods that change the view say what they did.
    """

    def __init__(self, grain: PlotStyle) -> None:
        """Make empty plots, drawn as fine as `grain` says the terminal can."""
        super().__init__(id="plots")
        self._grain: PlotStyle = grain
        self._charts: dict[str, MetricChart | LrChart | StepChart] = {}
        self._is_range_test = False
        self.view = View()

    def compose(self) -> ComposeResult:
        """Lay the plots out beside each other; the last two are seen alone."""
        yield Plot(id="loss", grain=self._grain)
        yield Plot(id="accuracy", grain=self._grain)
        yield Plot(id="lr", grain=self._grain)
        yield Plot(id="norm", grain=self._grain)

    def open(self, preset: Preset, report: Report) -> None:
        """Make the charts of a run of `preset`, with the published results that it is compared with."""
        self._is_range_test = is_range_test(preset)
        if self._is_range_test:
            self._charts = {"loss": LrChart(preset)}
        else:
            self._charts = {
                "loss": MetricChart("loss", report),
                "accuracy": MetricChart("top1", report),
                "lr": StepChart("lr"),
                "norm": StepChart("grad_norm", preset.train.clip_norm),
            }

    @property
    def names(self) -> tuple[str, ...]:
        """Ids of the plots that the run has."""
        return tuple(self._charts)

    def show(self, state: RunState, zoomed: str, *, is_over: bool) -> dict[str, list[int]]:
        """Draw the plots that are in view; return which rows of each changed.

        Args:
            state: of the run.
            zoomed: id of the plot that has the screen for itself and in which values are read, if one has.
            is_over: nothing trains the run now.
        """
        changed = {}
        for name, metric in self._charts.items():
            plot = self.query_one(f"#{name}", Plot)
            if plot.size.width and plot.display:
                cursor = self.view.cursor if zoomed == name else None
                view = replace(self.view, cursor=cursor, is_large=zoomed == name, is_over=is_over)
                changed[name] = plot.show(metric.chart(state, plot.resolution, view))
        return changed

    def smooth(self) -> str:
        """Smooth the training curves more, not at all, a little."""
        if self._is_range_test:
            return "smoothing: that of a range test stays as it is"
        smoothing = _SMOOTHINGS[(_SMOOTHINGS.index(self.view.smoothing) + 1) % len(_SMOOTHINGS)]
        self.view = replace(self.view, smoothing=smoothing)
        return f"smoothing {smoothing:g}" if smoothing else "no smoothing"

    def toggle_log(self) -> str:
        """Put loss and gradient norm on a logarithmic axis, or on a linear one again."""
        self.view = replace(self.view, is_log=not self.view.is_log)
        return f"loss and gradient norm on a {'logarithmic' if self.view.is_log else 'linear'} axis"

    def change_x(self) -> str:
        """Let the x axis count epochs, steps or minutes."""
        if self._is_range_test:
            return "x axis: of a range test it is the learning rate"
        unit = _X_UNITS[(_X_UNITS.index(self.view.x) + 1) % len(_X_UNITS)]
        self.view = replace(self.view, x=unit)
        return f"x axis: {'minutes since the start' if unit == 'min' else unit}"

    def move_cursor(self, name: str, columns: int) -> None:
        """Move the place where values of the plot `name` are read; at first it is the newest column."""
        plot = self.query_one(f"#{name}", Plot)
        at = plot.last_place if self.view.cursor is None else self.view.cursor + columns * plot.column_width
        self.view = replace(self.view, cursor=min(1.0, max(0.0, at)))

    def drop_cursor(self) -> None:
        """Leave off reading values."""
        self.view = replace(self.view, cursor=None)


class MemoryPane(Vertical):
    """Memory of the run's devices: rows of the present, and on a tall terminal a plot over time."""

    def __init__(self, grain: PlotStyle) -> None:
        """Make an empty pane, whose plot is drawn as fine as `grain` says the terminal can."""
        super().__init__(id="memory-pane")
        self._grain: PlotStyle = grain
        self._chart = MemoryChart()

    def compose(self) -> ComposeResult:
        """Lay the pane out."""
        yield ChangedStatic(id="memory-rows")
        yield Plot(id="memory", grain=self._grain)

    def on_mount(self) -> None:
        """Name the pane."""
        self.border_title = "memory"

    def show_rows(self, state: RunState, *, is_zoomed: bool) -> None:
        """Draw the rows, as many as the height of the screen allows."""
        if not self.display or not self.size.width:
            return
        height = self.screen.size.height
        is_short = height < FEW_ROWS and not is_zoomed
        max_rows = 1 if is_short else 4 if height < _MANY_ROWS else 10
        rows = memory_panel(state, max(30, self.content_size.width), max_rows)
        self.query_one("#memory-rows", ChangedStatic).set_text(rows)

    def show_plot(self, state: RunState) -> dict[str, list[int]]:
        """Draw the plot if it is in view; return which of its rows changed, by its id."""
        plot = self.query_one("#memory", Plot)
        if not plot.size.width or not plot.display:
            return {}
        return {"memory": plot.show(self._chart.chart(state, plot.resolution))}
