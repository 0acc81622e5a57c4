"""torchvision's ResNet-50 for any number of classes: random or pretrained, whole or with a frozen backbone.

Importing this file imports torchvision, which takes seconds: only `engine.models.build` does, when asked.
"""

import torch
from torch import Tensor
from torchvision.models.resnet import Bottleneck, ResNet

from engine.models.weights import load_weights
from presets.schema import Resnet50

_BLOCKS = [3, 4, 6, 3]


class FrozenResNet(ResNet):  # type: ignore[misc,unused-ignore]  # torchvision carries no types
    """A ResNet of which only the last layer, `fc`, trains.

    The backbone stays in eval mode, so that BatchNorm uses its stored statistics and leaves them alone,
    and runs without gradients. Its state dict has the same keys as that of the whole network.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(Bottleneck, _BLOCKS, num_classes=num_classes)
        self.requires_grad_(False)
        self.fc.requires_grad_(True)

    def train(self, mode: bool = True) -> "FrozenResNet":
        """Set the training mode of `fc`; the backbone is left in eval mode."""
        super().train(False)
        self.training = mode
        self.fc.train(mode)
        return self

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return the backbone's features (N, 2048) of float images (N, 3, height, width)."""
        images = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        images = self.layer4(self.layer3(self.layer2(self.layer1(images))))
        return torch.flatten(self.avgpool(images), 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) of float images (N, 3, height, width)."""
        logits: Tensor = self.fc(self.features(images))
        return logits


def resnet50(model: Resnet50, num_classes: int) -> ResNet:
    """Return ResNet-50 with `num_classes` outputs and the weights that `model` names.

    Raises:
        CifartuiError: The weights are unknown, out of reach, damaged, or of another network.
    """
    network = FrozenResNet(num_classes) if model.frozen else ResNet(Bottleneck, _BLOCKS, num_classes=num_classes)
    if model.weights is not None:
        load_weights(network, model.weights)
    return network
