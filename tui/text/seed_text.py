"""Text of runs of several seeds: mean ± sample standard deviation, and of how many. No file access."""

from collections.abc import Sequence

from engine.runs.seed_groups import Spread
from tui import format as fmt

_MOST_SEEDS = 24
"""Columns for the seeds of a group."""


def spread(value: Spread | None, digits: int = 1) -> str:
    """Return "61.2 ± 0.4 %", or "61.2 %" for one run, which has no deviation."""
    if value is None or value.std is None:
        return fmt.percent(value.mean if value is not None else None, digits)
    return f"{100 * value.mean:.{digits}f} ± {100 * value.std:.{digits}f} %"


def cell(value: Spread | None) -> str:
    """Return "61.2 ±0.4" or "61.2 ±10" in at most nine columns; "61.2 %" for one run."""
    if value is None or value.std is None:
        return spread(value)
    mean, std = (
        f"{100 * each:.{0 if 100 * each >= most else 1}f}" for each, most in ((value.mean, 99.95), (value.std, 9.95))
    )
    return f"{mean} ±{std}"


def trained(title: str, val: Spread | None, test: Spread | None, num_asked: int) -> str:
    """Return the result of the runs that completed, of `num_asked` that were to be trained."""
    if val is None:
        return f"{title}: none of {num_asked} runs completed"
    parts = [f"val {spread(val, 2)}", *([f"test {spread(test, 2)}"] if test is not None else [])]
    of = "" if val.n == num_asked else f"; {num_asked - val.n} of {num_asked} did not complete"
    means = f"mean ± std, n = {val.n}" if val.std is not None else f"n = {val.n}"
    if test is not None and test.n != val.n:
        means += f", of the test n = {test.n}"
    return f"{title}: {', '.join(parts)} ({means}{of})"


def group(seeds: Sequence[int], val: Spread | None, test: Spread | None) -> str:
    """Return in a sentence what a group is and has come to, and the keys that act on it."""
    named = ", ".join(map(str, seeds))
    parts = [f"{fmt.plural(len(seeds), 'run')}, seeds {fmt.cut(named, _MOST_SEEDS)}"]
    if val is not None:
        parts += [f"val {spread(val)}", *([f"test {spread(test)}"] if test is not None else [])]
        parts.append(f"mean ± std, n {val.n}" if val.std is not None else f"n {val.n}")
    return f"{'; '.join((parts[0], ', '.join(parts[1:]))) if len(parts) > 1 else parts[0]}. Enter opens; D deletes all."


def search(num_runs: int, words: Sequence[str], val: float | None) -> str:
    """Return in a sentence what the runs of a learning-rate search have come to; `words` are those of the best."""
    found = f"; best so far {fmt.percent(val)} val with {' '.join(words)}" if val is not None else ""
    return f"{fmt.plural(num_runs, 'short run')} of a learning-rate search{found}. Enter opens; D deletes all."
