"""Summaries kept beside runs that have ended: little is read, and nothing is believed that does not fit the run."""

import os
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from engine.journal.jsonl import LineReader
from engine.runs.run_dir import RunDir
from engine.runs.worker_mark import WorkerMark
from tests.ui.sample_run import NOW, SampleRun
from tui.data import run_list, summaries
from tui.data.run_list import RunLister, RunsListed, list_repeatedly
from tui.data.summaries import read_kept, read_kept_curves, summarise, summarise_all
from tui.data.summary import Summary


def same(one: Summary, other: Summary) -> bool:
    """Return whether two summaries agree but for the size: the file itself is part of that."""
    return msgspec.structs.replace(one, num_bytes=None) == msgspec.structs.replace(other, num_bytes=None)


def finished(runs_dir: Path, name: str = "basenet-0001", start: float = NOW - 600) -> RunDir:
    with SampleRun(runs_dir, name, start=start).begin().prepare().train_epoch(1).finish() as run:
        return run.folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Numbers of times that files of each name were opened and looked at, and journals read."""
    counted: Counter[str] = Counter()
    opened, looked, batches = os.open, os.stat, LineReader.batches

    def counting_open(path: object, *arguments: object, **named: object) -> int:
        counted[f"open {Path(str(path)).name}"] += 1
        return opened(path, *arguments, **named)  # type: ignore[arg-type]

    def counting_stat(path: object, *arguments: object, **named: object) -> os.stat_result:
        counted["stat"] += 1
        return looked(path, *arguments, **named)  # type: ignore[arg-type]

    def counting_batches(self: LineReader) -> object:  # type: ignore[type-arg]
        counted["journal"] += 1
        return batches(self)

    monkeypatch.setattr(os, "open", counting_open)
    monkeypatch.setattr(os, "stat", counting_stat)
    monkeypatch.setattr(LineReader, "batches", counting_batches)
    return counted


def test_a_run_that_has_ended_is_summarised_from_one_small_file(tmp_path: Path, read: Counter[str]) -> None:
    for number in range(20):
        finished(tmp_path, f"basenet-{number:04}")
    first = summarise_all(tmp_path, lambda bad: pytest.fail(str(bad)))
    read.clear()
    assert summarise_all(tmp_path, lambda bad: pytest.fail(str(bad))) == first
    assert read.pop("stat") <= 20 * 6  # run.json is there; folder, journal, checkpoints and settings are as they were
    assert read == {"open summary.jsonl": 20}


def test_what_is_kept_is_what_the_journal_says_with_its_curves(tmp_path: Path) -> None:
    run = finished(tmp_path)
    (first,) = RunLister(tmp_path, lambda: NOW).list().runs
    (again,) = (listed := RunLister(tmp_path, lambda: NOW + 1e6).list()).runs
    assert again == first == read_kept(run)
    kept = read_kept_curves(run)
    assert kept is not None
    assert list(kept[1].epochs) == run.read_state().epochs
    assert listed.curves == {run.id: kept[1]}


def test_it_is_private_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    run = finished(tmp_path)
    before = {path.name for path in run.path.iterdir()}
    summarise(run)
    assert {path.name for path in run.path.iterdir()} - before == {"summary.jsonl"}
    assert run.summary.stat().st_mode & 0o777 == 0o600


def append(run: RunDir) -> None:
    with run.events.open("ab") as file:
        file.write(b'{"type":"Paused","global_step":1}\n')


def cut(run: RunDir) -> None:
    os.truncate(run.events, run.events.stat().st_size // 2)


def rewrite(run: RunDir) -> None:
    run.events.write_bytes(run.events.read_bytes().replace(b'"completed"', b'"aborted"  '))


def replace(run: RunDir) -> None:
    about, content = run.events.stat(), run.events.read_bytes()
    run.events.rename(run.path / "before.jsonl")
    run.events.write_bytes(content)
    os.utime(run.events, ns=(about.st_atime_ns, about.st_mtime_ns))


def lose_a_checkpoint(run: RunDir) -> None:
    (run.checkpoints / "last.pt").unlink()


def amend(run: RunDir) -> None:
    run.write_amended(run.read_info())


def write_into(run: RunDir) -> None:
    with (run.path / "run.json").open("r+b") as file:  # as an editor does that makes no new file
        content = file.read().replace(b"BaseNet", b"Renamed")
        file.seek(0)
        file.write(content)


CHANGES: dict[str, Callable[[RunDir], object]] = {
    "a line more": append,
    "cut short": cut,
    "rewritten, the size as before": rewrite,
    "replaced, size and time as before": replace,
    "a checkpoint is gone": lose_a_checkpoint,
    "a resume changed its settings": amend,
    "an editor wrote into run.json": write_into,
    "the journal is gone": lambda run: run.events.unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_made_anew_if_the_run_is_not_as_it_was(tmp_path: Path, change: str) -> None:
    run = finished(tmp_path)
    (run.checkpoints / "last.pt").write_bytes(bytes(1000))
    summarise(run)
    assert read_kept(run) is not None
    CHANGES[change](run)
    assert read_kept(run) is None
    run.summary.unlink()
    truth = summarise(run)
    assert read_kept(run) == truth


def with_field(run: RunDir, name: str, value: object) -> bytes:
    line, _, curves = run.summary.read_bytes().partition(b"\n")
    kept = msgspec.json.decode(line)
    (kept if name in kept else kept["summary"])[name] = value
    return msgspec.json.encode(kept) + b"\n" + curves


WRONG: dict[str, Callable[[RunDir], bytes]] = {
    "empty": lambda run: b"",
    "NULs": lambda run: bytes(3000),
    "half": lambda run: run.summary.read_bytes()[:300],
    "without its curves": lambda run: run.summary.read_bytes().partition(b"\n")[0],
    "of another version": lambda run: with_field(run, "format", summaries._FORMAT + 1),
    "a number that nothing can show": lambda run: with_field(run, "best_val_top1", 1e308),
    "a time that nothing can show": lambda run: with_field(run, "created", 1e18),
    "a state that is none": lambda run: with_field(run, "status", "won"),
    "deep": lambda run: b"[" * 100_000,
}


@pytest.mark.parametrize("kind", WRONG)
def test_one_that_is_damaged_is_made_anew(tmp_path: Path, kind: str) -> None:
    run = finished(tmp_path)
    truth = summarise(run)
    about = run.summary.stat()
    run.summary.write_bytes(WRONG[kind](run))
    assert run.summary.stat().st_ino == about.st_ino
    assert read_kept_curves(run) is None
    assert same(summarise(run), truth)
    (listed,) = RunLister(tmp_path, lambda: NOW).list().runs
    assert same(listed, truth)


def test_a_folder_that_takes_no_file_costs_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(tmp_path)
    opened = os.open

    def refusing(path: object, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(28, "No space left on device")
        return opened(path, flags, *mode)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refusing)
    before = {path.name for path in run.path.iterdir()}
    assert summarise(run).status == "completed"
    assert {path.name for path in run.path.iterdir()} == before


def test_a_live_run_is_not_kept_and_a_lost_one_is_until_it_goes_on(tmp_path: Path) -> None:
    run = SampleRun(tmp_path).live().begin().prepare().train_epoch(1)
    lister = RunLister(tmp_path, lambda: run.now)
    assert [each.status for each in lister.list().runs] == ["training"]
    assert not run.folder.summary.exists()
    run.die()
    assert [each.status for each in lister.list().runs] == ["lost"]
    assert [each.status for each in RunLister(tmp_path, lambda: run.now).list().runs] == ["lost"]
    assert read_kept(run.folder) is not None
    (run.folder.path / "worker.claim").write_bytes(b"{}")  # as whoever starts a worker does first
    run.live()
    assert [each.status for each in lister.list().runs] == ["training"]
    assert [each.status for each in RunLister(tmp_path, lambda: run.now).list().runs] == ["training"]
    run.__exit__(None, None, None)


def test_a_silent_run_of_another_host_is_not_kept_as_lost(tmp_path: Path) -> None:
    with SampleRun(tmp_path).begin().prepare().train_epoch(1) as run:
        run.folder.lock.write_bytes(msgspec.json.encode(WorkerMark(pid=9, host=f"not-{socket.gethostname()}")))
        (summary,) = RunLister(tmp_path, lambda: run.now + 3600).list().runs
    assert summary.status == "lost"
    assert not run.folder.summary.exists()


def test_a_run_of_another_host_that_was_silent_for_an_hour_is_kept_until_it_grows(tmp_path: Path) -> None:
    with SampleRun(tmp_path).begin().prepare().train_epoch(1) as run:
        run.folder.lock.write_bytes(b'{"pid":7,"host":"elsewhere"}')
        an_hour_ago = time.time() - 3700
        os.utime(run.folder.events, (an_hour_ago, an_hour_ago))
        lister = RunLister(tmp_path, lambda: run.now + 3700)
        assert [each.status for each in lister.list().runs] == ["lost"]
        assert read_kept(run.folder) is not None
        run.telemetry()
        assert read_kept(run.folder) is None
        assert [each.status for each in RunLister(tmp_path, lambda: run.now).list().runs] == ["training"]


def test_damaged_runs_are_looked_at_no_more_often_than_others(many: Path, read: Counter[str]) -> None:
    runs = sorted(many.iterdir())
    for run in runs:
        (run / "run.json").write_bytes(b"{")
    lister = RunLister(many, lambda: NOW, limit=None)
    assert len(lister.list().damaged) == MANY
    for _ in range(2):
        list(lister.refresh(is_idle=True))
    read.clear()
    list(lister.refresh(is_idle=True))
    older = (MANY - run_list.RECENT) / run_list._ROUNDS
    assert read["stat"] <= 6 * (run_list.RECENT + older + 1) + 1


def test_a_copy_of_a_run_is_summarised_anew(tmp_path: Path) -> None:
    run = finished(tmp_path)
    summarise(run)
    copy = RunDir(tmp_path / f"{run.id}-copy")
    shutil.copytree(run.path, copy.path)
    assert read_kept(copy) is None
    assert (summarise(copy).path, summarise(copy).id) == (str(copy.path), copy.id)
    assert [each.id for each in RunLister(tmp_path, lambda: NOW).list().runs] == [copy.id, run.id]


def test_a_runs_folder_that_was_moved_keeps_its_summaries(tmp_path: Path) -> None:
    run = finished(tmp_path / "here")
    summarise(run)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = RunDir(tmp_path / "there" / run.id)
    kept = read_kept(moved)
    assert kept is not None
    assert kept.path == str(moved.path)


MANY = 300


@pytest.fixture
def many(tmp_path: Path) -> Path:
    first = finished(tmp_path, "basenet-0000")
    for number in range(1, MANY):
        path = tmp_path / first.id.replace("-0000", f"-{number:04}")
        path.mkdir()
        (path / "run.json").write_bytes((first.path / "run.json").read_bytes().replace(b"-0000", b"-%04d" % number))
        shutil.copy(first.events, path)
    return tmp_path


def test_a_dashboard_with_nothing_to_do_looks_at_few_runs(many: Path, read: Counter[str]) -> None:
    lister = RunLister(many, lambda: NOW, limit=None)
    listed = lister.list()
    assert len(listed.runs) == MANY
    for _ in range(2):
        list(lister.refresh(is_idle=True))
    read.clear()
    (again,) = lister.refresh(is_idle=True)
    assert again is listed
    older = (MANY - run_list.RECENT) / run_list._ROUNDS
    assert read.pop("stat") <= 2 * (run_list.RECENT + older + 1) + 1
    assert read == {}


def test_an_old_run_that_goes_on_is_seen_at_once_when_somebody_asks_and_else_in_time(many: Path) -> None:
    lister = RunLister(many, lambda: NOW, limit=None)
    oldest = RunDir(Path(lister.list().runs[-1].path))
    append(oldest)
    assert lister.list().runs[-1].status == "lost"
    oldest.events.write_bytes(oldest.events.read_bytes().rpartition(b'{"type":"Paused"')[0])
    seen = []
    for _ in range(run_list._ROUNDS):
        *_, listed = lister.refresh(is_idle=True)
        seen.append(listed.runs[-1].status)
    assert (seen[-1], set(seen) <= {"lost", "completed"}) == ("completed", True)


def test_a_new_run_is_seen_while_nobody_asks_also_one_whose_run_json_comes_later(tmp_path: Path) -> None:
    finished(tmp_path, "basenet-0001")
    lister = RunLister(tmp_path, lambda: NOW)
    lister.list()
    list(lister.refresh(is_idle=True))
    made = finished(tmp_path, "basenet-0002")
    (made.path / "run.json").rename(tmp_path / "kept")
    (listed,) = lister.refresh(is_idle=True)
    assert listed.num_all == 1
    (tmp_path / "kept").rename(made.path / "run.json")
    *_, listed = lister.refresh(is_idle=True)
    assert listed.num_all == 2


def test_a_listing_without_a_change_is_posted_when_somebody_asks_only(tmp_path: Path) -> None:
    finished(tmp_path)
    posted: list[RunsListed] = []
    wake, stop = threading.Event(), threading.Event()
    rounds = 0

    class Counting(RunLister):
        def refresh(self, *, is_idle: bool = False):  # type: ignore[no-untyped-def]
            nonlocal rounds
            rounds += 1
            if rounds == 5:
                wake.set()
            if rounds == 8:
                stop.set()
            return super().refresh(is_idle=is_idle)

    list_repeatedly(Counting(tmp_path, lambda: NOW), posted.append, wake, stop, 0.001)
    assert len(posted) == 2
    assert posted[0].runs == posted[1].runs
