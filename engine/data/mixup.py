"""Mixup and CutMix: every image of a batch with a part of another, and the labels to match. Draws; knows no loop.

Sources: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018; Yun et al., "CutMix", 2019. Here every image
draws its own share and its own box.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as torch's own documentation names it
from torch import Tensor

from presets.schema import Mix


def mix_batch(images: Tensor, labels: Tensor, mix: Mix, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return images and targets in which every image has a part of another one.

    Args:
        images: float [B, 3, H, W].
        labels: int64 [B].
        mix: how often and how strongly; where both kinds are on, each image draws which.
        num_classes: C.

    Returns:
        Images as given, and targets float32 [B, C] whose rows sum to 1: for `cross_entropy` with probabilities.
    """
    batch, device = len(labels), labels.device
    partner = torch.randperm(batch, device=device)
    chance = torch.rand(batch, device=device)
    mixed = torch.rand(batch, device=device) < mix.p
    cutmix_share = 1.0 if not mix.mixup else 0.5 if mix.cutmix else 0.0
    is_cut = mixed & (chance < cutmix_share)
    is_blended = mixed & (chance >= cutmix_share)
    own = torch.ones(batch, device=device)
    weight = torch.ones(batch, 1, *images.shape[2:], device=device)
    if mix.mixup:
        blended = _beta(mix.mixup, batch, device)
        own = torch.where(is_blended, blended, own)
        weight = torch.where(is_blended.view(-1, 1, 1, 1), blended.view(-1, 1, 1, 1), weight)
    if mix.cutmix:
        outside = _outside_boxes(images, _beta(mix.cutmix, batch, device))
        own = torch.where(is_cut, outside.mean((1, 2, 3)), own)
        weight = torch.where(is_cut.view(-1, 1, 1, 1), outside, weight)
    others = images.index_select(0, partner)
    mixed_images = torch.lerp(others, images, weight.to(images.dtype))
    one_hot = F.one_hot(labels, num_classes).float()
    return mixed_images, torch.lerp(one_hot.index_select(0, partner), one_hot, own[:, None])


def _beta(alpha: float, batch: int, device: torch.device) -> Tensor:
    """Return float32 [B] drawn from Beta(alpha, alpha)."""
    both = torch.full((batch, 2), alpha, device=device)
    gamma = torch._standard_gamma(both).clamp(min=1e-30)  # as torch.distributions does, without its checks of values
    return gamma[:, 0] / gamma.sum(1)


def _outside_boxes(images: Tensor, own: Tensor) -> Tensor:
    """Return float [B, 1, H, W], 0 in a box for every image: of area 1 - `own`, before the edge cuts some off."""
    batch, device, (height, width) = len(images), images.device, images.shape[2:]
    side = (1 - own).sqrt()

    def covers(length: int) -> Tensor:
        middle = torch.rand(batch, device=device) * length
        reach = side * length / 2
        low, high = (middle - reach).round(), (middle + reach).round()
        places = torch.arange(length, device=device)
        return (places >= low[:, None]) & (places < high[:, None])

    return 1.0 - (covers(height)[:, None, :, None] & covers(width)[:, None, None]).float()
