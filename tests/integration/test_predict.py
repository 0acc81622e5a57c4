"""`cifartui predict` with the tiny network that is kept: lines, files, exit codes, and its end by a signal."""

import csv
import json
import os
import shutil
import signal
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import NamedTuple, TextIO

import msgspec
import pytest

from engine.data.image_pixels import WHITE, read_square
from engine.runs import predictions
from engine.runs.find_run import find_run
from engine.runs.image_predictions import Loaded, Predicted, Request
from presets.errors import CifartuiError
from tests import sample_model
from tests.fork_client import ForkServer
from tests.integration.conftest import run_cifartui
from tests.waiting import wait_for
from tests.workers import Program
from tui.data import image_predictor

KEPT = Path(__file__).parents[1] / "data/run-0.1.0"
RUN = "20260101T000000-tiny-0000"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images and a damaged one, in a folder of the working directory, and a run to predict them with."""
    shutil.copytree(KEPT, tmp_path / "runs" / RUN)
    folder = sample_model.write_images(tmp_path / "images", 0, 2)
    (folder / "val/green/01.png").write_bytes(b"")
    return folder


@pytest.fixture
def predict(images: Path, fork_server: ForkServer) -> Run:
    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = ("predict", "latest", *arguments, "--device", "cpu")
        return run_cifartui(fork_server, images.parent / "runs", *command, stdin=stdin, cwd=images.parent)

    return run


def test_a_line_an_image_and_exit_1_for_one_that_cannot_be_read(predict: Run) -> None:
    result = predict("images", "gone.png")
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == [
        *(f"images/val/{name}/0{number}.png" for name in sample_model.CLASSES for number in range(2)), "gone.png",
    ]  # fmt: skip
    assert lines[3][1:] == ["no prediction: empty"]
    assert lines[6][1:] == ["no prediction: not there"]
    _, class_name, confidence, runner_up = lines[0]
    assert class_name in sample_model.CLASSES
    assert confidence.endswith(" %")
    assert runner_up.split(" ")[0] in set(sample_model.CLASSES) - {class_name}
    assert result.returncode == 1
    assert "best.pt (epoch 2) of run" in result.stderr
    assert "moving average of the weights, 3 classes, 12 px, on cpu in fp32" in result.stderr
    assert result.stderr.endswith("There is no prediction for 2 of 7 images.\n")


def test_csv_json_top_and_threshold(predict: Run, tmp_path: Path) -> None:
    options = ("--top", "3", "--threshold", "0.99", "--json", "--csv", "x.csv")
    result = predict("images/val/blue", "images/val/green", *options)
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["class"] for each in found] == [None] * 4  # none of them is so sure
    assert [len(each["top"]) for each in found] == [3, 3, 3, 0]
    assert found[0]["confidence"] == found[0]["top"][0]["confidence"] < 0.99
    assert found[3]["problem"] == "empty"
    with (tmp_path / "x.csv").open() as file:
        rows = list(csv.DictReader(file))
    further = ["class_2", "confidence_2", "class_3", "confidence_3"]
    assert list(rows[0]) == ["file", "class", "confidence", *further, "problem"]
    assert [row["file"] for row in rows] == [each["file"] for each in found]
    assert [row["class"] for row in rows] == [""] * 4
    assert [row["class_2"] for row in rows[:3]] == [each["top"][1]["class"] for each in found[:3]]
    assert rows[3] == {**dict.fromkeys(rows[3], ""), "file": "images/val/green/01.png", "problem": "empty"}
    assert "4 predictions are in x.csv." in result.stderr
    again = predict("images", "--csv", "x.csv")
    assert (again.returncode, again.stdout) == (2, "")
    assert "x.csv is there already" in again.stderr
    printed = predict("images/val/blue", "images/val/green", *options[:4], "--csv", "-")
    assert printed.stdout == (tmp_path / "x.csv").read_text()
    both = predict("images/val/blue", "--json", "--csv", "-")
    assert (both.returncode, both.stdout) == (2, "")
    surer = predict("images/val/blue", "--threshold", "0.2", "--csv", "x.csv", "--force")
    assert (surer.returncode, surer.stdout) == (0, "")
    assert (tmp_path / "x.csv").read_text().splitlines()[1].split(",")[1] in sample_model.CLASSES
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".csv"] == ["x.csv"]


def test_json_has_the_name_itself_and_lines_and_csv_show_it(predict: Run, images: Path) -> None:
    name = "new\nline\x1b.png"
    (images / "val/blue/00.png").rename(images.parent / name)
    assert [json.loads(line)["file"] for line in predict(name, "--json").stdout.splitlines()] == [name]
    for options in ((), ("--csv", "-")):
        printed = predict(name, *options).stdout
        assert "new␊line␛.png" in printed
        assert "\x1b" not in printed
        assert len(printed.splitlines()) == 1 + bool(options)


def test_names_on_standard_input_and_the_threshold_on_a_line(predict: Run) -> None:
    result = predict(
        "images/val/red/01.png", "-", "--top", "1", "--threshold", "1", stdin="images/val/red/00.png\n\nimages/val/blue"
    )
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == [
        f"images/val/{name}.png" for name in ("red/01", "red/00", "blue/00", "blue/01")
    ]
    assert all(line[1] == "unsure" and line[2].endswith(" %") and len(line) == 3 for line in lines)
    assert result.returncode == 0


def test_nothing_to_predict_is_said(predict: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = predict("empty", "--csv", "x.csv")
    assert (result.returncode, result.stdout) == (2, "")
    assert "There is no image in empty." in result.stderr
    assert "cifartui: There is no image to predict" in result.stderr
    assert not (tmp_path / "x.csv").exists()


def test_a_run_without_weights_is_said(images: Path, fork_server: ForkServer) -> None:
    (images.parent / "runs" / RUN / "checkpoints/best.pt").unlink()
    result = run_cifartui(fork_server, images.parent / "runs", "predict", "tiny", str(images))
    assert (result.returncode, result.stderr) == (
        2, f"cifartui: Run {RUN} has no best.pt yet; it is written after the first epoch.\n",
    )  # fmt: skip


class AtWork(NamedTuple):
    """A command, and our ends of the pipes that it has."""

    process: Program
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO


@pytest.fixture
def at_work(images: Path, fork_server: ForkServer) -> Iterator[AtWork]:
    """A command, forked into a session of its own, that has predicted one image and waits for names."""
    (typed, stdin), (stdout, printed), (stderr, told) = (os.pipe() for _ in range(3))
    process = Program(
        fork_server, [typed, printed, told], {**os.environ, "CIFARTUI_RUNS": str(images.parent / "runs")},
        working_directory=images.parent, has_session=True,
        arguments=["predict", RUN, "images/val/red/00.png", "-", "--batch-size", "1", "--json", "--csv", "x.csv",
                   "--device", "cpu"],
    )  # fmt: skip
    for descriptor in (typed, printed, told):
        os.close(descriptor)
    with (
        os.fdopen(stderr) as errors,
        os.fdopen(stdout) as lines,
        suppress(BrokenPipeError),
        os.fdopen(stdin, "w") as names,
    ):
        names.write("images/val/red/00.png\n" * 200)  # more than are decoded ahead
        names.flush()
        assert '"images/val/red/00.png"' in lines.readline()
        yield AtWork(process, names, lines, errors)
        with suppress(ProcessLookupError):
            process.kill()


@pytest.mark.parametrize(
    ("number", "to_all", "code", "said"),
    [(signal.SIGINT, True, 130, "Interrupted after"), (signal.SIGINT, False, 130, "Interrupted after"),
     (signal.SIGTERM, False, 143, "Terminated after")],
)  # fmt: skip
def test_a_signal_leaves_nothing_half_written(
    at_work: AtWork, images: Path, number: signal.Signals, to_all: bool, code: int, said: str
) -> None:
    wait_for(lambda: list(images.parent.glob(".*.csv")), "the file under its temporary name")
    (os.killpg if to_all else os.kill)(at_work.process.pid, number)
    with suppress(BrokenPipeError):
        at_work.stdin.close()
    errors = at_work.stderr.read()
    assert at_work.process.wait() == code, errors
    assert said in errors
    assert errors.endswith("; x.csv was not written.\n")
    assert "Traceback" not in errors
    assert not [path for path in images.parent.iterdir() if path.suffix == ".csv"]


def test_a_reader_that_goes_away_ends_it_without_a_word(at_work: AtWork, images: Path) -> None:
    at_work.stdout.close()
    errors = at_work.stderr.read()
    assert at_work.process.wait() == 141
    assert "Traceback" not in errors
    assert not [path for path in images.parent.iterdir() if path.suffix == ".csv"]


@pytest.mark.real_data
def test_photographs_by_file_have_the_accuracy_of_evaluate(
    cifar100_dir: Path, tmp_path: Path, fork_server: ForkServer
) -> None:
    archive = cifar100_dir / "ants-bees.tar"
    if not archive.is_file():
        pytest.skip(f"needs the photographs of ants and bees: no ants-bees.tar in {cifar100_dir}")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "photos", filter="data")
    cifartui = partial(run_cifartui, fork_server, tmp_path / "runs")
    smaller = ("--set=data.image_size=64", "--set=data.cache_size=80", "--epochs=1", "--device=cpu")
    trained = cifartui("train", "photos/scratch", "--data", str(tmp_path / "photos"), *smaller, "--output", "quiet")
    assert trained.returncode == 0, trained.stderr
    evaluated = json.loads(cifartui("evaluate", "latest", "--device", "cpu", "--json").stdout)
    assert evaluated["split"] == "val"
    result = cifartui("predict", "latest", str(tmp_path / "photos/val"), "--device", "cpu", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert (len(rows), result.returncode) == (evaluated["num_images"], 0)
    hits = sum(row["file"].split("/")[-2] == row["class"] for row in rows)
    assert hits / len(rows) == evaluated["top1"]
    found = predictions.read(find_run(tmp_path / "runs", "latest"), "val")
    assert found is not None
    assert [row["confidence"] for row in rows] == list(found.confidence)


def test_the_helper_writes_the_images_into_a_file_that_it_is_handed(images: Path) -> None:
    request = Request(run=str(images.parent / "runs" / RUN), device="cpu", folder=str(images.parent))
    with TemporaryFile() as pixels:
        request = msgspec.structs.replace(request, pixels_fd=pixels.fileno())
        loaded, *others = image_predictor.answers(request, ["images/val/green"])
        pixels.seek(0)
        content = pixels.read()
    assert isinstance(loaded, Loaded)
    rows = [row for answer in others if isinstance(answer, Predicted) for row in answer.rows]
    assert [row.problem for row in rows] == ["", "empty"]
    first = read_square(images / "val/green/00.png", loaded.side, WHITE).tobytes()
    assert content == first + bytes(len(first))


def test_a_helper_that_is_not_wanted_any_more_ends(images: Path) -> None:
    stop = threading.Event()
    request = Request(run=str(images.parent / "runs" / RUN), device="cpu", folder=str(images.parent))
    found = image_predictor.answers(request, ["images/val"], stop)
    assert isinstance(next(found), Loaded)
    stop.set()
    with pytest.raises(CifartuiError, match="withdrawn"):
        list(found)
