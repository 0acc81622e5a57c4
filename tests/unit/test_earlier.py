"""What earlier runs tell about the next one."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.ui.sample_run import HOST, SampleRun
from tui.data.summaries import summarise
from tui.data.summary import Summary, earlier


@pytest.fixture
def run(tmp_path: Path) -> Summary:
    """A completed run of three epochs of 9, 9 and 12 s."""
    with SampleRun(tmp_path).begin().prepare() as sample:
        for epoch, seconds in ((1, 9.0), (2, 9.0), (3, 12.0)):
            sample.train_epoch(epoch, seconds=seconds)
        sample.finish()
    return summarise(sample.folder)


def test_a_summary_knows_its_pace(run: Summary) -> None:
    assert run.host == HOST
    assert run.seconds_per_epoch == 9.0
    assert run.duration_s == pytest.approx(30.0 + 4.0 + 1.0)


def test_a_run_without_a_whole_epoch_has_no_pace(tmp_path: Path) -> None:
    with SampleRun(tmp_path).begin().prepare() as sample:
        assert summarise(sample.folder).seconds_per_epoch is None
    with SampleRun(tmp_path, "silent-0000") as silent:
        assert summarise(silent.folder).duration_s is None


def test_runs_of_this_preset_on_this_machine_are_told(run: Summary) -> None:
    other = [replace(run, preset_name="demo"), replace(run, host="elsewhere")]
    best = replace(run, best_val_top1=0.26)
    said = earlier([*other, run, best, run], "basenet", HOST)
    assert said == "trained 3 times here: 9.0 s an epoch, 35 s in all, best val 26.0 %"
    assert earlier([run], "basenet", HOST).startswith("trained once here: ")
    assert earlier(other, "basenet", HOST) == ""


def test_the_whole_time_is_that_of_a_completed_run(run: Summary) -> None:
    assert "in all" not in earlier([replace(run, status="stopped")], "basenet", HOST)


def test_changed_runs_tell_only_where_there_are_no_others_and_say_so(run: Summary) -> None:
    changed = replace(run, overrides=("train.epochs=3",), best_val_top1=0.9)
    assert "90.0 %" not in earlier([changed, run], "basenet", HOST)
    assert earlier([changed], "basenet", HOST).startswith("trained once here, with train.epochs=3: ")
    assert earlier([changed, changed], "basenet", HOST).startswith(
        "trained twice here, the last time with train.epochs=3: "
    )
