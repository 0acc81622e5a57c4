"""Queue editor: reads and edits the queue in one thread, in the order asked for; posts messages. No widgets.

Entries that were taken out are kept, to be put back.
"""

import queue as stdlib_queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from textual.message import Message

from engine.journal.events import GpuSample
from engine.queue import queue_file, runner_process
from engine.queue.allocation import held_devices
from engine.queue.queue_file import Entry
from engine.runs.notify_settings import NOBODY, Notify
from engine.runs.run_dir import RunDir, list_runs
from engine.runs.worker_mark import WorkerMark
from engine.shared.gpus import visible_gpus
from presets.errors import CifartuiError
from tui.data.environment import RUNS_LOOKED_AT, Environment, GpuReadings
from tui.text import queue_text

_READ_EVERY_S = 2.0


@dataclass
class QueueRead(Message):
    """The queue, all that decides whose turn it is (`engine.queue.allocation`), and whether the runner is alive."""

    entries: tuple[Entry, ...] = ()
    held: dict[str, RunDir] = field(default_factory=dict)
    gpus: Sequence[GpuSample] | None = ()
    lives: bool = False
    mark: WorkerMark | None = None
    last_logged: str = ""
    problem: str = ""
    """The reason, if the queue cannot be read; else empty."""
    num_edits: int = 0
    """Number of edits made before this reading."""


@dataclass
class QueueEdited(Message):
    """Result of an edit as a sentence; `is_done` if the edit was made."""

    text: str
    is_done: bool = True


class QueueEditor:
    """Queue of edits: added at any time from any thread, made by `work`."""

    def __init__(
        self, runs_dir: Path, post: Callable[[Message], object], environment: Environment, notify: Notify = NOBODY
    ) -> None:
        self._runs_dir, self._post, self._environment = runs_dir, post, environment
        self._notify = notify
        """Targets of messages, for a runner that is started here."""
        self._edits: stdlib_queue.SimpleQueue[Callable[[], QueueEdited | None]] = stdlib_queue.SimpleQueue()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._is_shown = True
        self._num_edits = 0
        self.num_requested = 0
        self.removed: list[tuple[Entry, int]] = []
        """Entries taken out and their places, the last one last."""

    def work(self) -> None:
        """Read now, every two seconds while shown, and after each edit; until `close`, edits before which are made."""
        read_gpus = self._environment.gpu_reader()
        while True:
            self._wake.clear()  # before reading all that it wakes for
            is_last = self._stop.is_set()
            self._make_edits()
            if is_last:
                return
            if self._is_shown:
                self._post(self._read(read_gpus))
            self._wake.wait(_READ_EVERY_S if self._is_shown else None)

    def show(self, is_shown: bool) -> None:
        """Read at once and from now on, or rest."""
        self._is_shown = is_shown
        self._wake.set()

    def close(self) -> None:
        """End the thread after the edits requested so far."""
        self._stop.set()
        self._wake.set()

    def remove(self, entry: Entry, place: int) -> None:
        """Take an entry out; `place` is its place as shown, from 0."""

        def edit() -> QueueEdited:
            if not queue_file.remove(self._runs_dir, entry.id):
                return QueueEdited(
                    f"{queue_text.described(entry)} was started or taken out just before.", is_done=False
                )
            self.removed.append((entry, place))
            return QueueEdited(f"Taken out: {queue_text.described(entry)}. Press u to put it back.")

        self._request(edit)

    def put_back(self) -> None:
        """Put the entry taken out last back in its place."""

        def edit() -> QueueEdited:
            if not self.removed:
                return QueueEdited("Nothing to put back.", is_done=False)
            entry, place = self.removed[-1]
            queue_file.put_back(self._runs_dir, entry, place, self._notify)
            self.removed.pop()
            return QueueEdited(f"Put back: {queue_text.described(entry)}.")

        self._request(edit)

    def move(self, entry: Entry, places: int) -> None:
        """Move an entry; posts no result unless it fails, because the move is shown."""

        def edit() -> QueueEdited | None:
            queue_file.move(self._runs_dir, entry.id, places)
            return None

        self._request(edit)

    def start_runner(self) -> None:
        """Start a runner if none is alive."""

        def edit() -> QueueEdited:
            queue_file.start_runner(self._runs_dir, self._notify)
            return QueueEdited("The runner is started.")

        self._request(edit)

    def _request(self, edit: Callable[[], QueueEdited | None]) -> None:
        self.num_requested += 1
        self._edits.put(edit)
        self._wake.set()

    def _make_edits(self) -> None:
        while not self._edits.empty():
            edit = self._edits.get()
            try:
                edited = edit()
            except CifartuiError as error:
                edited = QueueEdited(str(error), is_done=False)
            self._num_edits += 1
            if edited is not None:
                self._post(edited)

    def _read(self, read_gpus: Callable[[], GpuReadings]) -> QueueRead:
        num_edits = self._num_edits
        try:
            entries = queue_file.entries(self._runs_dir)
            gpus = visible_gpus(read_gpus().gpus, self._environment.visible_gpus) if entries else ()
            return QueueRead(
                entries,
                held_devices(list_runs(self._runs_dir)[:RUNS_LOOKED_AT], gpus),
                gpus,
                queue_file.runner_lives(self._runs_dir),
                runner_process.runner_mark(self._runs_dir),
                runner_process.last_logged(self._runs_dir),
                num_edits=num_edits,
            )
        except CifartuiError as error:
            return QueueRead(problem=str(error), num_edits=num_edits)
