"""What is typed before a start: overrides, and errors under the field that they are about."""

from collections.abc import Sequence

import pytest

from engine.runs.run_options import RunOptions
from engine.shared.device_names import is_device_name
from presets import catalog
from tui.data.start_form import Checked, Field, check, fields_of


def asked(names: Sequence[str], **typed: str) -> Checked:
    fields = fields_of([catalog.load(name) for name in names])
    return check(names, catalog.load, fields, {field.id: field.initial for field in fields} | typed)


def by_id(*names: str) -> dict[str, Field]:
    return {field.id: field for field in fields_of([catalog.load(name) for name in names])}


def test_fields_hold_what_the_preset_has() -> None:
    fields = by_id("vgg-custom")
    assert {name: field.initial for name, field in fields.items()} == {
        "epochs": "30", "batch": "64", "lr": "0.1", "size": "128", "seed": "0", "device": "auto", "devices": "1",
        "changes": "",
    }  # fmt: skip


def test_stages_are_scaled_as_a_whole() -> None:
    assert by_id("ablation/step-15")["epochs"].key == "train.epochs_scale"
    checked = asked(["ablation/step-15"], epochs="0.1")
    assert checked.options == RunOptions(overrides=("train.epochs_scale=0.1",))


def test_several_presets_show_what_they_have_in_common() -> None:
    fields = by_id("basenet", "vgg-custom")
    assert fields["epochs"].initial == ""
    assert "differ" in fields["epochs"].hint
    assert fields["device"].initial == "auto"
    checked = asked(["basenet", "vgg-custom"], epochs="2")
    assert checked.options == RunOptions(overrides=("train.epochs=2",))
    assert [preset.train.epochs for preset in checked.presets] == [2, 2]


@pytest.mark.parametrize("text", ["30", "", "  ", " 30 "])
def test_what_is_not_changed_is_no_override(text: str) -> None:
    assert asked(["vgg-custom"], epochs=text).options == RunOptions()


def test_everything_typed_is_in_the_order() -> None:
    checked = asked(
        ["vgg-custom"],
        epochs="3",
        lr="1e-3",
        seed="7",
        device="cuda:1",
        changes="optimizer.momentum=0.8 train.batch_size=8",
    )
    assert checked.options == RunOptions(
        overrides=("train.epochs=3", "optimizer.lr=1e-3", "optimizer.momentum=0.8", "train.batch_size=8"),
        seed=7,
        device="cuda:1",
    )
    assert checked.presets[0].train.batch_size == 8


def test_every_wrong_field_says_what_is_wrong_in_the_words_of_the_schema() -> None:
    checked = asked(["vgg-custom"], epochs="x", lr="0", size="3", seed="-1", device="tpu", changes="a=1")
    assert checked.options is None
    assert checked.errors["epochs"] == 'train.epochs must be a whole number from 1 to 100,000, not "x".'
    assert checked.errors["lr"] == "optimizer.lr must be a number above 0, not 0."
    assert "data.image_size" in checked.errors["size"]
    assert checked.errors["seed"] == 'seed must be a whole number from 0 to 2,147,483,647, not "-1".'
    assert checked.errors["device"] == 'device must be auto, cpu, cuda, cuda:N or mps, not "tpu".'
    assert "a is not a key" in checked.errors["changes"]
    assert "batch" not in checked.errors


@pytest.mark.parametrize(
    ("device", "devices", "said"),
    [
        ("cuda:1", "2", "cuda:1 is one device, and 2 are asked for"),
        ("mps", "2", "mps is one device"),
        ("auto", "0", "from 1 to 64"),
        ("auto", "65", "from 1 to 64"),
        ("auto", "two", "a whole number from 1 to 64"),
    ],
)
def test_devices_that_cannot_be_are_named(device: str, devices: str, said: str) -> None:
    checked = asked(["vgg-custom"], device=device, devices=devices)
    assert said in checked.errors["devices"]


def test_several_devices_are_in_the_order() -> None:
    assert asked(["vgg-custom"], device="cuda", devices="4").options == RunOptions(device="cuda", devices=4)


def test_what_is_wrong_only_together_is_said_under_the_changes() -> None:
    checked = asked(["vgg-custom"], size="32", changes="model.network=basenet data.normalize=7")
    assert set(checked.errors) == {"changes"}


def test_an_open_quotation_mark_is_named() -> None:
    assert asked(["basenet"], changes='train.epochs="3').errors == {"changes": "A quotation mark is not closed."}


def test_of_several_presets_the_one_that_refuses_is_named() -> None:
    checked = asked(["basenet", "vgg-custom"], size="64")
    assert checked.errors["size"].startswith("basenet: data.image_size must be 32")


def test_a_value_cannot_smuggle_in_another_key() -> None:
    assert "epochs" in asked(["basenet"], epochs="3 optimizer.lr=4").errors


@pytest.mark.parametrize("seed", ["2147483648", "1.5", "²", "1" * 500])
def test_odd_seeds_are_refused(seed: str) -> None:
    assert "seed" in asked(["basenet"], seed=seed).errors


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:127"])
def test_these_are_names_of_devices(device: str) -> None:
    assert is_device_name(device)


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:٣", "cuda:1234", "cuda:0\n", "CPU"])
def test_these_are_none(device: str) -> None:
    assert not is_device_name(device)
