"""Mixup and CutMix: shares, boxes and targets agree, and every image draws its own."""

import pytest
import torch
from torch import Tensor

from engine.data.mixup import mix_batch
from presets.schema import Mix

NUM = 256


def constant_images() -> Tensor:
    """Return images each of one value, its place in the batch, so that what came from where can be read off."""
    return torch.arange(NUM).float().view(-1, 1, 1, 1).expand(-1, 3, 16, 16).clone()


def mixed(mix: Mix) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return mix_batch(constant_images(), torch.arange(NUM), mix, NUM)


@pytest.mark.parametrize("mix", [Mix(mixup=1.0), Mix(cutmix=1.0), Mix(mixup=0.2, cutmix=1.0, p=0.7)])
def test_targets_have_the_shares_of_the_pixels(mix: Mix) -> None:
    images, targets = mixed(mix)
    assert torch.allclose(targets.sum(1), torch.ones(NUM))
    assert int((targets > 0).sum(1).max()) == 2
    places = torch.arange(NUM).float()
    assert torch.allclose(images.mean((1, 2, 3)), targets @ places, atol=1e-2)  # both name the same two images


def test_mixup_blends_all_pixels_alike_and_cutmix_none() -> None:
    blended, _ = mixed(Mix(mixup=1.0))
    assert torch.allclose(blended.amax((1, 2, 3)), blended.amin((1, 2, 3)), atol=1e-3)
    pasted, targets = mixed(Mix(cutmix=1.0))
    assert torch.equal(pasted, pasted.round())
    is_other = (pasted != constant_images())[:, 0]
    rows, columns = is_other.any(2).sum(1), is_other.any(1).sum(1)
    assert torch.equal(is_other.sum((1, 2)), rows * columns)  # one box an image
    assert len(set(rows.tolist())) > 8
    assert len(set(targets.amax(1).tolist())) > 20


def test_p_is_the_share_of_images_that_are_mixed() -> None:
    images, targets = mixed(Mix(mixup=1.0, p=0.5))
    whole = (images == constant_images()).flatten(1).all(1)
    assert 0.35 < whole.float().mean() < 0.65
    assert torch.equal(targets[whole].amax(1), torch.ones(int(whole.sum())))


def test_shares_are_drawn_from_beta() -> None:
    _, weak = mixed(Mix(mixup=0.1))
    _, even = mixed(Mix(mixup=50.0))
    assert weak.amax(1).mean() > 0.9
    assert even.amax(1).mean() < 0.6


def test_the_default_mixes_nothing() -> None:
    assert not Mix().is_on
    assert not Mix(mixup=1.0, p=0.0).is_on
    assert Mix(cutmix=1.0).is_on
