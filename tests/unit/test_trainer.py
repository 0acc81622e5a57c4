"""The loop itself, in this process, on a few images: what it reads back, what it journals, where it stops."""

import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from engine.data.augment import plain_transform, train_transform
from engine.data.sets import DataSet, ImageSplit
from engine.models.build import build
from engine.runs import events
from engine.runs.folder import RunFolder, RunInfo
from engine.runs.journal import EventWriter, read_events
from engine.training.controls import Controls
from engine.training.device import autocast
from engine.training.pace import Pace
from engine.training.progress import num_batches
from engine.training.setup import Setup
from engine.training.trainer import Trainer
from presets import schema

PRESET = schema.Preset(
    title="Test",
    data=schema.Data(dataset="shapes100", normalize="half"),
    model=schema.BaseNet(),
    train=schema.Train(
        epochs=2, batch_size=8, augment=(schema.RandomCrop(padding=4), schema.HorizontalFlip()), precision="fp32"
    ),
    optimizer=schema.Sgd(lr=0.01, momentum=0.9),
)
CPU = torch.device("cpu")


def images(num_images: int, seed: int) -> ImageSplit:
    generator = torch.Generator().manual_seed(seed)
    return ImageSplit(
        torch.randint(256, (num_images, 3, 32, 32), dtype=torch.uint8, generator=generator),
        torch.randint(100, (num_images,), generator=generator),
    )


def make(tmp_path: Path, preset: schema.Preset = PRESET, num_train: int = 80, **data: Any) -> tuple[Trainer, RunFolder]:
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    info = RunInfo(id="r", preset_name="p", preset=preset, seed=0, device="cpu", created=0.0, host=socket.gethostname())
    dataset = DataSet(
        name="random", source="a test", generated=True, train=images(num_train, 1), val=images(16, 2),
        test=images(16, 3), class_names=tuple(map(str, range(100))), **data,
    )  # fmt: skip
    torch.manual_seed(0)
    setup = Setup(
        info=info, device=CPU, precision="fp32", data=dataset,
        network=build(preset.model, 100, preset.data.image_size).to(memory_format=torch.channels_last),
        criterion=nn.CrossEntropyLoss(), train_transform=train_transform(preset.train.augment, preset.data),
        plain_transform=plain_transform(preset.data), autocast=autocast(CPU, "fp32"),
    )  # fmt: skip
    journal = EventWriter(folder.events)
    return Trainer(setup, folder, journal, Controls(folder, journal)), folder


class HostReads(TorchDispatchMode):
    """Counts what would make a GPU's host wait: scalars and whole tensors read back."""

    def __init__(self) -> None:
        super().__init__()
        self.num_reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        self.num_reads += any(
            word in name for word in ("_local_scalar_dense", "nonzero", "is_nonzero", "equal.default")
        )
        return func(*args, **(kwargs or {}))


def test_two_hundred_steps_read_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _folder = make(tmp_path, num_train=1600)
    monkeypatch.setattr(Pace, "is_due", lambda _self: False)
    trainer._begin_epoch()
    with HostReads() as reads:
        order = torch.arange(1600)
        for start in range(0, 1600, 8):
            trainer._train_batch(order[start : start + 8])
        assert reads.num_reads == 0
        torch.ones(1).item()
        assert reads.num_reads == 1  # the counter sees what it should


def test_the_journal_of_a_run(tmp_path: Path) -> None:
    trainer, folder = make(tmp_path)
    finished = trainer.run()
    told = read_events(folder.events)
    epochs = [event for event in told if isinstance(event, events.EpochCompleted)]
    assert [event.epoch for event in epochs] == [1, 2]
    assert [event.global_step for event in epochs] == [10, 20]
    steps = [event for event in told if isinstance(event, events.StepsTrained)]
    assert sum(event.num_images for event in steps) == 160
    assert sum(event.num_steps for event in steps) == 20
    assert finished.outcome == "completed"
    assert finished.test_top1 is not None


def test_steps_add_up_to_the_epoch(tmp_path: Path) -> None:
    trainer, folder = make(tmp_path)
    trainer.run()
    told = read_events(folder.events)
    for epoch in (event for event in told if isinstance(event, events.EpochCompleted)):
        steps = [event for event in told if isinstance(event, events.StepsTrained) and event.epoch == epoch.epoch]
        mean = sum(event.loss * event.num_images for event in steps) / sum(event.num_images for event in steps)
        assert mean == pytest.approx(epoch.train_loss)


def test_every_image_is_seen_once_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _folder = make(tmp_path, num_train=81)
    seen: list[int] = []
    monkeypatch.setattr(trainer, "_train_batch", lambda rows: seen.extend(rows.tolist()))
    trainer._begin_epoch()
    trainer._train_epoch()
    assert len(seen) == len(set(seen)) == 80  # the 81st would be a batch of one, which BatchNorm cannot use


def test_hidden_test_labels_give_no_test_accuracy(tmp_path: Path) -> None:
    trainer, _folder = make(tmp_path, test_labels_hidden=True)
    assert trainer.run().test_top1 is None


def test_evaluation_leaves_batchnorm_alone(tmp_path: Path) -> None:
    vgg = schema.Vgg(blocks=((4,),), pools=("avg",))
    trainer, _folder = make(tmp_path, msgspec.structs.replace(PRESET, model=vgg))
    network = trainer._setup.network
    network.train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    trainer._evaluate("val")
    assert network.training
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


def test_validation_is_in_eval_mode_on_the_plain_images(tmp_path: Path) -> None:
    vgg = schema.Vgg(blocks=((4,),), pools=("avg",))
    trainer, _folder = make(tmp_path, msgspec.structs.replace(PRESET, model=vgg))
    setup = trainer._setup
    measured = trainer._evaluate("val")
    setup.network.eval()
    with torch.no_grad():
        logits = setup.network(setup.plain_transform(setup.data.val.images))
        expected = nn.functional.cross_entropy(logits, setup.data.val.labels)
    assert measured.mean_loss() == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("num_images", "batch_size", "expected"), [(80, 8, 10), (81, 8, 10), (82, 8, 11), (1, 8, 1), (5, 8, 1)]
)
def test_number_of_batches(num_images: int, batch_size: int, expected: int) -> None:
    assert num_batches(num_images, batch_size) == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_meter_on_cuda_agrees_with_the_cpu() -> None:
    from engine.training.metrics import Meter

    logits, labels = torch.randn(64, 10), torch.randint(10, (64,))
    loss = nn.functional.cross_entropy(logits, labels)
    ours, theirs = Meter(CPU), Meter(torch.device("cuda"))
    ours.add(loss, logits, labels)
    theirs.add(loss.cuda(), logits.cuda(), labels.cuda())
    theirs.request()
    torch.cuda.synchronize()
    arrived = theirs.arrived()
    assert arrived is not None
    assert arrived == pytest.approx(ours.read())
