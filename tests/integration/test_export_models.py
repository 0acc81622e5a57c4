"""`cifartui export` of networks: files from the command line, every network of the presets, and a real run."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.exports import checked_export
from cifartui.model import load_model
from engine.runs.export_record import SUFFIXES
from engine.runs.run_dir import RunDir
from engine.training.export_model import export as export_network
from presets import schema
from presets.errors import CifartuiError
from tests import every, sample_model
from tests.waiting import PATIENCE_S
from tui import format as fmt
from tui.cli.export import export

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests/data/run-0.1.0"
RUN = "20260101T000000-tiny-0000"
needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs onnx, onnxscript and onnxruntime: pip install 'cifartui[onnx]'",
)
FORMATS = [pytest.param(kind, marks=needs_onnx if kind == "onnx" else ()) for kind in SUFFIXES]
NETWORKS = [
    pytest.param(each, id=type(each).__name__)
    for each in (
        *(each for each in every.NETWORKS if isinstance(each, schema.Resnet9 | schema.Vgg)),
        schema.Backbone(name="squeezenet1_1"),
    )
]
"""The quick ones; `python -m benchmarks.exports` goes through all."""


def cifartui(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder whose runs are in `runs`."""
    return subprocess.run(
        [sys.executable, "-m", "cifartui", *arguments],
        env={**os.environ, "CIFARTUI_RUNS": str(folder / "runs"), "PYTHONPATH": str(ROOT)},
        cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a run in `runs`."""
    shutil.copytree(KEPT, tmp_path / "runs" / RUN)
    return tmp_path


@needs_onnx
def test_an_exported_file_predicts_the_rows_of_its_run(folder: Path) -> None:
    sample_model.write_images(folder / "images", 0, 2)
    result = cifartui(folder, "export", "latest", "--format", "onnx")
    assert (result.returncode, result.stderr) == (0, "")
    assert "256 random images, for there are no validation images (there is no /home/somebody" in result.stdout
    assert "the top class is the same for 256 of 256" in result.stdout
    assert result.stdout.endswith(f"onnx of run {RUN}: {RUN}.onnx\n")
    found = cifartui(folder, "predict", f"{RUN}.onnx", "images", "--top", "3", "--device", "cpu")
    assert f"{RUN}.onnx (epoch 2) of run 20261128T222908-tiny-4502:" in found.stderr
    images = sorted((folder / "images").rglob("*.png"))
    expected = load_model(folder / "runs" / RUN, device="cpu").predict(images, top=3)
    assert found.stdout.splitlines() == [
        "\t".join(
            [
                str(path.relative_to(folder)), expected_row.class_name, fmt.percent(expected_row.confidence, 2),
                *(f"{each.class_name} {fmt.percent(each.confidence, 2)}" for each in expected_row.top[1:]),
            ]
        )
        for path, expected_row in zip(images, expected, strict=True)
    ]  # fmt: skip


def test_a_file_is_written_over_on_demand_only_and_a_failure_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    path = folder / "w.safetensors"
    path.write_bytes(b"mine")
    for arguments, why in (
        (("safetensors", "--output", path.name), "is there already"),
        (("csv", "--with-preprocessing"), "is for networks"),
        (("pt2", "--output", "gone/w.pt2"), "annot be written"),
    ):
        with pytest.raises(CifartuiError, match=why):
            export.main(["latest", "--runs-dir", "runs", "--format", *arguments], standalone_mode=False)
    assert path.read_bytes() == b"mine"
    wrong = cifartui(folder, "export", "latest", "--format", "safetensors", "--with-preprocessing")
    assert (wrong.returncode, "holds tensors and no operations" in wrong.stderr) == (2, True)
    assert sorted(each.name for each in folder.iterdir()) == ["runs", "w.safetensors"]
    answer = cifartui(folder, "export", "latest", "--format", "safetensors", "--output", path.name, "--force", "--json")
    found = json.loads(answer.stdout)
    assert (found["file"], found["record"]["classes"], found["num_bytes"]) == (
        path.name, list(sample_model.CLASSES), path.stat().st_size,
    )  # fmt: skip


def test_validation_images_are_taken_where_they_are(folder: Path) -> None:
    sample_model.write_images(folder / "images")
    run = RunDir(folder / "runs" / RUN)
    info = run.path / "run.json"
    info.write_text(info.read_text().replace("/home/somebody/images", str(folder / "images")))
    checked = export_network(run, folder / "w.safetensors", "safetensors").checked
    assert (checked.is_random, checked.num_images, checked.num_agreeing) == (False, 60, 60)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_in_every_format(network: schema.Model, kind: Any) -> None:
    preset = schema.Preset(
        title="t", data=schema.Data(dataset="class-folders", image_size=32), model=network,
        train=schema.Train(epochs=1, batch_size=4), optimizer=schema.Sgd(lr=0.1),
    )  # fmt: skip
    in_graph = isinstance(network, schema.Resnet9) and kind != "safetensors"  # all are prepared alike
    checked = checked_export(kind, preset, 6, in_graph=in_graph)
    assert checked.num_agreeing == checked.num_images == 6


@pytest.mark.real_data
@needs_onnx
def test_a_real_run_is_the_same_in_onnxruntime(cifar100_dir: Path, tmp_path: Path) -> None:
    """Ants and bees: trained for an epoch, the ONNX file has the accuracy of `evaluate` in onnxruntime."""
    import onnxruntime
    from PIL import Image

    archive = cifar100_dir / "ants-bees.tar"
    if not archive.is_file():
        pytest.skip(f"needs ants-bees.tar in {cifar100_dir}")
    subprocess.run(["tar", "-xf", str(archive), "-C", str(tmp_path)], check=True)
    (val,) = [each for each in tmp_path.rglob("val") if each.is_dir()]

    preset = tmp_path / "tiny.toml"
    preset.write_text(sample_model.PRESET.replace("epochs = 4", "epochs = 1"), encoding="utf-8")

    def said(*arguments: str) -> str:
        result = cifartui(tmp_path, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    said("train", str(preset), "--data", str(val.parent), "--device", "cpu", "--output", "quiet")
    measured = json.loads(said("evaluate", "latest", "--split", "val", "--device", "cpu", "--json"))
    answer = json.loads(
        said("export", "latest", "--format", "onnx", "--with-preprocessing", "--output", "m.onnx", "--json")
    )
    assert not answer["checked"]["is_random"]
    classes = answer["record"]["classes"]
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    hits = num = 0
    for path in sorted(val.rglob("*.jpg")):
        with Image.open(path) as opened:
            side = answer["record"]["preprocessing"]["stored_size"]
            opened.draft("RGB", (2 * side, 2 * side))  # as training decodes a large JPEG
            image = opened.convert("RGB")
        pixels = np.ascontiguousarray(np.moveaxis(np.asarray(image), 2, 0)[None])
        logits = session.run(["logits"], {"images": pixels})[0]
        hits += classes[int(logits[0].argmax())] == path.parent.name
        num += 1
    assert num == measured["num_images"]
    assert hits / num == pytest.approx(measured["top1"], abs=1.01 / num)  # an image may be near the border
