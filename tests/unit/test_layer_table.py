"""The layer table in the report's form, parameter counts, and FLOPs."""

import pytest
import torch
from torch import nn

from engine.journal.events import LayerRow
from engine.models.build import build, build_on_meta
from engine.models.layer_table import flops_per_image, layer_table, num_parameters
from presets.schema import BaseNet, Googlenet, Model, Resnet18, Resnet50, ResnetV2, Vgg

BLOCKS = ((64, 64), (128, 128), (256, 256), (512, 512))
VGG_CUSTOM = Vgg(blocks=BLOCKS, pools=("max", "max", "max", "avg"), head=(4096,))
TINY = Vgg(blocks=((4,), (6,)), pools=("max", "none"), head=(8,))

Row = tuple[int, str, int | None, int | None, int | None, int, int]

# number, kind, kernel, size in and out, channels in and out: the report's final table
VGG_CUSTOM_ROWS: list[Row] = [
    (1, "conv", 3, 128, 128, 3, 64),
    (2, "BN", None, 128, 128, 64, 64),
    (3, "ReLU", None, 128, 128, 64, 64),
    (4, "conv", 3, 128, 128, 64, 64),
    (5, "BN", None, 128, 128, 64, 64),
    (6, "ReLU", None, 128, 128, 64, 64),
    (7, "maxpool", 2, 128, 64, 64, 64),
    (8, "conv", 3, 64, 64, 64, 128),
    (9, "BN", None, 64, 64, 128, 128),
    (10, "ReLU", None, 64, 64, 128, 128),
    (11, "conv", 3, 64, 64, 128, 128),
    (12, "BN", None, 64, 64, 128, 128),
    (13, "ReLU", None, 64, 64, 128, 128),
    (14, "maxpool", 2, 64, 32, 128, 128),
    (15, "conv", 3, 32, 32, 128, 256),
    (16, "BN", None, 32, 32, 256, 256),
    (17, "ReLU", None, 32, 32, 256, 256),
    (18, "conv", 3, 32, 32, 256, 256),
    (19, "BN", None, 32, 32, 256, 256),
    (20, "ReLU", None, 32, 32, 256, 256),
    (21, "maxpool", 2, 32, 16, 256, 256),
    (22, "conv", 3, 16, 16, 256, 512),
    (23, "BN", None, 16, 16, 512, 512),
    (24, "ReLU", None, 16, 16, 512, 512),
    (25, "conv", 3, 16, 16, 512, 512),
    (26, "BN", None, 16, 16, 512, 512),
    (27, "ReLU", None, 16, 16, 512, 512),
    (28, "adaptive average pool", None, 16, 1, 512, 512),
    (29, "flatten", None, 1, None, 512, 512),
    (30, "linear", None, None, None, 512, 4096),
    (31, "ReLU", None, None, None, 4096, 4096),
    (32, "linear", None, None, None, 4096, 100),
]

BASENET_ROWS: list[Row] = [
    (1, "conv", 5, 32, 28, 3, 6),
    (2, "ReLU", None, 28, 28, 6, 6),
    (3, "maxpool", 2, 28, 14, 6, 6),
    (4, "conv", 5, 14, 10, 6, 16),
    (5, "ReLU", None, 10, 10, 16, 16),
    (6, "maxpool", 2, 10, 5, 16, 16),
    (7, "flatten", None, 5, None, 16, 400),
    (8, "linear", None, None, None, 400, 50),
    (9, "ReLU", None, None, None, 50, 50),
    (10, "linear", None, None, None, 50, 100),
]


def rows_of(layers: tuple[LayerRow, ...]) -> list[Row]:
    return [
        (layer.number, layer.kind, layer.kernel, layer.in_size, layer.out_size, layer.in_channels, layer.out_channels)
        for layer in layers
    ]


def test_vgg_custom_is_the_reports_table() -> None:
    assert rows_of(layer_table(build_on_meta(VGG_CUSTOM, 100, 128), 128)) == VGG_CUSTOM_ROWS


def test_basenet_is_the_reports_table() -> None:
    assert rows_of(layer_table(build_on_meta(BaseNet(), 100, 32), 32)) == BASENET_ROWS


def test_basenet_parameters_row_by_row() -> None:
    layers = layer_table(build_on_meta(BaseNet(), 100, 32), 32)
    assert [layer.num_parameters for layer in layers] == [456, 0, 0, 2416, 0, 0, 0, 20_050, 0, 5100]


@pytest.mark.parametrize(
    ("model", "image_size"),
    [(VGG_CUSTOM, 128), (Resnet50(), 224), (Resnet50(frozen=True), 64), (Googlenet(), 32), (ResnetV2(), 32)],
)
def test_rows_add_up_to_the_whole_network(model: Model, image_size: int) -> None:
    network = build_on_meta(model, 200, image_size)
    layers = layer_table(network, image_size)
    assert sum(layer.num_parameters for layer in layers) == num_parameters(network)
    assert [layer.number for layer in layers] == list(range(1, len(layers) + 1))


def test_shortcuts_and_what_joins_them_have_rows() -> None:
    mix = Vgg(blocks=((4,), (6,)), pools=("max", "avg"), shortcuts="concat")
    rows = rows_of(layer_table(build_on_meta(mix, 3, 8), 8))
    assert rows[3:6] == [
        (4, "maxpool", 2, 8, 4, 4, 4),
        (5, "conv", 1, 8, 4, 3, 4),  # of the maximum pool's stride
        (6, "concatenate", None, 4, 4, 4, 8),
    ]
    assert [row[1:] for row in rows[-5:]] == [
        ("conv", 1, 4, 4, 8, 6),
        ("adaptive average pool", None, 4, 1, 6, 6),
        ("concatenate", None, 1, 1, 6, 12),
        ("flatten", None, 1, None, 12, 12),
        ("linear", None, None, None, 12, 3),
    ]


@pytest.mark.parametrize(
    ("model", "num_convolutions", "kinds"),
    [
        (Googlenet(), 1 + 9 * 7, {"conv", "BN", "ReLU", "maxpool", "concatenate"}),
        (ResnetV2(), 53, {"conv", "GN", "ReLU", "maxpool", "add"}),
        (Resnet18(stem="small"), 20, {"conv", "BN", "ReLU"}),
    ],
)
def test_every_network_is_told_in_the_reports_words(model: Model, num_convolutions: int, kinds: set[str]) -> None:
    found = [layer.kind for layer in layer_table(build_on_meta(model, 100, 32), 32)]
    assert found.count("conv") == num_convolutions
    assert set(found) - {"adaptive average pool", "flatten", "linear"} == kinds


def test_resnet50_rows_are_in_the_order_of_the_forward_pass() -> None:
    layers = layer_table(build_on_meta(Resnet50(), 200, 224), 224)
    assert [layer.kind for layer in layers[:5]] == ["conv", "BN", "ReLU", "maxpool", "conv"]
    assert (layers[0].kernel, layers[0].in_size, layers[0].out_size) == (7, 224, 112)
    assert sum(layer.kind == "conv" for layer in layers) == 53
    assert sum(layer.kind == "ReLU" for layer in layers) == 1 + 16 * 3  # each block passes its one ReLU three times
    assert rows_of(layers)[-1] == (len(layers), "linear", None, None, None, 2048, 200)


@pytest.mark.parametrize(
    ("model", "num_classes", "image_size", "expected"),
    [
        # BaseNet by hand: 2 × (28² × 6 × 75 + 10² × 16 × 150 + 400 × 50 + 50 × 100)
        (BaseNet(), 100, 32, 1_235_600),
        (VGG_CUSTOM, 100, 128, 6_705_414_144),
        # torchvision states 4.09 GMAC for 1000 classes
        (Resnet50(), 1000, 224, 8_178_368_512),
    ],
)
def test_flops_of_one_image(model: Model, num_classes: int, image_size: int, expected: int) -> None:
    assert flops_per_image(build_on_meta(model, num_classes, image_size), image_size) == expected


def test_the_network_is_left_untouched() -> None:
    network = build(TINY, 3, 8).train()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    on_meta = build_on_meta(TINY, 3, 8)
    assert layer_table(network, 8) == layer_table(on_meta, 8)
    assert flops_per_image(network, 8) == flops_per_image(on_meta, 8)
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in network.modules())
    assert all(isinstance(parameter, nn.Parameter) and parameter.is_leaf for parameter in network.parameters())


def test_a_network_larger_than_memory_is_described_at_once() -> None:
    huge = Vgg(blocks=((512,),), pools=("none",), head=(65_536,))
    network = build_on_meta(huge, 100, 128)
    assert num_parameters(network) > 500_000_000_000
    assert rows_of(layer_table(network, 128))[3] == (4, "flatten", None, 128, None, 512, 512 * 128 * 128)
    assert flops_per_image(network, 128) > 10**12


def test_layers_of_no_known_kind_are_called_by_their_class() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU(), nn.Flatten(), nn.Dropout(0.5))
    assert [layer.kind for layer in layer_table(network, 2)] == ["conv", "SiLU", "flatten", "dropout"]
