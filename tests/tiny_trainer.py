"""A trainer in this process on a few random images, as a preset says: quick enough for unit tests."""

import socket
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.data.augment import plain_transform
from engine.data.sets import DataSet, ImageSplit, record_of
from engine.journal.events import DataRecord
from engine.journal.jsonl import EventWriter
from engine.models.build import build
from engine.runs.run_dir import RunDir, RunInfo
from engine.training.class_balance import cross_entropy, measures_balanced
from engine.training.controls import Controls
from engine.training.device import autocast
from engine.training.setup import Setup
from engine.training.trainer import Trainer
from presets import schema

PRESET = schema.Preset(
    title="Test",
    data=schema.Data(dataset="shapes100", normalize="half"),
    model=schema.BaseNet(),
    train=schema.Train(
        epochs=2,
        batch_size=8,
        augment=(schema.RandomCrop(padding=4), schema.HorizontalFlip()),
        precision="fp32",
        cuda_graphs=False,
    ),
    optimizer=schema.Sgd(lr=0.01, momentum=0.9),
)
CPU = torch.device("cpu")

NO_RECORD = DataRecord(dataset="cifar100", source="", class_names=(), splits={})
"""Of data on a pretended device, whose labels cannot be read."""


def random_images(num_images: int, seed: int, device: torch.device = CPU) -> ImageSplit:
    generator = torch.Generator().manual_seed(seed)
    return ImageSplit(
        torch.randint(256, (num_images, 3, 32, 32), dtype=torch.uint8, generator=generator).to(device),
        torch.randint(100, (num_images,), generator=generator).to(device),
    )


def make(
    tmp_path: Path,
    preset: schema.Preset = PRESET,
    num_train: int = 80,
    device: torch.device = CPU,
    precision: str = "fp32",
    **data: Any,
) -> tuple[Trainer, RunDir]:
    """Return a trainer of `preset` on random images, and its run's folder, which may hold a run to resume."""
    folder = make_folder(tmp_path)
    journal = EventWriter(folder.events)
    setup = make_setup(preset, num_train, device, precision=precision, **data)
    return Trainer(setup, folder, journal, Controls(folder, journal)), folder


def make_folder(path: Path) -> RunDir:
    """Return the folder of a run, made unless it is there."""
    folder = RunDir(path)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.checkpoints.mkdir(exist_ok=True)
    return folder


def make_setup(
    preset: schema.Preset = PRESET,
    num_train: int = 80,
    device: torch.device = CPU,
    network: nn.Module | None = None,
    precision: str = "fp32",
    **data: Any,
) -> Setup:
    """Return random images and the network of `preset`, or another one."""
    info = RunInfo(id="r", preset_name="p", preset=preset, seed=0, device="cpu", created=0.0, host=socket.gethostname())
    data = {"test": random_images(16, 3, device), **data}
    dataset = DataSet(
        name="random", source="a test", generated=True, train=random_images(num_train, 1, device),
        val=random_images(16, 2, device), class_names=tuple(map(str, range(100))), **data,
    )  # fmt: skip
    if network is None:
        torch.manual_seed(0)
        with device:
            network = build(preset.model, 100, preset.data.image_size)
    return Setup(
        info=info, device=device, precision=precision, data=dataset,
        network=network.to(memory_format=torch.channels_last),
        criterion=cross_entropy(preset.loss, dataset.train.labels, dataset.class_names)._apply(
            lambda weights: weights.to(device)  # nn.Module.to is patched where the device is a pretended one
        ),
        measures_balanced=device.type == "cpu" and measures_balanced(preset.train, dataset),
        plain_transform=plain_transform(preset.data), autocast=autocast(device, precision),
        data_record=record_of(dataset) if device.type == "cpu" else NO_RECORD,
    )  # fmt: skip
