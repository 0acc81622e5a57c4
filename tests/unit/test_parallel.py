"""One process trains by the loop of several and pays nothing for it: no import, no operation, no function mode."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import engine.training.distributed.rank  # noqa: F401 - defines what several devices need
from engine.data.sets import ImageSplit
from engine.training.checkpoint_manager import Checkpoints
from engine.training.distributed.sharding import GlobalBatchDraws, shard_of
from engine.training.input_pipeline import InputPipeline, SplitInputs
from engine.training.metrics import Meter, Sums
from engine.training.microbatch import MicroBatch
from engine.training.parallel import Parallel, Shard
from engine.training.step import Stepper
from engine.training.train_state import TrainState
from engine.training.trainer import Trainer
from engine.training.validation import Validator, evaluate
from presets import schema
from tests.tiny_trainer import CPU, PRESET, make

ROOT = Path(__file__).parents[2]
TRAINS_BY_HAND_AND_THEN_A_RUN = """
import sys
from pathlib import Path
import torch
from torch import nn

network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 30 * 30, 5))
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, fused=True)
nn.functional.cross_entropy(network(torch.randn(2, 3, 32, 32)), torch.tensor([0, 1])).backward()
optimizer.step()
before = set(sys.modules)

from tests.tiny_trainer import make
assert make(Path(sys.argv[1]))[0].run().outcome == "completed"
brought = sorted(set(sys.modules) - before)
print(*(name for name in brought if name.startswith(("torch.distributed", "engine.training.distributed"))))
print(torch.distributed.is_initialized(), "engine.training.trainer" in brought)
"""


class Operations(TorchDispatchMode):
    """Names of the operations that reach a backend; `detach` computes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "detach" not in str(func):
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def inputs_of(trainer: Trainer) -> SplitInputs:
    return trainer._pipeline.train(trainer._plan[0], 0, lambda _event: None)


@pytest.mark.slow
def test_no_module_for_several_processes_is_imported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAINS_BY_HAND_AND_THEN_A_RUN, str(tmp_path / "run")],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["", "False True"]


@pytest.mark.parametrize("optimizer", [schema.Sgd(lr=0.01, momentum=0.9), schema.AdamW(lr=0.01)])
def test_a_step_has_the_operations_of_a_bare_one(optimizer: schema.Optimizer, tmp_path: Path) -> None:
    trainer, _ = make(tmp_path, replace(PRESET, optimizer=optimizer))
    setup, inputs, rows = trainer._setup, inputs_of(trainer), torch.arange(8)
    trainer._train_batch(inputs, rows)  # the first one makes the optimizer's state, and constants
    with Operations() as ours:
        trainer._train_batch(inputs, rows)

    moves, total, hits, norms = (
        trainer._train_state.stage_optimizer.optimizer,
        torch.zeros((), dtype=torch.float64),
        torch.tensor(0),
        torch.zeros((), dtype=torch.float64),
    )
    with Operations() as bare:
        images, labels = inputs.split.images.index_select(0, rows), inputs.split.labels.index_select(0, rows)
        logits: Tensor = setup.network(inputs.transform(images))
        loss = setup.criterion(logits, labels)
        loss.backward()
        num_hits = (logits.argmax(1) == labels).sum()
        gradients = [weight.grad for group in moves.param_groups for weight in group["params"]]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        moves.step()
        moves.zero_grad(set_to_none=True)
        total.add_(loss.detach(), alpha=8)
        hits.add_(num_hits)
        norms.add_(norm)
    assert ours.names == bare.names
    assert any("backward" in name for name in ours.names)


def test_an_evaluation_has_the_operations_of_a_bare_one(tmp_path: Path) -> None:
    trainer, _ = make(tmp_path)
    setup, split = trainer._setup, trainer._setup.data.val
    setup.plain_transform(split.images)  # makes constants
    at_once = MicroBatch(16, CPU, lambda _alert: None)
    with Operations() as ours:
        evaluate(
            setup.network, split, setup.plain_transform, setup.criterion,
            batch_size=16, at_once=at_once, autocast=setup.autocast, progress=lambda _done: None,
        )  # fmt: skip
    setup.network.eval()
    with Operations() as bare:
        meter = Meter(CPU)
        with torch.inference_mode():
            images, labels = split.images[0:16], split.labels[0:16]
            logits = setup.network(setup.plain_transform(images.to(CPU, non_blocking=True)))
            meter.add(setup.criterion(logits.float(), labels), logits, labels)
        torch.tensor(meter.read()[:3], dtype=torch.float64)
    assert sorted(ours.names) == sorted(bare.names)


def test_no_function_mode_is_active(tmp_path: Path) -> None:
    trainer, _ = make(tmp_path)
    inputs, seen = inputs_of(trainer), list[int]()

    def transform(images: Tensor) -> Tensor:
        seen.append(torch._C._len_torch_function_stack())
        return inputs.transform(images)

    trainer._setup.network.register_forward_hook(lambda *_: seen.append(torch._C._len_torch_function_stack()))
    trainer._train_batch(inputs._replace(transform=transform), torch.arange(8))
    assert seen == [0, 0]
    with GlobalBatchDraws(shard_of(8, 0, 2)):
        transform(inputs.split.images[:4])
    assert seen[2:] == [1]


class OneOfTwo(Parallel):
    """A rank of two that is alone: its sums are its own."""

    num_ranks = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def shard(self, num_rows: int) -> Shard:
        return shard_of(num_rows, self.rank, 2)


@pytest.mark.parametrize("at_once", [4, 3])
@pytest.mark.parametrize("num_images", [16, 9, 1])
def test_ranks_evaluate_every_image_once_and_report_equally_often(
    tmp_path: Path, num_images: int, at_once: int
) -> None:
    setup = make(tmp_path)[0]._setup
    val = setup.data.val
    split = ImageSplit(val.images[:num_images], val.labels[:num_images])

    def measured(parallel: Parallel) -> tuple[Sums, list[int]]:
        done: list[int] = []
        sums = evaluate(
            setup.network, split, setup.plain_transform, setup.criterion, batch_size=4, parallel=parallel,
            at_once=MicroBatch(at_once, CPU, lambda _alert: None), autocast=setup.autocast, progress=done.append,
        )  # fmt: skip
        return sums, done

    whole, _ = measured(Parallel())
    (first, told), (second, told_too) = (measured(OneOfTwo(rank)) for rank in range(2))
    assert told == told_too
    assert told[-1] == num_images
    assert (first.hits + second.hits, first.num_images + second.num_images) == (whole.hits, num_images)
    assert first.loss + second.loss == pytest.approx(whole.loss)


def test_a_rank_without_memory_does_not_begin_its_step_anew(tmp_path: Path) -> None:
    trainer, _ = make(tmp_path)
    trainer._stepper._parallel = OneOfTwo(0)
    seen: list[int] = []

    def fail(_network: nn.Module, images: tuple[Tensor]) -> None:
        seen.append(len(images[0]))
        raise torch.OutOfMemoryError

    trainer._setup.network.register_forward_pre_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        trainer._train_batch(inputs_of(trainer), torch.arange(8))
    assert seen == [4]


@pytest.mark.parametrize("part", [Trainer, TrainState, InputPipeline, Stepper, Meter, Validator, Checkpoints])
def test_several_devices_override_no_part_of_the_loop(part: type) -> None:
    assert [each for each in part.__subclasses__() if each.__module__.startswith("engine.")] == []
