"""Runs of earlier versions load and predict as they did; `cifartui.load` takes images in every form.

tests/data/run-0.1.0 is what `python -m tests.sample_model` made with version 0.1.0: 44 kB, a network of 459 parameters.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cifartui
from tests import sample_model

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests/data"
EXPECTED = {
    "best": [
        [0.427489, 0.266598, 0.305913], [0.380536, 0.223275, 0.396189], [0.067728, 0.877798, 0.054474],
        [0.067825, 0.848596, 0.083579], [0.10096, 0.077031, 0.822009], [0.40723, 0.269594, 0.323176],
    ],
    "last": [
        [0.102796, 0.677428, 0.219776], [0.127628, 0.246177, 0.626195], [0.000263, 0.999054, 0.000683],
        [0.000345, 0.995614, 0.004041], [0.000434, 0.000329, 0.999237], [0.081975, 0.697283, 0.220742],
    ],
}  # fmt: skip
"""Probabilities of six images, as version 0.1.0 computed them."""


def unseen() -> list[np.ndarray]:  # type: ignore[type-arg]
    return [sample_model.pixels(label, number) for label in range(3) for number in (100, 101)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the run of version 0.1.0, in a runs folder of its own."""
    return Path(shutil.copytree(KEPT / "run-0.1.0", tmp_path / "runs" / "20260101T000000-tiny-0000"))


@pytest.fixture
def model(run: Path) -> cifartui.Model:
    return cifartui.load(run, device="cpu")


@pytest.mark.parametrize("checkpoint", ["best", "last"])
@pytest.mark.parametrize("folder", sorted(KEPT.glob("run-*")), ids=lambda path: path.name)
def test_a_run_of_an_earlier_version_predicts_what_it_did(folder: Path, checkpoint: str) -> None:
    model = cifartui.load(folder, checkpoint=checkpoint, device="cpu")  # type: ignore[arg-type]
    assert model.metrics.epoch <= 4  # it was trained for four
    assert model.classes == ("blue", "green", "red")
    torch.testing.assert_close(model.probabilities(unseen()), torch.tensor(EXPECTED[checkpoint]), atol=2e-6, rtol=0)


def test_a_kept_run_is_small_and_names_no_machine() -> None:
    for folder in KEPT.glob("run-*"):
        paths = [path for path in folder.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in paths) < 64_000
        assert not any(str(ROOT).encode() in path.read_bytes() for path in paths)


def test_what_the_run_measured_is_said(model: cifartui.Model) -> None:
    assert (model.metrics.epoch, round(model.metrics.val_top1 or 0, 4), model.metrics.test_top1) == (2, 0.9333, None)
    assert model.preset.title == "Tiny"
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert repr(model) == "<cifartui.Model 20261128T222844-tiny-89e3 best.pt, 3 classes, on cpu>".replace(
        "20261128T222844-tiny-89e3", model.run
    )


def test_an_image_is_the_same_in_every_form(model: cifartui.Model, tmp_path: Path) -> None:
    pixels = sample_model.pixels(1, 100)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    forms = [
        path, str(path), Image.fromarray(pixels), pixels, tensor, tensor.float() / 255, pixels / 255.0,
        np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]),
    ]  # fmt: skip
    first = model.transform(path)
    assert (first.shape, first.dtype) == ((1, 3, 12, 12), torch.float32)
    assert all(torch.equal(model.transform(form), first) for form in forms)
    assert torch.equal(model.transform(forms), first.expand(len(forms), -1, -1, -1))
    assert torch.equal(model.transform(np.stack([pixels, pixels])), first.expand(2, -1, -1, -1))
    assert torch.equal(model.transform(tensor[None]), first)
    grey = pixels[..., :1]
    same = model.transform(np.repeat(grey, 3, axis=2))
    assert torch.equal(model.transform(grey), same)
    assert torch.equal(model.transform(grey[..., 0]), same)


def test_predictions_are_sorted_and_in_order(model: cifartui.Model) -> None:
    found = model.predict(iter(unseen()), top=2, batch_size=4)
    rows = [max(zip(row, model.classes, strict=True)) for row in EXPECTED["best"]]
    assert [each.class_name for each in found] == [name for _, name in rows]
    assert [each.confidence for each in found] == pytest.approx([value for value, _ in rows], abs=2e-6)
    assert all(len(each.top) == 2 and each.top[0].confidence >= each.top[1].confidence for each in found)
    assert len(model.predict(unseen()[0], top=9)[0].top) == 3
    assert model.predict([]) == []
    assert model.probabilities([]).shape == (0, 3)


def test_the_network_gives_the_logits_of_an_unmirrored_image(model: cifartui.Model) -> None:
    image = unseen()[0]
    with torch.inference_mode():
        logits = [model.network(model.transform(form)) for form in (image, np.ascontiguousarray(image[:, ::-1]))]
    mirrored = ((logits[0] + logits[1]) / 2).softmax(1)
    torch.testing.assert_close(mirrored, model.probabilities(image), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (np.zeros((3, 8, 8), np.uint8), "shape .3, 8, 8. is no image"),
        (np.zeros((8, 8, 3), np.int64), "int64 is no image"),
        (np.full((8, 8, 3), 2.0), "from 0 to 1"),
        (np.full((8, 8, 3), np.nan), "from 0 to 1"),
        (torch.zeros(8, 8, 3), "no image"),
        ("/gone/for/good.png", "good.png cannot be read: not there"),
    ],
)
def test_what_is_no_image_is_said(model: cifartui.Model, image: cifartui.Image, why: str) -> None:
    with pytest.raises(cifartui.CifartuiError, match=why):
        model.predict(image)


def test_a_run_is_found_by_name_and_by_folder(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFARTUI_RUNS", str(run.parent))
    for name in ("latest", "tiny-0000", run, os.path.relpath(run)):
        assert cifartui.load(name, device="cpu").classes == sample_model.CLASSES
    assert cifartui.load("latest", device="cpu", runs_dir=run.parent).classes == sample_model.CLASSES


def test_what_cannot_be_loaded_is_said_in_a_sentence(run: Path, tmp_path: Path) -> None:
    (run / "checkpoints/last.pt").unlink()
    (run / "checkpoints/best.pt").write_bytes(b"PK\x03\x04 no more")
    exported = tmp_path / "model.onnx"
    exported.touch()
    (tmp_path / "model.txt").touch()
    for name, more, why in (
        ("gone", {}, "No run is called gone"),
        (exported, {}, r"model\.onnx cannot be loaded|ONNX needs the library"),
        (tmp_path / "model.txt", {}, "no run's folder and no exported model"),
        (run, {"checkpoint": "last"}, r"has no last\.pt yet"),
        (run, {"checkpoint": "newest"}, 'it is "best" or "last"'),
        (run, {}, "damaged or not one of cifartui's"),
    ):
        with pytest.raises(cifartui.CifartuiError, match=why):
            cifartui.load(name, runs_dir=run.parent, **more)  # type: ignore[arg-type]


def test_weights_of_another_network_are_refused(run: Path) -> None:
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace('"head": []', '"head": [5]'))
    with pytest.raises(cifartui.CifartuiError, match="does not fit this run's preset"):
        cifartui.load(run, device="cpu")


def test_loading_changes_no_random_numbers(run: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    cifartui.load(run, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_import_cifartui_imports_neither_torch_nor_anything_of_ours() -> None:
    code = (
        "import sys, cifartui\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'numpy', 'PIL', 'click', 'msgspec',"
        " 'presets', 'engine', 'tui'}), cifartui.__version__ != '', callable(cifartui.load))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[] True True\n"


def test_a_package_of_the_users_that_hides_one_of_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "engine.py").touch()
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import cifartui; cifartui.load('latest')"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "ImportError" in result.stderr
    assert f"{tmp_path}/engine.py hides a package of cifartui" in result.stderr


def test_the_types_are_there_for_others() -> None:
    assert (ROOT / "cifartui/py.typed").exists()
    assert set(cifartui.__all__) == {
        "CifartuiError", "ClassScore", "Image", "Metrics", "Model", "Prediction", "load",
    }  # fmt: skip
    assert all(getattr(cifartui, name) is not None for name in cifartui.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        _ = cifartui.Trainer  # type: ignore[attr-defined]
