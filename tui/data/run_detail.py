"""Details of a run as plain data: all that the Monitor shows, for `cifartui show`, printed or as JSON.

docs/show.md says what every field means; change both together.
"""

import math
from collections.abc import Sequence

from msgspec import Struct

from engine.journal import events as ev
from engine.journal.commands import AnyCommand
from engine.journal.eta import time_left
from engine.journal.jsonl import command_reader
from engine.journal.peaks import PeakMemory
from engine.journal.series import StepPoint
from engine.journal.state import EpochPoint, RunState, worked_s
from engine.runs.delete import size_bytes
from engine.runs.newer_info import read_shown
from engine.runs.run_dir import RunDir, RunInfo
from presets.schema import Report
from tui.data.range_test import Verdict, verdict_with_command
from tui.data.reference import report_of
from tui.data.summary import Summary, summary_of
from tui.text import run_text

MOST_STEPS = 2000


class CommandRecord(Struct, frozen=True, kw_only=True):
    """A command to the run, with the worker's answer if there is one. Times are Unix seconds."""

    id: str
    command: str
    time: float | None
    answer: ev.CommandApplied | None


class Checkpoint(Struct, frozen=True, kw_only=True):
    """A checkpoint that was written; `is_there` if its file still exists."""

    kind: str
    path: str
    epoch: int
    global_step: int
    num_bytes: int
    val_top1: float | None
    val_balanced: float | None
    time: float
    is_there: bool


class LogLine(Struct, frozen=True, kw_only=True):
    """A line of the log."""

    time: float
    text: str


class RunDetail(Struct, frozen=True, kw_only=True):
    """Accuracies are fractions, times Unix seconds, durations seconds, memory bytes."""

    summary: Summary
    report: Report
    now: float
    started: ev.RunStarted | None
    first_started_time: float | None
    last_event_time: float | None
    elapsed_s: float | None
    eta_s: float | None
    step: int
    steps_per_epoch: int | None
    lr: float | None
    clip_norm: float
    """Norm that gradients are scaled down to; 0 where none is."""
    clipped: float | None
    """Fraction of all batches whose gradients were clipped; None where none is."""
    images_per_s: float | None
    data: ev.DataReady | None
    model: ev.ModelBuilt | None
    stages: list[ev.StageStarted]
    finished: ev.RunFinished | None
    preparation: ev.DataProgressed | None
    evaluation: ev.EvaluationProgressed | None
    timing: ev.StepTiming | None
    epochs: list[EpochPoint]
    num_steps: int
    """Number of reports of steps in the journal; `steps` may hold fewer."""
    steps: list[StepPoint]
    validations: list[ev.Validated]
    marks: list[ev.CommandApplied]
    asked: list[CommandRecord]
    alerts: list[ev.Alerted]
    device: ev.DeviceSampled | None
    peak_memory: PeakMemory
    checkpoints: list[Checkpoint]
    log: list[LogLine]
    range_test: Verdict | None
    """Of a run that is one: its curve and what it suggests."""
    start_command: str
    """The command that starts it anew."""


def run_detail(run: RunDir, now: float, most_steps: int | None = MOST_STEPS) -> RunDetail:
    """Read a run; `most_steps` None keeps every step.

    Raises:
        CifartuiError: run.json cannot be read.
    """
    return detail_and_state(run, now, most_steps)[0]


def detail_and_state(run: RunDir, now: float, most_steps: int | None = MOST_STEPS) -> tuple[RunDetail, RunState]:
    """Read a run once for both: the detail as `run_detail` does, and the state, which has the steps to draw.

    Raises:
        CifartuiError: run.json cannot be read.
    """
    info, state = read_shown(run), run.read_state(every_step=most_steps is None)
    return record_of(run, info, state, command_reader(run.commands).read(), now, most_steps), state


def record_of(
    run: RunDir,
    info: RunInfo,
    state: RunState,
    commands: Sequence[AnyCommand],
    now: float,
    most_steps: int | None,
) -> RunDetail:
    """Return the record of a run whose events were folded before."""
    summary = summary_of(run, info, state, now, size_bytes(run.path))
    until = now if run_text.is_live(summary.status) else state.last_time
    began = state.first_started_time
    return RunDetail(
        summary=summary,
        report=report_of(info),
        now=now,
        started=state.started,
        first_started_time=began,
        last_event_time=state.last_time,
        elapsed_s=worked_s(state, until),
        eta_s=time_left(state) if run_text.is_live(summary.status) else None,
        step=state.step,
        steps_per_epoch=state.stage.steps_per_epoch if state.stage else None,
        lr=state.lr,
        clip_norm=info.preset.train.clip_norm,
        clipped=state.steps.share_clipped() if info.preset.train.clip_norm else None,
        images_per_s=state.images_per_s,
        data=state.data,
        model=state.model,
        stages=state.stages,
        finished=state.finished,
        preparation=state.data_progress,
        evaluation=state.evaluation,
        timing=state.timing,
        epochs=state.epochs,
        num_steps=state.steps.num_reports,
        steps=list(state.steps) if most_steps is None else thinned(state.steps, most_steps),
        validations=state.validations,
        marks=state.marks,
        asked=_command_records(state, commands),
        alerts=state.alerts,
        device=state.device,
        peak_memory=state.peak_memory,
        checkpoints=[_checkpoint(run, saved) for saved in state.checkpoints.values()],
        start_command=run_text.start_command(info),
        range_test=verdict_with_command(info, state),
        log=[LogLine(time=event.time, text=run_text.event(event)[0]) for event in state.log],
    )


def thinned(points: Sequence[StepPoint], most: int) -> list[StepPoint]:
    """Return at most so many points, the first and the last among them, and every bucket's extremes of each curve."""
    if len(points) <= most:
        return list(points)
    num_buckets = max(1, (most - 2) // 6)
    kept = {0, len(points) - 1}
    for bucket in range(num_buckets):
        start, end = bucket * len(points) // num_buckets, (bucket + 1) * len(points) // num_buckets
        held = points[start:end]
        norms = [math.nan if point.grad_norm is None else point.grad_norm for point in held]
        for values in ([point.loss for point in held], [point.top1 for point in held], norms):
            finite = [index for index, value in enumerate(values) if math.isfinite(value)]
            if finite:
                kept |= {start + min(finite, key=values.__getitem__), start + max(finite, key=values.__getitem__)}
    return [points[index] for index in sorted(kept)]


def _command_records(state: RunState, commands: Sequence[AnyCommand]) -> list[CommandRecord]:
    """Return every command in order, also those whose file is gone but whose answer is in the journal."""
    written = {command.id for command in commands}
    records = [
        CommandRecord(
            id=each.id, command=type(each).__name__, time=each.time or None, answer=state.commands.get(each.id)
        )
        for each in commands
    ]
    records += [
        CommandRecord(id=answer.command_id, command=answer.command, time=None, answer=answer)
        for answer in state.commands.values()
        if answer.command_id not in written
    ]
    return sorted(records, key=lambda each: each.time or (each.answer.time if each.answer else 0.0))


def _checkpoint(run: RunDir, saved: ev.CheckpointSaved) -> Checkpoint:
    return Checkpoint(
        kind=saved.kind,
        path=saved.path,
        epoch=saved.epoch,
        global_step=saved.global_step,
        num_bytes=saved.num_bytes,
        val_top1=saved.val_top1,
        val_balanced=saved.val_balanced,
        time=saved.time,
        is_there=(run.checkpoints / f"{saved.kind}.pt").is_file(),
    )
