"""A recording trains as eager steps do with every shipped preset, and one that would not is found before it trains."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from msgspec.structs import replace
from torch.utils._python_dispatch import TorchDispatchMode

from engine.journal.events import Alerted
from engine.journal.jsonl import read_events
from engine.models.build import without_weights
from engine.training.input_pipeline import of_epoch
from engine.training.optimizers import StageOptimizer
from engine.training.setup import records_steps, unsupported_speedups
from engine.training.trainer import Trainer
from presets import catalog, schema
from tests.pretended_gpu import BakedTape, taped
from tests.tiny_trainer import PRESET, make, make_setup

pytestmark = pytest.mark.slow  # trains

STEPS = 5
MIRRORED = replace(PRESET, train=replace(PRESET.train, augment=(schema.RandomCrop(padding=4),), alternating_flip=True))


def small(preset: schema.Preset) -> schema.Preset:
    """Return a preset on a small network, in fp32, and without what does not concern a step."""
    model = without_weights(preset.model)
    if isinstance(model, schema.Vgg):
        narrow = tuple(tuple(max(4, width // 64) for width in block) for block in model.blocks)
        model = replace(model, blocks=narrow, head=tuple(min(16, width) for width in model.head))
    elif isinstance(model, schema.Resnet9):
        model = replace(model, width=4)
    elif not isinstance(model, schema.BaseNet | schema.Backbone):  # large ones, trained as smaller ones are
        can_freeze = isinstance(model, schema.FreezableModel) and preset.data.image_size >= 224
        model = schema.Resnet18(frozen=model.frozen) if can_freeze else schema.Resnet9(width=4)
    # at 32 px a backbone for 224 px normalises single pixels, which makes of rounding what it likes
    size = 96 if isinstance(model, schema.Backbone) else 32
    return replace(
        preset, title="Small", summary="", group="small", report=schema.Report(), model=model,
        data=replace(preset.data, image_size=size), train=replace(preset.train, batch_size=4, precision="fp32"),
    )  # fmt: skip


def different() -> dict[str, schema.Preset]:
    """Return all shipped presets whose small form is another one than those before."""
    found: dict[bytes, tuple[str, schema.Preset]] = {}
    for name in (listed.name for listed in catalog.list_presets()):
        preset = small(catalog.load(name))
        found.setdefault(msgspec.json.encode(preset), (name, preset))
    return dict(found.values())


PRESETS = different() | {"clipping": replace(PRESET, train=replace(PRESET.train, batch_size=4, clip_norm=0.1))}


def train(trainer: Trainer) -> list[float]:
    """Train steps of the first and of the last epoch of every stage; return their losses."""
    preset, losses = trainer._setup.info.preset, []
    batch_size = preset.train.batch_size
    for number, stage in enumerate(trainer._plan):
        trainer._train_state.enter_stage(number)
        if number:
            trainer._stepper._recorded = None if trainer._stepper._recorded is None else taped(trainer, BakedTape())
        inputs = trainer._pipeline.train(stage, number, lambda _event: None)
        trainer._setup.network.train()
        for epoch in (0, stage.epochs - 1):
            seen = of_epoch(inputs, preset, stage, 1 + epoch, epoch)
            for start in range(0, STEPS * batch_size, batch_size):
                before = trainer._meter.read()
                trainer._train_batch(seen, torch.arange(start, start + batch_size))
                losses.append(trainer._meter.read().since(before).mean_loss())
                trainer.progress.global_step += 1
    return losses


def alerts_of(folder: Any) -> list[str]:
    return [event.text for event in read_events(folder.events) if isinstance(event, Alerted)]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_recorded_as_it_does_eagerly(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.training.muon.has_bf16", lambda _device: False)  # in which the last digits are the 3rd
    plain, _ = make(tmp_path / "a", PRESETS[name], num_train=32)
    recorded, folder = make(tmp_path / "b", PRESETS[name], num_train=32)
    tape = BakedTape()
    recorded._stepper._recorded = taped(recorded, tape)
    expected = train(plain)
    assert train(recorded) == pytest.approx(expected, rel=1e-4)
    assert tape.done.count("replay") > STEPS
    assert alerts_of(folder) == []


def test_beside_a_replay_a_step_launches_little(tmp_path: Path) -> None:
    class Launched(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if not func.is_view:
                launched.append(func._overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    trainer, _ = make(tmp_path, replace(MIRRORED, optimizer=schema.Muon(lr=0.01, other_lr=0.02)))
    tape, launched = BakedTape(), list[str]()
    trainer._stepper._recorded = taped(trainer, tape)
    inputs = of_epoch(trainer._pipeline.train(trainer._plan[0], 0, print), MIRRORED, trainer._plan[0], 1, 0)
    for _ in range(5):
        trainer._train_batch(inputs, torch.arange(8))
    tape.replay = lambda: None  # type: ignore[method-assign]
    with Launched():
        trainer._train_batch(inputs, torch.arange(8))
    launched.remove("arange")  # of the test itself
    # rows; the mirrored epoch, and a rate for each of three groups; loss, hits and norms of the epoch
    assert launched == ["copy_", *["fill_"] * 4, *["add_"] * 3]


# --- recordings that keep what should change, or do something else ------------------------------------


class Seeded(BakedTape):
    def replay(self) -> None:
        torch.manual_seed(7)
        super().replay()


class Halting(BakedTape):
    def record(self, work: Callable[[], Any]) -> Any:
        results = super().record(work)
        self._operations = self._operations[: len(self._operations) // 2]
        return results


class Twice(BakedTape):
    def replay(self) -> None:
        super().replay()
        super().replay()


class Stuck(BakedTape):
    """Keeps in its memory, named by the attribute of the step, what was there at first."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.step, self.first = name, None, None

    def replay(self) -> None:
        place = getattr(self.step, self.name)
        self.first = place.clone() if self.first is None else self.first
        place.copy_(self.first)
        super().replay()


@contextmanager
def baked(_stage_optimizer: StageOptimizer, rates: Any) -> Iterator[None]:
    """Stand in for `rates_in` of an optimizer that bakes the rate of a recording."""
    groups = _stage_optimizer.optimizer.param_groups
    before = [group["lr"] for group in groups]
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = float(rate)
    yield
    for group, rate in zip(groups, before, strict=True):
        group["lr"] = rate


@pytest.mark.parametrize(
    ("tape", "said"),
    [
        (Seeded(), "it does not follow another seed|its step is .* off"),
        (Halting(), "its step is .* off"),
        (Twice(), "its loss is|its step is .* off"),
        (Stuck("_rows"), "other images"),
        (Stuck("_mirror_epoch"), "mirrored images"),
        (BakedTape(), "another learning rate"),
    ],
    ids=["seed", "half", "twice", "rows", "mirroring", "rate"],
)
def test_a_recording_that_trains_otherwise_is_found_before_it_trains(
    tape: BakedTape, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, (recorded, folder) = make(tmp_path / "a", MIRRORED)[0], make(tmp_path / "b", MIRRORED)
    recorded._stepper._recorded = step = taped(recorded, tape)
    if isinstance(tape, Stuck):
        tape.step = step
    elif type(tape) is BakedTape:
        monkeypatch.setattr(StageOptimizer, "rates_in", baked)
    assert train(recorded) == train(plain)
    for ours, theirs in zip(recorded._setup.network.parameters(), plain._setup.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    [alert] = [event for event in read_events(folder.events) if isinstance(event, Alerted)]
    assert alert.text.startswith("A recorded step trains otherwise than a plain one (")
    assert any(each in alert.text for each in said.split("|") if ".*" not in each) or "its step is" in alert.text
    assert "its step is" in said or "its step is" not in alert.text
    recorded._stepper.begin_stage()
    assert step.is_given_up
    assert recorded._stepper._recorded is step  # and not tried again


def test_a_recording_that_goes_wrong_later_is_found_in_the_next_epoch(tmp_path: Path) -> None:
    class Late(BakedTape):
        def replay(self) -> None:
            super().replay()
            if self.done.count("replay") > 8:  # as where its memory has been given to somebody else
                with torch.no_grad():
                    next(trainer._setup.network.parameters()).zero_()

    trainer, folder = make(tmp_path)
    tape = Late()
    trainer._stepper._recorded = taped(trainer, tape)
    train(trainer)
    assert any("trains otherwise" in text for text in alerts_of(folder))


# --- where "auto" records -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "changes", "is_recorded"),
    [
        ({}, {}, True),
        ({"cuda_graphs": False}, {}, False),
        ({}, {"flops_per_image": 10**12}, False),  # the GPU is busy for longer than the host
        ({"cuda_graphs": True}, {"flops_per_image": 10**12}, True),
        ({}, {"precision": "fp16"}, False),
        ({}, {"num_ranks": 2}, False),
        ({"compile": "default"}, {}, True),
        ({"compile": "reduce-overhead"}, {}, False),
    ],
)
def test_auto_records_where_it_pays_and_can_be_done(
    options: dict[str, Any], changes: dict[str, Any], is_recorded: bool
) -> None:
    cuda = torch.device("cuda", 0)
    preset = replace(PRESET, train=replace(PRESET.train, **{"cuda_graphs": "auto", **options}))
    setup, on_gpu = make_setup(preset), SimpleNamespace(images=SimpleNamespace(device=cuda))
    data = dataclasses.replace(setup.data, train=on_gpu)
    setup = dataclasses.replace(setup, device=cuda, data=data, **changes)
    assert records_steps(setup) is is_recorded


def test_auto_says_nothing_on_a_cpu_and_why_not_on_a_gpu() -> None:
    setup = make_setup(replace(PRESET, train=replace(PRESET.train, cuda_graphs="auto")))
    assert not records_steps(setup)
    assert unsupported_speedups(setup) == {}
    on_gpu = dataclasses.replace(setup, device=torch.device("cuda", 0))  # and its images are not
    assert "the images do not fit the GPU" in unsupported_speedups(on_gpu)["train.cuda_graphs"]
