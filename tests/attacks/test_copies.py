"""Folds and summaries that another user has laid into a run, and links and pipes in their place."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.journal import fold_file
from engine.journal.fold_file import fold_path, read_folded, start_from_fold
from engine.journal.jsonl import read_events
from engine.journal.state import fold
from engine.runs.newer_info import read_shown
from engine.runs.run_dir import RunDir
from tests.other_user import NOBODY
from tests.ui.sample_run import NOW, SampleRun
from tests.unit.test_fold import everything
from tests.unit.test_summaries import finished, same
from tui.data.run_list import RunLister
from tui.data.summaries import read_kept, summarise


@pytest.fixture(autouse=True)
def every_byte_is_worth_a_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_file, "WORTH_BYTES", 1)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    with SampleRun(tmp_path).begin().prepare().train_epoch(1).save() as sample:
        return sample.folder


def truth(run: RunDir) -> dict[str, Any]:
    return everything(fold(read_events(run.events)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("which", ["the fold", "the journal", "both"])
def test_of_another_users_files_no_fold_is_believed_and_none_is_made(run: RunDir, which: str) -> None:
    read_folded(run.events)
    for name, path in (("the fold", fold_path(run.events)), ("the journal", run.events)):
        if which in {name, "both"}:
            os.chown(path, NOBODY, NOBODY)
    before = fold_path(run.events).stat().st_ino
    assert start_from_fold(run.events)[1].offset == 0
    assert everything(read_folded(run.events)[0]) == truth(run)
    assert (fold_path(run.events).stat().st_ino == before) == (which != "the fold")


def test_no_link_and_no_pipe_is_read_in_the_place_of_a_fold(run: RunDir, tmp_path: Path) -> None:
    read_folded(run.events)
    fold_path(run.events).rename(tmp_path / "elsewhere")
    fold_path(run.events).symlink_to(tmp_path / "elsewhere")
    assert start_from_fold(run.events)[1].offset == 0
    fold_path(run.events).unlink()
    os.mkfifo(fold_path(run.events))
    assert everything(read_folded(run.events)[0]) == truth(run)
    assert fold_path(run.events).is_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_summary_is_believed_only_from_whoever_the_journal_belongs_to(tmp_path: Path) -> None:
    run = finished(tmp_path)
    summarise(run)
    os.chown(run.summary, NOBODY, NOBODY)
    assert read_kept(run) is None
    os.chown(run.events, NOBODY, NOBODY)
    assert read_kept(run) is not None  # who could write that into the journal too


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_nothing_is_written_into_a_run_of_another_user(tmp_path: Path) -> None:
    run = finished(tmp_path)
    os.chown(run.events, NOBODY, NOBODY)
    summarise(run)
    assert not run.summary.exists()


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("id_in_file", ["20260101T000000-other-0001", "../elsewhere", "/etc", ""])
def test_a_run_is_called_as_its_folder_whatever_its_files_say(tmp_path: Path, id_in_file: str, newer: bool) -> None:
    run = finished(tmp_path)
    file = run.path / "run.json"
    settings = msgspec.json.decode(file.read_bytes()) | {"id": id_in_file} | ({"of_the_future": 1} if newer else {})
    settings["preset"] |= {"of_the_future": 1} if newer else {}
    file.write_bytes(msgspec.json.encode(settings))
    assert read_shown(run).id == run.id
    assert newer or run.read_info().id == run.id
    assert summarise(run).id == run.id
    if not newer:
        line, _, curves = run.summary.read_bytes().partition(b"\n")
        kept = msgspec.json.decode(line)
        kept["summary"]["id"] = id_in_file
        run.summary.write_bytes(msgspec.json.encode(kept) + b"\n" + curves)
        assert read_kept(run) is not None
    assert [each.id for each in RunLister(tmp_path, lambda: NOW).list().runs] == [run.id]


def test_no_link_and_no_pipe_is_read_in_the_place_of_a_summary(tmp_path: Path) -> None:
    run = finished(tmp_path)
    truth = summarise(run)
    run.summary.rename(tmp_path / "elsewhere")
    run.summary.symlink_to(tmp_path / "elsewhere")
    assert read_kept(run) is None
    assert same(summarise(run), truth)
    assert not run.summary.is_symlink()
    run.summary.unlink()
    os.mkfifo(run.summary)
    assert same(summarise(run), truth)
