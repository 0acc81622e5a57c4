"""Printed page of a run: `RunDetail` in, rows of text out. No files, no terminal."""

import textwrap
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich.text import Text

from engine.journal import events as ev
from engine.journal.state import EpochPoint, RunState
from tui import format as fmt
from tui.data.run_detail import CommandRecord, RunDetail
from tui.data.summary import Summary
from tui.plots.lr_range import rows_of
from tui.plots.metrics import METRICS, MONOCHROME, MetricChart, View
from tui.plots.render import resolution_of, text_rows
from tui.plots.step_chart import StepChart
from tui.terminal.streams import one_line
from tui.text import run_text
from tui.theme import TONES

_LABEL_COLUMNS = 13
_SIDE_BY_SIDE_FROM = 100
_WIDEST = 160
_PLOT_ROWS, _LOW_PLOT_ROWS = 11, 8
_GAP = 3
_LEAST_SETTINGS = 6


def run_page(record: RunDetail, state: RunState, width: int, *, coloured: bool = True) -> list[Text]:
    """Return the page, no row of it wider than `width`.

    Args:
        record: of the run.
        state: of the run, whose curves are drawn.
        width: columns; more than 160 are not used.
        coloured: the curves differ by their colours; else by characters, which differ in ASCII too.
    """
    width = max(40, min(width, _WIDEST))
    summary = record.summary
    status = Text(summary.status, f"bold {TONES[run_text.tone(summary.status)]}")
    rows = [
        Text(one_line(summary.title), "bold"),
        Text.assemble((_named(summary, width), "dim"), "   ", status),
        Text(),
    ]
    rows[2:2] = _field("newer", run_text.newer(summary.not_understood).strip(), width)
    rows += _plots(record, state, width, coloured=coloured)
    for label, value in fields(record):
        rows += _field(label, value, width)
    rows += _section("stages", _stages(record), width)
    rows += _section("asked of the run", [_command_row(each) for each in record.asked], width)
    rows += _section("alerts", [_alert(alert) for alert in record.alerts], width)
    rows += _section("checkpoints", _checkpoints(record), width)
    rows += _section("how to go on", _go_on(record), width)
    return rows


def _named(summary: Summary, width: int) -> str:
    """Return a run's id with its settings, as many as there is room for beside the status."""
    words = " ".join(summary.words)
    room = width - len(f"{summary.id}    {summary.status}")
    return f"{summary.id} {fmt.cut(words, room)}" if words and room > _LEAST_SETTINGS else summary.id


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


def _plots(record: RunDetail, state: RunState, width: int, *, coloured: bool) -> list[Text]:
    """Return the Monitor's loss and accuracy, beside each other if there is room, and below them rate and norm."""
    if not record.steps and not record.epochs:
        return [Text.assemble(("No batch trained yet: nothing to plot.", "dim")), Text()]
    if record.range_test is not None:
        return [*rows_of(record.range_test, width, coloured=coloured), Text()]
    side_by_side = width >= _SIDE_BY_SIDE_FROM
    each = (width - _GAP) // 2 if side_by_side else width
    size = resolution_of(each, _PLOT_ROWS, "braille")
    view = replace(View() if coloured else MONOCHROME, is_over=not run_text.is_live(record.summary.status))
    charts = (MetricChart(metric, record.report).chart(state, size, view) for metric in METRICS)
    loss, top1 = (text_rows(chart, each, _PLOT_ROWS) for chart in charts)
    half = (width - _GAP) // 2
    size = resolution_of(half, _LOW_PLOT_ROWS, "braille")
    low = (StepChart("lr"), StepChart("grad_norm", record.clip_norm))
    rate, norm = (text_rows(chart.chart(state, size, view), half, _LOW_PLOT_ROWS) for chart in low)
    first = _beside(loss, top1, each) if side_by_side else [*loss, Text(), *top1]
    return [*first, Text(), *_beside(rate, norm, half), Text()]


def _beside(left: Sequence[Text], right: Sequence[Text], width: int) -> list[Text]:
    """Return rows of a plot of so many columns with those of another one, as many, beside them."""
    for row, other in zip(left, right, strict=True):
        row.pad_right(width + _GAP - row.cell_len)
        row.append_text(other)
    return list(left)


# --- sections ----------------------------------------------------------------------------------------


def _stages(record: RunDetail) -> list[str]:
    if not record.stages or record.stages[0].num_stages < 2:
        return []
    width = max(len(stage.name) for stage in record.stages)
    lines = []
    ends = [stage.first_epoch for stage in record.stages[1:]] + [record.summary.epochs + 1]
    for stage, end in zip(record.stages, ends, strict=True):
        done = [point for point in record.epochs if stage.first_epoch <= point.number < end]
        best = _best_of(done)
        epochs = f"from epoch {stage.first_epoch:>3}, {len(done)} of {stage.epochs} epochs"
        lines.append(f"{stage.stage + 1} of {stage.num_stages}  {stage.name:<{width}}  {epochs}  {best}")
    return lines


def _best_of(done: Sequence[EpochPoint]) -> str:
    if not done:
        return "no epoch validated yet"
    best = max(done, key=lambda point: point.score)
    return f"best val {fmt.accuracy(best.val_top1, best.val_balanced):>6}"


def _command_row(record: CommandRecord) -> str:
    answer = record.answer
    at = record.time or (answer.time if answer is not None else None)
    when = _moment(at) if at is not None else "?"
    name = _command(record.command)
    if answer is None:
        return f"{when}  {name:<15}  not answered"
    verdict = "" if answer.accepted else "refused: "
    return f"{when}  {name:<15}  {verdict}{answer.effect or 'done'} (step {fmt.count(answer.global_step)})"


def _command(name: str) -> str:
    """Return "SaveCheckpoint" as "save checkpoint"."""
    return "".join(f" {char.lower()}" if char.isupper() else char for char in name).strip()


def _alert(alert: ev.Alerted) -> str:
    return f"{_moment(alert.time)}  {alert.severity:<8}  {run_text.warning(alert)}"


def _checkpoints(record: RunDetail) -> list[str]:
    lines = []
    for saved in sorted(record.checkpoints, key=lambda saved: saved.kind):
        accuracy = fmt.accuracy(saved.val_top1, saved.val_balanced)
        val = f"  val {accuracy:>6}" if saved.val_top1 is not None else ""
        gone = "" if saved.is_there else "  (the file is gone)"
        size = fmt.memory(saved.num_bytes)
        lines.append(
            f"{saved.path:<26}  {size:>9}  epoch {saved.epoch:>3}, step {fmt.count(saved.global_step)}{val}{gone}"
        )
    return lines


def _go_on(record: RunDetail) -> list[str]:
    name, status = fmt.short_id(record.summary.id), record.summary.status
    ways: list[tuple[str, str]] = []
    if run_text.is_live(status):
        ways.append((f"cifartui attach {name}", "watch it"))
        if status == "paused":
            ways.append((f"cifartui continue {name}", "go on with training"))
        ways.append((f"cifartui stop {name}", "end early: validate, test the best weights"))
    elif status != "completed" and record.range_test is None and record.checkpoints:
        ways.append((f"cifartui resume {name}", "go on from the last checkpoint"))
    elif status != "completed":
        ways.append((record.start_command, "start it anew"))
    elif record.range_test is None and record.checkpoints:
        ways.append((f"cifartui resume {name} --epochs +5", "train it for more epochs"))
    if any(saved.kind == "best" and saved.is_there for saved in record.checkpoints):
        ways.append((f"cifartui evaluate {name}", "accuracy by class, what is confused"))
        ways.append((f"cifartui predict {name} PATH", "what it says of other images"))
    if not run_text.is_live(status):
        ways.append((f"cifartui report {name}", "a page that one can send"))
    if record.epochs:
        ways.append((f"cifartui export {name} --format csv", "its curves"))
    width = max((len(command) for command, _ in ways), default=0)
    return [f"{command:<{width}}  {what}" for command, what in ways]


def _moment(unix_s: float) -> str:
    return time.strftime("%m-%d %H:%M:%S", time.localtime(unix_s))


def fields(record: RunDetail) -> list[tuple[str, str]]:
    """Return labels and values in the order of the page; a row without a value has an empty one."""
    summary = record.summary
    return [
        ("state", _state(record)),
        ("preset", summary.preset_name),
        ("changed", " ".join(summary.overrides)),
        ("progress", _progress(record)),
        ("time", _time(record)),
        ("start", _start(record)),
        ("speed", _speed(record)),
        ("spent", run_text.spent(summary.flops)),
        ("best val", _best_val(record)),
        ("test", _test(record)),
        ("last epoch", _last_epoch(record)),
        ("network", _network(record)),
        ("data", _data(record.data)),
        ("device", _device(record)),
        ("versions", run_text.versions(record.started) if record.started is not None else ""),
        ("memory", _memory(record)),
        ("seed", str(summary.seed)),
        ("group", summary.group),
        ("on disk", fmt.memory(summary.num_bytes) if summary.num_bytes is not None else ""),
        ("folder", summary.path),
    ]


def _state(record: RunDetail) -> str:
    status, reason = record.summary.status, record.summary.reason.rstrip(".")
    if status == "lost":
        return f"lost: {run_text.lost(log='worker.log in its folder')}"
    if status == "stalled":
        return run_text.stalled(record.last_event_time or 0.0)
    if record.preparation is not None and status == "data":
        return f"preparing data: {run_text.progress(record.preparation)}"
    if record.evaluation is not None and status in {"validating", "testing"}:
        return f"{status}, {fmt.count(record.evaluation.done)} of {fmt.count(record.evaluation.total)} images"
    return f"{status}: {reason}" if reason else status


def _progress(record: RunDetail) -> str:
    summary = record.summary
    text = f"epoch {summary.epoch} of {summary.epochs}"
    if record.steps_per_epoch and record.finished is None:
        text += f", batch {fmt.count(record.step)} of {fmt.count(record.steps_per_epoch)}"
    stages = record.stages
    if stages and stages[-1].num_stages > 1:
        text = f"stage {stages[-1].stage + 1} of {stages[-1].num_stages} ({stages[-1].name}), {text}"
    return f"{text}, step {fmt.count(summary.global_step)}"


def _time(record: RunDetail) -> str:
    if record.first_started_time is None:
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.summary.created))
        return f"created {created}; the worker has not spoken yet"
    parts = [f"started {time.strftime('%Y-%m-%d %H:%M', time.localtime(record.first_started_time))}"]
    is_live = run_text.is_live(record.summary.status)
    parts.append(f"{fmt.duration(record.elapsed_s)} {'so far' if is_live else 'in all'}")
    if left := run_text.time_left(record.summary.status, record.eta_s):
        parts.append(f"{left} left")
    if record.summary.seconds_per_epoch is not None:
        parts.append(f"{fmt.duration(record.summary.seconds_per_epoch)} an epoch")
    return ", ".join(parts)


def _start(record: RunDetail) -> str:
    """Return the parts of the time from Enter to the first batch; empty if an older worker did not record them."""
    if record.started is None or not record.started.import_s:
        return ""
    parts = [f"torch {record.started.import_s:.1f} s"]
    if record.data is not None:
        parts.append(f"data {record.data.seconds:.1f} s")
    if record.model is not None:
        parts.append(f"model {record.model.seconds:.1f} s")
    return ", ".join(parts)


def _speed(record: RunDetail) -> str:
    parts = []
    if record.images_per_s is not None:
        parts.append(f"{fmt.count(record.images_per_s)} images/s")
    if record.lr is not None:
        parts.append(f"learning rate {fmt.lr(record.lr)}")
    if record.clipped is not None:
        parts.append(f"gradients of {fmt.percent(record.clipped, 0)} of the batches clipped to {record.clip_norm:g}")
    if record.timing is not None:
        parts.append(f"a step takes {run_text.step_split(record.timing)}")
    return ", ".join(parts)


def _best_val(record: RunDetail) -> str:
    best, report = record.summary, record.report
    return _result(best.best_val_top1, best.best_val_balanced, report.val_top1, report.source, best.best_epoch)


def _result(
    measured: float | None, balanced: float | None, published: float | None, source: str, epoch: int | None = None
) -> str:
    if measured is None and published is None:
        return ""
    text = fmt.accuracy(measured, balanced) if measured is not None else "not measured yet"
    text += f" (epoch {epoch})" if epoch is not None else ""
    if published is None:
        return text
    text += f", {source} {fmt.percent(published)}"
    return text if measured is None else f"{text} ({100 * (measured - published):+.1f} points)"


def _test(record: RunDetail) -> str:
    if record.range_test is not None:
        return ""
    if not record.summary.has_test:
        return "no test part: the run is judged on its validation images"
    summary, report = record.summary, record.report
    return _result(summary.test_top1, summary.test_balanced, report.test_top1, report.source)


def _last_epoch(record: RunDetail) -> str:
    if not record.epochs:
        return ""
    last = record.epochs[-1]
    return (
        f"train loss {fmt.loss(last.train_loss)} and {fmt.percent(last.train_top1)},"
        f" val loss {fmt.loss(last.val_loss)} and {fmt.accuracy(last.val_top1, last.val_balanced)}"
    )


def _network(record: RunDetail) -> str:
    model = record.model
    if model is None:
        return ""
    forward = f", {fmt.flop(model.flops_per_image)} an image forward" if model.flops_per_image is not None else ""
    return f"{run_text.network(model)}{forward}"


def _data(data: ev.DataReady | None) -> str:
    if data is None:
        return ""
    hidden = ", test labels hidden" if data.test_labels_hidden else ""
    classes = f"{data.num_classes} classes, {data.image_size} px"
    return f"{run_text.dataset(data)}, {run_text.counts(data)}, {classes}{hidden}"


def _device(record: RunDetail) -> str:
    return run_text.device_in_full(record.started) if record.started is not None else ""


def _memory(record: RunDetail) -> str:
    peak, device = record.peak_memory, record.device
    parts = []
    if peak.gpu_process_bytes is not None or peak.gpu_bytes is not None:
        of = max((gpu.memory_total_bytes or 0 for gpu in device.gpus), default=0) if device is not None else 0
        used = f"{fmt.memory(peak.gpu_process_bytes)} by the run, " if peak.gpu_process_bytes is not None else ""
        parts.append(f"GPU peak {used}{fmt.memory(peak.gpu_bytes)} in all" + (f", of {fmt.memory(of)}" if of else ""))
    if peak.torch_allocated_bytes is not None:
        parts.append(f"torch peak {fmt.memory(peak.torch_allocated_bytes)}")
    if peak.worker_bytes is not None:
        parts.append(f"worker peak {fmt.memory(peak.worker_bytes)}")
    if peak.machine_bytes is not None and device is not None:
        parts.append(f"machine peak {fmt.memory(peak.machine_bytes)} of {fmt.memory(device.host.memory_total_bytes)}")
    if record.model is not None and record.model.memory_bytes:
        parts.append(f"estimated for a step {fmt.memory(record.model.memory_bytes)}")
    return "; ".join(parts)
