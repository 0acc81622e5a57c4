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
from presets.checks import LARGEST_LR
from presets.errors import CifartuiError
from presets.range_test import default_range, range_test, range_test_name, table_of, tested_optimizer
from presets.schema import RANGE_TEST_STEPS, Preset


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
    preset = catalog.load(name, overrides)
    if devices > 1 and table_of(preset) is not None:
        raise CifartuiError("A range test takes one device; leave --devices out.")
    return _start(
        runs_dir, recorded_name(name), preset, overrides, seed=seed, device=device, data_dir=data_dir, notify=notify,
        argv=argv, run_name=run_name, devices=devices, start=start,
    )  # fmt: skip


def start_range_test(
    runs_dir: Path,
    name: str,
    overrides: Sequence[str] = (),
    *,
    first_lr: float | None = None,
    last_lr: float | None = None,
    steps: int = RANGE_TEST_STEPS,
    seed: int = 0,
    device: str = "auto",
    data_dir: str | None = None,
    notify: str = "",
    argv: Sequence[str] | None = None,
) -> RunFolder:
    """Start the range test of a preset as a run of its own; see `start_run`.

    Args:
        runs_dir: made where absent.
        name: of the preset.
        overrides: of the preset, before it is made a test.
        first_lr: where the rate begins; None for what suits the optimizer.
        last_lr: where it ends; likewise.
        steps: batches.
        seed: of every random number of the run.
        device: auto, cpu, cuda, cuda:N or mps.
        data_dir: searched first for data sets.
        notify: a shell command for when the run has ended.
        argv: the command that asked for the run.

    Raises:
        CifartuiError: as `start_run`, or the rates are not two positive numbers, the smaller one first.
    """
    check_devices(device, 1)
    preset = catalog.load(name, overrides)
    usual = default_range(tested_optimizer(preset))
    first = usual[0] if first_lr is None else first_lr
    last = usual[1] if last_lr is None else last_lr
    if not 0 < first < last <= LARGEST_LR:
        raise CifartuiError(
            f"A range test goes from a learning rate above 0 up to a larger one, at most {LARGEST_LR:g}, "
            f"not from {first:g} to {last:g}; give others with --from and --to."
        )
    return _start(
        runs_dir, range_test_name(recorded_name(name)), range_test(preset, first, last, steps), overrides, seed=seed,
        device=device, data_dir=data_dir, notify=notify, argv=argv,
    )  # fmt: skip


def _start(
    runs_dir: Path,
    recorded: str,
    preset: Preset,
    overrides: Sequence[str],
    *,
    seed: int,
    device: str,
    data_dir: str | None,
    notify: str,
    argv: Sequence[str] | None,
    run_name: str = "",
    devices: int = 1,
    start: bool = True,
) -> RunFolder:
    """Make the run directory of a loaded preset, recorded under that name, and start its worker."""
    run = runs.create(
        runs_dir,
        recorded,
        run_name,
        preset=_with_absolute_paths(preset),
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
