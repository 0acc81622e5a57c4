"""Every classifier of torchvision is built, described and trains a batch; one of each family is estimated too."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from engine.models.backbone import BackboneNetwork
from engine.models.build import build_on_meta
from engine.models.layer_table import flops_per_image, layer_table, num_parameters, num_trainable, with_tensors
from engine.models.memory import estimate
from engine.training.flop_count import flops_of_stages
from presets import backbones, schema

pytestmark = pytest.mark.slow
_SIZES = {"inception_v3": 96, "alexnet": 64, "vit_h_14": 42, "maxvit_t": 224}
_SIZE = 32
_FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32", "wide_resnet50_2",
)  # fmt: skip


def sized(name: str) -> int:
    return _SIZES.get(name, max(_SIZE, backbones.torchvision()[name].min_size))


def with_values(network: nn.Module) -> nn.Module:
    """Return the network with small random values: a block of them again and again.

    To draw six thousand million of them would take a minute, and to write them half of one: parameters, which nothing
    here writes to, have the same memory. Whole numbers, such as Swin's places in a window, are all 0.
    """
    block = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0)) * 0.02
    tiled = block.repeat(-(-max(parameter.numel() for parameter in network.parameters()) // len(block)))
    parameters = {id(parameter) for parameter in network.parameters()}

    def values(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return torch.zeros(tensor.shape, dtype=tensor.dtype)
        found = tiled[: tensor.numel()].view(tensor.shape)
        return found if id(tensor) in parameters else found.clone()

    return with_tensors(network, values)


def backward(network: nn.Module, logits: Tensor) -> set[str]:
    """Return the names of the parameters that a gradient reaches; none is kept, for some have 2.6 GB of them."""
    reached: set[str] = set()

    def note(name: str, parameter: Tensor) -> None:
        reached.add(name)
        parameter.grad = None

    for name, parameter in network.named_parameters():
        parameter.register_post_accumulate_grad_hook(partial(note, name))
    logits.sum().backward()
    return reached


def test_the_table_has_all_of_torchvision() -> None:
    import torchvision

    assert sorted(backbones.torchvision()) == torchvision.models.list_models(module=torchvision.models)
    assert len(backbones.torchvision()) == 80


@pytest.mark.parametrize("name", sorted(backbones.torchvision()))
def test_a_batch_of_each(name: str) -> None:
    model, size = schema.Backbone(name=name), sized(name)
    shapes = build_on_meta(model, 1000, size)
    if not name.startswith(
        ("vit_", "inception")
    ):  # positions depend on the image size; a second classifier is left out
        assert num_parameters(shapes) == backbones.torchvision()[name].num_parameters
    rows = layer_table(shapes, size)
    assert sum(row.num_parameters for row in rows) == num_parameters(shapes)
    assert rows[-1].out_channels == 1000

    network = with_values(shapes)
    assert isinstance(network, BackboneNetwork)
    network.train()
    logits = network(torch.rand(2, 3, size, size))
    assert logits.shape == (2, 1000)
    reached = backward(network, logits)
    assert reached == {key for key, _ in network.named_parameters()}
    network.freeze(True)
    head = {f"fc.{key}" for key, _ in network.fc.named_parameters()}
    assert {key for key, each in network.named_parameters() if each.requires_grad} == head
    assert not any(module.training for module in network.body.modules())


@pytest.mark.parametrize("name", _FAMILIES)
def test_the_memory_of_each_family(name: str) -> None:
    preset = schema.Preset(
        title="t", data=schema.Data(dataset="cifar100", image_size=sized(name)), model=schema.Backbone(name=name),
        train=schema.Train(epochs=1, batch_size=4), optimizer=schema.Sgd(lr=0.1),
    )  # fmt: skip
    shapes = build_on_meta(preset.model, 100, sized(name))
    found = estimate(preset, 100)
    assert found.gradients == 4 * num_trainable(shapes)
    assert found.parameters >= found.gradients
    assert found.activations > 0
    (flops,) = flops_of_stages(preset, 100)
    assert flops.passes[sized(name)].forward == flops_per_image(shapes, sized(name)) > 0
