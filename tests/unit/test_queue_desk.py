"""The queue's desk makes every edit that was asked for, also where it is closed right after."""

import threading
from pathlib import Path

from engine.queue import queue_file
from tui.data.environment import Environment
from tui.data.queue_editor import QueueEditor


def test_the_last_edit_is_made_when_the_desk_is_closed(tmp_path: Path) -> None:
    first, second = queue_file.add(tmp_path, ["demo", "basenet"])
    queue_editor = QueueEditor(tmp_path, lambda message: None, Environment())
    queue_editor.move(second, -1)
    queue_editor.close()
    queue_editor.work()
    assert [entry.id for entry in queue_file.entries(tmp_path)] == [second.id, first.id]


def test_closing_ends_the_thread_whenever_it_comes(tmp_path: Path) -> None:
    queue_editor = QueueEditor(tmp_path, lambda message: None, Environment())

    class Wake(threading.Event):
        """Closes the desk just before it is cleared."""

        def clear(self) -> None:
            queue_editor.close()
            super().clear()

    queue_editor._wake = Wake()
    queue_editor.show(False)
    thread = threading.Thread(target=queue_editor.work, daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert not thread.is_alive()
