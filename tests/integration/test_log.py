"""Curves of runs in TensorBoard, W&B, MLflow and Trackio, read back from what each library wrote."""

import contextlib
import fcntl
import importlib.util
import json
import os
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.journal.events import EpochCompleted, RunFinished, StepsTrained
from engine.journal.jsonl import read_events
from engine.runs.notify_settings import LOG_SERVICES
from engine.runs.predictions import Predictions, write
from engine.runs.run_dir import RunDir, list_runs
from engine.trackers.log_run import log_run
from presets.errors import CifartuiError
from tests.ui.sample_run import SampleRun
from tests.waiting import wait_for
from tui.config import read_config

Call = Callable[..., subprocess.CompletedProcess[str]]
Curve = list[tuple[int, float]]
SERVICES = (
    "tensorboard",
    "wandb",
    "mlflow",
    pytest.param(
        "trackio",
        marks=pytest.mark.skipif(importlib.util.find_spec("trackio") is None, reason="needs the package trackio"),
    ),
)
"""Trackio is not among the packages that tests are run with: it takes no Pillow of today, which images are read by."""


def of_tensorboard(run: RunDir, tag: str) -> Curve:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0})
    return [(event.step, event.value) for event in found.Reload().Scalars(tag)]


def records_of(content: bytes) -> Iterator[bytes]:
    """Yield the records of a .wandb file: a log as LevelDB's, in blocks of 32 KB, behind a header of seven bytes."""
    place, record = 7, b""
    while place + 7 <= len(content):
        if (left := 32_768 - place % 32_768) < 7:
            place += left
            continue
        size, kind = struct.unpack_from("<HB", content, place + 4)
        record += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in {1, 4}:  # whole, or its last piece
            yield record
            record = b""


def of_wandb(run: RunDir, tag: str) -> Curve:
    from wandb.proto.wandb_internal_pb2 import Record

    curve = []
    for path in sorted(run.path.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        for content in records_of(path.read_bytes()):
            record = Record()
            record.ParseFromString(content)
            values = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            if tag in values:
                curve.append((record.history.step.num, json.loads(values[tag])))
    return curve


def of_mlflow(run: RunDir, tag: str) -> Curve:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run.path.parent / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("cifartui").experiment_id])
    assert found.data.tags["cifartui.run"] == run.id
    return [(metric.step, metric.value) for metric in client.get_metric_history(found.info.run_id, tag)]


def of_trackio(run: RunDir, tag: str) -> Curve:
    with contextlib.closing(sqlite3.connect(run.path.parent / "trackio" / "cifartui.db")) as kept:
        rows = kept.execute("SELECT step, metrics FROM metrics WHERE run_name = ? ORDER BY id", (run.id,)).fetchall()
    return [(step, values[tag]) for step, values in ((step, json.loads(text)) for step, text in rows) if tag in values]


KEPT: dict[str, Callable[[RunDir, str], Curve]] = {
    "tensorboard": of_tensorboard, "wandb": of_wandb, "mlflow": of_mlflow, "trackio": of_trackio,
}  # fmt: skip


def told(run: RunDir, tag: str) -> Curve:
    """Return what the journal says at last of a tag."""
    read: dict[str, Callable[[Any], Any]] = {
        "train/loss": lambda event: event.loss if isinstance(event, StepsTrained) else None,
        "val/top1": lambda event: event.val_top1 if isinstance(event, EpochCompleted) else None,
        "test/top1": lambda event: event.test_top1 if isinstance(event, RunFinished) else None,
    }
    points: dict[int, float] = {}
    for event in read_events(run.events):
        if (value := read[tag](event)) is not None:
            points.setdefault(event.global_step, value)  # type: ignore[union-attr]
    return sorted(points.items())


def check(curve: Curve, run: RunDir, tag: str) -> None:
    """Compare a curve with what the journal says: each step once, in order, with its value."""
    expected = told(run, tag)
    assert [step for step, _ in curve] == [step for step, _ in expected]
    assert [value for _, value in curve] == pytest.approx([value for _, value in expected], rel=1e-6)


def with_predictions(run: RunDir) -> None:
    found = Predictions(
        run=run.id, split="test", checkpoint="best", epoch=2, global_step=2814, class_names=("cat", "dog"),
        image_size=4, true=(0, 1), predicted=(0, 0), confidence=(0.9, 0.6),
    )  # fmt: skip
    write(run, found, bytes(range(96)))


@pytest.mark.parametrize("service", SERVICES)
def test_a_run_is_logged_once_although_it_was_killed_resumed_and_logged_four_times(
    new_cifartui: Call, runs_dir: Path, service: str
) -> None:
    def log() -> str:
        done = new_cifartui("log", run.folder.id, "--to", service, WANDB_MODE="offline", MLFLOW_TRACKING_URI="")
        assert done.returncode == 0, done.stderr
        return done.stdout

    with SampleRun(runs_dir) as run:
        run.live().begin().prepare().train_epoch(1, gpu=True)
        assert " points logged. See them with: " in log()
        run.train_epoch(2, until=0.5)
        log()
        run.die()  # and what was trained of the epoch is done, and told, again
        run.live().begin().train_epoch(2).finish()
        with_predictions(run.folder)
        assert " and 2 images with predictions logged" in log()
        assert "has told nothing new" in log()
        for tag in ("train/loss", "val/top1", "test/top1"):
            check(KEPT[service](run.folder, tag), run.folder, tag)
        assert len(KEPT[service](run.folder, "gpu0/memory_used_bytes")) > 1


@pytest.mark.parametrize("service", SERVICES)
def test_settings_and_predictions_are_kept(new_cifartui: Call, runs_dir: Path, service: str) -> None:
    with SampleRun(runs_dir) as run:
        run.live().begin().prepare().train_epoch(1).finish()
    with_predictions(run.folder)
    new_cifartui("log", run.folder.id, "--to", service, WANDB_MODE="offline")
    kept = [path for path in runs_dir.rglob("*") if path.is_file() and "logged-" not in path.name]
    written = b"".join(path.read_bytes() for path in kept if path.name not in {"run.json", "events.jsonl"})
    assert b"optimizer.lr" in written
    if service == "tensorboard":
        assert b"predictions/02 cat 60 %, is dog" in written
    else:
        assert len([path for path in kept if path.suffix == ".png"]) == 2


def test_a_run_is_followed_to_its_end(runs_dir: Path) -> None:
    stop = threading.Event()
    results: list[Any] = []
    with SampleRun(runs_dir) as run:
        run.live().begin().prepare().train_epoch(1)
        following = threading.Thread(
            target=lambda: results.append(log_run(run.folder, "tensorboard", None, follow=True, stop=stop))
        )
        following.start()
        wait_for(lambda: (run.folder.path / "logged-tensorboard.json").exists(), "the beginning")
        with pytest.raises(CifartuiError, match="is being logged to tensorboard by another process"):
            log_run(run.folder, "tensorboard", None, follow=False, stop=stop)
        run.train_epoch(2)
        assert following.is_alive()
        run.finish()
        following.join(30)
    assert not following.is_alive()
    (result,) = results
    assert (result.outcome, result.is_lost) == ("completed", False)
    check(of_tensorboard(run.folder, "val/top1"), run.folder, "val/top1")


def test_a_worker_that_is_lost_ends_the_following(runs_dir: Path) -> None:
    with SampleRun(runs_dir) as run:
        run.live().begin().prepare().train_epoch(1, until=0.5).die()
        result = log_run(run.folder, "tensorboard", None, follow=True, stop=threading.Event())
    assert (result.outcome, result.is_lost) == (None, True)


def test_points_written_by_a_logger_that_was_killed_before_it_noted_them_are_shown_once(runs_dir: Path) -> None:
    with SampleRun(runs_dir) as run:
        run.live().begin().prepare().train_epoch(1)
        noted = run.folder.path / "logged-tensorboard.json"
        log_run(run.folder, "tensorboard", None, follow=False, stop=threading.Event())
        before = noted.read_bytes()
        run.train_epoch(2)
        log_run(run.folder, "tensorboard", None, follow=False, stop=threading.Event())
        noted.write_bytes(before)
        log_run(run.folder, "tensorboard", None, follow=False, stop=threading.Event())
    check(of_tensorboard(run.folder, "train/loss"), run.folder, "train/loss")


@pytest.mark.parametrize("service", LOG_SERVICES)
def test_a_library_that_is_missing_is_a_sentence(runs_dir: Path, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"tensorboard": "tensorboard.compat.proto.event_pb2", "mlflow": "mlflow.entities"}
    monkeypatch.setitem(sys.modules, names.get(service, service), None)
    with SampleRun(runs_dir) as run:
        run.begin()
    with pytest.raises(CifartuiError, match=rf"pip install 'cifartui\[{service}\]'"):
        log_run(run.folder, service, None, follow=False, stop=threading.Event())


def test_what_cannot_be_logged_is_a_sentence(new_cifartui: Call, runs_dir: Path, tmp_path: Path) -> None:
    with SampleRun(runs_dir) as run:
        run.live().begin().prepare().train_epoch(1)

    def refused(*arguments: str, **variables: str) -> str:
        done = new_cifartui("log", run.folder.id, "--to", *arguments, **variables)
        assert done.returncode == 2, done.stdout
        (line,) = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("cifartui: ")]
        return line

    a_file = tmp_path / "file"
    a_file.write_text("mine")
    assert "cannot be written" in refused("tensorboard", "--output", str(a_file / "below"))
    no_key = {"WANDB_API_KEY": "", "WANDB_MODE": "online", "HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
    assert "log in with wandb login, or set WANDB_MODE=offline" in refused("wandb", **no_key)
    assert "wandb does not take" in refused("wandb", WANDB_MODE="elsewhere")
    assert "mlflow does not take" in refused("mlflow", "--output", "http://127.0.0.1:9")
    (run.folder.path / "logged-mlflow.json").write_bytes(b"{")
    assert "delete it, and the run is logged from its start" in refused("mlflow")
    fd = os.open(run.folder.path / "logged-trackio.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert "is being logged to trackio by another process" in refused("trackio")
    os.close(fd)
    assert a_file.read_text() == "mine"


def test_the_configurations_log_is_started_beside_each_worker(
    new_cifartui: Call, runs_dir: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('log = ["tensorboard", "mlflow"]\n')
    small = ("--set", "data.train_limit=640", "--set", "train.batch_size=32", "--epochs", "2", "--device", "cpu")
    done = new_cifartui("train", "demo", *small, "--output", "quiet", CIFARTUI_CONFIG=str(config))
    assert done.returncode == 0, done.stderr
    (run,) = list_runs(runs_dir)
    said = wait_for(
        lambda: (text := run.log.read_text()).count(" points logged. See them with: ") == 2 and text, "both logs"
    )
    assert "See them with: tensorboard --logdir" in said
    assert len(of_tensorboard(run, "val/top1")) == len(of_mlflow(run, "val/top1")) == 2


def test_a_service_that_does_not_exist_and_a_wrong_place_of_the_key_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    monkeypatch.setenv("CIFARTUI_CONFIG", str(config))
    config.write_text('log = ["tensorbord"]\n')
    with pytest.raises(CifartuiError, match="tensorbord"):
        read_config()
    config.write_text('[notify]\nlog = ["tensorboard"]\n')
    with pytest.raises(CifartuiError, match="log is a key of its own"):
        read_config()
