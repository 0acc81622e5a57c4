"""Starting a run: its directory, then its worker. Used by the dashboard, the command line and the queue's runner."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from engine.runs import launch
from engine.runs import run_dir as runs
from engine.runs.device_name import check_devices
from engine.runs.run_dir import RunFolder
from engine.runs.run_options import USUAL, Order
from presets import catalog
from presets.checks import LARGEST_LR
from presets.errors import CifartuiError
from presets.range_test import default_range, range_test, range_test_name, table_of, tested_optimizer
from presets.schema import RANGE_TEST_STEPS, Preset


def start_run(
    runs_dir: Path,
    name: str,
    order: Order = USUAL,
    *,
    argv: Sequence[str] | None = None,
    run_name: str = "",
    start: bool = True,
) -> RunFolder:
    """Make the run directory of a preset and start its worker, which outlives this process.

    Args:
        runs_dir: made where absent.
        name: of the preset.
        order: overrides, seed, devices and the rest.
        argv: the command that asked for the run, for the record; without it this process's.
        run_name: in the place of the preset and random digits in its id (`engine.runs.named_runs`).
        start: without it the directory is all; somebody else starts the worker.

    Raises:
        CifartuiError: the preset or an override is not valid, so many devices cannot be, or the folder cannot be
            written.
    """
    check_devices(order.device, order.devices)
    preset = catalog.load(name, order.overrides)
    if table_of(preset) is not None:
        _check_one_device(order)
    return _start(runs_dir, recorded_name(name), preset, order, argv, run_name, start=start)


def start_range_test(
    runs_dir: Path,
    name: str,
    order: Order = USUAL,
    *,
    first_lr: float | None = None,
    last_lr: float | None = None,
    steps: int = RANGE_TEST_STEPS,
    argv: Sequence[str] | None = None,
) -> RunFolder:
    """Start the range test of a preset as a run of its own; see `start_run`.

    Args:
        runs_dir: made where absent.
        name: of the preset.
        order: its overrides are of the preset, before it is made a test.
        first_lr: where the rate begins; None for what suits the optimizer.
        last_lr: where it ends; likewise.
        steps: batches.
        argv: the command that asked for the run.

    Raises:
        CifartuiError: as `start_run`; more than one device; the rates are not two positive numbers, the smaller one
            first.
    """
    _check_one_device(order)
    preset = catalog.load(name, order.overrides)
    usual = default_range(tested_optimizer(preset))
    first = usual[0] if first_lr is None else first_lr
    last = usual[1] if last_lr is None else last_lr
    if not 0 < first < last <= LARGEST_LR:
        raise CifartuiError(
            f"A range test goes from a learning rate above 0 up to a larger one, at most {LARGEST_LR:g}, "
            f"not from {first:g} to {last:g}; give others with --from and --to."
        )
    test = range_test(preset, first, last, steps)
    return _start(runs_dir, range_test_name(recorded_name(name)), test, order, argv)


def _check_one_device(order: Order) -> None:
    if order.devices > 1:
        raise CifartuiError("A range test takes one device; leave --devices out.")
    check_devices(order.device, 1)


def _start(
    runs_dir: Path,
    recorded: str,
    preset: Preset,
    order: Order,
    argv: Sequence[str] | None,
    run_name: str = "",
    *,
    start: bool = True,
) -> RunFolder:
    """Make the run directory of a loaded preset, recorded under that name, and start its worker."""
    run = runs.create(
        runs_dir,
        recorded,
        run_name,
        preset=_with_absolute_paths(preset),
        overrides=order.overrides,
        seed=order.seed,
        device=order.device,
        devices=order.devices,
        data_dir=order.data_dir or data_from_environment(),
        argv=tuple(sys.argv if argv is None else argv),
        versions={},
        notify=order.notify,
    )
    if start:
        launch.start_worker(run, notify=order.notify)
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
