"""Workers and command lines that are forked by a process that has imported torch (`tests.fork_server`)."""

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

import pytest

from engine.journal.events import RunFinished
from engine.runs.run_dir import RunDir
from engine.shared import child_process
from tests import forks
from tests.fork_client import ForkServer
from tests.fork_server import ANSWER
from tests.waiting import PATIENCE_S, left_by, wait_for

HOME = Path(__file__).parents[1]
_PATIENCE_S = 20


class Worker:
    """A forked worker, and its run."""

    def __init__(self, run: RunDir, pid: int) -> None:
        self.run = run
        self.pid = pid

    def is_held(self) -> None:
        """Wait until it is where it was to be held."""
        wait_for((self.run.path / "held").exists, lambda: f"the place; {left_by(self.run)}", _PATIENCE_S)

    def go_on(self) -> None:
        (self.run.path / "held").unlink()

    def kill(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ends(self) -> RunFinished | None:
        """Wait until it is gone, and return its last word."""
        wait_for(lambda: not self.run.worker_lives(), lambda: f"its end; {left_by(self.run)}", _PATIENCE_S)
        return self.run.read_state().finished

    def trains(self) -> None:
        wait_for(lambda: self.run.read_state().steps, lambda: f"training; {left_by(self.run)}", _PATIENCE_S)


ForkWorker = Callable[..., Worker]


class Program:
    """A forked program, as subprocess.Popen has it."""

    def __init__(
        self,
        fork_server: ForkServer,
        streams: Sequence[int],
        environment: Mapping[str, str],
        *,
        working_directory: Path | None = None,
        **order: object,
    ) -> None:
        self.returncode: int | None = None
        self._answer, told = os.pipe()
        self.pid = fork_server.program(
            (0, 1, 2, ANSWER), [*streams, told], environment=dict(environment),
            working_directory=str(working_directory or Path.cwd()), **order,
        )  # fmt: skip
        os.close(told)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """Wait for its end and return its exit code.

        Raises:
            TimeoutExpired: it did not end in so many seconds.
        """
        if self.returncode is None:
            if not select.select([self._answer], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a fork", timeout)
            self.returncode = int(os.read(self._answer, 16) or -signal.SIGKILL)
            os.close(self._answer)
        return self.returncode


class CommandLine(Program):
    """A forked `python -m cifartui`, and what it prints."""

    def __init__(
        self,
        fork_server: ForkServer,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        stdin: str = "",
        working_directory: Path | None = None,
    ) -> None:
        self.args = ["cifartui", *arguments]
        self._printed = TemporaryFile(), TemporaryFile()  # noqa: SIM115 (closed when it has ended)
        with TemporaryFile() as typed:
            typed.write(stdin.encode())
            typed.seek(0)
            streams = [typed.fileno(), *(file.fileno() for file in self._printed)]
            super().__init__(
                fork_server, streams, environment, working_directory=working_directory, arguments=arguments
            )

    def communicate(self, timeout: float = PATIENCE_S) -> tuple[str, str]:
        """Wait for its end, and return what it printed and what it complained of.

        Raises:
            TimeoutExpired: it did not end in so many seconds, and is killed.
        """
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        with self._printed[0] as output, self._printed[1] as errors:
            texts = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0) for file in (output, errors)]
        return texts[0].decode(), texts[1].decode()


@pytest.fixture(scope="session")
def fork_server(kept_processes: set[int]) -> Iterator[ForkServer]:
    """The process that forks, one for all tests of a session."""
    address = f"cifartui-tests-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"\0{address}")
        listener.listen()
        command = [sys.executable, "-m", "tests.fork_server", str(listener.fileno()), "-" * forks.ROOM]
        process = subprocess.Popen(command, cwd=HOME, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])
    with process:  # its standard input is closed at the end
        kept_processes.add(process.pid)
        yield ForkServer(address)


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
