"""Scores of predictions, against values worked by hand."""

import time
from typing import Any

import msgspec
import pytest

from engine.runs import scores
from engine.runs.predictions import Predictions
from engine.runs.scores import Confusion, by_class, by_group, by_harm, calibration, confusions, matching, wilson
from engine.shared.cifar100_superclasses import CIFAR100
from tui.text import score_text

GROUPS = {"pets": ("cat", "dog"), "plants": ("oak",)}


def made(
    true: tuple[int, ...] | None, predicted: tuple[int, ...], names: tuple[str, ...] = ("cat", "dog", "oak")
) -> Any:
    return Predictions(
        run="r", split="test", checkpoint="best", epoch=1, global_step=1, class_names=names, image_size=1,
        true=true, predicted=predicted, confidence=(0.5,) * len(predicted),
    )  # fmt: skip


def ranked(num_images: int, num_classes: int) -> Predictions:
    """Return predictions with the five most probable classes, or all if there are fewer, of every image."""
    tops = tuple(
        tuple((row * 7 + rank) % num_classes for rank in range(min(5, num_classes))) for row in range(num_images)
    )
    probabilities = (0.5123, 0.2042, 0.1031, 0.0512, 0.0221)[: min(5, num_classes)]
    found = made(
        tuple(row % num_classes for row in range(num_images)), tuple(top[0] for top in tops),
        tuple(f"class-{number}" for number in range(num_classes)),
    )  # fmt: skip
    changed: Predictions = msgspec.structs.replace(
        found, confidence=(0.5123,) * num_images, top=tops, top_probability=(probabilities,) * num_images
    )
    return changed


FOUND = made((0, 0, 0, 1, 2, 2), (0, 1, 2, 1, 2, 0))


def test_classes_are_scored_the_worst_first() -> None:
    assert [(score.name, score.num_images, score.hits) for score in by_class(FOUND)] == [
        ("cat", 3, 1), ("oak", 2, 1), ("dog", 1, 1),
    ]  # fmt: skip


def test_images_are_found_by_outcome_and_class_the_most_confident_first() -> None:
    found = msgspec.structs.replace(FOUND, confidence=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
    assert matching(found, "wrong") == [5, 2, 1]
    assert matching(found, "right", "OAK") == [4]
    assert matching(found, "all", "do") == [3, 1]  # true or predicted
    hidden = made(None, (0, 1))
    assert matching(hidden, "wrong") == matching(hidden, "right") == [0, 1]


def test_images_are_ordered_by_confidence_or_as_they_are_in_the_split() -> None:
    found = msgspec.structs.replace(FOUND, confidence=(0.1, 0.9, 0.3, 0.4, 0.5, 0.6))
    assert matching(found, "wrong", order="confident") == [1, 5, 2]
    assert matching(found, "wrong", order="unsure") == [2, 5, 1]
    assert matching(found, "wrong", order="split") == [1, 2, 5]


def test_images_of_a_cell_are_found_whatever_else_is_wanted() -> None:
    assert matching(FOUND, "wrong", "dog", cell=(2, 2)) == [4]
    assert matching(FOUND, "right", cell=(0, 1)) == [1]
    assert matching(FOUND, "all", cell=(1, 0)) == []


def test_groups_count_their_classes_and_themselves() -> None:
    scores = {score.name: (score.num_images, score.hits, score.group_hits) for score in by_group(FOUND, GROUPS)}
    assert scores == {"pets": (4, 2, 3), "plants": (2, 1, 1)}
    assert by_group(made((0,), (0,), ("fox",)), GROUPS) == []


def test_confusions_are_counted_by_direction() -> None:
    found = made((0, 0, 1, 2), (1, 1, 0, 2))
    assert confusions(found) == [
        Confusion(true="cat", predicted="dog", num_images=2), Confusion(true="dog", predicted="cat", num_images=1),
    ]  # fmt: skip
    assert len(confusions(found, most=1)) == 1


def test_hidden_labels_have_no_scores() -> None:
    hidden = made(None, (0, 1))
    assert by_class(hidden) == by_group(hidden, GROUPS) == confusions(hidden) == []


def test_ten_thousand_images_are_quick() -> None:
    names = tuple(name for group in CIFAR100.values() for name in group)
    many = made(tuple(row % 100 for row in range(10_000)), tuple(row * 7 % 100 for row in range(10_000)), names)
    started = time.process_time()
    assert len(by_class(many)) == 100
    assert len(by_group(many, CIFAR100)) == 20
    confusions(many)
    scores.overall(many)
    scores.class_order(many)
    assert time.process_time() - started < 0.5


def test_precision_recall_f1_and_harm_of_a_class() -> None:
    """cat: 3 images, 1 right, 2 predicted as it. dog: 1 image, right, 2 predicted. oak: 2 images, 1 right, 2."""
    cat, dog, oak = sorted(by_class(FOUND), key=lambda score: score.name)
    assert (cat.num_predicted, cat.precision, cat.recall, cat.f1, cat.harm) == (2, 1 / 2, 1 / 3, 2 / 5, 3)
    assert (dog.num_predicted, dog.precision, dog.recall, dog.f1, dog.harm) == (2, 1 / 2, 1.0, 2 / 3, 1)
    assert (oak.num_predicted, oak.precision, oak.recall, oak.f1, oak.harm) == (2, 1 / 2, 1 / 2, 1 / 2, 2)
    assert [score.name for score in by_harm(FOUND)] == ["cat", "oak", "dog"]


def test_a_class_that_is_never_predicted_has_no_precision_and_an_f1_of_0() -> None:
    (cat,) = by_class(made((0, 0), (1, 2)))
    assert (cat.precision, cat.recall, cat.f1) == (None, 0.0, 0.0)


def test_balanced_accuracy_and_macro_f1_are_means_over_classes_that_have_images() -> None:
    summed = scores.overall(made((0, 0, 0, 1), (0, 0, 2, 0)))  # recalls 2/3 and 0; F1 4/6 and 0
    assert summed is not None
    assert summed.top1 == 0.5
    assert summed.balanced == pytest.approx(1 / 3)
    assert summed.macro_f1 == pytest.approx(1 / 3)


def test_the_class_is_among_the_five_most_probable_or_not() -> None:
    found = msgspec.structs.replace(
        made((5, 0, 4), (0, 0, 1), tuple("abcdef")),
        top=((0, 1, 2, 3, 4), (0, 1, 2, 3, 4), (1, 2, 3, 0, 4)), top_probability=((0.2,) * 5,) * 3,
    )  # fmt: skip
    summed = scores.overall(found)
    assert summed is not None
    assert (summed.top1, summed.top5) == (1 / 3, 2 / 3)
    assert summed.top5_interval == wilson(2, 3)


def test_top_5_is_not_told_of_five_classes_or_of_files_without_it() -> None:
    for found in (ranked(num_images=10, num_classes=5), made((0,), (0,), tuple("abcdef"))):
        summed = scores.overall(found)
        assert summed is not None
        assert (summed.top5, summed.top5_interval) == (None, None)


@pytest.mark.parametrize(
    ("hits", "num_images", "low", "high"),
    [(8, 10, 0.49016, 0.94332), (0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (81, 263, 0.25528, 0.36616)],
)  # the last: Newcombe 1998, table I
def test_the_interval_is_wilsons(hits: int, num_images: int, low: float, high: float) -> None:
    assert wilson(hits, num_images) == pytest.approx((low, high), abs=1e-4)


def test_the_interval_ends_exactly_at_none_and_all() -> None:
    assert (wilson(0, 7)[0], wilson(7, 7)[1], wilson(0, 0)) == (0.0, 1.0, (0.0, 1.0))


def test_the_calibration_error_is_the_weighted_distance_over_the_bins() -> None:
    """Of five bins: two images at 0.9 and 1.0 of which one is right, two at 0.5 of which none is, one at 0."""
    found = msgspec.structs.replace(made((0, 0, 0, 0, 0), (0, 1, 1, 1, 0)), confidence=(0.9, 1.0, 0.5, 0.5, 0.0))
    bins = calibration(found, num_bins=5)
    assert [(each.num_images, each.hits) for each in bins] == [(1, 1), (0, 0), (2, 0), (0, 0), (2, 1)]
    assert bins[1].accuracy is bins[1].mean_confidence is None
    assert scores.expected_calibration_error(bins) == pytest.approx((1 * 1.0 + 2 * 0.5 + 2 * 0.45) / 5)


def test_a_confidence_at_the_edge_belongs_to_the_bin_below() -> None:
    found = msgspec.structs.replace(made((0, 0, 0), (0, 0, 0)), confidence=(0.5, 0.5001, 1.0))
    assert [each.num_images for each in calibration(found, num_bins=2)] == [1, 2]


def test_confused_classes_stand_together() -> None:
    """a is confused with d, b with e, c with f; the pairs ad and be with each other, but less often."""
    true = (0,) * 10 + (3,) * 10 + (1,) * 10 + (4,) * 10 + (2,) * 10 + (5,) * 10
    predicted = (
        *(3,) * 5, *(0,) * 5, *(0,) * 4, *(3,) * 5, 1, *(4,) * 4, *(1,) * 6, *(1,) * 4, *(4,) * 6, *(5,) * 2, *(2,) * 8,
        *(5,) * 10,
    )  # fmt: skip
    order = scores.class_order(made(true, predicted, tuple("abcdefg")))
    assert sorted(order) == list(range(7))
    assert order[:4] in ([0, 3, 1, 4], [4, 1, 3, 0])
    assert set(order[4:6]) == {2, 5}
    assert order[6] == 6


def test_classes_without_mistakes_keep_their_order() -> None:
    assert scores.class_order(made((2, 1, 0), (2, 1, 0))) == scores.class_order(made(None, (0,))) == [0, 1, 2]


def test_the_words_name_over_and_underconfidence() -> None:
    summed = scores.overall(msgspec.structs.replace(made((0, 0), (0, 1)), confidence=(0.9, 0.8)))
    assert summed is not None
    labels = dict(score_text.overall(summed))
    assert labels["top-1"] == "50.00 % (95 % interval 9.45 to 90.55 %)"
    assert labels["calibration error"] == (
        "45.00 % (ECE, 15 bins); mean confidence 85.0 %, 35.0 points above the accuracy"
    )
    assert score_text.confidence(msgspec.structs.replace(summed, mean_confidence=0.4)).endswith(
        "10.0 points below the accuracy"
    )
