"""The queue's runner: `python -m engine.queue.runner RUNS_DIR`, started by `engine.queue.runner_process`.

Starts the runs of a queue when it is their turn (`engine.queue.allocation`), and ends when the queue is empty. Keeps
nothing in memory that matters: killed and started again it goes on where it was. Never imports torch; knows of a run
only whether its worker lives, and which devices that holds.
"""

import argparse
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from engine import files
from engine.files import is_locked
from engine.queue import queue_file, runner_process
from engine.queue.allocation import held_devices, queue_positions
from engine.queue.queue_file import Entry
from engine.runs import start
from engine.runs.notify_settings import VARIABLE, Notify, decoded
from engine.runs.run_dir import RunDir, list_runs
from engine.runs.run_options import RunOptions, StoredOptions
from engine.runs.start import start_run
from engine.runs.worker_mark import sign_lock
from engine.shared.device_reader import DeviceReader
from engine.shared.gpus import visible_gpus
from presets import catalog
from presets.errors import CifartuiError

_LOOK_EVERY_S = 1.0
_LOOK_CLOSELY_EVERY_S = 5.0
"""At the latest: a run may have chosen its GPU, or somebody else's program have left one."""
_LOOK_CLOSELY_SHARE = 0.02
"""Of the time, at most: a folder of thousands of runs on a file server takes seconds."""
_TRY_AGAIN_AFTER_S = 30.0


def main(argv: list[str] | None = None) -> None:
    """Work the queue off."""
    parser = argparse.ArgumentParser(prog="engine.queue.runner")
    parser.add_argument("runs_dir", type=Path)
    parser.add_argument("--lock-fd", type=int, help="the runner's lock, inherited; without it, it is taken here")
    arguments = parser.parse_args(argv)

    os.umask(0o077)
    runs_dir: Path = arguments.runs_dir.absolute()
    stop = threading.Event()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    lock_fd = arguments.lock_fd if arguments.lock_fd is not None else runner_process.claim_runner(runs_dir)
    if lock_fd is None:
        print(f"The queue in {runs_dir} has a runner already.", file=sys.stderr)
        return
    os.set_inheritable(lock_fd, False)
    with suppress(OSError):  # a full disk
        sign_lock(lock_fd, os.getpid())
    _Runner(runs_dir, lock_fd, stop, decoded(os.environ.pop(VARIABLE, ""))).work()


class _Runner:
    """Remembers what waits and for which runs, so that most rounds cost next to nothing."""

    def __init__(self, runs_dir: Path, lock_fd: int, stop: threading.Event, notify: Notify) -> None:
        self._runs_dir, self._lock_fd, self._stop, self._notify = runs_dir, lock_fd, stop, notify
        self._gpus = DeviceReader()  # waits for a driver that hangs once, and not again
        self._waiting: tuple[Entry, ...] = ()
        self._holders: tuple[RunDir, ...] = ()
        self._look_closely_at = 0.0
        self._made: dict[str, RunDir] = {}
        """Runs that were made for an entry, and then something came between; by the entry's id."""
        self._is_unsure = True
        self._trouble = ""

    def work(self) -> None:
        """Start run after run until the queue is empty, its folder is gone or somebody asks to end."""
        while not self._stop.is_set() and not _is_gone(self._runs_dir):
            try:
                if self._is_unsure:
                    self._settle()
                waiting = queue_file.entries(self._runs_dir)
                if not waiting and self._ended():
                    return
                if self._may_be_new(waiting):
                    self._serve(waiting)
                self._stop.wait(_LOOK_EVERY_S if waiting else 0)
            except (CifartuiError, OSError) as error:  # a full disk, a damaged file: somebody may mend it
                self._is_unsure = True
                self._complain(f"the queue stands still, and is tried again: {error}")
                self._stop.wait(_TRY_AGAIN_AFTER_S)

    def _settle(self) -> None:
        """Find out what became of starting an entry where this runner, or one before that was killed, was cut off.

        A run tells in its `argv` which entry it is of. So one that trains already is not started again, and
        one that was made but got no worker gets it when its turn comes.
        """
        with queue_file.editing(self._runs_dir):
            waiting = queue_file.entries(self._runs_dir)
            self._made = _made_for(self._runs_dir, waiting)
            begun = {id for id, run in self._made.items() if _has_begun(run)}
            if begun:
                queue_file.write(self._runs_dir, [entry for entry in waiting if entry.id not in begun])
        self._is_unsure = False

    def _ended(self) -> bool:
        """Give the runner's lock back if the queue is still empty, so that whoever adds next starts a new runner."""
        with queue_file.editing(self._runs_dir):
            if queue_file.entries(self._runs_dir):
                return False
            os.close(self._lock_fd)
            return True

    def _may_be_new(self, waiting: tuple[Entry, ...]) -> bool:
        """Return whether more than in the last round could be started."""
        return (
            waiting != self._waiting
            or time.monotonic() >= self._look_closely_at
            or not all(is_locked(run.lock) is not False for run in self._holders)
        )

    def _serve(self, waiting: tuple[Entry, ...]) -> None:
        """Start every entry whose turn it is."""
        began = time.monotonic()
        gpus = visible_gpus(self._gpus.sample()[0], os.environ.get("CUDA_VISIBLE_DEVICES"))
        held = held_devices(list_runs(self._runs_dir), gpus)
        took_s = time.monotonic() - began
        for entry, position in zip(waiting, queue_positions(waiting, held, gpus), strict=True):
            if position.is_next:
                with queue_file.editing(self._runs_dir):  # so that what somebody takes out meanwhile is not started
                    if entry in queue_file.entries(self._runs_dir):
                        self._take(entry)
        self._waiting, self._holders = waiting, tuple(set(held.values()))
        self._look_closely_at = time.monotonic() + max(_LOOK_CLOSELY_EVERY_S, took_s / _LOOK_CLOSELY_SHARE)

    def _take(self, entry: Entry) -> None:
        """Start an entry, or find out that it never will be; then take it out of the file."""
        try:
            catalog.load(entry.preset_name, entry.overrides)
        except CifartuiError as error:
            queue_file.write(self._runs_dir, self._without(entry))
            self._say(f"took {entry.preset_name} out, it cannot be started: {error}")
            return
        run = self._start(entry)
        queue_file.write(self._runs_dir, self._without(entry))
        self._say(f"started {entry.preset_name} as {run.id}")

    def _start(self, entry: Entry) -> RunDir:
        made = self._made.pop(entry.id, None)
        if made is not None:
            start.start_worker(made, notify=self._notify)
            return made
        stored = {name: getattr(entry, name) for name in StoredOptions.__struct_fields__}
        options = RunOptions(**stored, notify=self._notify)
        return start_run(self._runs_dir, entry.preset_name, options, argv=(*sys.argv, _mark(entry)))

    def _without(self, entry: Entry) -> list[Entry]:
        return [each for each in queue_file.entries(self._runs_dir) if each.id != entry.id]

    def _complain(self, text: str) -> None:
        if text != self._trouble:
            self._trouble = text
            self._say(text)

    def _say(self, text: str) -> None:
        with suppress(OSError):  # a full disk
            runner_process.log(self._runs_dir, text)


def _is_gone(folder: Path) -> bool:
    """Return whether a folder was deleted or moved; a disk that is away for a while is not taken for that."""
    try:
        return not stat.S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def _mark(entry: Entry) -> str:
    return f"queue:{entry.id}"


def _made_for(runs_dir: Path, waiting: Sequence[Entry]) -> dict[str, RunDir]:
    """Return the runs that name one of the entries in their `argv`, by its id."""
    marks = {entry.id: f'"{_mark(entry)}"'.encode() for entry in waiting}
    made = {}
    for run in list_runs(runs_dir) if waiting else ():
        with suppress(OSError):
            info = files.read(run.path / "run.json")
            found = [id for id, mark in marks.items() if mark in info]
            if found and run.is_ours():
                made.update(dict.fromkeys(found, run))
    return made


def _has_begun(run: RunDir) -> bool:
    return run.read_mark() is not None or bool(run.worker_lives()) or run.events.exists()


if __name__ == "__main__":
    main()
