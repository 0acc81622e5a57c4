"""Disks that are full, cannot be written, or lose what was on them."""

import errno
import os
import resource
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from engine import files
from engine.data.load import load
from engine.journal import commands
from engine.journal.events import DeviceSampled, HostSample, RunFinished
from engine.journal.jsonl import EventWriter, append_command, command_reader, read_events
from engine.runs import run_dir, start
from engine.runs.resume import resume_run
from engine.runs.run_dir import RunDir, list_runs
from engine.training import checkpoint_files
from presets.errors import CifartuiError
from presets.schema import Data
from tests.faults.conftest import said, status
from tests.waiting import wait_for
from tests.workers import ForkWorker
from tui.data.run_detail import run_detail

Make = Callable[..., RunDir]
BEAT = DeviceSampled(host=HostSample(memory_used_bytes=1, memory_total_bytes=2, process_rss_bytes=1))


@contextmanager
def room(num_bytes: int, pid: int = 0) -> Iterator[None]:
    """Let a process (0: this one) write no file larger than `num_bytes`: to it the disk is full from there on."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (num_bytes, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], check=False, capture_output=True
    ).returncode:
        pytest.skip("needs leave to mount a small disk")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path) -> Path:
    """Take all the room that a disk has."""
    filler = place / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\1" * size)
            except OSError:
                continue
    return filler


def test_a_disk_that_fills_up_leaves_room_for_the_last_word(
    small_disk: Path, tiny: Make, fork_worker: ForkWorker
) -> None:
    preset = tiny().read_info().preset
    run = run_dir.create(small_disk / "runs", "tiny", preset=preset, seed=0, device="cpu")
    files.keep_room(run.reserve)
    worker = fork_worker(run, "train")
    worker.is_held()
    filler = fill(small_disk)
    worker.go_on()
    end = worker.ends()
    assert end is not None, run.log.read_text()
    assert end.outcome == "failed"
    for word in ("No space left on device", str(run.path), "resume"):  # whatever it was that found no room first
        assert word in end.reason
    assert said(run) == end.reason
    fill(small_disk)  # what the reserve had left over
    with pytest.raises(CifartuiError, match=r"cannot be given a worker \(No space left on device"):
        resume_run(run)
    assert status(run) == "failed"
    filler.unlink()
    files.keep_room(run.reserve)
    again = fork_worker(run, resume=True).ends()
    assert again is not None
    assert again.outcome == "completed", again.reason


def test_a_checkpoint_that_finds_no_room_ends_the_run_and_keeps_the_one_before(
    tiny: Make, fork_worker: ForkWorker
) -> None:
    run = tiny()
    worker = fork_worker(run, "evaluate")  # of the second epoch
    worker.is_held()
    wait_for(lambda: "last" in run.read_state().checkpoints, "the checkpoint of the first epoch")
    before = checkpoint_files.load(run.last)
    with room(run.last.stat().st_size - 1000, worker.pid):
        worker.go_on()
        end = worker.ends()
    assert end is not None, run.log.read_text()
    assert end.outcome == "failed"
    assert end.reason.startswith("A checkpoint cannot be written to ")
    assert end.reason.endswith(f"/checkpoints: File too large; mend that, then go on with: cifartui resume {run.id}")
    assert all(
        torch.equal(weights, before["network"][name])
        for name, weights in checkpoint_files.load(run.last)["network"].items()
    )
    assert not list(run.checkpoints.glob(".*"))
    again = fork_worker(run, resume=True).ends()
    assert again is not None
    assert (again.outcome, len(run.read_state().epochs)) == ("completed", 3)


def test_a_journal_that_can_take_no_last_word_leaves_it_in_the_log(tiny: Make, fork_worker: ForkWorker) -> None:
    run = tiny(epochs=50_000)
    worker = fork_worker(run)
    worker.trains()
    with room(run.events.stat().st_size, worker.pid):
        assert worker.ends() is None
    assert "The disk is full" in run.log.read_text().splitlines()[-1]
    assert run.events.read_bytes().endswith(b"}\n")  # no half line for the next worker to cut off
    assert status(run) == "lost"
    events = read_events(run.events)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    again = fork_worker(run, resume=True)
    step = run.read_state().global_step
    wait_for(lambda: run.read_state().global_step > step, "training once there is room")
    append_command(run.commands, commands.Stop())
    end = again.ends()
    assert end is not None
    assert end.outcome == "stopped"


def test_a_full_disk_takes_no_half_events_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    writer.write(BEAT)
    with room(path.stat().st_size + 10):
        for _ in range(3):
            with pytest.raises(CifartuiError, match=r"The disk is full \(File too large\): .*events\.jsonl"):
                writer.write(BEAT)
    writer.write(RunFinished(outcome="failed", reason="x", epoch=0, global_step=0))
    assert [(event.seq, type(event).__name__) for event in read_events(path)] == [
        (1, "DeviceSampled"),
        (2, "RunFinished"),
    ]


def test_a_request_cut_short_by_a_full_disk_is_said_and_spoils_no_later_one(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    append_command(path, commands.Pause())
    with (
        room(path.stat().st_size + 10),
        pytest.raises(
            CifartuiError, match=r"commands\.jsonl cannot be written \(No space left on device\); is its disk full"
        ),
    ):
        append_command(path, commands.Stop())
    append_command(path, commands.Abort())
    assert [type(command).__name__ for command in command_reader(path).read()] == ["Pause", "Abort"]


def test_a_cache_that_finds_no_room_says_how_much_it_needs(birds: Path) -> None:
    with room(2000), pytest.raises(CifartuiError, match=r"no room for the decoded images in .*CIFARTUI_CACHE"):
        load(Data(dataset="class-folders", path=str(birds), image_size=8), None, 0, lambda event: None)
    load(Data(dataset="class-folders", path=str(birds), image_size=8), None, 0, lambda event: None)


def test_a_state_folder_that_cannot_be_written_is_one_sentence(cifartui: Callable, tmp_path: Path) -> None:  # type: ignore[type-arg]
    (tmp_path / "state").write_text("a file where a folder should be")
    for arguments in (("train", "demo"), ("train", "demo", "basenet", "--detach")):
        done = cifartui(*arguments, CIFARTUI_RUNS=str(tmp_path / "state" / "runs"))
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert "Not a directory" in done.stderr
        assert str(tmp_path / "state") in done.stderr
    assert cifartui("runs", CIFARTUI_RUNS=str(tmp_path / "state" / "runs")).returncode == 0


def test_a_run_folder_that_cannot_be_written_starts_no_worker(tiny: Make) -> None:
    run = tiny()
    run.log.mkdir()  # what root may not write either
    with pytest.raises(
        CifartuiError, match=rf"Run {run.id} cannot be given a worker \(Is a directory: .*worker\.log\)"
    ):
        start.start_worker(run)
    assert status(run) == "lost"


def test_a_worker_whose_folder_is_deleted_ends(tiny: Make, fork_worker: ForkWorker, runs_dir: Path) -> None:
    run = tiny(epochs=50_000)
    worker = fork_worker(run)
    worker.trains()
    shutil.rmtree(run.path, ignore_errors=True)
    shutil.rmtree(run.path, ignore_errors=True)  # what it wrote meanwhile
    wait_for(lambda: not _is_there(worker.pid), "its end", patience_s=20)
    assert list_runs(runs_dir) == []


def test_a_run_that_is_moved_says_so_where_it_is_now(tiny: Make, fork_worker: ForkWorker, tmp_path: Path) -> None:
    run = tiny(epochs=50_000)
    worker = fork_worker(run)
    worker.trains()
    run.path.rename(tmp_path / "elsewhere")
    wait_for(lambda: not _is_there(worker.pid), "its end", patience_s=20)
    end = RunDir(tmp_path / "elsewhere").read_state().finished
    assert end is not None
    assert (end.outcome, end.reason) == ("failed", f"{run.path} was deleted or moved, so training has ended.")


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_show_and_lists_take_a_journal_with_damage_in_the_middle_and_at_the_end(
    tiny: Make, fork_worker: ForkWorker
) -> None:
    run = tiny()
    fork_worker(run).ends()
    lines = run.events.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    whole = run.read_state()
    damaged = [*lines[:middle], b'{"type":"StepsTr\0\0\0\n', b"\xff\xfe\n", *lines[middle:], b'{"type":"Devi']
    run.events.write_bytes(b"".join(damaged))
    state = run.read_state()
    assert state.epochs == whole.epochs
    assert status(run) == "completed"
    assert run_detail(run, 0.0).epochs == whole.epochs
    again = EventWriter(run.events)
    again.write(BEAT)
    assert read_events(run.events)[-1].seq == len(lines) + 1


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_disk_that_flushes_no_folders_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    fsync = os.fsync

    def refuse_folders(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    assert checkpoint_files.save({"step": 1}, tmp_path / "last.pt") > 0
    assert checkpoint_files.load(tmp_path / "last.pt") == {"step": 1}


def test_a_disk_that_fails_to_flush_a_folder_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        files.sync_folder(tmp_path)


def test_a_disk_that_fills_between_the_start_of_a_worker_and_its_signature_leaves_it_at_work(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny()

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(start, "sign_lock", full)
    start.start_worker(run)
    wait_for(lambda: run.read_state().finished, "its end", patience_s=60)
    assert status(run) == "completed"
    wait_for(lambda: not run.worker_lives(), "the end of its process")


@pytest.mark.parametrize("step", ["chmod", "checkpoints", "run.json"])
def test_a_creation_that_fails_leaves_no_folder(
    tmp_path: Path, tiny: Make, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    preset = tiny().read_info().preset
    runs_dir = tmp_path / "new"

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    new_folder = files.new_folder
    if step == "chmod":
        monkeypatch.setattr(Path, "chmod", full)
    elif step == "checkpoints":
        monkeypatch.setattr(files, "new_folder", lambda path: (full if path.name == step else new_folder)(path))
    else:
        monkeypatch.setattr(run_dir, "write_atomically", full)
    with pytest.raises(CifartuiError, match=r"Cannot write to .*: No space left on device"):
        run_dir.create(runs_dir, "tiny", preset=preset, seed=0, device="cpu")
    assert not runs_dir.exists()
