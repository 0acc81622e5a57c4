"""In what runs differ: every field that is not the same, and none that is."""

import json

import msgspec
import pytest

from engine.journal.events import RunStarted
from engine.runs.run_dir import RunInfo
from presets import catalog
from tui.data.compare import Difference, RunSide, difference_table, differences, sentence
from tui.terminal.capabilities import through_tmux
from tui.terminal.sequences import copying


def side(
    name: str = "vgg-custom", *overrides: str, seed: int = 0, device: str = "cpu", torch: str = "2.4", **more: object
) -> RunSide:
    info = RunInfo(
        id=f"x-{name}", preset_name=name, preset=catalog.load(name, overrides), overrides=overrides, seed=seed,
        device="auto", created=0.0, host="h",
    )  # fmt: skip
    started = RunStarted(
        pid=1, host="h", device=device, device_name=device, num_threads=1, versions={"torch": torch},
        precision="fp32", **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return RunSide(info, started)


def named(*sides: RunSide) -> dict[str, tuple[str | None, ...]]:
    return {each.field: each.values for each in differences(sides)}


def test_runs_that_differ_in_nothing_but_seed() -> None:
    found = differences([side(seed=0), side(seed=1), side(seed=1)])
    assert found == [Difference("seed", ("0", "1", "1"))]
    assert sentence(found, 3) == "These 3 runs differ in nothing but seed."
    assert sentence(differences([side(), side()]), 2).startswith("These 2 runs differ in nothing that is recorded")
    assert sentence(differences([side(seed=1), side(device="cuda:0")]), 2).endswith("nothing but seed and device.")


def test_every_field_that_differs_is_told_in_the_presets_order_with_the_machine_last() -> None:
    found = named(
        side("vgg-custom", "optimizer.lr=0.05", torch="2.5", seed=3, changes=("train.epochs=40",)),
        side("vgg-custom", "data.image_size=32", "model.dropout=0.5"),
    )
    assert list(found) == [
        "data.image_size", "model.dropout", "optimizer.lr", "changed on resume", "seed", "versions.torch",
    ]  # fmt: skip
    assert found["optimizer.lr"] == ("0.05", "0.1")
    assert found["changed on resume"] == ("train.epochs=40", None)


def test_fields_that_only_one_network_has_are_absent_in_the_other() -> None:
    found = named(side("basenet"), side("vgg-custom"))
    assert found["model.network"] == ("basenet", "vgg")
    assert found["model.head"] == (None, "[4096]")
    assert found["preset"] == ("basenet", "vgg-custom")
    assert not set(found) & {"title", "summary", "group", "report"}


@pytest.mark.parametrize("p", ["0.25", "0.75"])
def test_a_number_inside_an_augmentation_is_a_difference(p: str) -> None:
    augment = 'train.augment=[{{op="horizontal-flip", p={}}}]'
    found = named(side("basenet", augment.format(0.5)), side("basenet", augment.format(p)))
    assert found == {"train.augment": ("horizontal-flip", f"horizontal-flip p {p}")}


def test_stages_are_compared_one_by_one() -> None:
    found = named(side("ablation/step-15"), side("ablation/step-14"))
    assert any(name.startswith("stages[1].") for name in found)


def test_a_run_that_never_began_is_compared_by_what_was_asked() -> None:
    begun = side()
    assert named(begun, RunSide(begun.info, None))["device"] == ("cpu", "auto")


def test_the_table_is_aligned_wraps_and_shows_no_control_characters() -> None:
    found = [Difference("model.blocks", ("a " * 40, "x\x1b[2Jy")), Difference("seed", ("0", None))]
    lines = difference_table(found, ["one", "two"], most=20)
    assert lines[0].index("two") == lines[1].index("x")
    assert lines[-1].split() == ["seed", "0", "–"]
    assert "\x1b" not in "".join(lines)
    assert max(map(len, lines)) < 60
    assert json.loads(msgspec.json.encode(found))[1] == {"field": "seed", "values": ["0", None]}


def test_copying_through_tmux_doubles_every_escape() -> None:
    assert through_tmux(copying("/runs/a")) == "\x1bPtmux;\x1b\x1b]52;c;L3J1bnMvYQ==\a\x1b\\"
