"""The watcher of a run: `python -m engine.runs.watcher RUN_FOLDER …`, started with its worker by `engine.runs.start`.

It reads the journal while the run trains, tells the targets of the configuration what they are to be told, and also
what the worker cannot tell: that it is gone, or frozen. It ends when the run has ended, and its messages are sent or
given up; or when another worker takes the run, which has a watcher of its own. No torch.
"""

import argparse
import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from engine import files
from engine.files import DAMAGED
from engine.journal.events import Alerted, AnyEvent, RunFinished, RunStarted
from engine.journal.outline import outline_reader
from engine.runs import messages
from engine.runs.deliveries import QUIET_S, Deliveries
from engine.runs.messages import Message
from engine.runs.notify import Sending
from engine.runs.notify_settings import VARIABLE, Kind, Notify, decoded
from engine.runs.run_dir import STALLED_AFTER_S, RunDir
from presets.errors import CifartuiError
from presets.problems import printable

_LOOK_EVERY_S = 1.0
_WHILE_SENDING_S = 0.1
_LOCK_PATIENCE_S = 30.0
_MOST_BYTES = 1 << 12
_NOT_THERE = 2
"""Looks in a row that find no worker, before it is taken for lost."""
_SILENT_S = 60.0
"""Twice what makes a run "stalled" on the screen: nobody is called for a disk that is slow for a moment."""
_SILENT_AT_FIRST_S = 300.0
"""Until the first event: torch may be loaded from a slow disk."""
_FROZEN = (
    "The worker lives, and has written nothing for {seconds:.0f} s. Was it frozen (kill -CONT {pid} wakes it), or is "
    "the machine or its disk busy?"
)
_LOST = (
    "The worker (pid {pid}) ended without a last word: it was killed, by the kernel for want of memory perhaps (dmesg "
    "says so), or it crashed. Go on from its last checkpoint with: cifartui resume {run}"
)


class Watcher:
    """A watch over one worker of a run."""

    def __init__(self, folder: RunDir, pid: int, start: int, notify: Notify, now: float) -> None:
        """Begin.

        Args:
            folder: the run.
            pid: of the worker's process.
            start: byte of the journal behind what earlier workers wrote.
            notify: what is told, and to whom.
            now: seconds of a clock that nobody sets, as for `look`.
        """
        self._folder, self._pid, self._notify = folder, pid, notify
        self._info = folder.read_info()
        self._reader = outline_reader(folder.events)
        self._reader.skip_to(start)
        self._start = start
        self._heard_at, self._has_started = now, False
        self._num_missing = 0
        self._is_told_frozen = self._is_told_nan = False
        self._record = SentRecord(folder)
        self.deliveries = Deliveries(notify.targets, Sending, _say, self._record.quiet_until(now))
        self.has_ended = False
        """The run has: by its last event, or because its worker is gone."""
        self.is_replaced = False
        """Another worker has taken the run."""

    def work(self) -> None:
        """Watch to the end."""
        while True:
            now = time.monotonic()
            self.look(now)
            for kind in self.deliveries.step(now):
                self._record.add(kind)
            if self.is_replaced or (self.has_ended and self.deliveries.is_done):
                return
            if self.has_ended and self.deliveries.is_tried:
                self._record.give_lock_back()
            time.sleep(_WHILE_SENDING_S if self.deliveries.is_sending else _LOOK_EVERY_S)

    def look(self, now: float) -> None:
        """Read what is new, and see to it that what is to be told is sent."""
        mark = self._folder.read_mark()
        self.is_replaced = self.is_replaced or (mark is not None and mark.pid != self._pid)
        if self.is_replaced or self.has_ended:
            return
        lives = self._folder.worker_lives()  # before reading: the last words of a worker that ends now are not missed
        before = self._reader.offset
        try:
            events = self._reader.read()
        except OSError:  # a shared disk that is away for a while
            return
        for event in events:
            self._take(event, now)
            if self.has_ended or self.is_replaced:
                return
        if self._reader.offset != before:
            self._heard_at, self._is_told_frozen = now, False
        self._look_for_worker(lives, now)

    def _take(self, event: AnyEvent, now: float) -> None:
        """Tell what an event says."""
        if isinstance(event, RunStarted):
            self.is_replaced, self._has_started = self._has_started, True
        elif isinstance(event, Alerted):
            if (kind := messages.ALERTS.get(event.kind)) is not None:
                is_told = self._tell(kind, partial(messages.of_alert, self._folder, self._info, kind, event), now)
                self._is_told_nan = self._is_told_nan or (is_told and kind == "nan")
        elif isinstance(event, RunFinished):
            self.has_ended = True
            is_failure = event.outcome == "failed"
            if not (is_failure and self._is_told_nan):  # which has said that it ends the run
                end = partial(messages.of_end, self._folder, self._info, event)
                self._tell("failure" if is_failure else "end", end, now)

    def _look_for_worker(self, lives: bool | None, now: float) -> None:
        """Tell of a worker that is gone, or says nothing; `lives` is None on a disk that refuses locks."""
        silent_s = now - self._heard_at
        self._num_missing = 0 if lives or (lives is None and silent_s < STALLED_AFTER_S) else self._num_missing + 1
        if self._num_missing >= _NOT_THERE:
            self.has_ended = True
            if self._folder.is_gone():
                self._tell_unsaid("failure", self._folder.why_gone(), now)
            else:
                self._tell_unsaid("lost", _LOST.format(pid=self._pid, run=self._folder.id), now)
            return
        patience_s = _SILENT_S if self._reader.offset > self._start else _SILENT_AT_FIRST_S
        if lives and silent_s > patience_s and not self._is_told_frozen:
            self._is_told_frozen = True
            self._tell_unsaid("stall", _FROZEN.format(seconds=silent_s, pid=self._pid), now)

    def _tell_unsaid(self, kind: Kind, text: str, now: float) -> None:
        """Tell what no event says."""
        self._tell(kind, partial(messages.of_silence, self._folder, self._info, kind, text, time.time()), now)

    def _tell(self, kind: Kind, message: Callable[[], Message], now: float) -> bool:
        """Send a message if its kind is wanted; return whether it is sent at once."""
        is_sent = kind in self._notify.on and self.deliveries.add(message(), now)
        if is_sent:
            self._record.add(kind)
        return is_sent


class SentRecord:
    """Times at which messages of each kind were sent, kept beside the run for the next watcher; and this one's lock.

    The lock is held until the last message was tried once: `cifartui train` waits for that.
    """

    def __init__(self, folder: RunDir) -> None:
        """Take the lock, which the watcher of the worker before gives back within a second or two."""
        self._fd: int | None = None
        self._sent: dict[str, float] = {}
        with suppress(OSError, *DAMAGED):  # a new run, a full disk, another user's file: nothing is remembered
            fd = files.open_file(folder.notified, os.O_RDWR)
            files.check_ours(os.fstat(fd), folder.notified)
            _wait_for_lock(fd)
            self._fd = fd
            self._sent = msgspec.json.decode(os.pread(fd, _MOST_BYTES, 0), type=dict[str, float])

    def quiet_until(self, now: float) -> dict[str, float]:
        """Return until when there is to be no message of a kind; a time that is still to come is not believed."""
        ages = {kind: time.time() - sent for kind, sent in self._sent.items()}
        return {kind: now + QUIET_S - age for kind, age in ages.items() if 0 <= age < QUIET_S}

    def give_lock_back(self) -> None:
        """Let nobody wait any longer."""
        if self._fd is not None:
            with suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def add(self, kind: str) -> None:
        """Remember that a message is sent now."""
        self._sent[kind] = time.time()
        if self._fd is not None:
            with suppress(OSError):
                content = msgspec.json.encode(self._sent)
                os.pwrite(self._fd, content, 0)
                os.ftruncate(self._fd, len(content))


def _wait_for_lock(fd: int) -> None:
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            files.try_flock(fd, fcntl.LOCK_EX)
            return
        time.sleep(_WHILE_SENDING_S)


def _say(text: str) -> None:
    """Write a line into worker.log, which is the output of this process."""
    print(printable(text, longest=1000), file=sys.stderr, flush=True)


def main() -> int:
    """Watch a run; return 0."""
    parser = argparse.ArgumentParser(prog="engine.runs.watcher")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pid", type=int, required=True, help="of the worker, as the run's lock names it")
    parser.add_argument("--from", dest="start", type=int, required=True, help="byte of events.jsonl to start at")
    arguments = parser.parse_args()

    os.umask(0o077)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    notify = decoded(os.environ.pop(VARIABLE, ""))
    try:
        watcher = Watcher(RunDir(arguments.folder), arguments.pid, arguments.start, notify, time.monotonic())
    except CifartuiError as error:
        _say(f"Nobody is told of this run: {error}")
        return 1

    def hurry(_number: int, _frame: object) -> None:
        """Tell what the worker still says at the end of the machine, or of a job, and try nothing again."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        watcher.deliveries.hurry()

    signal.signal(signal.SIGTERM, hurry)
    watcher.work()
    return 0


if __name__ == "__main__":
    sys.exit(main())
