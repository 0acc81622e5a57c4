"""Telemetry thread of the worker: device readings every two seconds, which are its heartbeat, and alerts."""

import os
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from msgspec.structs import replace

from engine.journal.events import Alerted, AnyEvent, DeviceSampled, GpuSample, TorchMemory
from engine.journal.jsonl import EventWriter
from engine.shared.device_reader import ASKED_AGAIN_S, DeviceReader
from engine.shared.gpus import visible_gpus
from engine.shared.sampling import HostReader
from engine.training.alerts import MachineWatch
from presets.errors import CifartuiError

INTERVAL_S = 2.0


class Steps(Protocol):
    """The current step's time, as `StepTimer` has it."""

    longest_s: float

    def running_s(self) -> float | None:
        """Return the seconds since the current step began; None between steps."""


class UnusedGpus(NamedTuple):
    """Reason why a run uses no GPU, to be said if the driver shows any."""

    severity: Literal["notice", "warning"]
    why: str
    advice: str


class Telemetry:
    """A daemon thread that writes DeviceSampled and alerts; a context manager.

    Set `torch_memory` once there is CUDA or else `unused`, and `steps` once there is a loop.
    """

    def __init__(self, journal: EventWriter, pid: int, folder: Path) -> None:
        self._journal = journal
        self._pid = pid
        self._folder = folder
        self._watch = MachineWatch()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self.torch_memory: Callable[[], TorchMemory] | None = None
        self.unused: UnusedGpus | None = None
        self.steps: Steps | None = None

    def __enter__(self) -> "Telemetry":
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join(timeout=INTERVAL_S)

    def _run(self) -> None:
        started, has_failed = time.monotonic(), False
        host = HostReader()
        with DeviceReader(ASKED_AGAIN_S) as devices:
            while not self._stop.is_set():
                try:
                    self._beat(host, devices, started)
                except CifartuiError:  # a disk that takes no more: the loop meets it too, and ends the run
                    pass
                except Exception:  # a reading that fails must not be taken for a worker that does
                    if not has_failed:
                        traceback.print_exc()
                    has_failed = True
                self._stop.wait(INTERVAL_S)

    def _beat(self, host: HostReader, devices: DeviceReader, started: float) -> None:
        gpus, missing = devices.sample(self._pid)
        sample = DeviceSampled(
            host=host.sample(),
            gpus=tuple(replace(gpu, uuid="", migs=()) for gpu in gpus),  # a run is long, and they do not change
            gpus_missing=missing,
            torch_memory=self.torch_memory() if self.torch_memory is not None else None,
            worker_s=round(time.monotonic() - started, 3),
        )
        events: list[AnyEvent] = [sample, *self._alerts(sample, gpus)]
        for event in events:
            self._journal.write(event)

    def _alerts(self, sample: DeviceSampled, shown: Sequence[GpuSample]) -> list[Alerted]:
        alerts = self._watch.memory(sample)
        if self.unused is not None and (gpus := visible_gpus(shown, os.environ.get("CUDA_VISIBLE_DEVICES"))):
            alerts.append(_unused(self.unused, gpus))
            self.unused = None
        with suppress(OSError):  # a disk that cannot be asked is the journal's trouble
            usage = shutil.disk_usage(self._folder)
            alerts += self._watch.disk(usage.free, usage.total)
        if self.steps is not None:
            alerts += self._watch.stall(self.steps.running_s(), self.steps.longest_s)
        return alerts


def _unused(unused: UnusedGpus, gpus: Sequence[GpuSample]) -> Alerted:
    names = ", ".join(dict.fromkeys(gpu.name for gpu in gpus))
    shown = f"The driver shows {len(gpus)} GPU{'' if len(gpus) == 1 else 's'} ({names})"
    text = f"{shown}, and training uses the CPU: {unused.why}."
    return Alerted(severity=unused.severity, kind="unused-gpus", text=text, advice=unused.advice)
