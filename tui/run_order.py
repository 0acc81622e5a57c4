"""Which runs are wanted and in what order: the filter and the sorting of the Runs screen and of `cifartui runs`.

Knows summaries; no files and no widgets.
"""

from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias, get_args

from tui.summary import Summary

SortKey: TypeAlias = Literal["started", "val", "test", "duration", "size"]
SORT_KEYS: tuple[SortKey, ...] = get_args(SortKey)

_VALUES: dict[SortKey, Callable[[Summary], float | None]] = {
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


def ordered(runs: Iterable[Summary], key: SortKey, *, rising: bool = False) -> list[Summary]:
    """Return the runs by `key`, greatest (newest) first unless `rising`; those without a value are always last.

    Runs of the same value are by start, newest first.
    """
    newest_first = sorted(runs, key=lambda run: (run.created, run.id), reverse=True)
    value = _VALUES[key]
    with_value = [(number, run) for run in newest_first if (number := value(run)) is not None]
    without = [run for run in newest_first if value(run) is None]
    return [run for _, run in sorted(with_value, key=lambda pair: pair[0], reverse=not rising)] + without
