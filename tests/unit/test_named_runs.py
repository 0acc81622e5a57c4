"""Runs with names, and workers on other hosts: gone on with when they have fallen silent, and not before."""

import time
from pathlib import Path

import msgspec
import pytest

from engine.journal import events as ev
from engine.runs import named_runs, resume, run_dir
from engine.runs.run_dir import STALLED_AFTER_S, RunDir, status_of
from engine.runs.run_options import RunOptions
from engine.runs.worker_mark import WorkerMark
from presets.errors import CifartuiError
from tests.ui.sample_run import SampleRun

AS_STARTED = RunOptions(overrides=("a=1",))


@pytest.fixture
def run(tmp_path: Path) -> SampleRun:
    """A run that trains on another host, heard this second."""
    made = SampleRun(tmp_path, "job-5", start=time.time() - 100, preset_name="basenet", overrides=("a=1",))
    made.folder.lock.write_bytes(msgspec.json.encode(WorkerMark(pid=1, host="compute-7")))
    made.begin().prepare()
    made.now = time.time()
    made.telemetry()
    return made


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    ids: list[str] = []

    def start(folder: RunDir, *, resume: bool, prepare: object, **_others: object) -> None:
        prepare()  # type: ignore[operator]
        ids.append(folder.id)

    monkeypatch.setattr("engine.runs.start.start_worker", start)
    return ids


def silent_for(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time() + seconds
    monkeypatch.setattr("engine.runs.resume.time.time", lambda: now)


def test_a_worker_elsewhere_lives_by_its_last_event(run: SampleRun) -> None:
    state, now = run.folder.read_state(), time.time()
    assert run.folder.worker_lives() is None
    assert status_of(state, None, now) == "training"
    assert status_of(state, None, now + STALLED_AFTER_S + 1) == "lost"


def test_a_run_with_a_worker_elsewhere_is_not_resumed(run: SampleRun, started: list[str]) -> None:
    with pytest.raises(CifartuiError, match=r"has a worker on compute-7, heard \d s ago; stop it"):
        resume.resume_run(run.folder)
    assert not started


@pytest.mark.parametrize("is_finished", [False, True])
def test_it_is_once_that_is_silent_or_has_finished(
    run: SampleRun, started: list[str], monkeypatch: pytest.MonkeyPatch, is_finished: bool
) -> None:
    if is_finished:
        run.write(ev.RunFinished(outcome="stopped", reason="", epoch=1, global_step=1))
    else:
        silent_for(monkeypatch, STALLED_AFTER_S + 1)
    resume.resume_run(run.folder)
    assert started == [run.folder.id]


def test_a_worker_elsewhere_that_never_spoke_is_waited_for_no_longer(
    tmp_path: Path, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mute = SampleRun(tmp_path, "job-6")
    mute.folder.lock.write_bytes(msgspec.json.encode(WorkerMark(pid=1, host="compute-7")))
    with pytest.raises(CifartuiError, match="compute-7"):
        resume.resume_run(mute.folder)
    silent_for(monkeypatch, STALLED_AFTER_S + 1)
    resume.resume_run(mute.folder)
    assert started == [mute.folder.id]


def test_a_name_finds_its_run_and_no_part_of_one(run: SampleRun, tmp_path: Path) -> None:
    found = named_runs.find_named(tmp_path, "job-5")
    assert found is not None
    assert found.id == run.folder.id
    assert named_runs.find_named(tmp_path, "job") is None
    assert named_runs.find_named(tmp_path, "5") is None


@pytest.mark.parametrize(
    ("preset_name", "overrides", "seed"), [("demo", ("a=1",), 0), ("basenet", (), 0), ("basenet", ("a=1",), 1)]
)
def test_a_named_run_is_not_gone_on_with_as_something_else(
    run: SampleRun, started: list[str], preset_name: str, overrides: tuple[str, ...], seed: int
) -> None:
    with pytest.raises(CifartuiError, match="choose another name"):
        named_runs.resume_named(run.folder, preset_name, RunOptions(overrides=overrides, seed=seed))
    assert not started


def test_a_worker_of_another_node_is_waited_for(
    run: SampleRun, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        silent_for(monkeypatch, STALLED_AFTER_S + 1)

    monkeypatch.setattr("engine.runs.named_runs.time.sleep", sleep)
    monkeypatch.setattr(run_dir, "WATCHED_S", 0.0)
    assert named_runs.resume_named(run.folder, "folder/basenet.toml", AS_STARTED) == "going on with it"
    assert started == [run.folder.id]
    assert len(waited) == 1


def test_a_completed_run_is_left_alone(run: SampleRun, started: list[str]) -> None:
    run.finish("completed")
    assert named_runs.resume_named(run.folder, "basenet", AS_STARTED) == named_runs.COMPLETED
    assert not started


@pytest.mark.parametrize("name", ["", "latest", "../x", "a/b", "-x", ".x", "x\n", "x" * 81, "ä", "a b", "\x1b[2J"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(CifartuiError, match="cannot be the name of a run"):
        named_runs.check_name(name)
