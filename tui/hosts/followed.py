"""Run that a relay follows for somebody: its history, then its events, thinned so that a slow line carries them.

Rare events go out at once. Of the frequent ones at most one of a kind a second does, reports of the loop as their mean
over that second; while a run has used up its bytes they wait, and are merged.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from engine import files
from engine.journal import fold_file, jsonl
from engine.journal.events import AnyEvent, RunStarted, StepsTrained
from engine.runs.newer_info import read_shown
from engine.runs.run_dir import RunDir
from presets.errors import CifartuiError
from tui.data.follower import Life, life_of
from tui.hosts.history import encode_history
from tui.hosts.wire import FollowRun, History, Progress, Refused, encoded

BYTES_A_SECOND = 1500
"""Of a line, for one run: more is only taken by rare events. The rest of 2 kB is for what carries it."""
_MOST_SAVED_BYTES = 4 * BYTES_A_SECOND
_EVERY_S = 1.0
_MOST_CAUGHT_UP_BYTES = 1 << 20
"""So much of a journal is sent as events after a line has dropped; where it is more, the history is sent anew."""
_EVENTS_A_LINE = 500


class Followed:
    """One run as it is sent to whoever asked for it."""

    def __init__(
        self,
        ask: FollowRun,
        run: RunDir,
        send: Callable[[History | Progress | Refused], int],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """Follow `run`; `send` writes an answer and returns its bytes, `steady` are seconds of a clock nobody sets."""
        self._ask, self._run, self._send, self._steady = ask, run, send, steady
        self._reader = jsonl.event_reader(run.events)
        self._held: list[AnyEvent] = []
        self._posted: Life | None = None
        self._sent_at = self._counted_at = steady()
        self._allowed = float(_MOST_SAVED_BYTES)

    def open(self) -> None:
        """Send the history, unless its reader has what is before `since`.

        Raises:
            CifartuiError: the run cannot be read.
        """
        read_shown(self._run)
        if self._can_go_on():
            self._reader.skip_to(self._ask.since)
            return
        state, self._reader = fold_file.read_folded(self._run.events)
        self._posted = life_of(self._run)
        lives, log_tail = self._posted
        self._send(
            History(
                id=self._ask.id, run=self._run.id, info=_content(self._run), state=encode_history(state),
                offset=self._reader.offset, lives=lives, log_tail=log_tail,
            )
        )  # fmt: skip

    def _can_go_on(self) -> bool:
        since = self._ask.since
        with suppress(OSError):
            fd = files.open_to_read(self._run.events)
            try:
                size = os.fstat(fd).st_size
                return 0 < since <= size <= since + _MOST_CAUGHT_UP_BYTES and os.pread(fd, 1, since - 1) == b"\n"
            finally:
                os.close(fd)
        return False

    def tick(self) -> bool:
        """Send what is new, if it is time; return False once the run is gone."""
        with suppress(OSError):  # a shared disk that is away for a while: the next round tries again
            life = life_of(self._run)  # before reading: the last words of a worker that ends now are not missed
            for batch in self._reader.batches():
                self._held = thinned([*self._held, *batch])
            self._send_due(life)
        if self._run.is_gone():
            problem = f"Run {self._run.id} is gone: {self._run.path} was deleted or moved while it was shown."
            self._send(Refused(id=self._ask.id, problem=problem))
            return False
        return True

    def _send_due(self, life: Life) -> None:
        now = self._steady()
        self._allowed = min(_MOST_SAVED_BYTES, self._allowed + (now - self._counted_at) * BYTES_A_SECOND)
        self._counted_at = now
        is_urgent = life != self._posted or any(not event.frequent for event in self._held)
        if not is_urgent and not (self._held and now - self._sent_at >= _EVERY_S and self._allowed > 0):
            return
        held, self._held = self._held, []
        self._posted, self._sent_at = life, now
        lives, log_tail = life
        info = None
        if any(isinstance(event, RunStarted) and event.changes for event in held):
            with suppress(CifartuiError):
                info = _content(self._run)
        for start in range(0, max(1, len(held)), _EVENTS_A_LINE):
            part = held[start : start + _EVENTS_A_LINE]
            is_last = start + _EVENTS_A_LINE >= len(held)
            self._allowed -= self._send(
                Progress(
                    id=self._ask.id, events=tuple([Raw(encoded(event)) for event in part]),
                    offset=self._reader.offset if is_last else 0, lives=lives, log_tail=log_tail, info=info,
                )
            )  # fmt: skip


def _content(run: RunDir) -> Raw:
    """Return a run's settings as their file has them, on one line.

    Raises:
        CifartuiError: they cannot be read.
    """
    try:
        return Raw(msgspec.json.format(files.read(run.info_file()), indent=-1))
    except (OSError, msgspec.MsgspecError) as error:
        raise CifartuiError(f"Run {run.id} cannot be read: {error}.") from error


def thinned(events: Sequence[AnyEvent]) -> list[AnyEvent]:
    """Return rare events as they are, and of frequent ones between them the latest of a kind, or a mean a second."""
    thin: list[AnyEvent] = []
    frequent: dict[tuple[type, int, int], list[AnyEvent]] = {}

    def flush() -> None:
        thin.extend(sorted(map(_merged, frequent.values()), key=lambda event: event.seq))
        frequent.clear()

    for event in events:
        if not event.frequent:
            flush()
            thin.append(event)
        elif isinstance(event, StepsTrained):
            frequent.setdefault((StepsTrained, event.epoch, int(event.time // _EVERY_S)), []).append(event)
        else:
            frequent[type(event), 0, 0] = [event]
    flush()
    return thin


def _merged(events: Sequence[AnyEvent]) -> AnyEvent:
    """Return consecutive reports of an epoch as one: means weighted by images."""
    last = events[-1]
    reports = [event for event in events if isinstance(event, StepsTrained)]
    num_images = sum(event.num_images for event in reports)
    if len(reports) < 2 or not num_images or not isinstance(last, StepsTrained):
        return last
    seconds = sum(event.num_images / event.images_per_s for event in reports if event.images_per_s)
    norms = [(event.grad_norm, event.num_images) for event in reports if event.grad_norm is not None]
    weight = sum(number for _, number in norms)
    return replace(
        last,
        num_steps=sum(event.num_steps for event in reports),
        num_images=num_images,
        loss=sum(event.loss * event.num_images for event in reports) / num_images,
        top1=sum(event.top1 * event.num_images for event in reports) / num_images,
        images_per_s=num_images / seconds if seconds else last.images_per_s,
        grad_norm=sum(norm * number for norm, number in norms) / weight if weight else None,
        clipped=sum(event.clipped * event.num_images for event in reports) / num_images,
        timing=next((event.timing for event in reversed(reports) if event.timing is not None), None),
    )
