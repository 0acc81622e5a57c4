"""ETA: the remaining training time, as a pure function of the state that is steady while speed is noisy.

It is based on the median of the last whole epochs; before there is one, on the mean rate of the epoch so far, never
on that of the last seconds. Pauses, and the test at the end, do not count.
"""

import math
from bisect import bisect_right
from statistics import median

from engine.journal.events import Continued, Paused, Validated
from engine.journal.state import EpochPoint, RunState

_EPOCHS_USED = 5


def time_left(state: RunState) -> float | None:
    """Return seconds to the end of training as planned, validations included; None if unknown."""
    stage = state.stage
    if stage is None or stage.steps_per_epoch <= 0 or state.is_finished or state.phase == "testing":
        return None
    if state.is_stopping:
        return None
    done = min(1.0, state.step / stage.steps_per_epoch)
    recent = _recent_epochs(state)
    validating_s = median(validation_s(state, point) for point in recent) if recent else 0.0
    training_s = median(point.seconds for point in recent) - validating_s if recent else None
    if not recent or recent[-1].stage != stage.stage:
        training_s = _first_epoch_s(state, done, training_s)
    if training_s is None:
        return None
    whole = state.epochs[-1].number if state.epochs and not state.epochs[-1].partial else 0
    left = max(0, state.total_epochs - max(state.epoch, whole)) * (training_s + validating_s)
    if whole < state.epoch:
        left += (1 - done) * training_s + _validation_left(state, done) * validating_s
    if stage.seconds_left is not None and state.last_time is not None:
        spent = state.last_time - stage.time - _stood_still_s(state, stage.time, state.last_time)
        left = min(left, stage.seconds_left - spent)
    return max(0.0, left) if math.isfinite(left) else None


def _recent_epochs(state: RunState) -> list[EpochPoint]:
    """Return the last whole epochs, all of one stage: the one under way, or else the last that has any."""
    whole = [point for point in state.epochs[-2 * _EPOCHS_USED :] if not point.partial]
    return [point for point in whole if point.stage == whole[-1].stage][-_EPOCHS_USED:]


def _first_epoch_s(state: RunState, done: float, before_s: float | None) -> float | None:
    """Return the seconds to train a whole epoch of a stage that has finished none yet.

    A mean of an epoch of the stage before (`before_s`) and the rate of this one, which gains weight as the epoch
    goes on, so that the time left does not jump.
    """
    step_s = _step_s(state)
    if step_s is None or state.stage is None:
        return before_s
    so_far = step_s * state.stage.steps_per_epoch
    return so_far if before_s is None else done * so_far + (1 - done) * before_s


def _step_s(state: RunState) -> float | None:
    """Return the mean seconds of a step in the epoch under way, by this worker; the speed of now before it has one."""
    steps, stage = state.steps, state.stage
    epoch_start = state.global_step - state.step
    since = state.started.time if state.started is not None else 0.0
    first = bisect_right(steps.global_step, epoch_start)
    first = max(first, bisect_right(steps.time, since))
    if first + 1 < len(steps):
        begin, end = steps.time[first], steps.time[-1]
        seconds = end - begin - _stood_still_s(state, begin, end)
        num_steps = steps.global_step[-1] - steps.global_step[first]
        if seconds > 0 and num_steps > 0:
            return seconds / num_steps
    if not state.images_per_s or state.data is None or stage is None:
        return None
    images = state.data.num_train / stage.steps_per_epoch
    if first < len(steps):  # a range test's one epoch is any number of passes over the images
        before = max(epoch_start, state.started.global_step if state.started is not None else 0)
        images = steps.num_images[first] / max(1, steps.global_step[first] - before)
    return images / state.images_per_s


def validation_s(state: RunState, point: EpochPoint) -> float:
    """Return the seconds of an epoch's validation: from its last batch to its end; 0 if the batches are gone."""
    behind = bisect_right(state.steps.global_step, point.global_step)
    if behind == 0 or state.steps.global_step[behind - 1] < point.global_step:
        return 0.0
    last = state.steps.time[behind - 1]
    return min(point.seconds, max(0.0, point.time - last - _stood_still_s(state, last, point.time)))


def _stood_still_s(state: RunState, since: float, until: float) -> float:
    """Return the seconds between two times in which nothing was trained: pauses and validations asked for."""
    seconds, ended = 0.0, until
    for event in reversed(state.log):
        if event.time <= since:
            break
        if event.time > until:
            continue
        if isinstance(event, Continued):
            ended = event.time
        elif isinstance(event, Paused):
            seconds, ended = seconds + ended - event.time, until
        elif isinstance(event, Validated):
            seconds += event.seconds
    return seconds


def _validation_left(state: RunState, done: float) -> float:
    """Return the fraction of the validation of this epoch that is still to come."""
    evaluation = state.evaluation
    if done < 1 or evaluation is None or evaluation.total <= 0:  # one within an epoch was asked for, and is extra
        return 1.0
    return 1 - min(1.0, evaluation.done / evaluation.total)
