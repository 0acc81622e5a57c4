"""Starting a run: its directory, then its worker. Used by the dashboard, the command line and the queue's runner."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from engine.runs import folder as runs
from engine.runs import launch
from engine.runs.device_name import check_devices
from engine.runs.folder import RunFolder
from presets import catalog
from presets.schema import Preset


def start_run(
    runs_dir: Path,
    name: str,
    overrides: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    data_dir: str | None = None,
    notify: str = "",
    argv: Sequence[str] | None = None,
    run_name: str = "",
    *,
    devices: int = 1,
    start: bool = True,
) -> RunFolder:
    """Make the run directory of a preset and start its worker, which outlives this process.

    Args:
        runs_dir: made where absent.
        name: of the preset.
        overrides: `key.path=value`, one a string.
        seed: of every random number of the run.
        device: auto, cpu, cuda, cuda:N or mps.
        data_dir: searched first for data sets.
        notify: a shell command for when the run has ended (`engine.runs.notify`).
        argv: the command that asked for the run, for the record; without it this process's.
        run_name: in the place of the preset and random digits in its id (`engine.runs.named`).
        devices: how many of them on this machine.
        start: without it the directory is all; somebody else starts the worker.

    Raises:
        CifartuiError: the preset or an override is not valid, so many devices cannot be, or the folder cannot be
            written.
    """
    check_devices(device, devices)
    preset = _with_absolute_paths(catalog.load(name, overrides))
    run = runs.create(
        runs_dir,
        recorded_name(name),
        run_name,
        preset=preset,
        overrides=tuple(overrides),
        seed=seed,
        device=device,
        devices=devices,
        data_dir=data_dir or data_from_environment(),
        argv=tuple(sys.argv if argv is None else argv),
        versions={},
        notify=notify,
    )
    if start:
        launch.start_worker(run, notify=notify)
    return run


def recorded_name(name: str) -> str:
    """Return a preset's name as its runs record it: that of a file without folder and ending."""
    return Path(name).stem if name.endswith(".toml") else name


def _with_absolute_paths(preset: Preset) -> Preset:
    """Return the preset with a data path of this folder named from the root: the worker runs in another one."""
    path = preset.data.path
    if path is None or not Path(path).exists():
        return preset
    return replace(preset, data=replace(preset.data, path=str(Path(path).absolute())))


def data_from_environment() -> str | None:
    """Return CIFARTUI_DATA as it is now: the run may be resumed from a shell that does not have it."""
    named = os.environ.get("CIFARTUI_DATA")
    return str(Path(named).expanduser().absolute()) if named else None
