"""Workers and command lines that are forked by a process that has imported torch (`tests.fork_server`)."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import SimpleNamespace
from typing import Any

import pytest

from engine.journal.events import RunFinished
from engine.runs.run_dir import RunDir
from engine.shared import child_process
from tests import forks
from tests.fork_server import ANSWER, LARGEST_ORDER
from tests.waiting import PATIENCE_S, wait_for

HOME = Path(__file__).parents[1]
_PATIENCE_S = 20


class Worker:
    """A forked worker, and its run."""

    def __init__(self, run: RunDir, pid: int) -> None:
        self.run = run
        self.pid = pid

    def is_held(self) -> None:
        """Wait until it is where it was to be held."""
        wait_for((self.run.path / "held").exists, f"the place; its log: {_log(self.run)}", _PATIENCE_S)

    def go_on(self) -> None:
        (self.run.path / "held").unlink()

    def kill(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ends(self) -> RunFinished | None:
        """Wait until it is gone, and return its last word."""
        wait_for(lambda: not self.run.worker_lives(), f"its end; its log: {_log(self.run)}", _PATIENCE_S)
        return self.run.read_state().finished

    def trains(self) -> None:
        wait_for(lambda: self.run.read_state().steps, f"training; its log: {_log(self.run)}", _PATIENCE_S)


def _log(run: RunDir) -> str:
    return run.log.read_text() if run.log.exists() else ""


ForkWorker = Callable[..., Worker]


class ForkServer:
    """The process that forks, and the socket by which it is asked to."""

    def __init__(self, asker: socket.socket) -> None:
        self._asker = asker

    def fork(self, order: Mapping[str, object], descriptors: Sequence[int] = ()) -> int:
        """Have an order carried out, see `tests.fork_server.serve`; return the process id."""
        socket.send_fds(self._asker, [json.dumps(order).encode()], descriptors)
        return int(self._asker.recv(LARGEST_ORDER))

    def program(self, numbers: Sequence[int], descriptors: Sequence[int], **order: object) -> int:
        """Have a program run with these descriptors under these numbers; return the process id."""
        blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
        return self.fork({"numbers": numbers, "blocked": blocked, "has_session": False, **order}, descriptors)

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> "CommandLine":
        """Start a forked command line."""
        return CommandLine(self, arguments, environment)

    def popen(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: str, pass_fds: Sequence[int] = (), **options: Any
    ) -> Any:
        """Start one of our modules as subprocess.Popen does; what is returned has only the process id."""
        streams = [options.get(name) for name in ("stdin", "stdout", "stderr")]
        if not forks.is_forked(command) or not all(isinstance(stream, int) for stream in streams):
            return subprocess.Popen(command, env=env, cwd=cwd, pass_fds=pass_fds, **options)
        if subprocess.PIPE in streams:
            return subprocess.Popen(command, env=env, cwd=cwd, pass_fds=pass_fds, **options)
        with Path(os.devnull).open() as nothing:
            given = [nothing.fileno() if stream == subprocess.DEVNULL else stream for stream in streams]
            pid = self.program(
                (0, 1, 2, *pass_fds), [*given, *pass_fds], command=command, environment=dict(env),
                working_directory=cwd, has_session=options["start_new_session"],
            )  # fmt: skip
        return SimpleNamespace(pid=pid)


class CommandLine:
    """A forked `python -m cifartui` with nothing to read, as subprocess.Popen has it."""

    def __init__(self, fork_server: ForkServer, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.args, self.returncode = ["cifartui", *arguments], -signal.SIGKILL.value
        self._printed = TemporaryFile(), TemporaryFile()  # noqa: SIM115 (closed when it has ended)
        self._answer, told = os.pipe()
        with Path(os.devnull).open() as nothing:
            self.pid = fork_server.program(
                (0, 1, 2, ANSWER), [nothing.fileno(), *(file.fileno() for file in self._printed), told],
                arguments=arguments, environment=dict(environment), working_directory=str(Path.cwd()),
            )  # fmt: skip
        os.close(told)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = PATIENCE_S) -> tuple[str, str]:
        """Wait for its end, and return what it printed and what it complained of.

        Raises:
            TimeoutExpired: it did not end in so many seconds, and is killed.
        """
        if not select.select([self._answer], [], [], timeout)[0]:
            self.kill()
            raise subprocess.TimeoutExpired(self.args, timeout)
        self.returncode = int(os.read(self._answer, 16) or self.returncode)
        os.close(self._answer)
        with self._printed[0] as output, self._printed[1] as errors:
            texts = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0) for file in (output, errors)]
        return texts[0].decode(), texts[1].decode()


@pytest.fixture(scope="session")
def fork_server(kept_processes: set[int]) -> Iterator[ForkServer]:
    """The process that forks, one for all tests of a session."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "tests.fork_server", str(theirs.fileno()), "-" * forks.ROOM]
    with ours, subprocess.Popen(command, cwd=HOME, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        kept_processes.add(process.pid)
        yield ForkServer(ours)
        ours.close()


@pytest.fixture
def forked(fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the workers, agents, ranks and runners that this test starts forked, with all else as they have it."""
    monkeypatch.setattr(child_process, "subprocess", SimpleNamespace(Popen=fork_server.popen))


@pytest.fixture
def fork_worker(fork_server: ForkServer) -> Iterator[ForkWorker]:
    """Start a worker on a run, held at a place if one is named; it is ended with the test."""
    pids = []

    def start_worker(
        run: RunDir, hold: str = "", *, resume: bool = False, url: str = "", md5: str = "", **environment: str
    ) -> Worker:
        order = {"folder": str(run.path), "hold": hold, "resume": resume, "url": url, "md5": md5}
        cache = {"CIFARTUI_CACHE": os.environ["CIFARTUI_CACHE"]}
        pids.append(fork_server.fork({**order, "environment": {**cache, **environment}}))
        return Worker(run, pids[-1])

    yield start_worker
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
