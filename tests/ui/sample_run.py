"""Run directories made up for tests and pictures: written as a worker writes them, at times of our choosing."""

import fcntl
import math
import os
import random
import socket
import time
from pathlib import Path
from types import TracebackType

import msgspec
from typing_extensions import Self

from engine.journal import events as ev
from engine.journal import jsonl
from engine.runs.run_dir import RunDir, RunInfo
from engine.runs.worker_mark import WorkerMark
from presets import schema
from presets.plan import plan

NOW = 1_790_000_000.0
"""When the pictures are taken: Unix seconds."""
HOST = "gpu-box"


def preset(title: str = "BaseNet", epochs: int = 15, **changes: object) -> schema.Preset:
    """Return a small preset with the report's result."""
    return schema.Preset(
        **{
            "title": title,
            "summary": "Two 5×5 convolutions and two linear layers: the report's baseline",
            "group": "report",
            "report": schema.Report(val_top1=0.24, test_top1=0.238),
            "data": schema.Data(dataset="cifar100"),
            "model": schema.BaseNet(),
            "train": schema.Train(epochs=epochs, batch_size=32, cuda_graphs=False),
            "optimizer": schema.Sgd(lr=0.005, momentum=0.9),
            **changes,
        }  # type: ignore[arg-type]
    )


class SampleRun:
    """A run directory and the pretended worker in it. `now` moves only as told."""

    def __init__(self, runs_dir: Path, name: str = "basenet-a3f2", *, start: float = NOW - 600, **info: object) -> None:
        self.folder = RunDir(runs_dir / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(start))}-{name}")
        self.folder.checkpoints.mkdir(parents=True)
        fields = {"preset_name": "basenet", "preset": preset(), "seed": 0, "device": "auto", **info}
        record = RunInfo(id=self.folder.id, created=start, host=HOST, **fields)  # type: ignore[arg-type]
        (self.folder.path / "run.json").write_bytes(msgspec.json.encode(record))
        self.info = record
        self.now = start
        self.global_step = 0
        self.better = 0.0
        """Added to every validation accuracy."""
        self.epoch_flops: float | None = None
        """FLOPs spent in each epoch; None as in older journals."""
        self._writer = jsonl.EventWriter(self.folder.events)
        self._lock_fd: int | None = None
        self._random = random.Random(7)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.die()
        self._writer.close()

    def live(self) -> Self:
        """Take the lock, as a worker on this host does."""
        self._lock_fd = os.open(self.folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        os.pwrite(self._lock_fd, msgspec.json.encode(WorkerMark(pid=os.getpid(), host=socket.gethostname())), 0)
        return self

    def die(self) -> None:
        """Let the lock go, as the kernel does when a worker ends."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def write(self, event: ev.AnyEvent, after_s: float = 0.0) -> None:
        """Write an event `after_s` seconds after the one before."""
        self.now += after_s
        real, time.time = time.time, lambda: self.now  # a mock takes ten times as long as the event
        try:
            self._writer.write(event)
        finally:
            time.time = real

    def begin(
        self,
        *,
        device: str = "cpu",
        device_name: str = "AMD EPYC 7763",
        changes: tuple[str, ...] = (),
        versions: dict[str, str] | None = None,
    ) -> Self:
        """The worker starts."""
        self.write(
            ev.RunStarted(
                pid=4711,
                host=HOST,
                device=device,
                device_name=device_name,
                num_threads=8,
                versions=versions or {},
                precision="fp32" if device == "cpu" else "bf16",
                global_step=self.global_step,
                changes=changes,
            )
        )
        return self

    def prepare(self, *, generated: bool = False, steps_per_epoch: int = 1407, num_test: int = 10_000) -> Self:
        """Data, network and the plan."""
        name = "shapes100" if generated else "CIFAR-100"
        data = ev.DataReady(
            dataset=name, source="archive", generated=generated, num_train=45_000, num_val=5_000, num_test=num_test,
            num_classes=100, image_size=32, seconds=2.0,
        )  # fmt: skip
        self.write(data, 3)
        self.write(ev.ModelBuilt(network="basenet", layers=(), num_parameters=28_022, num_trainable=28_022), 1)
        return self.begin_stage(0, 1, steps_per_epoch=steps_per_epoch)

    def begin_stage(self, number: int, first_epoch: int, *, steps_per_epoch: int = 1407) -> Self:
        """A stage of the preset's plan begins."""
        stages = plan(self.info.preset)
        self.write(
            ev.StageStarted(
                stage=number, num_stages=len(stages), name=stages[number].name, first_epoch=first_epoch,
                epochs=stages[number].epochs, steps_per_epoch=steps_per_epoch,
                total_epochs=first_epoch - 1 + sum(stage.epochs for stage in stages[number:]),
            )
        )  # fmt: skip
        return self

    def loss_at(self, epoch: float) -> float:
        """A training loss that falls as real ones do, with noise."""
        return 2.75 + 1.6 * math.exp(-epoch / 3.2) + self._random.gauss(0, 0.05)

    def train_epoch(self, epoch: int, *, until: float = 1.0, gpu: bool = False, seconds: float = 40.0) -> Self:
        """Train an epoch, or its first part, with 40 reports and telemetry."""
        steps, reports = 1407, 40
        for report in range(1, round(reports * until) + 1):
            step = steps * report // reports
            loss = self.loss_at(epoch - 1 + report / reports)
            self.global_step = (epoch - 1) * steps + step
            self.write(
                ev.StepsTrained(
                    epoch=epoch, step=step, global_step=self.global_step, num_steps=35, num_images=1120,
                    loss=loss, top1=max(0.01, 0.62 - 0.135 * loss), lr=0.005, images_per_s=1280.0,
                    grad_norm=0.4 * loss,
                ),
                seconds / reports,
            )  # fmt: skip
            if report % 2 == 0:
                self.telemetry(gpu=gpu)
        if until >= 1.0:
            self.complete_epoch(epoch, seconds)
        return self

    def complete_epoch(self, epoch: int, seconds: float = 40.0) -> None:
        """Validate, and keep the best."""
        val_top1 = 0.19 + 0.06 * (1 - math.exp(-epoch / 4)) + (0.003 if epoch % 3 == 0 else 0.0) + self.better
        self.write(
            ev.EpochCompleted(
                epoch=epoch, global_step=self.global_step, train_loss=self.loss_at(epoch),
                train_top1=0.02 + val_top1, val_loss=2.9 + 1.2 * math.exp(-epoch / 3), val_top1=val_top1, lr=0.005,
                seconds=seconds, is_best=epoch % 3 == 0,
                flops=None if self.epoch_flops is None else ev.Flops(train=epoch * self.epoch_flops),
            )
        )  # fmt: skip
        if epoch % 3 == 0:
            self.write(
                ev.CheckpointSaved(
                    kind="best", path="checkpoints/best.pt", epoch=epoch, global_step=self.global_step,
                    num_bytes=238_000, seconds=0.1, val_top1=val_top1,
                )
            )  # fmt: skip

    def save(self, epoch: int = 1) -> Self:
        """A checkpoint to go on from is written."""
        saved = ev.CheckpointSaved(
            kind="last", path="checkpoints/last.pt", epoch=epoch, global_step=self.global_step, num_bytes=476_000,
            seconds=0.1,
        )  # fmt: skip
        self.write(saved)
        return self

    def telemetry(self, *, gpu: bool = False) -> None:
        """One reading: of the machine, and of a GPU where asked for."""
        wave = math.sin(self.now / 40)
        host = ev.HostSample(
            memory_used_bytes=int(12.4e9 + 4e8 * wave), memory_total_bytes=64_000_000_000,
            process_rss_bytes=int(1.31e9 + 5e7 * wave), cpu_utilization=0.93,
        )  # fmt: skip
        sample = ev.GpuSample(
            index=0, name="NVIDIA A100-SXM4-40GB", memory_used_bytes=int(36.3e9 + 2e8 * wave),
            memory_total_bytes=42_949_672_960, process_memory_bytes=int(35.6e9), utilization=0.97, temperature_c=61.0,
            power_w=312.0,
        )  # fmt: skip
        self.write(
            ev.DeviceSampled(
                host=host,
                gpus=(sample,) if gpu else (),
                gpus_missing="" if gpu else "no NVIDIA driver on this machine",
                torch_memory=ev.TorchMemory(
                    allocated_bytes=int(31e9 + 4e8 * wave), reserved_bytes=int(34.2e9), peak_bytes=int(33e9)
                )
                if gpu
                else None,
            )
        )

    def finish(self, outcome: ev.Outcome = "completed", reason: str = "", test_top1: float | None = 0.241) -> Self:
        """The worker's last word, and its end."""
        self.write(
            ev.RunFinished(
                outcome=outcome, reason=reason, epoch=15, global_step=self.global_step, best_epoch=15,
                best_val_top1=0.2502, test_top1=test_top1, test_loss=3.0, seconds=612.0,
            ),
            1,
        )  # fmt: skip
        self.die()
        return self


STAGES = (
    schema.Stage(name="random crop", epochs=3, augment=(schema.RandomCrop(padding=4),)),
    schema.Stage(name="horizontal flip", epochs=4, augment=(schema.HorizontalFlip(),), start_from="best"),
    schema.Stage(name="original images", epochs=3, start_from="best"),
)


def staged(runs_dir: Path) -> SampleRun:
    """A live run in the sixth of ten epochs, the third of its second stage."""
    train = schema.Train(batch_size=32, cuda_graphs=False)
    run = SampleRun(runs_dir, "staged-b7c1", start=NOW - 230, preset=preset("Three stages", train=train, stages=STAGES))
    run.live().begin().prepare()
    for epoch in range(1, 6):
        if epoch == 4:
            run.begin_stage(1, 4)
        run.train_epoch(epoch)
    return run.train_epoch(6, until=0.5)


def training(runs_dir: Path, *, gpu: bool = False, epochs_done: int = 8, name: str = "basenet-a3f2") -> SampleRun:
    """A live run in the middle of an epoch, its last event half a second old at NOW."""
    run = SampleRun(runs_dir, name, start=NOW - 4.5 - 40 * epochs_done - 20)
    device = ("cuda:0", "NVIDIA A100-SXM4-40GB") if gpu else ("cpu", "AMD EPYC 7763")
    run.live().begin(device=device[0], device_name=device[1]).prepare()
    for epoch in range(1, epochs_done + 1):
        run.train_epoch(epoch, gpu=gpu)
    return run.train_epoch(epochs_done + 1, until=0.5, gpu=gpu)
