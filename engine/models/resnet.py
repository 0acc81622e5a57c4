"""torchvision's ResNets for any number of classes: random or pretrained, whole or with a frozen backbone.

Importing this file imports torchvision, which takes seconds: only `engine.models.build` does, when asked.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, ResNet50_Weights
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from typing_extensions import Self

from engine.models.weights import load_weights
from presets.schema import Resnet18, Resnet50


class FreezableBackbone(nn.Module):
    """A network whose last layer, `fc`, can be trained alone; its state dict has the same keys, frozen or not."""

    is_frozen = False
    fc: nn.Module

    def freeze(self, is_frozen: bool) -> None:
        """Train the last layer, `fc`, only, or all of it again.

        A frozen backbone runs without gradients and in eval mode, so that BatchNorm uses its stored statistics and
        leaves them alone.
        """
        self.is_frozen = is_frozen
        self.requires_grad_(not is_frozen)
        self.fc.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode, of `fc` only if the backbone is frozen."""
        super().train(mode and not self.is_frozen)
        self.training = mode
        self.fc.train(mode)
        return self


class SmallStemResNet(FreezableBackbone, ResNet):  # type: ignore[misc,unused-ignore]  # torchvision carries no types
    """A ResNet which, with the small stem, begins with a 3×3 convolution of stride 1 and no pool.

    A 32 px image then reaches the first block at 32 px, not at 8 (He et al. 2015, arXiv:1512.03385, section 4.2).
    """

    def __init__(
        self, block: Any, num_blocks: list[int], num_classes: int, stem: Literal["imagenet", "small"] = "imagenet"
    ) -> None:
        super().__init__(block, num_blocks, num_classes=num_classes)
        if stem == "small":
            self.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
            self.maxpool = nn.Identity()

    def features(self, images: Tensor) -> Tensor:
        """Return what the last layer, `fc`, is given (N, F) for float images (N, 3, height, width)."""
        net: Any = self  # torchvision's attributes carry no types
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            images = net.maxpool(net.relu(net.bn1(net.conv1(images))))
            images = net.layer4(net.layer3(net.layer2(net.layer1(images))))
            return torch.flatten(net.avgpool(images), 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) of float images (N, 3, height, width)."""
        logits: Tensor = self.fc(self.features(images))
        return logits


def resnet(
    model: Resnet18 | Resnet50, num_classes: int, say: Callable[[str], object], class_names: Sequence[str] = ()
) -> SmallStemResNet:
    """Return ResNet-18 or ResNet-50 with `num_classes` outputs and the weights that `model` names.

    Raises:
        CifartuiError: The weights are unknown, out of reach, damaged, or of another network.
    """
    is_50 = isinstance(model, Resnet50)
    block, num_blocks = (Bottleneck, [3, 4, 6, 3]) if is_50 else (BasicBlock, [2, 2, 2, 2])
    network = SmallStemResNet(block, num_blocks, num_classes, model.stem)
    network.freeze(model.frozen)
    if model.weights is not None:
        published = ResNet50_Weights if is_50 else ResNet18_Weights
        say(load_weights(network, model.weights, published, class_names=class_names))
    return network
