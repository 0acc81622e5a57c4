"""A run on one printed page: `Record` in, rows of text out. Knows no files and no terminal.

Colours are only beside words; ordinary text keeps the terminal's own, which may be light or dark.
"""

import textwrap
import time
from collections.abc import Iterable

from rich.text import Text

from engine.runs import events as ev
from engine.runs.state import RunState
from tui import format as fmt
from tui import words
from tui.characters import one_line
from tui.palette import TONES
from tui.plots.lr_range import rows_of
from tui.plots.metrics import METRICS, MONOCHROME, MetricChart, View
from tui.plots.render import resolution_of, text_rows
from tui.record import Asked, Record
from tui.record_fields import fields

_LABEL_COLUMNS = 13
_SIDE_BY_SIDE_FROM = 100
_WIDEST = 160
_PLOT_ROWS = 11
_GAP = 3


def page(record: Record, state: RunState, width: int, *, coloured: bool = True) -> list[Text]:
    """Return the page, no row of it wider than `width`.

    Args:
        record: of the run.
        state: of the run, whose curves are drawn.
        width: columns; more than 160 are not used.
        coloured: the curves are told apart by their colours; else by characters, which stay apart in ASCII too.
    """
    width = max(40, min(width, _WIDEST))
    summary = record.summary
    status = Text(summary.status, f"bold {TONES[words.tone(summary.status)]}")
    rows = [Text(one_line(summary.title), "bold"), Text.assemble((summary.id, "dim"), "   ", status), Text()]
    rows += _plots(record, state, width, coloured=coloured)
    for label, value in fields(record):
        rows += _field(label, value, width)
    rows += _section("stages", _stages(record), width)
    rows += _section("asked of the run", [_asked(each) for each in record.asked], width)
    rows += _section("alerts", [_alert(alert) for alert in record.alerts], width)
    rows += _section("checkpoints", _checkpoints(record), width)
    rows += _section("how to go on", _go_on(record), width)
    return rows


def _field(label: str, value: str, width: int) -> list[Text]:
    if not value:
        return []
    lines = textwrap.wrap(one_line(value), width - _LABEL_COLUMNS, break_on_hyphens=False, break_long_words=False) or [
        ""
    ]
    labels = [f"{label:<{_LABEL_COLUMNS}}", *(" " * _LABEL_COLUMNS for _ in lines[1:])]
    return [Text.assemble((name, "dim"), line) for name, line in zip(labels, lines, strict=True)]


def _section(heading: str, lines: Iterable[str], width: int) -> list[Text]:
    """Return a heading and indented lines, none where there are no lines; what is wrapped is indented further."""
    rows: list[Text] = []
    for line in lines:
        indent = " " * (2 + (len(line) - len(line.lstrip())))
        wrapped = textwrap.wrap(
            one_line(line), width, initial_indent="  ", subsequent_indent=f"{indent}    ", break_on_hyphens=False,
            break_long_words=False,
        )  # fmt: skip
        rows += [Text(row) for row in wrapped]
    return [Text(), Text.assemble((heading, "bold")), *rows] if rows else []


# --- plots -------------------------------------------------------------------------------------------


def _plots(record: Record, state: RunState, width: int, *, coloured: bool) -> list[Text]:
    """Return the Monitor's loss and accuracy beside each other if there is room, else one above the other."""
    if not record.steps and not record.epochs:
        return [Text.assemble(("No batch trained yet: nothing to plot.", "dim")), Text()]
    if record.range_test is not None:
        return [*rows_of(record.range_test, width, coloured=coloured), Text()]
    side_by_side = width >= _SIDE_BY_SIDE_FROM
    each = (width - _GAP) // 2 if side_by_side else width
    size, view = resolution_of(each, _PLOT_ROWS, "braille"), View() if coloured else MONOCHROME
    charts = (MetricChart(metric, record.report).chart(state, size, view) for metric in METRICS)
    loss, top1 = (text_rows(chart, each, _PLOT_ROWS) for chart in charts)
    if not side_by_side:
        return [*loss, Text(), *top1, Text()]
    rows = []
    for left, right in zip(loss, top1, strict=True):
        left.pad_right(each + _GAP - left.cell_len)
        rows.append(left.append_text(right))
    return [*rows, Text()]


# --- sections ----------------------------------------------------------------------------------------


def _stages(record: Record) -> list[str]:
    if not record.stages or record.stages[0].num_stages < 2:
        return []
    width = max(len(stage.name) for stage in record.stages)
    lines = []
    ends = [stage.first_epoch for stage in record.stages[1:]] + [record.summary.epochs + 1]
    for stage, end in zip(record.stages, ends, strict=True):
        done = [point for point in record.epochs if stage.first_epoch <= point.number < end]
        best = f"best val {fmt.percent(max(point.val_top1 for point in done)):>6}" if done else "no epoch validated yet"
        epochs = f"from epoch {stage.first_epoch:>3}, {len(done)} of {stage.epochs} epochs"
        lines.append(f"{stage.stage + 1} of {stage.num_stages}  {stage.name:<{width}}  {epochs}  {best}")
    return lines


def _asked(asked: Asked) -> str:
    answer = asked.answer
    at = asked.time or (answer.time if answer is not None else None)
    when = _moment(at) if at is not None else "?"
    name = _command(asked.command)
    if answer is None:
        return f"{when}  {name:<15}  not answered"
    verdict = "" if answer.accepted else "refused: "
    return f"{when}  {name:<15}  {verdict}{answer.effect or 'done'} (step {fmt.count(answer.global_step)})"


def _command(name: str) -> str:
    """Return "SaveCheckpoint" as "save checkpoint"."""
    return "".join(f" {char.lower()}" if char.isupper() else char for char in name).strip()


def _alert(alert: ev.Alerted) -> str:
    return f"{_moment(alert.time)}  {alert.severity:<8}  {alert.text} {alert.advice}".rstrip()


def _checkpoints(record: Record) -> list[str]:
    lines = []
    for saved in sorted(record.checkpoints, key=lambda saved: saved.kind):
        val = f"  val {fmt.percent(saved.val_top1):>6}" if saved.val_top1 is not None else ""
        gone = "" if saved.is_there else "  (the file is gone)"
        size = fmt.memory(saved.num_bytes)
        lines.append(
            f"{saved.path:<26}  {size:>9}  epoch {saved.epoch:>3}, step {fmt.count(saved.global_step)}{val}{gone}"
        )
    return lines


def _go_on(record: Record) -> list[str]:
    name, status = fmt.short_id(record.summary.id), record.summary.status
    ways: list[tuple[str, str]] = []
    if words.is_live(status):
        ways.append((f"cifartui attach {name}", "watch it"))
        if status == "paused":
            ways.append((f"cifartui continue {name}", "go on with training"))
        ways.append((f"cifartui stop {name}", "end early: validate, test the best weights"))
    elif status != "completed" and record.range_test is None:
        ways.append((f"cifartui resume {name}", "go on from the last checkpoint"))
    if any(saved.kind == "best" and saved.is_there for saved in record.checkpoints):
        ways.append((f"cifartui evaluate {name}", "accuracy by class, what is confused"))
    if record.epochs:
        ways.append((f"cifartui export {name} --format csv", "its curves"))
    width = max((len(command) for command, _ in ways), default=0)
    return [f"{command:<{width}}  {what}" for command, what in ways]


def _moment(unix_s: float) -> str:
    return time.strftime("%m-%d %H:%M:%S", time.localtime(unix_s))
