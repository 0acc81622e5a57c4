from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.journal import commands, events
from engine.journal.jsonl import EventWriter, append_command, command_reader, event_reader, read_events
from tests import every


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_events_come_back_numbered_stamped_and_equal(path: Path) -> None:
    writer = EventWriter(path)
    written = [writer.write(events.Paused(global_step=3)), writer.write(events.Continued(global_step=3))]
    assert read_events(path) == written
    assert [event.seq for event in written] == [1, 2]
    assert all(event.time > 0 for event in written)


@pytest.mark.parametrize("event", every.EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_comes_back_and_those_that_people_act_on_are_synced(
    path: Path, monkeypatch: pytest.MonkeyPatch, event: events.AnyEvent
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("engine.journal.jsonl.os.fsync", synced.append)
    assert [EventWriter(path).write(event)] == read_events(path)
    assert bool(synced) == event.sync
    assert event.sync == isinstance(
        event, events.EpochCompleted | events.CheckpointSaved | events.CommandApplied | events.RunFinished
    )


@pytest.mark.parametrize("command", every.COMMANDS, ids=lambda command: type(command).__name__)
def test_every_command_comes_back_and_its_class_is_found_by_its_type(
    tmp_path: Path, command: commands.AnyCommand
) -> None:
    path = tmp_path / "commands.jsonl"
    append_command(path, command)
    assert [msgspec.structs.replace(each, time=0.0) for each in command_reader(path).read()] == [command]
    assert commands.kind_of(msgspec.json.decode(path.read_bytes())["type"]) is type(command)
    assert commands.kind_of("FromTheFuture") is None


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


@pytest.mark.parametrize("before", [0, 3], ids=["nothing before it", "lines before it"])
def test_a_tail_of_nuls_is_cut_off_after_one_read(path: Path, reads: list[int], before: int) -> None:
    writer = EventWriter(path)
    written = [writer.write(events.Paused(global_step=step)) for step in range(before)]
    writer.close()
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(3_000_000))
    reads.clear()
    again = EventWriter(path)
    assert reads == [size + 3_000_000]
    assert path.stat().st_size == size
    assert again.write(events.Paused(global_step=9)).seq == before + 1
    assert read_events(path)[:before] == written


def test_a_writer_reads_the_end_of_a_long_journal_only(path: Path, reads: list[int]) -> None:
    line = msgspec.json.encode(events.Paused(global_step=1, seq=1)) + b"\n"
    last = msgspec.json.encode(events.Paused(global_step=1, seq=777)) + b"\n"
    path.write_bytes(line * (20_000_000 // len(line)) + last)
    reads.clear()
    assert EventWriter(path).write(events.Paused(global_step=1)).seq == 778
    assert len(reads) == 1
    assert sum(reads) < 5_000_000


def test_a_tail_longer_than_what_is_read_at_once_is_cut_off_too(path: Path, reads: list[int]) -> None:
    last = msgspec.json.encode(events.Paused(global_step=1, seq=5)) + b"\n"
    path.write_bytes(last + bytes(30_000_000))
    reads.clear()
    assert EventWriter(path).write(events.Paused(global_step=1)).seq == 6
    assert path.read_bytes().startswith(last)
    assert len(reads) < 5


def test_a_tail_of_nuls_is_never_in_memory_whole(path: Path, reads: list[int]) -> None:
    last = msgspec.json.encode(events.Paused(global_step=1, seq=5)) + b"\n"
    path.write_bytes(last + last[:9])
    with path.open("r+b") as file:
        file.truncate(200_000_000)  # a sparse file
    reads.clear()
    assert EventWriter(path).write(events.Paused(global_step=1)).seq == 6
    assert path.stat().st_size < 3 * len(last)
    assert max(reads) <= 1 << 25


def test_the_number_of_a_line_that_only_a_newer_version_knows_counts(path: Path) -> None:
    path.write_bytes(b'{"type":"FromTheFuture","seq":41,"time":1.0}\n')
    assert EventWriter(path).write(events.Paused(global_step=1)).seq == 42


def test_an_unfinished_line_is_not_read_again_until_it_grows(path: Path, reads: list[int]) -> None:
    path.write_bytes(bytes(3_000_000))
    reader = event_reader(path)
    assert reader.read() == []
    reads.clear()
    assert reader.read() == []
    assert reads == []
    with path.open("ab") as file:
        file.write(b"\n" + msgspec.json.encode(events.Paused(global_step=1)) + b"\n")
    assert len(reader.read()) == 1


def test_a_hole_of_nuls_in_the_middle_is_passed_over_and_never_in_memory_whole(path: Path, reads: list[int]) -> None:
    line = msgspec.json.encode(events.Paused(global_step=1)) + b"\n"
    path.write_bytes(line)
    with path.open("r+b") as file:
        file.truncate(200_000_000)  # a sparse file
    reader = event_reader(path)
    assert (len(reader.read()), reader.read()) == (1, [])
    with path.open("ab") as file:
        file.write(b"\n" + line)
    assert len(reader.read()) == 1
    assert reader.num_skipped == 1
    assert max(reads) <= 1 << 25
    assert reader.offset == path.stat().st_size


def test_events_written_together_are_numbered_and_flushed_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("engine.journal.jsonl.os.fsync", synced.append)
    writer = EventWriter(path)
    applied = next(event for event in every.EVENTS if isinstance(event, events.CommandApplied))
    assert [event.seq for event in writer.write_all([applied, applied, events.Paused(global_step=1)])] == [1, 2, 3]
    assert len(synced) == 1
    assert [event.seq for event in read_events(path)] == [1, 2, 3]
