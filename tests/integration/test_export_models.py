"""`cifartui export` of networks: files from the command line, every network of the presets, and a real run."""

import json
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from benchmarks.exports import checked_export, random_network
from engine.runs.export_record import Format
from presets import schema
from tests import every, sample_model
from tests.integration.conftest import run_cifartui
from tests.workers import ForkServer

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests/data/run-0.1.0"
RUN = "20260101T000000-tiny-0000"
HAS_ONNX = all(find_spec(name) is not None for name in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(
    not HAS_ONNX, reason="needs onnx, onnxscript and onnxruntime: pip install 'cifartui[onnx]'"
)
FORMATS = [kind for kind in get_args(Format) if kind != "onnx" or HAS_ONNX]
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call(tmp_path: Path, fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> Call:
    """The command line in a folder of its own, with a run."""
    shutil.copytree(KEPT, tmp_path / "runs" / RUN)
    monkeypatch.chdir(tmp_path)
    return partial(run_cifartui, fork_server, tmp_path / "runs")


@needs_onnx
def test_an_exported_file_predicts_the_rows_of_its_run(call: Call, tmp_path: Path) -> None:
    sample_model.write_images(tmp_path / "images", 0, 3)
    result = call("export", "latest", "--format", "onnx")
    assert (result.returncode, result.stderr) == (0, "")
    assert "256 random images, for there are no validation images (there is no /home/somebody" in result.stdout
    assert "the top class is the same for 256 of 256" in result.stdout
    assert result.stdout.endswith(f"onnx of run {RUN}: {RUN}.onnx\n")
    expected = call("predict", "latest", "images", "--top", "3", "--device", "cpu")
    assert expected.returncode == 0
    found = call("predict", f"{RUN}.onnx", "images", "--top", "3", "--device", "cpu")
    assert found.stdout == expected.stdout
    assert f"{RUN}.onnx (epoch 2) of run {RUN}:" in found.stderr


def test_a_file_is_written_over_on_demand_only_and_a_failure_leaves_nothing(call: Call, tmp_path: Path) -> None:
    sample_model.write_images(tmp_path / "data", 24, 20)
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"mine")
    refused = call("export", "latest", "--format", "safetensors", "--output", path.name)
    assert refused.returncode == 2
    assert "is there already" in refused.stderr
    assert path.read_bytes() == b"mine"
    wrong = call("export", "latest", "--format", "safetensors", "--with-preprocessing")
    assert (wrong.returncode, "holds tensors and no operations" in wrong.stderr) == (2, True)
    wrong = call("export", "latest", "--format", "csv", "--with-preprocessing")
    assert (wrong.returncode, "is for networks" in wrong.stderr) == (2, True)
    wrong = call("export", "latest", "--format", "pt2", "--output", "gone/w.pt2")
    assert (wrong.returncode, "annot be written" in wrong.stderr) == (2, True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "runs", "w.safetensors"]
    answer = call("export", "latest", "--format", "safetensors", "--output", path.name, "--force", "--json")
    found = json.loads(answer.stdout)
    assert (found["file"], found["record"]["classes"], found["num_bytes"]) == (
        path.name, list(sample_model.CLASSES), path.stat().st_size,
    )  # fmt: skip


def test_validation_images_are_taken_where_they_are(call: Call, tmp_path: Path) -> None:
    sample_model.write_images(tmp_path / "images")
    run_json = tmp_path / "runs" / RUN / "run.json"
    run_json.write_text(run_json.read_text().replace("/home/somebody/images", str(tmp_path / "images")))
    result = call("export", "latest", "--format", "torchscript", "--json")
    checked = json.loads(result.stdout)["checked"]
    assert (checked["is_random"], checked["num_images"], checked["num_agreeing"]) == (False, 60, 60)


@pytest.mark.parametrize("model", every.NETWORKS, ids=lambda model: type(model).__name__)
def test_every_network_is_exported(model: schema.Model) -> None:
    """Large ones in one format: `python -m benchmarks.exports` takes all in every format, for minutes."""
    preset = schema.Preset(
        title="t", data=schema.Data(dataset="class-folders", image_size=32), model=model,
        train=schema.Train(epochs=1, batch_size=4), optimizer=schema.Sgd(lr=0.1),
    )  # fmt: skip
    network = random_network(preset, 4)
    is_small = isinstance(model, schema.BaseNet | schema.Vgg | schema.Resnet9)
    prepares = isinstance(model, schema.BaseNet)  # all are prepared alike
    for kind in FORMATS if is_small else FORMATS[:1] if isinstance(model, schema.Backbone) else ("safetensors",):
        for in_graph in (False, True) if prepares and kind != "safetensors" else (False,):
            checked = checked_export(kind, preset, network, 5, in_graph=in_graph)
            assert checked.num_agreeing == checked.num_images == 5


@pytest.mark.real_data
@needs_onnx
def test_a_real_run_is_the_same_in_onnxruntime(cifar100_dir: Path, tmp_path: Path, fork_server: ForkServer) -> None:
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

    def cifartui(*arguments: str) -> str:
        result = run_cifartui(fork_server, tmp_path / "runs", *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    onnx = str(tmp_path / "m.onnx")
    cifartui("train", str(preset), "--data", str(val.parent), "--device", "cpu", "--output", "quiet")
    measured = json.loads(cifartui("evaluate", "latest", "--split", "val", "--device", "cpu", "--json"))
    answer = json.loads(
        cifartui("export", "latest", "--format", "onnx", "--with-preprocessing", "--output", onnx, "--json")
    )
    assert not answer["checked"]["is_random"]
    classes = answer["record"]["classes"]
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
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
