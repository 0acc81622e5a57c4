"""Check whether a training step fits into the device's free memory. Pure functions."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from engine.shared.gpus import emptiest, free_bytes, visible_gpus
from presets.schema import Preset
from tui.data.environment import GpuReadings
from tui.data.network_facts import NetworkFacts
from tui.theme import Tone

_BESIDE_BYTES = 700_000_000
"""Memory of a worker besides a step: the CUDA context (or torch itself) and CIFAR-100."""
_SHORT_OF_REAL = 0.89
"""The estimate is at least this share of the memory that a step took in measurements (README)."""


class FreeMemory(Struct, frozen=True):
    """The free memory of a device: of GPU `gpu`, or of the machine."""

    gpu: int | None
    free_bytes: int

    @property
    def where(self) -> str:
        """The end of a sentence."""
        return "in this machine" if self.gpu is None else f"on GPU {self.gpu}"


def on_each(presets: Sequence[Preset], devices: int) -> tuple[Preset, ...]:
    """Return the presets with as many images a step as the largest part has that one of the devices takes."""
    trains = [replace(preset.train, batch_size=-(-preset.train.batch_size // devices)) for preset in presets]
    return tuple(replace(preset, train=train) for preset, train in zip(presets, trains, strict=True))


def free_memory(device: str, readings: GpuReadings | None, visible: str | None) -> FreeMemory | None:
    """Return the free memory that a run on `device` has, or None if no reading contains it.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.
        readings: the latest ones.
        visible: CUDA_VISIBLE_DEVICES, by which a run counts GPUs; readings count all of them.
    """
    if readings is None:
        return None
    gpus = visible_gpus(readings.gpus, visible)
    if device in {"cpu", "mps"} or (device == "auto" and gpus == []):
        return None if readings.host_free_bytes is None else FreeMemory(None, readings.host_free_bytes)
    if not gpus:
        return None
    number = emptiest(gpus, readings.taken) if device == "auto" else int(device.partition(":")[2] or 0)
    free = free_bytes(gpus[number]) if number < len(gpus) else None
    return None if free is None else FreeMemory(gpus[number].index, free)


def is_on_gpu(device: str, readings: GpuReadings | None, visible: str | None) -> bool:
    """Return whether a run on `device` trains on a CUDA GPU, as far as the readings show."""
    if device == "auto":
        return readings is not None and bool(readings.gpus) and visible_gpus(readings.gpus, visible) != []
    return device.startswith("cuda")


def needed_bytes(preset: Preset, found: NetworkFacts, *, on_gpu: bool) -> int:
    """Return what training `preset` takes of the device's memory: a step, and what the worker holds besides."""
    return found.step_memory(preset.train.precision, on_gpu=on_gpu).total + _BESIDE_BYTES


def verdict(needed: int, found: FreeMemory | None, *, subject: str = "") -> tuple[str, Tone]:
    """Return a sentence on whether `needed` bytes fit, and how it is to be taken.

    Args:
        needed: from `needed_bytes`.
        found: from `free_memory`.
        subject: which of several presets this is about.
    """
    subject = f"{subject} " if subject else ""
    if found is None:
        return f"{subject}needs about {_about(needed)}; free memory is not known", "calm"
    free = f"{_about(found.free_bytes)} are free {found.where}"
    if needed > found.free_bytes:
        return f"{subject}needs about {_about(needed)}, {free}: lower train.batch_size", "bad"
    if (needed - _BESIDE_BYTES) / _SHORT_OF_REAL + _BESIDE_BYTES > found.free_bytes:
        return f"{subject}needs about {_about(needed)}, only {free}: it may run out; lower train.batch_size", "warn"
    return f"{subject}needs about {_about(needed)}; {free}", "calm"


def fits(
    preset: Preset, found: NetworkFacts, device: str, readings: GpuReadings | None, visible: str | None
) -> tuple[str, Tone]:
    """Return a sentence on whether training `preset` on `device` fits, and how it is to be taken."""
    if readings is None:
        return "reading how much is free …", "calm"
    needed = needed_bytes(preset, found, on_gpu=is_on_gpu(device, readings, visible))
    return verdict(needed, free_memory(device, readings, visible))


def fits_largest(
    found: Sequence[tuple[str, Preset, NetworkFacts]], device: str, readings: GpuReadings | None, visible: str | None
) -> tuple[str, Tone]:
    """Return a sentence on whether the largest of some presets fits, and how it is to be taken.

    Args:
        found: their names, they, and the facts of their networks; at least one.
        device: auto, cpu, cuda, cuda:N or mps.
        readings: the latest ones.
        visible: CUDA_VISIBLE_DEVICES, by which a run counts GPUs.
    """
    on_gpu = is_on_gpu(device, readings, visible)
    most, name = max((needed_bytes(preset, facts, on_gpu=on_gpu), name) for name, preset, facts in found)
    subject = f"memory: {name}" if len(found) > 1 else "memory:"
    return verdict(most, free_memory(device, readings, visible), subject=subject)


def _about(num_bytes: int) -> str:
    """Return "41 GB" or "2.5 GB": no finer than the estimate, and calm while memory is read again and again."""
    return f"{num_bytes / 1e9:.0f} GB" if num_bytes >= 9.95e9 else f"{num_bytes / 1e9:.1f} GB"
