"""Any classifier of torchvision or timm as a backbone with a new last layer.

Importing this file imports torchvision, which takes seconds: only `engine.models.build` does, when asked.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - as torch's own documentation names it
import torchvision
from torch import Tensor, nn
from torchvision.models.mnasnet import MNASNet
from torchvision.models.squeezenet import SqueezeNet

from engine.models.resnet import FreezableBackbone
from engine.models.weights import load_weights, timm_weights
from engine.shared.image_parts import listed
from presets.backbones import TIMM_ADVICE
from presets.errors import CifartuiError
from presets.schema import Backbone


class DropoutLinear(nn.Linear):
    """A linear layer that drops a share `p` of its inputs while it trains."""

    p = 0.0

    def forward(self, input: Tensor) -> Tensor:
        """Return [B, out_features] of `input` [B, in_features]."""
        return super().forward(F.dropout(input, self.p, self.training))


class PooledConv(nn.Conv2d):
    """SqueezeNet's classifier: dropout, a 1×1 convolution, ReLU, and the mean of every class's map."""

    p = 0.5

    def forward(self, input: Tensor) -> Tensor:
        """Return [B, out_channels] of `input` [B, in_channels, H, W]."""
        maps = F.relu(super().forward(F.dropout(input, self.p, self.training)))
        return maps.mean(dim=(2, 3))


class BackboneNetwork(FreezableBackbone):
    """A library's network without its last layer, `body`, and that layer, `fc`, for other classes."""

    def __init__(self, body: nn.Module, fc: nn.Module, head_name: str) -> None:
        """Join the two; `head_name` is the prefix that the library gives to the parameters of `fc`."""
        super().__init__()
        self.body = body
        self.fc = fc
        self._head_name = head_name

    def features(self, images: Tensor) -> Tensor:
        """Return what the last layer, `fc`, is given for float images (N, 3, height, width)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            features: Tensor = self.body(images)
            return features

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, num_classes) of float images (N, 3, height, width)."""
        logits: Tensor = self.fc(self.features(images))
        return logits

    def library_names(self) -> dict[str, str]:
        """Return the key of every entry of the state dict by the name that the library gives it."""
        names = {}
        for key in self.state_dict():
            part, _, rest = key.partition(".")
            names[rest if part == "body" else f"{self._head_name}.{rest}"] = key
        return names


def backbone(
    model: Backbone,
    num_classes: int,
    image_size: int,
    say: Callable[[str], object],
    class_names: Sequence[str] = (),
) -> BackboneNetwork:
    """Return the network of a [model] table; see `engine.models.build.build`.

    Raises:
        CifartuiError: there is no such network, it does not take images of this size, or its weights cannot be had.
    """
    try:
        network = (_of_timm if model.source == "timm" else _of_torchvision)(model, num_classes, image_size)
    except (ValueError, AssertionError, RuntimeError) as error:
        raise CifartuiError(
            f"{model.source}'s {model.name} cannot be built for images of {image_size}×{image_size} pixels ({error}): "
            "set model.name or data.image_size otherwise."
        ) from error
    network.freeze(model.frozen)
    if model.weights is not None:
        if model.source == "timm":
            found = timm_weights(model.name) if model.weights == "default" else model.weights
            said = load_weights(network, found, None, network.library_names(), model.name, class_names)
        else:
            published = torchvision.models.get_model_weights(model.name)
            said = load_weights(network, model.weights, published, network.library_names(), model.name, class_names)
        say(said)
    return network


def _of_torchvision(model: Backbone, num_classes: int, image_size: int) -> BackboneNetwork:
    options = _torchvision_options(model, image_size)
    body: nn.Module = torchvision.models.get_model(model.name, weights=None, num_classes=num_classes, **options)
    if isinstance(body, MNASNet):
        body.__class__ = _Mnasnet
    if isinstance(body, SqueezeNet):
        return BackboneNetwork(_Features(body), _pooled(body.classifier[1], model.dropout), "classifier.1")
    name, last = [(name, each) for name, each in body.named_modules() if isinstance(each, nn.Linear)][-1]
    parent, _, attribute = name.rpartition(".")
    setattr(body.get_submodule(parent), attribute, nn.Identity())
    return BackboneNetwork(body, _with_dropout(last, model.dropout), name)


def library_options(model: Backbone, image_size: int) -> dict[str, Any]:
    """Return what the library's own function that makes this network is given besides its name and `num_classes`."""
    return (_timm_options if model.source == "timm" else _torchvision_options)(model, image_size)


def _torchvision_options(model: Backbone, image_size: int) -> dict[str, Any]:
    if model.name in {"inception_v3", "googlenet"}:  # their published weights are for inputs of another normalisation
        return {"aux_logits": False, "init_weights": False, "transform_input": model.weights is not None}
    if model.name.startswith("vit_"):
        return {"image_size": image_size}
    if model.name.startswith("maxvit_"):
        return {"input_size": (image_size, image_size)}
    return {}


def _timm_options(model: Backbone, image_size: int) -> dict[str, Any]:
    config = timm_library().models.get_pretrained_cfg(model.name)
    return {"img_size": image_size} if config.fixed_input_size and image_size != config.input_size[1] else {}


class _Mnasnet(MNASNet):  # type: ignore[misc,unused-ignore]  # torchvision carries no types
    """An MNASNet that takes tensors alone: torchvision's wants the version that torch.save writes beside them."""

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, {"version": self._version, **local_metadata}, *rest)


class _Features(nn.Module):
    """The convolutions of a SqueezeNet, under the name that the library gives them."""

    def __init__(self, network: SqueezeNet) -> None:
        super().__init__()
        self.features = network.features

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.features(images)
        return maps


def _pooled(convolution: nn.Conv2d, dropout: float) -> PooledConv:
    layer = PooledConv(convolution.in_channels, convolution.out_channels, kernel_size=1)
    layer.weight, layer.bias = convolution.weight, convolution.bias
    layer.p = dropout or layer.p
    return layer


def _with_dropout(linear: nn.Linear, dropout: float) -> nn.Linear:
    if not dropout:
        return linear
    layer = DropoutLinear(linear.in_features, linear.out_features, bias=linear.bias is not None)
    layer.weight, layer.bias = linear.weight, linear.bias
    layer.p = dropout
    return layer


def timm_library() -> Any:
    """Return the module timm; raise CifartuiError if it is not installed."""
    try:
        import timm
    except ImportError as error:
        raise CifartuiError(f'model.source = "timm" needs the library timm: {TIMM_ADVICE}') from error
    return timm


def _of_timm(model: Backbone, num_classes: int, image_size: int) -> BackboneNetwork:
    timm = timm_library()
    if not timm.is_model(model.name):
        raise CifartuiError(
            f'timm {timm.__version__} has no network "{model.name}"; `cifartui presets --backbones` lists what it has.'
        )
    try:
        config = timm.models.get_pretrained_cfg(model.name)
    except RuntimeError as error:
        name, _, tag = model.name.partition(".")
        tags = timm.list_models(f"{name}.*", pretrained=True)
        known = f"one of {listed(tags)}" if tags else f"{name}, for which it publishes none"
        raise CifartuiError(
            f'timm {timm.__version__} has no weights "{tag}" of {name}: set model.name to {known}.'
        ) from error
    body = timm.create_model(model.name, pretrained=False, num_classes=0, **_timm_options(model, image_size))
    num_features = getattr(body, "head_hidden_size", None) or body.num_features
    fc = _with_dropout(nn.Linear(num_features, num_classes), model.dropout)
    head = config.classifier
    return BackboneNetwork(body, fc, head if isinstance(head, str) else head[0] if head else "head")
