"""Learning-rate range test: its curve and suggestion, worded the same everywhere. Draws nothing."""

import shlex
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from engine.journal.state import RunState
from engine.runs.lr_suggestion import Point, Suggestion, images_of, passes_of, points_of, smoothed, suggest
from engine.runs.run_dir import RunInfo
from presets import catalog
from presets.errors import CifartuiError
from presets.range_test import table_of, tested_optimizer, with_lr
from presets.schema import Muon, Preset

_LEAST_ABOVE = 0.05
"""Of the loss at the start: so far above it a plot reaches at least."""
NO_WEIGHTS = "a range test keeps no weights"


class Verdict(Struct, frozen=True, kw_only=True):
    """The curve of a range test, and what follows from it. Rates are those of the first and the last batch planned."""

    first_lr: float
    last_lr: float
    points: list[Point]
    smoothed: list[float]
    """The loss at every point, smoothed."""
    suggestion: Suggestion | None
    """None while it may still change."""
    train_with: str = ""
    """The command that trains with the suggestion; empty unless made by `verdict_with_command`."""

    @property
    def lr(self) -> float | None:
        """The rate that is suggested, if one is."""
        return None if self.suggestion is None else self.suggestion.lr


def is_range_test(preset: Preset) -> bool:
    """Return whether a run of this preset is a range test."""
    return table_of(preset) is not None


def verdict(preset: Preset, state: RunState) -> Verdict | None:
    """Return the result of a range test so far; None for any other run."""
    table = table_of(preset)
    if table is None:
        return None
    points, num_images = points_of(preset, state.steps), images_of(state.steps)
    diverged = state.phase == "completed" and state.global_step < table.steps
    curve = smoothed(points, num_images)
    num_train = state.data.num_train if state.data is not None else 0
    found = suggest(
        points,
        table.steps,
        diverged=diverged,
        curve=curve,
        num_images=num_images,
        passes=passes_of(preset, num_train),
        num_train=num_train,
    )
    if found.lr is None and state.phase in {"stopped", "aborted", "failed"}:
        found = Suggestion(lr=None, reason="The test ended before the loss had risen; run it again, to its end.")
    return Verdict(
        first_lr=table.first_lr,
        last_lr=preset.optimizer.lr,
        points=points,
        smoothed=curve,
        suggestion=found if state.is_finished or found.lr is not None else None,
    )


def verdict_with_command(info: RunInfo, state: RunState, name: str = "") -> Verdict | None:
    """Return the verdict, with the command that trains if a rate is suggested; `name` as for `how_to_train`."""
    found = verdict(info.preset, state)
    if found is None or found.lr is None:
        return found
    return replace(found, train_with=how_to_train(info, found.lr, name))


def loss_range(found: Verdict) -> tuple[float, float]:
    """Return the least and the greatest loss that a plot shows: as far above the start as the loss falls below it.

    What rises further is drawn to the edge; the valley matters, and would be flat beside it.
    """
    if not found.points:
        return 0.0, 1.0
    losses = [point.loss for point in found.points]
    start, lowest = found.smoothed[0], min(losses)
    return lowest, min(max(losses), start + max(start - min(found.smoothed), _LEAST_ABOVE * start))


def in_words(suggestion: Suggestion | None) -> str:
    """Return the suggestion, or that there is none and why."""
    if suggestion is None:
        return "Suggested learning rate: not before the loss has risen."
    if suggestion.lr is None:
        return f"No learning rate is suggested. {suggestion.reason}"
    return f"Suggested learning rate: {suggestion.lr:g}. {suggestion.reason}"


def how_to_train(info: RunInfo, lr: float, name: str = "") -> str:
    """Return the command that trains the tested preset at `lr`, or what to change in the preset if no command can.

    Args:
        info: of the test.
        lr: to train with.
        name: of the preset as the user gave it; if empty, as the run records it.
    """
    return training_command(name or info.preset_source, info.overrides, lr)


def training_command(name: str, overrides: Sequence[str], lr: float) -> str:
    """Return the command that trains a preset at `lr`, or what to change in the preset if no command can."""
    try:
        preset = catalog.load(name, overrides)
    except CifartuiError:
        return f"in the preset {name}: optimizer.lr = {lr:g}"
    first = preset.stages[0] if preset.stages else None
    if first is not None and (first.lr is not None or first.optimizer is not None):
        return f"in the first stage of the preset {name}: lr = {lr:g}"
    changes = [f"optimizer.lr={lr:g}"]
    optimizer = with_lr(tested_optimizer(preset), lr)
    if isinstance(optimizer, Muon):
        changes.append(f"optimizer.other_lr={optimizer.other_lr:.3g}")
    return f"cifartui train {shlex.quote(name)}{_set(overrides)}{_set(changes)}"


def _set(changes: Sequence[str]) -> str:
    return "".join(f" --set {shlex.quote(change)}" for change in changes)
