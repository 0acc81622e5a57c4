"""Runs and events in words, the same on every screen. No widgets, no files."""

import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.journal import events as ev
from engine.journal.state import RunState
from engine.runs.run_dir import Status
from presets.problems import printable
from presets.safe_text import visible_in_a_row
from tui import format as fmt

if TYPE_CHECKING:
    from engine.runs.run_dir import RunInfo
    from tui.theme import Tone

_TONES: "dict[Status, Tone]" = {
    "starting": "calm", "data": "busy", "model": "busy", "training": "good", "validating": "good",
    "testing": "good", "paused": "warn", "stalled": "warn", "lost": "bad", "completed": "good",
    "stopped": "warn", "aborted": "warn", "failed": "bad",
}  # fmt: skip
_TRAINS = ("cifartui", "torch", "torchvision")
"""Libraries that every run is trained with."""
LOADING = "loading PyTorch takes a few seconds"
STARTED = f"a worker was started; {LOADING}"
_PHASES = {
    "download": "downloading", "verify": "checking", "unpack": "unpacking", "decode": "reading images of",
    "generate": "generating", "features": "computing features of",
}  # fmt: skip


def tone(status: Status) -> "Tone":
    """Return how a status is to be taken."""
    return _TONES[status]


def is_live(status: Status) -> bool:
    """Return whether a worker is there to obey."""
    return status not in {"lost", "completed", "stopped", "aborted", "failed"}


def newer(keys: Sequence[str]) -> str:
    """Return a note that a newer version made a run, with its settings that are not known here; empty without any."""
    return f"  made by a newer version: {', '.join(map(printable, keys))} not known here" if keys else ""


def status(status: Status, state: RunState) -> str:
    """Return a run's status as a heading."""
    if status == "data":
        return "preparing data"
    if status == "model":
        return "building the model"
    if status in {"training", "validating", "testing"} and state.is_stopping:
        return f"stopping, {status}"
    return {"stalled": "no sign of life", "lost": "worker lost"}.get(status, status)


def progress(event: ev.DataProgressed) -> str:
    """Return "downloading CIFAR-100  41 % of 169.0 MB"."""
    doing = f"{_PHASES[event.phase]} {event.what}"
    measure = fmt.memory if event.unit == "B" else fmt.count
    unit = "" if event.unit == "B" else " images"
    if event.total <= 0:
        return f"{doing}  {measure(event.done)}{unit}"
    return f"{doing}  {100 * event.done // event.total} % of {measure(event.total)}{unit}"


def dataset(data: ev.DataReady) -> str:
    """Return the data set's name, marked where it was generated."""
    return generated(data.dataset) if data.generated else data.dataset


def generated(name: str) -> str:
    """Return the name of a data set, marked as generated."""
    return f"{name} (generated data)"


def counts(data: ev.DataReady) -> str:
    """Return "45,000 train, 5,000 val, 10,000 test", or "245 train, 153 val, no test part"."""
    test = "no test part" if has_no_test(data) else f"{fmt.count(data.num_test)} test"
    return f"{fmt.count(data.num_train)} train, {fmt.count(data.num_val)} val, {test}"


def network(model: ev.ModelBuilt) -> str:
    """Return "resnet50, 23,917,832 parameters (409,800 trained)"."""
    trained = fmt.trained(model.num_trainable, model.num_parameters)
    return f"{model.network}, {fmt.count(model.num_parameters)} parameters{trained}"


def length(stage: ev.StageStarted) -> str:
    """Return "15 epochs of 1,407 batches"."""
    return f"{fmt.plural(stage.epochs, 'epoch')} of {fmt.batches(stage.steps_per_epoch)}"


def warning(alert: ev.Alerted) -> str:
    """Return the warning, and the advice after it if there is one."""
    return f"{alert.text} {alert.advice}".strip()


def remedy(state: RunState) -> tuple[str, ...]:
    """Return what a resume is advised to change against what the run failed of, as `key.path=value`."""
    since = state.started.time if state.started else 0.0
    errors = [alert for alert in state.alerts if alert.severity == "error" and alert.time >= since]
    return errors[-1].changes if errors and state.phase == "failed" else ()


def lost(where: str = "", log: str = "") -> str:
    """Return a clause about a run whose worker is gone.

    Args:
        where: place in training; see `place`.
        log: name of worker.log; empty if its last lines are shown beside the clause.
    """
    why = f" (killed, or out of memory?); {log} may say why" if log else ""
    return f"the worker ended{where} without a last word{why}"


def stalled(since_s: float, where: str = "") -> str:
    """Return a clause and a question about a run whose worker lives and writes nothing; `since_s` is Unix seconds."""
    return (
        f"stalled since {clock(since_s)}{where}: the worker lives, and says nothing. "
        "Was it frozen (kill -CONT wakes it), or is the machine or its disk busy?"
    )


def way_on(info: "RunInfo", state: RunState) -> str:
    """Return what a run without a worker can be gone on with, and the command: a resume, or a start if it cannot."""
    from presets.range_test import is_range_test_name

    if state.checkpoints and not is_range_test_name(info.preset_name):
        return f"resume from the last checkpoint: cifartui resume {info.id}"
    return f"start it anew: {start_command(info)}"


def no_worker(info: "RunInfo", state: RunState) -> str:
    """Return in a sentence that a run has no worker to be told anything, and the way on."""
    how = state.finished.outcome if state.finished else "lost"
    return f"Run {info.id} has no worker ({how}); to {way_on(info, state)}"


def start_command(info: "RunInfo") -> str:
    """Return the command that starts a run anew, with all that it was started with."""
    from engine.runs.run_options import words_to_start

    return visible_in_a_row(shlex.join(words_to_start(info)))


def place(state: RunState) -> str:
    """Return a run's place in training, to be appended to what happened there."""
    return f" in epoch {state.epoch}, at step {fmt.count(state.global_step)}" if state.epoch else " before training"


def outcome(status: Status, state: RunState, resume_key: str, again_key: str) -> str:
    """Return one sentence about a run without a worker, or one that has gone silent: what, why, what to press.

    Args:
        status: of the run.
        state: of the run.
        resume_key: key that resumes it; empty if it cannot be resumed, as a range test.
        again_key: key that starts it anew, for a run without a checkpoint.
    """
    reason = state.finished.reason if state.finished else ""
    where = place(state)
    if status == "stalled":
        return sentence(stalled(state.last_time or 0.0, where))
    if not state.checkpoints:
        again = f" Press {again_key} to start it anew: there is no checkpoint to go on from."
    elif status == "lost":
        again = f" Press {resume_key} to resume from the last checkpoint."
    else:
        again = f" Press {resume_key} to resume{''.join(f' with {change}' for change in remedy(state))}."
    if not resume_key or status == "completed":
        again = ""
    if status == "lost":
        return f"{sentence(lost(where))}.{again}"
    said = {
        "completed": "Completed: every epoch was trained",
        "stopped": f"Stopped{where}",
        "aborted": f"Aborted{where}, without a last validation",
        "failed": f"Failed{where}",
    }[status]
    if reason and status == "completed" and state.best is None:  # nothing was validated: a range test
        return f"Completed: {reason.rstrip('.')}."
    return f"{said}: {reason.rstrip('.')}.{again}" if reason and status != "completed" else f"{said}.{again}"


def to_look_into(run_id: str, images_key: str) -> str:
    """Return what a run that has best weights can be looked into with: a key, and the command for a page."""
    command = f"cifartui report {visible_in_a_row(fmt.short_id(run_id))}"
    return f"Press {images_key} for its images and scores; {command} for a page"


def has_no_test(data: ev.DataReady | None) -> bool:
    """Return true if it is known that the data has no test part, so that only validation images judge the run."""
    return data is not None and not data.num_test


def sentence(clause: str) -> str:
    """Return the clause with a capital letter, the rest as it is."""
    return clause[:1].upper() + clause[1:]


def result(state: RunState) -> str:
    """Return how good a run is: its best validation accuracy, and the test's, unless there is no test part."""
    parts = [f"best val {fmt.accuracy(state.best.val_top1, state.best.val_balanced)}"] if state.best is not None else []
    if state.test is not None:
        test = fmt.accuracy(state.test.test_top1, state.test.test_balanced)
        parts.append(f"test {test}{_tested(state.test)}")
    elif parts and has_no_test(state.data):
        parts.append("no test part")
    return ", ".join(parts)


def _tested(finished: ev.RunFinished) -> str:
    return " (last weights)" if finished.tested == "last" else ""


def time_left(status: Status, eta_s: float | None) -> str:
    """Return the time to the end of training; nothing where none is trained now, or it cannot be told."""
    is_told = eta_s is not None and is_live(status) and status not in {"paused", "stalled"}
    return fmt.duration(eta_s) if is_told else ""


def spent(flops: ev.Flops | None) -> str:
    """Return "1.24 PFLOP: training 0.92 PFLOP, optimizer 0.25 PFLOP, evaluation 70 TFLOP"; empty if not counted."""
    if flops is None:
        return ""
    shares = (("training", flops.train), ("optimizer", flops.optimizer), ("evaluation", flops.evaluation))
    parts = [f"{name} {fmt.pflop(share / 1e15)}" for name, share in shares if share]
    return f"{fmt.pflop(flops.pflop)}{': ' if parts else ''}{', '.join(parts)}"


def step_split(timing: ev.StepTiming) -> str:
    """Return "2.7 ms: data 12 %, network 85 %, rest 3 %"."""
    whole = timing.data_s + timing.compute_s + timing.report_s
    parts = (("data", timing.data_s), ("network", timing.compute_s), ("rest", timing.report_s))
    shares = ", ".join(f"{name} {fmt.percent(seconds / whole, 0)}" for name, seconds in parts if whole > 0)
    return f"{1000 * whole:.1f} ms: {shares}" if shares else fmt.MISSING


def clock(unix_s: float) -> str:
    """Return the local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(unix_s))


def device(started: ev.RunStarted) -> str:
    """Return "2 × cuda:0 (NVIDIA H100)": number of devices, the first as torch names it, its name unless the same."""
    name = started.device_name
    return f"{_times(started)}{started.device}{f' ({name})' if name and name.lower() != started.device else ''}"


def device_in_short(started: ev.RunStarted) -> str:
    """Return device and precision for the Monitor's header: "CPU, 8 threads, fp32"."""
    is_cpu = started.device == "cpu"
    text = f"{_times(started)}CPU, {started.num_threads} threads" if is_cpu else device(started)
    return f"{text}, {started.precision}"


def device_in_full(started: ev.RunStarted) -> str:
    """Return device, threads, precision and machine: "cpu, 8 threads, fp32, on gpu-box"."""
    return f"{device_alone(started)}, on {machine(started)}"


def device_alone(started: ev.RunStarted) -> str:
    """Return device, threads and precision: "cpu, 8 threads, fp32"."""
    threads = f", {started.num_threads} threads" if started.device == "cpu" else ""
    return f"{device(started)}{threads}, {started.precision}"


def device_type(started: ev.RunStarted) -> str:
    """Return the device's name and the precision, as `runs --json` has them: "2 × NVIDIA H100, bf16"."""
    return f"{_times(started)}{started.device_name}, {started.precision}"


def machine(started: ev.RunStarted) -> str:
    """Return the host; if there are several, their number and the first one."""
    hosts = {each.host for each in started.ranks}
    return f"{len(hosts)} machines, {started.host} first" if len(hosts) > 1 else started.host


def versions(started: ev.RunStarted) -> str:
    """Return the versions that the run's last worker recorded, and what a version before left out."""
    named = [f"{name} {version}" for name, version in started.versions.items()]
    if not named:
        return "not recorded"
    missing = [name for name in _TRAINS if name not in started.versions]
    return ", ".join((*named, *([f"of {' and '.join(missing)} not recorded"] if missing else [])))


def _times(started: ev.RunStarted) -> str:
    return f"{len(started.ranks)} × " if started.ranks else ""


def event(event: ev.AnyEvent) -> "tuple[str, Tone]":
    """Return an event as a sentence, empty for a frequent one, and how it is to be taken."""
    match event:
        case ev.RunStarted():
            verb = f"worker resumed at step {fmt.count(event.global_step)}" if event.global_step else "worker started"
            changed = f", with {', '.join(event.changes)}" if event.changes else ""
            return f"{verb} on {machine(event)}, {device(event)}, {event.precision}{changed}", "calm"
        case ev.DataReady():
            return f"data ready: {dataset(event)}, {counts(event)}{'' if has_no_test(event) else ' images'}", "calm"
        case ev.ModelBuilt():
            return f"model built: {network(event)}", "calm"
        case ev.StageStarted():
            name = event.name or "training"
            stage = f"stage {event.stage + 1} of {event.num_stages}, {name}" if event.num_stages > 1 else name
            return f"{stage}: {length(event)}", "calm"
        case ev.EpochCompleted():
            best = ", the best so far" if event.is_best else ""
            part = " (part of it)" if event.partial else ""
            val = fmt.accuracy(event.val_top1, event.val_balanced)
            train = f"train {fmt.percent(event.train_top1)}, {fmt.duration(event.seconds)}"
            return f"epoch {event.epoch}{part}: val {val}, {train}{best}", "calm"
        case ev.CheckpointSaved():
            return f"saved {event.path} ({fmt.memory(event.num_bytes)})", "calm"
        case ev.CommandApplied():
            verb = "" if event.accepted else " refused"
            return f"{event.effect or event.command}{verb}, at step {fmt.count(event.global_step)}", (
                "busy" if event.accepted else "warn"
            )
        case ev.StepsTrained() | ev.DeviceSampled() | ev.EvaluationProgressed() | ev.DataProgressed():
            return "", "calm"
        case _:
            return _rarer_event(event)


def _rarer_event(
    event: ev.Alerted | ev.BestMeasured | ev.Validated | ev.Paused | ev.Continued | ev.RunFinished,
) -> "tuple[str, Tone]":
    match event:
        case ev.Alerted():
            tones: dict[str, Tone] = {"notice": "calm", "warning": "warn", "error": "bad"}
            return warning(event), tones[event.severity]
        case ev.BestMeasured():
            return (
                f"best weights, of epoch {event.epoch}, on the changed data: val {fmt.percent(event.val_top1)}",
                "good",
            )
        case ev.Validated():
            at = f"validated in epoch {event.epoch}, at step {fmt.count(event.global_step)}"
            return f"{at}: val {fmt.accuracy(event.top1, event.balanced)}, loss {fmt.loss(event.loss)}", "good"
        case ev.Paused():
            return f"paused at step {fmt.count(event.global_step)}", "warn"
        case ev.Continued():
            return "training goes on", "calm"
        case ev.RunFinished():
            test = fmt.accuracy(event.test_top1, event.test_balanced)
            test = f", test {test}{_tested(event)}" if event.test_top1 is not None else ""
            best = fmt.accuracy(event.best_val_top1, event.best_val_balanced)
            best = f": best val {best}" if event.best_val_top1 is not None else ""
            is_told = event.outcome != "completed" or event.best_val_top1 is None
            why = f" ({event.reason})" if event.reason and is_told else ""
            return f"{event.outcome}{why}{best}{test}", _TONES[event.outcome]
