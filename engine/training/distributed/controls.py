"""Commands to a run on several devices, obeyed by every rank at the same step.

Rank 0 reads commands.jsonl; what it finds is given to all, and all obey it in the same way, rank 0 alone saying so.
That costs a round between the processes, a fraction of a millisecond on one machine, so it is not done at every
batch: with each round rank 0 says how many polls from now the next one is, so that there are twenty a second or so.
SIGTERM and SIGINT, whichever rank receives them, are for the whole run.
"""

import math
import signal
import time
from collections.abc import Iterable

import msgspec

from engine.journal import commands
from engine.journal.events import AnyEvent
from engine.journal.jsonl import EventWriter
from engine.runs.run_dir import RunDir
from engine.training.controls import Controls
from engine.training.distributed.heartbeat import Heartbeat
from engine.training.distributed.process_group import ProcessGroup, RankInfo

_INTERVAL_S = 0.05
_MOST_POLLS = 256
"""Between two rounds, whatever the last ones cost: batches may get slower."""
_ONE_SIGNAL_S = 5.0
"""A signal for the whole job reaches every rank, and each again from the agent: within this it is one."""
_DECODER = msgspec.json.Decoder(list[commands.AnyCommand])


class SilentJournal(EventWriter):
    """The journal of every rank but the first: nothing is written."""

    def __init__(self) -> None:
        pass

    def write_all(self, events: Iterable[AnyEvent]) -> list[AnyEvent]:
        """Return the events."""
        return list(events)

    def close(self) -> None:
        """Close nothing."""


class SharedControls(Controls):
    """Controls that are the same in every rank, from `share` on; rank 0's alone before that."""

    def __init__(self, folder: RunDir, journal: EventWriter, place: RankInfo, *, commands_from: int = 0) -> None:
        super().__init__(folder, journal, commands_from=commands_from)
        self._place = place
        self._group: ProcessGroup | None = None
        self._heartbeat: Heartbeat | None = None
        self._is_shared = False
        self._received: signal.Signals | None = None
        self._signalled_at = -math.inf
        self._found: list[commands.AnyCommand] = []
        """By rank 0, for all."""
        self._given: list[commands.AnyCommand] = []
        """By rank 0, to all."""
        self._polls_left = self._num_polls = 1
        self._round_at = time.monotonic()

    def connect(self, group: ProcessGroup, heartbeat: Heartbeat) -> None:
        """Note the others, with whom these controls will be shared."""
        self._group, self._heartbeat = group, heartbeat

    def share(self) -> None:
        """Obey from now on what rank 0 finds, together with the others."""
        self._is_shared = True

    def _on_signal(self, number: int, frame: object) -> None:
        if not self._is_shared:
            super()._on_signal(number, frame)
        else:
            self._received = signal.Signals(number)
            self._wake.set()

    def poll(self) -> float:
        """Take in what was asked, as in one process; all ranks poll equally often."""
        self._next_read = 0.0
        if not self._is_shared:
            return super().poll() if self._place.is_first else 0.0
        self._polls_left -= 1
        self.was_round = self._polls_left <= 0
        return super().poll() if self.was_round else 0.0

    def poll_at_once(self) -> None:
        """Make the next poll a round: what comes now may take longer a poll than what was before."""
        self._polls_left = self._num_polls = 1

    def poll_alone(self) -> None:
        """Look, where the ranks are not in step, for what need not wait for that: raise Aborted where it was asked."""
        if self._heartbeat is not None:
            self._heartbeat.looked()
        if not self._place.is_first:
            return
        self._found += super()._arrived()
        for command in self._found:
            if isinstance(command, commands.Abort):
                self._obey(command)

    def _look(self) -> None:
        group, heartbeat = self._group, self._heartbeat
        if not self._is_shared or group is None or heartbeat is None:
            super()._look()
            return
        found, num_polls = b"", 0
        if self._place.is_first:
            self._found += super()._arrived()
            found = msgspec.json.encode(self._found) if self._found else b""
            self._found, num_polls = [], self._polls_to_next()
        received, self._received = self._received, None
        is_another = self._place.is_first and time.monotonic() - self._signalled_at > _ONE_SIGNAL_S
        number, counts, num_bytes, self._num_polls = group.largest([received or 0, is_another, len(found), num_polls])
        heartbeat.looked()
        self._polls_left = self._num_polls
        if number and counts:
            self._signal, self._signalled_at = signal.Signals(number).name, time.monotonic()
        self._given = _DECODER.decode(group.bytes_from_rank0(found, num_bytes)) if num_bytes else []
        super()._look()

    def _arrived(self) -> list[commands.AnyCommand]:
        if not self._is_shared:
            return super()._arrived()
        given, self._given = self._given, []
        return given

    def _polls_to_next(self) -> int:
        """Return how many polls fit between two rounds, as far as rank 0 can tell."""
        now = time.monotonic()
        poll_s, self._round_at = (now - self._round_at) / self._num_polls, now
        fitting = int(_INTERVAL_S / poll_s) if poll_s > 0 else _MOST_POLLS
        return max(1, min(fitting, 2 * self._num_polls, _MOST_POLLS))
