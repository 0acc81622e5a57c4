"""Environment of the dashboard besides run directories: clock, GPUs, presets, data sets, the queue. Injectable.

One object, so that a test or a picture can show a machine other than this one.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.journal.events import GpuSample
from presets.schema import Data, Preset

if TYPE_CHECKING:
    from engine.runs.run_dir import RunDir
    from engine.runs.run_options import RunOptions
    from engine.shared.data_locations import Location
    from engine.shared.data_path import NamedData
    from engine.shared.image_archives import OnBytes
    from presets.catalog import Listed
    from presets.range_test import Sweep
    from tui.data.folder_summary import FolderSummary
    from tui.data.network_facts import NetworkFacts
    from tui.data.summary import Summary


RUNS_LOOKED_AT = 50
"""Newest runs that are searched for held devices: a run older than so many others is hardly alive."""


class GpuReadings(msgspec.Struct, frozen=True):
    """The GPUs now, or in `missing` why there are none."""

    gpus: tuple[GpuSample, ...]
    missing: str
    num_cores: int
    host_free_bytes: int | None = None
    """Memory of the machine that a new process can have."""
    taken: frozenset[str] = frozenset()
    """Devices that live runs hold, GPUs by nvidia-smi's numbers; read only if there are several GPUs."""


class Queued(msgspec.Struct, frozen=True):
    """The presets that wait to be trained, next one first, and whether a runner starts them."""

    names: tuple[str, ...] = ()
    is_worked_on: bool = True
    problem: str = ""
    """The reason, if the queue cannot be read."""


def _presets() -> "list[Listed]":
    from presets import catalog

    return catalog.list_presets()


def _loader() -> Callable[[str, Sequence[str]], Preset]:
    from presets import catalog

    return catalog.loader()


def _locate(data: Data, data_dir: str | None) -> "Location":
    from engine.shared import data_locations

    return data_locations.locate(data, data_dir)


def _data_at(named: str, poll: Callable[[], object], labels: str | None, dataset: object) -> "NamedData":
    from engine.shared import data_path

    return data_path.data_at(named, poll, labels, dataset)


def _summarize(named: str, poll: Callable[[], object], on_bytes: "OnBytes") -> "FolderSummary":
    from tui.data import folder_summary

    return folder_summary.summarize(named, poll, on_bytes)


def _recent_folders() -> tuple[str, ...]:
    from tui.data import recent_folders

    return recent_folders.recent_folders()


def _remember_folder(folder: str) -> None:
    from tui.data import recent_folders

    recent_folders.remember_folder(folder)


def gpu_reader(wait_s: float = 1.0) -> Callable[[], GpuReadings]:
    """Return a reader of this machine, which waits so many seconds for its driver."""
    from engine.shared.device_reader import DeviceReader
    from engine.shared.sampling import HostReader

    reader, host_reader = DeviceReader(wait_s), HostReader()

    def read() -> GpuReadings:
        gpus, missing = reader.sample(os.getpid())
        host = host_reader.sample()
        free = max(0, host.memory_total_bytes - host.memory_used_bytes)
        return GpuReadings(gpus, missing, len(os.sched_getaffinity(0)), free)

    return read


def _known_facts(presets: Sequence[Preset], data_dir: str | None) -> "list[NetworkFacts | None]":
    from tui.data import network_facts

    shipped = network_facts.shipped()
    return [network_facts.known(preset, data_dir, shipped) for preset in presets]


def _compute_facts(
    presets: Sequence[Preset], data_dir: str | None, stop: threading.Event
) -> "list[NetworkFacts | str]":
    from tui.data import network_facts

    return network_facts.compute_all(presets, data_dir, stop)


def _start(runs_dir: Path, name: str, options: "RunOptions") -> "RunDir":
    from engine.runs.start import start_run

    return start_run(runs_dir, name, options)


def _find_lr(runs_dir: Path, name: str, options: "RunOptions", sweep: "Sweep") -> "RunDir":
    from engine.runs.start import start_range_test

    return start_range_test(runs_dir, name, options, sweep)


def _taken(runs_dir: Path) -> frozenset[str]:
    from engine.queue.allocation import taken_devices
    from engine.runs.run_dir import list_runs
    from presets.errors import CifartuiError

    try:
        return taken_devices(list_runs(runs_dir)[:RUNS_LOOKED_AT])
    except CifartuiError:  # the folder cannot be listed: the list of runs says so
        return frozenset()


def _torch_gpus(runs: "Sequence[Summary]", host: str) -> int | None:
    from tui.data.summary import torch_gpus_here

    return torch_gpus_here(runs, host)


def _queued(runs_dir: Path) -> Queued:
    from engine.queue import queue_file
    from presets.errors import CifartuiError

    try:
        names = tuple(entry.preset_name for entry in queue_file.entries(runs_dir))
    except CifartuiError as error:
        return Queued(problem=str(error))
    return Queued(names, not names or bool(queue_file.runner_lives(runs_dir)))


def _enqueue(runs_dir: Path, names: Sequence[str], options: "RunOptions") -> None:
    from engine.queue import queue_file

    queue_file.add(runs_dir, names, options)


@dataclass(frozen=True)
class Environment:
    """Functions that read the machine.

    All but `now` and `steady` may use the disk or a driver; only `presets` and `loader` are quick.
    """

    now: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    """Seconds by a clock that nobody sets."""
    host: str = field(default_factory=socket.gethostname)
    presets: "Callable[[], list[Listed]]" = _presets
    loader: Callable[[], Callable[[str, Sequence[str]], Preset]] = _loader
    """Makes what loads several presets in a row, reading each file once."""
    locate: "Callable[[Data, str | None], Location]" = _locate
    data_at: "Callable[[str, Callable[[], object], str | None, object], NamedData]" = _data_at
    """Finds out what data lies at a path; raises CifartuiError, and what its second argument raises, which it calls
    now and then."""
    summarize: "Callable[[str, Callable[[], object], OnBytes], FolderSummary]" = _summarize
    """Looks into the folder at a path; likewise, and the third argument is told of an archive's unpacking."""
    recent_folders: Callable[[], tuple[str, ...]] = _recent_folders
    """Returns the folders opened recently, newest first; quick."""
    remember_folder: Callable[[str], None] = _remember_folder
    gpu_reader: Callable[[], Callable[[], GpuReadings]] = gpu_reader
    """Makes a reader; called, and its result called, in one thread only."""
    visible_gpus: str | None = field(default_factory=lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))
    known_facts: "Callable[[Sequence[Preset], str | None], list[NetworkFacts | None]]" = _known_facts
    compute_facts: "Callable[[Sequence[Preset], str | None, threading.Event], list[NetworkFacts | str]]" = (
        _compute_facts
    )
    """Takes seconds. A sentence stands for a preset that fails; raises CifartuiError if the process fails."""
    start: "Callable[[Path, str, RunOptions], RunDir]" = _start
    """Starts a preset in a runs folder; raises CifartuiError."""
    find_lr: "Callable[[Path, str, RunOptions, Sweep], RunDir]" = _find_lr
    """Starts the range test of a preset as it is; likewise."""
    taken: Callable[[Path], frozenset[str]] = _taken
    """Returns the devices that live runs of a runs folder hold."""
    torch_gpus: "Callable[[Sequence[Summary], str], int | None]" = _torch_gpus
    """Returns how many GPUs torch saw in the newest of these runs of a host that tells; quick."""
    queued: Callable[[Path], Queued] = _queued
    enqueue: "Callable[[Path, Sequence[str], RunOptions], None]" = _enqueue
    """Puts presets at the end of a runs folder's queue; raises CifartuiError."""


def watch_machine(
    environment: Environment,
    runs_dir: Path,
    found: Callable[[GpuReadings, Queued], object],
    again: threading.Event,
    stop: threading.Event,
    *,
    every_s: float,
) -> None:
    """Read the GPUs and the queue now, every `every_s` and after `again`, until `stop` (set `again` too to end)."""
    read = environment.gpu_reader()
    while True:
        again.clear()
        if stop.is_set():  # after the clearing, which may have undone the call to end
            return
        readings = read()
        if len(readings.gpus) > 1:
            readings = msgspec.structs.replace(readings, taken=environment.taken(runs_dir))
        found(readings, environment.queued(runs_dir))
        again.wait(every_s)
