"""The list of runs: everything is known, and little is read again."""

import shutil
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from engine.journal.jsonl import LineReader
from engine.runs.run_dir import RunDir
from tests.ui.sample_run import NOW, SampleRun
from tui.data.run_list import RunLister
from tui.data.summary import matches, ordered


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often run.json and journals were read."""
    counted: Counter[str] = Counter()
    read_info, batches = RunDir.read_info, LineReader.batches

    def counting_info(self: RunDir) -> object:
        counted["run.json"] += 1
        return read_info(self)

    def counting_read(self: LineReader) -> object:  # type: ignore[type-arg]
        counted["journal"] += 1
        return batches(self)

    monkeypatch.setattr(RunDir, "read_info", counting_info)
    monkeypatch.setattr(LineReader, "batches", counting_read)
    return counted


def finished(runs_dir: Path, name: str, start: float = NOW - 600, **info: object) -> SampleRun:
    with SampleRun(runs_dir, name, start=start, **info).begin().prepare().train_epoch(1).finish() as run:
        return run


def a_thousand(runs_dir: Path) -> None:
    first = finished(runs_dir, "basenet-0000").folder
    for number in range(1, 1000):
        path = runs_dir / first.id.replace("-0000", f"-{number:04}")
        path.mkdir()
        (path / "run.json").write_bytes((first.path / "run.json").read_bytes().replace(b"-0000", b"-%04d" % number))
        shutil.copy(first.events, path)


def test_a_thousand_finished_runs_are_read_once(tmp_path: Path, reads: Counter[str]) -> None:
    a_thousand(tmp_path)
    reads.clear()
    lister = RunLister(tmp_path, lambda: NOW, limit=None)
    looks = list(lister.refresh())
    assert [len(look.runs) for look in looks[:3]] == [25, 50, 100]
    assert looks[0].num_unread == 975
    assert (len(looks[-1].runs), looks[-1].num_all, looks[-1].num_unread) == (1000, 1000, 0)
    assert reads == {"run.json": 1000, "journal": 1000}
    reads.clear()
    (again,) = lister.refresh()
    assert again == looks[-1]
    assert reads == {}


def test_only_what_has_changed_is_read_on(tmp_path: Path, reads: Counter[str]) -> None:
    finished(tmp_path, "done-0001")
    with SampleRun(tmp_path, "live-0002").live().begin().prepare() as run:
        lister = RunLister(tmp_path, lambda: NOW, limit=None)
        assert {each.status for each in lister.list().runs} == {"completed", "stalled"}
        reads.clear()
        run.train_epoch(1)
        live = next(each for each in lister.list().runs if each.id == run.folder.id)
        assert (live.epoch, live.best_val_top1 is not None) == (1, True)
        assert reads == {"journal": 1}
        run.die()
        assert "lost" in {each.status for each in lister.list().runs}
        assert reads == {"journal": 1}


def test_a_finished_run_that_goes_on_is_seen(tmp_path: Path) -> None:
    run = SampleRun(tmp_path).begin().prepare().train_epoch(1).finish("stopped")
    lister = RunLister(tmp_path, lambda: run.now, limit=None)
    assert lister.list().runs[0].status == "stopped"
    started = run.folder.read_state().started
    assert started is not None
    run.live().write(msgspec.structs.replace(started, global_step=run.global_step))
    run.begin_stage(0, 2).train_epoch(2)
    listed = lister.list()
    assert (listed.runs[0].status, listed.runs[0].epoch) == ("training", 2)
    assert [point.number for point in listed.curves[run.folder.id].epochs] == [1, 2]
    run.__exit__(None, None, None)


def test_a_damaged_run_is_told_with_its_reason_until_it_is_mended_or_gone(tmp_path: Path, reads: Counter[str]) -> None:
    run = finished(tmp_path, "basenet-0001")
    good = (run.folder.path / "run.json").read_bytes()
    (run.folder.path / "run.json").write_bytes(b"{")
    lister = RunLister(tmp_path, lambda: NOW, limit=None)
    (damaged,) = lister.list().damaged
    assert damaged.id == run.folder.id
    assert damaged.reason.startswith("run.json cannot be read")
    assert damaged.created == NOW - 600
    reads.clear()
    assert lister.list().damaged == (damaged,)
    assert reads == {}
    (run.folder.path / "run.json").write_bytes(good)
    assert [each.id for each in lister.list().runs] == [run.folder.id]
    shutil.rmtree(run.folder.path)
    assert lister.list().num_all == 0


def test_duration_counts_the_time_of_workers_and_not_the_time_between(tmp_path: Path) -> None:
    with SampleRun(tmp_path).begin().prepare().train_epoch(1, seconds=40) as run:
        run.finish("stopped")
        first_s = run.now - (NOW - 600)
        run.now += 86_400
        run.begin().train_epoch(2, seconds=40).finish()
        (summary,) = RunLister(tmp_path, lambda: NOW + 1e6).list().runs
    assert summary.duration_s == pytest.approx(first_s + 41)
    assert summary.num_bytes is not None
    assert summary.num_bytes > 1000


def test_filter_and_order(tmp_path: Path) -> None:
    finished(tmp_path, "a-0001", start=NOW - 900, overrides=("optimizer.lr=0.1",))
    finished(tmp_path, "b-0002", start=NOW - 800, preset_name="vgg-custom")
    with SampleRun(tmp_path, "c-0003", start=NOW - 700).begin():
        runs = RunLister(tmp_path, lambda: NOW).list().runs

    def ids(found: object) -> list[str]:
        return [run.id[16:] for run in found]  # type: ignore[attr-defined]

    assert ids(run for run in runs if matches(run, "LR=0.1 completed")) == ["a-0001"]
    assert ids(run for run in runs if matches(run, "vgg")) == ["b-0002"]
    assert ids(ordered(runs, "started")) == ["c-0003", "b-0002", "a-0001"]
    assert ids(ordered(runs, "started", rising=True)) == ["a-0001", "b-0002", "c-0003"]
    assert ids(ordered(runs, "test")) == ["b-0002", "a-0001", "c-0003"]
    assert ids(ordered(runs, "val", rising=True))[-1] == "c-0003"
