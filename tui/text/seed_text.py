"""Text of runs of several seeds: mean ± sample standard deviation, and of how many. No file access."""

from engine.runs.seed_groups import Spread
from tui import format as fmt


def spread(value: Spread | None, digits: int = 1) -> str:
    """Return "61.2 ± 0.4 %", or "61.2 %" for one run, which has no deviation."""
    if value is None or value.std is None:
        return fmt.percent(value.mean if value is not None else None, digits)
    return f"{100 * value.mean:.{digits}f} ± {100 * value.std:.{digits}f} %"


def cell(value: Spread | None) -> str:
    """Return "61.2 ±0.4", for a column of a table; "61.2 %" for one run."""
    text = spread(value)
    return text.replace(" ± ", " ±").removesuffix(" %") if "±" in text else text


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
