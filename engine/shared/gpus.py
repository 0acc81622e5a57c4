"""Which of the machine's GPUs a run gets, by NVML's readings and CUDA's numbers. Never imports torch.

The worker chooses by it; the dashboard and the queue foresee by it what the worker will choose.
"""

from collections.abc import Collection, Sequence

from engine.journal.events import GpuSample

_ABOUT_AS_FREE_BYTES = 1 << 30
"""GPUs whose free memory differs by less count as equal: the first of them is taken."""


def visible_gpus(gpus: Sequence[GpuSample], visible: str | None) -> list[GpuSample] | None:
    """Return the GPUs that CUDA counts, in its order; None where they are named in a way that cannot be followed.

    Args:
        gpus: all of the machine's, as NVML shows them.
        visible: CUDA_VISIBLE_DEVICES, by whose numbers or absence a process counts GPUs.
    """
    if visible is None or not gpus:
        return list(gpus)
    names = [name.strip() for name in visible.split(",") if name.strip()]
    by_index = {str(gpu.index): gpu for gpu in gpus}
    return [by_index[name] for name in names] if all(name in by_index for name in names) else None


def gpu_name(number: int) -> str:
    """Return what a GPU is called by its number."""
    return f"cuda:{number}"


def machine_name(gpu: GpuSample) -> str:
    """Return what a GPU is called by nvidia-smi's number."""
    return gpu_name(gpu.index)


def on_machine(device: str, visible: str | None) -> str:
    """Return a process's cpu, mps, cuda or cuda:N as the machine calls it, GPUs by nvidia-smi's number.

    Args:
        device: as the process calls it.
        visible: its CUDA_VISIBLE_DEVICES; where that cannot be followed, the process's own number is kept.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return device
    place, names = int(number or 0), (visible or "").split(",")
    named = names[place].strip() if place < len(names) else ""
    return gpu_name(int(named) if named.isdecimal() else place)


def free_bytes(gpu: GpuSample) -> int | None:
    """Return how much of a GPU's memory is free; None where it does not tell."""
    if gpu.memory_total_bytes is None or gpu.memory_used_bytes is None:
        return None
    return max(0, gpu.memory_total_bytes - gpu.memory_used_bytes)


def emptiest(gpus: Sequence[GpuSample], taken: Collection[str] = ()) -> int:
    """Return the place of the GPU with the most free memory, the first of those that have about as much.

    Args:
        gpus: in CUDA's order, at least one; one that does not tell how much is free counts as full.
        taken: the names of some (`machine_name`), which are passed over unless that leaves none.
    """
    free = {place: free_bytes(gpu) or 0 for place, gpu in enumerate(gpus) if machine_name(gpu) not in taken}
    if not free:
        return emptiest(gpus)
    return next(place for place, each in free.items() if each > max(free.values()) - _ABOUT_AS_FREE_BYTES)
