"""Messages about a run that a stranger wrote, in whole or in part: one line a field, and nothing kept back."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.journal import events
from engine.runs import messages, start
from engine.runs.notify_settings import Notify
from engine.runs.run_dir import RunDir
from engine.runs.watcher import SentRecord, Watcher
from engine.runs.worker_mark import sign_lock

HOSTILE = "a\r\nX-Evil: 1\x1b]0;x\x07\u2028\u0085\u202eb"
SAFE = "a␍␊X-Evil: 1␛]0;x␇\ufffd\ufffd\ufffdb"
FAILED = events.RunFinished(outcome="failed", reason=HOSTILE, epoch=1, global_step=1)


@pytest.fixture
def run(demo: Callable[..., RunDir]) -> Iterator[RunDir]:
    """A run whose lock this process holds, with a hostile title."""
    run = demo()
    about = run.path / "run.json"
    about.write_text(about.read_text().replace('"Demo"', json.dumps(HOSTILE)))
    fd = start.take_lock(run)
    sign_lock(fd, os.getpid())
    yield run
    os.close(fd)


def test_text_of_a_run_adds_no_line_to_a_message(run: RunDir) -> None:
    alert = events.Alerted(severity="warning", kind="stall", text=HOSTILE * 500, advice=HOSTILE)
    for told in (
        messages.of_end(run, run.read_info(), FAILED),
        messages.of_alert(run, run.read_info(), "stall", alert),
        messages.of_silence(run, run.read_info(), "lost", HOSTILE, 0.0),
    ):
        assert told.title.startswith(f"{SAFE}: ")
        assert told.text.startswith(SAFE)
        assert len(told.text) <= 1200
        assert len(told.body.splitlines()) == 3
        assert told.variables["TITLE"] == SAFE


def test_a_record_of_messages_of_a_stranger_sends_nothing_and_keeps_nothing_back(
    run: RunDir, disown: Callable[[Path], None]
) -> None:
    record = json.dumps({"failure": time.time() + 1e6, "stall": time.time() - 60, "command": 1.0})
    run.notified.write_text(record)
    assert set(SentRecord(run).quiet_until(0.0)) == {"stall"}  # of ours: a time to come is not believed
    disown(run.notified)
    watcher = Watcher(run, os.getpid(), 0, Notify(on=("failure",), command="true"), 0.0)
    assert watcher.deliveries.add(messages.of_end(run, run.read_info(), FAILED), 0.0)
    watcher._record.add("failure")
    assert run.notified.read_text() == record


def test_a_record_of_messages_is_no_link(run: RunDir, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("{}")
    run.notified.symlink_to(tmp_path / "mine")
    record = SentRecord(run)
    record.add("failure")
    assert record.quiet_until(0.0)
    assert (tmp_path / "mine").read_text() == "{}"
