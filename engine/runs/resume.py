"""Resume of a run that has no worker: as it was, or with changes of its preset. No torch.

`engine.training.optimizers` restores the optimizer under changed numbers. run.json never changes: amended.json beside
it has the values that hold now, and the RunStarted events have the changes of each resume.
"""

import re
import shlex
import time
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from engine.journal.state import RunState
from engine.runs import start
from engine.runs.notify_settings import NOBODY, Notify
from engine.runs.run_dir import STALLED_AFTER_S, RunDir, RunInfo
from engine.runs.run_options import words_to_start
from engine.shared.data_locations import locate
from engine.shared.device_names import check_devices
from presets import catalog
from presets.errors import CifartuiError
from presets.plan import plan
from presets.problems import printable
from presets.range_test import table_of
from presets.schema import Preset

_CHANGEABLE = (
    "train.epochs", "train.augment", "train.precision", "train.tf32", "train.compile", "train.cuda_graphs",
    "train.patience", "train.max_minutes", "optimizer", "schedule", "loss", "mix",
)  # fmt: skip
_EPOCHS = "train.epochs"
ACCEPT = "--accept-changed-data"
_DATA = "--data="
_MOST_EPOCHS = 100_000


def resume_run(
    folder: RunDir, changes: Sequence[str] = (), notify: Notify = NOBODY, *, devices: int | None = None
) -> None:
    """Start a worker that goes on from the run's last checkpoint.

    Args:
        folder: the run.
        changes: `key.path=value`, as for a new run; only of what _CHANGEABLE names. `train.epochs` is the
            total of the run (of its last stage, if it has stages); `train.epochs=+5` is five more than planned when it
            was last trained. Also `--data=PATH` if the data has moved, and `--accept-changed-data` if it is not what
            it was.
        notify: who is told of the run from now on; those of its first start are not.
        devices: how many from now on; without it as many as before.

    Raises:
        CifartuiError: it has a worker, there is nothing left to train, or a change cannot be made.
    """
    asked = split_options(changes)
    start.start_worker(
        folder,
        resume=True,
        prepare=lambda: _prepare(folder, asked, devices),
        notify=notify,
        options=_worker_options(folder, asked),
    )


class Asked(NamedTuple):
    """Changes of a resume, and what it says of the data."""

    changes: tuple[str, ...]
    accept_changed_data: bool
    data: str | None


def split_options(words: Sequence[str]) -> Asked:
    """Return changes `key.path=value` apart from the options of a resume among them."""
    data = [word.removeprefix(_DATA) for word in words if word.startswith(_DATA)]
    changes = tuple(word for word in words if word != ACCEPT and not word.startswith(_DATA))
    return Asked(changes, ACCEPT in words, data[-1] if data else None)


def _worker_options(folder: RunDir, asked: Asked) -> list[str]:
    """Return the worker's arguments that say where the data is, and if it may have changed.

    Raises:
        CifartuiError: there is no data at that path, or it is another data set.
    """
    options = [ACCEPT] if asked.accept_changed_data else []
    if asked.data is not None:
        data = folder.read_info().preset.data
        from engine.shared.data_path import data_at  # slow to import, and seldom needed

        found, dataset = data_at(asked.data, labels=data.labels, dataset=data.dataset), data.dataset
        if found.dataset != dataset:
            raise CifartuiError(
                f"{printable(found.path)} holds {found.dataset}, and run {folder.id} was trained on {dataset}; name "
                "the folder to which its data was moved."
            )
        options.append(f"--data-path={found.path}")
    return options


def _prepare(folder: RunDir, asked: Asked, devices: int | None) -> tuple[str, ...]:
    """Write the changes, and return them with the options; called under the run's lock."""
    changes = asked.changes
    told = (*((ACCEPT,) if asked.accept_changed_data else ()), *((f"{_DATA}{asked.data}",) if asked.data else ()))
    info, state = folder.read_info(), folder.read_state()
    if table_of(info.preset) is not None:
        again = printable(shlex.join(words_to_start(info)), longest=2000)
        raise CifartuiError(
            f"Run {folder.id} is a range test, which keeps no weights to go on from; run it anew: {again}"
        )
    _check_silent(folder, state)
    if asked.data is None:
        _check_there(folder.id, info)
    if devices is not None:
        check_devices(info.device, devices)
    preset, said = amended(folder.id, info.preset, state, changes)
    if table_of(preset) is not None:
        raise CifartuiError('A run that has begun cannot become a range test; leave the schedule "range-test" out.')
    finished = state.finished
    if finished is not None and finished.outcome == "completed" and _trained(preset, state) >= plan(preset)[-1].epochs:
        raise CifartuiError(
            f"Run {folder.id} is completed: {finished.reason}. There is nothing left to resume; to train on, give it "
            f"more epochs: cifartui resume {folder.id} --epochs +5"
        )
    others = replace(info, devices=devices or info.devices)
    if not changes:
        if others != info:
            folder.write_amended(others)
        return told
    begun = min(state.stage.stage if state.stage else 0, len(plan(preset)) - 1)
    if _comes_to(preset, begun) == _comes_to(info.preset, begun):
        if _never_began(preset, state):  # the changes of a resume that was refused, asked for again
            folder.write_amended(replace(others, preset=preset))
            return (*said, *told)
        raise CifartuiError(
            f"Nothing would change in run {folder.id}: {', '.join(said)} "
            "is what it has already, or what no stage that is left goes by."
        )
    folder.write_amended(replace(others, preset=preset, overrides=(*info.overrides, *said)))
    return (*said, *told)


def heard_elsewhere(folder: RunDir, state: RunState) -> float | None:
    """Return the age in seconds of the last event of a worker whose lock cannot be seen; None if it is silent.

    That is a worker of another host, or of a disk that refuses locks. Its clock may differ from ours: unless it was
    heard in the last half minute, its journal is watched for a while.
    """
    if folder.worker_lives() is not None or state.is_finished:
        return None
    heard = state.last_time if state.last_time is not None else folder.lock.stat().st_mtime
    ago_s = time.time() - heard
    if 0 <= ago_s <= STALLED_AFTER_S:
        return ago_s
    return 0.0 if folder.grows() else None


def _check_there(run_id: str, info: RunInfo) -> None:
    """Raise CifartuiError if the data of a run is not where it was, and no worker would fetch it."""
    data = info.preset.data
    location = locate(data, info.data_dir)
    if location.kind == "absent" and (data.dataset != "cifar100" or data.path is not None):
        text = f"{location.text[0].upper()}{location.text[1:]}"
        raise CifartuiError(f"{text}. If the data of this run has moved: cifartui resume {run_id} --data PATH")


def _check_silent(folder: RunDir, state: RunState) -> None:
    ago_s = heard_elsewhere(folder, state)
    if ago_s is None:
        return
    mark = folder.read_mark()
    raise CifartuiError(
        f"Run {folder.id} has a worker on {mark.host if mark else 'another machine'}, heard {ago_s:.0f} s ago; stop it "
        f"first, or try again when it has been silent for {STALLED_AFTER_S:.0f} s."
    )


def is_changeable(key: str) -> bool:
    """Return true if a resume may change this key of a preset."""
    return any(key == name or key.startswith(f"{name}.") for name in _CHANGEABLE)


def amended(run_id: str, preset: Preset, state: RunState, changes: Sequence[str]) -> tuple[Preset, tuple[str, ...]]:
    """Return the preset with the changes made, and the changes as journalled.

    Raises:
        CifartuiError: a change cannot be made.
    """
    said, others = [], []
    for change in changes:
        key, _, value = (part.strip() for part in change.partition("="))
        if not is_changeable(key):
            raise CifartuiError(
                f"{catalog.printable(key) or 'A change without a key'} cannot change in a run that has begun; "
                f"only {', '.join(_CHANGEABLE[:-1])} and {_CHANGEABLE[-1]} can. For the rest, start a new run."
            )
        if key == _EPOCHS:
            preset, change = _with_epochs(run_id, preset, state, value)
        else:
            others.append(change)
        said.append(change)
    return catalog.amend(preset, others), tuple(said)


def _with_epochs(run_id: str, preset: Preset, state: RunState, value: str) -> tuple[Preset, str]:
    """Return the preset with other epochs in its last stage, and the change in absolute words."""
    if not re.fullmatch(r"\+?[0-9]{1,9}", value):
        raise CifartuiError(
            f"The epochs of a resume are a total such as 20, or more of them such as +5, not {value!r}."
        )
    stages, trained = plan(preset), _trained(preset, state)
    epochs = int(value) + (_planned(preset, state) if value.startswith("+") else 0)
    of_what = f" of its last stage, {stages[-1].name}," if preset.stages else ""
    if epochs <= trained:
        raise CifartuiError(
            f"Run {run_id} has trained {trained} epochs{of_what} already; name a total above that, or +N for N more."
        )
    if epochs > _MOST_EPOCHS:
        raise CifartuiError(f"{epochs:,} epochs are more than the {_MOST_EPOCHS:,} that a run can have; name fewer.")
    unscaled = replace(preset.train, epochs_scale=1.0)  # the total named is the total trained
    if not preset.stages:
        return replace(preset, train=replace(unscaled, epochs=epochs)), f"{_EPOCHS}={epochs}"
    totals = [*(stage.epochs for stage in stages[:-1]), epochs]
    amended = tuple(replace(stage, epochs=total) for stage, total in zip(preset.stages, totals, strict=True))
    return replace(preset, train=unscaled, stages=amended), f"stages[{len(stages) - 1}].epochs={epochs}"


def _trained(preset: Preset, state: RunState) -> int:
    """Return the whole epochs of the last stage that are in the last checkpoint."""
    last_stage, saved = len(plan(preset)) - 1, state.checkpoints.get("last")
    epochs = [point for point in state.epochs if point.stage == last_stage and not point.partial]
    return sum(saved is None or point.global_step <= saved.global_step for point in epochs)


def _planned(preset: Preset, state: RunState) -> int:
    """Return the epochs of the last stage, as planned when it was last trained.

    So +N asked for again, after a resume that refused the data, is not added twice.
    """
    stages, stage = plan(preset), state.stage
    return stage.epochs if stage is not None and stage.stage == len(stages) - 1 else stages[-1].epochs


def _never_began(preset: Preset, state: RunState) -> bool:
    """Return true if the worker started last did not come to training, so that changes made for it still wait."""
    started, stage = state.started, state.stage
    is_behind = started is not None and stage is not None and stage.seq < started.seq
    return is_behind or _planned(preset, state) != plan(preset)[-1].epochs


def _comes_to(preset: Preset, first_stage: int) -> object:
    train = preset.train
    return plan(preset)[first_stage:], preset.loss, preset.mix, train.precision, train.patience, train.max_minutes
