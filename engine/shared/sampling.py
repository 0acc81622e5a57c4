"""Telemetry readers: GPUs by NVML, the machine by psutil; an absent reading has its reason. No torch.

pynvml and psutil are imported at first use, because together they take some 35 ms.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.journal.events import GpuSample, HostSample, MigSample

_NOT_SUPPORTED = 3

NO_LIBRARY = "no NVIDIA driver library (libnvidia-ml.so.1) on this machine"
_REASONS: Mapping[int, str] = {  # by NVML return code
    1: "the NVIDIA driver went away",
    _NOT_SUPPORTED: "not supported by this GPU",
    4: "no permission",
    9: "the NVIDIA driver is not loaded",
    12: NO_LIBRARY,
    13: "not offered by this NVIDIA driver",
    15: "GPU is lost",
    16: "GPU needs a reset",
    18: "the NVIDIA driver was updated and the machine not yet restarted",
}
_NVML_IS_GONE = (1, 9, 18)
"""Codes about NVML as a whole, whichever call returned them: start over at the next sample."""

_MOST: Mapping[str, float] = {
    "memory_used_bytes": 1 << 50,
    "memory_total_bytes": 1 << 50,
    "process_memory_bytes": 1 << 50,
    "utilization": 1.0,
    "temperature_c": 1000.0,
    "power_w": 100_000.0,
}
"""No GPU has more. Some drivers give such a value where they have none; as an event it would be a damaged line."""

_INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""The inode that Linux gives to the pid namespace of the machine itself (PROC_PID_INIT_INO)."""


class _ReadingError(Exception):
    """A reading that cannot be had; the message is the reason."""


class NvmlReader:
    """Reads every GPU that NVML shows, in this process: a driver that hangs never lets it return (`device_reader`).

    It is not safe to share between threads.

    NVML is opened at the first sample, and again if the driver went away and came back. NVML ignores
    CUDA_VISIBLE_DEVICES: indices are those of nvidia-smi.
    """

    def __init__(self) -> None:
        self._nvml: Any = None
        self._gpus: list[_Gpu] = []

    def __enter__(self) -> "NvmlReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def sample(self, pid: int | None = None) -> tuple[tuple[GpuSample, ...], str]:
        """Read all GPUs now. Never raises.

        Args:
            pid: Process whose GPU memory is wanted, that of its descendants included; this process by default.

        Returns:
            A sample per GPU, and the reason in words if there is none at all (else an empty string).
            `memory_used_bytes` includes what the driver reserves, so that total - used is what is free.
        """
        try:
            if self._nvml is None:
                self._open()
            samples = tuple(gpu.sample(pid or os.getpid()) for gpu in self._gpus)
        except Exception as error:  # telemetry must never end a run
            self.close()
            return (), _reason(error)
        return samples, "" if samples else "the NVIDIA driver shows no GPU"

    def close(self) -> None:
        """Close NVML; a later sample opens it again."""
        nvml, self._nvml, self._gpus = self._nvml, None, []
        if nvml is not None:
            with suppress(nvml.NVMLError):  # it may be gone already
                nvml.nvmlShutdown()

    def _open(self) -> None:
        import pynvml

        pynvml.nvmlInit()
        self._nvml = pynvml
        self._gpus = [_Gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]


class _Gpu:
    """One GPU. Name and total memory are kept between samples, so that it keeps its row when it is lost."""

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml = nvml
        self._index = index
        self._handle: Any = None
        self._name = self._uuid = ""
        self._memory_total_bytes: int | None = None

    def sample(self, pid: int) -> GpuSample:
        readings: dict[str, Callable[[], Any]] = {
            "name": self._read_name,
            "memory_used_bytes": self._memory_used,
            "memory_total_bytes": self._memory_total,
            "process_memory_bytes": lambda: self._process_memory(pid),
            "utilization": self._utilization,
            "temperature_c": self._temperature,
            "power_w": self._power,
        }
        values: dict[str, Any] = {}
        missing: dict[str, str] = {}
        for field, read in readings.items():
            try:
                if self._handle is None:
                    self._handle = self._nvml.nvmlDeviceGetHandleByIndex(self._index)
                value = read()
                if field in _MOST and not 0 <= value <= _MOST[field]:
                    raise _ReadingError(f"the driver says {value:g}, which cannot be")
                values[field] = value
            except Exception as error:  # one reading must not cost the others
                code = getattr(error, "value", None)
                if code in _NVML_IS_GONE:
                    raise
                is_mig = code == _NOT_SUPPORTED and self._mig_enabled()
                missing[field] = "not available in MIG mode" if is_mig else _reason(error)
        missing.pop("name", None)
        values["name"] = self._name or f"GPU {self._index}"
        return GpuSample(index=self._index, uuid=self._uuid, migs=self._migs(), missing=missing, **values)

    def _read_name(self) -> str:
        self._name = self._name or self._nvml.nvmlDeviceGetName(self._handle)
        with suppress(self._nvml.NVMLError):
            self._uuid = self._uuid or self._nvml.nvmlDeviceGetUUID(self._handle)
        return self._name

    def _migs(self) -> tuple[MigSample, ...]:
        """Return the MIG devices of this GPU; none unless it is in MIG mode."""
        if self._handle is None or not self._mig_enabled():
            return ()
        nvml, found = self._nvml, []
        with suppress(Exception):  # what is wrong with a part must not cost the GPU
            for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(self._handle)):
                with suppress(nvml.NVMLError_NotFound):
                    mig = nvml.nvmlDeviceGetMigDeviceHandleByIndex(self._handle, place)
                    memory, uuid = nvml.nvmlDeviceGetMemoryInfo(mig), nvml.nvmlDeviceGetUUID(mig)
                    if max(memory.used, memory.total) <= _MOST["memory_total_bytes"]:
                        found.append(
                            MigSample(uuid=uuid, memory_used_bytes=memory.used, memory_total_bytes=memory.total)
                        )
        return tuple(found)

    def _memory_used(self) -> int:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        self._memory_total_bytes = memory.total
        return int(memory.used)

    def _memory_total(self) -> int:
        if self._memory_total_bytes is None:
            self._memory_total_bytes = int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).total)
        return self._memory_total_bytes

    def _process_memory(self, pid: int) -> int:
        processes = self._first_offered(
            ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
        )
        ours = [process.usedGpuMemory for process in processes if _descends(process.pid, pid)]
        if None in ours:
            raise _ReadingError("the driver does not tell memory by process")
        if not ours and _in_pid_namespace():  # NVML may list the machine's pids: not being listed proves nothing
            raise _ReadingError("process ids are hidden in this container")
        return sum(ours)

    def _utilization(self) -> float:
        return float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu) / 100

    def _temperature(self) -> float:
        versions = ("nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV")  # CUDA 14 drops the first
        return float(self._first_offered(versions, self._nvml.NVML_TEMPERATURE_GPU))

    def _power(self) -> float:
        return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle)) / 1000

    def _mig_enabled(self) -> bool:
        try:
            return bool(self._nvml.nvmlDeviceGetMigMode(self._handle)[0] == self._nvml.NVML_DEVICE_MIG_ENABLE)
        except self._nvml.NVMLError:
            return False  # most GPUs have no MIG mode to ask about

    def _first_offered(self, versions: tuple[str, ...], *arguments: Any) -> Any:
        """Call the first of several versions of a function that both pynvml and the driver have."""
        for name in versions:
            try:
                if function := getattr(self._nvml, name, None):
                    return function(self._handle, *arguments)
            except self._nvml.NVMLError_FunctionNotFound:
                continue
        raise _ReadingError(_REASONS[13])


def _reason(error: Exception) -> str:
    code = getattr(error, "value", None)
    if isinstance(code, int):
        return _REASONS.get(code, f"NVML says: {error}")
    if isinstance(error, ImportError):
        return "the Python package nvidia-ml-py is not installed"
    return str(error) if isinstance(error, _ReadingError) else f"{type(error).__name__}: {error}"


def _descends(pid: int, ancestor: int) -> bool:
    """Return true if `pid` is `ancestor` or below it. Used for few processes, so it reads no whole table."""
    if pid == ancestor:
        return True
    import psutil  # type: ignore[import-untyped,unused-ignore]

    try:
        return any(parent.pid == ancestor for parent in psutil.Process(pid).parents())
    except psutil.Error:
        return False  # ended meanwhile, or of another user or container: not ours


def _in_pid_namespace() -> bool:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino != _INITIAL_PID_NAMESPACE
    except OSError:
        return False  # no Linux, no namespaces


class HostReader:
    """Reads the machine's memory and load and one process's memory.

    Args:
        pid: The process; this one by default.
        cgroup: Folder of the control group whose memory limit counts, its parents included; by default the group
            of this process. Under a limit (container, SLURM job), the limit is the total: going over it kills the run.
    """

    def __init__(self, pid: int | None = None, cgroup: Path | None = None) -> None:
        self._pid = pid
        self._cgroup = cgroup or _own_cgroup()
        self._cpu_before: tuple[float, float] | None = None

    def sample(self) -> HostSample:
        """Read now.

        CPU utilisation is that since the sample before, hence None in the first one. A process that has ended
        has no memory: 0 bytes.
        """
        import psutil  # type: ignore[import-untyped,unused-ignore]

        memory = psutil.virtual_memory()
        used, total = _cgroup_memory(self._cgroup, memory.total) or (memory.total - memory.available, memory.total)
        try:
            rss = psutil.Process(self._pid).memory_info().rss
        except psutil.NoSuchProcess:
            rss = 0
        return HostSample(
            memory_used_bytes=used,
            memory_total_bytes=total,
            process_rss_bytes=rss,
            cpu_utilization=self._cpu_utilization(psutil.cpu_times()),
        )

    def _cpu_utilization(self, times: Any) -> float | None:
        # psutil.cpu_percent keeps its state per thread and answers a false 0.0 in each new thread.
        counted = {name: seconds for name, seconds in times._asdict().items() if not name.startswith("guest")}
        idle = float(times.idle + getattr(times, "iowait", 0.0))
        total = float(sum(counted.values()))
        before, self._cpu_before = self._cpu_before, (idle, total)
        if before is None or total <= before[1]:
            return None
        return min(1.0, max(0.0, 1 - (idle - before[0]) / (total - before[1])))


def _own_cgroup() -> Path:
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return root
    inside = next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), "")
    return root / inside if (root / inside).is_dir() else root


def _cgroup_memory(cgroup: Path, machine_total: int) -> tuple[int, int] | None:
    """Return bytes used and allowed by the tightest memory limit (cgroup v2) at or above `cgroup`, None if unlimited.

    Used is without `inactive_file`, the page cache that the kernel drops before it kills.
    """
    tightest = None
    for folder in (cgroup, *cgroup.parents):
        try:
            limit = int((folder / "memory.max").read_text())
            if limit >= (tightest[1] if tightest else machine_total):
                continue
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            used = int((folder / "memory.current").read_text()) - int(stat.get("inactive_file", 0))
        except (OSError, ValueError):  # no such group, or "max"
            continue
        tightest = max(0, used), limit
    return tightest
