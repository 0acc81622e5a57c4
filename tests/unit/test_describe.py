"""Networks described by a process of their own, and `cifartui presets`, which prints what it says."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from engine.models.describe import Answer, Question, answer, describe
from presets import catalog, schema
from tui.cli.main import cifartui
from tui.data.torch_process import run_module


def asked(name: str, model: schema.Model, image_size: int = 32, batch_size: int = 16) -> Question:
    preset = schema.Preset(
        title=name,
        data=schema.Data(dataset="cifar100", image_size=image_size),
        model=model,
        train=schema.Train(epochs=1, batch_size=batch_size),
        optimizer=schema.Sgd(lr=0.1, momentum=0.9),
    )
    return Question(name=name, preset=preset, num_classes=100)


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folders, empty, and descriptions made in this process, which has torch already."""

    def answer_here(_module: str, *, stdin: bytes, stop: object = None, in_background: bool = False) -> bytes:
        questions = msgspec.json.decode(stdin, type=list[Question])
        return msgspec.json.encode([answer(question) for question in questions])

    monkeypatch.setattr("tui.data.torch_process.run_module", answer_here)
    for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    for variable in ("CIFARTUI_DATA", "CIFARTUI_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cifartui, ["presets", *arguments])


@pytest.mark.slow
def test_a_process_answers_in_order_and_reads_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    questions = [
        asked("small", schema.BaseNet()),
        asked("impossible", schema.BaseNet(), image_size=64),
        asked("pretrained", schema.Resnet18(weights="IMAGENET1K_V1", frozen=True)),
        asked("lost", schema.Resnet18(weights="/nowhere/best.pt")),
    ]
    said = run_module("engine.models.describe", stdin=msgspec.json.encode(questions))
    small, impossible, pretrained, lost = msgspec.json.decode(said, type=list[Answer])
    assert [small.name, impossible.name, pretrained.name] == ["small", "impossible", "pretrained"]
    assert small.description is not None
    assert (small.description.network, small.description.num_parameters) == ("basenet", 28_022)
    assert impossible.description is None
    assert "32×32" in impossible.problem
    assert pretrained.description is not None
    assert pretrained.description.num_trainable == 513 * 100
    assert lost.description is not None
    assert not (tmp_path / "torch").exists()


def test_the_total_is_the_sum_of_the_parts_of_a_step_or_of_evaluation() -> None:
    found = describe(asked("", schema.BaseNet()).preset, 100)
    parts = msgspec.to_builtins(found.memory)
    evaluation = parts.pop("evaluation")
    assert sum(parts.values()) == found.memory.step < found.total_bytes
    assert found.total_bytes == parts["parameters"] + parts["optimizer_state"] + evaluation


def test_a_batch_that_cannot_be_normalised_is_refused_with_a_sentence() -> None:
    found = answer(asked("", schema.Resnet18(), batch_size=1))
    assert "train.batch_size to at least 2" in found.problem


def test_the_reports_table_is_printed_with_what_it_adds_up_to(at_home: Path) -> None:
    result = call("vgg-custom", "--layers")
    lines = result.stdout.splitlines()
    assert lines[0] == "Custom VGG: 128 px, 100 classes"
    rows = [line.split() for line in lines if line[:4].strip().isdecimal()]
    assert rows[0] == ["1", "conv", "3", "128→128", "3→64", "1,792"]
    assert rows[6] == ["7", "maxpool", "2", "128→64", "64→64"]
    assert rows[31] == ["32", "linear", "4096→100", "409,700"]
    assert len(rows) == 32
    assert "7,200,164" in result.stdout
    assert "6.71 GFLOP" in result.stdout
    assert "batch 64" in result.stdout


def test_a_frozen_network_says_how_little_is_trained(at_home: Path) -> None:
    assert "23,917,832 (409,800 trained)" in call("birds/resnet50-frozen", "--layers").stdout


def test_what_another_image_size_would_cost(at_home: Path) -> None:
    wide, narrow = (
        msgspec.json.decode(call("vgg-custom", "--layers", "--json", *overrides).stdout)
        for overrides in ((), ("--set", "data.image_size=64"))
    )
    assert narrow["layers"][0]["in_size"] == 64
    assert narrow["flops_per_image"] < wide["flops_per_image"] / 3.9
    assert narrow["total_bytes"] < wide["total_bytes"] / 3
    assert "image_size = 64" in call("vgg-custom", "--set", "data.image_size=64").stdout


def test_class_folders_have_as_many_classes_as_folders(at_home: Path) -> None:
    overrides = ["--set", "data.dataset=class-folders", "--set", f"data.path={at_home}/animals"]
    absent = call("vgg-custom", "--layers", *overrides).stdout
    assert "100 classes (an assumption: the folders of images are not found" in absent
    packed = call("vgg-custom", "--layers", "--set", "data.dataset=class-folders", "--set", "data.path=/a b.zip").stdout
    assert "an assumption: cifartui data '/a b.zip' unpacks the archive and counts its classes" in packed
    for name in ("ant", "bee", "cow"):
        (at_home / "animals" / "train" / name).mkdir(parents=True)
        (at_home / "animals" / "train" / name / "1.jpg").touch()
    assert "3 classes\n" in call("vgg-custom", "--layers", *overrides).stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--layers",), "name it"),
        (("--set", "data.image_size=64"), "name it"),
        (
            ("networks/resnet18", "--layers", "--set", "model.stem=imagenet", "--set", "train.batch_size=1"),
            "at least 2",
        ),
    ],
)
def test_what_cannot_be_printed_is_refused_with_a_sentence(
    at_home: Path, arguments: tuple[str, ...], word: str
) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert word in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_groups_have_their_headings_and_broken_presets_are_yours(at_home: Path) -> None:
    folder = catalog.user_folder()
    folder.mkdir(parents=True)
    (folder / "broken.toml").write_text("title = 3\n")
    lines = call().stdout.splitlines()
    under: dict[str, list[str]] = {}
    for line in lines:
        if not line.startswith(" "):
            heading = line
        under.setdefault(heading, []).append(line.split()[0])
    assert under["yours:"] == ["yours:", "broken"]
    assert {"basenet", "vgg-custom"} <= set(under["report:"])
    rows: list[dict[str, Any]] = msgspec.json.decode(call("--json").stdout)
    assert len(rows) == len(lines) - len(under)
