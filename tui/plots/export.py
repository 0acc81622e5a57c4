"""A run's curves as CSV, and charts as an SVG picture for a report. Writes no files."""

import csv
import io
import math
import time
from collections.abc import Sequence
from html import escape
from typing import Literal

from engine.journal.outline import read_outline
from engine.journal.state import RunState
from engine.runs.newer_info import read_shown
from engine.runs.run_dir import RunDir
from presets.errors import CifartuiError
from presets.schema import Report
from tui.data.range_test import Verdict, verdict
from tui.data.reference import report_of
from tui.data.summaries import curves_of
from tui.data.summary import summary_of
from tui.plots.axes import ValueAxis
from tui.plots.chart import Band, Chart, Line, Resolution
from tui.plots.lr_range import lr_chart
from tui.plots.metrics import METRICS, MetricChart, View
from tui.plots.overlay import COLORS, OverlaidRun, OverlayChart, faded, lightened, overlaid_run, result_of
from tui.plots.step_chart import StepChart
from tui.text.run_name import shared_words
from tui.theme import MUTED, REFERENCE, TEXT, TRAIN, TRAIN_RANGE, VAL

_EPOCH_FIELDS = (
    "epoch", "stage", "global_step", "train_loss", "train_top1", "val_loss", "val_top1", "lr", "seconds",
)  # fmt: skip
_STEP_FIELDS = ("global_step", "epoch", "time", "loss", "top1", "num_images", "lr")
_INK, _GREY, _GRID = "#222222", "#999", "#ddd"
_PAPER = {TRAIN: "#0072B2", TRAIN_RANGE: "#0072B2", VAL: "#D55E00", REFERENCE: "#009E73", TEXT: _INK, MUTED: "#666"}
"""On white, Okabe and Ito's palette as it was made; a colour that is not here stays as it is on the screen."""
_PAPER |= dict(zip(COLORS[2:], ("#009E73", "#CC79A7", "#8a7a00", _INK), strict=True))
_PAPER |= {faded(color): lightened(_PAPER[color]) for color in COLORS}
"""Of several runs: the last yellow is darker than theirs, which cannot be read on white; training is lighter."""
_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 34, 46
_RESOLUTION = Resolution(num_columns=_WIDTH - _LEFT - _RIGHT, num_rows=11, max_ticks=8)
_FIGURE = View(is_large=True, is_figure=True)
_IN_A_ROW = 2
_TITLE = 30
"""Height of the title's row, if there is a title."""
_CHARACTER_WIDTH = 7
_NAME_ROW = 18
"""Height of a row of the legend of several runs."""


def curves_text(run: RunDir, state: RunState, kind: Literal["csv", "svg"], steps: bool) -> str:
    """Return a run's curves as the content of a file; `steps` asks for a line a report, not a line an epoch."""
    info = read_shown(run)
    preset = info.preset
    test = verdict(preset, state)
    if test is not None and kind == "csv":
        return range_test_csv(test)
    if test is not None:
        raise CifartuiError(f"Run {run.id} is a range test, whose picture is not by epochs; export it as csv.")
    if kind == "csv":
        return steps_csv(state) if steps else epochs_csv(state)
    title = f"{preset.title}  ·  {run.id}"
    return training_svg(state, title, report_of(info), preset.train.clip_norm)


def epochs_csv(state: RunState) -> str:
    """Return a line for every epoch; accuracies are fractions, `epoch` counts epochs done, seconds are per epoch.

    Behind them are val_balanced, where balanced accuracy was measured, and pflop, what the run had spent by then, where
    that was counted.
    """
    also = ("val_balanced", "pflop")
    measured = [name for name in also if any(getattr(point, name) is not None for point in state.epochs)]
    fields = (*_EPOCH_FIELDS, *measured)
    return _csv(fields, [[getattr(point, name) for name in fields] for point in state.epochs])


def steps_csv(state: RunState) -> str:
    """Return a line for every report of the training loop; `epoch` is fractional, `time` Unix seconds.

    Behind them are grad_norm, where the journal has it, and clipped, where gradients were clipped.
    """
    also = {"grad_norm": any(map(math.isfinite, state.steps.grad_norm)), "clipped": any(state.steps.clipped)}
    fields = (*_STEP_FIELDS, *(name for name, is_told in also.items() if is_told))
    return _csv(fields, [[getattr(point, name) for name in fields] for point in state.steps])


def range_test_csv(test: Verdict) -> str:
    """Return a line for every point of a range test: the rate, the loss there, and that smoothed."""
    rows = [[point.lr, point.loss, level] for point, level in zip(test.points, test.smoothed, strict=True)]
    return _csv(("lr", "loss", "smoothed"), rows)


def _csv(fields: Sequence[str], rows: Sequence[Sequence[float | None]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows(rows)
    return text.getvalue()


# --- SVG -----------------------------------------------------------------------------------------


def metrics_svg(state: RunState, report: Report) -> str:
    """Return loss and accuracy by epoch as one picture."""
    return svg(_charts(state, report), "")


def training_svg(state: RunState, title: str, report: Report, clip_norm: float = 0.0) -> str:
    """Return loss and accuracy by epoch, and below them learning rate and gradient norm, as one picture."""
    below = (StepChart("lr"), StepChart("grad_norm", clip_norm))
    return svg([*_charts(state, report), *(chart.chart(state, _RESOLUTION, _FIGURE) for chart in below)], title)


def _charts(state: RunState, report: Report) -> list[Chart]:
    return [MetricChart(metric, report).chart(state, _RESOLUTION, _FIGURE) for metric in METRICS]


def range_test_svg(test: Verdict) -> str:
    """Return the loss of a range test over the learning rate."""
    return svg([lr_chart(test, ValueAxis(), _RESOLUTION, _FIGURE)], "")


def overlaid_runs(runs: Sequence[RunDir]) -> list[OverlaidRun]:
    """Return several runs to be drawn over each other.

    Raises:
        CifartuiError: they are too many, or one of them has no epoch or is a range test.
    """
    if len(runs) > len(COLORS):
        raise CifartuiError(f"At most {len(COLORS)} runs are drawn over each other; name fewer than {len(runs)}.")
    read = []
    for run in runs:
        info, state = read_shown(run), read_outline(run.events)
        if verdict(info.preset, state) is not None:
            raise CifartuiError(f"Run {run.id} is a range test, whose curve is not by epochs; leave it out.")
        if not state.epochs:
            raise CifartuiError(f"Run {run.id} has no curves yet: no epoch was trained; leave it out.")
        summary = summary_of(run, info, state, time.time())
        read.append((summary, curves_of(info, state, summary)))
    shared = shared_words((summary.preset_name, summary.words) for summary, _ in read)
    return [
        overlaid_run(summary, curves, str(number), color, shared.get(summary.preset_name, frozenset()))
        for number, ((summary, curves), color) in enumerate(zip(read, COLORS, strict=False), start=1)
    ]


def overlay_svg(drawn: Sequence[OverlaidRun], *, is_log: bool = False) -> str:
    """Return loss and accuracy of several runs over each other by epoch, as one picture, with a legend of the runs."""
    charts = [OverlayChart(metric).chart(drawn, _RESOLUTION, is_log=is_log) for metric in METRICS]
    return svg(charts, "", [(f"{run.sign} {run.name}  {result_of(run)}", run.color) for run in drawn])


def svg(charts: Sequence[Chart], title: str, names: Sequence[tuple[str, str]] = ()) -> str:
    """Return charts, two beside each other, as one SVG picture that can be printed: dark on white, without cursors.

    Args:
        charts: to draw.
        title: above them; "" for none.
        names: legend between title and charts, as text and colour, in as many rows as it takes.
    """
    width, num_rows = _WIDTH * min(_IN_A_ROW, len(charts)), -(-len(charts) // _IN_A_ROW)
    legend, above = _names(names, width, _TITLE if title else 0)
    places = [(number % _IN_A_ROW * _WIDTH, number // _IN_A_ROW * _HEIGHT) for number in range(len(charts))]
    plots = [
        f'<g transform="translate({across} {down})">\n{_plot(each)}\n</g>\n'
        for (across, down), each in zip(places, charts, strict=True)
    ]
    heading = (
        f'<text x="{width // 2}" y="20" text-anchor="middle" font-size="15">{escape(title)}</text>\n' if title else ""
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {num_rows * _HEIGHT + above}" '
        f'font-family="sans-serif" font-size="12" fill="{_INK}">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n'
        f'{heading}{legend}<g transform="translate(0 {above})">\n{"".join(plots)}</g>\n</svg>\n'
    )


def _plot(chart: Chart) -> str:
    """Return one chart: axes first, what comes later covers what came before."""
    parts = [_text(_LEFT, _TOP - 12, chart.title), *_axes(chart)]
    if not chart.has_points:
        return "\n".join([*parts, _text(_WIDTH / 2, _HEIGHT / 2, chart.empty, "middle")])
    parts += [
        f'<path d="M{_x(chart, at)} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="{_GREY}" stroke-dasharray="2 3"/>'
        for at in chart.boundaries
        if chart.x.lower < at < chart.x.upper
    ]
    if chart.reference is not None:
        down, color = _y(chart, chart.reference.y), _paper(chart.reference.color)
        parts.append(f'<path d="M{_LEFT} {down}H{_WIDTH - _RIGHT}" stroke="{color}" stroke-dasharray="6 4"/>')
    parts += [_band(chart, band) for band in chart.bands if any(band.columns)]
    parts += [part for line in chart.lines for part in _line(chart, line)]
    return "\n".join([*parts, *_marks(chart), *_legend(chart)])


def _names(names: Sequence[tuple[str, str]], width: int, above: int) -> tuple[str, int]:
    """Return the legend below `above`, and where it ends."""
    parts, across, down = "", _LEFT, above + _NAME_ROW
    for label, color in names:
        length = _CHARACTER_WIDTH * len(label)
        if across > _LEFT and across + length > width:
            across, down = _LEFT, down + _NAME_ROW
        parts += _text(across, down, label, color=color) + "\n"
        across += length + 3 * _CHARACTER_WIDTH
    return (parts, down + 4) if names else ("", above)


def _axes(chart: Chart) -> list[str]:
    parts = []
    for tick, label in zip(chart.y.ticks(), chart.y.labels(), strict=True):
        down = _y(chart, tick)
        parts.append(f'<path d="M{_LEFT} {down}H{_WIDTH - _RIGHT}" stroke="{_GRID}"/>')
        parts.append(_text(_LEFT - 6, down + 4, label, "end"))
    for tick, label in zip(chart.x.ticks(), chart.x.labels(), strict=True):
        parts.append(_text(_x(chart, tick), _HEIGHT - _BOTTOM + 18, label, "middle"))
    return [*parts, _text(_WIDTH / 2, _HEIGHT - 8, chart.x_unit, "middle")]


def _x(chart: Chart, value: float) -> float:
    share = (value - chart.x.lower) / (chart.x.upper - chart.x.lower)
    return round(_LEFT + min(1.0, max(0.0, share)) * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(chart: Chart, value: float) -> float:
    """Return the place of a height; what lies outside the axis is drawn at its edge."""
    share = (chart.y.upper - value) / (chart.y.upper - chart.y.lower)
    return round(_TOP + min(1.0, max(0.0, share)) * (_HEIGHT - _TOP - _BOTTOM), 1)


def _paper(color: str) -> str:
    return _PAPER.get(color, color)


def _text(x: float, y: float, text: str, anchor: str = "start", color: str = TEXT) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{_paper(color)}">{escape(text)}</text>'


def _band(chart: Chart, band: Band) -> str:
    """Return the outline of a band, filled: along its upper edge and back along the lower."""
    width = (chart.x.upper - chart.x.lower) / max(1, len(band.columns))
    edges = [
        (_x(chart, chart.x.lower + (number + 0.5) * width), _y(chart, column.high), _y(chart, column.low))
        for number, column in enumerate(band.columns)
        if column is not None
    ]
    outline = _joined([(x, high) for x, high, _ in edges] + [(x, low) for x, _, low in reversed(edges)])
    color = _paper(band.color)
    return f'<polygon points="{outline}" fill="{color}" stroke="{color}" stroke-linejoin="round" opacity="0.35"/>'


def _line(chart: Chart, line: Line) -> list[str]:
    """Return a line, or its points where they are marked or there is but one."""
    finite = [point for point in zip(line.xs, line.ys, strict=True) if all(map(math.isfinite, point))]
    points, color = [(_x(chart, x), _y(chart, y)) for x, y in finite], _paper(line.color)
    if line.marker or len(points) == 1:
        return [_marker(line.marker, x, y, color) for x, y in points]
    return [f'<polyline points="{_joined(points)}" fill="none" stroke="{color}" stroke-width="2"/>'] if points else []


def _marker(marker: str, x: float, y: float, color: str) -> str:
    """Return the shape for a character: dot, ring, diamond and square are drawn, others are text."""
    if marker in {"", "•"}:
        return f'<circle cx="{x}" cy="{y}" r="2.5" fill="{color}"/>'
    if marker == "○":
        return f'<circle cx="{x}" cy="{y}" r="3" fill="white" stroke="{color}"/>'
    if marker == "▪":
        return f'<rect x="{round(x - 2, 1)}" y="{round(y - 2, 1)}" width="4" height="4" fill="{color}"/>'
    if marker == "◆":
        return f'<path d="M{x} {round(y - 5, 1)}l5 5l-5 5l-5 -5z" fill="{color}"/>'
    return f'<text x="{x}" y="{y + 4}" text-anchor="middle" fill="{color}">{escape(marker)}</text>'


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{across},{down}" for across, down in points)


def _marks(chart: Chart) -> list[str]:
    """Return the marks' labels at the upper edge, the first character alone if the next mark is too near."""
    parts: list[str] = []
    right = _WIDTH - _RIGHT
    end: float = right
    for mark in reversed(chart.marks):
        at, width = _x(chart, mark.x) - _CHARACTER_WIDTH / 2, _CHARACTER_WIDTH * len(mark.label)
        start, label = min(at, right - width), mark.label
        if start + width > end:
            start, label = at, mark.label[:1]
        parts.append(_text(round(start, 1), _TOP + 10, label, color=mark.color))
        end = start
    return parts


def _legend(chart: Chart) -> list[str]:
    """Return the legend with the reference's name, from the right end of the title's row."""
    entries = list(chart.legend)
    if chart.reference is not None:
        entries.append((f"┄ {chart.reference.label}", chart.reference.color))
    parts, across = [], _WIDTH - _RIGHT
    for label, color in reversed(entries):
        parts.append(_text(across, _TOP - 12, label, "end", color))
        across -= _CHARACTER_WIDTH * len(label) + 14
    return parts
