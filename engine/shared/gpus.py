"""GPU choice and numbering, by NVML's readings and CUDA_VISIBLE_DEVICES. No torch.

The worker chooses by it; the dashboard and the queue predict its choice.
"""

import re
from collections.abc import Collection, Sequence
from itertools import takewhile

from msgspec.structs import replace

from engine.journal.events import GpuSample

_ABOUT_AS_FREE_BYTES = 1 << 30
"""GPUs whose free memory differs by less count as equal: the first of them is taken."""


def visible_gpus(gpus: Sequence[GpuSample], visible: str | None) -> list[GpuSample] | None:
    """Return the GPUs that CUDA counts, in its order; None if the variable names UUIDs, and NVML tells none.

    As CUDA does: the first entry says whether there are numbers, GPU UUIDs or MIG UUIDs, of which a unique beginning is
    enough; the list ends at the first entry that is none or names nothing; one that names twice the same is empty.
    Of several MIG devices CUDA uses the first.

    Args:
        gpus: all of the machine's, as NVML shows them.
        visible: CUDA_VISIBLE_DEVICES, by whose numbers or absence a process counts GPUs.
    """
    if visible is None or not gpus:
        return list(gpus)
    if not names_uuids(visible):
        entries = [_leading_number(entry.strip()) for entry in visible.split(",")]
        by_index = {gpu.index: gpu for gpu in gpus}
        return _until_invalid([None if entry is None else by_index.get(entry) for entry in entries])
    if not all(gpu.uuid for gpu in gpus):
        return None
    if visible.startswith("MIG-"):
        return _until_invalid([_mig(gpus, visible.partition(",")[0])])
    return _until_invalid([_of_uuid(gpus, entry) for entry in visible.split(",")])


def names_uuids(visible: str | None) -> bool:
    """Return true if CUDA_VISIBLE_DEVICES names GPUs by UUIDs, which only NVML can tell."""
    return (visible or "").startswith(("GPU-", "MIG-"))


def _leading_number(entry: str) -> int | None:
    """Return the number that `entry` begins with, as strtoul reads it; None if it is negative or there is none."""
    found = re.match(r"\+?([0-9]+)", entry)
    return int(found[1]) if found else None


def _until_invalid(found: Sequence[GpuSample | None]) -> list[GpuSample]:
    valid = [gpu for gpu in takewhile(lambda gpu: gpu is not None, found) if gpu is not None]
    return valid if len({gpu.index for gpu in valid}) == len(valid) else []


def _of_uuid(gpus: Sequence[GpuSample], entry: str) -> GpuSample | None:
    """Return the GPU whose UUID begins with `entry`; None if there is not one alone."""
    found = [gpu for gpu in gpus if gpu.uuid.startswith(entry)] if entry.startswith("GPU-") else []
    return found[0] if len(found) == 1 else None


def _mig(gpus: Sequence[GpuSample], entry: str) -> GpuSample | None:
    """Return the GPU of a MIG device, with that device's memory: MIG-UUID, or MIG-GPU-UUID/instance/instance."""
    if entry.startswith("MIG-GPU-"):  # of drivers before 470
        gpu = _of_uuid(gpus, entry.removeprefix("MIG-").partition("/")[0])
        return None if gpu is None else replace(gpu, memory_used_bytes=None, memory_total_bytes=None)
    found = [(gpu, mig) for gpu in gpus for mig in gpu.migs if mig.uuid.startswith(entry)]
    if len(found) != 1:
        return None
    (gpu, mig) = found[0]
    return replace(gpu, memory_used_bytes=mig.memory_used_bytes, memory_total_bytes=mig.memory_total_bytes)


def gpu_name(number: int) -> str:
    """Return the name of a GPU by its number."""
    return f"cuda:{number}"


def machine_name(gpu: GpuSample) -> str:
    """Return the name of a GPU by nvidia-smi's number."""
    return gpu_name(gpu.index)


def on_machine(device: str, visible: str | None, gpus: Sequence[GpuSample] = ()) -> str:
    """Convert a process's cpu, mps, cuda or cuda:N to the machine's name, GPUs by nvidia-smi's number.

    Args:
        device: as the process calls it.
        visible: its CUDA_VISIBLE_DEVICES; if that cannot be interpreted, the process's own number is kept.
        gpus: all of the machine's, by which UUIDs are interpreted.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return device
    place = int(number or 0)
    if names_uuids(visible):
        shown = visible_gpus(gpus, visible) or []
        return machine_name(shown[place]) if place < len(shown) else gpu_name(place)
    names = (visible or "").split(",")
    named = _leading_number(names[place].strip()) if place < len(names) else None
    return gpu_name(place if named is None else named)


def free_bytes(gpu: GpuSample) -> int | None:
    """Return the free bytes of a GPU's memory; None if there is no reading."""
    if gpu.memory_total_bytes is None or gpu.memory_used_bytes is None:
        return None
    return max(0, gpu.memory_total_bytes - gpu.memory_used_bytes)


def emptiest(gpus: Sequence[GpuSample], taken: Collection[str] = ()) -> int:
    """Return the index of the GPU with the most free memory, the first of those that have about as much.

    Args:
        gpus: in CUDA's order, at least one; one without a reading counts as full.
        taken: the names of some (`machine_name`), which are passed over unless that leaves none.
    """
    free = {place: free_bytes(gpu) or 0 for place, gpu in enumerate(gpus) if machine_name(gpu) not in taken}
    if not free:
        return emptiest(gpus)
    return next(place for place, each in free.items() if each > max(free.values()) - _ABOUT_AS_FREE_BYTES)
