"""Run on another host: followed and steered over a connection, with the messages of a run that is followed here."""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from textual.message import Message

from engine.files import DAMAGED
from engine.journal.commands import AnyCommand
from engine.journal.events import AnyEvent
from engine.runs.newer_info import decode_shown
from engine.runs.run_dir import RunDir, RunInfo
from tui.data.follower import RunOpened, RunProgressed, RunUnreadable
from tui.hosts import wire
from tui.hosts.connection import Connection
from tui.hosts.history import decode_history
from tui.hosts.wire import AnyAnswer, HostileError

COMMAND_WITHIN_S = 20.0
_POST_EVERY_S = 0.25
_MOST_WAITING = 20_000

_EVENT = msgspec.json.Decoder(AnyEvent)


@dataclass
class LineChanged(Message):
    """The line to the run's host dropped, or is back (`problem` is empty then)."""

    problem: str


class RemoteRun:
    """A run of another host by its id there."""

    def __init__(self, connection: Connection, run_id: str) -> None:
        """Take the run called `run_id` there, or whose name that is a part of."""
        self.connection, self.run_id = connection, run_id
        self._offset = 0
        self._is_lost = False

    @property
    def host(self) -> str:
        """Name of its host here."""
        return self.connection.host.name

    @property
    def name(self) -> str:
        """Its name as commands take it: gpu1:RUN."""
        return f"{self.host}:{self.run_id}"

    @property
    def folder(self) -> RunDir:
        """A run directory of its name, for texts: there is none here."""
        return RunDir(Path("/nowhere") / self.run_id)

    # --- following -----------------------------------------------------------------------------------

    def follow(self, post: Callable[[Message], object], stop: threading.Event) -> None:
        """Post as `tui.data.follower.follow_run` does, and LineChanged, until `stop`."""
        waiting = deque[Message]()  # posted at times, so that no host keeps the dashboard busy

        def heard(answer: AnyAnswer) -> None:
            match answer:
                case wire.History():
                    self._say_up(waiting.append)
                    waiting.append(self._opened(answer))
                case wire.Progress():
                    self._say_up(waiting.append)
                    self._add(waiting, self._progressed(answer))
                case wire.Refused():
                    waiting.append(RunUnreadable(f"{self.host}: {answer.problem}"))

        following = self.connection.follow(self._ask, heard)
        told = ""
        while not stop.wait(_POST_EVERY_S):
            with suppress(IndexError):  # until there is none; the line's thread takes the last one back to add to it
                while True:
                    post(waiting.popleft())
            problem = self.connection.state.problem
            if problem != told:
                told = problem
                if problem:
                    self._is_lost = True
                    post(LineChanged(problem))
        self.connection.leave(following)

    def _add(self, waiting: "deque[Message]", new: RunProgressed) -> None:
        """Let events wait, together with those that wait already.

        Raises:
            HostileError: they are more than any run has.
        """
        try:
            last = waiting.pop()
        except IndexError:
            last = None
        if isinstance(last, RunProgressed):
            new = RunProgressed(last.events + new.events, new.lives, new.log_tail, new.info or last.info)
        elif last is not None:
            waiting.append(last)
        if len(new.events) > _MOST_WAITING:
            raise HostileError("more events than a run has")
        waiting.append(new)

    def _ask(self, number: int) -> wire.FollowRun:
        return wire.FollowRun(id=number, run=self.run_id, since=self._offset)

    def _say_up(self, post: Callable[[Message], object]) -> None:
        if self._is_lost:
            self._is_lost = False
            post(LineChanged(""))

    def _opened(self, history: wire.History) -> RunOpened:
        try:
            info, state = decode_shown(history.info, history.run), decode_history(history.state)
        except DAMAGED:
            raise HostileError("a run that is none") from None
        self.run_id, self._offset = history.run, history.offset
        return RunOpened(info, state, history.lives, history.log_tail)

    def _progressed(self, progress: wire.Progress) -> RunProgressed:
        self._offset = progress.offset or self._offset
        info: RunInfo | None = None
        if progress.info is not None:
            with suppress(*DAMAGED):
                info = decode_shown(progress.info, self.run_id)
        return RunProgressed(events_of(progress), progress.lives, progress.log_tail, info)

    # --- steering --------------------------------------------------------------------------------------

    def send(self, command: AnyCommand, failed: Callable[[str], object], told: Callable[[str], object]) -> None:
        """Give the run a command; its answer comes with the run's events.

        If the line drops before the relay has said that it is written, it is not given again: once the line is back
        the relay is asked what became of it.

        Args:
            command: bears an id, by which it is never given twice.
            failed: told, in a thread, why it was not given.
            told: told what became of it meanwhile.
        """

        def heard(answer: AnyAnswer) -> bool:
            if isinstance(answer, wire.Refused):
                failed(answer.problem)
            elif isinstance(answer, wire.CommandGiven) and not answer.is_written:
                failed(f"it did not reach {self.host} before the line dropped; press the key again")
            return False

        def lost(why: str, was_sent: bool) -> None:
            if not was_sent:
                failed(f"it was not sent: {why}")
                return
            told(f"{why} It is asked whether it arrived.")
            self.connection.ask(
                look, heard, lambda again, _: failed(f"nobody can say whether it arrived: {again}"), 600.0
            )

        def look(number: int) -> wire.SendCommand:
            return wire.SendCommand(id=number, run=self.run_id, command=command, look_only=True)

        def give(number: int) -> wire.SendCommand:
            return wire.SendCommand(id=number, run=self.run_id, command=command)

        self.connection.ask(give, heard, lost, COMMAND_WITHIN_S)

    def page(self, most_steps: int) -> wire.RunPage:
        """Return all that is known of the run; waits for it.

        Raises:
            CifartuiError: it cannot be had.
        """
        return self.connection.answer_to(
            lambda number: wire.ShowRun(id=number, run=self.run_id, most_steps=most_steps), wire.RunPage, 60.0
        )

    def resume(self, changes: list[str]) -> None:
        """Have a worker started there that goes on from the last checkpoint; waits for it.

        Raises:
            CifartuiError: there is none, and why.
        """
        self.connection.answer_to(
            lambda number: wire.ResumeRun(id=number, run=self.run_id, changes=tuple(changes)), wire.Started, 60.0
        )


def events_of(progress: wire.Progress) -> list[AnyEvent]:
    """Return the events in an answer; those of a newer version, or damaged ones, are passed over."""
    events = list[AnyEvent]()
    for content in progress.events:
        with suppress(*DAMAGED):
            events.append(_EVENT.decode(content))
    return events
