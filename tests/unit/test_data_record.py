"""Records of data: equal where the data are, and differences in words; classes matched by name."""

import unicodedata
from dataclasses import replace as with_fields

import pytest
import torch
from msgspec.structs import replace

from engine.data.sets import DataSet, ImageSplit, record_of, with_classes
from engine.journal.data_record import DataRecord, SplitRecord, class_indices, differences, without_sizes
from presets.errors import CifartuiError

IMAGES = torch.zeros(4, 3, 1, 1, dtype=torch.uint8)


def split_of(*names: str, labels: tuple[int, ...] = (0, 0, 1, 1)) -> ImageSplit:
    return ImageSplit(IMAGES[: len(labels)], torch.tensor(labels), names)


def data_of(
    train: ImageSplit, val: ImageSplit | None = None, class_names: tuple[str, ...] = ("cat", "dog"), source: str = "/a"
) -> DataSet:
    val = split_of(labels=(0, 1)) if val is None else val
    return DataSet(
        name="class-folders", source=source, generated=False, train=train, val=val, test=val, class_names=class_names
    )


NAMED = split_of("cat/1", "cat/2", "dog/1", "dog/2")
RECORD = record_of(data_of(NAMED))


@pytest.mark.parametrize(
    "same",
    [
        data_of(NAMED, source="/elsewhere"),
        data_of(split_of("dog/2", "cat/1", "dog/1", "cat/2", labels=(1, 0, 1, 0))),
        data_of(
            split_of("dog/1", "dog/2", "cat/1", "cat/2"),
            val=split_of(labels=(1, 0)),
            class_names=("dog", "cat"),
        ),
    ],
    ids=["moved", "in another order", "with classes in another order"],
)
def test_data_that_is_the_same_has_no_differences(same: DataSet) -> None:
    assert differences(RECORD, record_of(same)) == ""


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (data_of(split_of("cat/1", labels=(0,))), "1 training images, not 4"),
        (data_of(split_of("cat/1", "cat/3", "dog/1", "dog/2")), "other training images or labels than before"),
        (
            data_of(split_of("cat/1", "cat/2", "dog/1", "dog/2", labels=(0, 1, 1, 1))),
            "other training images or labels than before",
        ),
        (
            data_of(NAMED, val=split_of(labels=(1, 1, 1))),
            "3 validation images, not 2, 3 test images, not 2",
        ),
        (data_of(NAMED, val=split_of(labels=(1, 0))), "other validation images or labels than before, though as many"),
    ],
)
def test_what_changed_is_named_with_both_counts(other: DataSet, said: str) -> None:
    assert said in differences(RECORD, record_of(other))


def sized(*sizes: int, names: tuple[str, ...] = NAMED.names) -> DataRecord:
    labels = tuple(int(name.startswith("dog")) for name in names)
    return record_of(data_of(with_fields(split_of(*names, labels=labels), sizes=sizes)))


def test_files_of_the_same_names_and_other_sizes_are_counted() -> None:
    before = sized(10, 20, 30, 2**33)
    assert differences(before, sized(10, 20, 30, 2**33)) == ""
    assert differences(before, sized(10, 21, 30, 2**33)) == "1 training image was replaced (same names, other sizes)"
    assert differences(before, sized(30, 20, 10, 1)) == "3 training images were replaced (same names, other sizes)"
    in_another_order = sized(2**33, 10, 30, 20, names=("dog/2", "cat/1", "dog/1", "cat/2"))
    assert differences(before, in_another_order) == ""
    assert "other training images or labels" in differences(
        before, sized(1, 2, 3, 4, names=("cat/1", "cat/3", "dog/1", "dog/2"))
    )


@pytest.mark.parametrize("sizes", ["", "not base64", "AAAA"])
def test_sizes_that_are_not_there_or_no_sizes_are_not_compared(sizes: str) -> None:
    now = sized(10, 20, 30, 40)
    before = replace(now, splits={**now.splits, "train": replace(now.splits["train"], sizes=sizes)})
    assert differences(before, now) == differences(now, before) == ""
    assert differences(without_sizes(now), now) == ""


def test_a_split_that_is_new_or_gone_is_a_difference() -> None:
    only_train = replace(RECORD, splits={"train": RECORD.splits["train"]})
    assert differences(RECORD, only_train) == "0 validation images, not 2, 0 test images, not 2"
    assert differences(only_train, RECORD) == "2 validation images, not 0, 2 test images, not 0"


def test_classes_in_another_order_get_the_labels_of_the_weights() -> None:
    found = with_classes(data_of(NAMED, class_names=("dog", "cat")), ("cat", "dog"))
    assert found.class_names == ("cat", "dog")
    assert found.train.labels.tolist() == [1, 1, 0, 0]
    assert found.train.names == NAMED.names


def test_data_without_a_class_keeps_the_place_of_the_others() -> None:
    found = with_classes(data_of(NAMED, class_names=("cat", "dog")), ("ant", "cat", "cow", "dog"))
    assert found.train.labels.tolist() == [1, 1, 3, 3]
    assert len(found.class_names) == 4
    said = '/a has no images of the classes "ant", "cow", for which the weights were trained.'
    assert found.notices == (said,)
    (one,) = with_classes(data_of(NAMED), ("cat", "dog", "\x1bowl")).notices
    assert one == '/a has no images of the class "␛owl", for which the weights were trained.'
    assert with_classes(data_of(NAMED, class_names=("dog", "cat")), ("cat", "dog")).notices == ()


def test_a_class_that_the_weights_do_not_have_is_refused_and_both_names_are_named() -> None:
    with pytest.raises(CifartuiError) as error:
        with_classes(data_of(NAMED, class_names=("kat", "dog")), ("cat", "dog"))
    assert str(error.value) == (
        '/a has the class "kat", for which the weights were not trained, and not "cat": name the folders as they were, '
        "or train a new run."
    )
    with pytest.raises(CifartuiError, match='the classes "0", "1", "2" and 7 more, for'):
        class_indices(["x"], [*map(str, range(10)), "x"], "/a")


def test_names_are_one_in_every_unicode_form() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Käfer") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert class_indices([composed, "x"], ["x", decomposed], "/a") == [1, 0]
    records = [record_of(data_of(NAMED, class_names=(name, "dog"))) for name in (composed, decomposed)]
    assert differences(*records) == ""


def test_a_name_from_a_file_cannot_draw_on_the_terminal() -> None:
    with pytest.raises(CifartuiError) as error:
        class_indices(["a"], ["b\x1b[31m"], "/a")
    assert str(error.value).isprintable()
    strange = SplitRecord(num_images=1, digest="")
    record = DataRecord(dataset="d", source="s", class_names=(), splits={"x\x1b": strange})
    assert differences(record, replace(record, splits={})).isprintable()
