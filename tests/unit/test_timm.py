"""Networks of timm: the input that timm's own configuration names, and real weights from a file, as timm reads them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.data.augment import _MEAN_STD, plain_transform
from engine.models import weights
from engine.models.build import build
from engine.models.library_names import installed, versions_of
from presets import catalog
from presets.backbones import has_weights, input_of
from presets.errors import CifartuiError
from presets.schema import Backbone

timm: Any = pytest.importorskip("timm")
pytestmark = pytest.mark.slow  # imports torch's libraries
LITE = ("model.source=timm", "model.name=tf_efficientnet_lite0")


def test_a_run_records_timm_only_if_its_network_is_timms() -> None:
    of_timm = versions_of(catalog.load("photos/finetune", LITE).model)
    assert of_timm["timm"] == timm.__version__
    assert {"cifartui", "torch", "torchvision", "timm"} == of_timm.keys()
    assert "timm" not in versions_of(catalog.load("photos/finetune").model)
    assert installed("timm", "no-such-package") == {"timm": timm.__version__}


@pytest.mark.parametrize("tag", ["", ".in1k"])
@pytest.mark.parametrize("weights", ["default", "/weights/mine.pt", None])
def test_the_input_of_weights_from_a_file_is_that_of_the_librarys_own(tag: str, weights: str | None) -> None:
    chosen = () if weights is None else (f"model.weights={weights}",)
    preset = catalog.load("photos/finetune", (LITE[0], f"{LITE[1]}{tag}", *chosen))
    config = timm.models.get_pretrained_cfg(f"tf_efficientnet_lite0{tag}")
    assert (config.mean, config.std) == ((0.5,) * 3, (0.5,) * 3)
    assert _MEAN_STD[preset.data.normalize] == (config.mean, config.std)
    assert preset.data.image_size == config.input_size[1]
    stated = catalog.load("photos/finetune", (*LITE, *chosen, "data.normalize=imagenet", "data.image_size=96"))
    assert (stated.data.normalize, stated.data.image_size) == ("imagenet", 96)


def test_the_table_says_what_timm_says() -> None:
    compared = 0
    for name in timm.list_pretrained():
        found, config = input_of("timm", name, None), timm.models.get_pretrained_cfg(name)
        if found is not None:
            mean, std = _MEAN_STD[found.normalize]
            assert (found.size, mean, std) == (config.input_size[1], tuple(config.mean), tuple(config.std)), name
            compared += 1
    assert compared > 1000
    with pytest.raises(CifartuiError, match=r'the input of timm.s "dpn68b\.mx_in1k" is not known here; .* set data'):
        catalog.load("photos/frozen", ("model.source=timm", "model.name=dpn68b.mx_in1k"))


def test_the_table_knows_of_which_networks_timm_publishes_no_weights() -> None:
    some = {name.partition(".")[0] for name in timm.list_pretrained()}
    for name in timm.list_models():
        assert has_weights(Backbone(name=name, source="timm")) == (name in some), name


def test_a_tag_that_timm_does_not_have_is_named_with_those_that_it_has() -> None:
    preset = catalog.load("photos/frozen", ("model.source=timm", "model.name=resnet18.of_tomorrow"))
    with pytest.raises(
        CifartuiError, match=r'no weights "of_tomorrow" of resnet18: set .* to one of resnet18\.a1_in1k,'
    ):
        build(preset.model, 2, 224)


def test_weights_that_are_not_in_the_hub_are_taken_from_their_address(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(weights, "download", lambda url, path: asked.append(url))
    assert weights.timm_weights("gcvit_tiny").endswith("/checkpoints/gcvit_tiny_224_nvidia-ac783954.pth")
    assert asked == [timm.models.get_pretrained_cfg("gcvit_tiny").url]
    with pytest.raises(
        CifartuiError, match=r"without a hash .*: download https://.*IN1K-vit.h.14-300e.pth.tar and set"
    ):
        weights.timm_weights("vit_huge_patch14_gap_224")


@pytest.mark.real_data
def test_real_weights_give_what_timm_gives(cifar100_dir: Path) -> None:
    """From the bytes of an image to the features of the last layer."""
    path = cifar100_dir / "tf_efficientnet_lite0.pt"
    preset = catalog.load("photos/frozen", (*LITE, f"model.weights={path}"))
    said: list[str] = []
    ours: Any = build(preset.model, 2, preset.data.image_size, said.append)
    theirs = timm.create_model("tf_efficientnet_lite0")
    theirs.load_state_dict(torch.load(path, weights_only=True))
    mean_and_std = timm.data.resolve_model_data_config(theirs)
    images = torch.randint(256, (2, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(mean_and_std[name])[:, None, None] for name in ("mean", "std"))
    given = plain_transform(preset.data.__class__(dataset="class-folders", normalize=preset.data.normalize,
                                                  image_size=224))(images)  # fmt: skip
    torch.testing.assert_close(given, (images / 255 - mean) / std)
    with torch.no_grad():
        wanted = theirs.eval().forward_head(theirs.forward_features(given), pre_logits=True)
        torch.testing.assert_close(ours.eval().features(given), wanted, rtol=1e-4, atol=1e-4)
    assert "the last layer, which has 1000 classes there, begins with random weights" in said[0]
