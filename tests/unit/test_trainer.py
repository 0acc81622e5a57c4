"""The loop itself, in this process, on a few images: what it reads back, what it journals, where it stops."""

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from engine.journal import events
from engine.journal.jsonl import EventWriter, read_events
from engine.training.controls import Controls
from engine.training.progress import num_batches
from engine.training.trainer import Trainer
from engine.training.worker import explain
from presets import schema
from tests.tiny_trainer import CPU, PRESET, make, make_folder, make_setup

pytestmark = pytest.mark.slow  # trains


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


@pytest.mark.parametrize(("group", "is_tested"), [("lr-00c0ffee1234", False), ("00c0ffee1234", True)])
def test_a_short_run_of_a_search_leaves_the_test_images_alone(tmp_path: Path, group: str, *, is_tested: bool) -> None:
    folder, setup = make_folder(tmp_path), make_setup()
    journal = EventWriter(folder.events)
    controls = Controls(folder, journal)
    setup = dataclasses.replace(setup, info=msgspec.structs.replace(setup.info, group=group))
    finished = Trainer(setup, folder, journal, controls).run()
    assert (finished.test_top1 is not None, bool(controls.then)) == (is_tested, is_tested)
    told = [event for event in read_events(folder.events) if isinstance(event, events.EvaluationProgressed)]
    assert is_tested or not any(event.split == "test" for event in told)  # of a short evaluation nothing is told


def test_steps_add_up_to_the_epoch(tmp_path: Path) -> None:
    trainer, folder = make(tmp_path)
    trainer.run()
    told = read_events(folder.events)
    for epoch in (event for event in told if isinstance(event, events.EpochCompleted)):
        steps = [event for event in told if isinstance(event, events.StepsTrained) and event.epoch == epoch.epoch]
        mean = sum(event.loss * event.num_images for event in steps) / sum(event.num_images for event in steps)
        assert mean == pytest.approx(epoch.train_loss)


def test_reports_tell_the_norm_of_the_gradient_and_how_often_it_was_clipped(tmp_path: Path) -> None:
    told, losses = {}, {}
    for clip_norm in (0.0, 1e-3, 1e6):
        train = msgspec.structs.replace(PRESET.train, clip_norm=clip_norm)
        trainer, folder = make(tmp_path / str(clip_norm), msgspec.structs.replace(PRESET, train=train))
        trainer.run()
        journal = read_events(folder.events)
        told[clip_norm] = [event for event in journal if isinstance(event, events.StepsTrained)]
        losses[clip_norm] = [event.train_loss for event in journal if isinstance(event, events.EpochCompleted)]
    assert {event.clipped for event in told[0.0]} == {event.clipped for event in told[1e6]} == {0.0}
    assert {event.clipped for event in told[1e-3]} == {1.0}
    norms = {clip_norm: [event.grad_norm for event in steps] for clip_norm, steps in told.items()}
    assert all(norm is not None and norm > 0.0 for norm in norms[0.0])
    assert sum(event.num_steps for event in told[1e6]) == 20
    assert losses[1e6] == losses[0.0] != losses[1e-3]


def test_every_image_is_seen_once_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _folder = make(tmp_path, num_train=81)
    seen: list[int] = []
    monkeypatch.setattr(trainer, "_train_batch", lambda _inputs, rows: seen.extend(rows.tolist()))
    trainer._begin_epoch()
    trainer._train_epoch(trainer._pipeline.train(trainer._plan[0], 0, lambda _event: None))
    assert len(seen) == len(set(seen)) == 80  # the 81st would be a batch of one, which BatchNorm cannot use


def test_one_image_is_trained_on(tmp_path: Path) -> None:
    trainer, folder = make(tmp_path, num_train=1)
    assert trainer.run().outcome == "completed"
    steps = [event for event in read_events(folder.events) if isinstance(event, events.StepsTrained)]
    assert sum(event.num_images for event in steps) == 2


def test_batchnorm_of_one_image_is_refused_in_a_sentence(tmp_path: Path) -> None:
    vgg = schema.Vgg(blocks=((4,),), pools=("avg",), head=(8,), head_batch_norm=True)
    trainer, _folder = make(tmp_path, msgspec.structs.replace(PRESET, model=vgg), num_train=1)
    with pytest.raises(ValueError, match="more than 1 value per channel") as caught:
        trainer.run()
    assert explain(caught.value).startswith("BatchNorm cannot train on one image at once; train on more images")


@pytest.mark.parametrize("num_train", [2, 3, 9])
def test_fewer_images_than_a_batch_are_trained_on_with_batchnorm(tmp_path: Path, num_train: int) -> None:
    vgg = schema.Vgg(blocks=((4,),), pools=("avg",), head=(8,), head_batch_norm=True)
    trainer, _folder = make(tmp_path, msgspec.structs.replace(PRESET, model=vgg), num_train=num_train)
    assert trainer.run().outcome == "completed"


def test_without_a_test_part_there_is_no_test_accuracy(tmp_path: Path) -> None:
    trainer, folder = make(tmp_path, test=None)
    finished = trainer.run()
    assert (finished.outcome, finished.test_top1, finished.test_loss) == ("completed", None, None)
    told = read_events(folder.events)
    assert not any(isinstance(event, events.EvaluationProgressed) and event.split == "test" for event in told)


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


@pytest.mark.parametrize(
    ("data", "then"),
    [({}, ", then testing the best weights"), ({"test": None}, ""), ({"test_labels_hidden": True}, "")],
)
def test_a_stop_is_not_said_to_test_where_nothing_can_be_tested(
    tmp_path: Path, data: dict[str, Any], then: str
) -> None:
    trainer, _ = make(tmp_path, **data)
    assert trainer._controls.then == then
