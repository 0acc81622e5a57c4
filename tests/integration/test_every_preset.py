"""Every shipped preset trains two batches on the CPU, through the worker's own set-up, on small images."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch

from engine.journal.events import StageStarted
from engine.journal.jsonl import EventWriter, read_events
from engine.runs.run_dir import RunDir, RunInfo
from engine.training.controls import Controls
from engine.training.flop_count import flops_of_stages
from engine.training.setup import set_up
from engine.training.trainer import Trainer
from presets.catalog import list_presets
from presets.plan import plan
from presets.schema import BaseNet, Data, FreezableModel, Preset, Stage, Vgg
from tests.bird_files import NAMES, save

BATCH_SIZE = 4
SIDE = {"ablation/step-07": 8, "ablation/step-14": 16}
"""Pixels, instead of 32, for networks of hardly any pool: the last convolutions are of the image's size."""
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 4), ("val", 1), ("test", 1)):
        for index, name in enumerate(NAMES):
            for number in range(count):
                save(root / split / name / f"{number}.png", (70 * index, 20 * number, 9), (32, 32))
    return root


def small(preset: Preset, images: Path, side: int = 32) -> Preset:
    """Return the preset with two batches of small images an epoch, an epoch a stage, and random weights."""
    data = Data(
        dataset="class-folders", path=str(images), image_size=side, train_limit=2 * BATCH_SIZE,
        normalize=preset.data.normalize, evaluate=_fitting(preset.data.evaluate),
    )  # fmt: skip
    model = preset.model
    if isinstance(model, FreezableModel):
        model = msgspec.structs.replace(model, weights=None)
    train = msgspec.structs.replace(
        preset.train, batch_size=BATCH_SIZE, epochs_scale=0.0001, augment=_fitting(preset.train.augment)
    )
    stages = tuple(msgspec.structs.replace(stage, augment=_fitting(stage.augment)) for stage in preset.stages[:2])
    return msgspec.structs.replace(preset, data=data, model=model, train=train, stages=stages)


def _fitting(operations: object) -> tuple[object, ...]:
    """Return operations at a quarter of the size: those of 128 to 256 px on images of 32."""
    fitting = []
    for operation in operations:  # type: ignore[attr-defined]
        size = getattr(operation, "size", None)
        fitting.append(msgspec.structs.replace(operation, size=max(40, size // 4)) if size else operation)
    return tuple(fitting)


@pytest.mark.parametrize("name", [entry.name for entry in list_presets() if entry.preset is not None])
def test_two_batches(name: str, images: Path, tmp_path: Path) -> None:
    shipped = next(entry.preset for entry in list_presets() if entry.name == name)
    assert shipped is not None
    preset = small(shipped, images, SIDE.get(name, 32))
    folder = RunDir(tmp_path)
    folder.checkpoints.mkdir()
    info = RunInfo(id="r", preset_name=name, preset=preset, seed=0, device="cpu", created=0.0, host="here")
    journal = EventWriter(folder.events)
    setup = set_up(info, CPU, "fp32", write=journal.write, report=lambda event: None)
    setup = replace(setup, flops=flops_of_stages(preset, len(setup.data.class_names)))
    trainer = Trainer(setup, folder, journal, Controls(folder, journal))
    before = {key: value.clone() for key, value in setup.network.state_dict().items()}
    finished = trainer.run()
    last = torch.load(folder.last, weights_only=True)["network"]
    assert (finished.outcome, finished.global_step) == ("completed", 2 * len(plan(preset)))
    assert finished.test_top1 is not None
    assert finished.flops is not None
    assert finished.flops.train > 0
    changed = {key for key in last if not torch.equal(last[key], before[key])}
    if all(stage.frozen for stage in plan(preset)):
        assert changed == {"fc.weight", "fc.bias"}
    else:
        assert changed
    assert len([event for event in read_events(folder.events) if isinstance(event, StageStarted)]) == len(plan(preset))


def test_the_networks_are_the_shipped_ones(images: Path) -> None:
    for entry in list_presets():
        assert entry.preset is not None
        before, after = entry.preset.model, small(entry.preset, images).model
        assert type(before) is type(after)
        if isinstance(before, Vgg | BaseNet):
            assert before == after


def test_stages_are_kept_in_the_small_form(images: Path) -> None:
    shipped = next(entry.preset for entry in list_presets() if entry.name == "ablation/step-15")
    assert shipped is not None
    assert all(isinstance(stage, Stage) for stage in small(shipped, images).stages)
