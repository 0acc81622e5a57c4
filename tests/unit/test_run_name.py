"""Names of runs: what differs from the preset stands in them, and stays where they are shortened."""

import pytest
from rich.cells import cell_len

from tui.text.run_name import run_name, shared_words, words_of

ID = "20260101T000000-networks-resnet18-ab12"
PRESET = "networks/resnet18"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("optimizer.lr=0.010",), ("lr 0.01",)),
        (("optimizer.lr=1e-5", "optimizer.lr=0.1"), ("lr 0.1",)),
        (("train.batch_size=64", "data.image_size=128"), ("batch 64", "size 128")),
        (("train.epochs_scale=0.1",), ("epochs ×0.1",)),
        (("optimizer.name=adamw", "optimizer.weight_decay=0.05"), ("adamw", "decay 0.05")),
        (('optimizer={name="sgd", lr=0.2}',), ("sgd", "lr 0.2")),
        (("model.network=resnet9", "schedule.name=cosine"), ("resnet9", "cosine")),
        (('data.path="/home/me/birds"', "data.dataset=class-folders"), ("data birds",)),
        (("train.compile=true",), ("compile true",)),
        (('train.augment=[{op="random-crop", size=32}, {op="cutout"}]',), ("augment random-crop+cutout",)),
        (("train.augment=[]",), ("augment []",)),
        (("stages[0].epochs=3", "stages[1].epochs=5"), ("stages[0].epochs 3", "stages[1].epochs 5")),
        (("loss.class_weights={cat=0.5, owl=3}",), ("class_weights cat 0.5 owl 3",)),
        (("loss.class_weights.cat=0.5", "loss.class_weights.owl=3"), ("class_weights cat 0.5 owl 3",)),
        (("loss={class_weights={cat=0.5}, label_smoothing=0.1}",), ("class_weights cat 0.5", "smoothing 0.1")),
        (("loss.class_weights=balanced",), ("class_weights balanced",)),
        (("no equals",), ("no equals",)),
        (("a.b=\x1b[31m",), (r"a.b=\x1b[31m",)),
    ],
)
def test_settings_in_short_words(overrides: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert words_of(overrides) == words


def test_the_seed_is_named_if_it_says_something() -> None:
    assert words_of((), 0) == ()
    assert words_of((), 3) == ("seed 3",)
    assert words_of(("optimizer.lr=0.1",), 0, "abc") == ("lr 0.1", "seed 0")


@pytest.mark.parametrize(
    ("width", "name"),
    [
        (None, "networks-resnet18-ab12 epochs 3 lr 0.01"),
        (39, "networks-resnet18-ab12 epochs 3 lr 0.01"),
        (38, "networks-resnet18 epochs 3 lr 0.01"),
        (33, "networks-resnet18 lr 0.01"),
        (25, "networks-resnet18 lr 0.01"),
        (24, "…tworks-resnet18 lr 0.01"),
        (14, "…net18 lr 0.01"),
        (13, "…et18 lr 0.01"),
        (12, "…et18 lr 0.…"),
    ],
)
def test_what_differs_stays(width: int | None, name: str) -> None:
    words = words_of(("train.epochs=3", "optimizer.lr=0.01"))
    shared = shared_words([(PRESET, words), (PRESET, words_of(("train.epochs=3", "optimizer.lr=0.1")))])
    found = run_name(ID, PRESET, words, width, shared[PRESET])
    assert found == name
    assert width is None or cell_len(found) <= width


def test_a_run_as_its_preset_is_keeps_its_digits() -> None:
    assert run_name(ID, PRESET, (), 12) == "…snet18-ab12"
    assert run_name("20260101T000000-job-1234", "demo", ("lr 0.1",), 15) == "job-1234 lr 0.1"
    assert run_name("20260101T000000-job-1234", "demo", ("lr 0.1",), 13) == "…-1234 lr 0.1"


def test_what_all_share_is_no_difference() -> None:
    same = ("epochs 3",)
    assert shared_words([("a", same), ("a", same)]) == {}
    assert shared_words([("a", same), ("a", (*same, "lr 1")), ("b", ("lr 1",))]) == {"a": {"epochs 3"}}
