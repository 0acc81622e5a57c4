"""The presets that come with the program: they say what the report says, and each step only its change."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from torch import nn

from engine.models.build import build_on_meta
from engine.models.layer_table import num_parameters
from presets.catalog import list_presets, load
from presets.errors import CifartuiError
from presets.plan import plan, total_epochs
from presets.schema import Preset, Vgg

LISTED = {entry.name: entry for entry in list_presets()}

# step: the step it builds on, val % before and after (REPORT's table), and the keys that it changes
STEPS: dict[int, tuple[int | None, int | None, int, set[str]]] = {
    0: (None, None, 24, set()),
    1: (0, 24, 26, {"data.normalize"}),
    2: (0, 24, 26, {"data.normalize"}),
    3: (2, 24, 8, {"train.augment"}),
    4: (3, 24, 19, {"train.augment"}),
    5: (2, 24, 49, {"model"}),
    6: (5, 49, 51, {"model.head"}),
    7: (6, 51, 40, {"model.pools"}),
    8: (6, 51, 38, {"model.init"}),
    9: (6, 51, 56, {"model.blocks"}),
    10: (9, 56, 58, {"train.epochs", "optimizer.lr", "schedule", "loss.label_smoothing"}),
    11: (10, 58, 58, {"model.pools"}),
    12: (11, 58, 62, {"data.image_size"}),
    13: (11, 58, 67, {"data.image_size"}),
    14: (11, 58, 61, {"model.pools", "train.batch_size"}),
    15: (14, 67, 77, {"model.pools", "data.image_size", "train.epochs", "stages"}),
}


def step(number: int) -> str:
    return f"ablation/step-{number:02}"


def changed(one: Preset, other: Preset) -> set[str]:
    """Return the keys in which two presets differ, those that only describe them left out."""
    ones, others = msgspec.to_builtins(one), msgspec.to_builtins(other)
    keys: set[str] = set()
    for table in ones.keys() - {"title", "summary", "report", "group"}:
        before, after = ones[table], others[table]
        choosers = {"model": "network", "schedule": "name", "optimizer": "name"}
        chooser = choosers.get(table)
        if before == after:
            continue
        if not isinstance(before, dict) or (chooser and before[chooser] != after[chooser]):
            keys.add(table)
        else:
            keys |= {f"{table}.{key}" for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    return keys


@pytest.mark.parametrize("number", STEPS)
def test_a_step_changes_what_the_report_says_and_nothing_else(number: int) -> None:
    base, before, after, keys = STEPS[number]
    entry = LISTED[step(number)]
    assert entry.preset is not None
    assert entry.extends == (step(base) if base is not None else "basenet")
    assert changed(load(entry.extends), entry.preset) == keys
    assert entry.preset.report.val_top1 == after / 100
    assert entry.preset.report.val_top1_before == (before / 100 if before is not None else None)
    assert entry.preset.group == "ablation"
    assert entry.preset.title.startswith(f"Step {number}: ")
    assert len(entry.preset.title.partition(": ")[2]) <= 44


def test_all_shipped_presets_are_sound() -> None:
    assert {name: entry.problem for name, entry in LISTED.items() if entry.problem} == {}


def test_steps_1_to_8_share_the_baselines_hyperparameters() -> None:
    for number in range(10):
        preset = load(step(number))
        assert (preset.train.epochs, preset.train.batch_size) == (15, 32)
        assert msgspec.to_builtins(preset.optimizer) == msgspec.to_builtins(load("basenet").optimizer)


def test_step_5_is_vgg_19() -> None:
    model = load(step(5)).model
    assert isinstance(model, Vgg)
    assert [len(block) for block in model.blocks] == [2, 2, 4, 4, 4]
    assert (model.pools, model.head) == (("max",) * 5, (4096, 4096))


def test_step_15_trains_seven_stages_on_the_five_block_network() -> None:
    preset = load(step(15))
    stages = plan(preset)
    assert [stage.name for stage in stages] == [
        "random crop", "horizontal flip", "vertical flip", "rotation", "colour jitter", "grayscale", "original images",
    ]  # fmt: skip
    assert [stage.epochs for stage in stages] == [100] * 7
    assert total_epochs(preset) == 700
    assert [stage.from_best for stage in stages] == [False] + [True] * 6
    assert not stages[-1].is_augmented
    assert all(stage.is_augmented for stage in stages[:-1])
    assert preset.train.batch_size == 64
    assert num_parameters(build_on_meta(preset.model, 100, 128)) == 11_921_828
    assert preset.model == load("vgg-custom-5").model
    assert preset.report.test_top1 == 0.782


@pytest.mark.parametrize(
    ("name", "epochs", "batch_size", "train_top1", "test_top1"),
    [("birds/resnet50-frozen", 50, 8, 0.6373, 0.3834), ("birds/resnet50-finetune", 12, 128, 0.9937, 0.6413)],
)
def test_the_birds_have_the_reports_settings(
    name: str, epochs: int, batch_size: int, train_top1: float, test_top1: float
) -> None:
    preset = load(name)
    assert (preset.train.epochs, preset.train.batch_size) == (epochs, batch_size)
    assert (preset.report.train_top1, preset.report.test_top1) == (train_top1, test_top1)
    assert msgspec.to_builtins(preset.optimizer) | {"lr": 0.01, "momentum": 0.9} == msgspec.to_builtins(
        preset.optimizer
    )
    operations = [operation.__struct_config__.tag for operation in preset.train.augment]
    assert operations[:2] == ["resize", "center-crop"]
    assert [operation.__struct_config__.tag for operation in preset.data.evaluate] == ["resize", "center-crop"]
    assert (preset.data.image_size, preset.data.normalize) == (224, "half")


STAGES = 'stages=[{name = "a", epochs = 10, augment = [{op = "grayscale"}]}, {name = "b", epochs = 3}]'


def test_epochs_scale_shortens_every_stage() -> None:
    assert [stage.epochs for stage in plan(load(step(15), ["train.epochs_scale=0.03"]))] == [3] * 7
    assert [stage.epochs for stage in plan(load(step(15), ["train.epochs_scale=0.0001"]))] == [1] * 7
    assert total_epochs(load("basenet", ["train.epochs_scale=2"])) == 30


def test_stages_replace_epochs_and_augmentation() -> None:
    stages = plan(load("vgg-custom", [STAGES]))
    assert [stage.name for stage in stages] == ["a", "b"]
    assert [stage.is_augmented for stage in stages] == [True, False]


@pytest.mark.parametrize(
    ("name", "override", "words"),
    [
        (step(15), "train.epochs=3", "train.epochs does not go with [[stages]]"),
        (step(15), "train.augment=[{op = 'grayscale'}]", "train.augment does not go with [[stages]]"),
        ("demo", 'stages=[{name="a", epochs=1}, {name="a", epochs=1}]', "stages[1].name must differ"),
        ("demo", 'stages=[{name="a", epochs=1, start_from="best"}]', "stages[0].start_from must be"),
        (
            "demo",
            'stages=[{name="a", epochs=1, augment=[{op="random-crop", size=99}]}]',
            "stages[0].augment[0] cuts 99",
        ),
        ("demo", 'stages=[{name="a"}]', "stages[0].epochs is missing"),
        ("demo", "train.feature_views=3", "train.feature_views needs a network with model.frozen"),
        ("demo", "train.augment=[{op='random-resized-crop', scale=[0.9, 0.1]}]", "scale must go from the smaller"),
        ("demo", "train.augment=[{op='gamma', low=2.0}]", "must go from the smaller"),
        ("birds/resnet50-frozen", 'model.stem="small"', "were trained with model.stem"),
        ("demo", "train.augment=[{op='rotation', degrees=200}]", "degrees must be a number above 0 and of at most 180"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_sentence(name: str, override: str, words: str) -> None:
    with pytest.raises(CifartuiError) as caught:
        load(name, [override])
    assert words in str(caught.value)


def overrides_for(preset: Any) -> list[str]:
    return [] if preset.stages else ["train.epochs=1"]


def test_every_preset_can_be_shortened() -> None:
    for name, entry in LISTED.items():
        assert entry.preset is not None
        assert load(name, overrides_for(entry.preset))


BOUND = {
    "vgg-custom", "vgg-custom-5", "networks/vgg19-resnet-mix", "networks/vgg19-concat-mix",
    "ablation/step-05-batchnorm-head", "ablation/step-05-dropout-head", *map(step, range(5, 16)),
}  # fmt: skip
"""Presets of a network that the report prints, with the biases that it has."""


@pytest.mark.parametrize("name", LISTED)
def test_convolutions_before_batch_norm_have_biases_in_the_networks_of_the_report_alone(name: str) -> None:
    preset = load(name)
    network = build_on_meta(preset.model, 100, preset.data.image_size)
    followed = [
        one
        for module in network.modules()
        if isinstance(module, nn.Sequential)
        for one, other in pairwise(module)
        if isinstance(one, nn.Conv2d) and isinstance(other, nn.BatchNorm2d)
    ]
    assert any(one.bias is not None for one in followed) == (name in BOUND)
    if name in BOUND:
        assert preset.report.source == "report"
