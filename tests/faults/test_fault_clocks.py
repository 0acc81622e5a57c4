"""Clocks that are set, workers that are frozen, and workers that only their journal tells of."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from engine.journal import commands
from engine.journal.events import DeviceSampled, HostSample, RunFinished, RunStarted
from engine.journal.jsonl import EventWriter, append_command, read_events
from engine.journal.state import fold, worked_s
from engine.runs.resume import resume_run
from engine.runs.run_dir import STALLED_AFTER_S, RunDir, status_of
from engine.runs.worker_mark import WorkerMark
from engine.training import telemetry
from presets.errors import CifartuiError
from tests.faults.conftest import status
from tests.ui.conftest import environment, until
from tests.waiting import wait_for
from tests.workers import ForkWorker
from tui.app import CifartuiApp
from tui.cli.run_page import run_page
from tui.data.run_detail import detail_and_state
from tui.data.summaries import summarise
from tui.screens.monitor import Monitor

Make = Callable[..., RunDir]
DAY_S = 86_400.0
HOST = HostSample(memory_used_bytes=1, memory_total_bytes=2, process_rss_bytes=1)
START = RunStarted(
    pid=1, host="here", device="cpu", device_name="CPU", precision="fp32", num_threads=1, versions={}, time=1000.0
)


def beat(time: float, worker_s: float) -> DeviceSampled:
    return DeviceSampled(host=HOST, time=time, worker_s=worker_s)


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_clock_that_is_set_changes_no_duration(jump_s: float) -> None:
    told = [beat(1000, 0), START, beat(1010, 10), beat(1012 + jump_s, 12), beat(1020 + jump_s, 20)]
    state = fold(told)
    assert worked_s(state, 1021 + jump_s) == 21
    assert worked_s(state, 1021 - jump_s) in {20, 24}  # before the next beat the clock may have been set once more
    resumed = fold([beat(5000, 0), beat(5007, 7)], state)
    assert worked_s(resumed, 5008) == 20 + 8
    done = fold([RunFinished(outcome="completed", reason="", epoch=1, global_step=1, seconds=9, time=5009)], resumed)
    assert worked_s(done, done.last_time) == 29


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
def test_a_clock_that_is_set_makes_nobody_stalled(jump_s: float) -> None:
    state = fold([START, beat(1010, 10)])
    assert status_of(state, True, 1012 + jump_s, heard_s=2) == "starting"
    assert status_of(state, None, 1012 + jump_s, heard_s=2) == "starting"
    assert status_of(state, True, 1012 - jump_s, heard_s=STALLED_AFTER_S + 1) == "stalled"
    assert status_of(state, None, 1012 - jump_s, heard_s=STALLED_AFTER_S + 1) == "lost"


def test_every_heartbeat_tells_how_long_the_worker_has_been_at_work(tiny: Make, fork_worker: ForkWorker) -> None:
    run = tiny()
    end = fork_worker(run).ends()
    assert end is not None
    worked = [event.worker_s for event in read_events(run.events) if isinstance(event, DeviceSampled)]
    assert worked
    assert all(seconds is not None and 0 <= seconds <= end.seconds for seconds in worked)
    state = run.read_state()
    assert worked_s(state, state.last_time) == end.seconds


def test_a_frozen_worker_is_stalled_since_then_and_trains_again_when_it_is_woken(
    tiny: Make, fork_worker: ForkWorker
) -> None:
    run = tiny(epochs=50_000)
    worker = fork_worker(run)
    worker.trains()
    worker.kill(signal.SIGSTOP)
    wait_for(lambda: _is_stopped(worker.pid), "the stop")
    later = time.time() + STALLED_AFTER_S + 1
    assert status(run, STALLED_AFTER_S + 1) == "stalled"
    frozen, state = detail_and_state(run, later)
    assert frozen.summary.status == "stalled"
    assert frozen.last_event_time is not None
    since = time.strftime("%H:%M:%S", time.localtime(frozen.last_event_time))
    assert f"stalled since {since}: the worker lives, and says nothing" in " ".join(
        " ".join(row.plain for row in run_page(frozen, state, 160)).split()
    )
    worker.kill(signal.SIGCONT)
    step = run.read_state().global_step
    wait_for(lambda: run.read_state().global_step > step, "training again")
    assert status(run) in {"training", "validating"}


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("T")


async def test_the_dashboard_shows_a_frozen_worker_as_stalled_by_its_own_steady_clock(
    tiny: Make, fork_worker: ForkWorker
) -> None:
    run = tiny(epochs=50_000)
    worker = fork_worker(run)
    worker.trains()
    ahead_s = 0.0
    world = environment(
        now=lambda: time.time() - DAY_S, steady=lambda: time.monotonic() + ahead_s
    )  # the viewer's clock is a day behind the worker's
    app = CifartuiApp(run.path.parent, attach=run, environment=world)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, Monitor), "the Monitor")
        screen = app.screen
        assert isinstance(screen, Monitor)
        await until(pilot, lambda: screen._observed_at and screen.status in {"training", "validating"}, "training")
        worker.kill(signal.SIGSTOP)
        wait_for(lambda: _is_stopped(worker.pid), "the stop")
        ahead_s = STALLED_AFTER_S + 1
        await until(pilot, lambda: screen.status == "stalled", "the stall")
        worker.kill(signal.SIGCONT)
        await until(pilot, lambda: screen.status in {"training", "validating"}, "training again")


def test_a_paused_run_goes_on_telling_that_it_is_alive(tiny: Make, fork_worker: ForkWorker) -> None:
    run = tiny(epochs=50_000)
    append_command(run.commands, commands.Pause())
    fork_worker(run)
    wait_for(lambda: run.read_state().phase == "paused", "the pause")
    paused_at = run.read_state().log[-1].time
    wait_for(lambda: (run.read_state().last_time or 0.0) > paused_at, "a heartbeat", patience_s=5)
    assert status(run) == "paused"


def test_a_long_batch_does_not_stop_the_heartbeat(tiny: Make, fork_worker: ForkWorker) -> None:
    run = tiny()
    worker = fork_worker(run, "train")
    worker.is_held()
    held_at = time.time()
    wait_for(lambda: (run.read_state().last_time or 0.0) > held_at, "a heartbeat", patience_s=5)


def test_a_reading_that_fails_does_not_end_the_heartbeat(monkeypatch: pytest.MonkeyPatch, tiny: Make) -> None:

    monkeypatch.setattr(telemetry, "INTERVAL_S", 0.01)
    run = tiny()
    failures = iter([RuntimeError("CUDA error: device lost"), RuntimeError("CUDA error: device lost")])

    def memory() -> None:
        error = next(failures, None)
        if error is not None:
            raise error

    beats = telemetry.Telemetry(EventWriter(run.events), os.getpid(), run.path)
    beats.torch_memory = memory  # type: ignore[assignment]
    with beats:
        wait_for(lambda: len(read_events(run.events)) >= 2, "two beats", patience_s=10)


def test_a_worker_on_another_host_is_known_by_the_age_of_what_it_wrote(tiny: Make, fork_worker: ForkWorker) -> None:
    run = tiny(epochs=50_000)
    worker = fork_worker(run)
    worker.trains()
    run.lock.unlink()  # what is locked on another machine is not seen here
    run.lock.write_bytes(msgspec.json.encode(WorkerMark(pid=worker.pid, host="another-host")))
    assert run.worker_lives() is None
    assert summarise(run).status in {"training", "validating"}
    with pytest.raises(CifartuiError, match=r"has a worker on another-host, heard \d s ago; stop it first"):
        resume_run(run)
    worker.kill(signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{worker.pid}").exists(), "the end")
    assert status(run, STALLED_AFTER_S + 1) == "lost"
