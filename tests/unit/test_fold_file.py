"""The fold kept beside a long journal: what was folded is not read again, and no other journal's fold is believed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.journal import events, fold_file
from engine.journal.events import AnyEvent
from engine.journal.fold_file import fold_path, keep_up, read_folded, start_from_fold, unfolded_bytes
from engine.journal.jsonl import EventWriter, read_events
from engine.journal.outline import read_outline
from engine.journal.series import StepSeries
from engine.journal.state import RunState, fold
from engine.runs.run_dir import RunDir
from engine.training.alerts import LearningWatch
from engine.training.resume import look_back
from tests import every
from tests.ui.sample_run import NOW, SampleRun
from tests.unit.test_fold import everything, journals
from tui.data.run_detail import run_detail


@pytest.fixture(autouse=True)
def every_byte_is_worth_a_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_file, "WORTH_BYTES", 1)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    with SampleRun(tmp_path).begin().prepare() as sample:
        for epoch in (1, 2, 3):
            sample.train_epoch(epoch, gpu=True).save(epoch)
    return sample.folder


def truth(run: RunDir) -> dict[str, Any]:
    return everything(fold(read_events(run.events)))


def write_line(run: RunDir) -> bytes:
    writer = EventWriter(run.events)
    line = msgspec.json.encode(writer.write(events.Paused(global_step=1)))
    writer.close()
    return line


def test_what_was_folded_is_not_read_again(run: RunDir, reads: list[int]) -> None:
    size = run.events.stat().st_size
    first, _ = read_folded(run.events)
    assert sum(reads) >= size
    line = write_line(run)
    reads.clear()
    again, reader = read_folded(run.events)
    samples = fold_file._TAIL_BYTES + fold_file._NUM_SAMPLES * fold_file._SAMPLE_BYTES
    assert max(reads) <= max(fold_file._TAIL_BYTES, len(line) + 1)
    assert len(reads) <= 2 * (fold_file._NUM_SAMPLES + 1) + 3
    assert sum(reads) <= 2 * samples + len(line) + 1
    assert everything(again) == truth(run)
    assert reader.offset == run.events.stat().st_size
    assert first.epochs == again.epochs


@pytest.mark.parametrize("event", every.EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_survives_in_a_fold(tmp_path: Path, event: AnyEvent) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    for _ in range(3):
        writer.write(event)
    state, _ = read_folded(path)
    again, reader = start_from_fold(path)
    assert reader.offset == path.stat().st_size
    assert everything(again) == everything(state)


@given(journals(), st.integers(0, 200))
def test_a_fold_and_what_follows_are_the_whole_journal(tmp_path_factory: Any, told: list[AnyEvent], end: int) -> None:
    path = tmp_path_factory.mktemp("run") / "events.jsonl"
    lines = [msgspec.json.encode(event) + b"\n" for event in told]
    path.write_bytes(b"".join(lines[:end]))
    read_folded(path)
    with path.open("ab") as file:
        file.writelines(lines[end:])
    state, _ = read_folded(path)
    assert everything(state) == everything(fold(read_events(path)))


def test_a_fold_goes_on_in_a_curve_that_is_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepSeries.__init__, "__defaults__", (256,))
    path = tmp_path / "events.jsonl"
    stage = next(event for event in every.EVENTS if isinstance(event, events.StageStarted))
    path.write_bytes(msgspec.json.encode(stage) + b"\n")
    lines = [
        msgspec.json.encode(
            events.StepsTrained(
                epoch=1, step=step, global_step=step, num_steps=1, num_images=1, loss=1.0 + step % 7, top1=0.5, lr=0.1,
                images_per_s=1.0, seq=step, time=float(step),
            )
        ) + b"\n"
        for step in range(1, 3000)
    ]  # fmt: skip
    for start in range(0, len(lines), 700):
        with path.open("ab") as file:
            file.writelines(lines[start : start + 700])
        state, _ = read_folded(path)
    whole = fold(read_events(path))
    assert len(state.steps) < 256
    assert state.steps.num_reports == len(lines)
    assert everything(state) == everything(whole)
    assert (state.steps.slot_steps, state.steps.num_thinned) == (whole.steps.slot_steps, whole.steps.num_thinned)
    assert len(RunDir(tmp_path).read_state(every_step=True).steps) == len(lines)


def test_lists_pages_and_outlines_go_by_the_fold(run: RunDir, reads: list[int]) -> None:
    page, outline = run_detail(run, NOW), read_outline(run.events)
    size = run.events.stat().st_size
    assert fold_path(run.events).exists()
    big = bytes(2_000_000)  # a line that is none, before which everything is folded
    with run.events.open("ab") as file:
        file.write(b"\n" + big + b"\n")
    read_folded(run.events)
    reads.clear()
    again = run_detail(run, NOW)
    assert msgspec.structs.replace(again, summary=page.summary) == page
    assert read_outline(run.events).epochs == outline.epochs
    assert sum(reads) < size + 500_000


# --- what is not believed -----------------------------------------------------------------------------


def in_place(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def cut(run: RunDir) -> None:
    os.truncate(run.events, run.events.read_bytes()[:-1].rfind(b"\n") + 1)


def cut_and_grow(run: RunDir) -> None:
    size = run.events.stat().st_size
    cut(run)
    while run.events.stat().st_size <= size:
        write_line(run)


def change_an_epoch(run: RunDir) -> None:
    content = run.events.read_bytes()
    at = content.index(b'"val_top1":0.') + len(b'"val_top1":0.')
    in_place(run.events, at, b"9")


def replace(run: RunDir) -> None:
    about, content = run.events.stat(), run.events.read_bytes()
    run.events.rename(run.path / "before.jsonl")
    run.events.write_bytes(content.replace(b'"val_top1":0.', b'"val_top1":0.9'))
    os.utime(run.events, ns=(about.st_atime_ns, about.st_mtime_ns))


JOURNALS: dict[str, Callable[[RunDir], object]] = {
    "cut short": cut,
    "cut short, then longer than before": cut_and_grow,
    "changed in the middle, the size as before": change_an_epoch,
    "replaced": replace,
    "emptied": lambda run: os.truncate(run.events, 0),
}


@pytest.mark.parametrize("change", JOURNALS)
def test_the_fold_of_a_journal_that_was_rewritten_is_made_anew(run: RunDir, change: str) -> None:
    read_folded(run.events)
    JOURNALS[change](run)
    assert start_from_fold(run.events)[1].offset == 0
    state, _ = read_folded(run.events)
    assert everything(state) == truth(run)
    assert everything(start_from_fold(run.events)[0]) == truth(run)


def altered(run: RunDir, **fields: object) -> bytes:
    header, _, body = fold_path(run.events).read_bytes().partition(b"\n")
    return msgspec.json.encode({**msgspec.json.decode(header), **fields}) + b"\n" + body


def with_body(run: RunDir, change: Callable[[dict[str, Any]], object]) -> bytes:
    _, _, body = fold_path(run.events).read_bytes().partition(b"\n")
    state = msgspec.msgpack.decode(body)
    change(state)
    body = msgspec.msgpack.encode(state)
    return altered(run, content=fold_file._digest(memoryview(body))).partition(b"\n")[0] + b"\n" + body


FOLDS: dict[str, Callable[[RunDir], bytes]] = {
    "empty": lambda run: b"",
    "NULs": lambda run: bytes(10_000),
    "half": lambda run: fold_path(run.events).read_bytes()[:5000],
    "a byte changed": lambda run: fold_path(run.events).read_bytes()[:-1] + b"\xff",
    "of another version": lambda run: altered(run, format=fold_file._FORMAT + 1),
    "of more than there is": lambda run: altered(run, offset=10**12),
    "of a place within a line": lambda run: altered(run, offset=100),
    "a state that is none": lambda run: with_body(run, lambda state: state.update(phase="won")),
    "uneven columns": lambda run: with_body(run, lambda state: state["steps"].update(columns=[b"", *[bytes(8)] * 4])),
    "half a number": lambda run: with_body(run, lambda state: state["steps"].update(columns=[bytes(7)] * 5)),
    "no columns": lambda run: with_body(run, lambda state: state.update(steps=[])),
    "a list that is none": lambda run: with_body(run, lambda state: state.update(rates=3)),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDS)
def test_a_fold_that_is_damaged_is_made_anew(run: RunDir, kind: str) -> None:
    read_folded(run.events)
    fold_path(run.events).write_bytes(FOLDS[kind](run))
    assert start_from_fold(run.events)[1].offset == 0
    assert everything(read_folded(run.events)[0]) == truth(run)
    assert start_from_fold(run.events)[1].offset == run.events.stat().st_size


def test_a_copy_of_a_run_is_folded_anew(run: RunDir, tmp_path: Path) -> None:
    read_folded(run.events)
    copy = RunDir(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)
    assert start_from_fold(copy.events)[1].offset == 0
    assert everything(read_folded(copy.events)[0]) == truth(run)


# --- who keeps it -------------------------------------------------------------------------------------


def test_a_torn_line_that_a_resumed_worker_cuts_off_leaves_the_fold_as_it_is(run: RunDir, reads: list[int]) -> None:
    with run.events.open("ab") as file:
        file.write(b'{"type":"StepsTrained","epoch":4,' + bytes(5000))
    read_folded(run.events)
    EventWriter(run.events).close()
    assert start_from_fold(run.events)[1].offset == run.events.stat().st_size
    write_line(run)
    assert everything(read_folded(run.events)[0]) == truth(run)


def test_opening_a_journal_to_write_does_not_change_its_time(run: RunDir) -> None:
    before = run.events.stat().st_mtime_ns
    EventWriter(run.events).close()
    assert run.events.stat().st_mtime_ns == before


def test_a_short_journal_has_no_fold(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_file, "WORTH_BYTES", run.events.stat().st_size + 1)
    read_folded(run.events)
    keep_up(run.events)
    assert not fold_path(run.events).exists()


def test_a_worker_keeps_the_fold_as_its_journal_grows(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    size = run.events.stat().st_size
    monkeypatch.setattr(fold_file, "WORTH_BYTES", size // 2)
    keep_up(run.events)
    assert unfolded_bytes(run.events) == 0
    made = fold_path(run.events).stat().st_ino
    write_line(run)
    keep_up(run.events)
    assert fold_path(run.events).stat().st_ino == made
    assert 0 < unfolded_bytes(run.events) < size // 2
    while unfolded_bytes(run.events) < size // 2:
        write_line(run)
    keep_up(run.events)
    assert unfolded_bytes(run.events) == 0
    keep_up(run.path / "gone" / "events.jsonl")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError(), ValueError()])
def test_no_training_ends_for_a_fold(run: RunDir, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(fold_file, "keep_fold", fail)
    keep_up(run.events)
    assert not fold_path(run.events).exists()


def test_it_is_private_and_leaves_nothing_beside_it(run: RunDir) -> None:
    before = {path.name for path in run.path.iterdir()}
    read_folded(run.events)
    assert {path.name for path in run.path.iterdir()} - before == {"events.fold"}
    assert fold_path(run.events).stat().st_mode & 0o777 == 0o600


@given(journals(), journals())
def test_a_watch_that_looks_back_by_the_fold_says_what_one_that_saw_everything_says(
    tmp_path_factory: Any, before: list[AnyEvent], after: list[AnyEvent]
) -> None:
    folder = RunDir(tmp_path_factory.mktemp("run"))
    folder.events.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in before))
    looked, saw = LearningWatch(), LearningWatch()
    look_back(folder, looked, resume=True)
    for event in read_events(folder.events):
        saw.see(event)
    assert [looked.see(event) for event in after] == [saw.see(event) for event in after]


def test_a_state_of_every_step_is_not_kept(run: RunDir) -> None:
    assert run.read_state(every_step=True).steps.most is None
    assert not fold_path(run.events).exists()
    assert RunState().steps.most is not None
