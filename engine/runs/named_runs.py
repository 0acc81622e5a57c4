"""Runs with a name of the user's: started the first time that a command asks for it, gone on with every time after.

That makes a batch script that is put into the queue again one line. The name takes the place of the preset and the
random digits in the run's id; the time stays in front. Knows run directories; nothing of processes.
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
    """Raise CifartuiError where `name` cannot be part of a run's id, or means something else already."""
    if not _NAME.fullmatch(name) or name == "latest":
        raise CifartuiError(
            f'"{printable(name, 100)}" cannot be the name of a run; use up to 80 letters, digits, ".", "_" and "-", '
            "a letter or digit first, such as job-1234."
        )


def find_named(runs_dir: Path, name: str) -> RunDir | None:
    """Return the newest run that was given `name`; None where there is none."""
    return next((run for run in list_runs(runs_dir) if run.id.partition("-")[2] == name), None)


def go_on(run: RunDir, preset_name: str, options: RunOptions) -> str:
    """Start a worker that goes on with a run, unless it has one or is completed; return a sentence about it.

    A worker on another host is given half a minute to fall silent: it may just have been killed there.

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
