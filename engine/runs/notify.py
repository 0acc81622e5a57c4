"""End-of-run command of the user, in a process of its own, so that nothing waits for it. No torch.

`python -m engine.runs.notify COMMAND` runs it through the shell, for half a minute at most.
"""

import os
import signal
import subprocess
import sys

from engine.journal.events import RunFinished
from engine.runs.run_dir import RunDir, RunInfo
from engine.shared import child_process

_PATIENCE_S = 30.0


def notify(folder: RunDir, info: RunInfo, finished: RunFinished, command: str) -> None:
    """Start `command` unless it is empty, without waiting; its output goes to that of this process.

    It is not taken from `info`, which only records it: a run directory may come from somebody else.

    The command finds CIFARTUI_RUN (the run's folder), CIFARTUI_RUN_ID, CIFARTUI_OUTCOME, CIFARTUI_TITLE,
    CIFARTUI_BEST_VAL and CIFARTUI_TEST (fractions, or empty) in its environment, and the same with _BALANCED behind.
    """
    if not command:
        return
    told = {
        "RUN": str(folder.path),
        "RUN_ID": folder.id,
        "OUTCOME": finished.outcome,
        "TITLE": info.preset.title,
        "BEST_VAL": _fraction(finished.best_val_top1),
        "TEST": _fraction(finished.test_top1),
        "BEST_VAL_BALANCED": _fraction(finished.best_val_balanced),
        "TEST_BALANCED": _fraction(finished.test_balanced),
    }
    child_process.start(
        "engine.runs.notify",
        [command],
        environment={**os.environ, **{f"CIFARTUI_{name}": text for name, text in told.items()}},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def _fraction(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def run(command: str, patience_s: float = _PATIENCE_S) -> int:
    """Run a command through the shell and return its exit code; end it, and what it started, when it takes too long."""
    process = child_process.start_shell(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        code = process.wait(patience_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        print(f"The notify command took longer than {patience_s:g} s and was ended: {command}", flush=True)
        return process.wait()
    if code:
        print(f"The notify command failed with exit code {code}: {command}", flush=True)
    return code


if __name__ == "__main__":
    run(sys.argv[1])
