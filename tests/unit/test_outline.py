"""Outlines: the same as the whole state but for the curves, with little decoded."""

from pathlib import Path

import msgspec
import pytest

from engine.journal.events import AnyEvent, DeviceSampled, HostSample, RunFinished, RunStarted
from engine.journal.jsonl import EventWriter
from engine.journal.outline import forget_curves, outline_reader, read_outline
from engine.journal.state import RunState, fold, worked_s
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


def worker(*uptimes: float, took_s: float | None = None) -> list[AnyEvent]:
    """Return the events of a worker that told these uptimes, and ended after `took_s` seconds or was lost."""
    start = RunStarted(
        pid=1, host="here", device="cpu", device_name="CPU", precision="fp32", num_threads=1, versions={}
    )
    host = HostSample(memory_used_bytes=1, memory_total_bytes=2, process_rss_bytes=1)
    beats = [DeviceSampled(host=host, worker_s=uptime) for uptime in uptimes]
    if took_s is None:
        return [*beats[:-1], start, *beats[-1:]]
    return [*beats, start, RunFinished(outcome="failed", reason="", epoch=0, global_step=0, seconds=took_s)]


WORKERS = {
    "failed, failed, went on": (
        [
            worker(1, 40, took_s=43.5),
            worker(1, 36, took_s=36.7),
            worker(1, 18, took_s=18.9),
            worker(1, 27, took_s=39.5),
        ],
        43.5 + 36.7 + 18.9 + 39.5,
    ),
    "an end before a reading": ([worker(1, 9, took_s=10), worker(took_s=3), worker(1, 4, took_s=5)], 18),
    "an end before the next one's first reading": ([worker(0.1, took_s=0.2), worker(0.4, 7, took_s=8)], 8.2),
    "lost": ([worker(1, 5, 20, 30), worker(1, 2, 3, 40, 50), worker(1, 2, 60, took_s=61)], 30 + 50 + 61),
    "lost, and slower to begin than it has lived": ([worker(1, 2, 5), worker(0.5, 8, 10), worker(2, 20)], 35),
}


@pytest.mark.parametrize("name", WORKERS)
@pytest.mark.parametrize("is_read_by_line", [False, True])
def test_workers_have_worked_as_long_in_an_outline_as_in_the_whole(
    tmp_path: Path, name: str, is_read_by_line: bool
) -> None:
    workers, seconds = WORKERS[name]
    path, state = tmp_path / "events.jsonl", RunState()
    writer, reader = EventWriter(path), outline_reader(path)
    written = []
    for event in [event for events in workers for event in events]:
        written.append(writer.write(event))
        if is_read_by_line:
            fold(reader.read(), state)
            forget_curves(state)
    outline = state if is_read_by_line else read_outline(path)
    assert worked_s(fold(written), written[-1].time) == pytest.approx(seconds)
    assert worked_s(outline, written[-1].time) == pytest.approx(seconds)
