"""Folds and summaries that another user has laid into a run, and links and pipes in their place."""

import os
from pathlib import Path
from typing import Any

import pytest

from engine.journal import fold_file
from engine.journal.fold_file import fold_path, read_folded, start_from_fold
from engine.journal.jsonl import read_events
from engine.journal.state import fold
from engine.runs.run_dir import RunDir
from tests.other_user import NOBODY
from tests.ui.sample_run import SampleRun
from tests.unit.test_fold import everything
from tests.unit.test_summaries import finished, same
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
