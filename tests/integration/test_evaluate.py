"""`cifartui evaluate` and `report` with the tiny network that is kept: scores printed, as files, and on a page."""

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from engine.runs import predictions, scores
from engine.runs.run_dir import RunDir
from engine.training import checkpoint_files
from engine.training.evaluate_checkpoint import measure
from presets.errors import CifartuiError
from tests import sample_model
from tests.report_page import check

KEPT = Path(__file__).parents[1] / "data/run-0.1.0"
Cifartui = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(runs_dir: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(KEPT, runs_dir / "20260101T000000-tiny-0000")))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return sample_model.write_images(tmp_path / "images")


def test_scores_are_printed_and_written(cifartui: Cifartui, run: RunDir, data: Path, tmp_path: Path) -> None:
    table, picture = tmp_path / "classes.csv", tmp_path / "matrix.png"
    asked = ("evaluate", "latest", "--data", str(data), "--device", "cpu", "--csv", str(table), "--png", str(picture))
    result = cifartui(*asked)
    assert result.returncode == 0, result.stderr
    found = predictions.read(run, "val")
    assert found is not None
    summed = scores.overall(found)
    assert summed is not None
    for shown in (
        f"top-1              {100 * summed.top1:.2f} % (95 % interval {100 * summed.top1_interval[0]:.2f} to",
        f"balanced accuracy  {100 * summed.balanced:.2f} %", f"macro F1           {100 * summed.macro_f1:.2f} %",
        f"calibration error  {100 * summed.ece:.2f} % (ECE, 15 bins); mean confidence",
        "class   images  precision    recall        F1",
    ):  # fmt: skip
        assert shown in result.stdout
    assert "top-5" not in result.stdout  # of three classes
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [score.name for score in scores.by_class(found)]
    assert sum(int(row["images"]) for row in rows) == 60
    assert all(float(row["recall_low"]) <= float(row["recall"]) <= float(row["recall_high"]) for row in rows)
    assert Image.open(picture).format == "PNG"
    again = cifartui(*asked)
    assert (again.returncode, "classes.csv is there already" in again.stderr) == (2, True)
    as_json = json.loads(cifartui(*asked, "--force", "--json").stdout)
    assert as_json["scores"]["top1"] == as_json["top1"] == summed.top1
    assert as_json["scores"]["top5"] is None
    assert as_json["scores"]["ece"] == summed.ece
    assert [row["name"] for row in as_json["classes"]] == [row["class"] for row in rows]
    assert {"num_images", "hits", "group_hits", "precision", "recall", "f1"} <= as_json["classes"][0].keys()


def test_the_most_probable_classes_of_an_image_are_in_order_and_led_by_what_is_predicted(
    run: RunDir, data: Path
) -> None:
    evaluated = measure(run, "best", "val", "cpu", None, str(data))
    found = predictions.read(run, "val")
    assert found is not None
    assert {len(top) for top in found.top} == {3}
    assert all(sorted(top) == [0, 1, 2] for top in found.top)
    assert all(list(values) == sorted(values, reverse=True) for values in found.top_probability)
    assert all(abs(sum(values) - 1) < 2e-4 for values in found.top_probability)
    assert tuple(values[0] for values in found.top_probability) == found.confidence
    summed = scores.overall(found)
    assert summed is not None
    assert summed.top1 == evaluated.top1


def test_weights_that_give_no_numbers_are_refused_and_leave_the_stored_predictions(run: RunDir, data: Path) -> None:
    measure(run, "best", "val", "cpu", None, str(data))
    before = predictions.read(run, "val")
    state = checkpoint_files.load(run.best)
    weights = checkpoint_files.evaluated(state)
    for name, value in weights.items():
        if name.endswith("weight"):
            value.mul_(1e37)  # finite, and so taken; what they give is not
    torch.save(state, run.best)
    with pytest.raises(CifartuiError, match=r"give no number \(NaN\) for 60 of 60 images"):
        measure(run, "best", "val", "cpu", None, str(data))
    assert predictions.read(run, "val") == before


def test_a_report_is_one_page_that_needs_nothing_else(
    cifartui: Cifartui, run: RunDir, data: Path, tmp_path: Path
) -> None:
    page, text = tmp_path / "report.html", tmp_path / "report.md"
    asked = ("report", "latest", "--device", "cpu", "--output", str(page))
    without = cifartui(*asked)  # its data is not where it was: all else is shown, and it says what is missing
    assert without.returncode == 0
    assert "cifartui: There is no /home/somebody/images." in without.stderr
    assert "cifartui evaluate tiny-0000 --split val" in without.stdout
    assert check(page.read_text(encoding="utf-8")).tags.count("img") == 0
    again = cifartui(*asked)
    assert (again.returncode, "report.html is there already" in again.stderr) == (2, True)

    settings = run.path / "run.json"
    settings.write_text(settings.read_text().replace("/home/somebody/images", str(data)))
    assert predictions.read(run, "val") is None
    assert cifartui(*asked, "--force", "--no-evaluate").returncode == 0
    assert predictions.read(run, "val") is None
    result = cifartui(*asked, "tiny-0000", "--force")  # the same run by two names
    assert (result.returncode, result.stdout) == (0, f"The report is in {page}.\n"), result.stderr
    assert result.stderr == "Evaluating the validation images of 20260101T000000-tiny-0000 by its best weights…\n"
    measured = predictions.read(run, "val")
    assert measured is not None
    summed = scores.overall(measured)
    assert summed is not None
    wrong = sum(true != predicted for true, predicted in zip(measured.true or (), measured.predicted, strict=True))
    written = check(page.read_text(encoding="utf-8"))
    assert written.tags.count("img") == len(sample_model.CLASSES) + min(16, wrong)
    for shown in (f"{100 * summed.top1:.2f}", f"{100 * summed.ece:.2f}", "red", "no test part", "cifartui train"):
        assert shown in written.text

    as_text = cifartui("report", "latest", "--output", str(text))
    assert (as_text.returncode, as_text.stderr) == (0, "")  # nothing is measured twice
    assert f"| validation | 60 | {100 * summed.top1:.2f} (" in text.read_text(encoding="utf-8")
    refused = cifartui("report", "latest", "--output", str(tmp_path / "report.pdf"))
    assert (refused.returncode, "name a file that ends in .html or .md" in refused.stderr) == (2, True)
