"""The queue's file: checked before it is written, edited by many at once, never trusted when it is read."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.queue import queue_file, runner_process
from engine.queue.queue_file import Entry
from engine.runs.run_options import RunOptions
from engine.runs.worker_mark import sign_lock
from presets import catalog
from presets.errors import CifartuiError


@pytest.fixture(autouse=True)
def runners(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Start none; remember who would have been started where."""
    started: list[Path] = []
    monkeypatch.setattr(queue_file, "start_runner", lambda runs_dir, notify="": started.append(runs_dir))
    monkeypatch.delenv("CIFARTUI_DATA", raising=False)
    return started


def names(runs_dir: Path) -> list[str]:
    return [entry.preset_name for entry in queue_file.entries(runs_dir)]


def three(runs_dir: Path) -> tuple[Entry, ...]:
    return queue_file.add(runs_dir, ["demo", "basenet", "vgg-custom"])


def test_there_is_none_until_something_is_added(tmp_path: Path, runners: list[Path]) -> None:
    runs_dir = tmp_path / "runs"
    assert queue_file.entries(runs_dir) == ()
    assert not queue_file.remove(runs_dir, "0" * 12)
    assert queue_file.clear(runs_dir) == 0
    assert not queue_file.runner_lives(runs_dir)
    assert not runs_dir.exists()
    assert runners == []


def test_what_is_added_comes_back_in_order(tmp_path: Path, runners: list[Path]) -> None:
    runs_dir = tmp_path / "runs"
    options = RunOptions(overrides=("train.epochs=2",), seed=3, device="cuda:1")
    added = queue_file.add(runs_dir, ["demo", "basenet"], options)
    added += queue_file.add(runs_dir, ["demo"])
    assert queue_file.entries(runs_dir) == added
    assert names(runs_dir) == ["demo", "basenet", "demo"]
    first = added[0]
    assert (first.overrides, first.seed, first.device) == (("train.epochs=2",), 3, "cuda:1")
    assert len({entry.id for entry in added}) == 3
    assert runners == [runs_dir, runs_dir]
    assert (runs_dir / "queue.json").stat().st_mode & 0o777 == 0o600
    assert runs_dir.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("presets", "changes", "said"),
    [
        (["demo", "no-such"], {}, "no-such"),
        (["demo", "basenet"], {"overrides": ("optimizer.rl=1",)}, "lr"),
        (["demo"], {"device": "gpu\x1b[31m"}, "is not a device"),
    ],
)
def test_nothing_is_added_where_one_is_not_valid(
    tmp_path: Path, runners: list[Path], presets: list[str], changes: Any, said: str
) -> None:
    with pytest.raises(CifartuiError, match=said) as refused:
        queue_file.add(tmp_path / "runs", presets, RunOptions(**changes))
    assert str(refused.value).isprintable()
    assert not (tmp_path / "runs").exists()
    assert runners == []


def test_paths_are_kept_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my images" / "train").mkdir(parents=True)
    (tmp_path / "mine.toml").write_text(
        'extends = "demo"\ndata = { dataset = "class-folders", path = "my images" }\n', encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIFARTUI_DATA", "my images")
    changes = ("data.dataset=class-folders", "data.path=my images")
    (by_override,) = queue_file.add(tmp_path / "runs", ["demo"], RunOptions(overrides=changes))
    (by_file,) = queue_file.add(tmp_path / "runs", ["mine.toml"], RunOptions(data_dir="my images/train"))
    monkeypatch.chdir("/")
    assert by_file.preset_name == str(tmp_path / "mine.toml")
    for entry in (by_override, by_file):
        assert catalog.load(entry.preset_name, entry.overrides).data.path == str(tmp_path / "my images")
    assert by_override.data_dir == str(tmp_path / "my images")
    assert by_file.data_dir == str(tmp_path / "my images" / "train")


def test_a_weights_file_is_kept_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (entry,) = queue_file.add(tmp_path / "runs", ["resnet50-frozen"], RunOptions(overrides=("model.weights=mine.pt",)))
    monkeypatch.chdir("/")
    preset = catalog.load(entry.preset_name, entry.overrides)
    assert getattr(preset.model, "weights", None) == str(tmp_path / "mine.pt")


def test_entries_are_moved_as_far_as_it_goes(tmp_path: Path) -> None:
    first, _, last = three(tmp_path)
    assert queue_file.move(tmp_path, last.id, -1)
    assert names(tmp_path) == ["demo", "vgg-custom", "basenet"]
    assert queue_file.move(tmp_path, last.id, -5)
    assert names(tmp_path) == ["vgg-custom", "demo", "basenet"]
    assert not queue_file.move(tmp_path, last.id, -1)
    assert queue_file.move(tmp_path, first.id, 9)
    assert names(tmp_path) == ["vgg-custom", "basenet", "demo"]
    assert not queue_file.move(tmp_path, "0" * 12, 1)


def test_entries_are_taken_out_and_put_back(tmp_path: Path) -> None:
    _, second, _ = three(tmp_path)
    assert queue_file.remove(tmp_path, second.id)
    assert not queue_file.remove(tmp_path, second.id)
    assert names(tmp_path) == ["demo", "vgg-custom"]
    assert queue_file.put_back(tmp_path, second, 1)
    assert not queue_file.put_back(tmp_path, second, 0)
    assert names(tmp_path) == ["demo", "basenet", "vgg-custom"]
    assert queue_file.clear(tmp_path) == 3
    assert queue_file.entries(tmp_path) == ()


ENTRY = {"id": "0123456789ab", "preset_name": "demo"}


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "{}", "null", '"x"', "[1]", "[" * 100_000, '[{"id": "0123456789ab"}]', "\xff\xfe",
        json.dumps([{**ENTRY, "id": ""}]), json.dumps([{**ENTRY, "id": "../../../etc"}]),
        json.dumps([{**ENTRY, "id": "0123456789ab\n"}]), json.dumps([{**ENTRY, "overrides": "a"}]),
        json.dumps([{**ENTRY, "seed": -1}]), json.dumps([{**ENTRY, "seed": 10**30}]), json.dumps([ENTRY, ENTRY]),
        json.dumps([{**ENTRY, "x": None}]).replace("null", "[" * 100_000), json.dumps([{**ENTRY, "preset_name": ""}]),
    ],
)  # fmt: skip
def test_a_damaged_file_is_said_and_left_as_it_is(tmp_path: Path, content: str) -> None:
    file = tmp_path / "queue.json"
    file.write_bytes(content.encode("latin-1"))
    for act in (
        lambda: queue_file.entries(tmp_path),
        lambda: queue_file.add(tmp_path, ["demo"]),
        lambda: queue_file.remove(tmp_path, "0123456789ab"),
        lambda: queue_file.clear(tmp_path),
    ):
        with pytest.raises(CifartuiError, match=r"queue\.json is damaged") as refused:
            act()
        assert str(refused.value).isprintable()
    assert file.read_bytes() == content.encode("latin-1")


def test_what_a_later_version_adds_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "queue.json").write_text(json.dumps([{**ENTRY, "later": [1]}]))
    assert queue_file.entries(tmp_path) == (Entry(id="0123456789ab", preset_name="demo"),)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CifartuiError, match="--runs-dir"):
        queue_file.add(tmp_path / "file" / "runs", ["demo"])


def test_an_edit_waits_only_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *_ = three(tmp_path)
    monkeypatch.setattr(queue_file, "_EDIT_PATIENCE_S", 0.05)
    with queue_file.editing(tmp_path), pytest.raises(CifartuiError, match="try again"):
        queue_file.remove(tmp_path, first.id)
    assert queue_file.remove(tmp_path, first.id)


EDITOR = """
import sys
from pathlib import Path
from engine.queue import queue_file
from engine.runs.run_options import RunOptions
queue_file.start_runner = lambda runs_dir, notify: None
runs_dir, name = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    options = RunOptions(overrides=(f"train.epochs={number + 1}",), data_dir=f"/{name}")
    (entry,) = queue_file.add(runs_dir, ["demo"], options)
    queue_file.move(runs_dir, entry.id, -1)
    if number % 2:
        assert queue_file.remove(runs_dir, entry.id)
"""


def test_processes_that_edit_at_once_lose_nothing(tmp_path: Path) -> None:
    editors = [
        subprocess.Popen(
            [sys.executable, "-c", EDITOR, str(tmp_path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for name in ("one", "two", "three")
    ]
    for editor in editors:
        assert editor.stdout is not None
        assert editor.stdout.readline() == "ready\n"
    for editor in editors:
        editor.communicate("go\n", timeout=60)
        assert editor.returncode == 0
    found = queue_file.entries(tmp_path)
    for name in ("/one", "/two", "/three"):
        epochs = {entry.overrides[0] for entry in found if entry.data_dir == name}
        assert epochs == {f"train.epochs={number + 1}" for number in range(0, 40, 2)}
    assert len(found) == 60
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_runner_is_known_by_its_lock(tmp_path: Path) -> None:
    lock_fd = runner_process.claim_runner(tmp_path)
    assert lock_fd is not None
    sign_lock(lock_fd, os.getpid())
    assert queue_file.runner_lives(tmp_path)
    assert runner_process.claim_runner(tmp_path) is None
    mark = runner_process.runner_mark(tmp_path)
    assert mark is not None
    assert mark.pid == os.getpid()
    os.close(lock_fd)
    assert not queue_file.runner_lives(tmp_path)


def test_somebody_who_only_looks_keeps_no_runner_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looking = os.open(tmp_path / "queue-runner.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(runner_process.time, "sleep", lambda _seconds: os.close(looking))
    lock_fd = runner_process.claim_runner(tmp_path)
    assert lock_fd is not None
    os.close(lock_fd)


def test_the_log_is_one_printable_line_each(tmp_path: Path) -> None:
    assert runner_process.last_logged(tmp_path) == ""
    runner_process.log(tmp_path, "took a\nb\x1b[2J out")
    assert runner_process.last_logged(tmp_path).endswith(r"took a\nb\x1b[2J out")
    (tmp_path / "queue.log").write_bytes(b"\xff\x1b[2Jx" * 10_000)
    assert runner_process.last_logged(tmp_path).isprintable()


def test_the_queue_does_without_torch() -> None:
    code = "import sys, engine.queue.queue_file, engine.queue.runner; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
