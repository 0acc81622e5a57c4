"""Outlines: the same as the whole state but for the curves, with little decoded."""

from pathlib import Path

import msgspec
import pytest

from engine.journal.events import AnyEvent
from engine.journal.jsonl import EventWriter
from engine.journal.outline import outline_reader, read_outline
from tests import every
from tests.ui.sample_run import NOW, SampleRun
from tui.data.summary import summary_of


def test_an_outline_summarises_as_the_whole_journal_does(tmp_path: Path) -> None:
    with SampleRun(tmp_path).begin().prepare() as run:
        for epoch in (1, 2, 3):
            run.train_epoch(epoch)
        run.train_epoch(4, until=0.4)
        whole, outline = run.folder.read_state(), read_outline(run.folder.events)
    assert summary_of(run.folder, run.info, whole, NOW) == summary_of(run.folder, run.info, outline, NOW)
    assert whole.epochs == outline.epochs
    assert (whole.phase, whole.step, whole.last_time) == (outline.phase, outline.step, outline.last_time)
    assert len(whole.steps) > 100
    assert len(outline.steps) == 0


def test_a_part_of_an_epoch_ends_where_it_does_in_the_whole_state(tmp_path: Path) -> None:
    with SampleRun(tmp_path).begin().prepare() as run:
        run.train_epoch(1, until=0.5)
        run.complete_epoch(1)
        lines = run.folder.events.read_bytes().replace(b'"is_best":false', b'"is_best":false,"partial":true')
        run.folder.events.write_bytes(lines)
        assert read_outline(run.folder.events).epochs == run.folder.read_state().epochs
        assert read_outline(run.folder.events).epochs[0].epoch < 0.6


def test_few_of_many_steps_are_decoded(tmp_path: Path) -> None:
    with SampleRun(tmp_path).begin().prepare() as run:
        run.train_epoch(1)
        names = [type(event).__name__ for event in outline_reader(run.folder.events).read()]
    assert names.count("StepsTrained") == 1
    assert names.count("DeviceSampled") == 1
    assert len(msgspec.json.encode(names)) < 300


@pytest.mark.parametrize("event", every.EVENTS, ids=lambda event: type(event).__name__)
def test_of_frequent_events_the_last_is_read_and_of_the_others_all(tmp_path: Path, event: AnyEvent) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    written = [writer.write(event) for _ in range(3)]
    assert outline_reader(path).read() == (written[-1:] if event.frequent else written)


def test_frequent_events_are_told_apart_by_the_letters_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    frequent = list({type(event): event for event in every.EVENTS if event.frequent}.values())
    for event in frequent * 2:
        writer.write(event)
    assert [type(event) for event in outline_reader(path).read()] == [type(event) for event in frequent]
