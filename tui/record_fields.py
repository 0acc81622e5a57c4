"""What is said of a run in labelled lines on its printed page. Knows `Record`; lays nothing out."""

import time

from engine.journal import events as ev
from tui import format as fmt
from tui.data.run_detail import Record
from tui.text import run_text


def fields(record: Record) -> list[tuple[str, str]]:
    """Return labels and values in the order of the page; an empty value is one that there is nothing to say of."""
    summary = record.summary
    return [
        ("state", _state(record)),
        ("preset", summary.preset_name),
        ("changed", " ".join(summary.overrides)),
        ("progress", _progress(record)),
        ("time", _time(record)),
        ("start", _start(record)),
        ("speed", _speed(record)),
        ("best val", _result(summary.best_val_top1, record.report.val_top1, summary.best_epoch, record.report.source)),
        ("test", _result(summary.test_top1, record.report.test_top1, None, record.report.source)),
        ("last epoch", _last_epoch(record)),
        ("network", _network(record)),
        ("data", _data(record.data)),
        ("device", _device(record)),
        ("memory", _memory(record)),
        ("seed", str(summary.seed)),
        ("on disk", fmt.memory(summary.num_bytes) if summary.num_bytes is not None else ""),
        ("folder", summary.path),
    ]


def _state(record: Record) -> str:
    status, reason = record.summary.status, record.summary.reason.rstrip(".")
    if status == "lost":
        return "lost: the worker ended without a last word; worker.log in its folder may say why"
    if status == "stalled":
        since = run_text.clock(record.last_event_time or 0.0)
        return f"stalled since {since}: the worker lives, and says nothing; was it frozen, or is the machine busy?"
    if record.preparation is not None and status == "data":
        return f"preparing data: {run_text.progress(record.preparation)}"
    if record.evaluation is not None and status in {"validating", "testing"}:
        return f"{status}, {fmt.count(record.evaluation.done)} of {fmt.count(record.evaluation.total)} images"
    return f"{status}: {reason}" if reason else status


def _progress(record: Record) -> str:
    summary = record.summary
    said = f"epoch {summary.epoch} of {summary.epochs}"
    if record.steps_per_epoch and record.finished is None:
        said += f", batch {fmt.count(record.step)} of {fmt.count(record.steps_per_epoch)}"
    stages = record.stages
    if stages and stages[-1].num_stages > 1:
        said = f"stage {stages[-1].stage + 1} of {stages[-1].num_stages} ({stages[-1].name}), {said}"
    return f"{said}, step {fmt.count(summary.global_step)}"


def _time(record: Record) -> str:
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


def _start(record: Record) -> str:
    """Return what the time from Enter to the first batch was spent on; nothing where an older worker did not say."""
    if record.started is None or not record.started.import_s:
        return ""
    parts = [f"torch {record.started.import_s:.1f} s"]
    if record.data is not None:
        parts.append(f"data {record.data.seconds:.1f} s")
    if record.model is not None:
        parts.append(f"model {record.model.seconds:.1f} s")
    return ", ".join(parts)


def _speed(record: Record) -> str:
    parts = []
    if record.images_per_s is not None:
        parts.append(f"{fmt.count(record.images_per_s)} images/s")
    if record.lr is not None:
        parts.append(f"learning rate {fmt.lr(record.lr)}")
    if record.timing is not None:
        parts.append(f"a step takes {run_text.step_split(record.timing)}")
    return ", ".join(parts)


def _result(measured: float | None, published: float | None, epoch: int | None, source: str) -> str:
    if measured is None and published is None:
        return ""
    said = fmt.percent(measured) if measured is not None else "not measured yet"
    said += f" (epoch {epoch})" if epoch is not None else ""
    if published is None:
        return said
    said += f", {source} {fmt.percent(published)}"
    return said if measured is None else f"{said} ({100 * (measured - published):+.1f} points)"


def _last_epoch(record: Record) -> str:
    if not record.epochs:
        return ""
    last = record.epochs[-1]
    return (
        f"train loss {fmt.loss(last.train_loss)} and {fmt.percent(last.train_top1)},"
        f" val loss {fmt.loss(last.val_loss)} and {fmt.percent(last.val_top1)}"
    )


def _network(record: Record) -> str:
    model = record.model
    if model is None:
        return ""
    said = f"{model.network}, {fmt.count(model.num_parameters)} parameters"
    if model.num_trainable != model.num_parameters:
        said += f" ({fmt.count(model.num_trainable)} trained)"
    if model.flops_per_image is not None:
        said += f", {model.flops_per_image / 1e9:.3g} GFLOP an image forward"
    return said


def _data(data: ev.DataReady | None) -> str:
    if data is None:
        return ""
    counts = f"{fmt.count(data.num_train)} train, {fmt.count(data.num_val)} val, {fmt.count(data.num_test)} test"
    hidden = ", test labels hidden" if data.test_labels_hidden else ""
    return f"{run_text.dataset(data)}, {counts}, {data.num_classes} classes, {data.image_size} px{hidden}"


def _device(record: Record) -> str:
    started = record.started
    if started is None:
        return ""
    threads = f", {started.num_threads} threads" if started.device == "cpu" else ""
    name = started.device
    if started.device_name and started.device_name.lower() != started.device:
        name += f" ({started.device_name})"
    name = f"{run_text.times(started)}{name}"
    hosts = {each.host for each in started.ranks}
    if len(hosts) > 1:
        return f"{name}{threads}, {started.precision}, on {len(hosts)} machines, {started.host} first"
    return f"{name}{threads}, {started.precision}, on {started.host}"


def _memory(record: Record) -> str:
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
