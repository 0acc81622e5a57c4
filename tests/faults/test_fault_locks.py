"""Disks that refuse locks, hosts that do not see each other's, and clocks of another host."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest

from engine.journal.events import DeviceSampled, HostSample, RunFinished
from engine.journal.jsonl import EventWriter
from engine.queue.allocation import taken_devices
from engine.runs import claim, delete, resume, run_dir, start
from engine.runs.delete import delete_run
from engine.runs.run_dir import STALLED_AFTER_S, RunDir, status_of
from engine.runs.worker_mark import WorkerMark, sign_lock
from presets import catalog
from presets.errors import CifartuiError
from tests.waiting import wait_for

DAY_S = 86_400.0
HEARTBEAT = DeviceSampled(
    host=HostSample(memory_used_bytes=0, memory_total_bytes=0, process_rss_bytes=0, cpu_utilization=None),
    gpus=(), gpus_missing="", torch_memory=None, worker_s=0.0,
)  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.setattr(run_dir, "WATCHED_S", 0.3)
    return run_dir.create(tmp_path, "demo", preset=catalog.load("demo"), seed=0, device="cpu")


def refuse_locks(_fd: int, _kind: int, code: int = errno.ENOLCK) -> None:
    raise OSError(code, os.strerror(code))


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.ESTALE, errno.EOPNOTSUPP])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A disk that refuses locks."""

    monkeypatch.setattr(fcntl, "flock", partial(refuse_locks, code=request.param))
    return int(request.param)


def beat(run: RunDir, at: float = 0.0) -> None:
    """Write a heartbeat as a host does whose clock differs by `at` seconds."""
    journal = EventWriter(run.events)
    journal.write(HEARTBEAT)
    journal.close()
    lines = run.events.read_bytes().splitlines()
    last = {**json.loads(lines[-1]), "time": time.time() + at}
    run.events.write_bytes(b"\n".join([*lines[:-1], msgspec.json.encode(last)]) + b"\n")
    os.utime(run.events, (time.time() + at, time.time() + at))


class Beating:
    """A worker of another host that goes on writing."""

    def __init__(self, run: RunDir, at: float) -> None:
        self._run, self._at, self._stop = run, at, threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self._stop.wait(0.02):
            with self._run.events.open("ab") as file:
                event = {**msgspec.to_builtins(HEARTBEAT), "time": time.time() + self._at}
                file.write(msgspec.json.encode(event) + b"\n")
            os.utime(self._run.events, (time.time() + self._at, time.time() + self._at))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()


def of_another_host(run: RunDir) -> None:
    run.lock.write_bytes(msgspec.json.encode(WorkerMark(pid=1234, host="another-host", started=1)))


@pytest.mark.parametrize("at", [DAY_S, -DAY_S])
def test_the_clock_of_another_host_does_not_lock_a_run_that_is_silent(run: RunDir, at: float) -> None:
    of_another_host(run)
    beat(run, at)
    state = run.read_state()
    assert status_of(state, run.worker_lives(), time.time()) == "lost"
    assert resume.heard_elsewhere(run, state) is None
    os.close(start.take_lock(run))
    assert delete_run(run.path.parent, run.id)


@pytest.mark.parametrize("at", [DAY_S, -DAY_S])
def test_a_worker_of_another_host_is_known_by_the_growth_of_its_journal_whatever_its_clock_says(
    run: RunDir, at: float
) -> None:
    of_another_host(run)
    beat(run, at)
    with Beating(run, at):
        assert resume.heard_elsewhere(run, run.read_state()) is not None
        with pytest.raises(CifartuiError, match="has a worker on another-host"):
            resume._check_silent(run, run.read_state())
    if at > 0:
        with Beating(run, at), pytest.raises(CifartuiError, match="was written to by another-host"):
            delete.check_deletable(run.path.parent, run.id)


def test_a_disk_that_refuses_locks_makes_no_run_look_alive(run: RunDir, no_locks: int) -> None:
    run.lock.write_bytes(msgspec.json.encode(WorkerMark(pid=os.getpid(), host=socket.gethostname(), holds=("cpu",))))
    beat(run)
    assert run.worker_lives() is None
    now = time.time()
    assert status_of(run.read_state(), None, now) == "starting"
    assert status_of(run.read_state(), None, now + STALLED_AFTER_S + 1) == "lost"
    assert taken_devices([run]) == {"cpu"}
    os.utime(run.events, (now - DAY_S, now - DAY_S))
    assert taken_devices([run]) == frozenset()
    with pytest.raises(CifartuiError, match=r"has a worker on .*, heard 0 s ago"):
        resume._check_silent(run, run.read_state())
    beat(run, -DAY_S)
    resume._check_silent(run, run.read_state())
    assert delete_run(run.path.parent, run.id)


def test_a_run_that_has_ended_is_deleted_at_once_where_its_worker_cannot_be_seen(run: RunDir, no_locks: int) -> None:
    of_another_host(run)
    beat(run)
    with pytest.raises(CifartuiError, match="less than 30 s ago"):
        delete.check_deletable(run.path.parent, run.id)
    journal = EventWriter(run.events)
    journal.write(RunFinished(outcome="completed", reason="", epoch=0, global_step=0))
    journal.close()
    assert delete_run(run.path.parent, run.id)


def test_a_run_is_started_where_locks_are_refused(run: RunDir, no_locks: int) -> None:
    fd = start.take_lock(run)
    sign_lock(fd, os.getpid())
    with pytest.raises(CifartuiError, match="already has a worker"):
        start.take_lock(run)
    sign_lock(fd, 2**22 + 1)  # a process that is not there any more
    os.close(start.take_lock(run))
    os.close(fd)


@contextmanager
def ending_worker(run: RunDir, *, spoke_last: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """Have a process in the run's lock that lives on after the run's last event, until it is killed."""
    fd = start.take_lock(run)
    beat(run)
    process = subprocess.Popen(["sleep", "60"], pass_fds=[fd])
    sign_lock(fd, process.pid)
    os.close(fd)
    if spoke_last:
        journal = EventWriter(run.events)
        journal.write(RunFinished(outcome="stopped", reason="by command", epoch=0, global_step=0))
        journal.close()
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("locks", [True, False])
def test_a_worker_that_has_spoken_its_last_word_is_waited_for(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    if not locks:
        monkeypatch.setattr(fcntl, "flock", refuse_locks)
    monkeypatch.setattr(start, "_LOCK_PATIENCE_S", 0.05)
    looks = []
    with ending_worker(run) as process:
        look = claim.has_spoken_last

        def look_and_end(run: RunDir) -> bool:
            looks.append(process.poll())
            if len(looks) == 3:
                process.kill()
                process.wait()
            return look(run)

        for module in (start, claim):
            monkeypatch.setattr(module, "has_spoken_last", look_and_end)
        os.close(start.take_lock(run))
    assert looks[:3] == [None, None, None]


@pytest.mark.parametrize("locks", [True, False])
@pytest.mark.parametrize("spoke_last", [True, False])
def test_one_that_does_not_end_or_has_not_ended_is_not_waited_for_long(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, locks: bool, spoke_last: bool
) -> None:
    if not locks:
        monkeypatch.setattr(fcntl, "flock", refuse_locks)
    for module in (start, claim):
        monkeypatch.setattr(module, "ENDS_WITHIN_S", 0.6 if spoke_last else 100.0)
    with ending_worker(run, spoke_last=spoke_last), pytest.raises(CifartuiError, match="already has a worker"):
        start.take_lock(run)


@pytest.mark.parametrize("is_first", [True, False])
def test_of_two_hosts_that_give_a_run_a_worker_in_the_same_second_one_can(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    """Each takes the lock, as on a file server that keeps locks to each host, or refuses them."""
    host = threading.local()
    monkeypatch.setattr(socket, "gethostname", lambda: getattr(host, "name", "third-host"))
    monkeypatch.setattr(fcntl, "flock", lambda _fd, _kind: None)
    if not is_first:
        os.close(start.take_lock(run))
        beat(run, -DAY_S)
    barrier, won, refused = threading.Barrier(2), list[str](), list[str]()

    def take(name: str) -> None:
        host.name = name
        barrier.wait()
        try:
            fd = start.take_lock(run)
        except CifartuiError as error:
            refused.append(str(error))
            return
        won.append(name)
        sign_lock(fd, os.getpid())
        with Beating(run, 0.0):
            wait_for(lambda: len(won) + len(refused) == 2, "the other")
        os.close(fd)

    threads = [threading.Thread(target=take, args=(name,)) for name in ("host-a", "host-b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 1), (won, refused)
    assert "worker" in refused[0]


def test_of_all_who_have_read_the_same_claim_one_can_take_it(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The moment between reading and writing is stretched until all are in it."""
    claim.claim(run, has_lock=True)
    before, barrier = claim._read(run), threading.Barrier(8)
    done: list[bool] = []

    def read(_run: RunDir, _first: Callable[[], object] = threading.local) -> claim._Claim:
        if not getattr(first, "has_read", False):
            first.has_read = True
            barrier.wait()
            return before
        return original(run)

    first, original = threading.local(), claim._read
    monkeypatch.setattr(claim, "_read", read)

    def take() -> None:
        try:
            claim.claim(run, has_lock=True)
        except CifartuiError:
            done.append(False)
        else:
            done.append(True)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False] * 7 + [True]
    assert not list(run.path.glob(".worker.claim*"))


def test_a_finished_run_of_another_host_is_taken_up_at_once(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_dir, "WATCHED_S", 1000.0)
    (run.path / "worker.claim").write_bytes(b'{"token":"0123","host":"another-host"}')
    of_another_host(run)
    journal = EventWriter(run.events)
    journal.write(RunFinished(outcome="stopped", reason="", epoch=1, global_step=1))
    journal.close()
    os.close(start.take_lock(run))
