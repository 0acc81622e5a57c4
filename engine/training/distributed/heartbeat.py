"""Heartbeats of the ranks: each writes its status twice a second and reads that of all others.

A thread does it, because the loop may be waiting, within torch, for a rank that will never answer. It finds a
process of its own machine that is gone within a second, and one anywhere that fell silent after a minute.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Literal, NamedTuple

import msgspec
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from engine.training.distributed.process_group import RankInfo

_BEAT_S = 0.5
_TIMEOUT = "CIFARTUI_RANK_TIMEOUT"
_SILENT_S = 60.0
_STUCK = 20.0
"""Times the timeout: for so long a step may take. The first one compiles kernels."""
_LOWEST_PID, _HIGHEST_PID = 2, 2**31 - 1
_GRACE_S = 3.0
"""For the loop to notice by itself that a rank is lost, before the thread ends the process."""


class RankStatus(msgspec.Struct, frozen=True):
    """Status that a rank reports of itself."""

    place: RankInfo
    beat: int
    num_looks: int
    """Number of times that the training loop reported progress."""
    failure: str
    """Reason in a sentence, if it cannot go on."""
    has_left: bool
    """True if the rank ends as planned: its absence is no failure."""


class RankLost(NamedTuple):
    """A rank without which nothing goes on.

    Attributes:
        sentence: who it is and what is known of it, without a full stop.
        place: of the rank; None where it cannot be told which.
        how: "failed" has said why; "gone" is a process that ended and did not; "silent" may hang; "ended" is rank 0,
            which ended the run as planned; "stuck" are all of them.
    """

    sentence: str
    place: RankInfo | None
    how: Literal["failed", "gone", "silent", "ended", "stuck"]


class Heartbeat:
    """Finds out which rank is lost. Call `looked` wherever the loop comes by."""

    def __init__(self, place: RankInfo, on_lost: Callable[[RankLost], None]) -> None:
        """Reach the place where the signs are kept: the store through which the ranks met.

        Args:
            place: of this process.
            on_lost: called in the thread when a rank is lost and the loop has not noticed; must end the process.
        """
        self._place = place
        self._on_lost = on_lost
        self._store = _connect()
        self._lock = threading.Lock()  # of the store's connection
        self._keys = [_key(rank) for rank in range(place.num_ranks)]
        self._beat = self._num_looks = 0
        self._failure, self._has_left = "", False
        self._signs: list[RankStatus] = []
        self._heard_at = [time.monotonic()] * place.num_ranks
        self._looked_at: float | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        timeout = os.environ.get(_TIMEOUT, "")
        self._silent_s = float(timeout) if timeout.replace(".", "", 1).isdecimal() else _SILENT_S

    def meet(self, everybody: Callable[[], object]) -> tuple[RankInfo, ...]:
        """Return the place of every rank, and begin to watch them; `everybody` waits until all have come here."""
        self._tell()
        everybody()
        self._listen()
        self._thread.start()
        return tuple(sign.place for sign in self._signs)

    def looked(self) -> None:
        """Note that the loop goes on."""
        self._num_looks += 1
        self._looked_at = time.monotonic()

    def rest(self) -> None:
        """Let what comes until the next `looked` take as long as it needs."""
        self._looked_at = None

    def leave(self, failure: str = "") -> None:
        """Tell the others that this rank ends as it should, or why it cannot go on, and watch them no more."""
        self._failure = failure
        self._has_left = not failure
        self._ending.set()
        with suppress(RuntimeError):  # whoever kept the store is gone as well
            self._tell()

    def lost(self, patience_s: float = 0.0) -> RankLost | None:
        """Return which rank is lost, waiting so long for one; None where none is."""
        deadline = time.monotonic() + patience_s
        while True:
            with suppress(RuntimeError):
                self._listen()
            if (found := self._find()) is not None or time.monotonic() >= deadline:
                return found
            time.sleep(0.05)

    # --- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ending.wait(_BEAT_S):
            self._beat += 1
            with suppress(RuntimeError):  # then everybody falls silent
                self._tell()
                self._listen()
            found = self._find()
            if found is not None and not self._ending.wait(_GRACE_S):
                self._on_lost(found)
                return

    def _tell(self) -> None:
        with self._lock:
            own = RankStatus(self._place, self._beat, self._num_looks, self._failure, self._has_left)
            self._store.set(self._keys[self._place.rank], msgspec.json.encode(own).decode())

    def _listen(self) -> None:
        with self._lock:
            signs = [msgspec.json.decode(told, type=RankStatus) for told in self._store.multi_get(self._keys)]
        now, before = time.monotonic(), self._signs or signs
        self._heard_at = [
            now if sign != was else heard for sign, was, heard in zip(signs, before, self._heard_at, strict=True)
        ]
        self._signs = signs

    def _find(self) -> RankLost | None:
        now = time.monotonic()
        others = [sign for sign in self._signs if sign.place.rank != self._place.rank]
        for sign in others:
            if sign.failure:
                return RankLost(sign.failure, sign.place, "failed")
        for sign in others:
            place = sign.place
            if sign.has_left:
                if place.is_first:
                    return RankLost(f"{capital(place)} has ended", place, "ended")
            elif place.node == self._place.node and not _lives(place.pid):
                return RankLost(f"{capital(place)} is gone", place, "gone")
            elif now - self._heard_at[place.rank] > self._silent_s:
                return RankLost(f"{capital(place)} has not been heard of for {self._silent_s:.0f} s", place, "silent")
        if self._looked_at is not None and now - self._looked_at > _STUCK * self._silent_s:
            minutes = _STUCK * self._silent_s / 60
            slowest = min(self._signs, key=lambda sign: sign.num_looks).place
            text = f"The ranks have waited for each other for {minutes:.0f} minutes, probably for {slowest}"
            return RankLost(text, None, "stuck")
        return None


def _connect() -> TCPStore:
    """Return a connection of its own to the store through which the ranks met."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(address, port, is_master=False, timeout=timedelta(seconds=10), wait_for_workers=False)


def _key(rank: int) -> str:
    """Return where a rank keeps its sign; torchrun may keep the store for processes that it starts again."""
    return f"cifartui/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{rank}"


def _lives(pid: int) -> bool:
    if not _LOWEST_PID <= pid <= _HIGHEST_PID:  # whoever reaches the store may write there
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def capital(place: RankInfo) -> str:
    """Return who it is, to begin a sentence."""
    text = str(place)
    return text[0].upper() + text[1:]
