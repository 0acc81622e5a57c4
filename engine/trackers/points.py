"""Numbers of a run by tag, each once, however often its journal tells it. No torch."""

from typing import NamedTuple

import msgspec
from msgspec import Struct

from engine.journal.events import (
    AnyEvent,
    DeviceSampled,
    EpochCompleted,
    Outcome,
    RunFinished,
    StepsTrained,
    Validated,
)
from engine.runs.run_dir import RunInfo

_DEVICES_EVERY_S = 10.0
"""Readings of the devices come every two seconds, which would be most of what a long run logs."""


class Point(NamedTuple):
    """Numbers of one moment of a run."""

    step: int
    """Batches trained so far."""
    time: float
    """Unix seconds."""
    values: dict[str, float]
    """By tag. Accuracies are fractions."""


class Logged(Struct, kw_only=True):
    """Progress of logging a run. What a resumed worker does again lies at steps that are logged already."""

    offset: int = 0
    """Byte of the journal."""
    step: int = 0
    """Of the last report of training; those of other kinds follow."""
    epoch_step: int = 0
    validated_step: int = 0
    finished_step: int = 0
    devices_time: float = 0.0
    has_pictures: bool = False
    outcome: Outcome | None = None
    """Of the run; None if it had not ended by `offset`."""

    @property
    def last_step(self) -> int:
        """The last step of any point."""
        return max(self.step, self.epoch_step, self.validated_step, self.finished_step)


def point_of(event: AnyEvent, logged: Logged) -> Point | None:
    """Return what is to be logged of an event, and count it as logged; None if nothing is, or it was before."""
    if isinstance(event, StepsTrained) and event.global_step > logged.step:
        logged.step = event.global_step
        values = {"train/loss": event.loss, "train/top1": event.top1, "lr": event.lr}
        values["images_per_s"] = event.images_per_s
        if event.grad_norm is not None:
            values |= {"train/grad_norm": event.grad_norm, "train/clipped": event.clipped}
        if event.timing is not None:
            values |= {f"step/{name}": seconds for name, seconds in msgspec.structs.asdict(event.timing).items()}
        return Point(event.global_step, event.time, values)
    if isinstance(event, EpochCompleted) and event.global_step > logged.epoch_step:
        logged.epoch_step = event.global_step
        values = {"epoch": event.epoch, "val/loss": event.val_loss, "val/top1": event.val_top1}
        values |= {} if event.val_balanced is None else {"val/balanced": event.val_balanced}
        values |= {} if event.flops is None else {"pflop": event.flops.pflop}
        return Point(event.global_step, event.time, values)
    if isinstance(event, Validated) and event.global_step > logged.validated_step:
        logged.validated_step = event.global_step
        values = {"val_within_epoch/loss": event.loss, "val_within_epoch/top1": event.top1}
        return Point(event.global_step, event.time, values)
    if isinstance(event, RunFinished) and event.global_step > logged.finished_step:
        logged.finished_step = event.global_step
        found = {"best/val_top1": event.best_val_top1, "test/loss": event.test_loss, "test/top1": event.test_top1}
        found |= {"best/val_balanced": event.best_val_balanced, "test/balanced": event.test_balanced}
        values = {tag: value for tag, value in found.items() if value is not None}
        return Point(event.global_step, event.time, values) if values else None
    if isinstance(event, DeviceSampled) and event.time >= logged.devices_time + _DEVICES_EVERY_S:
        logged.devices_time = event.time
        return Point(logged.last_step, event.time, _of_devices(event))
    return None


def _of_devices(event: DeviceSampled) -> dict[str, float]:
    found: dict[str, float | None] = {
        "host/memory_bytes": event.host.memory_used_bytes,
        "host/worker_memory_bytes": event.host.process_rss_bytes,
        "host/cpu_utilization": event.host.cpu_utilization,
    }
    for gpu in event.gpus:
        names = ("memory_used_bytes", "process_memory_bytes", "utilization", "temperature_c", "power_w")
        found |= {f"gpu{gpu.index}/{name}": getattr(gpu, name) for name in names}
    if event.torch_memory is not None:
        found |= {f"torch/{name}": value for name, value in msgspec.structs.asdict(event.torch_memory).items()}
    return {tag: float(value) for tag, value in found.items() if value is not None}


def settings_of(info: RunInfo) -> dict[str, str | float]:
    """Return a run's hyperparameters: the preset's fields by key path, the seed, and where it was started."""
    settings: dict[str, str | float] = {"preset": info.preset_name, "seed": info.seed, "host": info.host}
    settings |= {"devices": info.devices, **({"group": info.group} if info.group else {})}
    _flatten(msgspec.to_builtins(info.preset), "", settings)
    return settings


def _flatten(table: dict[str, object], prefix: str, settings: dict[str, str | float]) -> None:
    for name, value in table.items():
        if isinstance(value, dict):
            _flatten(value, f"{prefix}{name}.", settings)
        elif isinstance(value, str | bool | int | float):
            settings[f"{prefix}{name}"] = value
        elif value is not None:
            settings[f"{prefix}{name}"] = msgspec.json.encode(value).decode()
