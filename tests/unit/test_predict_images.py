"""Predictions for images of one's own are those of `evaluate`, in order, and memory does not grow with their number."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from engine.data import image_decoders
from engine.data.image_decoders import Decoded, decode_in_order
from engine.data.image_pixels import WHITE, read_square
from engine.data.load import load, stored_size
from engine.runs import predictions
from engine.runs.image_predictions import Answer, Loaded, Noticed, Predicted, Request, Row, images_at
from engine.runs.run_dir import RunDir
from engine.shared import child_process
from engine.shared.image_formats import Fault
from engine.shared.image_scan import Unread
from engine.training import checkpoint_files, predict_images
from engine.training.evaluate_checkpoint import measure
from presets.schema import Data
from tests import sample_model

KEPT = Path(__file__).parents[1] / "data/run-0.1.0"
Predict = Callable[..., list[Answer]]


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(KEPT, tmp_path / "runs" / "20260101T000000-tiny-0000")))


@pytest.fixture
def predict(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Predict in this process; return the answers."""

    def predict_here(*names: str, **more: Any) -> list[Answer]:
        answers: list[Answer] = []
        monkeypatch.setattr(predict_images, "say", answers.append)
        request = Request(run=str(run.path), device="cpu", folder=str(tmp_path), num_names=len(names), **more)
        predict_images.predict(request, iter(names))
        return answers

    return predict_here


def rows_of(answers: list[Answer]) -> list[Row]:
    return [row for answer in answers if isinstance(answer, Predicted) for row in answer.rows]


def test_val_by_file_is_what_evaluate_says_to_the_last_digit(run: RunDir, predict: Predict, tmp_path: Path) -> None:
    data = sample_model.write_images(tmp_path / "images")
    (data / "val/green/30.png").write_bytes(b"")
    evaluated = measure(run, "best", "val", "cpu", None, str(data))
    found = predictions.read(run, "val")
    assert found is not None
    assert found.unreadable == ("val/green/30.png",)
    answers = predict("images/val", top=3)
    (broken,) = [row for row in rows_of(answers) if row.problem]
    assert broken == Row("images/val/green/30.png", problem="empty")
    rows = [row for row in rows_of(answers) if not row.problem]
    assert [row.file for row in rows] == [f"images/{name}" for name in found.names]
    assert [round(row.top[0].confidence, 4) for row in rows] == list(found.confidence)
    assert [row.top[0].class_name for row in rows] == [found.class_names[index] for index in found.predicted]
    hits = sum(row.top[0].class_name == row.file.split("/")[2] for row in rows)
    assert hits / len(rows) == evaluated.top1
    assert 0 < evaluated.top1 < 1  # type: ignore[operator]
    loaded = answers[0]
    assert isinstance(loaded, Loaded)
    assert loaded.is_average
    assert "the moving average of the weights, 3 classes, 12 px, on cpu in fp32" in loaded.sentence()


def test_the_batch_size_changes_no_class(predict: Predict, tmp_path: Path) -> None:
    sample_model.write_images(tmp_path / "images", 2, 5)
    whole, single = (rows_of(predict("images", batch_size=size)) for size in (None, 1))
    assert [(row.file, row.top[0].class_name) for row in whole] == [(row.file, row.top[0].class_name) for row in single]
    assert [row.top[0].confidence for row in whole] == pytest.approx([row.top[0].confidence for row in single])


def test_files_folders_and_archives_keep_their_order(predict: Predict, tmp_path: Path) -> None:
    sample_model.write_images(tmp_path / "images", 1, 1)
    with tarfile.open(tmp_path / "some.tar", "w") as archive:
        archive.add(tmp_path / "images/train", "inside")
    (tmp_path / "empty").mkdir()
    (tmp_path / "images/val/notes.txt").touch()
    (tmp_path / "images/val/later.heic").write_bytes(b"\0\0\0\x18ftypheic")
    whole = f"{tmp_path}/images/train/red/00.png"
    answers = predict("gone.png", "images/val/", "some.tar", "empty", whole, "gone.png")
    rows = rows_of(answers)
    assert [row.file for row in rows] == [
        "gone.png", "images/val/blue/01.png", "images/val/green/01.png", "images/val/later.heic",
        "images/val/red/01.png", "some.tar/inside/blue/00.png", "some.tar/inside/green/00.png",
        "some.tar/inside/red/00.png", whole, "gone.png",
    ]  # fmt: skip
    assert [row.problem for row in rows if row.problem][::2] == ["not there", "not there"]
    assert rows[3].problem
    assert rows[7].top == rows[8].top
    assert Noticed("There is no image in empty.") in answers
    last = answers[-1]
    assert isinstance(last, Predicted)
    assert (last.done, last.known, last.is_all) == (10, 10, True)


def test_what_has_no_row_is_said_with_the_reason(predict: Predict, tmp_path: Path) -> None:
    sample_model.write_images(tmp_path / "images", 0, 1)
    for name in ("a.eps", "b.eps", "val/red/c.pdf", "val/red/later.heic"):
        (tmp_path / "images" / name).touch()
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the two that have one name
        whole = (tmp_path / "images/val/red/00.png").read_bytes()
        for name in ("x.png", "x.png", "../y.png", f"{'z' * 300}.png", "notes.txt"):
            archive.writestr(name, whole)
    answers = predict("images", "some.zip")
    assert [row.file for row in rows_of(answers)][3:] == ["images/val/red/later.heic", "some.zip/x.png"]
    assert [answer.text for answer in answers if isinstance(answer, Noticed)] == [
        "2 files in images are not read (.eps: not an image format that is read).",
        "images/val/red/c.pdf is not read (.pdf: not an image format that is read).",
        "some.zip/notes.txt is not read (.txt: not an image format that is read).",
        "some.zip/x.png is not read (a later file of the archive has its name).",
        "some.zip/../y.png is not read (it would lie outside of the archive's folder).",
        f"some.zip/{'z' * 300}.png is not read (its name is too long).",
    ]
    shutil.rmtree(tmp_path / "images/val")
    unread: list[Unread] = []
    assert list(images_at(".", tmp_path / "images", on_unread=unread.extend)) == []
    assert [each.sentence() for each in unread] == [
        "2 files in the folder itself are not read (.eps: not an image format that is read)."
    ]


def test_a_folder_that_cannot_be_read_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("engine.shared.image_scan.os.scandir", refuse)
    (found,) = images_at(".", tmp_path)
    assert found.path is None
    assert found.problem == f"{tmp_path} could not be read: Permission denied"


def test_the_images_of_the_rows_are_handed_over(run: RunDir, predict: Predict, tmp_path: Path) -> None:
    sample_model.write_images(tmp_path / "images", 1, 0)
    (tmp_path / "images/train/green/00.png").write_bytes(b"no image")
    with (tmp_path / "pixels").open("w+b") as file:
        answers = predict("images", pixels_fd=file.fileno(), batch_size=2)
        file.seek(0)
        pixels = np.frombuffer(file.read(), np.uint8).reshape(-1, 16, 16, 3)
    assert isinstance(answers[0], Loaded)
    assert answers[0].side == 16
    expected = [read_square(tmp_path / f"images/train/{name}/00.png", 16, WHITE) for name in ("blue", "red")]
    assert np.array_equal(pixels[[0, 2]], expected)
    assert not pixels[1].any()


@pytest.mark.parametrize("dataset", ["shapes100", "class-folders"])
def test_images_are_stored_at_the_size_that_is_predicted(dataset: Any, tmp_path: Path) -> None:
    sample_model.write_images(tmp_path, 3, 1)
    data = Data(dataset=dataset, path=str(tmp_path) if dataset == "class-folders" else None, image_size=48)
    assert load(data, None, 0, lambda event: None).train.images.shape[-1] == stored_size(data)
    assert [stored_size(Data(dataset=name, image_size=48)) for name in ("cifar10", "cifar100", "mnist")] == [32, 32, 28]


def test_an_output_that_is_no_number_is_a_reason(run: RunDir, predict: Predict, tmp_path: Path) -> None:
    sample_model.write_images(tmp_path / "images", 0, 1)
    state = checkpoint_files.load(run.best)
    for weights in state["network"].values():
        if weights.is_floating_point() and weights.ndim > 1:
            weights.fill_(3e38)
    checkpoint_files.save(state, run.best)
    rows = rows_of(predict("images"))
    assert [(row.top, "not a number" in row.problem) for row in rows] == [((), True)] * 3


# --- the stream -----------------------------------------------------------------------------------


def listed(decoded: Iterator[Decoded]) -> list[object]:
    return [pixels.tolist() if isinstance(pixels, np.ndarray) else pixels for pixels in decoded]


@pytest.fixture
def files(tmp_path: Path) -> list[Path | None]:
    paths: list[Path | None] = []
    for number in range(40):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (20, 16), (number, 2 * number, 255 - number)).save(paths[-1])  # type: ignore[arg-type]
    paths[7] = None
    paths[9] = tmp_path / "gone.png"
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("first_by_threads", [0, 11])
def test_processes_decode_in_order_what_threads_do(
    files: list[Path | None], first_by_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_decoders, "usable_cpus", lambda: 1)
    by_threads = listed(decode_in_order(files, 8, WHITE, 6))
    assert by_threads[7] is None
    assert by_threads[9] == Fault.ABSENT
    assert by_threads[8] == np.broadcast_to(np.reshape([8, 16, 247], (3, 1, 1)), (3, 8, 8)).tolist()
    monkeypatch.setattr(image_decoders, "usable_cpus", lambda: 2)
    monkeypatch.setattr(image_decoders, "_WORTH_PROCESSES", first_by_threads)
    assert listed(decode_in_order(files, 8, WHITE, 6)) == by_threads
    assert listed(decode_in_order(files * 3, 8, WHITE, 1)) == by_threads * 3


@pytest.mark.slow
@pytest.mark.parametrize("num_cpus", [1, 2])
def test_no_more_is_decoded_ahead_than_asked_for(
    files: list[Path | None], num_cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_decoders, "usable_cpus", lambda: num_cpus)
    monkeypatch.setattr(image_decoders, "_WORTH_PROCESSES", 20)
    taken = 0

    def paths() -> Iterator[Path | None]:
        nonlocal taken
        for path in files * 4:
            taken += 1
            yield path

    for done, _ in enumerate(decode_in_order(paths(), 8, WHITE, 5)):
        assert taken - done <= 6
    assert taken == 160


_PEAK = """
import resource, sys
from engine.training import checkpoint_files, predict_images
predict_images.say = lambda answer: None
predict_images.main()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(run: RunDir, tmp_path: Path) -> None:
    text = (run.path / "run.json").read_text()
    (run.path / "run.json").write_text(text.replace('"cache_size": 16', '"cache_size": 192'))  # 111 kB an image
    Image.new("RGB", (192, 192)).save(tmp_path / "one.png")

    def peak_bytes(num_images: int) -> int:
        request = Request(run=str(run.path), device="cpu", folder=str(tmp_path), num_names=num_images)
        result = subprocess.run(
            [sys.executable, "-c", _PEAK],
            input=msgspec.json.encode(request) + b"\n" + b"one.png\0" * num_images,
            cwd=Path(__file__).parents[2], env={**os.environ, "MALLOC_ARENA_MAX": "2"}, capture_output=True, check=True,
        )  # fmt: skip
        return int(result.stderr.split()[-1]) * 1024

    few, many = peak_bytes(400), peak_bytes(2000)
    assert many - few < 60e6  # all of them would take 177 MB more


# --- the process ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_process_answers_line_by_line_and_fails_in_a_sentence(run: RunDir, tmp_path: Path) -> None:
    sample_model.write_images(tmp_path / "images", 1, 0)

    def ask(request: Request) -> tuple[int, bytes, bytes]:
        pipe = subprocess.PIPE
        process = child_process.start("engine.training.predict_images", stdin=pipe, stdout=pipe, stderr=pipe)
        with process:
            printed, errors = process.communicate(msgspec.json.encode(request) + b"\nimages\0caf\xe9.png\0")
        return process.returncode, printed, errors

    request = Request(run=str(run.path), device="cpu", folder=str(tmp_path), num_names=2)
    code, printed, _ = ask(request)
    answers = [json.loads(line) for line in printed.splitlines()]
    assert code == 0
    assert [row["file"] for answer in answers[1:] for row in answer["rows"]][-2:] == [
        "images/train/red/00.png", "caf\\xe9.png",
    ]  # fmt: skip
    run.best.unlink()
    code, printed, errors = ask(request)
    assert (code, printed) == (2, b"")
    assert errors == b"Run 20260101T000000-tiny-0000 has no best.pt yet; it is written after the first epoch.\n"
