"""Made-up run directories as long as the report's longest, for measuring how a viewer bears them.

python -m benchmarks.long_run RUN_FOLDER goes on writing to one, ten reports a second, until it is killed.
"""

import math
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.journal import events as ev
from engine.journal.jsonl import EventWriter
from engine.runs.run_dir import RunDir, RunInfo
from presets import catalog

_STEPS_PER_EPOCH = 1407
_EPOCH_S = 60.0


def write_long_run(
    runs_dir: Path,
    name: str,
    *,
    epochs: int,
    num_reports: int,
    is_finished: bool,
    planned: int = 700,
    samples_every: int = 0,
) -> RunDir:
    """Write a run of basenet that was trained for `epochs` and reported `num_reports` times; return its folder.

    Args:
        runs_dir: where its folder goes.
        name: in its id.
        epochs: trained.
        num_reports: of steps, in all epochs together.
        is_finished: with a RunFinished at the end.
        planned: epochs.
        samples_every: so many reports there is one DeviceSampled; 0 for none.
    """
    began = time.time() - epochs * _EPOCH_S
    run = RunDir(runs_dir / f"20260101T000000-{name}-0000")
    run.checkpoints.mkdir(parents=True)
    info = RunInfo(
        id=run.id, preset_name="basenet", preset=catalog.load("basenet"), seed=0, device="cpu", created=began,
        host=socket.gethostname(),
    )  # fmt: skip
    (run.path / "run.json").write_bytes(msgspec.json.encode(info))
    encode = msgspec.json.Encoder().encode
    events = _events(began, epochs, num_reports, planned, samples_every, is_finished=is_finished)
    with run.events.open("wb") as journal:
        for number, event in enumerate(events, start=1):
            journal.write(encode(msgspec.structs.replace(event, seq=number)) + b"\n")
    return run


def _events(
    began: float, epochs: int, num_reports: int, planned: int, samples_every: int, *, is_finished: bool
) -> Iterator[ev.AnyEvent]:
    yield ev.RunStarted(
        pid=1, host=socket.gethostname(), device="cpu", device_name="CPU", precision="fp32", num_threads=2,
        versions={}, time=began,
    )  # fmt: skip
    yield ev.DataReady(
        dataset="cifar100", source="", generated=False, num_train=45_000, num_val=5_000, num_test=10_000,
        num_classes=100, image_size=32, time=began,
    )  # fmt: skip
    yield ev.StageStarted(
        stage=0, num_stages=1, name="", first_epoch=1, epochs=planned, steps_per_epoch=_STEPS_PER_EPOCH,
        total_epochs=planned, time=began,
    )  # fmt: skip
    per_epoch = num_reports // epochs
    best = 0.0
    for epoch in range(1, epochs + 1):
        for report in range(1, per_epoch + 1):
            told = step(epoch, _STEPS_PER_EPOCH * report // per_epoch, began)
            yield told
            if samples_every and report % samples_every == 0:
                yield sample(told.time, began)
        val = 0.78 - 0.6 * math.exp(-epoch / 90)
        yield ev.EpochCompleted(
            epoch=epoch, global_step=epoch * _STEPS_PER_EPOCH, train_loss=_loss(epoch), train_top1=val,
            val_loss=_loss(epoch) + 0.1, val_top1=val, lr=0.1, seconds=_EPOCH_S, is_best=val > best,
            time=began + epoch * _EPOCH_S,
        )  # fmt: skip
        best = max(best, val)
    if is_finished:
        yield ev.RunFinished(
            outcome="completed", reason=f"all {epochs} epochs are trained", epoch=epochs,
            global_step=epochs * _STEPS_PER_EPOCH, best_epoch=epochs, best_val_top1=best, test_top1=best,
            seconds=epochs * _EPOCH_S, time=began + epochs * _EPOCH_S,
        )  # fmt: skip


def sample(at: float, began: float) -> ev.DeviceSampled:
    """A reading of a machine without a GPU."""
    host = ev.HostSample(
        memory_used_bytes=4_000_000_000, memory_total_bytes=8_000_000_000, process_rss_bytes=700_000_000,
        cpu_utilization=0.9,
    )  # fmt: skip
    return ev.DeviceSampled(host=host, gpus_missing="no NVIDIA driver", worker_s=at - began, time=at)


def step(epoch: int, step: int, began: float, at: float | None = None) -> ev.StepsTrained:
    """Return a report of `step` batches of an epoch, with a loss that falls and wavers."""
    done = epoch - 1 + step / _STEPS_PER_EPOCH
    waver = math.sin(step * 12.9898 + epoch) * 0.2
    return ev.StepsTrained(
        epoch=epoch, step=step, global_step=(epoch - 1) * _STEPS_PER_EPOCH + step, num_steps=2, num_images=64,
        loss=_loss(done) + waver, top1=max(0.0, 0.78 - 0.7 * math.exp(-done / 90) + waver / 5), lr=0.1,
        images_per_s=5000.0 + 100 * waver, time=began + done * _EPOCH_S if at is None else at,
    )  # fmt: skip


def _loss(epochs: float) -> float:
    return 0.6 + 4 * math.exp(-epochs / 90)


def _go_on(run: RunDir) -> None:
    """Write as a worker does, a minute an epoch, for ever."""
    state = run.read_state()
    journal = EventWriter(run.events)
    epoch, done = state.epoch + 1, 0
    while True:
        time.sleep(0.1)
        done += 2
        journal.write(step(epoch + done // _STEPS_PER_EPOCH, done % _STEPS_PER_EPOCH + 1, 0.0, time.time()))


if __name__ == "__main__":
    import fcntl
    import os

    folder = RunDir(Path(sys.argv[1]))
    held = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o600)  # as a living worker does
    fcntl.flock(held, fcntl.LOCK_EX)
    _go_on(folder)
