"""Short runs of a learning-rate search as they are kept among the runs: found, begun, gone on with, measured. No torch.

They are runs like any other, which share a group (`engine.runs.seed_groups`). The group's id follows from what is
trained, so that the same search, asked for again, finds the runs that it has. They are not tested, and once one is
over its weights are deleted: those of twenty runs would fill a disk, and what counts is in the journal.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from engine.journal.eta import validation_s
from engine.journal.state import RunState, worked_s
from engine.runs.lr_search import Cost, Trial, has_diverged
from engine.runs.resume import resume_run
from engine.runs.run_dir import RunDir, list_runs, stem_of
from engine.runs.run_options import RunOptions
from engine.runs.seed_groups import SEARCH
from engine.runs.start import recorded_name, start_run
from presets import catalog
from presets.errors import CifartuiError
from presets.schema import Report
from presets.short_run import Length


def search_group(name: str, options: RunOptions) -> str:
    """Return the id that short runs of a preset share: another one for another preset, seed, device or data folder."""
    preset = replace(catalog.load(name, options.overrides), title="-", summary="", group="-", report=Report())
    what = (recorded_name(name), preset, options.overrides, options.seed, options.device, options.data_dir)
    return SEARCH + hashlib.sha256(msgspec.json.encode(what)).hexdigest()[:12]


class TrialRuns:
    """The runs of a search, by their overrides."""

    def __init__(self, runs_dir: Path, name: str, options: RunOptions) -> None:
        """Find those that are there."""
        self.group = search_group(name, options)
        self._runs_dir, self._name, self._options = runs_dir, name, options
        self._runs: dict[tuple[str, ...], RunDir] = {}
        stem = f"-{stem_of(recorded_name(name))}-"
        for run in list_runs(runs_dir):
            if stem not in run.id:
                continue
            with suppress(CifartuiError):  # one that cannot be read is trained anew
                info = run.read_info()
                if info.group == self.group and run.is_ours():
                    self._runs.setdefault(info.overrides, run)

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self._runs)

    def find(self, overrides: Sequence[str]) -> RunDir | None:
        """Return the run of the preset with further overrides; None if there is none."""
        return self._runs.get((*self._options.overrides, *overrides))

    def begin(self, overrides: Sequence[str]) -> RunDir:
        """Start that run, or go on with it, unless it has a worker.

        Raises:
            CifartuiError: it cannot be started, or not be gone on with.
        """
        run = self.find(overrides)
        if run is None:
            every = (*self._options.overrides, *overrides)
            run = start_run(self._runs_dir, self._name, replace(self._options, overrides=every, group=self.group))
            self._runs[every] = run
        elif not run.worker_lives():
            resume_run(run, notify=self._options.notify)
        return run


def trial_of(run: RunDir, lr: float, length: Length) -> Trial | None:
    """Return what a run came to; None if it is not over, or ended otherwise than at its end or by a loss that grew."""
    state = run.read_state()
    if not state.is_finished or run.worker_lives():
        return None
    seconds = worked_s(state, state.last_time) or 0.0
    if state.phase == "completed" and state.best is not None:
        best = state.best
        return Trial(
            lr=lr, length=length, accuracy=best.score, loss=best.val_loss, seconds=seconds, cost=cost_of(state),
            run=run.id,
        )  # fmt: skip
    if is_diverged(state):
        return Trial(lr=lr, length=length, accuracy=None, seconds=seconds, run=run.id)
    return None


def is_diverged(state: RunState) -> bool:
    """Return true if a run ended because its loss was no number, or had grown far above that of a guess."""
    if state.phase == "failed":
        return any(alert.kind == "non-finite-loss" for alert in state.alerts)
    return state.phase == "aborted" and has_diverged(state.steps.loss)


def cost_of(state: RunState, *, is_first: bool = False) -> Cost | None:
    """Return what the time of a run went into; None if it has trained no epoch.

    Args:
        state: of a run that is over.
        is_first: leave out what it took to prepare the data, which the next run finds in the cache.
    """
    num_images = sum(state.steps.num_images)
    total_s = worked_s(state, state.last_time)
    if not state.epochs or not num_images or total_s is None:
        return None
    epochs_s = sum(point.seconds for point in state.epochs)
    validations_s = sum(validation_s(state, point) for point in state.epochs)
    prepared_s = state.data.seconds if is_first and state.data is not None else 0.0
    return Cost(
        start_s=max(0.0, total_s - epochs_s - prepared_s),
        image_s=max(0.0, epochs_s - validations_s) / num_images,
        validation_s=validations_s / len(state.epochs),
    )


def delete_weights(run: RunDir) -> None:
    """Delete the checkpoints of a run that is over; a disk that refuses keeps them."""
    with suppress(OSError):
        for path in run.checkpoints.glob("*.pt"):
            path.unlink()
