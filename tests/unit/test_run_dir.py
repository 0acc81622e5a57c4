import fcntl
import os
import socket
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.runs import run_dir
from engine.runs.find_run import find_model, find_run
from engine.runs.run_dir import RunDir
from engine.runs.worker_mark import WorkerMark
from presets import schema
from presets.errors import CifartuiError

PRESET = schema.Preset(
    title="T",
    data=schema.Data(dataset="shapes100"),
    model=schema.BaseNet(),
    train=schema.Train(epochs=1, batch_size=8),
    optimizer=schema.Sgd(lr=0.1),
)


def create(runs_dir: Path, name: str = "basenet", **changes: Any) -> RunDir:
    return run_dir.create(runs_dir, name, preset=PRESET, seed=0, device="auto", **changes)


def test_run_json_comes_back(tmp_path: Path) -> None:
    run = create(tmp_path, overrides=("optimizer.lr=0.1",))
    info = run.read_info()
    assert info.preset == PRESET
    assert info.overrides == ("optimizer.lr=0.1",)
    assert info.id == run.id


def test_run_folders_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        run = create(tmp_path / "runs")
    finally:
        os.umask(before)
    assert run.path.stat().st_mode & 0o777 == 0o700
    assert (run.path / "run.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["../../evil", "a/b", "/etc/passwd", "", "…", "x" * 300, "a\nb"])
def test_no_preset_name_leads_out_of_the_runs_folder(tmp_path: Path, name: str) -> None:
    run = create(tmp_path / "runs", name)
    assert run.path.parent == tmp_path / "runs"


def test_launches_in_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    threads = [threading.Thread(target=create, args=(tmp_path,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(run_dir.list_runs(tmp_path)) == 20


def test_a_runs_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CifartuiError, match="--runs-dir"):
        create(tmp_path / "file" / "runs")


def test_find_by_id_prefix_part_and_latest(tmp_path: Path) -> None:
    first, second = create(tmp_path, "alpha"), create(tmp_path, "beta")
    assert find_run(tmp_path, first.id).path == first.path
    assert find_run(tmp_path, "beta").path == second.path
    assert find_run(tmp_path, second.id[-4:]).path == second.path
    assert find_run(tmp_path, "latest").path == max(first.path, second.path)


@pytest.mark.parametrize(
    ("name", "said"), [("nothing", "No run is called"), ("../x", "not a run id"), ("2", "could be 2")]
)
def test_names_that_find_no_one_run(tmp_path: Path, name: str, said: str) -> None:
    create(tmp_path, "alpha")
    create(tmp_path, "beta")
    with pytest.raises(CifartuiError, match=said):
        find_run(tmp_path, name)


def test_a_model_in_the_home_of_no_user_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(CifartuiError, match="There are no runs in"):
        find_model(tmp_path, "~nobody-of-this-name/run")


def test_a_damaged_run_json_is_said(tmp_path: Path) -> None:
    run = create(tmp_path)
    (run.path / "run.json").write_text("{")
    with pytest.raises(CifartuiError, match=r"run\.json cannot be read"):
        run.read_info()


def test_the_lock_tells_whether_a_worker_lives(tmp_path: Path) -> None:
    run = create(tmp_path)
    assert run.worker_lives() is False
    fd = os.open(run.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.write(fd, msgspec.json.encode(WorkerMark(pid=1, host=socket.gethostname())))
    assert run.worker_lives() is True
    os.close(fd)
    assert run.worker_lives() is False


def test_a_worker_on_another_host_cannot_be_seen(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.lock.write_bytes(msgspec.json.encode(WorkerMark(pid=1, host="another-host")))
    assert run.worker_lives() is None


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(IsADirectoryError):
        run_dir.write_atomically(tmp_path / "there", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
