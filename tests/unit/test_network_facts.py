"""What is known of a preset's network without torch: shipped, remembered, or asked for."""

import threading
from pathlib import Path

import msgspec
import pytest

from engine.models.describe import Question, answer, describe
from presets import catalog, schema
from presets.errors import CifartuiError
from presets.schema import Preset
from tui.data import network_facts
from tui.data.torch_process import run_module

SHIPPED = {
    network_facts.key_of(listed.preset, network_facts.num_classes(listed.preset, None)[0]): listed
    for listed in catalog.list_presets()
    if listed.preset is not None and listed.path.is_relative_to(network_facts.SHIPPED.parent)
}


def mine(**changes: object) -> Preset:
    fields = {
        "title": "mine",
        "data": schema.Data(dataset="cifar100"),
        "model": schema.Vgg(blocks=((8,),), pools=("avg",)),
        "train": schema.Train(epochs=1, batch_size=4),
        "optimizer": schema.Sgd(lr=0.1, momentum=0.9),
    }
    return Preset(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """An empty cache, and every question that is asked of a process with torch (answered in this one)."""
    asked: list[Question] = []

    def answer_here(_module: str, *, stdin: bytes, **_how: object) -> bytes:
        new = msgspec.json.decode(stdin, type=list[Question])
        asked.extend(new)
        return msgspec.json.encode([answer(question) for question in new])

    monkeypatch.setattr("tui.data.torch_process.run_module", answer_here)
    monkeypatch.setenv("CIFARTUI_CACHE", str(tmp_path / "cache"))
    return asked


def test_the_shipped_file_holds_every_shipped_preset_and_no_other() -> None:
    """Where this fails: python -m docs.facts."""
    assert network_facts.shipped().keys() == SHIPPED.keys()


@pytest.mark.slow
@pytest.mark.parametrize("key", SHIPPED, ids=[listed.name for listed in SHIPPED.values()])
def test_what_is_shipped_is_what_is_computed(key: str) -> None:
    """Where this fails: python -m docs.facts. Memory follows torch's ways of doing things, so nearly is enough."""
    preset, found = SHIPPED[key].preset, network_facts.shipped()[key]
    assert preset is not None
    real = describe(preset, found.num_classes)
    assert found.layer_table() == real.layers
    assert (found.num_parameters, found.num_trainable) == (real.num_parameters, real.num_trainable)
    assert found.flops_per_image == real.flops_per_image
    assert found.step_memory(preset.train.precision, on_gpu=False).total == pytest.approx(real.total_bytes, rel=0.03)


def test_every_shipped_preset_is_known_without_asking(questions: list[Question]) -> None:
    for listed in SHIPPED.values():
        assert listed.preset is not None
        assert network_facts.known(listed.preset, None) is not None, listed.name
    assert not questions


def test_an_answer_is_asked_for_once(questions: list[Question]) -> None:
    preset = mine()
    assert network_facts.known(preset, None) is None
    found = network_facts.compute(preset, None)
    assert found.num_parameters == 3 * 9 * 8 + 8 + 16 + 8 * 100 + 100
    assert found.memory_half.total < found.memory.total
    assert network_facts.known(preset, None) == found
    assert len(questions) == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"network": 3}'])
def test_a_damaged_answer_is_ignored_and_written_anew(questions: list[Question], content: bytes) -> None:
    found = network_facts.compute(mine(), None)
    (file,) = network_facts.cache_folder().iterdir()
    file.write_bytes(content)
    assert network_facts.known(mine(), None) is None
    assert network_facts.compute(mine(), None) == found
    assert network_facts.known(mine(), None) == found
    assert [path.name for path in network_facts.cache_folder().iterdir()] == [file.name]


def test_a_damaged_shipped_file_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_facts, "SHIPPED", tmp_path / "facts.json")
    assert network_facts.shipped() == {}
    network_facts.SHIPPED.write_text('{"a": {}}')
    assert network_facts.shipped() == {}


def test_a_cache_that_cannot_be_written_costs_only_time(
    questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CIFARTUI_CACHE", str(tmp_path / "file"))
    assert network_facts.compute(mine(), None).num_parameters


def test_the_key_follows_what_counts_and_nothing_else() -> None:
    key = network_facts.key_of(mine(), 100)
    same = [
        mine(title="other", summary="else"),
        mine(optimizer=schema.Sgd(lr=0.5, momentum=0.1, weight_decay=0.1)),
        mine(train=schema.Train(epochs=9, batch_size=4, precision="bf16", augment=(schema.HorizontalFlip(),))),
    ]
    others = [
        mine(train=schema.Train(epochs=1, batch_size=5)),
        mine(data=schema.Data(dataset="cifar100", image_size=64)),
        mine(optimizer=schema.Sgd(lr=0.1)),
        mine(optimizer=schema.AdamW()),
        mine(model=schema.Vgg(blocks=((9,),), pools=("avg",))),
    ]
    assert {network_facts.key_of(preset, 100) for preset in same} == {key}
    assert len({key, network_facts.key_of(mine(), 200), *(network_facts.key_of(preset, 100) for preset in others)}) == 7


def test_weights_do_not_change_what_a_network_is() -> None:
    keys = {
        network_facts.key_of(mine(model=schema.Resnet18(weights=weights)), 100) for weights in (None, "IMAGENET1K_V1")
    }
    assert len(keys) == 1


def test_why_there_is_no_answer_is_said(questions: list[Question]) -> None:
    with pytest.raises(CifartuiError, match="32×32"):
        network_facts.compute(mine(model=schema.BaseNet(), data=schema.Data(dataset="cifar100", image_size=64)), None)
    assert not network_facts.cache_folder().exists()


def test_class_folders_are_counted(questions: list[Question], tmp_path: Path) -> None:
    folder = tmp_path / "animals"
    preset = mine(data=schema.Data(dataset="class-folders", path=str(folder)))
    assert network_facts.num_classes(preset, None) == (100, True)
    for name in ("ant", "bee"):
        (folder / "train" / name).mkdir(parents=True)
        (folder / "train" / name / "1.jpg").touch()
    assert network_facts.num_classes(preset, None) == (2, False)
    assert network_facts.compute(preset, None).layers[-1].out_channels == 2


def test_precision_decides_which_memory_counts() -> None:
    found = network_facts.shipped()[next(key for key, listed in SHIPPED.items() if listed.name == "vgg-custom")]
    assert found.step_memory("auto", on_gpu=True) == found.step_memory("fp16", on_gpu=False) == found.memory_half
    assert found.step_memory("auto", on_gpu=False) == found.step_memory("fp32", on_gpu=True) == found.memory
    assert found.memory_half.total < 0.7 * found.memory.total


def test_a_withdrawn_question_ends_its_process() -> None:
    stop, ended = threading.Event(), threading.Event()

    def wait() -> None:
        with pytest.raises(CifartuiError, match="withdrawn"):
            run_module("timeit", ["-n1", "-r1", "import time; time.sleep(600)"], stop=stop)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    stop.set()
    assert ended.wait(10)


def test_background_questions_have_the_lowest_priority() -> None:
    stop = threading.Event()
    giving_up = threading.Timer(20, stop.set)
    giving_up.start()
    run_module(
        "timeit",
        ["-n1", "-r1", "import os, time\nwhile os.nice(0) < 19: time.sleep(0.01)"],
        stop=stop,
        in_background=True,
    )
    giving_up.cancel()
