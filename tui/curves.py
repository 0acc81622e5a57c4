"""A run's curves for use outside: as CSV, and as an SVG picture for a report. Knows runs; writes no files."""

import csv
import io
from collections.abc import Sequence
from html import escape
from typing import Literal, TypeAlias

from msgspec import Struct

from engine.journal.state import RunState
from engine.runs.run_dir import RunDir
from presets.errors import CifartuiError
from presets.schema import Report
from tui import format as fmt
from tui.data.range_test import Verdict, verdict
from tui.widgets.axes import Axis, ValueAxis, round_step

_EPOCH_FIELDS = (
    "epoch", "stage", "global_step", "train_loss", "train_top1", "val_loss", "val_top1", "lr", "seconds",
)  # fmt: skip
_STEP_FIELDS = ("global_step", "epoch", "time", "loss", "top1")
_TRAIN, _VAL, _REPORT = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito's palette, safe for colour-blind readers
_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 34, 46
_MOST_TICKS = 8
_NUM_ROWS = 11
"""In which the vertical axis may be cut."""
_Points: TypeAlias = list[tuple[float, float]]


def curves_text(run: RunDir, state: RunState, kind: Literal["csv", "svg"], steps: bool) -> str:
    """Return a run's curves as the content of a file; `steps` asks for a line a report, not a line an epoch."""
    preset = run.read_info().preset
    test = verdict(preset, state)
    if test is not None and kind == "csv":
        return range_test_csv(test)
    if test is not None:
        raise CifartuiError(f"Run {run.id} is a range test, whose picture is not by epochs; export it as csv.")
    if kind == "csv":
        return steps_csv(state) if steps else epochs_csv(state)
    info = run.read_info()
    return svg(state, f"{info.preset.title}  ·  {info.id}", info.preset.report)


def epochs_csv(state: RunState) -> str:
    """Return a line for every epoch; accuracies are fractions, `epoch` counts epochs done, seconds are per epoch."""
    rows = [[getattr(point, name) for name in _EPOCH_FIELDS] for point in state.epochs]
    return _csv(_EPOCH_FIELDS, rows)


def steps_csv(state: RunState) -> str:
    """Return a line for every report of the training loop; `epoch` is fractional, `time` Unix seconds."""
    rows = [[getattr(point, name) for name in _STEP_FIELDS] for point in state.steps]
    return _csv(_STEP_FIELDS, rows)


def range_test_csv(test: Verdict) -> str:
    """Return a line for every point of a range test: the rate, the loss there, and that smoothed."""
    rows = [[point.lr, point.loss, level] for point, level in zip(test.points, test.smoothed, strict=True)]
    return _csv(("lr", "loss", "smoothed"), rows)


def _csv(fields: Sequence[str], rows: list[list[float]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows(rows)
    return text.getvalue()


class _Curve(Struct, frozen=True):
    label: str
    colour: str
    points: _Points
    is_faint: bool = False


class _Plot(Struct, frozen=True):
    """One set of axes. `line` is the published value, of `source`, `mark` the best epoch."""

    title: str
    curves: list[_Curve]
    line: float | None
    source: str
    mark: tuple[float, float] | None
    is_percent: bool


def svg(state: RunState, title: str, report: Report) -> str:
    """Return loss and accuracy by epoch as one SVG picture, as it can be printed: dark on white."""
    train = [(point.epoch, point.train_loss) for point in state.epochs]
    val = [(point.epoch, point.val_loss) for point in state.epochs]
    steps = [(point.epoch, point.loss) for point in state.steps]
    loss = [_Curve("", _TRAIN, steps, is_faint=True), _Curve("train", _TRAIN, train), _Curve("val", _VAL, val)]
    accuracy = [
        _Curve("", _TRAIN, [(point.epoch, point.top1) for point in state.steps], is_faint=True),
        _Curve("train", _TRAIN, [(point.epoch, point.train_top1) for point in state.epochs]),
        _Curve("val", _VAL, [(point.epoch, point.val_top1) for point in state.epochs]),
    ]
    best = (state.best.epoch, state.best.val_top1) if state.best is not None else None
    boundaries = [float(stage.first_epoch - 1) for stage in state.stages[1:]]
    plots = [
        _draw(_Plot("loss", loss, None, "", None, is_percent=False), 0, boundaries),
        _draw(
            _Plot("top-1 accuracy", accuracy, report.val_top1, report.source, best, is_percent=True), _WIDTH, boundaries
        ),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * _WIDTH} {_HEIGHT + 30}" '
        f'font-family="sans-serif" font-size="12" fill="#222">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="{_WIDTH}" y="20" text-anchor="middle" font-size="15">{escape(title)}</text>\n'
        f'<g transform="translate(0 30)">\n{"".join(plots)}</g>\n</svg>\n'
    )


def _draw(plot: _Plot, offset: int, boundaries: list[float]) -> str:
    points = [point for curve in plot.curves for point in curve.points if abs(point[1]) < float("inf")]
    heights = [height for _, height in points] + ([plot.line] if plot.line is not None else [])
    last = max((epoch for epoch, _ in points), default=1.0) or 1.0
    lowest = 0.0 if plot.is_percent else min(heights, default=0.0)
    scale = 100 if plot.is_percent else 1
    vertical = ValueAxis().holding(scale * lowest, scale * max(heights, default=1.0), _NUM_ROWS)
    low, high = vertical.lower / scale, vertical.upper / scale
    across = Axis(0.0, last, round_step(last, _MOST_TICKS))

    def x(epoch: float) -> float:
        return round(_LEFT + epoch / last * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(height: float) -> float:
        return round(_TOP + (high - height) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    parts = [f'<g transform="translate({offset} 0)">', f'<text x="{_LEFT}" y="{_TOP - 12}">{plot.title}</text>']
    for tick, label in zip(vertical.ticks(), vertical.labels(), strict=True):
        down = y(tick / scale)
        parts.append(f'<path d="M{_LEFT} {down}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        unit = " %" if plot.is_percent else ""
        parts.append(f'<text x="{_LEFT - 6}" y="{down + 4}" text-anchor="end">{label}{unit}</text>')
    for tick, label in zip(across.ticks(), across.labels(), strict=True):
        parts.append(f'<text x="{x(tick)}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{label}</text>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle">epoch</text>')
    parts += [
        f'<path d="M{x(epoch)} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#999" stroke-dasharray="2 3"/>'
        for epoch in boundaries
        if epoch <= last
    ]
    if plot.line is not None:
        parts.append(f'<path d="M{_LEFT} {y(plot.line)}H{_WIDTH - _RIGHT}" stroke="{_REPORT}" stroke-dasharray="6 4"/>')
    for curve in plot.curves:
        parts.append(
            _path(curve, [(x(epoch), y(height)) for epoch, height in curve.points if abs(height) < float("inf")])
        )
    if plot.mark is not None:
        parts.append(f'<circle cx="{x(plot.mark[0])}" cy="{y(plot.mark[1])}" r="4" fill="{_VAL}"/>')
    parts.append(_legend(plot))
    return "\n".join([*parts, "</g>\n"])


def _path(curve: _Curve, points: _Points) -> str:
    if not points:
        return ""
    width, opacity = (1, 0.35) if curve.is_faint else (2, 1)
    if len(points) == 1:
        return f'<circle cx="{points[0][0]}" cy="{points[0][1]}" r="2.5" fill="{curve.colour}"/>'
    line = " ".join(f"{across},{down}" for across, down in points)
    return f'<polyline points="{line}" fill="none" stroke="{curve.colour}" stroke-width="{width}" opacity="{opacity}"/>'


def _legend(plot: _Plot) -> str:
    entries = [(curve.label, curve.colour) for curve in plot.curves if curve.label]
    entries += [(f"{plot.source} {fmt.percent(plot.line)}", _REPORT)] if plot.line is not None else []
    entries += [(f"best {fmt.percent(plot.mark[1], 2)}", _VAL)] if plot.mark is not None else []
    parts, across = [], _WIDTH - _RIGHT
    for label, colour in reversed(entries):
        parts.append(f'<text x="{across}" y="{_TOP - 12}" text-anchor="end" fill="{colour}">{escape(label)}</text>')
        across -= 7 * len(label) + 14
    return "\n".join(parts)
