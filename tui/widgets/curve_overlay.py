"""Curves of several runs in one plot: who is drawn in which colour, and the charts. Knows no files."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Container, Vertical

from tui import format as fmt
from tui.data.run_list import RunCurves
from tui.display import PlotStyle
from tui.theme import MUTED, TEXT
from tui.widgets.axes import ValueAxis, epoch_axis
from tui.widgets.basic import ChangedStatic
from tui.widgets.metric_chart import published_level
from tui.widgets.plot import Chart, Line, Plot, Reference
from tui.widgets.trace import Trace

COLORS = ("#56b4e9", "#e69f00", "#2fc39a", "#d98fb9", "#f0e442", "#d5d9e0")
"""Okabe and Ito's palette, lightened for a dark ground: apart for every kind of colour vision. No more are drawn."""
_NAME_WIDTH = 26


@dataclass(frozen=True)
class OverlaidRun:
    """A run among those drawn."""

    id: str
    name: str
    sign: str
    """The digit that ends its curves and stands before its name: tells runs apart without colours."""
    color: str
    curves: RunCurves


class Overlay(Vertical):
    """A legend, and loss and accuracy of up to six runs over epochs."""

    def __init__(self, *, grain: PlotStyle) -> None:
        super().__init__(id="overlay")
        self._grain: PlotStyle = grain
        self._charts = {"loss": _Overlaid("loss"), "top1": _Overlaid("top1")}
        self._shown: tuple[tuple[OverlaidRun, ...], int] = ((), 0)

    def compose(self) -> ComposeResult:
        """Lay legend and plots out."""
        yield ChangedStatic(id="over-legend")
        with Container(id="over-plots"):
            yield Plot(id="over-loss", grain=self._grain)
            yield Plot(id="over-top1", grain=self._grain)

    def show(self, drawn: Sequence[OverlaidRun], num_left_out: int) -> None:
        """Draw `drawn`; say that `num_left_out` more are marked."""
        self._shown = (tuple(drawn), num_left_out)
        width = self.size.width - 2
        if width < 20:  # not laid out, or not in view
            return
        self.query_one("#over-legend", ChangedStatic).tell(_legend(drawn, num_left_out, width))
        for metric, maker in self._charts.items():
            plot = self.query_one(f"#over-{metric}", Plot)
            if plot.size.width:
                plot.show(maker.chart(drawn, plot))

    def on_resize(self) -> None:
        """Draw anew for the new size."""
        self.call_after_refresh(lambda: self.show(*self._shown))


def _legend(drawn: Sequence[OverlaidRun], num_left_out: int, width: int) -> Text:
    entries = [_entry(run) for run in drawn]
    if num_left_out:
        entries.append(Text(f"and {num_left_out} more marked, not drawn", MUTED))
    rows = [Text(no_wrap=True)]
    for entry in entries:
        if rows[-1].plain and rows[-1].cell_len + 3 + entry.cell_len > width:
            rows.append(Text(no_wrap=True))
        rows[-1].append("   " if rows[-1].plain else "").append_text(entry)
    return Text("\n", no_wrap=True).join(rows)


def _entry(run: OverlaidRun) -> Text:
    best = max((point.val_top1 for point in run.curves.epochs), default=None)
    said = "no epoch yet" if best is None else fmt.percent(best)
    return Text.assemble(
        (f"{run.sign} {fmt.cut(run.name, _NAME_WIDTH)}", run.color), (f" {said}", TEXT if best is not None else MUTED)
    )


class _Overlaid:
    """Loss or accuracy of several runs: validation as lines, training as faint dots."""

    def __init__(self, metric: str) -> None:
        self._is_loss, self._scale = metric == "loss", 1.0 if metric == "loss" else 100.0
        self._metric = metric
        self._traces: dict[str, tuple[Trace, Trace]] = {}
        self._y = ValueAxis()
        self._ids: tuple[str, ...] = ()

    def chart(self, drawn: Sequence[OverlaidRun], plot: Plot) -> Chart:
        """Return the chart of `drawn` at the resolution of `plot`."""
        ids = tuple(run.id for run in drawn)
        if ids != self._ids:  # another comparison: its axis need not keep still
            self._ids, self._y = ids, ValueAxis()
            self._traces = {run_id: self._traces.get(run_id) or self._fresh() for run_id in ids}
        points = [run.curves.epochs for run in drawn]
        last = max((each[-1].epoch for each in points if each), default=0.0)
        total = max((run.curves.total_epochs for run in drawn), default=1)
        x = epoch_axis(last, total, plot.max_ticks)
        reference = None if self._is_loss else _common_report(drawn)
        train_lines, val_lines, ends = [], [], []
        for run in drawn:
            val_trace, train_trace = self._traces[run.id]
            val = val_trace.follow(run.curves.epochs, x, plot.num_columns)
            train = train_trace.follow(run.curves.epochs, x, plot.num_columns)
            train_lines.append(Line(*train, _faded(run.color), marker="·"))
            val_lines.append(Line(*val, run.color))
            if val[0]:
                ends.append(Line(val[0][-1:], val[1][-1:], run.color, marker=run.sign))
        lines = (*train_lines, *val_lines, *ends)
        levels = [value for line in lines for value in line.ys] + ([reference.y] if reference else [])
        y = self._y.holding(min(levels, default=0.0), max(levels, default=1.0), plot.num_rows)
        title = "loss" if self._is_loss else "top-1 %"
        legend = (("━ val", TEXT), ("· train", MUTED))
        empty = "no epoch validated yet" if drawn else "no run here"
        return Chart(title, x, y, "epochs", lines, legend, reference, empty)

    def _fresh(self) -> tuple[Trace, Trace]:
        val, train = (attrgetter(f"{part}_{self._metric}") for part in ("val", "train"))
        epoch = attrgetter("epoch")
        return Trace(epoch, lambda point: self._scale * val(point)), Trace(
            epoch, lambda point: self._scale * train(point)
        )


def _common_report(drawn: Sequence[OverlaidRun]) -> Reference | None:
    """Return the published level where all runs have the same one."""
    levels = {(run.curves.report.val_top1, run.curves.report.source) for run in drawn}
    return published_level(drawn[0].curves.report) if len(levels) == 1 else None


def _faded(color: str) -> str:
    """Return a colour half as bright."""
    return "#" + "".join(f"{int(color[at : at + 2], 16) * 6 // 10:02x}" for at in (1, 3, 5))
