"""Scores of predictions: accuracy with intervals, by class and group, confusions, calibration. No I/O, no torch.

Fractions are from 0 to 1. A split whose labels are hidden has no scores.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import Struct

from engine.runs.predictions import MOST_TOP, Predictions

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

Interval: TypeAlias = tuple[float, float]
NUM_BINS = 15
"""Bins of confidence, as in Guo et al. 2017, "On Calibration of Modern Neural Networks"."""
_Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: intervals are of 95 %."""
_MOST_ORDERED = 2000
"""Classes; more stay in their own order, as clustering takes the cube of their number."""


class Score(Struct, frozen=True, kw_only=True):
    """Number of images of a class, or of a group of classes, that are predicted right."""

    name: str
    num_images: int
    hits: int
    group_hits: int | None = None
    """Of a group: images predicted as any class of the group."""

    @property
    def top1(self) -> float:
        """The fraction predicted right."""
        return self.hits / self.num_images


class ClassScore(Score, frozen=True, kw_only=True):
    """Precision, recall and F1 of a class that has images."""

    num_predicted: int
    """Images that are predicted as this class, rightly or not."""
    precision: float | None
    """The fraction of `num_predicted` that is right; None if there are none."""
    recall: float
    """The fraction of the class's images that is predicted right."""
    recall_interval: Interval
    """Wilson's, of 95 %."""
    f1: float
    """Harmonic mean of precision and recall; 0 if nothing is right."""

    @property
    def harm(self) -> int:
        """Images that the class costs: its own taken for others, and others taken for it."""
        return self.num_images + self.num_predicted - 2 * self.hits


class Confusion(Struct, frozen=True, kw_only=True):
    """Images of one class that are taken for another."""

    true: str
    predicted: str
    num_images: int


class Bin(Struct, frozen=True, kw_only=True):
    """Images whose confidence is above `low` and at most `high`; the first bin has those of 0 too."""

    low: float
    high: float
    num_images: int
    hits: int
    mean_confidence: float | None
    """None if the bin is empty."""

    @property
    def accuracy(self) -> float | None:
        """The fraction predicted right; None if the bin is empty."""
        return self.hits / self.num_images if self.num_images else None


class Scores(Struct, frozen=True, kw_only=True):
    """Accuracy and calibration over all images of a split. Intervals are Wilson's, of 95 %."""

    num_images: int
    hits: int
    top1: float
    top1_interval: Interval
    top5: float | None
    """The fraction whose class is among the five most probable; None if there are five classes or fewer, or if the
    predictions are of a version that kept one."""
    top5_interval: Interval | None
    balanced: float
    """Balanced accuracy: the mean of the recalls of the classes that have images."""
    macro_f1: float
    """The mean of their F1."""
    ece: float
    """Expected calibration error: the mean distance of confidence and accuracy over the bins, weighted by images."""
    mean_confidence: float
    calibration: tuple[Bin, ...]


def wilson(hits: int, num_images: int) -> Interval:
    """Return the 95 % interval of a fraction (Wilson 1927); 0 to 1 if there are no images."""
    if not num_images:
        return 0.0, 1.0
    share, squared = hits / num_images, _Z**2
    middle = share + squared / (2 * num_images)
    reach = _Z * math.sqrt(share * (1 - share) / num_images + squared / (4 * num_images**2))
    scale = 1 + squared / num_images
    low, high = max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)
    return (low if hits else 0.0), (high if hits < num_images else 1.0)  # exactly, whatever the rounding


def overall(found: Predictions) -> Scores | None:
    """Return the scores of a split; None if its labels are hidden or it has no images."""
    if not found.true:
        return None
    num_images, classes, bins = len(found.true), by_class(found), calibration(found)
    hits = sum(score.hits for score in classes)
    top5_hits = None
    if found.top and len(found.class_names) > MOST_TOP:
        top5_hits = sum(true in top for true, top in zip(found.true, found.top, strict=True))
    return Scores(
        num_images=num_images,
        hits=hits,
        top1=hits / num_images,
        top1_interval=wilson(hits, num_images),
        top5=None if top5_hits is None else top5_hits / num_images,
        top5_interval=None if top5_hits is None else wilson(top5_hits, num_images),
        balanced=math.fsum(score.recall for score in classes) / len(classes),
        macro_f1=math.fsum(score.f1 for score in classes) / len(classes),
        ece=expected_calibration_error(bins),
        mean_confidence=math.fsum(found.confidence) / num_images,
        calibration=tuple(bins),
    )


def by_class(found: Predictions) -> list[ClassScore]:
    """Return the classes that have images, the lowest recall first; none if the labels are hidden."""
    total, predicted = Counter(found.true or ()), Counter(found.predicted)
    hits = Counter(true for true, guessed in _pairs(found) if true == guessed)
    scores = [
        ClassScore(
            name=found.class_names[index],
            num_images=count,
            hits=hits[index],
            num_predicted=predicted[index],
            precision=hits[index] / predicted[index] if predicted[index] else None,
            recall=hits[index] / count,
            recall_interval=wilson(hits[index], count),
            f1=2 * hits[index] / (count + predicted[index]),
        )
        for index, count in total.items()
    ]
    return sorted(scores, key=lambda score: (score.recall, score.name))


def by_harm(found: Predictions) -> list[ClassScore]:
    """Return the classes that have images, those that cost the most images first."""
    return sorted(by_class(found), key=lambda score: (-score.harm, score.f1, score.name))


def by_group(found: Predictions, groups: Mapping[str, tuple[str, ...]]) -> list[Score]:
    """Return the groups of classes, the worst first; none if the labels are hidden or the classes are others."""
    group_of = {name: group for group, names in groups.items() for name in names}
    if found.true is None or not set(found.class_names) <= group_of.keys():
        return []
    total: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    group_hits: Counter[str] = Counter()
    for true, predicted in _pairs(found):
        group = group_of[found.class_names[true]]
        total[group] += 1
        hits[group] += true == predicted
        group_hits[group] += group == group_of[found.class_names[predicted]]
    scores = [
        Score(name=group, num_images=count, hits=hits[group], group_hits=group_hits[group])
        for group, count in total.items()
    ]
    return sorted(scores, key=lambda score: (score.top1, score.name))


def matrix(found: Predictions) -> Counter[tuple[int, int]]:
    """Return the confusion matrix: the number of images by (true, predicted) class index; empty without labels."""
    return Counter(_pairs(found))


def confusions(found: Predictions, most: int = 10) -> list[Confusion]:
    """Return the most frequent mistakes, at most so many."""
    wrong = {cell: count for cell, count in matrix(found).items() if cell[0] != cell[1]}
    ranked = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [
        Confusion(true=found.class_names[true], predicted=found.class_names[predicted], num_images=count)
        for (true, predicted), count in ranked
    ]


def calibration(found: Predictions, num_bins: int = NUM_BINS) -> list[Bin]:
    """Return images by confidence, in bins of equal width from 0 to 1; none if the labels are hidden."""
    if found.true is None:
        return []
    counts, hits, sums = [0] * num_bins, [0] * num_bins, [0.0] * num_bins
    for (true, predicted), confidence in zip(_pairs(found), found.confidence, strict=True):
        number = max(0, math.ceil(confidence * num_bins) - 1)
        counts[number] += 1
        hits[number] += true == predicted
        sums[number] += confidence
    return [
        Bin(
            low=number / num_bins,
            high=(number + 1) / num_bins,
            num_images=counts[number],
            hits=hits[number],
            mean_confidence=sums[number] / counts[number] if counts[number] else None,
        )
        for number in range(num_bins)
    ]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Return the mean distance of confidence and accuracy over the bins, weighted by their images."""
    gaps = (
        each.num_images * abs(each.accuracy - each.mean_confidence)
        for each in bins
        if each.accuracy is not None and each.mean_confidence is not None
    )
    return math.fsum(gaps) / (sum(each.num_images for each in bins) or 1)


def class_order(found: Predictions) -> list[int]:
    """Return all class indices in an order in which classes that are confused stand together.

    Average-linkage clustering: two classes are as near as the share of their images that are taken for each other. Of
    two clusters that are joined, those ends meet that are nearest. Classes that are never confused come last.
    """
    import numpy as np  # here alone: a viewer that does not ask for the order does without it

    num_classes = len(found.class_names)
    if num_classes > _MOST_ORDERED:
        return list(range(num_classes))
    taken = np.zeros((num_classes, num_classes))
    for (true, predicted), count in matrix(found).items():
        taken[true, predicted] = count
    images = taken.sum(1)
    near = (taken + taken.T) / np.maximum(1, images[:, None] + images[None])
    np.fill_diagonal(near, -1)
    between, sizes = near.copy(), np.ones(num_classes)
    clusters: dict[int, list[int]] = {index: [index] for index in range(num_classes)}
    while len(clusters) > 1:
        first, second = map(int, np.unravel_index(between.argmax(), between.shape))
        if between[first, second] <= 0:
            break
        clusters[first] = _joined(clusters[first], clusters.pop(second), near)
        mean = sizes[first] * between[first] + sizes[second] * between[second]
        sizes[first] += sizes[second]
        between[first] = between[:, first] = mean / sizes[first]
        between[second] = between[:, second] = between[first, first] = -1
    ranked = sorted(clusters.values(), key=lambda cluster: (-len(cluster), cluster[0]))
    return list(chain.from_iterable(ranked))


def _joined(first: list[int], second: list[int], near: "NDArray[float64]") -> list[int]:
    """Return two clusters as one, each as it is or turned round, so that the nearest ends meet."""
    ways = [(before, after) for before in (first, first[::-1]) for after in (second, second[::-1])]
    before, after = max(ways, key=lambda way: near[way[0][-1], way[1][0]])
    return before + after


Wanted: TypeAlias = Literal["wrong", "right", "all"]
Order: TypeAlias = Literal["confident", "unsure", "split"]
"""Of images: the most confident first, the least confident first, as they are in the split."""


def matching(
    found: Predictions,
    wanted: Wanted,
    part_of_class: str = "",
    *,
    order: Order = "confident",
    cell: tuple[int, int] | None = None,
) -> list[int]:
    """Return the rows of the images that are wanted.

    Args:
        found: the predictions.
        wanted: where the labels are hidden nothing is right or wrong, so all are wanted.
        part_of_class: only images whose true or predicted class has that in its name, in whatever case.
        order: of the images.
        cell: only images of this cell of the confusion matrix: indices of true and predicted class. It goes before
            `wanted` and `part_of_class`.
    """

    def is_wanted(row: int) -> bool:
        names, predicted = found.class_names[found.predicted[row]], found.predicted[row]
        if found.true is not None:
            if cell is not None:
                return (found.true[row], predicted) == cell
            if wanted != "all" and (found.true[row] == predicted) != (wanted == "right"):
                return False
            names += "\n" + found.class_names[found.true[row]]
        return part_of_class.lower() in names.lower()

    rows = list(filter(is_wanted, range(len(found.predicted))))
    if order == "split":
        return rows
    return sorted(rows, key=lambda row: found.confidence[row] * (-1 if order == "confident" else 1))


def _pairs(found: Predictions) -> list[tuple[int, int]]:
    return [] if found.true is None else list(zip(found.true, found.predicted, strict=True))
