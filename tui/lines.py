"""What is said of a run in single lines: of an event that stays, and of how it stands now. Knows no terminals."""

from collections.abc import Sequence

from rich.cells import cell_len

from engine.runs import events
from engine.runs.folder import Status
from engine.runs.state import RunState
from tui import format as fmt
from tui import words
from tui.characters import one_line

_GAP = "  "
_LEAST_BAR, _MOST_BAR = 8, 24


def describe(event: events.AnyEvent, state: RunState) -> str:
    """Return an event as a line for a log, or "" for those that are not worth one."""
    if isinstance(event, events.EpochCompleted):
        return _GAP.join(epoch_fields(event, state)).rstrip()
    if isinstance(event, events.StageStarted) and event.num_stages == 1:
        return ""
    return one_line(words.event(event)[0]) if event.logged else ""


def epoch_fields(event: events.EpochCompleted, state: RunState) -> list[str]:
    """Return what is said of an epoch, what matters most first, each field as wide in every line."""
    total = str(state.total_epochs)
    fields = [
        f"epoch {event.epoch:>{len(total)}}/{total}{' (part)' if event.partial else ''}",
        f"train {fmt.loss(event.train_loss)} {fmt.percent(event.train_top1):>6}",
        f"val {fmt.loss(event.val_loss)} {fmt.percent(event.val_top1):>6}",
        "best" if event.is_best else "    ",
        f"{fmt.duration(event.seconds):>10}",
        f"lr {fmt.lr(event.lr):<7}",
    ]
    if state.images_per_s is not None:
        fields.append(f"{fmt.count(state.images_per_s):>7} images/s")
    return fields


def fitted(fields: Sequence[str], columns: int) -> str:
    """Return the first fields that fit into so many columns, each whole; nothing of the first that does not fit."""
    line = ""
    for field in fields:
        longer = f"{line}{_GAP}{field}" if line else field
        if cell_len(longer) > columns:
            break
        line = longer
    return line


def live(state: RunState, status: Status, now: float, columns: int, *, ascii_only: bool) -> str:
    """Return how a run stands in at most so many columns; `now` is Unix seconds."""
    fraction, fields = _standing(state, status, now)
    fields = [one_line(field) for field in fields]
    if fraction is None:
        return fitted(fields, columns)
    room = max(_LEAST_BAR, min(_MOST_BAR, columns // 5))
    head = f"{bar(fraction, room, ascii_only=ascii_only)} {100 * fraction:3.0f} %"
    return fitted([head, *fields], columns)


def bar(fraction: float, columns: int, *, ascii_only: bool) -> str:
    """Return a progress bar of so many columns."""
    full = round(min(1.0, max(0.0, fraction)) * columns)
    done, still = ("=", ".") if ascii_only else ("━", "─")
    return done * full + still * (columns - full)


def _standing(state: RunState, status: Status, now: float) -> tuple[float | None, list[str]]:
    """Return the fraction done, where there is one, and what is said beside it, what matters most first."""
    heading = words.status(status, state)
    if status == "starting":
        return None, [heading, "PyTorch takes a few seconds to load"]
    if status == "data" and state.data_progress is not None:
        progress = state.data_progress
        done = progress.done / progress.total if progress.total > 0 else None
        return done, [words.progress(progress)]
    if state.stage is None or state.is_finished:
        return None, [heading]
    fields = [] if status == "training" and heading == "training" else [heading]
    fields.append(f"epoch {state.epoch}/{state.total_epochs}")
    if state.evaluation is not None:
        fields.append(f"{fmt.count(state.evaluation.done)}/{fmt.count(state.evaluation.total)} images")
    elif status == "paused":
        fields.append("go on with: cifartui continue")
    elif status == "stalled" and state.last_time is not None:
        fields.append(f"nothing heard for {fmt.duration(now - state.last_time)}")
    else:
        total = fmt.count(max(1, state.stage.steps_per_epoch))
        fields.append(f"batch {fmt.count(state.step):>{len(total)}}/{total}")
    return state.share_done, [*fields, *_measured(state, status)]


def _measured(state: RunState, status: Status) -> list[str]:
    fields = []
    if left := words.time_left(status, state.eta_s):
        fields.append(f"{left} left")
    if state.steps:
        last = state.steps[-1]
        fields.append(f"train {fmt.loss(last.loss)} {fmt.percent(last.top1):>6}")
    if state.best is not None:
        fields.append(f"best val {fmt.percent(state.best.val_top1)}")
    if state.images_per_s is not None:
        fields.append(f"{fmt.count(state.images_per_s)} images/s")
    return fields
