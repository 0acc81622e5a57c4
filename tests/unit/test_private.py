"""What is made is its owner's alone, whatever the umask, and nothing is written or deleted through a link."""

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from engine import files
from engine.journal import commands
from engine.journal import events as ev
from engine.journal.jsonl import EventWriter, append_command
from engine.queue import queue_file, runner_process
from engine.runs import delete, predictions, run_dir, start
from engine.runs.predictions import Predictions
from presets import catalog
from presets.errors import CifartuiError
from tests.waiting import PATIENCE_S
from tui.data import network_facts
from tui.data.run_list import RunLister


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(below: Path) -> dict[str, int]:
    return {
        str(path.relative_to(below)): stat.S_IMODE(path.lstat().st_mode)
        for path in [below, *below.rglob("*")]
        if not path.is_symlink()
    }


def fill(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> run_dir.RunDir:
    """Write every file that this process can write into a runs folder."""
    monkeypatch.setattr(queue_file, "start_runner", lambda runs_dir, notify: None)
    run = run_dir.create(runs_dir, "demo", preset=catalog.load("demo"), seed=0, device="cpu")
    writer = EventWriter(run.events)
    writer.write(ev.Paused(global_step=1))
    writer.close()
    append_command(run.commands, commands.Stop())
    os.close(start.take_lock(run))
    run.write_amended(run.read_info())
    files.keep_room(run.reserve)
    os.close(files.open_file(run.log, os.O_WRONLY))
    found = Predictions(
        run=run.id, split="val", checkpoint="best", epoch=1, global_step=1, class_names=("a",), image_size=1,
        true=(0,), predicted=(0,), confidence=(1.0,),
    )  # fmt: skip
    predictions.write(run, found, bytes(3))
    queue_file.add(runs_dir, ["demo"])
    runner_process.log(runs_dir, "said")
    lock_fd = runner_process.claim_runner(runs_dir)
    assert lock_fd is not None
    os.close(lock_fd)
    return run


def test_runs_are_their_owners_alone(tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o755)
    fill(tmp_path / "state/cifartui/runs", monkeypatch)
    for name, mode in modes(tmp_path / "state").items():
        assert mode == (0o700 if (tmp_path / "state" / name).is_dir() else 0o600), name
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755  # was there before


def test_so_is_the_cache_of_facts(tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_facts, "_cache_file", lambda key: tmp_path / "cache/facts" / key)
    network_facts._keep("key", next(iter(network_facts.shipped().values())))
    assert modes(tmp_path / "cache") == {".": 0o700, "facts": 0o700, "facts/key": 0o600}


def test_what_is_there_keeps_the_mode_that_somebody_gave_it(tmp_path: Path) -> None:
    shared = tmp_path / "events.jsonl"
    shared.write_bytes(b"")
    shared.chmod(0o640)
    os.close(files.open_file(shared, os.O_RDWR))
    assert stat.S_IMODE(shared.stat().st_mode) == 0o640
    tmp_path.chmod(0o750)
    files.make_folders(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_a_file_where_a_folder_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CifartuiError, match="choose another folder with --runs-dir"):
        run_dir.create(tmp_path / "file/runs", "demo", preset=catalog.load("demo"), seed=0, device="cpu")


@pytest.mark.parametrize("name", ["events.jsonl", "commands.jsonl", "worker.log", "worker.lock"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    run = run_dir.create(tmp_path / "runs", "demo", preset=catalog.load("demo"), seed=0, device="cpu")
    (run.path / name).symlink_to(victim)
    ways: dict[str, Callable[[], object]] = {
        "events.jsonl": lambda: EventWriter(run.events),
        "commands.jsonl": lambda: append_command(run.commands, commands.Stop()),
    }
    with pytest.raises((OSError, CifartuiError), match="symbolic links"):
        ways.get(name, lambda: start.start_worker(run))()
    assert victim.read_text() == "mine"


def test_a_command_that_cannot_be_written_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CifartuiError, match="is not there any more"):
        append_command(tmp_path / "gone/commands.jsonl", commands.Stop())


def elsewhere(tmp_path: Path) -> tuple[Path, Path]:
    """Return a runs folder and a run outside of it, to which a link in it leads."""
    run = run_dir.create(tmp_path / "other", "demo", preset=catalog.load("demo"), seed=0, device="cpu")
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    (runs_dir / run.id).symlink_to(run.path)
    return runs_dir, run.path


def test_a_link_to_a_run_is_not_deleted_through(tmp_path: Path) -> None:
    runs_dir, run = elsewhere(tmp_path)
    with pytest.raises(CifartuiError, match="is a link"):
        delete.delete_run(runs_dir, run.name)
    assert (run / "run.json").exists()


def test_links_within_a_run_are_removed_and_not_followed(tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "file").write_text("mine")
    run = run_dir.create(tmp_path / "runs", "demo", preset=catalog.load("demo"), seed=0, device="cpu")
    (run.path / "folder").symlink_to(keep)
    (run.checkpoints / "last.pt").symlink_to(keep / "file")
    delete.delete_run(tmp_path / "runs", run.id)
    assert not run.path.exists()
    assert (keep / "file").read_text() == "mine"


def test_a_lock_that_is_a_link_is_not_written_by_a_deletion(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    run = run_dir.create(tmp_path / "runs", "demo", preset=catalog.load("demo"), seed=0, device="cpu")
    run.lock.symlink_to(victim)
    with pytest.raises(CifartuiError, match="cannot be deleted"):
        delete.delete_run(tmp_path / "runs", run.id)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("name", ["run.json", "amended.json", "events.jsonl", "commands.jsonl", "worker.log"])
def test_nobody_waits_for_a_pipe_in_a_files_place(tmp_path: Path, name: str) -> None:
    run = run_dir.create(tmp_path, "demo", preset=catalog.load("demo"), seed=0, device="cpu")
    (run.path / name).unlink(missing_ok=True)
    os.mkfifo(run.path / name)
    (run.path / "worker.lock").unlink(missing_ok=True)
    os.mkfifo(run.path / "worker.lock")
    ways: list[Callable[[], object]] = [
        run.read_info, run.read_state, run.worker_lives, run.read_mark, lambda: RunLister(tmp_path, time.time).list(),
        lambda: append_command(run.commands, commands.Stop()), lambda: EventWriter(run.events),
    ]  # fmt: skip

    def look() -> None:
        for way in ways:
            with suppress(CifartuiError, OSError):
                way()

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(PATIENCE_S)
    assert not looking.is_alive()
