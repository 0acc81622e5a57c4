"""Evaluations of a run that a report takes from what is stored, and those that it lacks. Measures nothing, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.journal.state import RunState
from engine.runs import predictions, scores
from engine.runs.predictions import Predictions, Split
from engine.runs.run_dir import RunDir
from engine.runs.scores import Interval, Scores
from presets.errors import CifartuiError
from presets.safe_text import visible_in_a_row
from tui import format as fmt
from tui.data.run_detail import RunDetail, detail_and_state
from tui.text import run_text

SPLIT_NAMES: dict[Split, str] = {"val": "validation", "test": "test"}


@dataclass(frozen=True)
class SplitScores:
    """Scores of a split, by the predictions or, without them, by the journal, which has top-1 alone."""

    name: str
    num_images: int
    top1: float
    top1_interval: Interval
    balanced: float | None = None
    summed: Scores | None = None


@dataclass(frozen=True)
class Evaluated:
    """Predictions by the best weights of now, sentences about those that are missing, and splits to be measured."""

    found: list[Predictions]
    missing: list[str]
    to_measure: list[Split]


def to_measure(run: RunDir, now: float) -> list[Split]:
    """Return the splits of a run that is over of which a report lacks an evaluation by the best weights.

    Args:
        run: the run.
        now: Unix seconds.

    Raises:
        CifartuiError: run.json cannot be read.
    """
    record, state = detail_and_state(run, now)
    return [] if run_text.is_live(record.summary.status) else read_evaluated(run, record, state).to_measure


def read_evaluated(run: RunDir, record: RunDetail, state: RunState) -> Evaluated:
    """Read the predictions of a run's validation and test images by its best weights."""
    saved = state.checkpoints.get("best")
    if record.range_test is not None:
        return Evaluated([], [], [])
    if saved is None:
        return Evaluated([], ["The run has no best weights, so there is nothing to evaluate."], [])
    found: list[Predictions] = []
    missing: dict[Split, str] = {}
    hidden = []
    splits: tuple[Split, ...] = ("val",) if run_text.has_no_test(record.data) else ("val", "test")
    for split in splits:
        name = SPLIT_NAMES[split]
        command = f"cifartui evaluate {visible_in_a_row(fmt.short_id(run.id))} --split {split}"
        try:
            stored = predictions.read(run, split)
        except CifartuiError as error:
            missing[split] = str(error)
            continue
        if stored is None or stored.data is not None or stored.checkpoint != "best":
            missing[split] = f"The {name} images have not been evaluated by the best weights; do it with: {command}"
        elif stored.global_step < saved.global_step:
            missing[split] = f"The {name} images were evaluated by weights before the best ones; do it with: {command}"
        else:
            found.append(stored)
            if stored.true is None:
                hidden.append(f"The labels of the {name} images are hidden: they have no scores.")
            elif not stored.top and len(stored.class_names) > predictions.MOST_TOP:
                missing[split] = f"The {name} images were evaluated by a version without top-5; do it with: {command}"
    return Evaluated(found, [*missing.values(), *hidden], list(missing))


def scores_of(stored: Sequence[Predictions], record: RunDetail, state: RunState) -> list[SplitScores]:
    """Return the scores of validation and test images, by the predictions or, without them, by the journal."""
    measured = {SPLIT_NAMES[each.split]: scores.overall(each) for each in stored}
    data, best, end = record.data, state.best, state.test
    val = (best.val_top1, best.val_balanced) if best is not None else (None, None)
    test = (end.test_top1, end.test_balanced) if end is not None else (None, None)
    counts = (data.num_val, data.num_test) if data is not None else (0, 0)
    journalled = (("validation", *val, counts[0]), ("test", *test, counts[1]))
    found = []
    for name, top1, balanced, num_images in journalled:
        summed = measured.get(name)
        if summed is not None:
            found.append(
                SplitScores(name, summed.num_images, summed.top1, summed.top1_interval, summed.balanced, summed)
            )
        elif top1 is not None and num_images and 0 <= top1 <= 1:
            interval = scores.wilson(round(top1 * num_images), num_images)
            found.append(SplitScores(name, num_images, top1, interval, balanced))
    return found
