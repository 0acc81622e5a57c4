"""What the dashboard sees of the world besides run directories: clock, GPUs, presets, data sets.

Gathered in one object so that a test or a picture can show a machine other than this one.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from engine.runs.events import GpuSample
from presets.schema import Data, Preset

if TYPE_CHECKING:
    from engine.locate import Location
    from presets.catalog import Listed


class GpuReadings(msgspec.Struct, frozen=True):
    """The GPUs now, or in `missing` why there are none."""

    gpus: tuple[GpuSample, ...]
    missing: str
    num_cores: int


def _presets() -> "list[Listed]":
    from presets import catalog

    return catalog.list_presets()


def _load(name: str, overrides: Sequence[str]) -> Preset:
    from presets import catalog

    return catalog.load(name, overrides)


def _locate(data: Data, data_dir: str | None) -> "Location":
    from engine import locate

    return locate.locate(data, data_dir)


def _gpu_reader() -> Callable[[], GpuReadings]:
    from engine.devices import DeviceReader

    reader = DeviceReader()

    def read() -> GpuReadings:
        gpus, missing = reader.sample(os.getpid())
        return GpuReadings(gpus, missing, len(os.sched_getaffinity(0)))

    return read


@dataclass(frozen=True)
class Surroundings:
    """Ways to ask. All but `now` may touch the disk or a driver; only `presets` and `load` are quick."""

    now: Callable[[], float] = time.time
    host: str = field(default_factory=socket.gethostname)
    presets: "Callable[[], list[Listed]]" = _presets
    load: Callable[[str, Sequence[str]], Preset] = _load
    locate: "Callable[[Data, str | None], Location]" = _locate
    gpu_reader: Callable[[], Callable[[], GpuReadings]] = _gpu_reader
    """Makes a reader; called, and its result called, in one thread only."""
