"""Locks and ranks that name processes of somebody else, or all of them: no signal goes there."""

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

import engine
from engine.runs import run_dir, worker_process
from engine.runs import start as launch
from engine.runs.run_dir import RunDir
from engine.runs.worker_mark import WorkerMark, process_start
from engine.runs.worker_process import signal_rank
from engine.training.distributed import heartbeat
from presets import catalog
from tests.waiting import wait_for

HOME = Path(engine.__file__).parents[1]
Sent = list[tuple[Any, ...]]
SLEEPS = "import sys; print('ready', flush=True); sys.stdin.read()"
WORKER = "engine.training.worker"


@pytest.fixture
def run(runs_dir: Path) -> RunDir:
    return run_dir.create(runs_dir, "demo", preset=catalog.load("demo"), seed=0, device="cpu")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Signals that would be sent; none is."""
    found: Sent = []
    monkeypatch.setattr(os, "kill", lambda *what: found.append(what))
    monkeypatch.setattr(os, "killpg", lambda *what: found.append(what))
    monkeypatch.setattr(psutil.Process, "send_signal", lambda process, number: found.append((process.pid, number)))
    return found


@pytest.fixture
def pretend() -> Iterator[Callable[..., int]]:
    """Start processes that do nothing, with any words on their command line; return their ids."""
    processes = []

    def start(*words: str) -> int:
        process = subprocess.Popen(
            [sys.executable, "-c", SLEEPS, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process.pid

    yield start
    for process in processes:
        process.communicate()


@pytest.fixture
def held(run: RunDir) -> Iterator[Callable[..., None]]:
    """Hold the run's lock here, and write into it what is asked."""
    fd = launch.take_lock(run)

    def write(pid: int, host: str | None = None, **more: Any) -> None:
        mark = WorkerMark(pid=pid, host=host or os.uname().nodename, **more)
        os.pwrite(fd, msgspec.json.encode(mark).ljust(500), 0)

    yield write
    os.close(fd)


@pytest.mark.parametrize("pid", [-1, 0, 1, -4711, 2**31, 2**62, -(2**62)])
def test_a_lock_that_names_all_processes_or_none_signals_nobody(
    run: RunDir, held: Callable[..., None], sent: Sent, pid: int
) -> None:
    held(pid)
    assert not launch.hurry_worker(run)
    assert sent == []


def test_a_lock_signals_only_what_has_the_command_line_of_the_runs_worker(
    run: RunDir, held: Callable[..., None], sent: Sent, pretend: Callable[..., int]
) -> None:
    others = [
        os.getpid(), os.getppid(), pretend("something"), pretend(WORKER), pretend(str(run.path)),
        pretend(WORKER, f"{run.path}-other"), pretend(str(run.path), WORKER), pretend("x" + WORKER, str(run.path)),
    ]  # fmt: skip
    for pid in others:
        held(pid)
        assert not launch.hurry_worker(run), pid
    assert sent == []
    workers = [
        pretend(module, str(run.path), "--resume")
        for module in (WORKER, "engine.training.distributed.agent", "engine.training.distributed.rank")
    ]
    for pid in workers:
        held(pid, started=process_start(pid))
        assert launch.hurry_worker(run)
        held(pid)  # as versions before wrote it
        assert launch.hurry_worker(run)
    assert sent == [(pid, signal.SIGTERM) for pid in workers for _ in range(2)]


def test_a_process_that_has_got_the_id_of_the_worker_is_left_alone(
    run: RunDir, held: Callable[..., None], sent: Sent, pretend: Callable[..., int]
) -> None:
    pid = pretend(WORKER, str(run.path))
    held(pid, started=process_start(pid) - 1)
    assert not launch.hurry_worker(run)
    assert sent == []


def test_a_process_of_another_user_is_left_alone(
    run: RunDir,
    held: Callable[..., None],
    sent: Sent,
    pretend: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held(pretend(WORKER, str(run.path)))
    monkeypatch.setattr(worker_process.os, "geteuid", lambda: os.getuid() + 1)
    assert not launch.hurry_worker(run)
    assert sent == []


def test_root_signals_the_worker_of_another_users_run_and_nobody_elses_process(
    run: RunDir,
    held: Callable[..., None],
    sent: Sent,
    pretend: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pid = pretend(WORKER, str(run.path))
    held(pid)
    monkeypatch.setattr(worker_process.os, "geteuid", lambda: 0)
    about = list(run.lock.lstat())[:10]
    lstat = Path.lstat
    monkeypatch.setattr(Path, "lstat", lambda path: os.stat_result(about) if path == run.lock else lstat(path))
    about[4] = os.getuid() + 1  # the lock of one user names a process of another
    assert not launch.hurry_worker(run)
    assert sent == []
    about[4] = os.getuid()
    assert launch.hurry_worker(run)
    assert sent == [(pid, signal.SIGTERM)]


def test_a_lock_of_another_user_or_host_or_that_nobody_holds_signals_nobody(
    run: RunDir,
    held: Callable[..., None],
    sent: Sent,
    pretend: Callable[..., int],
    disown: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pid = pretend(WORKER, str(run.path))
    held(pid, host="another-host")
    assert not launch.hurry_worker(run)
    held(pid)
    with monkeypatch.context() as patched:
        patched.setattr(run_dir, "is_locked", lambda _path: False)
        assert not launch.hurry_worker(run)
    disown(run.lock)
    assert not launch.hurry_worker(run)
    assert sent == []


@pytest.mark.parametrize("pid", [-1, 0, 1, 2**31, 2**62])
def test_a_rank_that_names_all_processes_or_none_is_not_killed(run: RunDir, sent: Sent, pid: int) -> None:
    assert not signal_rank(run, pid, signal.SIGKILL)
    assert not heartbeat._lives(pid)
    assert sent == []


def test_only_a_rank_that_has_the_same_parent_is_killed(
    run: RunDir, sent: Sent, pretend: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rank = pretend("engine.training.distributed.rank", str(run.path))
    other, worker = pretend("something"), pretend(WORKER, str(run.path))
    assert not signal_rank(run, rank, signal.SIGKILL)  # its parent is this process, not this one's parent
    monkeypatch.setattr(worker_process.os, "getppid", os.getpid)
    assert not signal_rank(run, other, signal.SIGKILL)
    assert not signal_rank(run, worker, signal.SIGKILL)
    assert signal_rank(run, rank, signal.SIGKILL)
    assert sent == [(rank, signal.SIGKILL)]


def test_a_real_worker_signs_with_its_start_and_is_signalled(demo: Callable[..., RunDir]) -> None:
    run = demo("train.epochs=500")
    launch.start_worker(run)
    mark = run.read_mark()
    assert mark is not None
    assert mark.started == process_start(mark.pid) > 0
    wait_for(lambda: run.read_state().steps, "training")
    signed = run.read_mark()  # once more, with its devices
    assert signed is not None
    assert (signed.started, signed.holds) == (mark.started, ("cpu",))
    assert launch.hurry_worker(run)
    wait_for(lambda: not run.worker_lives(), "its end")
    finished = run.read_state().finished
    assert finished is not None
    assert finished.reason.startswith("SIGTERM was received")
    assert not launch.hurry_worker(run)


_SENDING = {"kill", "killpg", "pidfd_send_signal", "send_signal", "terminate"}


def test_signals_are_sent_to_our_own_children_or_through_the_check() -> None:
    found: dict[str, set[str]] = {}
    for package in ("engine", "presets", "tui"):
        for path in (HOME / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _SENDING:
                    found.setdefault(str(path.relative_to(HOME)), set()).add(ast.unparse(node))
    assert found == {
        "engine/runs/worker_process.py": {"process.send_signal(number)"},  # the check
        "engine/data/image_decoders.py": {"decoder.kill()", "self._process.kill()"},  # a child of this process
        "engine/training/distributed/agent.py": {"rank.send_signal(number)"},  # to children of this process
        "engine/training/distributed/heartbeat.py": {"os.kill(pid, 0)"},  # sends nothing
        "engine/runs/notify.py": {"os.killpg(process.pid, signal.SIGKILL)"},  # a child with a group of its own
        "tui/data/torch_process.py": {"process.kill()", "process.terminate()"},
        "engine/shared/device_reader.py": {"process.kill()"},
        "tui/cli/doctor.py": {"child.kill()", "process.kill()"},
        "tui/cli/log.py": {"process.terminate()", "process.kill()"},  # the process that logs
        "tui/hosts/connection.py": {"process.terminate()", "process.kill()"},  # the ssh that it started
        "tui/terminal/driver.py": {"os.killpg(0, signal.SIGTSTP)"},  # to its own group, as Ctrl-Z in a shell
        "tui/cli/live_line.py": {"os.kill(os.getpid(), signal.SIGTSTP)"},
    }
