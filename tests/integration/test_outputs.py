"""What comes out of runs, through the command line and real processes: submissions, tables, exports."""

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from engine.runs.run_dir import list_runs
from tests.cifar_files import course_rows, pickled, write_folder
from tests.integration.conftest import run_cifartui
from tests.workers import ForkServer
from tui.cli.evaluate import submission_text

Call = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ("--set", "data.train_limit=640", "--set", "train.batch_size=32")
ON_ONE_RUN = pytest.mark.xdist_group("trained")
"""Tests that only read the run that `trained` makes: one process runs them all."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer) -> Call:
    """The command line with the runs folder of a demo that has been trained for two epochs, for all that ask."""
    call = partial(run_cifartui, fork_server, tmp_path_factory.mktemp("trained"))
    done = call("train", "demo", "--epochs", "2", "--output", "quiet", "--device", "cpu", *SMALL)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return call


@ON_ONE_RUN
def test_what_runs_and_show_and_evaluate_say_agrees(trained: Call) -> None:
    (row,) = json.loads(trained("runs", "--json").stdout)
    record = json.loads(trained("show", "latest", "--json").stdout)
    shown = record["summary"]
    assert row == shown
    assert max(epoch["val_top1"] for epoch in record["epochs"]) == shown["best_val_top1"]
    assert record["num_steps"] == len(record["steps"]) > 0
    assert {saved["kind"] for saved in record["checkpoints"] if saved["is_there"]} == {"best", "last"}
    assert shown["status"] == "completed"
    assert row["id"] in trained("runs").stdout
    assert "completed" in trained("show", row["id"]).stdout
    for split, key in (("val", "best_val_top1"), ("test", "test_top1")):
        measured = json.loads(trained("evaluate", "latest", "--split", split, "--json", "--device", "cpu").stdout)
        assert measured["top1"] == shown[key]
        assert sum(row["num_images"] for row in measured["classes"]) == measured["num_images"]
        hits = sum(row["hits"] for row in measured["classes"])
        assert measured["top1"] == pytest.approx(hits / measured["num_images"])
    said = trained("evaluate", "latest", "--checkpoint", "last", "--per-class", "--device", "cpu").stdout
    assert "top-1" in said
    assert "most often confused" in said
    assert "superclass" not in said  # shapes have none


@ON_ONE_RUN
def test_curves_are_exported(trained: Call, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    assert trained("export", "latest", "--format", "csv", "--output", str(path)).returncode == 0
    assert len(path.read_text().splitlines()) == 3
    refused = trained("export", "latest", "--format", "csv", "--output", str(path))
    assert (refused.returncode, "is there already" in refused.stderr) == (2, True)
    assert trained("export", "latest", "--format", "csv", "--steps", "--force", "--output", str(path)).returncode == 0
    assert path.read_text().startswith("global_step,")
    picture = tmp_path / "out.svg"
    assert trained("export", "latest", "--format", "svg", "--output", str(picture)).returncode == 0
    assert picture.read_text().startswith("<svg")


@ON_ONE_RUN
def test_tensorboard_reads_what_is_exported(trained: Call, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = tmp_path / "board"
    result = trained("export", "latest", "--format", "tensorboard", "--output", str(folder))
    assert result.returncode == 0, result.stderr
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    record = json.loads(trained("show", "latest", "--json").stdout)
    val = events.Scalars("val/top1")
    assert [event.step for event in val] == [point["global_step"] for point in record["epochs"]]
    assert [event.value for event in val] == pytest.approx([point["val_top1"] for point in record["epochs"]])
    assert len(events.Scalars("train/loss")) == len(record["steps"])
    assert {"lr", "val/loss", "train/top1"} <= set(events.Tags()["scalars"])


PRESET = """
title = "Tiny"
data = {{ dataset = "cifar100", path = "{path}" }}
model = {{ network = "vgg", blocks = [[4]], pools = ["avg"] }}
train = {{ epochs = 1, batch_size = 32 }}
optimizer = {{ name = "sgd", lr = 0.01 }}
"""


def test_a_submission_for_hidden_labels(cifartui: Call, tmp_path: Path) -> None:
    folder = tmp_path / "cifar100"
    files = {"train_cs543": course_rows(40), "test_cs543": course_rows(12, are_labels_hidden=True)}
    write_folder(folder, {name: pickled(rows) for name, rows in files.items()})
    preset = tmp_path / "tiny.toml"
    preset.write_text(PRESET.format(path=folder))
    assert cifartui("train", str(preset), "--output", "quiet", "--device", "cpu").returncode == 0
    path = tmp_path / "submission.csv"
    result = cifartui("evaluate", "latest", "--submission", str(path), "--device", "cpu")
    assert "hidden, so there is no accuracy" in result.stdout, result.stderr
    lines = path.read_bytes().split(b"\n")
    assert lines[0] == b'"Id","Prediction1"'
    assert lines[-1] == b""
    assert all(line.startswith(f'"{number}","'.encode()) for number, line in enumerate(lines[1:-1]))
    refused = cifartui("evaluate", "latest", "--submission", str(path), "--device", "cpu")
    assert (refused.returncode, "is there already" in refused.stderr) == (2, True)
    wrong = cifartui("evaluate", "latest", "--split", "val", "--submission", str(tmp_path / "x.csv"))
    assert "leave --split val out" in wrong.stderr


def test_a_submission_is_byte_for_byte_as_kaggle_wants_it() -> None:
    from tests.unit.test_scores import made

    text = submission_text(made(None, tuple(range(100)) * 100, tuple(map(str, range(100)))))
    assert len(text.splitlines()) == 10_001
    assert text.startswith('"Id","Prediction1"\n"0","0"\n"1","1"\n')
    assert text.endswith('"9999","99"\n')
    assert "\r" not in text


@pytest.mark.real_data
def test_two_steps_of_the_ablation_and_their_table(cifartui: Call, cifar100_dir: Path, runs_dir: Path) -> None:
    asked = ("--data-dir", str(cifar100_dir), "ablation", "1", "2", "--epochs-scale", "0.01", "--device", "cpu")
    result = cifartui(*asked, "--set", "data.train_limit=640", "--json")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert [row["preset_name"] for row in rows] == ["ablation/step-01", "ablation/step-02"]
    assert all(row["is_partial"] and row["status"] == "completed" for row in rows)
    assert len(list_runs(runs_dir)) == 2
    table = cifartui("ablation", "0-2", "--table").stdout
    assert "not run yet" in table
    assert "1/1" not in table
    said = cifartui("compare", *[run.id for run in list_runs(runs_dir)]).stdout
    assert "normalise, mean 0 and std 1" in said
    nothing = cifartui("ablation", "99")
    assert (nothing.returncode, "There is no ablation step 99" in nothing.stderr) == (2, True)
