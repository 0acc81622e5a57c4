"""Split of training files by their names."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.shared.image_parts import (
    Files,
    Listing,
    check_validation,
    split_by_name,
    unread_notices,
    without_drawn,
    without_images,
)
from engine.shared.image_scan import Unread
from presets.errors import CifartuiError


def listing(files: dict[str, int], folder: str = "") -> Listing:
    """Return the listing of files and their classes."""
    rows = sorted(files.items(), key=lambda row: (row[1], row[0]))
    names = tuple(f"{folder}/{name}" if folder else name for name, _ in rows)
    classes = tuple(str(label) for label in range(max(files.values()) + 1))
    train = Files(names, tuple(label for _, label in rows))
    return Listing(name="class-folders", root=Path("x"), class_names=classes, train=train, train_folder=folder)


def val_names(found: Listing, validation: float, seed: int = 0) -> set[str]:
    return {found.train.names[row] for row in split_by_name(found, validation, seed).val}


MANY = {f"{label}/{number}.jpg": label for label in range(4) for number in range(500)}


def test_a_tenth_is_the_same_in_every_run() -> None:
    found = listing(MANY)
    first, second = split_by_name(found, "every-tenth", 1), split_by_name(found, "every-tenth", 2)
    assert first == second
    assert sorted(first.train + first.val) == list(range(2000))
    assert (first.train, first.val) == (sorted(first.train), sorted(first.val))
    by_class = [sum(found.train.labels[row] == label for row in first.val) for label in range(4)]
    assert all(30 <= count <= 70 for count in by_class), by_class
    assert [found.train.names[row] for row in first.val[:3]] == ["0/111.jpg", "0/113.jpg", "0/13.jpg"]


def test_a_fraction_is_drawn_by_the_seed() -> None:
    found = listing(MANY)
    assert val_names(found, 0.3, 1) == val_names(found, 0.3, 1) != val_names(found, 0.3, 2)
    assert 540 <= len(val_names(found, 0.3, 1)) <= 660
    assert val_names(found, 0.1, 1) < val_names(found, 0.3, 1)


def test_the_part_folder_and_the_unicode_form_do_not_matter() -> None:
    plain = val_names(listing(MANY), 0.3)
    assert {f"train/{name}" for name in plain} == val_names(listing(MANY, "train"), 0.3)
    accented = {f"café/{number}.jpg": 0 for number in range(100)} | {"b/1.jpg": 1}
    other = {unicodedata.normalize("NFD", name): label for name, label in accented.items()}
    assert {unicodedata.normalize("NFC", name) for name in val_names(listing(other), 0.3)} == val_names(
        listing(accented), 0.3
    )


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=6), st.integers(0, 3), min_size=8, max_size=60),
    st.sets(st.integers(0, 59)),
    st.sampled_from([0.1, 0.3, 0.7]),
)
def test_images_that_come_and_go_move_no_other(files: dict[str, int], gone: set[int], validation: float) -> None:
    files = {f"{label}/{name}": label for name, label in files.items()} | {
        f"{label}/first": label for label in range(4)
    }
    left = {name: label for row, (name, label) in enumerate(files.items()) if row not in gone} or files
    parts = []
    for some in (files, left):
        parts.append(val_names(listing(some), validation))
    moved = (parts[0] ^ parts[1]) & left.keys()
    kept_in_training = {
        label
        for some, val in ((files, parts[0]), (left, parts[1]))
        for label in set(some.values())
        if sum(of == label and name not in val for name, of in some.items()) == 1
    }
    assert all(left[name] in kept_in_training for name in moved)
    assert all(sum(files[name] == files[other] for other in moved) == 1 for name in moved)
    for some, val in ((files, parts[0]), (left, parts[1])):
        assert {some[name] for name in some.keys() - val} == set(some.values())


def test_a_class_of_one_image_is_trained_on() -> None:
    for number in range(50):
        rows = split_by_name(listing(MANY | {f"alone{number}": 4}), 0.5, 0)
        assert 2000 in rows.train


def test_nothing_to_validate_with_is_refused() -> None:
    found = listing({"a": 0, "b": 1})
    assert split_by_name(found, 1e-6, 0) == ([0, 1], [])
    with pytest.raises(CifartuiError, match=r"data\.validation = 1e-06 takes none of the 2 training images in x"):
        check_validation(found, 1e-6, (0,))
    with pytest.raises(CifartuiError, match=r"training images in y\.zip for"):
        check_validation(found, 1e-6, (0,), "y.zip")
    check_validation(replace(found, val=found.train), 1e-6, (0,))


def test_no_fraction_is_advised_where_every_class_has_one_image() -> None:
    found = listing({"0/a.jpg": 0, "1/b.jpg": 1})
    with pytest.raises(
        CifartuiError,
        match=r"each class has one image, .*: add images, or put the class folders .*, and others into val/\.$",
    ):
        check_validation(found, 0.99, (0,))


@pytest.mark.parametrize(
    ("files", "seeds", "fraction"),
    [(("cat/0", "cat/1", "dog/0", "dog/1"), (0,), 0.3), (("cat/2", "cat/8", "dog/1", "dog/6"), (0, 1), 0.7)],
)
def test_the_fraction_advised_takes_an_image_with_every_seed(
    files: tuple[str, ...], seeds: tuple[int, ...], fraction: float
) -> None:
    found = listing({f"{name}.png": int(name.startswith("dog")) for name in files})
    said = rf"takes none of the 4 .*; set data\.validation={fraction}, add images, or put .* and some into val/\.$"
    with pytest.raises(CifartuiError, match=said):
        check_validation(found, "every-tenth", seeds)
    check_validation(found, fraction, seeds)
    for seed in seeds:
        rows = split_by_name(found, fraction, seed)
        assert rows.val
        assert {found.train.labels[row] for row in rows.train} == {0, 1}


@pytest.mark.parametrize(
    ("num_reasons", "num_sentences", "last"),
    [
        (10, 10, "z/a.9 is not read (.9: no image)."),
        (11, 11, "z/a.10 is not read (.10: no image)."),
        (12, 11, "2 more files are not read, for 2 other reasons."),
    ],
)
def test_no_sentence_stands_in_place_of_a_single_one(num_reasons: int, num_sentences: int, last: str) -> None:
    said = unread_notices(Unread("z", f".{each}: no image", 1, f"a.{each}") for each in range(num_reasons))
    assert (len(said), said[-1]) == (num_sentences, last)


@given(st.integers(2, 9), st.integers(2, 4), st.integers(0, 99))
def test_the_fraction_advised_for_classes_without_validation_images_takes_one_of_each(
    num_images: int, num_classes: int, seed: int
) -> None:
    found = listing({f"{label}/{number}.jpg": label for label in range(num_classes) for number in range(num_images)})
    drawn = [found.train.labels[row] for row in split_by_name(found, "every-tenth", seed).val]
    said = without_drawn(found, drawn, seed)
    assert (said == "") == (len(set(drawn)) == num_classes)
    if "data.validation=" in said:
        fraction = float(said.rpartition("=")[2].removesuffix("."))
        rows = split_by_name(found, fraction, seed).val
        assert {found.train.labels[row] for row in rows} == set(range(num_classes))


def test_where_no_fraction_takes_an_image_of_each_class_none_is_advised() -> None:
    found = listing({"0/a.jpg": 0, "0/b.jpg": 0, "1/a.jpg": 1})
    assert (
        without_drawn(found, [0], 0)
        == "The class 1 has no validation image; put the class folders into train/, and images of each class into val/."
    )
    assert without_drawn(found, [0, 1], 0) == ""


def test_classes_without_images_are_named() -> None:
    names = tuple(f"c{number}" for number in range(20))
    assert without_images(range(20), names, "val") == ""
    assert without_images(range(19), names, "val") == "The class c19 has no validation image."
    said = without_images([0], names, "test")
    assert said.startswith("19 classes have no test image: c1, c2,")
    assert said.endswith("c10 and 9 more.")
