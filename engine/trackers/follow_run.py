"""Process that logs a run while it trains: `python -m engine.trackers.follow_run RUN_FOLDER --to SERVICE`. No torch.

The configuration's `log` starts it beside each worker (`engine.runs.start`). Its output is the run's worker.log.
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
from engine.trackers.log_run import InUseError, log_run
from presets.errors import CifartuiError
from presets.problems import printable

_AGAIN_EVERY_S = 2.0
_PATIENCE_S = 60.0
"""The process of the worker before may still be handing over."""


def main() -> int:
    """Log a run to its end; return 0, or 1 with a sentence."""
    parser = argparse.ArgumentParser(prog="engine.trackers.follow_run")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--to", choices=LOG_SERVICES, required=True)
    arguments = parser.parse_args()

    os.umask(0o077)
    stop = threading.Event()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    run, deadline = RunDir(arguments.folder), time.monotonic() + _PATIENCE_S
    while True:
        try:
            result = log_run(run, arguments.to, None, follow=True, stop=stop)
        except InUseError as error:
            if time.monotonic() < deadline and not stop.wait(_AGAIN_EVERY_S):
                continue
            return _fail(str(error))
        except CifartuiError as error:
            return _fail(f"{error} Log the run later with: cifartui log {run.id} --to {arguments.to}")
        _say(f"{result.num_points:,} points were logged to {arguments.to}; see them with: {result.seen_with}")
        return 0


def _fail(why: str) -> int:
    _say(f"The run is not logged: {why}")
    return 1


def _say(text: str) -> None:
    print(printable(text, longest=1000), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
