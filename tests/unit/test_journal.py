from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.journal import commands, events
from engine.journal.jsonl import EventWriter, append_command, command_reader, event_reader, read_events


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_events_come_back_numbered_stamped_and_equal(path: Path) -> None:
    writer = EventWriter(path)
    written = [writer.write(events.Paused(global_step=3)), writer.write(events.Continued(global_step=3))]
    assert read_events(path) == written
    assert [event.seq for event in written] == [1, 2]
    assert all(event.time > 0 for event in written)


def test_the_journal_is_private(path: Path) -> None:
    EventWriter(path).write(events.Paused(global_step=0))
    assert path.stat().st_mode & 0o077 == 0


def test_a_reader_leaves_an_unfinished_line_for_later(path: Path) -> None:
    line = msgspec.json.encode(events.Paused(global_step=7)) + b"\n"
    path.write_bytes(line + line[:10])
    reader = event_reader(path)
    assert len(reader.read()) == 1
    assert reader.read() == []
    with path.open("ab") as file:
        file.write(line[10:])
    assert [event.global_step for event in reader.read()] == [7]  # type: ignore[union-attr]


def test_a_resuming_writer_cuts_a_torn_line_and_counts_on(path: Path) -> None:
    writer = EventWriter(path)
    writer.write(events.Paused(global_step=1))
    writer.close()
    with path.open("ab") as file:
        file.write(b'{"type":"Paused","glob')
    EventWriter(path).write(events.Continued(global_step=1))
    assert [(type(event).__name__, event.seq) for event in read_events(path)] == [("Paused", 1), ("Continued", 2)]


def test_a_reader_survives_the_cut_of_a_torn_line(path: Path) -> None:
    EventWriter(path).write(events.Paused(global_step=1))
    with path.open("ab") as file:
        file.write(b'{"type":"Pau')
    reader = event_reader(path)
    assert len(reader.read()) == 1
    EventWriter(path).write(events.Continued(global_step=1))
    assert [type(event).__name__ for event in reader.read()] == ["Continued"]


def test_lines_that_are_not_known_or_not_valid_are_skipped_and_counted(path: Path) -> None:
    good = msgspec.json.encode(events.Paused(global_step=1))
    path.write_bytes(b'{"type":"FromTheFuture","x":1}\n' + good + b"\n\xff\xfe garbage\n" + good + b"\n")
    reader = event_reader(path)
    assert len(reader.read()) == 2
    assert reader.num_skipped == 2


def test_a_field_from_a_newer_version_does_no_harm(path: Path) -> None:
    path.write_bytes(b'{"type":"Paused","global_step":4,"mood":"calm"}\n')
    assert [event.global_step for event in read_events(path)] == [4]  # type: ignore[union-attr]


def test_a_line_longer_than_a_chunk_is_read_whole(path: Path) -> None:
    text = "x" * 3_000_000
    EventWriter(path).write(events.Alerted(severity="notice", kind="long", text=text))
    (event,) = read_events(path)
    assert isinstance(event, events.Alerted)
    assert event.text == text


def test_an_absent_journal_is_empty(path: Path) -> None:
    assert read_events(path) == []


def test_commands_come_back_with_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    asked = [commands.Stop(after="epoch"), commands.Pause(), commands.Continue(), commands.SaveCheckpoint()]
    for command in asked:
        append_command(path, command)
    read = command_reader(path).read()
    assert [(type(command), command.id) for command in read] == [(type(command), command.id) for command in asked]
    assert len({command.id for command in read}) == len(asked)


@given(cuts=st.lists(st.integers(1, 400), max_size=20), steps=st.lists(st.integers(0, 10**9), max_size=30))
def test_however_a_journal_grows_every_event_is_read_once(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], steps: list[int]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "events.jsonl"
    content = b"".join(msgspec.json.encode(events.Paused(global_step=step)) + b"\n" for step in steps)
    reader, read, written = event_reader(path), [], 0
    for cut in [*cuts, len(content)]:
        path.write_bytes(content[: min(len(content), written + cut)])
        written = min(len(content), written + cut)
        read += reader.read()
    assert [event.global_step for event in read] == steps  # type: ignore[union-attr]
