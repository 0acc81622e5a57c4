"""Networks: what `build` makes of each [model] table, and what a frozen backbone keeps."""

import subprocess
import sys
from typing import Literal

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.models.build import build, build_on_meta, memory_format_of
from engine.models.googlenet import STAGES
from engine.models.layer_table import layer_table, num_parameters, num_trainable
from engine.models.resnet_v2 import StandardisedConv2d
from engine.training.input_pipeline import Freezable
from presets.checks import faults
from presets.errors import CifartuiError
from presets.schema import (
    Backbone,
    BaseNet,
    Data,
    FreezableModel,
    Googlenet,
    Model,
    Preset,
    Resnet9,
    Resnet18,
    Resnet50,
    ResnetV2,
    Sgd,
    Stage,
    Train,
    Vgg,
)
from tests import every
from tests.pretended_gpu import LayoutCopies, pretended_cuda

BLOCKS = ((64, 64), (128, 128), (256, 256), (512, 512))
VGG_CUSTOM = Vgg(blocks=BLOCKS, pools=("max", "max", "max", "avg"), head=(4096,))
VGG_CUSTOM_5 = Vgg(blocks=(*BLOCKS, (512, 512)), pools=("max", "max", "max", "none", "avg"), head=(4096,))
VGG_19 = Vgg(blocks=((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4), pools=("max",) * 5, head=(4096, 4096))
MIX = Vgg(blocks=((4,), (6,)), pools=("max", "max"), shortcuts="add")
CONCAT_MIX = Vgg(blocks=((4,), (6,)), pools=("max", "avg"), shortcuts="concat", head=(8,))
TINY = Vgg(blocks=((4,), (6,)), pools=("max", "max"), head=(8,))


@pytest.mark.parametrize(
    ("model", "num_classes", "image_size", "expected"),
    [
        (BaseNet(), 100, 32, 28_022),
        (VGG_CUSTOM, 100, 128, 7_200_164),
        (VGG_CUSTOM_5, 100, 128, 11_921_828),
        # torchvision's ResNet-50 has 25,557,032 with a last layer of 2048 × 1000 + 1000
        (Resnet50(), 200, 224, 25_557_032 - 2_049_000 + 2049 * 200),
        (Resnet18(), 1000, 224, 11_689_512),  # as torchvision states
        # a 3×3 in place of the 7×7 convolution
        (Resnet18(stem="small"), 1000, 32, 11_689_512 - 64 * 3 * (49 - 9)),
        (Resnet50(stem="small"), 1000, 32, 25_557_032 - 64 * 3 * (49 - 9)),
        (ResnetV2(), 1000, 224, 25_549_352),  # as the paper's authors state for R50x1
        (ResnetV2(stem="small"), 1000, 32, 25_549_352 - 64 * 3 * (49 - 9)),
        # convolutions, BatchNorm, a 1×1 projection a block (3 → 4 and 4 → 6), and a head on 6 × 2 × 2 values
        (MIX, 3, 8, (27 * 4 + 4) + (36 * 6 + 6) + 2 * (4 + 6) + (3 * 4 + 4) + (4 * 6 + 6) + 24 * 3 + 3),
    ],
)
def test_parameter_counts(model: Model, num_classes: int, image_size: int, expected: int) -> None:
    assert num_parameters(build_on_meta(model, num_classes, image_size)) == expected


@pytest.mark.parametrize(
    ("model", "image_size"),
    [
        (VGG_CUSTOM, 8),
        (VGG_CUSTOM, 128),
        (VGG_CUSTOM_5, 97),
        (VGG_19, 32),
        (VGG_19, 64),
        (Vgg(blocks=((4,),), pools=("none",)), 9),
        (Vgg(blocks=((4,),), pools=("avg",)), 1),
        (Resnet50(frozen=True), 224),
        (Resnet18(), 32),
        (Resnet18(stem="small", frozen=True), 32),
        (Googlenet(), 17),
        (ResnetV2(), 64),
        (MIX, 9),
        (CONCAT_MIX, 9),
        (Vgg(blocks=((4,), (4,)), pools=("none", "none"), shortcuts="concat"), 5),
        *((model, 32) for model in every.NETWORKS),
    ],
)
def test_scores_have_a_row_an_image_and_a_column_a_class(model: Model, image_size: int) -> None:
    network = build_on_meta(model, 7, image_size)
    assert network(torch.empty(2, 3, image_size, image_size, device="meta")).shape == (2, 7)


@pytest.mark.parametrize("model", [*every.NETWORKS, VGG_CUSTOM, VGG_CUSTOM_5, ResnetV2(), MIX])
def test_forward_on_a_pretended_gpu(model: Model) -> None:
    with FakeTensorMode(), torch.device("cuda"):
        network = build(model, 100, 32)
        scores = network(torch.empty(2, 3, 32, 32))
    assert scores.shape == (2, 100)
    assert scores.device.type == "cuda"


def test_basenet_and_vgg_are_flat() -> None:
    for model in (BaseNet(), VGG_CUSTOM):
        network = build(model, 100, 32)
        assert isinstance(network, nn.Sequential)
        assert not any(list(layer.children()) for layer in network)


def test_vgg_19_has_the_convolutions_of_torchvisions() -> None:
    from torchvision.models import vgg19_bn

    ours = build_on_meta(VGG_19, 100, 32)
    with torch.device("meta"):
        theirs = vgg19_bn(num_classes=100).features
    wanted = [(key, tensor.shape) for key, tensor in theirs.state_dict().items()]
    assert [(key, tensor.shape) for key, tensor in ours.state_dict().items()][: len(wanted)] == wanted


@pytest.mark.parametrize("image_size", [8, 9, 11])
def test_without_a_final_average_the_head_sees_every_remaining_pixel(image_size: int) -> None:
    network = build_on_meta(TINY, 3, image_size)
    linear = next(layer for layer in network if isinstance(layer, nn.Linear))  # type: ignore[attr-defined]
    assert linear.in_features == 6 * 2 * 2


def test_a_network_is_a_function_of_the_random_state() -> None:
    torch.manual_seed(3)
    first = build(TINY, 5, 8).state_dict()
    torch.manual_seed(3)
    second = build(TINY, 5, 8).state_dict()
    torch.manual_seed(4)
    third = build(TINY, 5, 8).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["0.weight"], third["0.weight"])


@pytest.mark.parametrize(
    ("model", "image_size", "words"),
    [
        (BaseNet(), 64, ["32×32", "64×64", "data.image_size"]),
        (Vgg(blocks=((4,), (4,)), pools=("max",)), 32, ["2 blocks", "1 pools", "model.pools"]),
        (Vgg(blocks=((4,), (4,)), pools=("avg", "max")), 32, ["last block", "model.pools"]),
        (VGG_19, 31, ["31×31", "5 maximum pools", "at least 32"]),
        (VGG_CUSTOM, 7, ["7×7", "3 maximum pools", "at least 8"]),
    ],
)
def test_parts_that_do_not_fit_are_refused_with_a_sentence(model: Model, image_size: int, words: list[str]) -> None:
    with pytest.raises(CifartuiError) as caught:
        build(model, 100, image_size)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.slow
def test_basenet_and_vgg_do_not_wait_for_torchvision() -> None:
    script = (
        "import sys\n"
        "from engine.models.build import build\n"
        "from engine.models.layer_table import layer_table\n"
        "from presets.schema import BaseNet, Vgg\n"
        "layer_table(build(BaseNet(), 10, 32), 32)\n"
        "build(Vgg(blocks=((4,),), pools=('avg',)), 10, 32)\n"
        "sys.exit('torchvision' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == 0


@pytest.fixture(scope="module")
def frozen() -> nn.Module:
    torch.manual_seed(0)
    return build(Resnet50(frozen=True), 5, 32)


def test_frozen_only_the_last_layer_gets_gradients(frozen: nn.Module) -> None:
    assert num_trainable(frozen) == 2048 * 5 + 5
    assert {name for name, parameter in frozen.named_parameters() if parameter.requires_grad} == {
        "fc.weight",
        "fc.bias",
    }


def test_frozen_training_changes_nothing_but_the_last_layer(frozen: nn.Module) -> None:
    before = {key: tensor.clone() for key, tensor in frozen.state_dict().items()}
    optimizer = torch.optim.SGD(frozen.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    frozen.train()
    for seed in range(2):
        images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(frozen(images), torch.tensor([0, 4]))
        torch.autograd.backward(loss)
        optimizer.step()
    after = frozen.state_dict()
    assert {key for key in after if not torch.equal(before[key], after[key])} == {"fc.weight", "fc.bias"}


def test_frozen_backbone_stays_in_eval_mode(frozen: nn.Module) -> None:
    frozen.train()
    assert frozen.training
    assert {name for name, module in frozen.named_modules() if module.training} == {"", "fc"}
    frozen.eval()
    assert not any(module.training for module in frozen.modules())


def test_frozen_computes_what_the_whole_network_computes(frozen: nn.Module) -> None:
    whole = build_on_meta(Resnet50(), 5, 32).to_empty(device="cpu").eval()
    whole.load_state_dict(frozen.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    assert torch.equal(frozen.eval()(images), whole(images))


def test_frozen_is_in_eval_mode_from_the_beginning() -> None:
    network = build(Resnet18(frozen=True), 5, 32)
    assert {name for name, module in network.named_modules() if module.training} == {"", "fc"}


def test_googlenet_has_the_parameters_of_its_table() -> None:
    def convolution(num_in: int, num_out: int, kernel: int) -> int:
        return num_in * num_out * kernel**2 + 2 * num_out  # BatchNorm's scale and shift

    total, channels = convolution(3, 192, 3), 192
    for one, three_reduce, three, five_reduce, five, pool in (widths for stage in STAGES for widths in stage):
        total += convolution(channels, one, 1) + convolution(channels, three_reduce, 1)
        total += convolution(three_reduce, three, 3) + convolution(channels, five_reduce, 1)
        total += convolution(five_reduce, five, 3) + convolution(five, five, 3) + convolution(channels, pool, 1)
        channels = one + three + five + pool
    assert channels == 1024
    assert num_parameters(build_on_meta(Googlenet(), 100, 32)) == total + 1024 * 100 + 100


def test_he_initialisation_keeps_the_variance_of_relu_networks() -> None:
    torch.manual_seed(0)
    network = build(Vgg(blocks=((64, 128),), pools=("avg",), head=(256,), init="he"), 100, 8)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_out = module.weight.shape[0] * module.weight[0, 0].numel()
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
            assert module.bias is not None
            assert not module.bias.any()


def test_the_head_has_what_its_table_asks_for() -> None:
    network = build(Vgg(blocks=((4,),), pools=("avg",), head=(8, 8), head_batch_norm=True, dropout=0.2), 3, 8)
    kinds = [type(layer).__name__ for layer in network]  # type: ignore[attr-defined]
    hidden = ["Linear", "BatchNorm1d", "ReLU", "Dropout"]
    assert kinds[kinds.index("Flatten") + 1 :] == [*hidden, *hidden, "Linear"]


@pytest.mark.parametrize("shortcuts", ["add", "concat"])
def test_a_shortcut_is_a_strided_convolution_around_its_block(shortcuts: Literal["add", "concat"]) -> None:
    torch.manual_seed(0)
    block = build(Vgg(blocks=((6,),), pools=("max",), shortcuts=shortcuts), 3, 9)[0]  # type: ignore[index]
    images = torch.randn(2, 3, 9, 9)
    projection = block.shortcut[0]
    strided = nn.functional.conv2d(images, projection.weight, projection.bias, stride=2)[:, :, :4, :4]
    parts = (block.block(images), strided)
    expected = parts[0] + parts[1] if shortcuts == "add" else torch.cat(parts, 1)
    torch.testing.assert_close(block(images), expected)


def test_standardised_filters_do_not_depend_on_the_scale_or_offset_of_their_weights() -> None:
    torch.manual_seed(0)
    layer, images = StandardisedConv2d(3, 4, 3, bias=False), torch.randn(2, 3, 8, 8)
    before = layer(images)
    with torch.no_grad():
        layer.weight.mul_(5).add_(2)
    torch.testing.assert_close(layer(images), before, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_step_of_every_network_survives_in_channels_last() -> None:
    for model in (MIX, *every.NETWORKS):  # a strided 1×1 convolution on three channels corrupts memory on some CPUs
        network = build(model, 5, 32).to(memory_format=torch.channels_last)
        images = torch.randn(32, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        torch.autograd.backward(network(images).sum())
        assert all(each.grad is not None for each in network.parameters() if each.requires_grad)


def test_resnet9_has_its_eight_convolutions_and_takes_any_size() -> None:
    network = build_on_meta(Resnet9(width=8), 10, 32)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [module.out_channels for module in convolutions] == [8, 16, 16, 16, 32, 64, 64, 64]
    kinds = [layer.kind for layer in layer_table(network, 32)]
    assert kinds.count("add") == 2
    real = build(Resnet9(width=8), 10, 32)
    assert real(torch.zeros(2, 3, 20, 20)).shape == real(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_convolutions_have_biases_unless_they_are_not_wanted() -> None:
    for bias in (True, False):
        network = build_on_meta(Vgg(blocks=((4,),), pools=("avg",), conv_bias=bias), 3, 8)
        assert [module.bias is not None for module in network.modules() if isinstance(module, nn.Conv2d)] == [bias]


@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_images_are_turned_once_for_group_norm_on_a_gpu_and_not_at_every_layer(
    stem: Literal["imagenet", "small"],
) -> None:
    def turned(memory_format: torch.memory_format | None) -> int:
        with pretended_cuda() as cuda, LayoutCopies() as copies:
            with cuda:
                network = build(ResnetV2(stem=stem), 10, 64)
            for parameter in network.parameters():  # nn.Module.to does nothing on a pretended GPU
                if parameter.ndim == 4:
                    parameter.data = parameter.data.contiguous(
                        memory_format=memory_format or memory_format_of(network, cuda)
                    )
            images = torch.empty(2, 3, 64, 64, device=cuda).contiguous(memory_format=torch.channels_last)
            copies.turned.clear()
            with torch.no_grad():
                network(images)
        return len(copies.turned)

    assert turned(torch.channels_last) >= 2 * 16  # at each 3×3 convolution, and in the norm behind it
    assert turned(None) == 1


def test_a_frozen_backbone_can_be_trained_again() -> None:
    network = build(Resnet18(frozen=True), 5, 32)
    network.freeze(False)  # type: ignore[operator]
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(module.training for module in network.modules())
    network.eval()
    network.freeze(True)  # type: ignore[operator]
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize("model", every.NETWORKS, ids=lambda model: type(model).__name__)
def test_networks_that_can_be_frozen_are_those_whose_table_says_so(model: Model) -> None:
    assert isinstance(build_on_meta(model, 100, 32), Freezable) == isinstance(model, FreezableModel)
    stage = Stage(name="a", epochs=1, frozen=True)
    preset = Preset(
        title="Test", data=Data(dataset="cifar100"), model=model, train=Train(batch_size=8), optimizer=Sgd(lr=0.1),
        stages=(stage,),
    )  # fmt: skip
    found = [fault.text for fault in faults(preset)]
    sentence = 'stages[0].frozen is for the networks "resnet18" and "resnet50" and "backbone"; take it out.'
    assert found == ([] if isinstance(model, FreezableModel) else [sentence])


@pytest.mark.parametrize("model", every.NETWORKS, ids=lambda model: type(model).__name__)
def test_images_of_every_size_that_is_not_refused_go_through_a_network(model: Model) -> None:
    through = [size for size in (1, 6, 20, 32) if not any(faults(of_images(model, size)))]
    for size in through:
        assert build_on_meta(model, 100, size)(torch.empty(2, 3, size, size, device="meta")).shape == (2, 100)
    assert through[-1:] == [32]


@pytest.mark.parametrize("model", every.NETWORKS, ids=lambda model: type(model).__name__)
def test_smaller_images_at_first_that_are_not_refused_go_through_a_network(model: Model) -> None:
    network = build_on_meta(model, 100, 32)
    for size in (1, 6, 20):
        if not any(faults(of_images(model, 32, at_first=size))):
            assert network(torch.empty(2, 3, size, size, device="meta")).shape == (2, 100)


def test_sizes_that_leave_nothing_are_refused_with_the_smallest() -> None:
    fault = next(faults(of_images(Resnet9(width=4), 7)))
    assert fault.text == "data.image_size must be at least 8 for resnet9, not 7."
    fault = next(faults(of_images(Backbone(name="alexnet"), 64, at_first=62)))
    assert fault.text == "train.image_sizes[0] must be at least 63 for alexnet, not 62."
    fault = next(faults(of_images(Backbone(name="vit_b_16"), 32, at_first=16)))
    assert fault.text.startswith("train.image_sizes needs a network for images of any size: not basenet, vit")


def of_images(model: Model, size: int, at_first: int | None = None) -> Preset:
    """Return a preset of images of `size` pixels, in the first half of training of `at_first`."""
    sizes = () if at_first is None else ((0.5, at_first),)
    return Preset(
        title="Test", data=Data(dataset="cifar100", image_size=size), model=model, optimizer=Sgd(lr=0.1),
        train=Train(batch_size=2, epochs=2, image_sizes=sizes),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["mnasnet0_5", "mobilenet_v2"])
def test_weights_load_without_the_versions_that_torch_keeps_beside_them(name: str) -> None:
    """Checkpoints and safetensors files hold tensors alone."""
    network, other = build(Backbone(name=name), 3, 32), build(Backbone(name=name), 3, 32)
    other.load_state_dict(dict(network.state_dict()))
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in network.state_dict().items())
