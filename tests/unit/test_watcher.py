"""The watcher by a clock of the test, over a journal that the test writes: what it tells, and when it ends."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from engine.journal import events
from engine.journal.jsonl import EventWriter, end_of
from engine.runs import run_dir, start, watcher
from engine.runs.messages import Message
from engine.runs.notify_settings import KINDS, Kind, Notify, Target
from engine.runs.run_dir import RunDir
from engine.runs.watcher import Watcher
from engine.runs.worker_mark import sign_lock
from presets import catalog

STARTED = events.RunStarted(
    pid=1, host="h", device="cpu", device_name="cpu", precision="fp32", num_threads=1, versions={}
)
COMPLETED = events.RunFinished(outcome="completed", reason="all trained", epoch=1, global_step=1)
FAILED = events.RunFinished(outcome="failed", reason="no memory", epoch=1, global_step=1)


class Sent:
    """A sending that succeeds at once, and is remembered."""

    all: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, target: Target, message: Message) -> None:
        self.all.append((message.kind, message.text))

    def result(self) -> str:
        return ""


class Trained:
    """A run whose worker is this process, and its watcher."""

    def __init__(self, run: RunDir) -> None:
        self.run, self.now = run, 1000.0
        self.lock: int | None = None
        self.begin()

    def begin(self, on: tuple[Kind, ...] = KINDS) -> None:
        """Give the run a worker, and that a watcher."""
        self.lock = start.take_lock(self.run)
        sign_lock(self.lock, os.getpid())
        self.watch(on)

    def watch(self, on: tuple[Kind, ...] = KINDS) -> None:
        if hasattr(self, "watcher"):
            self.watcher._record.give_lock_back()  # as its process would by its end
        self.watcher = Watcher(
            self.run, os.getpid(), end_of(self.run.events), Notify(on=on, ntfy=("https://h/t",)), self.now
        )

    def writes(self, *written: events.AnyEvent) -> "Trained":
        journal = EventWriter(self.run.events)
        journal.write_all(written)
        journal.close()
        return self

    def dies(self) -> "Trained":
        assert self.lock is not None
        os.close(self.lock)
        self.lock = None
        return self

    def told(self, seconds: float = 1.0) -> list[str]:
        """Return the kinds of the messages that are sent within so many seconds, as the watcher looks each second."""
        Sent.all.clear()
        for _ in range(round(seconds)):
            self.now += 1.0
            self.watcher.look(self.now)
            self.watcher.deliveries.step(self.now)
        return [kind for kind, _ in Sent.all]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trained]:
    monkeypatch.setattr(watcher, "Sending", Sent)
    trained = Trained(run_dir.create(tmp_path, "demo", preset=catalog.load("demo"), seed=0, device="cpu"))
    yield trained
    if trained.lock is not None:
        trained.dies()


def alert(kind: str) -> events.Alerted:
    return events.Alerted(severity="warning", kind=kind, text=f"{kind} it is.", advice="Do something.")


def test_it_tells_of_alerts_while_the_run_trains_and_then_of_its_end(trained: Trained) -> None:
    assert trained.writes(STARTED).told() == []
    assert trained.writes(alert("plateau"), alert("memory"), alert("stall")).told() == ["plateau", "stall"]
    assert Sent.all[0] == ("plateau", "plateau it is. Do something.")
    assert trained.told() == []
    assert trained.writes(COMPLETED).told() == ["end"]
    assert trained.watcher.has_ended
    assert trained.dies().told(5) == []


def test_only_what_is_wanted_is_told(trained: Trained) -> None:
    trained.watch(("plateau",))
    assert trained.writes(STARTED, alert("stall"), alert("plateau"), FAILED).told() == ["plateau"]
    assert trained.watcher.has_ended


def test_a_loss_that_is_no_number_is_told_once_though_the_run_fails_of_it(trained: Trained) -> None:
    assert trained.writes(STARTED, alert("non-finite-loss"), FAILED).told() == ["nan"]
    trained.dies().begin(("failure",))
    assert trained.writes(STARTED, alert("non-finite-loss"), FAILED).told() == ["failure"]


def test_a_worker_that_is_gone_without_a_word_is_told_once(trained: Trained) -> None:
    assert trained.writes(STARTED).told(3) == []
    assert trained.dies().told(5) == ["lost"]
    assert f"cifartui resume {trained.run.id}" in Sent.all[0][1]
    assert trained.watcher.has_ended


def test_a_worker_that_dies_before_its_first_event_is_lost(trained: Trained) -> None:
    assert trained.dies().told(5) == ["lost"]


def test_last_words_and_the_end_of_the_process_are_no_loss(trained: Trained) -> None:
    assert trained.writes(STARTED, COMPLETED).dies().told(5) == ["end"]


def test_a_folder_that_is_gone_is_a_failure(trained: Trained, tmp_path: Path) -> None:
    trained.writes(STARTED).told()
    trained.dies().run.path.rename(tmp_path / "elsewhere")
    assert trained.told(5) == ["failure"]
    assert "was deleted or moved" in Sent.all[0][1]


def test_a_worker_that_says_nothing_is_told_once_until_it_speaks(trained: Trained) -> None:
    assert trained.told(299) == []  # torch from a slow disk
    assert trained.told(5) == ["stall"]
    assert trained.writes(STARTED).told(59) == []
    assert trained.told(900) == []  # ten minutes are not over when it is silent again, and it stays silent
    trained.writes(alert("x")).told()
    assert trained.told(62) == ["stall"]
    assert f"kill -CONT {os.getpid()}" in Sent.all[0][1]


def test_on_a_disk_without_locks_a_worker_is_lost_when_it_is_silent(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunDir, "worker_lives", lambda _run: None)
    assert trained.told(29) == []
    assert trained.writes(STARTED).told(30) == []
    assert trained.told(5) == ["lost"]


def test_a_disk_that_is_away_is_no_loss(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    trained.writes(STARTED).told()
    monkeypatch.setattr(trained.watcher._reader, "read", lambda: (_ for _ in ()).throw(OSError(5, "away")))
    assert trained.dies().told(20) == []


def test_what_earlier_workers_wrote_is_not_told_again(trained: Trained) -> None:
    trained.writes(STARTED, alert("plateau"), FAILED).told()
    trained.now += 3600
    trained.dies()
    (trained.run.path / "notified.json").unlink()
    trained.begin()
    assert trained.told(5) == []
    assert trained.writes(STARTED, alert("stall")).told() == ["stall"]


@pytest.mark.parametrize("torn", ["", '{"type":"Alerted","kind":"pl'])
def test_with_the_run_resumed_the_watcher_before_says_no_more(trained: Trained, torn: str) -> None:
    trained.writes(STARTED).told()
    before = trained.watcher
    trained.dies()
    with trained.run.events.open("a") as journal:
        journal.write(torn)
    trained.lock = start.take_lock(trained.run)
    sign_lock(trained.lock, os.getppid())  # another worker
    before._record.give_lock_back()
    now = trained.watcher = Watcher(
        trained.run, os.getppid(), end_of(trained.run.events), Notify(ntfy=("https://h/t",)), trained.now
    )
    trained.writes(STARTED, alert("plateau"))
    assert trained.told() == ["plateau"]
    assert not now.is_replaced
    Sent.all.clear()
    before.look(trained.now)
    before.deliveries.step(trained.now)
    assert before.is_replaced
    assert Sent.all == []


def test_a_second_start_in_the_journal_is_another_workers(trained: Trained) -> None:
    assert trained.writes(STARTED, STARTED, alert("plateau")).told(3) == []
    assert trained.watcher.is_replaced


def test_a_run_that_fails_again_and_again_is_told_of_once_in_ten_minutes(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained.writes(STARTED, FAILED).told() == ["failure"]
    told = []
    for _ in range(5):
        trained.dies().begin()
        told += trained.writes(STARTED, FAILED).told(3)
    assert told == []
    assert not trained.watcher.deliveries.is_done
    assert trained.told(600) == ["failure"]
    assert trained.watcher.deliveries.is_done


@pytest.mark.parametrize("content", ["", "{", "[3]", '{"failure": "x"}', '{"failure": 1e999}', "x" * 100_000])
def test_a_record_that_is_damaged_is_no_record(trained: Trained, content: str) -> None:
    trained.run.notified.write_text(content)
    trained.watch()
    assert trained.writes(STARTED, FAILED).told() == ["failure"]
    assert abs(json.loads(trained.run.notified.read_text())["failure"] - time.time()) < 60
