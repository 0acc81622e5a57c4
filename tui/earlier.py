"""What earlier runs of a preset on this machine tell about the next one, in a sentence."""

from collections.abc import Sequence

from tui import format as fmt
from tui.summary import Summary


def earlier(runs: Sequence[Summary], preset_name: str, host: str) -> str:
    """Return how often a preset was trained here, how long that took and what came out; nothing if it never was.

    Runs without overrides tell; where there are none, the newest one with overrides does, and that is said. The
    times are those of the newest: it is the likeliest to have had the device that the next one will have.
    """
    here = [run for run in runs if run.preset_name == preset_name and run.host == host and run.seconds_per_epoch]
    unchanged = [run for run in here if not run.overrides]
    told = unchanged or here[:1]  # other changes, other times and results: those of several would not go together
    if not told:
        return ""
    number = len(unchanged or here)
    times = {1: "once", 2: "twice"}.get(number, f"{number} times")
    parts = [f"{fmt.seconds(told[0].seconds_per_epoch)} an epoch"]
    completed = next((run for run in told if run.status == "completed"), None)
    if completed is not None:
        parts.append(f"{fmt.duration(completed.duration_s)} in all")
    best = max((run.best_val_top1 for run in told if run.best_val_top1 is not None), default=None)
    if best is not None:
        parts.append(f"best val {fmt.percent(best)}")
    last = "" if number == 1 else "the last time "
    how = "" if unchanged else f", {last}with {' '.join(told[0].overrides)}"
    return f"trained {times} here{how}: {', '.join(parts)}"
