"""Summary of a run in a few plain values, filter and sorting of summaries, earlier runs of a preset. No Textual.

`tui.data.summaries` reads them.
"""

import calendar
import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Literal, Protocol, TypeAlias, TypeVar, get_args

from msgspec import Struct

from engine import files
from engine.journal.events import Count, Flops, Moment, Number
from engine.journal.state import EpochPoint, RunState, worked_s
from engine.runs.delete import size_bytes
from engine.runs.newer_info import not_understood
from engine.runs.run_dir import RunDir, RunInfo, Status, status_of
from engine.runs.seed_groups import is_search
from presets.errors import CifartuiError
from presets.plan import total_epochs
from presets.schema import Report
from tui import format as fmt
from tui.text import run_text
from tui.text.run_name import Words, words_of

_AT_WORK = {"starting", "data", "model", "training", "validating", "testing", "paused"}


class Summary(Struct, frozen=True, kw_only=True):
    """Summary of a run in plain values. Accuracies are fractions, `created` is Unix seconds."""

    id: str
    preset_name: str
    title: str
    overrides: tuple[str, ...]
    status: Status
    reason: str
    created: Moment
    seed: int
    data: str
    device: str
    epoch: Count
    epochs: Count
    global_step: Count
    seconds_per_epoch: Number | None = None
    """Median of the whole epochs, validation included."""
    train_loss: Number | None
    val_loss: Number | None
    best_epoch: Count | None
    best_val_top1: Number | None
    test_top1: Number | None
    best_val_balanced: Number | None = None
    """Mean of the classes' recalls in the best epoch; None where classes are even."""
    test_balanced: Number | None = None
    alerts: tuple[str, ...]
    path: str
    host: str = ""
    """Host of its last worker; if none has begun, the host that launched it."""
    duration_s: Number | None = None
    """Seconds that its workers, one after another, have worked."""
    flops: Flops | None = None
    """Spent for the weights that it has; None if they were not counted."""
    num_bytes: Count | None = None
    """Size of its folder on disk, with checkpoints."""
    has_checkpoint: bool = False
    """There are weights to go on from."""
    has_test: bool = True
    """False if the data has no test part: there is no test accuracy, and will be none."""

    torch_gpus: Count | None = None
    """GPUs that torch saw where its worker ran, at least; None if that is not known."""
    not_understood: tuple[str, ...] = ()
    """Settings that this version does not know, because a newer one wrote them: keys, dotted."""
    group: str = ""
    """Id that it shares with runs of other seeds, or of a search; empty for a run alone (`tui.data.seed_group`)."""

    @property
    def is_elsewhere(self) -> bool:
        """True for a run of another host, which is called gpu1:ID here."""
        return ":" in self.id

    @property
    def words(self) -> Words:
        """Its settings that are not its preset's, in short words."""
        return words_of(self.overrides, self.seed, self.group)

    @property
    def pflop(self) -> float | None:
        """FLOPs that it has spent, in PFLOP; None if they were not counted."""
        return self.flops.pflop if self.flops is not None else None

    @property
    def no_test(self) -> str:
        """A word for a table in place of the test accuracy: "no part" if there is no test part."""
        return "" if self.has_test else "no part"


class RunCurves(Struct, frozen=True):
    """Curves of a run by epoch, to be drawn over those of others."""

    epochs: tuple[EpochPoint, ...]
    total_epochs: Count
    report: Report
    is_over: bool = False
    """Nothing trains it now: its axis ends with its last epoch."""


class Damaged(Struct, frozen=True):
    """A run that cannot be read, and why. `created` is Unix seconds, by its name."""

    id: str
    problem: str
    created: Moment
    num_bytes: Count
    state: Literal["damaged", "unreadable", "no line"] = "damaged"
    """"no line" stands for a host that cannot be asked, whose name is the id."""

    @property
    def reason(self) -> str:
        """The problem without the folder's path, where that stands before it."""
        return self.problem.partition(": ")[2] or self.problem


def damaged_of(run: RunDir, error: Exception) -> Damaged:
    """Return the row of a run whose files raised `error` when they were read."""
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(error, CifartuiError):
        problem = str(error)
    elif isinstance(error, OSError):
        problem = f"{run.path} cannot be read: {files.why_refused(run.path, error)}"
    else:
        problem = f"{run.path} cannot be read: {type(error).__name__}, {error}"
    is_there = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
    return Damaged(run.id, problem, _created(run), size_bytes(run.path), "unreadable" if is_there else "damaged")


def _created(run: RunDir) -> float:
    """Return the time in a run's name as Unix seconds; 0 if there is none."""
    try:
        return calendar.timegm(time.strptime(run.id[:15], "%Y%m%dT%H%M%S"))
    except ValueError:
        return 0.0


def summary_of(run: RunDir, info: RunInfo, state: RunState, now: float, num_bytes: int | None = None) -> Summary:
    """Return the summary of a run whose `state` was folded before; `now` is Unix seconds."""
    status = status_of(state, run.worker_lives(), now)
    last = state.epochs[-1] if state.epochs else None
    whole_s = [point.seconds for point in state.epochs if not point.partial]
    data = ""
    if state.data is not None:
        generated = " (generated images)" if state.data.generated else ""
        data = f"{state.data.dataset}{generated}, {state.data.num_train:,} train, {state.data.num_val:,} val"
    return Summary(
        id=info.id,
        preset_name=info.preset_name,
        title=info.preset.title,
        overrides=info.overrides,
        status=status,
        reason=state.finished.reason if state.finished else "",
        created=info.created,
        seed=info.seed,
        data=data,
        device=run_text.device_type(state.started) if state.started else "",
        epoch=state.epoch if status in _AT_WORK else _epochs_done(state),
        epochs=state.total_epochs or total_epochs(info.preset),
        global_step=state.global_step,
        seconds_per_epoch=median(whole_s) if whole_s else None,
        train_loss=last.train_loss if last else None,
        val_loss=last.val_loss if last else None,
        best_epoch=state.best.number if state.best else None,
        best_val_top1=state.best.val_top1 if state.best else None,
        test_top1=state.test.test_top1 if state.test else None,
        best_val_balanced=state.best.val_balanced if state.best else None,
        test_balanced=state.test.test_balanced if state.test else None,
        alerts=tuple(alert.text for alert in state.alerts),
        path=str(run.path),
        host=state.started.host if state.started else info.host,
        duration_s=worked_s(state, now if status in _AT_WORK else state.last_time),
        flops=state.flops,
        num_bytes=num_bytes,
        has_checkpoint=run.has_checkpoint,
        has_test=state.test is not None or not run_text.has_no_test(state.data),
        torch_gpus=_torch_gpus(state),
        not_understood=tuple(not_understood(info)),
        group=info.group,
    )


def _torch_gpus(state: RunState) -> int | None:
    if state.started is None:
        return None
    return state.started.num_gpus or (1 if state.started.device.startswith("cuda") else state.started.num_gpus)


def torch_gpus_here(runs: Iterable[Summary], host: str) -> int | None:
    """Return how many GPUs torch saw in the newest of these runs of `host` that tells; None if none does."""
    return next((run.torch_gpus for run in runs if run.host == host and run.torch_gpus is not None), None)


def _epochs_done(state: RunState) -> int:
    """Return the number of the last epoch that was validated; 0 if none was."""
    return state.epochs[-1].number if state.epochs else 0


SortKey: TypeAlias = Literal["started", "val", "test", "duration", "size"]
SORT_KEYS: tuple[SortKey, ...] = get_args(SortKey)


class Sortable(Protocol):
    """A row of a table that can be sorted: a run, or a group of runs."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def created(self) -> float: ...  # noqa: D102
    @property
    def best_val_top1(self) -> float | None: ...  # noqa: D102
    @property
    def test_top1(self) -> float | None: ...  # noqa: D102
    @property
    def duration_s(self) -> float | None: ...  # noqa: D102
    @property
    def num_bytes(self) -> int | None: ...  # noqa: D102


_Row = TypeVar("_Row", bound=Sortable)

_VALUES: dict[SortKey, Callable[[Sortable], float | None]] = {
    "started": lambda run: run.created,
    "val": lambda run: run.best_val_top1,
    "test": lambda run: run.test_top1,
    "duration": lambda run: run.duration_s,
    "size": lambda run: run.num_bytes,
}


def matches(run: Summary, wanted: str) -> bool:
    """Return whether every word of `wanted` is in the run's id, preset, title, state or changes."""
    return has_words(" ".join((run.id, run.preset_name, run.title, run.status, *run.overrides)), wanted)


def has_words(text: str, wanted: str) -> bool:
    """Return whether every word of `wanted` is somewhere in `text`, whatever the case."""
    return all(word in text.lower() for word in wanted.lower().split())


def ordered(runs: Iterable[_Row], key: SortKey, *, rising: bool = False) -> list[_Row]:
    """Return runs, or groups of them, by `key`, greatest (newest) first unless `rising`; without a value always last.

    Runs of the same value are by start, newest first.
    """
    newest_first = sorted(runs, key=lambda run: (run.created, run.id), reverse=True)
    value = _VALUES[key]
    with_value = [(number, run) for run in newest_first if (number := value(run)) is not None]
    without = [run for run in newest_first if value(run) is None]
    return [run for _, run in sorted(with_value, key=lambda pair: pair[0], reverse=not rising)] + without


def earlier(runs: Sequence[Summary], preset_name: str, host: str) -> str:
    """Return number, times and results of the earlier runs of a preset as a sentence; empty if there are none.

    Runs without overrides count; if there are none, the newest one with overrides does, and the sentence names
    them. The times are those of the newest: it most likely had the device that the next one will have.
    """
    here = [
        run
        for run in runs
        if run.preset_name == preset_name and run.host == host and run.seconds_per_epoch and not is_search(run.group)
    ]
    unchanged = [run for run in here if not run.overrides]
    shown = unchanged or here[:1]  # other changes, other times and results: those of several would not go together
    if not shown:
        return ""
    number = len(unchanged or here)
    times = {1: "once", 2: "twice"}.get(number, f"{number} times")
    parts = [f"{fmt.seconds(shown[0].seconds_per_epoch)} an epoch"]
    completed = next((run for run in shown if run.status == "completed"), None)
    if completed is not None:
        parts.append(f"{fmt.duration(completed.duration_s)} in all")
    best = max((run.best_val_top1 for run in shown if run.best_val_top1 is not None), default=None)
    if best is not None:
        parts.append(f"best val {fmt.percent(best)}")
    last = "" if number == 1 else "the last time "
    how = "" if unchanged else f", {last}with {' '.join(shown[0].overrides)}"
    return f"trained {times} here{how}: {', '.join(parts)}"
