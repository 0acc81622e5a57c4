"""The queue's desk makes every edit that was asked for, also where it is closed right after."""

import threading
from pathlib import Path

import pytest

from engine.runs import queue
from tui.queue_desk import QueueDesk
from tui.surroundings import Surroundings


def test_the_last_edit_is_made_when_the_desk_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "start_runner", lambda runs_dir: None)
    first, second = queue.add(tmp_path, ["demo", "basenet"])
    desk = QueueDesk(tmp_path, lambda message: None, Surroundings())
    desk.move(second, -1)
    desk.close()
    desk.work()
    assert [entry.id for entry in queue.entries(tmp_path)] == [second.id, first.id]


def test_closing_ends_the_thread_whenever_it_comes(tmp_path: Path) -> None:
    desk = QueueDesk(tmp_path, lambda message: None, Surroundings())

    class Wake(threading.Event):
        """Closes the desk just before it is cleared."""

        def clear(self) -> None:
            desk.close()
            super().clear()

    desk._wake = Wake()
    desk.show(False)
    thread = threading.Thread(target=desk.work, daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert not thread.is_alive()
