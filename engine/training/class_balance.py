"""Uneven classes: class weights of the loss, and balanced accuracy, the mean of the classes' recalls."""

import unicodedata
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.data.sets import DataSet
from presets.errors import CifartuiError
from presets.problems import printable
from presets.schema import Loss, Train

UNEVEN_FROM = 1.5
"""Images of the largest class over those of the smallest; CIFAR-100 without every tenth row comes to 1.08."""


class WeightedCrossEntropy(nn.Module):
    """Cross-entropy in which the images of a class count by its weight, as torch.nn.CrossEntropyLoss(weight=...).

    The mean is over the weights of a batch's images. Parts of a batch (of a rank, or of a micro-batch) are given by
    `of` losses whose mean, weighted by their numbers of images, is the batch's. With mixed targets [B, C] every
    class's share has the weight of its class, and the mean is over the weights of the unmixed labels.
    """

    weights: Tensor

    def __init__(self, weights: Tensor, label_smoothing: float = 0.0) -> None:
        """Weigh by `weights`, float32 [C]."""
        super().__init__()
        self.register_buffer("weights", weights)
        self._label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch: logits [B, C], labels int64 [B]."""
        return self.of(labels)(logits, labels)

    def of(self, labels: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the mean loss of parts of the batch with `labels`, int64 [B]; nothing is read back from the device."""
        scaled = self.weights * (len(labels) / self.weights.index_select(0, labels).sum())

        def mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
            summed = functional.cross_entropy(
                logits, targets, weight=scaled, reduction="sum", label_smoothing=self._label_smoothing
            )
            return summed / len(targets)

        return mean_loss


def cross_entropy(loss: Loss, labels: Tensor, class_names: Sequence[str]) -> nn.Module:
    """Return the mean loss of a run.

    Args:
        loss: the preset's table.
        labels: of the training images, int64 [N].
        class_names: in label order.

    Raises:
        CifartuiError: the table of weights names a class that the data set does not have.
    """
    if loss.class_weights is None:
        return nn.CrossEntropyLoss(label_smoothing=loss.label_smoothing)
    if loss.class_weights == "balanced":
        weights = balanced_weights(class_counts(labels, len(class_names)))
    else:
        weights = _named_weights(loss.class_weights, class_names)
    return WeightedCrossEntropy(weights, loss.label_smoothing)


def of_batch(
    criterion: Callable[[Tensor, Tensor], Tensor], labels: Callable[[], Tensor]
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the mean loss of parts of the batch whose labels (int64 [B]) `labels` returns."""
    return criterion.of(labels()) if isinstance(criterion, WeightedCrossEntropy) else criterion


def class_counts(labels: Tensor, num_classes: int) -> Tensor:
    """Return the number of images of each class, int64 [C] on the CPU. Waits for the device."""
    labels = labels.cpu()
    return torch.zeros(num_classes, dtype=torch.int64).index_add_(0, labels, torch.ones_like(labels))


def balanced_weights(counts: Tensor) -> Tensor:
    """Return num_images / (num_classes * count) of each class, float32 [C]: their mean over the images is 1.

    A class without training images has the weight 1, and is not among the classes counted.
    """
    present = counts > 0
    weights = counts.sum() / (present.sum() * counts.clamp(min=1))
    return torch.where(present, weights, torch.ones_like(weights)).float()


def _named_weights(table: dict[str, float], class_names: Sequence[str]) -> Tensor:
    """Return float32 [C]; names are the same in whatever Unicode form they are written."""
    wanted = {_name(name): weight for name, weight in table.items()}
    known = [_name(name) for name in class_names]
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        there = ", ".join(printable(name) for name in class_names[:5]) + (" …" if len(class_names) > 5 else "")
        raise CifartuiError(
            f'loss.class_weights names the class "{printable(unknown[0])}", which this data does not have; '
            f"its {len(class_names):,} classes are {there}."
        )
    return torch.tensor([wanted.get(name, 1.0) for name in known])


def _name(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def balanced_accuracy(class_hits: Sequence[float], counts: Tensor) -> float:
    """Return the mean recall of the classes that have images; NaN if none has.

    Args:
        class_hits: correct predictions of each class.
        counts: images of each class, int64 [C] on the CPU.
    """
    recalls = [hits / count for hits, count in zip(class_hits, counts.tolist(), strict=True) if count]
    return sum(recalls) / len(recalls) if recalls else float("nan")


def measures_balanced(train: Train, data: DataSet) -> bool:
    """Return true if balanced accuracy is measured: classes are uneven, or the best weights are chosen by it."""
    return train.best_by == "val_balanced" or is_uneven(class_counts(data.train.labels, len(data.class_names)))


def is_uneven(counts: Tensor) -> bool:
    """Return true if the largest class has clearly more training images than the smallest; counts int64 [C]."""
    counts = counts[counts > 0]
    return len(counts) > 0 and bool(counts.max() >= UNEVEN_FROM * counts.min())
