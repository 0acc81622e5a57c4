"""A batch divided over ranks: nobody's image is lost, and the gradients and images are those of one process."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from engine.data.augment import train_transform
from engine.training.distributed.sharding import GlobalBatchDraws, shard_of
from presets import schema

BATCHES = [(8, 2), (9, 2), (3, 2), (1, 2), (2, 4), (11, 4), (5, 3)]


@given(total=st.integers(1, 300), num_ranks=st.integers(1, 16))
def test_shares_are_the_batch_in_order_and_differ_by_one_image(total: int, num_ranks: int) -> None:
    shares = [shard_of(total, rank, num_ranks) for rank in range(num_ranks)]
    rows = torch.arange(total)
    own = [share.of(rows)[: share.num_own] for share in shares]
    assert torch.equal(torch.cat(own), rows)
    sizes = [len(each) for each in own]
    assert max(sizes) - min(sizes) <= 1
    assert all(len(share.of(rows)) >= min(2, total) for share in shares)


@pytest.mark.parametrize(("total", "num_ranks"), BATCHES)
def test_averaged_gradients_are_those_of_the_whole_batch(total: int, num_ranks: int) -> None:
    torch.manual_seed(0)
    network, criterion = nn.Linear(6, 5), nn.CrossEntropyLoss(label_smoothing=0.1)
    images, labels = torch.randn(total, 6), torch.randint(5, (total,))
    whole = torch.autograd.grad(criterion(network(images), labels), list(network.parameters()))
    sums = [torch.zeros_like(gradient) for gradient in whole]
    for rank in range(num_ranks):
        share = shard_of(total, rank, num_ranks)
        loss = share.mean_loss(criterion, network(share.of(images)), share.of(labels))
        for summed, gradient in zip(
            sums, torch.autograd.grad(loss * share.weight(num_ranks), list(network.parameters())), strict=True
        ):
            summed += gradient / num_ranks  # as DistributedDataParallel averages
    for summed, gradient in zip(sums, whole, strict=True):
        torch.testing.assert_close(summed, gradient)


OPERATIONS: list[schema.Augmentation] = [
    schema.Resize(size=40),
    schema.RandomCrop(padding=4),
    schema.RandomResizedCrop(),
    schema.HorizontalFlip(),
    schema.VerticalFlip(),
    schema.Rotation(degrees=20),
    schema.ColorJitter(brightness=0.4, contrast=0.4),
    schema.Gamma(),
    schema.Grayscale(p=0.5),
    schema.Cutout(size=8),
    schema.TrivialAugment(),
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: type(operation).__name__)
@pytest.mark.parametrize(("total", "num_ranks"), [(9, 2), (3, 4)])
def test_every_image_is_augmented_as_in_one_process(operation: schema.Augmentation, total: int, num_ranks: int) -> None:
    transform = train_transform((operation,), schema.Data(dataset="shapes100"))
    images = torch.randint(256, (total, 3, 32, 32), dtype=torch.uint8)
    torch.manual_seed(7)
    whole = transform(images)
    for rank in range(num_ranks):
        share = shard_of(total, rank, num_ranks)
        torch.manual_seed(7)
        with GlobalBatchDraws(share):
            seen = transform(share.of(images))
        torch.testing.assert_close(seen[: share.num_own], whole[share.start : share.stop])


def test_a_draw_of_another_size_is_left_alone() -> None:
    with GlobalBatchDraws(shard_of(8, 1, 2)):
        assert torch.rand(5).shape == (5,)
        assert torch.rand(4, 2).shape == (4, 2)
        assert torch.randint(3, (4,)).shape == (4,)
