"""A batch divided over ranks: nobody's image is lost, and the gradients and images are those of one process."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from engine.data.augment import train_transform
from engine.data.sets import ImageSplit
from engine.training.distributed.sharding import GlobalBatchDraws, shard_of
from engine.training.input_pipeline import SplitInputs, _any_view
from presets import schema
from tests import every

BATCHES = [(8, 2), (9, 2), (3, 2), (1, 2), (2, 4), (11, 4), (5, 3)]


@given(total=st.integers(1, 300), num_ranks=st.integers(1, 16))
def test_shares_are_the_batch_in_order_and_differ_by_one_image(total: int, num_ranks: int) -> None:
    shards = [shard_of(total, rank, num_ranks) for rank in range(num_ranks)]
    rows = torch.arange(total)
    own = [shard.of(rows)[: shard.num_own] for shard in shards]
    assert torch.equal(torch.cat(own), rows)
    sizes = [len(each) for each in own]
    assert max(sizes) - min(sizes) <= 1
    assert all(len(shard.of(rows)) >= min(2, total) for shard in shards)


@pytest.mark.parametrize(("total", "num_ranks"), BATCHES)
def test_averaged_gradients_are_those_of_the_whole_batch(total: int, num_ranks: int) -> None:
    torch.manual_seed(0)
    network, criterion = nn.Linear(6, 5), nn.CrossEntropyLoss(label_smoothing=0.1)
    images, labels = torch.randn(total, 6), torch.randint(5, (total,))
    whole = torch.autograd.grad(criterion(network(images), labels), list(network.parameters()))
    sums = [torch.zeros_like(gradient) for gradient in whole]
    for rank in range(num_ranks):
        shard = shard_of(total, rank, num_ranks)
        loss = shard.mean_loss(criterion, network(shard.of(images)), shard.of(labels))
        for summed, gradient in zip(
            sums, torch.autograd.grad(loss * shard.weight, list(network.parameters())), strict=True
        ):
            summed += gradient / num_ranks  # as DistributedDataParallel averages
    for summed, gradient in zip(sums, whole, strict=True):
        torch.testing.assert_close(summed, gradient)


@pytest.mark.parametrize("operation", every.AUGMENTATIONS, ids=lambda operation: type(operation).__name__)
@pytest.mark.parametrize(("total", "num_ranks"), [(9, 2), (3, 4)])
def test_every_image_is_augmented_as_in_one_process(operation: schema.Augmentation, total: int, num_ranks: int) -> None:
    transform = train_transform((operation,), schema.Data(dataset="shapes100"))
    images = torch.randint(256, (total, 3, 32, 32), dtype=torch.uint8)
    torch.manual_seed(7)
    whole = transform(images)
    for rank in range(num_ranks):
        shard = shard_of(total, rank, num_ranks)
        torch.manual_seed(7)
        with GlobalBatchDraws(shard):
            seen = transform(shard.of(images))
        torch.testing.assert_close(seen[: shard.num_own], whole[shard.start : shard.stop])


def test_a_draw_of_another_size_is_left_alone() -> None:
    with GlobalBatchDraws(shard_of(8, 1, 2)):
        assert torch.rand(5).shape == (5,)
        assert torch.rand(4, 2).shape == (4, 2)
        assert torch.randint(3, (4,)).shape == (4,)


# --- how random numbers are drawn ------------------------------------------------------------------


class Draws(TorchDispatchMode):
    """Notes every draw of random numbers, whichever function it is made with: torch marks them all."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded in func.tags:
            drawn = result[0] if isinstance(result, tuple) else result
            self.made.append((str(func.overloadpacket), tuple(drawn.shape)))
        return result


def draws_of_other_kinds(transform: Callable[[Tensor], Any], images: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """Return the draws that `GlobalBatchDraws` would not make for the whole batch."""
    with Draws() as draws:
        transform(images)
    return [
        (name, shape)
        for name, shape in draws.made
        if name not in {"aten.rand", "aten.randint"} or shape[:1] != (len(images),)
    ]


IMAGES = torch.randint(256, (7, 3, 32, 32), dtype=torch.uint8)
ROWS = torch.arange(7)
MIRRORING = SplitInputs(nn.Identity(), ImageSplit(IMAGES, ROWS), lambda images: images, mirror_epoch=1)


@pytest.mark.parametrize("operation", every.AUGMENTATIONS, ids=str)
def test_augmentation_draws_with_rand_and_randint_images_first(operation: schema.Augmentation) -> None:
    assert draws_of_other_kinds(train_transform((operation,), schema.Data(dataset="shapes100")), IMAGES) == []


def test_views_and_mirrors_are_drawn_likewise() -> None:
    assert draws_of_other_kinds(_any_view, torch.zeros(7, 4, 5)) == []
    assert draws_of_other_kinds(lambda _: MIRRORING.take(ROWS), IMAGES) == []


OFFENDERS: dict[str, Callable[[Tensor], Any]] = {
    "randn": lambda images: torch.randn(len(images)),
    "rand_like": lambda images: torch.rand_like(images.float()),
    "randint_like": lambda images: torch.randint_like(images, 5),
    "randperm": lambda images: torch.randperm(len(images)),
    "bernoulli": lambda images: torch.full((len(images),), 0.5).bernoulli(),
    "bernoulli_": lambda images: images.bernoulli_(0.5),
    "normal_": lambda images: images.float().normal_(),
    "normal": lambda images: torch.normal(0.0, torch.ones(len(images))),
    "uniform_": lambda images: images.float().uniform_(),
    "exponential_": lambda images: images.float().exponential_(),
    "random_": lambda images: images.random_(),
    "multinomial": lambda images: torch.multinomial(torch.ones(len(images), 3), 1),
    "poisson": lambda images: torch.poisson(images.float()),
    "gamma": lambda images: torch.distributions.Gamma(torch.ones(len(images)), 1.0).sample(),
    "dropout": lambda images: nn.functional.dropout(images.float()),
    "rand for the batch": lambda _: torch.rand(1),
    "rand, images last": lambda images: torch.rand(2, len(images)),
    "randint, images last": lambda images: torch.randint(9, (2, len(images))),
}


@pytest.mark.parametrize("offender", OFFENDERS.values(), ids=OFFENDERS)
def test_an_operation_that_draws_otherwise_is_found(offender: Callable[[Tensor], Any]) -> None:
    def operation(images: Tensor) -> Tensor:
        offender(images.clone())
        return images + torch.rand(len(images)).view(-1, 1, 1, 1)

    assert draws_of_other_kinds(operation, IMAGES)
