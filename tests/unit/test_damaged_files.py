"""What `make fuzz` found, one test a mended fault."""

import os
from pathlib import Path

import msgspec
import pytest

from engine.journal import events
from engine.journal.jsonl import EventWriter, command_reader, event_reader, read_events
from engine.queue import runner_process
from engine.runs import delete, predictions, run_dir
from engine.runs.find_run import find_run
from engine.runs.predictions import Predictions
from engine.runs.run_dir import RunDir
from engine.shared.image_listing import list_images
from presets import catalog
from presets.errors import CifartuiError
from tests.ui.sample_run import NOW, SampleRun
from tui.cli.run_page import run_page
from tui.data.run_detail import MOST_STEPS, detail_and_state

DEEP = b"[" * 30_000
NOT_UTF8 = b'{"pid":1,"host":"\xfa"}'


@pytest.mark.parametrize("content", [DEEP, NOT_UTF8, b'{"pid":"\x00'])
def test_a_lock_that_says_nothing_sensible_is_nobodys(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "worker.lock").write_bytes(content)
    (tmp_path / "queue-runner.lock").write_bytes(content)
    assert RunDir(tmp_path).read_mark() is None
    assert runner_process.runner_mark(tmp_path) is None


@pytest.mark.parametrize("content", [DEEP, b"\xfa", b'{"preset":{"sum\\u0000mary":1}}', b'{"' + b"x" * 5000 + b'":1}'])
def test_a_damaged_run_file_is_told_in_a_short_plain_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(CifartuiError, match=r"run\.json cannot be read") as told:
        RunDir(tmp_path).read_info()
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 600


def test_a_line_that_nests_too_deeply_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    path.write_bytes(DEEP + b"\n" + b'{"type":"Pause","id":"x"}\n')
    assert len(command_reader(path).read()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"global_step": 10**30}, {"global_step": -1}, {"epoch": 2**62}, {"time": 1e308}, {"time": -1e9},
        {"loss": 1e300}, {"step": 10**400},
    ],
)  # fmt: skip
def test_numbers_that_no_run_has_are_a_damaged_line(tmp_path: Path, change: dict[str, object]) -> None:
    run = SampleRun(tmp_path).begin().prepare().train_epoch(1)
    lines = run.folder.events.read_bytes().splitlines()
    number, line = next((number, line) for number, line in enumerate(lines) if b"StepsTrained" in line)
    changed = repr({**msgspec.json.decode(line), **change}).replace("'", '"').encode()
    lines[number] = changed
    run.folder.events.write_bytes(b"\n".join(lines) + b"\n")
    reader = event_reader(run.folder.events)
    assert len(reader.read()) == len(lines) - 1
    assert reader.num_skipped == 1
    assert run_page(*detail_and_state(run.folder, NOW, MOST_STEPS), 100)


def test_an_epoch_of_no_batches_divides_nothing(tmp_path: Path) -> None:
    run = SampleRun(tmp_path).begin().prepare(steps_per_epoch=0).train_epoch(1)
    assert run.folder.read_state().steps


@pytest.mark.parametrize("name", ["x" * 300, "\udcff", "a\x1b[2J"])
def test_names_that_no_folder_has_are_refused_in_plain_words(tmp_path: Path, name: str) -> None:
    run_dir.create(tmp_path, "demo", preset=catalog.load("demo"), seed=0, device="cpu")
    for ask in (find_run, delete.check_deletable):
        with pytest.raises(CifartuiError) as told:
            ask(tmp_path, name)
        assert str(told.value).isprintable()
        assert len(str(told.value)) < 600


def test_a_value_that_is_not_utf8_leaves_no_half_a_run(tmp_path: Path) -> None:
    with pytest.raises(CifartuiError, match="not UTF-8"):
        run_dir.create(tmp_path, "demo", preset=catalog.load("demo"), seed=0, device="cpu", overrides=("\udcff",))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", [{"predicted": [0, 7]}, {"true": [0, -1]}, {"confidence": [0.5]}, {"true": [0]}])
def test_predictions_of_classes_that_are_not_are_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    found = Predictions(
        run="x", split="val", checkpoint="best", epoch=1, global_step=1, class_names=("a", "b"), image_size=1,
        true=(0, 1), predicted=(1, 1), confidence=(0.5, 0.25),
    )  # fmt: skip
    run = RunDir(tmp_path)
    predictions.write(run, found, bytes(6))
    assert predictions.read(run, "val") == found
    text, _ = predictions.paths(run, "val")
    text.write_bytes(msgspec.json.encode({**msgspec.to_builtins(found), **change}))
    with pytest.raises(CifartuiError, match="delete it, and it will be made again"):
        predictions.read(run, "val")


def test_an_event_that_names_a_file_of_odd_bytes_is_told_all_the_same(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "events.jsonl")
    writer.write(events.Alerted(severity="notice", kind="data", text="cannot be read: \udcff.png", advice="\x1b[2J"))
    writer.write(events.RunFinished(outcome="failed", reason="\udcfe", epoch=0, global_step=0))
    writer.close()
    alert, end = read_events(tmp_path / "events.jsonl")
    assert isinstance(alert, events.Alerted)
    assert isinstance(end, events.RunFinished)
    assert (alert.text, end.reason) == ("cannot be read: \ufffd.png", "\ufffd")
    assert (alert.seq, end.seq) == (1, 2)


def test_classes_whose_folders_have_odd_names_have_plain_ones(tmp_path: Path) -> None:
    names = [os.fsdecode(name) for name in (b"a\x1b[2J", b"b\n", b"c\xff", b"oak")]
    for part in ("train", "test"):
        for name in names:
            folder_of_class = tmp_path / part / name
            folder_of_class.mkdir(parents=True)
            (folder_of_class / "x.png").write_bytes(b"")
    listing = list_images(tmp_path)
    assert listing.class_names == ("a␛[2J", "b␊", "c\\xff", "oak")
    assert listing.train.names[2] == f"train/{names[2]}/x.png"
    assert listing.train.labels == (0, 1, 2, 3)
