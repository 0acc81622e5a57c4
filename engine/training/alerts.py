"""Alert rules: loss spike, plateau, overfitting, memory, disk, stall. No tensors, no files, no clock.

An alert is given once an occurrence: again only after it was over for a while. Thresholds rather miss something
small than give false alerts, because after two false ones nobody reads the third.
"""

import math
from collections import deque
from statistics import fmean, median

from engine.journal.events import (
    Alerted,
    AnyEvent,
    DeviceSampled,
    EpochCompleted,
    RunStarted,
    StageStarted,
    StepsTrained,
)

SPIKE_HISTORY = 60
"""Reports that the loss is compared with: six seconds to two minutes of training."""
SPIKE_EARLIEST = 40
"""Reports of a stage before a spike can be distinguished from its beginning, when new images or a fresh optimizer
without momentum make the loss jump by themselves."""
SPIKE_REPORTS = 3
"""Reports that must agree: one batch of hard images is none."""
SPIKE_RATIO = 1.5
SPIKE_RISE = 0.5
"""Rise in nats, besides the ratio: a loss of 0.02 that goes to 0.05 is noise."""
SPIKE_SIGMAS = 6.0
"""Rise in standard deviations of the reports so far, which scatter widely if a report is a single small batch."""
SPIKE_OVER = 1.2
"""Ratio to the loss before: at or below this the spike is over."""

PLATEAU_EPOCHS = 10
"""Epochs without a better validation accuracy; the presets' plateau schedules act after 3, so they come first."""
PLATEAU_SHARE = 0.2
"""Fraction of the stage's epochs, if that is more: long runs at a high rate improve in steps far apart."""

GAP_EPOCHS = 5
"""Epochs since the best validation loss: fewer are within its noise from epoch to epoch."""
GAP_RISE = 1.05
"""Validation loss, mean of the last three epochs, over its best one: BaseNet's scatters by 2 %."""
GAP_TOP1 = 0.10
"""Train minus validation accuracy. Augmentation and dropout make training the harder one, so ten points are many."""
GAP_GROWTH = 0.05
"""Growth of that gap since the best validation loss."""

MEMORY_FULL = 0.95
MEMORY_OVER = 0.90
"""Below this the alert may come again: memory varies by a few per cent with every evaluation."""

DISK_FREE_BYTES = 1_000_000_000
"""A large network's three checkpoints are about this much."""
DISK_FREE_SHARE = 0.10
"""Fraction of the disk, if that is less than the above: a small disk may have a gigabyte in all."""

STALL_S = 60.0
STALL_STEPS = 10.0
"""Multiple of the longest step so far: after one long step, the next may take as long."""
STALL_FIRST_S = 300.0
"""For the first steps, in which kernels are chosen, compiled, or loaded from a slow disk."""


class LearningWatch:
    """Watches the curves. Given every event of a run in order, also those of the workers before."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=SPIKE_HISTORY)
        self._latest: deque[float] = deque(maxlen=SPIKE_REPORTS)
        self._num_reports = 0
        self._before_spike: float | None = None
        self._stage_epochs = 0
        self._epochs: list[EpochCompleted] = []
        self._said: set[str] = set()
        self._started: RunStarted | None = None

    def see(self, event: AnyEvent) -> list[Alerted]:
        """Take in an event; return the alerts that follow from it."""
        alert: list[Alerted | None] = []
        if isinstance(event, StepsTrained):
            alert = [self._spike(event)]
        elif isinstance(event, EpochCompleted) and not event.partial:
            if self._epochs and self._epochs[-1].global_step == event.global_step:
                self._epochs.pop()  # done again after a resume
            self._epochs.append(event)
            alert = [self._plateau(), self._gap()]
        elif isinstance(event, StageStarted):
            self._begin_stage(event)
        elif isinstance(event, RunStarted):
            alert = [_elsewhere(self._started, event)]
            self._started = event
            self._forget_losses()
            self._epochs = [epoch for epoch in self._epochs if epoch.global_step <= event.global_step]
        return [each for each in alert if each is not None]

    def _begin_stage(self, event: StageStarted) -> None:
        self._forget_losses()
        self._stage_epochs = event.epochs
        if event.stage != (self._epochs[-1].stage if self._epochs else 0):
            self._epochs.clear()
            self._said.clear()

    def _forget_losses(self) -> None:
        self._losses.clear()
        self._latest.clear()
        self._num_reports, self._before_spike = 0, None

    def _spike(self, event: StepsTrained) -> Alerted | None:
        if not math.isfinite(event.loss):
            return None  # the loop ends the run for it
        self._num_reports += 1
        if len(self._latest) == SPIKE_REPORTS and self._before_spike is None:
            self._losses.append(self._latest[0])
        self._latest.append(event.loss)
        now = fmean(self._latest)
        if self._before_spike is not None:
            if now <= SPIKE_OVER * self._before_spike:
                self._before_spike = None
            return None
        if self._num_reports <= SPIKE_EARLIEST:
            return None
        usual = median(self._losses)
        scatter = 1.4826 * median(abs(loss - usual) for loss in self._losses)
        limit = usual + max((SPIKE_RATIO - 1) * usual, SPIKE_RISE, SPIKE_SIGMAS * scatter)
        if min(self._latest) <= limit:
            return None
        self._before_spike = usual
        return Alerted(
            severity="warning",
            kind="loss-spike",
            text=f"The training loss jumped from {usual:.2f} to {now:.2f} in epoch {event.epoch}.",
            advice="If it does not come down by itself, halve the learning rate.",
        )

    def _plateau(self) -> Alerted | None:
        best = max(self._epochs, key=lambda epoch: epoch.score)
        since = self._epochs[-1].epoch - best.epoch
        needed = max(PLATEAU_EPOCHS, math.ceil(PLATEAU_SHARE * self._stage_epochs))
        if not self._is_new("plateau", since >= needed, over=since == 0):
            return None
        accuracy = "balanced validation accuracy" if best.best_by == "val_balanced" else "validation accuracy"
        return Alerted(
            severity="notice",
            kind="plateau",
            text=f"No better {accuracy} for {since} epochs; "
            f"that of epoch {best.epoch}, {100 * best.score:.1f} %, stands.",
            advice="A smaller learning rate may help; a stop keeps the best weights.",
        )

    def _gap(self) -> Alerted | None:
        best, last = min(self._epochs, key=lambda epoch: epoch.val_loss), self._epochs[-1]
        recent = self._epochs[-3:]
        gap, gap_then = fmean(map(_gap_of, recent)), _gap_of(best)
        rises = fmean(epoch.val_loss for epoch in recent) > GAP_RISE * best.val_loss
        grows = gap > GAP_TOP1 and gap - gap_then > GAP_GROWTH and last.train_loss < best.train_loss
        is_old = last.epoch - best.epoch >= GAP_EPOCHS
        if not self._is_new("overfitting", is_old and rises and grows, over=best is last):
            return None
        return Alerted(
            severity="notice",
            kind="overfitting",
            text=f"Overfitting: the validation loss has risen since epoch {best.epoch} ({best.val_loss:.2f} to "
            f"{last.val_loss:.2f}) while training improves; the gap in accuracy is {100 * gap:.0f} points.",
            advice="More augmentation or weight decay would help; a stop keeps the best weights.",
        )

    def _is_new(self, kind: str, is_so: bool, *, over: bool) -> bool:
        return _is_new(self._said, kind, is_so, over=over)


def _elsewhere(before: RunStarted | None, now: RunStarted) -> Alerted | None:
    """Return an alert if a run is resumed with another device, torch or number of threads than before."""
    if before is None:
        return None
    ours, theirs = _circumstances(now), _circumstances(before)
    differing = [f"{ours[what]} after {theirs[what]}" for what in ours if ours[what] != theirs.get(what, ours[what])]
    if not differing:
        return None
    return Alerted(
        severity="notice",
        kind="elsewhere",
        text=f"The run goes on with {', '.join(differing)}: it will not be the uninterrupted one to the last bit.",
        advice="Sums round differently there. OMP_NUM_THREADS sets the threads.",
    )


def _circumstances(started: RunStarted) -> dict[str, str]:
    """Return the facts on which rounding depends; threads do on the CPU alone."""
    num_devices = max(1, len(started.ranks))
    about = {"devices": f"{num_devices} device{'' if num_devices == 1 else 's'}"}
    about |= {"device": started.device_name or started.device, "torch": f"torch {started.versions.get('torch', '?')}"}
    if started.device == "cpu":
        about["threads"] = f"{started.num_threads} thread{'' if started.num_threads == 1 else 's'}"
    return about


def _gap_of(epoch: EpochCompleted) -> float:
    return epoch.train_top1 - epoch.val_top1


def _is_new(said: set[str], kind: str, is_so: bool, *, over: bool) -> bool:
    """Return true if an alert of `kind` is due now, and remember it until it is `over`."""
    if over:
        said.discard(kind)
    if not is_so or kind in said:
        return False
    said.add(kind)
    return True


class MachineWatch:
    """Watches what training needs of its machine: memory, disk, and that the next batch gets done."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def memory(self, sample: DeviceSampled) -> list[Alerted]:
        """Return the alerts about the memory of the host, and of the GPUs that this run uses."""
        host = sample.host
        alerts = [self._memory("host", "The machine's (or the job's)", host.memory_used_bytes, host.memory_total_bytes)]
        for gpu in sample.gpus:
            if gpu.process_memory_bytes or (len(sample.gpus) == 1 and sample.torch_memory is not None):
                name = f"GPU {gpu.index}'s"
                alerts.append(self._memory(f"gpu{gpu.index}", name, gpu.memory_used_bytes, gpu.memory_total_bytes))
        return [alert for alert in alerts if alert is not None]

    def _memory(self, key: str, whose: str, used: int | None, total: int | None) -> Alerted | None:
        if not used or not total:
            return None
        share = used / total
        if not _is_new(self._said, key, share > MEMORY_FULL, over=share < MEMORY_OVER):
            return None
        return Alerted(
            severity="warning",
            kind="memory",
            text=f"{whose} memory is {100 * share:.0f} % full ({used / 1e9:.1f} of {total / 1e9:.1f} GB).",
            advice="When it is full, the run fails; end what else uses it, or train with a smaller train.batch_size.",
        )

    def disk(self, free_bytes: int, total_bytes: int) -> list[Alerted]:
        """Return the alerts about the disk that holds the run."""
        is_low = free_bytes < min(DISK_FREE_BYTES, DISK_FREE_SHARE * total_bytes)
        over = free_bytes > 2 * min(DISK_FREE_BYTES, DISK_FREE_SHARE * total_bytes)
        if not _is_new(self._said, "disk", is_low, over=over):
            return []
        text = f"The disk with the runs is nearly full: {free_bytes / 1e6:,.0f} MB are left."
        advice = "Make room, or the next checkpoint cannot be written."
        return [Alerted(severity="warning", kind="disk", text=text, advice=advice)]

    def stall(self, running_s: float | None, longest_s: float) -> list[Alerted]:
        """Return the alerts about a step that has taken `running_s` so far (None between steps).

        Args:
            running_s: seconds.
            longest_s: the longest step so far; 0 if there was none.
        """
        patience_s = max(STALL_S, STALL_STEPS * longest_s) if longest_s else STALL_FIRST_S
        is_stalled = running_s is not None and running_s > patience_s
        if not _is_new(self._said, "stall", is_stalled, over=not is_stalled):
            return []
        text = f"No batch was trained for {running_s:.0f} s; the longest so far took {longest_s:.1f} s."
        advice = "See whether the device or the disk with the data hangs (nvidia-smi, dmesg); abort and resume if so."
        return [Alerted(severity="warning", kind="stall", text=text, advice=advice)]
