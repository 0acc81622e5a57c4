"""A preview of training images is what a run's network is given: the same numbers, in the same batches."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from PIL import Image
from torch import Tensor, nn

from engine.data.augment import plain_transform, undo_normalize
from engine.data.sets import DataSet
from engine.journal.jsonl import EventWriter
from engine.runs.preview import Preview, Question, Row, Tile
from engine.runs.run_dir import RunInfo
from engine.training.controls import Controls
from engine.training.input_pipeline import epoch_order, of_epoch
from engine.training.preview import LookAhead, answer, caption, look_ahead
from engine.training.setup import set_up
from engine.training.trainer import Trainer
from presets import catalog, schema
from tests.tiny_trainer import CPU, PRESET, make, make_folder, make_setup
from tui.cli.preview import preview_rows

pytestmark = pytest.mark.slow  # trains

VGG = schema.Vgg(blocks=((4,), (6,)), pools=("max", "avg"))
NUM_TRAIN, STEPS = 42, 6
"""Five batches of eight and one of two."""


def preset(*, epochs: int = 2, stages: tuple[schema.Stage, ...] = (), **changes: Any) -> schema.Preset:
    train = replace(PRESET.train, epochs=None if stages else epochs, **changes.pop("train", {}))
    train = replace(train, augment=()) if stages else train
    return replace(PRESET, model=VGG, train=train, stages=stages, **changes)


PRESETS = {
    "crops and flips": preset(),
    "mixed": preset(mix=schema.Mix(mixup=0.4, cutmix=1.0, off_epochs=1)),
    "mirrored in turns, small at first": preset(train={"alternating_flip": True, "image_sizes": ((0.5, 16),)}),
    "drawn by class": preset(data=replace(PRESET.data, sampler="balanced")),
    "stages": preset(
        stages=(
            schema.Stage(name="turned", epochs=1, augment=(schema.Rotation(degrees=30),)),
            schema.Stage(name="trivial", epochs=1, augment=(schema.TrivialAugment(),)),
        )
    ),
}


def trained_on(trainer: Trainer, module: nn.Module) -> list[Tensor]:
    """Return what `module` is given in every step of a whole run."""
    given: list[Tensor] = []

    def see(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if module.training:
            given.append(arguments[0].detach().clone())

    module.register_forward_pre_hook(see)
    trainer.run()
    return given


def ahead_of(trainer: Trainer) -> LookAhead:
    return look_ahead(trainer._setup.info.preset, trainer._setup.data, CPU, trainer._setup.info.seed)


@pytest.mark.parametrize("wanted", PRESETS.values(), ids=PRESETS)
def test_every_image_is_bit_for_bit_the_one_that_is_trained_on(wanted: schema.Preset, tmp_path: Path) -> None:
    trainer, _ = make(tmp_path, wanted, num_train=NUM_TRAIN)
    ahead = ahead_of(trainer)
    given = trained_on(trainer, trainer._setup.network)
    assert len(given) == 2 * STEPS
    for epoch in (1, 2):
        order = ahead.order(epoch).tolist()
        for row in range(NUM_TRAIN):
            found = ahead.image(row, epoch)
            if row not in order:
                assert found is None
                continue
            assert found is not None
            step, place = divmod(order.index(row), 8)
            assert torch.equal(found[0], given[(epoch - 1) * STEPS + step][place])


def test_the_targets_are_those_of_the_loss(tmp_path: Path) -> None:
    trainer, _ = make(tmp_path, PRESETS["mixed"], num_train=NUM_TRAIN)
    ahead, targets, stage = ahead_of(trainer), list[Tensor](), trainer._plan[0]
    trainer._setup.criterion.register_forward_pre_hook(lambda _module, given: targets.append(given[1]))
    inputs = trainer._pipeline.train(stage, 0, lambda _event: None)
    trainer._train_epoch(of_epoch(inputs, trainer._setup.info.preset, stage, 1, 0))
    assert len(targets) == STEPS
    for place, row in enumerate(ahead.order(1).tolist()):
        found = ahead.image(row, 1)
        assert found is not None
        assert torch.equal(found[1], targets[place // 8][place % 8])
        assert float(found[1].sum()) == pytest.approx(1.0)


class Seeing(nn.Module):
    """A frozen network whose features are the image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 3, 1)
        self.fc = nn.Linear(3 * 32 * 32, 100)

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def freeze(self, is_frozen: bool) -> None:
        self.backbone.requires_grad_(not is_frozen)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(images))
        return logits


@pytest.mark.parametrize("views", [3, 1, None])
def test_behind_a_frozen_backbone_it_is_the_view_that_is_drawn(views: int | None, tmp_path: Path) -> None:
    wanted = preset(train={"feature_views": views})
    wanted = replace(wanted, model=schema.Resnet18(frozen=True))
    folder = make_folder(tmp_path)
    journal = EventWriter(folder.events)
    setup = make_setup(wanted, NUM_TRAIN, network=Seeing())
    trainer = Trainer(setup, folder, journal, Controls(folder, journal))
    ahead = ahead_of(trainer)
    given = trained_on(trainer, setup.network.fc)  # type: ignore[arg-type]
    for epoch in (1, 2):
        order = ahead.order(epoch).tolist()
        for row in range(NUM_TRAIN):
            found = ahead.image(row, epoch)
            assert found is not None
            step, place = divmod(order.index(row), 8)
            assert torch.equal(found[0].flatten(), given[(epoch - 1) * STEPS + step][place])


def test_an_image_that_is_left_over_is_not_trained_on(tmp_path: Path) -> None:
    trainer, _ = make(tmp_path, preset(), num_train=41)  # a last batch of one image is left out
    ahead = ahead_of(trainer)
    assert ahead.image(int(ahead.order(1)[-1]), 1) is None


@pytest.mark.parametrize("normalize", ["none", "unit", "half", "cifar100", "imagenet", "clip"])
def test_normalisation_is_undone_exactly(normalize: Any) -> None:
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    data = schema.Data(dataset="cifar100", normalize=normalize)
    assert torch.equal(undo_normalize(plain_transform(data)(images), data), images)


def test_a_mixed_image_is_labelled_with_both_classes_and_their_shares() -> None:
    names = ("ant", "bee", "cat")
    assert caption(torch.tensor(2), names) == "cat"
    assert caption(torch.tensor([0.0, 0.3, 0.7]), names) == "cat 70 %, bee 30 %"
    assert caption(torch.tensor([0.0, 1.0, 0.0]), names) == "bee"


def tile(caption: str, side: int = 8) -> Tile:
    return Tile(pixels=bytes(3 * side * side), side=side, caption=caption)


def test_in_the_terminal_each_image_has_its_epochs_beside_it() -> None:
    rows = (Row(number=3, label="cat", plain=tile("cat"), epochs=(tile("cat"), None)),)
    found = Preview(device="cpu", rows=rows)
    lines = [row.plain for row in preview_rows(found, 80)]
    assert lines[0].split() == ["validation", "epoch", "1", "epoch", "2"]
    assert lines[1].count("▀") == 2 * 24  # the third is not there
    assert lines[1 + 12].split() == ["cat", "cat", "not", "in", "this", "epoch"]
    assert all(len(line) <= 80 for line in lines)
    narrow = [row.plain for row in preview_rows(found, 30)]
    assert "1 epoch of 2: a wider terminal shows more" in narrow
    assert not any("▀" in row.plain for row in preview_rows(found, 80, coloured=False))


def test_a_data_set_is_left_as_it_was(tmp_path: Path) -> None:
    trainer, _ = make(tmp_path, preset(), num_train=NUM_TRAIN)
    data: DataSet = trainer._setup.data
    before = data.train.images.clone()
    ahead_of(trainer).image(0, 1)
    assert torch.equal(data.train.images, before)


@pytest.mark.parametrize(
    "overrides",
    [
        ("data.cache_size=40",),
        ("data.validation=0.3", "data.train_limit=30", "data.sampler=balanced"),
        ("mix.mixup=0.4", "mix.cutmix=1.0", "train.alternating_flip=true"),
        ("data.background=black", "train.image_sizes=[[0.5, 16]]"),
    ],
)
@pytest.mark.parametrize("seed", [0, 7])
def test_a_preview_of_photographs_is_what_the_worker_of_such_a_run_draws(
    tmp_path: Path, overrides: tuple[str, ...], seed: int
) -> None:
    """From the question to the pixels of the PNG, beside the run that the worker sets up of the same folder."""
    photos = tmp_path / "photos"
    for number in range(60):
        pixels = np.random.default_rng(number).integers(0, 256, (50, 44 + number % 3, 4), np.uint8)
        (photos / "abc"[number % 3]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels, "RGBA").save(photos / "abc"[number % 3] / f"{number}.png")
    (photos / "a" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    more = (f"data.path={photos}", "data.image_size=32", "train.batch_size=8", "train.epochs=2", *overrides)
    wanted = replace(catalog.load("photos/scratch", more), model=VGG)
    found = answer(Question(preset=wanted, seed=seed, device="cpu", num_epochs=2, num_images=8, wants_png=True))

    folder, journal = make_folder(tmp_path / "run"), EventWriter(tmp_path / "run" / "events.jsonl")
    info = RunInfo(id="", preset_name="", preset=wanted, seed=seed, device="cpu", created=0.0, host="")
    setup = set_up(info, CPU, "fp32", write=lambda _event: None, report=lambda _event: None)
    given = trained_on(Trainer(setup, folder, journal, Controls(folder, journal)), setup.network)
    page = np.asarray(Image.open(io.BytesIO(found.png)))
    orders = [epoch_order(setup, epoch).tolist() for epoch in (1, 2)]
    assert len(found.rows) == 8
    for line, row in enumerate(found.rows):
        assert row.label == setup.data.class_names[int(setup.data.train.labels[row.number])]
        for epoch, tile_of_epoch in enumerate(row.epochs):
            if tile_of_epoch is None:
                assert row.number not in orders[epoch]
                continue
            step, place = divmod(orders[epoch].index(row.number), 8)
            image = undo_normalize(given[epoch * len(given) // 2 + step][place][None], wanted.data)[0]
            side = image.shape[-1]
            assert tile_of_epoch.side == side
            assert tile_of_epoch.pixels == image.permute(1, 2, 0).contiguous().numpy().tobytes()
            top, left = 8 + 16 + line * (96 + 16 + 8), 8 + (1 + epoch) * (96 + 8)
            drawn = page[top : top + 96, left : left + 96].reshape(side, 96 // side, side, 96 // side, 3)
            assert np.array_equal(drawn[:, 0, :, 0], image.permute(1, 2, 0).numpy())
