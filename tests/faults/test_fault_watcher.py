"""The watcher of a run as a process: its worker is killed, the line hangs up, nobody takes its messages."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from engine.journal import commands
from engine.journal.jsonl import append_command
from engine.runs import start
from engine.runs.notify_settings import Notify
from engine.runs.resume import resume_run
from engine.runs.run_dir import RunDir
from tests.http_server import Listener, listening
from tests.waiting import left_by, wait_for

Make = Callable[..., RunDir]
MANY = 50_000


@pytest.fixture(autouse=True)
def _forked(forked: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


def told(listener: Listener) -> list[str]:
    return [json.loads(posted.content)["title"] for posted in listener.posted]


def watchers(run: RunDir) -> list[psutil.Process]:
    arguments = {"engine.runs.watcher", str(run.path)}
    return [each for each in psutil.process_iter(["cmdline"]) if arguments <= set(each.info["cmdline"] or ())]


def trains(run: RunDir) -> RunDir:
    wait_for(lambda: run.read_state().steps, lambda: f"training; {left_by(run)}")
    return run


def test_a_killed_worker_is_told_of_and_with_the_run_resumed_there_is_one_watcher(
    tiny: Make, listener: Listener
) -> None:
    run, notify = tiny(MANY), Notify(ntfy=(f"http://{listener.host}/topic",))
    pid = start.start_worker(run, notify=notify)
    (watcher,) = watchers(trains(run))
    assert watcher.cwd() == "/"
    assert "torch" not in {Path(each.path).name for each in watcher.memory_maps()}
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: told(listener) == ["Tiny: worker lost"], f"the message; the log: {run.log.read_text()}")
    wait_for(lambda: not watchers(run), "the end of the watcher")

    start.start_worker(run, resume=True, notify=notify)
    wait_for(lambda: (mark := run.read_mark()) and mark.holds, "the next worker")
    (watcher,) = watchers(run)
    append_command(run.commands, commands.Stop())
    wait_for(lambda: not watchers(run), "the end of the watcher")
    assert told(listener) == ["Tiny: worker lost", "Tiny: stopped"]
    assert not run.worker_lives()


def test_a_run_that_is_resumed_at_once_is_watched_by_one_watcher(tiny: Make, listener: Listener) -> None:
    run, notify = tiny(MANY), Notify(ntfy=(f"http://{listener.host}/topic",))
    pid = start.start_worker(run, notify=notify)
    (first,) = watchers(trains(run))
    first.suspend()  # else it would see that the worker is gone before there is another
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not run.worker_lives(), "the end of the worker")
    resume_run(run, notify=notify)
    first.resume()
    wait_for(lambda: len(watchers(run)) == 1 and first not in watchers(run), "the end of the first watcher")
    append_command(run.commands, commands.Stop())
    wait_for(lambda: not watchers(run), "the end of the watcher")
    assert told(listener) == ["Tiny: stopped"]


def test_a_hang_up_leaves_the_watcher_and_nobody_who_listens_keeps_no_run(tiny: Make) -> None:
    with listening() as gone:
        url = f"http://{gone.host}/secret-topic"
    run = tiny(MANY)
    start.start_worker(run, notify=Notify(ntfy=(url,)))
    (watcher,) = watchers(trains(run))
    watcher.send_signal(signal.SIGHUP)
    append_command(run.commands, commands.Stop())
    wait_for(lambda: not run.worker_lives() and run.read_state().finished, "the end of the run")
    wait_for(lambda: "was not told of" in run.log.read_text(), "the log")
    assert watchers(run) == [watcher]  # it will try again
    (line,) = [line for line in run.log.read_text().splitlines() if "was not told of" in line]
    assert line.startswith(f"ntfy 1 ({gone.host}) was not told of “Tiny: stopped”: {gone.host} cannot be asked (")
    assert "secret-topic" not in run.log.read_text()
    assert all("secret-topic" not in " ".join(process.cmdline()) for process in watchers(run))
    watcher.send_signal(signal.SIGTERM)
    wait_for(lambda: not watchers(run), "the end of the watcher")


def test_nobody_is_watched_for_where_nobody_is_told(tiny: Make) -> None:
    run = tiny(1)
    start.start_worker(run)
    assert watchers(run) == []
    wait_for(lambda: not run.worker_lives() and run.read_state().finished, "the end of the run")
    assert not run.notified.exists()
