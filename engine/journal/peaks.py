"""Most memory that a run was ever seen to take, and which GPUs of a reading are the run's. No files."""

from msgspec import Struct
from msgspec.structs import replace

from engine.journal.events import DeviceSampled, GpuSample, RunStarted


class PeakMemory(Struct, frozen=True, kw_only=True):
    """The most that was ever read, over the whole journal; None where nothing was."""

    worker_bytes: int | None = None
    machine_bytes: int | None = None
    gpu_process_bytes: int | None = None
    gpu_bytes: int | None = None
    torch_allocated_bytes: int | None = None


def peaks_with(peaks: PeakMemory, sample: DeviceSampled, started: RunStarted | None) -> PeakMemory:
    """Return the peaks after one more reading of the worker that `started`."""
    gpus = gpus_of_run(sample, started)
    readings = {
        "worker_bytes": sample.host.process_rss_bytes,
        "machine_bytes": sample.host.memory_used_bytes,
        "torch_allocated_bytes": sample.torch_memory.peak_bytes if sample.torch_memory else None,
        "gpu_process_bytes": max((gpu.process_memory_bytes or 0 for gpu in sample.gpus), default=0) or None,
        "gpu_bytes": max((gpu.memory_used_bytes or 0 for gpu in gpus), default=0) or None,
    }
    higher = {
        name: value
        for name, value in readings.items()
        if value is not None and ((before := getattr(peaks, name)) is None or value > before)
    }
    return replace(peaks, **higher) if higher else peaks


def gpus_of_run(sample: DeviceSampled, started: RunStarted | None) -> list[GpuSample]:
    """Return the GPUs of a reading that the run uses: none on the CPU, whatever others do with them."""
    if started is None or not started.device.startswith("cuda") or not sample.gpus:
        return []
    named = started.device.partition(":")[2]
    default = next((gpu for gpu in sample.gpus if str(gpu.index) == named), sample.gpus[0])
    return [gpu for gpu in sample.gpus if gpu.process_memory_bytes] or [default]
