"""What recipes are made of, in a real trainer: each does what its preset field says, and nothing else changes."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from engine.data.sets import ImageSplit
from engine.journal import events
from engine.journal.eta import time_left
from engine.journal.jsonl import read_events
from engine.journal.state import fold
from engine.runs.run_dir import RunDir
from engine.training import checkpoint_files
from engine.training.input_pipeline import SplitInputs, image_size, of_epoch
from engine.training.metrics import Sums
from engine.training.microbatch import MicroBatch
from engine.training.optimizers import Schedule, build_optimizer
from engine.training.progress import Progress, seconds_left, spent, why_stage_ends
from engine.training.trainer import Trainer
from engine.training.validation import evaluate
from presets import schema
from presets.errors import CifartuiError
from presets.plan import plan
from tests.tiny_trainer import CPU, PRESET, make

pytestmark = pytest.mark.slow  # trains

VGG = schema.Vgg(blocks=((8,), (16,)), pools=("max", "avg"))


def preset(*, model: schema.Model | None = None, mix: schema.Mix | None = None, **train: Any) -> schema.Preset:
    return msgspec.structs.replace(
        PRESET, train=msgspec.structs.replace(PRESET.train, **train), model=model or VGG, mix=mix or schema.Mix()
    )


def told(folder: RunDir, kind: type[events.Event]) -> list[Any]:
    return [event for event in read_events(folder.events) if isinstance(event, kind)]


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def are_equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


# --- moving average ----------------------------------------------------------------------------------


def test_the_average_is_what_is_evaluated_kept_and_tested(tmp_path: Path) -> None:
    trainer, folder = make(tmp_path, preset(ema_decay=0.9, epochs=1))
    trainer.run()
    last, best = checkpoint_files.load(folder.last), checkpoint_files.load(folder.best)
    assert not are_equal(last["network"], last["ema"])
    assert are_equal(best["network"], last["ema"])
    assert are_equal(weights(trainer._train_state.evaluated), best["network"])


def test_an_interruption_does_not_show_in_the_average(tmp_path: Path) -> None:
    def run(name: str, epochs: int) -> tuple[Trainer, RunDir]:
        (tmp_path / name).mkdir(exist_ok=True)
        trainer, folder = make(tmp_path / name, preset(ema_decay=0.9, epochs=epochs, alternating_flip=True))
        if folder.last.exists():
            trainer.restore(checkpoint_files.load(folder.last))
        trainer.run()
        return trainer, folder

    _, through = run("through", 2)
    run("parted", 1)
    _, parted = run("parted", 2)
    first, second = checkpoint_files.load(through.last), checkpoint_files.load(parted.last)
    assert are_equal(first["network"], second["network"])
    assert are_equal(first["ema"], second["ema"])


# --- images ------------------------------------------------------------------------------------------


def test_images_grow_with_the_epochs() -> None:
    growing = preset(epochs=10, image_sizes=((0.4, 20), (0.7, 24)))
    assert [image_size(growing, epoch / 10) for epoch in range(10)] == [20] * 4 + [24] * 3 + [32] * 3


def test_the_network_is_trained_on_small_images_and_evaluated_on_large_ones(tmp_path: Path) -> None:
    trainer, _ = make(tmp_path, preset(epochs=2, image_sizes=((0.5, 20),)))
    seen: list[tuple[bool, int]] = []
    trainer._setup.network.register_forward_pre_hook(
        lambda network, inputs: seen.append((network.training, inputs[0].shape[-1]))
    )
    trainer.run()
    assert set(seen) == {(True, 20), (True, 32), (False, 32)}


def test_an_image_is_mirrored_in_every_other_epoch() -> None:
    left_bright = torch.zeros(400, 3, 4, 4, dtype=torch.uint8)
    left_bright[:, :, :, 0] = 255
    split = ImageSplit(left_bright, torch.zeros(400, dtype=torch.int64))
    flipping = preset(epochs=4, alternating_flip=True, augment=())
    stage = plan(flipping)[0]
    rows = torch.arange(400)
    mirrored = []
    for epoch in (1, 2, 3):
        inputs = of_epoch(SplitInputs(nn.Identity(), split, lambda images: images), flipping, stage, epoch, epoch - 1)
        mirrored.append(inputs.take(rows)[0][:, 0, 0, 3] == 255)
    assert 0.4 < mirrored[0].float().mean() < 0.6
    assert torch.equal(mirrored[0], ~mirrored[1])
    assert torch.equal(mirrored[0], mirrored[2])


def test_images_are_mixed_until_the_last_epochs(tmp_path: Path) -> None:
    mixing = preset(epochs=4, mix=schema.Mix(mixup=1.0, off_epochs=1))
    inputs = SplitInputs(nn.Identity(), ImageSplit(torch.zeros(1), torch.zeros(1)), lambda images: images)
    stage = plan(mixing)[0]
    assert [of_epoch(inputs, mixing, stage, epoch + 1, epoch).mix is not None for epoch in range(4)] == [
        True, True, True, False,
    ]  # fmt: skip


def test_mixing_reaches_the_loss_and_not_the_evaluation(tmp_path: Path) -> None:
    (tmp_path / "mixed").mkdir()
    (tmp_path / "whole").mkdir()
    targets: list[Tensor] = []
    mixed, folder = make(tmp_path / "mixed", preset(epochs=1, mix=schema.Mix(cutmix=1.0)))
    criterion = mixed._setup.criterion
    criterion.register_forward_pre_hook(lambda _module, given: targets.append(given[1]))
    mixed.run()
    trained, evaluated = targets[:10], targets[10:]
    assert all(target.shape == (8, 100) for target in trained)
    assert all(target.dtype == torch.int64 for target in evaluated)
    assert told(folder, events.EpochCompleted)[0].train_top1 >= 0.0
    whole, _ = make(tmp_path / "whole", preset(epochs=1))
    whole.run()
    assert not are_equal(weights(mixed._setup.network), weights(whole._setup.network))


# --- evaluation --------------------------------------------------------------------------------------


def test_flip_averaged_logits_do_not_depend_on_the_side() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
    images = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8)
    labels = torch.randint(5, (20,))

    def logits(of: Tensor, *, flip_average: bool) -> Tensor:
        seen: list[Tensor] = []
        evaluate(
            network, ImageSplit(of, labels), lambda some: some.float(), nn.CrossEntropyLoss(),
            batch_size=8, at_once=MicroBatch(8, CPU, lambda _alert: None), autocast=torch.no_grad,
            progress=lambda _done: None, on_logits=seen.append, flip_average=flip_average,
        )  # fmt: skip
        return torch.cat(seen)

    mirrored = images.flip(3)
    assert torch.allclose(logits(images, flip_average=True), logits(mirrored, flip_average=True), atol=1e-3)
    both = (logits(images, flip_average=False) + logits(mirrored, flip_average=False)) / 2
    assert torch.allclose(logits(images, flip_average=True), both, atol=1e-3)


# --- optimizers and schedules ------------------------------------------------------------------------


def test_biases_and_norms_do_not_decay_where_only_weights_do() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    for parameter in network.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    table = schema.Sgd(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, weight_decay_on="weights")
    build_optimizer(table, network.parameters(), CPU).step()
    moved = {name: bool((parameter != 1).all()) for name, parameter in network.named_parameters()}
    assert {name for name, has_moved in moved.items() if has_moved} == {"0.weight", "3.weight"}


def test_muon_takes_filters_and_leaves_the_rest_to_sgd() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    optimizer = build_optimizer(schema.Muon(lr=0.03, other_lr=0.2, other_weight_decay=5e-4), network.parameters(), CPU)
    groups = [(group["orthogonal"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert groups == [(True, 0.03, 0.0), (False, 0.2, 5e-4), (False, 0.2, 0.0)]
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1, 4]


def test_linear_goes_straight_up_and_straight_down_in_all_groups_alike() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    optimizer = build_optimizer(schema.Muon(lr=0.1, other_lr=0.4), network.parameters(), CPU)
    schedule = Schedule(schema.Linear(warmup_fraction=0.2), optimizer, steps_per_epoch=10, epochs=10)
    rates = []
    for _ in range(100):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step_done()
    first = torch.tensor([rate[0] for rate in rates])
    assert float(first.max()) == pytest.approx(0.1)
    assert int(first.argmax()) == 20
    assert torch.allclose(first[:20].diff(), first[1] - first[0], atol=1e-6)
    assert torch.allclose(first[20:].diff(), torch.tensor(-0.1 / 80), atol=1e-6)
    assert all(rate[1] == pytest.approx(4 * rate[0]) for rate in rates)


def test_a_checkpoint_of_other_groups_is_resumed_without_their_momentum(tmp_path: Path) -> None:
    before = msgspec.structs.replace(preset(epochs=2), optimizer=schema.Sgd(lr=0.01, momentum=0.9, weight_decay=0.1))
    trainer, folder = make(tmp_path, before)
    trainer.run()
    after = msgspec.structs.replace(before.optimizer, weight_decay_on="weights", lr=0.005)
    trainer, _ = make(tmp_path, msgspec.structs.replace(before, optimizer=after))
    trainer.restore(checkpoint_files.load(folder.last))
    assert [group["lr"] for group in trainer._train_state.stage_optimizer.optimizer.param_groups] == [0.005, 0.005]


# --- ends before the last epoch ----------------------------------------------------------------------


def test_a_run_without_patience_left_is_completed_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, folder = make(tmp_path, preset(epochs=10, patience=2))
    top1 = iter([0.1, 0.3, 0.2, 0.3, 0.9])
    monkeypatch.setattr(trainer, "_evaluate", lambda _split, _look=None: Sums(1.0, int(100 * next(top1)), 100))
    finished = trainer.run()
    assert finished.outcome == "completed"
    assert finished.reason == (
        "4 epochs are trained: the best validation accuracy, of epoch 2, did not rise for 2 epochs (train.patience)"
    )
    assert len(told(folder, events.EpochCompleted)) == 4


def test_patience_of_a_last_epoch_is_no_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, _ = make(tmp_path, preset(epochs=3, patience=2))
    monkeypatch.setattr(trainer, "_evaluate", lambda _split, _look=None: Sums(1.0, 10, 100))
    assert trainer.run().reason == "all 3 epochs are trained"


class Clock:
    """Stands for time.monotonic; moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_training_ends_with_its_time_and_its_schedule_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = msgspec.structs.replace(
        preset(epochs=10, max_minutes=1.0), schedule=schema.Linear(warmup_fraction=0.0), optimizer=schema.Sgd(lr=0.1)
    )
    clock = Clock()
    monkeypatch.setattr("engine.training.trainer.time.monotonic", clock)
    trainer, folder = make(tmp_path, limited)
    step = trainer._stepper.step
    rates: list[float] = []

    def stepping(*given: Any) -> None:
        rates.append(trainer._train_state.stage_optimizer.lr)
        step(*given)
        clock.now += 2.0  # so that 30 of 100 steps fit

    monkeypatch.setattr(trainer._stepper, "step", stepping)
    finished = trainer.run()
    assert finished.outcome == "completed"
    assert "the minute of train.max_minutes are over" in finished.reason
    assert len(rates) == pytest.approx(30, abs=1)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.1 * 0.08  # a step is a thirtieth of the time
    started = told(folder, events.StageStarted)[0]
    assert started.seconds_left == 60.0


def test_the_time_before_an_interruption_counts() -> None:
    train = schema.Train(batch_size=8, epochs=9, max_minutes=2.0)
    progress = Progress(trained_seconds=60.0)
    assert spent(train, progress, 30.0) == 0.75
    assert seconds_left(train, progress, 30.0) == 30.0
    assert why_stage_ends(train, progress, 30.0) == ""
    assert "are over" in why_stage_ends(train, progress, 60.0)


def test_the_time_left_is_never_more_than_the_budgets(tmp_path: Path) -> None:
    trainer, folder = make(tmp_path, preset(epochs=1000, max_minutes=0.5))
    trainer._tell(events.StageStarted(
        stage=0, num_stages=1, name="train", first_epoch=1, epochs=1000, steps_per_epoch=10, total_epochs=1000,
        seconds_left=30.0,
    ))  # fmt: skip
    for step in range(1, 4):
        trainer._journal.write(events.StepsTrained(
            epoch=1, step=step, global_step=step, num_steps=1, num_images=8, loss=1.0, top1=0.1, lr=0.1,
            images_per_s=8.0,
        ))  # fmt: skip
    left = time_left(fold(read_events(folder.events)))
    assert left is not None
    assert left <= 30.0


# --- what does not go together -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["train.image_sizes=[[0.5, 24], [0.2, 20]]"], "must go on in time"),
        (["train.max_minutes=0"], "train.max_minutes"),
        (["train.patience=0"], "train.patience"),
        (["mix.mixup=-1"], "mix.mixup"),
        (["optimizer.weight_decay_on='biases'"], "weight_decay_on"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(overrides: list[str], sentence: str) -> None:
    from presets import catalog

    with pytest.raises(CifartuiError, match=sentence.replace(".", r"\.")):
        catalog.load("vgg-custom", overrides)


def test_frozen_networks_and_basenet_refuse_what_they_cannot_do() -> None:
    from presets import catalog

    with pytest.raises(CifartuiError, match="mix does not go with a frozen network"):
        catalog.load("resnet50-frozen", ["mix.mixup=1"])
    with pytest.raises(CifartuiError, match="needs a network for images of any size"):
        catalog.load("basenet", ["train.image_sizes=[[0.5, 24]]"])
    with pytest.raises(CifartuiError, match="stages"):
        catalog.load("ablation/step-15", ["train.max_minutes=5"])
