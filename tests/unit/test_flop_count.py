"""FLOPs that a run says it has spent: those of the operations that torch runs for it, each counted once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from engine.journal import commands, events
from engine.journal.jsonl import EventWriter, append_command, read_events
from engine.journal.state import fold
from engine.models.build import build_on_meta
from engine.models.layer_table import pass_flops
from engine.runs.run_dir import RunDir
from engine.training import checkpoint_files
from engine.training.checkpoint_checks import progress_of
from engine.training.controls import Controls
from engine.training.flop_count import flops_of_stages
from engine.training.muon import flops_of_step
from engine.training.optimizers import build_optimizer
from engine.training.trainer import Trainer
from presets import schema
from presets.plan import plan
from tests.tiny_trainer import CPU, PRESET, make_folder, make_setup

BLOCKS = ((16, 16), (24, 24), (32, 32), (48, 48))
VGG = schema.Vgg(blocks=BLOCKS, pools=("max", "max", "max", "avg"), head=(24,), conv_bias=False)
"""`vgg-custom` with an eighth of its channels."""
RESNET = schema.Resnet18()
LPFT = (schema.Stage(name="probe", epochs=1, frozen=True), schema.Stage(name="tune", epochs=1, start_from="best"))

STARTED: dict[str, Any] = {
    "pid": 1, "host": "h", "device": "cpu", "device_name": "", "precision": "fp32", "num_threads": 1, "versions": {},
}  # fmt: skip


def preset(base: schema.Preset = PRESET, **tables: Any) -> schema.Preset:
    train = msgspec.structs.replace(base.train, **tables.pop("train", {}))
    return msgspec.structs.replace(base, train=train, **tables)


def make(tmp_path: Path, preset: schema.Preset = PRESET, num_train: int = 80) -> tuple[Trainer, RunDir]:
    """Return a trainer that counts, as workers' do."""
    setup, folder = make_setup(preset, num_train), make_folder(tmp_path)
    setup = replace(setup, flops=flops_of_stages(preset, 100))
    journal = EventWriter(folder.events)
    return Trainer(setup, folder, journal, Controls(folder, journal)), folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(preset(), id="basenet"),
        pytest.param(preset(model=VGG, optimizer=schema.Muon()), id="vgg-custom with Muon"),
        pytest.param(
            preset(
                model=VGG,
                optimizer=schema.Muon(),
                mix=schema.Mix(cutmix=1.0),
                train={
                    "epochs": 3, "image_sizes": ((0.4, 24), (0.7, 28)), "flip_average": True, "alternating_flip": True,
                    "ema_decay": 0.9, "augment": (schema.RandomCrop(padding=4),),
                },
            ),
            id="images that grow and are mixed, evaluated with their mirrors",
        ),
        pytest.param(preset(model=RESNET, train={"epochs": 1}), id="resnet18, fine-tuned"),
        pytest.param(
            preset(model=msgspec.structs.replace(RESNET, frozen=True), train={"augment": ()}), id="resnet18, frozen"
        ),
        pytest.param(
            preset(model=msgspec.structs.replace(RESNET, frozen=True)), id="resnet18, frozen, on images augmented anew"
        ),
        pytest.param(
            preset(model=RESNET, stages=LPFT, train={"epochs": None, "feature_views": 2}),
            id="resnet18, frozen on two views and then fine-tuned",
        ),
    ],
)  # fmt: skip
def test_what_a_run_counts_is_what_torch_counts_of_it(preset: schema.Preset, tmp_path: Path) -> None:
    trainer, folder = make(tmp_path, preset, num_train=21)  # batches of 8, 8 and 5
    with FlopCounterMode(display=False) as counter:
        finished = trainer.run()
    assert finished.flops is not None
    assert finished.flops.total == counter.get_total_flops()
    assert (finished.flops.optimizer > 0) == isinstance(preset.optimizer, schema.Muon)
    assert finished.flops.evaluation > 0
    epochs = [event for event in read_events(folder.events) if isinstance(event, events.EpochCompleted)]
    assert all(event.flops is not None for event in epochs)
    spent = [event.flops.total for event in epochs if event.flops is not None] + [finished.flops.total]
    assert spent == sorted(set(spent))


@pytest.mark.slow
def test_the_parts_by_hand(tmp_path: Path) -> None:
    trainer, _ = make(tmp_path)  # 80 training images, 16 of validation and 16 of test, two epochs
    finished = trainer.run()
    forward, first = 1_235_600, 2 * 28**2 * 6 * 75
    assert finished.flops == events.Flops(
        train=2 * 80 * (3 * forward - first),  # the images have no gradient
        optimizer=0,
        evaluation=(2 * 16 + 16) * forward,
    )


@pytest.mark.slow
def test_a_validation_on_command_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    not_asked = make(tmp_path / "not")[0].run().flops
    monkeypatch.setattr("engine.training.controls._POLL_INTERVAL_S", 0.0)
    trainer, folder = make(tmp_path / "asked")
    train_batch = trainer._train_batch

    def batch(*given: Any) -> None:
        if trainer.progress.global_step == 4:
            append_command(folder.commands, commands.Validate())
        train_batch(*given)

    monkeypatch.setattr(trainer, "_train_batch", batch)
    asked = trainer.run().flops
    assert asked is not None
    assert not_asked is not None
    assert asked.evaluation - not_asked.evaluation == 16 * 1_235_600
    assert asked.train == not_asked.train


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_what_is_done_again_after_a_kill_counts_once(
    frozen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = msgspec.structs.replace(RESNET, frozen=True) if frozen else VGG
    of = preset(model=model, optimizer=schema.Muon(), train={"augment": ()})
    through = make(tmp_path / "through", of, num_train=24)[0].run().flops

    trainer, folder = make(tmp_path / "killed", of, num_train=24)  # three steps an epoch
    train_batch, done = trainer._train_batch, []

    def killed(*given: Any) -> None:
        if len(done) == 5:
            raise KeyboardInterrupt
        if len(done) == 4:
            trainer._save_on_command()  # and one more batch, which nobody saves
        train_batch(*given)
        done.append(given)

    monkeypatch.setattr(trainer, "_train_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    state = checkpoint_files.load(folder.last)
    again, _ = make(tmp_path / "killed", of, num_train=24)
    again.restore(state)
    again._journal.write(events.RunStarted(**STARTED, global_step=4))
    assert again.progress.global_step == 4
    assert again.run().flops == through


def spent(train: float) -> events.Flops:
    return events.Flops(train=train, evaluation=1.0)


def epoch(number: int, flops: events.Flops | None) -> events.EpochCompleted:
    return events.EpochCompleted(
        epoch=number, global_step=10 * number, train_loss=1.0, train_top1=0.5, val_loss=1.0, val_top1=0.5, lr=0.1,
        seconds=1.0, is_best=True, flops=flops,
    )  # fmt: skip


def finished(flops: events.Flops | None) -> events.RunFinished:
    return events.RunFinished(outcome="completed", reason="", epoch=2, global_step=20, flops=flops)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([], None),
        ([epoch(1, None), finished(None)], None),
        ([epoch(1, spent(10)), epoch(2, spent(20))], 21),
        ([epoch(1, spent(10)), epoch(2, spent(20)), finished(spent(25))], 26),
        ([epoch(1, spent(10)), epoch(2, spent(20)), finished(None)], 21),  # aborted: that of the last epoch
        ([epoch(1, spent(10)), epoch(2, spent(20)), events.RunStarted(**STARTED, global_step=10)], 11),
        ([epoch(1, spent(10)), finished(spent(15)), events.RunStarted(**STARTED, global_step=10)], 11),
    ],
)
def test_what_a_journal_says_is_spent_for_the_weights_that_there_are(
    told: list[events.AnyEvent], expected: float | None
) -> None:
    found = fold(told).flops
    assert (found.total if found is not None else None) == expected


@pytest.mark.slow
def test_an_evaluation_that_is_done_again_after_a_save_at_its_end_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    through = make(tmp_path / "through")[0].run().flops
    trainer, folder = make(tmp_path / "killed")
    polled: list[str] = []

    def save_and_die() -> None:
        polled.append(trainer._save_on_command())
        if len(polled) == 2:  # at the beginning of the first validation, and at its end
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer._controls, "poll_at_once", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    again, _ = make(tmp_path / "killed")
    again.restore(checkpoint_files.load(folder.last))
    assert (again.progress.step, again.progress.epoch) == (10, 1)
    assert again.run().flops == through


@pytest.mark.slow
def test_a_run_begun_before_they_were_counted_has_none(tmp_path: Path) -> None:
    trainer, folder = make(tmp_path, preset(train={"epochs": 1}))
    trainer.run()
    state = checkpoint_files.load(folder.last)
    del state["progress"]["flops"]
    older, folder = make(tmp_path)
    older.restore(state)
    assert older.run().flops is None
    assert not fold(read_events(folder.events)).epochs[-1].flops


@pytest.mark.slow
def test_a_network_that_cannot_be_counted_is_trained_and_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_given: object) -> None:
        raise NotImplementedError("aten::nms: no shapes")

    counted, folder = make(tmp_path, preset(train={"epochs": 1}))
    assert counted.run().flops is not None
    monkeypatch.setattr("engine.training.flop_count.pass_flops", fails)
    assert flops_of_stages(PRESET, 100) == ()
    assert make(tmp_path / "begun")[0].run().flops is None
    resumed, _ = make(tmp_path)
    resumed.restore(checkpoint_files.load(folder.last))
    assert resumed.run().flops is None  # what is counted of its first epoch would be too little
    assert fold(read_events(folder.events)).flops is None


@pytest.mark.parametrize("flops", [{"train": -1.0}, {"train": float("inf")}, {"optimizer": "many"}, 12])
def test_a_checkpoint_that_counts_otherwise_is_refused(flops: object) -> None:
    state = {"progress": {"flops": flops}}
    with pytest.raises(ValueError, match="does not say where training is"):
        progress_of(state, plan(PRESET), 8)


def test_muon_by_hand() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(32, 10))
    optimizer = build_optimizer(schema.Muon(), network.parameters(), CPU)
    assert flops_of_step(optimizer) == 5 * 2 * (8 * 8 * 27 + 8**3 + 8 * 8 * 27)  # five times: X·Xᵀ, its square, and ·X
    assert flops_of_step(build_optimizer(schema.Sgd(lr=0.1), network.parameters(), CPU)) == 0


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnext50_32x4d", "vit_b_16"])
def test_groups_and_attention_cost_as_much_for_each_gradient_as_forward(name: str) -> None:
    found = pass_flops(build_on_meta(schema.Backbone(name=name), 10, 224).eval(), 224)
    assert 1.85 * found.forward < found.backward < 2 * found.forward
