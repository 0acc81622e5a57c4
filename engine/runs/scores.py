"""What predictions add up to: accuracy by class and superclass, and what is taken for what. Plain Python, no torch."""

from collections import Counter
from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from engine.runs.predictions import Predictions

Wanted: TypeAlias = Literal["wrong", "right", "all"]


class Score(Struct, frozen=True, kw_only=True):
    """How many of the images of a class, or of a group of classes, are predicted right."""

    name: str
    num_images: int
    hits: int
    group_hits: int | None = None
    """Of a group: images predicted as any class of the group."""

    @property
    def top1(self) -> float:
        """The fraction predicted right."""
        return self.hits / self.num_images


class Confusion(Struct, frozen=True, kw_only=True):
    """Images of one class that are taken for another."""

    true: str
    predicted: str
    num_images: int


def by_class(found: Predictions) -> list[Score]:
    """Return the classes that have images, the worst first; none where the labels are hidden."""
    total, hits = Counter(found.true or ()), Counter(true for true, predicted in _pairs(found) if true == predicted)
    scores = [
        Score(name=found.class_names[index], num_images=count, hits=hits[index]) for index, count in total.items()
    ]
    return sorted(scores, key=lambda score: (score.top1, score.name))


def by_group(found: Predictions, groups: Mapping[str, tuple[str, ...]]) -> list[Score]:
    """Return the groups of classes, the worst first; none where the labels are hidden or other classes are meant."""
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


def confusions(found: Predictions, most: int = 10) -> list[Confusion]:
    """Return the most frequent mistakes, at most so many."""
    wrong = Counter((true, predicted) for true, predicted in _pairs(found) if true != predicted)
    ranked = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:most]
    return [
        Confusion(true=found.class_names[true], predicted=found.class_names[predicted], num_images=count)
        for (true, predicted), count in ranked
    ]


def matching(found: Predictions, wanted: Wanted, part_of_class: str = "") -> list[int]:
    """Return the rows of the images that are wanted, the most confident first.

    With `part_of_class`, only images whose true or predicted class has that in its name, in whatever case. Where the
    labels are hidden nothing is right or wrong, so all are wanted.
    """

    def is_wanted(row: int) -> bool:
        names, predicted = found.class_names[found.predicted[row]], found.predicted[row]
        if found.true is not None:
            if wanted != "all" and (found.true[row] == predicted) != (wanted == "right"):
                return False
            names += "\n" + found.class_names[found.true[row]]
        return part_of_class.lower() in names.lower()

    return sorted(filter(is_wanted, range(len(found.predicted))), key=lambda row: -found.confidence[row])


def _pairs(found: Predictions) -> list[tuple[int, int]]:
    return [] if found.true is None else list(zip(found.true, found.predicted, strict=True))
