"""Allocation of devices to the entries of a queue: those that can start now, and what each of the others waits for.

Knows what living runs hold and what NVML says of the GPUs; starts nothing. Devices are named by nvidia-smi's numbers,
because processes that are shown different GPUs count them differently.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from msgspec import Struct

from engine import files
from engine.journal.events import GpuSample
from engine.runs.newer_info import read_shown
from engine.runs.run_dir import RunDir, list_runs
from engine.runs.run_options import StoredOptions
from engine.runs.worker_mark import sign_lock
from engine.shared.device_reader import DeviceReader
from engine.shared.gpus import emptiest, free_bytes, gpu_name, machine_name, names_uuids, on_machine
from presets.errors import CifartuiError

_AUTO = "auto"
"""Held, besides the device itself, by a run that is still choosing, or that chose no GPU by itself."""
_SPARE_SHARE = 0.9
"""A GPU of whose memory at least so much is free is used by nobody worth mentioning."""


class QueuePosition(Struct, frozen=True, kw_only=True):
    """Conditions that an entry of the queue waits for; without any it can be started."""

    after: int | None = None
    """The number (from 1) of an entry before it that gets what this one could have."""
    waits_for: tuple[RunDir, ...] = ()
    """The runs that hold what it could have; one of them has to end, or all where it takes several devices."""

    @property
    def is_next(self) -> bool:
        """True if the entry can be started."""
        return self.after is None and not self.waits_for


def queue_positions(
    entries: Sequence[StoredOptions], held: Mapping[str, RunDir], gpus: Sequence[GpuSample] | None
) -> list[QueuePosition]:
    """Return the position of each entry of a queue; of those that want the same, the first one goes first.

    One that is left to choose a GPU gets one that no run holds and nobody else uses; where no run holds any, the
    emptiest, whoever uses it. Only one at a time chooses, so that two never choose the same.

    Args:
        entries: in order.
        held: from `held_devices`.
        gpus: those that a run is shown, in CUDA's order; None where they are named in a way that cannot be followed.
    """
    taken: dict[str, int] = {}
    found = []
    for number, entry in enumerate(entries, 1):
        ways = _ways(entry, held, gpus)
        wanted = [name for way in ways for name in way]
        if any(held.keys().isdisjoint(way) and taken.keys().isdisjoint(way) for way in ways):
            found.append(QueuePosition())
        else:
            after = max((taken[name] for name in wanted if name in taken), default=None)
            runs = {held[name].id: held[name] for name in wanted if name in held}
            found.append(QueuePosition(after=after, waits_for=tuple(runs.values()) if after is None else ()))
        if entry.device == _AUTO:  # nobody knows yet which one it will choose
            wanted += _any_of(entry.devices, gpus)
        taken.update(dict.fromkeys(wanted, number))
    return found


def held_devices(runs: Iterable[RunDir], gpus: Sequence[GpuSample] | None) -> dict[str, RunDir]:
    """Return, of our runs whose worker lives on this machine, one for every device that they hold.

    One that has not chosen yet holds all that it may choose. What another user's run holds is not believed; the
    memory of its GPU is seen to be taken.
    """
    held: dict[str, RunDir] = {}
    for run in runs:
        if run.works_here() and run.is_ours():
            with suppress(CifartuiError):
                for name in _held_by(run, gpus):
                    held.setdefault(name, run)
    return held


def machine_names(devices: Iterable[str]) -> tuple[str, ...]:
    """Return the machine's names of `devices`, which are named as this process calls them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = _machines_gpus(visible)
    return tuple(on_machine(device, visible, gpus) for device in devices)


def _machines_gpus(visible: str | None) -> Sequence[GpuSample]:
    """Return all GPUs of the machine if CUDA_VISIBLE_DEVICES can only be interpreted by them, else none."""
    if not names_uuids(visible):
        return ()
    with DeviceReader() as reader:
        return reader.sample()[0]


def mark_devices(run: RunDir, names: Iterable[str]) -> None:
    """Write into a run's lock, which this process holds, what it trains on; a full disk leaves it as it is.

    Args:
        run: whose lock.
        names: of the devices, from `machine_names`.
    """
    with suppress(OSError):
        fd = files.open_file(run.lock, os.O_RDWR)
        try:
            sign_lock(fd, os.getpid(), tuple(names))
        finally:
            os.close(fd)


def others_of(run: RunDir) -> list[RunDir]:
    """Return the other runs of a run's folder; none if it cannot be listed."""
    with suppress(CifartuiError):
        return [other for other in list_runs(run.path.parent) if other.id != run.id]
    return []


def taken_devices(runs: Iterable[RunDir]) -> frozenset[str]:
    """Return the devices of this machine that living runs have chosen or were told to take."""
    taken: set[str] = set()
    for run in runs:
        if run.works_here() and run.is_ours():
            with suppress(CifartuiError):
                info = read_shown(run)
                taken.update(_chosen(run) or (() if info.device == _AUTO else _asked(info.device, info.devices)))
    return frozenset(taken)


def _chosen(run: RunDir) -> tuple[str, ...]:
    mark = run.read_mark()
    return mark.holds if mark is not None else ()


def _held_by(run: RunDir, gpus: Sequence[GpuSample] | None) -> tuple[str, ...]:
    """Raise CifartuiError where the run cannot be read."""
    info, chosen = read_shown(run), _chosen(run)
    if info.device != _AUTO:
        return chosen or _asked(info.device, info.devices, gpus)
    if not chosen:
        return _any_of(info.devices, gpus)
    return chosen if any(name.startswith("cuda") for name in chosen) else (_AUTO, *chosen)


def _ways(entry: StoredOptions, held: Mapping[str, RunDir], gpus: Sequence[GpuSample] | None) -> list[tuple[str, ...]]:
    """Return the sets of devices any of which will do; with a choice of GPUs, those that are free, or else all."""
    if entry.device != _AUTO:
        return [_asked(entry.device, entry.devices, gpus)]
    if entry.devices > 1 or not gpus:
        return [_any_of(entry.devices, gpus)]
    unheld = [gpu for gpu in gpus if machine_name(gpu) not in held]
    spare = [gpu for gpu in unheld if _is_spare(gpu)]
    if not spare and len(unheld) == len(gpus):
        spare = [gpus[emptiest(gpus)]]
    return [(_AUTO, machine_name(gpu)) for gpu in spare] or [_any_of(1, gpus)]


def _any_of(devices: int, gpus: Sequence[GpuSample] | None) -> tuple[str, ...]:
    """Return all that a run may come to which is left to choose."""
    if devices > 1:
        return (_AUTO, *_asked("cuda", devices, gpus), *(() if gpus else ("cpu",)))
    return (_AUTO, *(machine_name(gpu) for gpu in gpus)) if gpus else (_AUTO, "cpu", "mps", *_asked("cuda", 1, gpus))


def _asked(device: str, devices: int, gpus: Sequence[GpuSample] | None = None) -> tuple[str, ...]:
    """Return the devices that a run is told to take, as if it were shown the GPUs that this process is shown: `gpus`.

    If those are not known, they are found out.
    """
    if not device.startswith("cuda"):
        return (device,)
    first = int(device.partition(":")[2] or 0)
    places = range(first, first + devices)
    if gpus is None:
        return machine_names(map(gpu_name, places))
    return tuple(machine_name(gpus[place]) if place < len(gpus) else gpu_name(place) for place in places)


def _is_spare(gpu: GpuSample) -> bool:
    return (free_bytes(gpu) or 0) >= _SPARE_SHARE * (gpu.memory_total_bytes or 1)
