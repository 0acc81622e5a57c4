"""Connection to one host: a child process that speaks with its relay, and a thread that reads what it says.

Nobody waits for a host: asks are handed over, answers come by callbacks in the thread. A line that drops is made anew
with growing pauses, and whoever follows something is asked again from where it was. Everything received is bounded,
decoded into typed Structs, and text as from a file.
"""

import os
import random
import selectors
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from engine.runs.run_options import RunOptions
from engine.shared import child_process
from engine.shared.child_process import Process
from presets.errors import CifartuiError
from presets.problems import printable
from tui.hosts import wire
from tui.hosts.ssh import CONNECTS_WITHIN_S, Host, why_ended
from tui.hosts.wire import AnyAnswer, AnyAsk, HostileError

SILENT_S = 15.0
"""A relay answers a ping at once: one that says nothing for so long hangs, or its line does."""
_PING_EVERY_S = 5.0
_GREETS_WITHIN_S = CONNECTS_WITHIN_S + 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
_STEADY_S = 30.0
"""A line that held for so long is tried again at once after it dropped."""
_MOST_BANNER_BYTES, _MOST_BANNER_LINES = 1 << 16, 200
"""Most that a host's shell may print before the relay greets."""
_MOST_AT_ONCE_BYTES, _MOST_A_SECOND_BYTES = 1 << 26, 1 << 18
"""Of answers, unpacked: far more than any relay sends, and what the dashboard can read beside its own work."""
_MOST_COMPLAINT_BYTES = 1 << 12
_MOST_WAITING = 256
_ENDS_WITHIN_S = 0.5
OTHER_ANSWER = "{}: it gave another answer than was asked for."
_CLOSED_WITHIN_S = 3.0

Heard = Callable[[AnyAnswer], object]
_Answer = TypeVar("_Answer", bound=wire.Answer)


@dataclass(frozen=True)
class LineState:
    """State of a connection: up, or why not. `retry_at` is of `time.monotonic`."""

    is_up: bool = False
    problem: str = ""
    """A sentence; empty while the first try is under way."""
    retry_at: float = 0.0
    version: str = ""
    host: str = ""
    """Name that the machine gives itself."""


@dataclass(eq=False)
class Following:
    """An ask whose answers go on, made anew after every drop."""

    make: Callable[[int], AnyAsk]
    heard: Heard
    ask_id: int = 0


@dataclass(eq=False)
class _Request:
    """An ask that is answered once; `lost` is told why it never will be, and whether it may have arrived."""

    make: Callable[[int], AnyAsk]
    heard: Callable[[AnyAnswer], bool]
    """Returns True if more answers follow."""
    lost: Callable[[str, bool], object]
    until: float
    ask_id: int = 0


class DroppedError(Exception):
    """The line is no use any more; the text is a sentence."""


@dataclass
class Connection:
    """The line to one host. Its methods may be called from any thread."""

    host: Host
    changed: Callable[["Connection"], object] = lambda _: None
    """Called in the thread after `state` has changed."""
    steady: Callable[[], float] = time.monotonic
    pauses: tuple[float, float] = (FIRST_PAUSE_S, LONGEST_PAUSE_S)
    silent_s: float = SILENT_S
    is_patient: bool = True
    """False: who asks before the first greeting hears at once why there is none, and does not wait for a second try."""
    state: LineState = field(default_factory=LineState)
    num_received: int = 0
    """Bytes that came over the line."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._followed: list[Following] = []
        self._waiting: deque[_Request] = deque()
        self._sent: dict[int, _Request] = {}
        self._out = bytearray()
        self._next_id = 1
        self._closing = False
        self._wake_fd, self._waker_fd = os.pipe()
        os.set_blocking(self._wake_fd, False)
        os.set_blocking(self._waker_fd, False)
        self._thread = threading.Thread(target=self._work, name=f"host {self.host.name}", daemon=True)

    def open(self) -> "Connection":
        """Start the thread."""
        self._thread.start()
        return self

    def end(self) -> None:
        """Let the child and the thread end."""
        self._closing = True
        self._wake()

    def close(self) -> None:
        """End the child and the thread, and wait for both, but not for somebody whom the thread tells of it."""
        self.end()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(_CLOSED_WITHIN_S)

    # --- asks ----------------------------------------------------------------------------------------

    def follow(self, make: Callable[[int], AnyAsk], heard: Heard) -> Following:
        """Ask for something whose answers go on, now and after every drop.

        Args:
            make: makes the ask of its number, anew each time.
            heard: given each answer, in the thread; `wire.Refused` is the last one.
        """
        following = Following(make, heard)
        with self._lock:
            self._followed.append(following)
            if self.state.is_up:
                self._put(following)
        self._wake()
        return following

    def leave(self, following: Following) -> None:
        """Let the answers end."""
        with self._lock:
            if following not in self._followed:
                return
            self._followed.remove(following)
            if self.state.is_up and following.ask_id:
                self._out += wire.encode_ask(wire.Leave(id=self._new_id(), left=following.ask_id))
        self._wake()

    def ask(
        self,
        make: Callable[[int], AnyAsk],
        heard: Callable[[AnyAnswer], bool],
        lost: Callable[[str, bool], object],
        wait_s: float = 20.0,
    ) -> None:
        """Ask once.

        Args:
            make: makes the ask of its number.
            heard: given the answer in the thread; returns True if more of them follow.
            lost: told in the thread, in a sentence, why there will be no answer, and whether the ask was sent.
            wait_s: for so long a line is waited for; and again the answer.
        """
        request = _Request(make, heard, lost, self.steady() + wait_s)
        with self._lock:
            if len(self._waiting) + len(self._sent) < _MOST_WAITING and not self._closing:
                self._waiting.append(request)
                request_is_taken = True
            else:
                request_is_taken = False
        if not request_is_taken:
            lost(f"{self.host.name}: too much is asked at once.", False)
        self._wake()

    def answer_to(self, make: Callable[[int], AnyAsk], kind: type[_Answer], wait_s: float = 20.0) -> _Answer:
        """Ask once and wait for the answer, which is of a kind. Not for the dashboard's thread.

        Raises:
            CifartuiError: the host refused, or there is no such answer; a sentence that names the host.
        """
        done, found = threading.Event(), list[AnyAnswer]()
        problems = list[str]()

        def heard(answer: AnyAnswer) -> bool:
            found.append(answer)
            done.set()
            return False

        def lost(why: str, _was_sent: bool) -> None:
            problems.append(why)
            done.set()

        self.ask(make, heard, lost, wait_s)
        if not done.wait(2 * wait_s + 5.0):
            raise CifartuiError(f"{self.host.name}: no answer for {wait_s:.0f} s.")
        if problems:
            raise CifartuiError(problems[0])
        answer = found[0]
        if isinstance(answer, wire.Refused):
            raise CifartuiError(f"{self.host.name}: {answer.problem}")
        if not isinstance(answer, kind):
            raise CifartuiError(OTHER_ANSWER.format(self.host.name))
        return answer

    def start(self, preset_name: str, options: RunOptions, *, queued: bool = False) -> wire.Started:
        """Have a preset started there, or put into the queue, and wait for the answer. Not for the dashboard's thread.

        Raises:
            CifartuiError: the host refuses, because it lacks something for instance, or does not answer.
        """

        def ask(number: int) -> wire.StartPreset:
            return wire.StartPreset(
                id=number, preset=preset_name, overrides=options.overrides, seed=options.seed, seeds=options.seeds,
                device=options.device, devices=options.devices, queued=queued,
            )  # fmt: skip

        return self.answer_to(ask, wire.Started, 60.0)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _put(self, following: Following) -> None:
        following.ask_id = self._new_id()
        self._out += wire.encode_ask(following.make(following.ask_id))

    def _wake(self) -> None:
        with suppress(OSError):  # it is full: it is awake; or closed
            os.write(self._waker_fd, b"w")

    # --- the thread ------------------------------------------------------------------------------------

    def _work(self) -> None:
        pause, longest = self.pauses
        while not self._closing:
            began = self.steady()
            try:
                self._talk()
                problem = ""
            except DroppedError as dropped:
                problem = str(dropped)
            except OSError as error:
                problem = self._cannot_start(error)
            if self._closing:
                break
            if self.steady() - began > _STEADY_S:
                pause = self.pauses[0]
            rest = pause * random.uniform(0.75, 1.25)
            pause = min(longest, 2 * pause)
            self._drop(problem, self.steady() + rest)
            self._rest(self.steady() + rest)
        self._drop("", 0.0)
        for fd in (self._wake_fd, self._waker_fd):
            with suppress(OSError):
                os.close(fd)

    def _cannot_start(self, error: OSError) -> str:
        program = self.host.arguments[0]
        if isinstance(error, FileNotFoundError):
            return f"{self.host.name}: there is no program {program} on this machine; install it (openssh-client)."
        return f"{self.host.name}: {program} cannot be started ({error.strerror})."

    def _rest(self, until: float) -> None:
        """Wait until it is time to try again, and tell those who wait that there is no line."""
        while not self._closing and (left := until - self.steady()) > 0:
            self._give_up_late()
            with selectors.DefaultSelector() as selector:
                selector.register(self._wake_fd, selectors.EVENT_READ)
                if selector.select(min(left, 0.5)):
                    self._awake()

    def _awake(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake_fd, 1 << 12)

    def _set(self, state: LineState) -> None:
        self.state = state
        self.changed(self)

    def _drop(self, problem: str, retry_at: float) -> None:
        """Note that there is no line; nobody hears the answers that were under way."""
        with self._lock:
            sent, self._sent = self._sent, {}
            gives_up = self._closing or not (self.is_patient or self.state.version)
            waiting = list(self._waiting) if gives_up else []
            if gives_up:
                self._waiting.clear()
            self._out.clear()
            for following in self._followed:
                following.ask_id = 0
            state = LineState(False, problem, retry_at, self.state.version, self.state.host)
        if not self._closing:
            self._set(state)
        else:
            self.state = state
        for request in sent.values():
            request.lost(problem or f"{self.host.name}: the line was closed.", True)
        for request in waiting:
            request.lost(problem or f"{self.host.name}: the line was closed.", False)

    def _give_up_late(self) -> None:
        """Tell those who waited for long enough."""
        now = self.steady()
        with self._lock:
            late = [request for request in self._waiting if request.until < now]
            for request in late:
                self._waiting.remove(request)
            unanswered = [request for request in self._sent.values() if request.until < now]
            for request in unanswered:
                del self._sent[request.ask_id]
        for request in late:
            request.lost(self.state.problem or f"{self.host.name}: there is no line to it yet.", False)
        for request in unanswered:
            request.lost(f"{self.host.name}: it has not answered.", True)

    def _talk(self) -> None:
        """Start the child, and speak with the relay until the line drops.

        Raises:
            DroppedError: it did, and why.
            OSError: the child cannot be started.
        """
        pipe = subprocess.PIPE
        process = child_process.start_program(
            self.host.arguments, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        try:
            _Talk(self, process).go_on()
        finally:
            _end(process)

    # --- called by the talk ------------------------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        """True once `close` was called."""
        return self._closing

    def greeted(self, hello: wire.Hello) -> None:
        """Take the line for up, and ask all that is to be asked."""
        state = LineState(True, "", 0.0, printable(hello.version, 40), printable(hello.host, 100))
        with self._lock:
            self.state = state
            for following in self._followed:
                self._put(following)
        self.changed(self)

    def to_send(self, *, also_ping: bool) -> bytes:
        """Return the bytes to be written next."""
        refused = list[tuple[_Request, str]]()
        self._give_up_late()
        with self._lock:
            if self.state.is_up:
                if also_ping:
                    self._out += wire.encode_ask(wire.Ping(id=1))
                while self._waiting:
                    request = self._waiting.popleft()
                    request.ask_id = self._new_id()
                    request.until = self.steady() + 60.0
                    try:
                        self._out += wire.encode_ask(request.make(request.ask_id))
                    except CifartuiError as error:
                        refused.append((request, str(error)))
                        continue
                    self._sent[request.ask_id] = request
            content = bytes(self._out)
            self._out.clear()
        for request, why in refused:
            request.lost(why, False)
        return content

    def heard(self, answer: AnyAnswer) -> None:
        """Give an answer to whoever asked."""
        with self._lock:
            following = next((each for each in self._followed if each.ask_id and each.ask_id == answer.id), None)
            request = self._sent.get(answer.id)
        if following is not None:
            following.heard(answer)
            if isinstance(answer, wire.Refused):
                self.leave(following)
        elif request is not None and (not request.heard(answer) or isinstance(answer, wire.Refused)):
            with self._lock:
                self._sent.pop(answer.id, None)

    def awake(self) -> None:
        """Note that the thread is awake."""
        self._awake()

    @property
    def wake_fd(self) -> int:
        """Descriptor that can be read once there is something to do."""
        return self._wake_fd


class _Talk:
    """One life of a line, from the child's start to its end."""

    def __init__(self, connection: Connection, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._connection, self._process = connection, process
        self._in, self._out, self._err = (pipe.fileno() for pipe in (process.stdin, process.stdout, process.stderr))
        for fd in (self._in, self._out, self._err):
            os.set_blocking(fd, False)
        self._lines, self._unpacker = wire.Lines(wire.LONGEST_ANSWER_BYTES), wire.Unpacker()
        self._left = b""
        self._complaint = b""
        self._is_greeted = False
        self._num_banner = self._num_lines = 0
        self._began = self._heard_at = self._pinged_at = connection.steady()

    def go_on(self) -> None:
        """Speak until the line drops, which raises DroppedError, or the connection is closed."""
        steady = self._connection.steady
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection.wake_fd, selectors.EVENT_READ)
            selector.register(self._out, selectors.EVENT_READ)
            selector.register(self._err, selectors.EVENT_READ)
            is_writing = False
            while not self._connection.is_closing:
                self._check_time()
                is_due = self._is_greeted and steady() - self._pinged_at > min(
                    _PING_EVERY_S, self._connection.silent_s / 3
                )
                if is_due:
                    self._pinged_at = steady()
                self._left += self._connection.to_send(also_ping=is_due)
                if bool(self._left) != is_writing:
                    is_writing = bool(self._left)
                    if is_writing:
                        selector.register(self._in, selectors.EVENT_WRITE)
                    else:
                        selector.unregister(self._in)
                for key, _ in selector.select(0.5):
                    if key.fd == self._connection.wake_fd:
                        self._connection.awake()
                    elif key.fd == self._in:
                        self._write()
                    elif key.fd == self._err:
                        if not self._complain():
                            selector.unregister(self._err)
                    else:
                        self._read()

    def _check_time(self) -> None:
        now, name = self._connection.steady(), self._connection.host.name
        if not self._is_greeted and now - self._began > max(_GREETS_WITHIN_S, self._connection.silent_s):
            raise DroppedError(f"{name}: it has not answered for {now - self._began:.0f} s.")
        if self._is_greeted and now - self._heard_at > self._connection.silent_s:
            raise DroppedError(f"{name}: it has not answered for {now - self._heard_at:.0f} s.")

    def _write(self) -> None:
        try:
            self._left = self._left[os.write(self._in, self._left) :]
        except BlockingIOError:
            pass
        except OSError:  # it has ended: what it said last is read first
            self._left = b""

    def _complain(self) -> bool:
        """Keep the end of standard error; return False where there is no more."""
        try:
            said = os.read(self._err, 1 << 14)
        except BlockingIOError:
            return True
        self._complaint = (self._complaint + said)[-_MOST_COMPLAINT_BYTES:]
        return bool(said)

    def _read(self) -> None:
        try:
            received = os.read(self._out, 1 << 16)
        except BlockingIOError:
            return
        if not received:
            raise DroppedError(self._why_ended())
        self._heard_at = self._connection.steady()
        self._connection.num_received += len(received)
        for line in self._lines.feed(received):
            self._take(line)
        if not self._is_greeted:
            self._num_banner += len(received)
            self._check_banner()

    def _why_ended(self) -> str:
        name = self._connection.host.name
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_ENDS_WITHIN_S)
        while self._complain_whole():
            pass
        code = self._process.poll()
        if self._is_greeted and code != 255:
            return f"{name}: its relay ended; it is asked again."
        if self._is_greeted:
            return f"{name}: the line dropped."
        complaint = self._complaint.decode("utf-8", "replace")
        return f"{name}: {why_ended(self._connection.host, code, complaint)}."

    def _complain_whole(self) -> bool:
        before = self._complaint
        return self._complain() and self._complaint != before

    def _check_banner(self) -> None:
        if self._num_banner > _MOST_BANNER_BYTES or self._num_lines > _MOST_BANNER_LINES:
            raise DroppedError(
                f"{self._connection.host.name}: it printed much and no greeting of a relay; look at what its shell "
                "prints when ssh runs a command there."
            )

    def _take(self, line: bytes | None) -> None:
        name = self._connection.host.name
        if not self._is_greeted:
            self._num_lines += 1
            self._check_banner()
            hello = wire.hello_in(line or b"")
            if hello is None:
                return
            if hello.protocol != wire.PROTOCOL:
                raise DroppedError(
                    f"{name}: its cifartui {printable(hello.version, 40)} speaks form {hello.protocol} of the lines, "
                    f"this one form {wire.PROTOCOL}; install the same version on both."
                )
            self._is_greeted = True
            self._pinged_at = self._connection.steady()
            self._connection.greeted(hello)
            return
        allowed = _MOST_AT_ONCE_BYTES + (self._connection.steady() - self._began) * _MOST_A_SECOND_BYTES
        try:
            if line is None:
                raise HostileError("a line of more than can be shown")
            if self._unpacker.num_unpacked > allowed:
                raise HostileError("more than can be shown")
            self._connection.heard(self._unpacker.answer(line))
        except HostileError as error:
            raise DroppedError(f"{name}: it sent {error}; is that cifartui's relay?") from None


def _end(process: Process) -> None:
    """Close the child's pipes, and end it."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    process.terminate()
    try:
        process.wait(_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:  # stopped, or it does not listen
        process.kill()
        process.wait()
