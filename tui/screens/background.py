"""Doing what takes a while beside the screens: in a thread of the app, answered where the user is by then.

Knows threads and the app; nothing of screens. A screen that was left meanwhile hears of it all the same: it must
look whether it is still there.
"""

from collections.abc import Callable
from typing import TypeVar

from textual.app import App

from presets.errors import CifartuiError

Answer = TypeVar("Answer")


def run_in_background(
    app: App[None], action: Callable[[], Answer], then: Callable[[Answer], object], failed: Callable[[str], object]
) -> None:
    """Do `action` in a thread, then give the app's own thread its answer, or why it could not be done.

    The thread belongs to the app: what was asked for is done also where the screen that asked is left.
    """

    def work() -> None:
        try:
            answer = action()
        except (CifartuiError, OSError) as error:
            app.call_from_thread(failed, str(error))
        else:
            app.call_from_thread(then, answer)

    app.run_worker(work, thread=True, group="actions")
