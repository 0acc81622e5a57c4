"""What is typed before a start: overrides, and errors under the field that they are about."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.runs.run_options import RunOptions
from engine.shared.data_path import NamedData
from engine.shared.device_names import is_device_name
from presets import catalog
from presets.errors import CifartuiError
from tests import bird_files
from tests.ui.conftest import NO_GPU, ONE_GPU
from tui.data.environment import Environment
from tui.data.start_form import (
    Checked,
    Field,
    FoundFiles,
    NeededFiles,
    check,
    device_warnings,
    fields_of,
    find_files,
    typed_for,
)


def asked(names: Sequence[str], **typed: str) -> Checked:
    fields = fields_of([catalog.load(name) for name in names])
    return check(names, catalog.load, fields, {field.id: field.initial for field in fields} | typed)


def by_id(*names: str) -> dict[str, Field]:
    return {field.id: field for field in fields_of([catalog.load(name) for name in names])}


def test_fields_hold_what_the_preset_has() -> None:
    fields = by_id("vgg-custom")
    assert {name: field.initial for name, field in fields.items()} == {
        "data": "", "epochs": "30", "batch": "64", "lr": "0.1", "size": "128", "seed": "0", "seeds": "1",
        "device": "auto", "devices": "1", "changes": "",
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


def test_several_seeds_are_one_order() -> None:
    assert asked(["basenet"], seed="4", seeds="2").options == RunOptions(seed=4, seeds=(4, 5))
    assert asked(["basenet"], seeds="1, 2,5").options == RunOptions(seeds=(1, 2, 5))
    assert asked(["basenet"], seed="4", seeds="1").options == RunOptions(seed=4)
    assert asked(["basenet"], seeds="many").errors == {
        "seeds": "seeds cannot be 'many'; write how many, such as 3, or which, such as 1,2,5."
    }
    assert set(asked(["basenet"], seed="x", seeds="2").errors) == {"seed"}


@pytest.mark.parametrize("seed", ["2147483648", "1.5", "²", "1" * 500])
def test_odd_seeds_are_refused(seed: str) -> None:
    assert "seed" in asked(["basenet"], seed=seed).errors


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:0", "cuda:127"])
def test_these_are_names_of_devices(device: str) -> None:
    assert is_device_name(device)


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:٣", "cuda:1234", "cuda:0\n", "CPU"])
def test_these_are_none(device: str) -> None:
    assert not is_device_name(device)


# --- files and devices -------------------------------------------------------------------------------


def looked_at(names: Sequence[str], **typed: str) -> Checked:
    """Return what is said once the files have been looked at, as the dialog does."""
    fields = fields_of([catalog.load(name) for name in names])
    texts = {field.id: field.initial for field in fields} | typed
    needed = check(names, catalog.load, fields, texts, lambda _: None).waits_for
    assert needed is not None
    found = find_files(needed, Environment(), None, lambda: None)
    return check(names, catalog.load, fields, texts, {needed: found}.get)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        for number in range(20):
            bird_files.save(tmp_path / "photos" / name / f"{number}.png", (0, 0, 0))
    return tmp_path / "photos"


def test_without_a_look_at_the_files_there_is_nothing_to_start() -> None:
    fields = fields_of([catalog.load("demo")])
    checked = check(["demo"], catalog.load, fields, {"data": "/photos"}, lambda _: None)
    assert (checked.options, checked.errors) == (None, {})
    assert checked.waits_for == NeededFiles("/photos", ((catalog.load("demo").data, catalog.load("demo").model),))


def test_data_typed_is_in_the_order_and_in_the_presets(photos: Path) -> None:
    checked = looked_at(["basenet", "photos/frozen"], data=f" {photos} ", seed="3")
    assert checked.options == RunOptions(overrides=NamedData("class-folders", str(photos)).overrides, seed=3)
    assert [preset.data.path for preset in checked.presets] == [str(photos)] * 2


def test_a_data_set_that_is_asked_for_by_name_is_found_beside_others(photos: Path) -> None:
    asked = []

    def data_at(named: str, _poll: object, _labels: object, dataset: object) -> NamedData:
        asked.append(dataset)
        return NamedData("class-folders", named)

    for changes in ("", "data.dataset=mnist"):
        typed = {"data": str(photos), "changes": changes}
        checked = check(["demo"], catalog.load, fields_of([catalog.load("demo")]), typed, lambda _: None)
        assert checked.waits_for is not None
        find_files(checked.waits_for, Environment(data_at=data_at), None, lambda: None)
    assert asked == [None, "mnist"]


def test_mistakes_in_files_are_said_in_the_words_of_the_dialog(photos: Path) -> None:
    gone = looked_at(["photos/frozen"], data=f"{photos}/gone", changes=f"model.weights={photos}/gone.pt")
    assert gone.options is None
    assert gone.errors["data"] == f"{photos}/gone does not exist; name a folder of images."
    assert gone.errors["changes"].startswith(f"The weights {photos}/gone.pt do not exist; name another file")
    nothing = looked_at(["photos/frozen"])
    assert nothing.errors == {"data": "Type the path of your images: a folder with a folder for each class."}
    assert "type the path of the data here" in looked_at(["birds/resnet50-frozen"]).errors["data"]
    assert "--" not in " ".join([*gone.errors.values(), *nothing.errors.values()])


def test_data_with_nothing_to_validate_with_is_said_with_what_to_type(tmp_path: Path) -> None:
    for name in ("cat/2", "cat/8", "dog/1", "dog/6"):  # of these a tenth, by their names, is none
        bird_files.save(tmp_path / f"{name}.png", (0, 0, 0))
    names, data = ["photos/frozen", "photos/finetune"], str(tmp_path)
    assert looked_at(names, data=data).errors["changes"] == (
        f"data.validation = every-tenth takes none of the 4 training images in {tmp_path} for validation; "
        "set data.validation=0.7, add images, or put the class folders into train/, and some into val/."
    )
    of_preset = looked_at(["photos/frozen"], changes=f"data.path={data} data.validation=0.6").errors["changes"]
    assert of_preset.startswith("data.validation = 0.6 takes none of the 4 training images")
    for seeds in ({"seed": "4"}, {"seed": "4", "seeds": "2"}):
        assert looked_at(names, data=data, changes="data.validation=0.6", **seeds).options is not None
    assert looked_at(names, data=data, changes="data.validation=0.6", seeds="4,0").options is None
    assert looked_at(names, data=data, changes="data.validation=0.7").options is not None


def test_mixed_data_is_refused_without_the_name_of_an_option(tmp_path: Path) -> None:
    for name in ("cat/1.jpg", "owl/1.jpg"):
        bird_files.save(tmp_path / name, (1, 2, 3))
    (tmp_path / "cifar-100-python.tar.gz").touch()
    said = looked_at(["photos/frozen"], data=str(tmp_path)).errors["data"]
    assert said.endswith("move CIFAR-100 elsewhere, or train with data.dataset=class-folders.")


def test_data_that_is_fetched_or_generated_is_no_mistake() -> None:
    assert looked_at(["demo", "basenet"]).options == RunOptions()
    assert looked_at(["basenet"], changes="data.dataset=cifar10").options == RunOptions(
        overrides=("data.dataset=cifar10",)
    )


def test_names_of_no_weights_are_refused_under_the_changes(photos: Path) -> None:
    checked = looked_at(["photos/frozen"], data=str(photos), changes="model.weights=imagenet")
    assert checked.errors["changes"].startswith("model.weights=imagenet: model.weights of efficientnet_b0 must be")


def test_two_paths_are_refused(photos: Path) -> None:
    assert looked_at(["demo"], data=str(photos), changes="data.path=/x").errors == {
        "changes": "data.path is set by the data field too; leave one of them out."
    }


def test_errors_of_the_changes_do_not_name_an_option() -> None:
    assert asked(["vgg-custom"], changes="train.epochs=x").errors["changes"].startswith("train.epochs=x: train.epochs")
    assert asked(["vgg-custom"], lr="x" * 200).errors["lr"].startswith("optimizer.lr must be")


@pytest.mark.parametrize(
    ("device", "devices", "field", "said"),
    [
        ("cuda:1", 1, "device", "1 GPU is found here, so there is no cuda:1; the last one is cuda:0."),
        ("cuda", 2, "devices", "1 GPU is found here, and 2 are asked for."),
    ],
)
def test_gpus_that_are_not_there_are_a_warning(device: str, devices: int, field: str, said: str) -> None:
    options = RunOptions(device=device, devices=devices)
    assert device_warnings(options, ONE_GPU, None) == {field: said}
    assert "no NVIDIA driver on this machine" in device_warnings(options, NO_GPU, None)["device"]
    assert "CUDA_VISIBLE_DEVICES" in device_warnings(options, ONE_GPU, "")["device"]
    assert device_warnings(options, None, None) == {}


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda:0", "cuda"])
def test_devices_that_are_there_are_none(device: str) -> None:
    assert device_warnings(RunOptions(device=device), ONE_GPU, None) == {}


def test_the_options_of_a_run_are_filled_in_and_come_out_again(photos: Path) -> None:
    options = RunOptions(
        overrides=(*NamedData("class-folders", str(photos)).overrides, "train.epochs=3", "loss.label_smoothing=0.2",
                   'train.augment=[{op = "horizontal-flip"}]'),
        seed=4, device="cpu", devices=2,
    )  # fmt: skip
    typed = typed_for(fields_of([catalog.load("basenet")]), options)
    assert (typed["data"], typed["epochs"], typed["seed"]) == (str(photos), "3", "4")
    again = looked_at(["basenet"], **typed)
    assert again.options == options


def test_a_look_that_nobody_waits_for_ends(photos: Path) -> None:
    def end() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        find_files(NeededFiles(str(photos)), Environment(), None, end)
    assert find_files(NeededFiles(), Environment(), None, end) == FoundFiles()
    with pytest.raises(CifartuiError):
        Environment().data_at(f"{photos}/gone", end, None, None)
