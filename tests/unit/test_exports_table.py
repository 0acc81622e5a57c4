"""Table of `benchmarks.exports`: a network that refuses a size has a row, at another size or with the reason."""

import pytest
from torch import nn

from benchmarks import exports
from engine.models.build import build_unfilled
from presets.errors import CifartuiError
from presets.schema import Backbone, Model, Preset, Vgg

MAXVIT = exports._preset(Backbone(name="maxvit_t"), 64)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Build networks without the statistics of images; return the sizes for which one was to be built."""
    sizes: list[int] = []

    def build(preset: Preset) -> nn.Module:
        sizes.append(preset.data.image_size)
        return build_unfilled(preset.model, 10, preset.data.image_size)

    monkeypatch.setattr(exports, "random_network", build)
    monkeypatch.setattr(exports, "_cell", lambda kind, preset, *_, **__: f"{kind} at {preset.data.image_size}")
    return sizes


@pytest.mark.slow
def test_a_network_that_refuses_a_size_is_measured_at_its_usual_one(tried: list[int]) -> None:
    row = exports._row("torchvision maxvit_t", MAXVIT, ["onnx", "pt2"], 4, "")
    assert row == "| torchvision maxvit_t | 224 | onnx at 224 | pt2 at 224 |"
    assert tried == [64, 224]
    assert exports._row("torchvision maxvit_t", MAXVIT, ["onnx", "pt2"], 4, f"{row}\n") is None


@pytest.mark.parametrize("model", [Backbone(name="resnet18"), Vgg(blocks=((8,),), pools=("max",))])
def test_a_network_that_cannot_be_had_is_a_row_with_the_reason(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_preset: Preset) -> nn.Module:
        raise CifartuiError("needs\nthe library a|b")

    monkeypatch.setattr(exports, "random_network", refuse)
    row = exports._row("mine", exports._preset(model, 64), ["onnx", "pt2"], 4, "")
    assert row == "| mine | 64 | needs the library a\\|b | needs the library a\\|b |"
