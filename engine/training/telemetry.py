"""The worker's readings of its machine every two seconds, which are also its heartbeat."""

import threading
from collections.abc import Callable

from engine.devices import DeviceReader, HostReader
from engine.runs.events import DeviceSampled, TorchMemory
from engine.runs.journal import EventWriter

INTERVAL_S = 2.0


class Telemetry:
    """A daemon thread that writes DeviceSampled; a context manager. Set `torch_memory` once there is CUDA."""

    def __init__(self, journal: EventWriter, pid: int) -> None:
        self._journal = journal
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self.torch_memory: Callable[[], TorchMemory] | None = None

    def __enter__(self) -> "Telemetry":
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join(timeout=INTERVAL_S)

    def _run(self) -> None:
        host = HostReader()
        with DeviceReader() as devices:
            while not self._stop.is_set():
                gpus, missing = devices.sample(self._pid)
                memory = self.torch_memory() if self.torch_memory is not None else None
                self._journal.write(
                    DeviceSampled(host=host.sample(), gpus=gpus, gpus_missing=missing, torch_memory=memory)
                )
                self._stop.wait(INTERVAL_S)
