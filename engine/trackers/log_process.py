"""Process that logs a run: `python -m engine.trackers.log_process RUN_FOLDER --to SERVICE`. No torch.

`cifartui log` starts it, and with `log` in the configuration `engine.runs.start` beside each worker. It is a process of
its own because libraries obey files of the working directory: W&B takes its server's address from `wandb/settings`.
"""

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

from engine.runs.notify_settings import LOG_SERVICES
from engine.runs.run_dir import RunDir
from engine.trackers.log_run import InUseError, Result, log_run
from presets.errors import CifartuiError
from presets.problems import printable

_AGAIN_EVERY_S = 2.0


def main() -> int:
    """Log a run; return 0, or 2 with a sentence."""
    parser = argparse.ArgumentParser(prog="engine.trackers.log_process")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--to", choices=LOG_SERVICES, required=True)
    parser.add_argument("--output", help="where, as engine.trackers.services.target_of has it")
    parser.add_argument("--follow", action="store_true", help="until the run ends")
    parser.add_argument("--patience-s", type=float, default=0.0, help="for a process that logs the run already")
    arguments = parser.parse_args()

    os.umask(0o077)
    stop = threading.Event()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    run, deadline = RunDir(arguments.folder), time.monotonic() + arguments.patience_s

    def begun(target: str) -> None:
        _say(f"Run {run.id} is logged to {arguments.to}: {target}")

    while True:
        try:
            result = log_run(run, arguments.to, arguments.output, follow=arguments.follow, stop=stop, started=begun)
        except CifartuiError as error:
            if isinstance(error, InUseError) and time.monotonic() < deadline and not stop.wait(_AGAIN_EVERY_S):
                continue
            print(printable(f"cifartui: {error}", longest=2000), file=sys.stderr, flush=True)
            return 2
        for sentence in _sentences(result, run, arguments.to, is_stopped=stop.is_set()):
            _say(sentence)
        return 0


def _sentences(result: Result, run: RunDir, service: str, *, is_stopped: bool) -> list[str]:
    """Return what is said at the end."""
    if result.seen_with:
        logged = f"{result.num_points:,} {'point' if result.num_points == 1 else 'points'}"
        if result.num_pictures:
            logged += f" and {result.num_pictures} {'image' if result.num_pictures == 1 else 'images'} with predictions"
        said = [f"{logged} logged. See them with: {result.seen_with}"]
    else:
        said = [f"Run {run.id} has told nothing new since it was logged to {service}."]
    if result.outcome is not None and not result.has_pictures:
        said.append(
            f"No predictions are kept of run {run.id}; cifartui evaluate {run.id} makes them, and they are logged then."
        )
    if result.is_lost:
        said.append(f"Run {run.id} has no worker; after cifartui resume {run.id}, log it again.")
    elif result.outcome is None:
        said.append(f"It trains on; log it again{'' if is_stopped else ' later, or with --follow'}.")
    return said


def _say(text: str) -> None:
    print(printable(text, longest=2000), flush=True)


if __name__ == "__main__":
    sys.exit(main())
