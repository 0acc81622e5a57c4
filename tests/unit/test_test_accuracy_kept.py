"""The test accuracy of a run stays with the weights that it was measured by, whatever came of going on with them."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from engine.journal import events as ev
from engine.journal.events import AnyEvent
from engine.journal.state import fold
from engine.training.trained_network import metrics_of
from tests.ui.sample_run import NOW, SampleRun
from tests.unit.test_report import report_of
from tests.unit.test_state import DATA, STAGE, STARTED, epoch, steps
from tui.cli import run_page
from tui.data.run_detail import detail_and_state
from tui.data.summaries import summarise
from tui.report.markdown import markdown
from tui.text import run_text
from tui.widgets.monitor_panes import RunView, _results

SPENT = ev.Flops(train=3.0, evaluation=2.0)
END = ev.RunFinished(
    outcome="completed", reason="", epoch=1, global_step=10, test_top1=0.3, test_loss=2.0, test_balanced=0.2,
    flops=SPENT,
)  # fmt: skip
TRAINED: list[AnyEvent] = [STARTED, DATA, STAGE, steps(1, 10), epoch(1, 0.5), END]
AGAIN = replace(STARTED, global_step=10)
REFUSED = ev.RunFinished(outcome="failed", reason="The data has changed.", epoch=0, global_step=0)
NO_TEST_PART = replace(DATA, num_test=0)


@pytest.mark.parametrize(
    "since",
    [
        [],
        [REFUSED],
        [AGAIN],
        [AGAIN, REFUSED],
        [AGAIN, NO_TEST_PART, REFUSED],
        [AGAIN, REFUSED, AGAIN, DATA, STAGE, REFUSED],
        [AGAIN, DATA, STAGE, steps(2, 5), AGAIN, REFUSED],  # its steps are in no checkpoint
    ],
    ids=str,
)
def test_it_stays_where_nothing_was_trained(since: list[AnyEvent]) -> None:
    state = fold([*TRAINED, *since])
    assert state.test == END
    assert state.flops == SPENT
    assert run_text.result(state) == "best val 50.0 %, test 30.0 % (balanced 20.0 %)"


@pytest.mark.parametrize(
    "since",
    [
        [AGAIN, DATA, STAGE, steps(2, 1)],
        [AGAIN, DATA, STAGE, steps(2, 5), REFUSED],
        [AGAIN, DATA, STAGE, steps(2, 10), epoch(2, 0.4), REFUSED],
        [AGAIN, DATA, STAGE, steps(2, 5), replace(AGAIN, global_step=15), REFUSED],  # they are
        [AGAIN, DATA, STAGE, steps(2, 10), epoch(2, 0.4), AGAIN, REFUSED],
        [replace(STARTED, global_step=5), DATA, STAGE, REFUSED],
        [replace(STARTED, global_step=0), DATA, STAGE, steps(1, 10), epoch(1, 0.4), REFUSED],
    ],
    ids=str,
)
def test_it_goes_where_training_went_on_or_began_before(since: list[AnyEvent]) -> None:
    state = fold([*TRAINED, *since])
    assert state.test is None
    assert "test" not in run_text.result(state)


def test_a_later_one_takes_its_place() -> None:
    later = replace(END, epoch=2, global_step=20, test_top1=0.4)
    state = fold([*TRAINED, AGAIN, REFUSED, AGAIN, DATA, STAGE, steps(2, 10), epoch(2, 0.6), later])
    assert state.test == later
    assert fold([replace(STARTED, global_step=20), REFUSED], state).test == later


def test_it_is_shown_after_a_resume_that_was_refused(tmp_path: Path) -> None:
    with SampleRun(tmp_path).live().begin().prepare() as run:
        for number in (1, 2, 3):
            run.train_epoch(number)
        run.finish().live().begin(changes=("train.epochs=16",)).finish("failed", "The data has changed.", None)
        detail, state = detail_and_state(run.folder, NOW)
        report = report_of(run)
    summary = summarise(run.folder)
    assert (summary.status, summary.test_top1, summary.has_test) == ("failed", 0.241, True)
    assert detail.summary.test_top1 == 0.241
    page = dict(run_page.fields(detail))
    assert page["test"] == "24.1 %, report 23.8 % (+0.3 points)"
    assert page["state"] == "failed: The data has changed"
    view = RunView(run.folder, run.info, state, "failed", NOW)
    assert "test 24.1 %" in _results(view, 200).plain
    assert [scored.top1 for scored in report.splits] == [state.best.val_top1 if state.best else None, 0.241]
    assert "| test | 10,000 | 24.10 (" in markdown([report])
    for checkpoint, expected in (("best", 0.241), ("last", None)):
        trained = SimpleNamespace(checkpoint=checkpoint, global_step=state.global_step)
        assert metrics_of(run.folder, trained).test_top1 == expected  # type: ignore[arg-type]
