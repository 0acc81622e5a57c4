"""Deleting runs: all of a run goes, and nothing else ever does."""

import fcntl
import os
import socket
from pathlib import Path

import msgspec
import pytest

from engine.runs import delete
from engine.runs.delete import check_deletable, delete_run, size_bytes
from engine.runs.find_run import find_run
from engine.runs.run_dir import RunDir, list_runs
from engine.runs.worker_mark import WorkerMark
from presets.errors import CifartuiError
from tests.unit.test_run_dir import create


def test_a_run_is_deleted_whole_and_its_bytes_are_told(tmp_path: Path) -> None:
    run, other = create(tmp_path), create(tmp_path)
    run.best.write_bytes(b"x" * 5000)
    num_bytes = size_bytes(run.path)
    assert num_bytes == 5000 + (run.path / "run.json").stat().st_size
    assert delete_run(tmp_path, run.id) == num_bytes
    assert [path.name for path in tmp_path.iterdir()] == [other.id]


def test_links_inside_a_run_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"x" * 100_000)
    run = create(tmp_path / "runs")
    (run.checkpoints / "all").symlink_to(outside)
    (run.path / "file").symlink_to(outside / "kept")
    assert size_bytes(run.path) < 50_000
    delete_run(tmp_path / "runs", run.id)
    assert not run.path.exists()
    assert (outside / "kept").exists()


def test_a_run_that_is_a_link_is_left_alone(tmp_path: Path) -> None:
    real = create(tmp_path / "elsewhere")
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    (runs_dir / real.id).symlink_to(real.path)
    with pytest.raises(CifartuiError, match="is a link"):
        delete_run(runs_dir, real.id)
    assert (real.path / "run.json").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "../runs", "a/b", "/etc", ".hidden", "x\0y", "no-such-run"])
def test_hostile_names_delete_nothing(tmp_path: Path, name: str) -> None:
    runs_dir = tmp_path / "runs"
    run = create(runs_dir)
    (runs_dir / ".hidden").mkdir()
    (runs_dir / ".hidden" / "run.json").write_bytes((run.path / "run.json").read_bytes())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CifartuiError):
        delete_run(runs_dir, name)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    for name, content in (("photos", None), ("project", '{"scripts": {}}'), ("20260101T000000-demo-1234", None)):
        (tmp_path / name).mkdir()
        if content is not None:
            (tmp_path / name / "run.json").write_text(content)
        with pytest.raises(CifartuiError, match="not a run directory"):
            check_deletable(tmp_path, name)


def test_a_damaged_run_can_be_deleted(tmp_path: Path) -> None:
    run = create(tmp_path)
    (run.path / "run.json").write_text("{")
    assert delete_run(tmp_path, run.id) > 0
    assert list_runs(tmp_path) == []


def hold(run: RunDir, host: str) -> int:
    fd = os.open(run.lock, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.write(fd, msgspec.json.encode(WorkerMark(pid=1, host=host)))
    return fd


def test_a_run_with_a_worker_is_refused(tmp_path: Path) -> None:
    run = create(tmp_path)
    fd = hold(run, socket.gethostname())
    with pytest.raises(CifartuiError, match="cifartui stop"):
        delete_run(tmp_path, run.id)
    os.close(fd)
    delete_run(tmp_path, run.id)


def test_a_worker_that_starts_at_the_last_moment_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create(tmp_path)
    fd = hold(run, socket.gethostname())
    monkeypatch.setattr(delete, "check_deletable", lambda _runs_dir, _run_id: run)
    with pytest.raises(CifartuiError, match="just given a worker"):
        delete_run(tmp_path, run.id)
    assert run.path.exists()
    os.close(fd)


def test_a_worker_on_another_host_is_known_by_what_it_writes(tmp_path: Path) -> None:
    run = create(tmp_path)
    os.close(hold(run, "another-host"))
    run.events.write_bytes(b"")
    with pytest.raises(CifartuiError, match="written to by another-host"):
        delete_run(tmp_path, run.id)
    os.utime(run.events, (1e9, 1e9))
    delete_run(tmp_path, run.id)


def test_a_deletion_cut_short_is_never_listed_and_ends_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, next_run = create(tmp_path), create(tmp_path)

    def killed(_path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(delete, "_remove", killed)
        with pytest.raises(KeyboardInterrupt):
            delete_run(tmp_path, run.id)
    assert [each.id for each in list_runs(tmp_path)] == [next_run.id]
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(CifartuiError, match="No run is called"):
        find_run(tmp_path, run.id)
    delete_run(tmp_path, next_run.id)
    assert list(tmp_path.iterdir()) == []
