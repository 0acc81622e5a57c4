"""Runs named by the user: started by the first command that names one, resumed by every later one.

That makes a batch script that is put into the queue again one line. The name takes the place of the preset and the
random digits in the run's id; the time stays in front.
"""

import re
import time
from pathlib import Path

from engine.runs.resume import heard_elsewhere, resume_run
from engine.runs.run_dir import STALLED_AFTER_S, RunDir, list_runs
from engine.runs.run_options import RunOptions
from engine.runs.start import recorded_name
from presets.errors import CifartuiError
from presets.problems import printable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_LOOK_EVERY_S = 0.5
COMPLETED = "it is completed already"


def check_name(name: str) -> None:
    """Raise CifartuiError if `name` cannot be part of a run's id, or has another meaning already."""
    if not _NAME.fullmatch(name) or name == "latest":
        raise CifartuiError(
            f'"{printable(name, 100)}" cannot be the name of a run; use up to 80 letters, digits, ".", "_" and "-", '
            "a letter or digit first, such as job-1234."
        )


def find_named(runs_dir: Path, name: str) -> RunDir | None:
    """Return the newest run that was given `name`; None if there is none."""
    return next((run for run in list_runs(runs_dir) if run.id.partition("-")[2] == name), None)


def resume_named(run: RunDir, preset_name: str, options: RunOptions) -> str:
    """Resume a run unless it has a worker or is completed; return a sentence about it.

    A worker on another host is waited for half a minute: it may just have been killed there.

    Raises:
        CifartuiError: the run was started with another preset, other changes or another seed; it cannot be resumed.
    """
    info = run.read_original()
    if (info.preset_name, info.overrides, info.seed) != (recorded_name(preset_name), options.overrides, options.seed):
        raise CifartuiError(
            f"Run {run.id} has this name and was started with another preset, other changes or another seed; "
            "choose another name, or go on with it as it was: cifartui resume " + run.id
        )
    deadline = time.monotonic() + STALLED_AFTER_S + 1
    while heard_elsewhere(run, run.read_state()) is not None and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    if run.worker_lives():
        return "it has a worker already"
    if run.read_state().phase == "completed":
        return COMPLETED
    resume_run(run, notify=options.notify, devices=options.devices)
    return "going on with it"
