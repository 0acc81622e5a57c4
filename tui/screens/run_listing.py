"""A screen that shows runs: a thread looks for them, and is heard while the screen is in sight."""

import threading
from typing import TYPE_CHECKING

from textual import work
from textual.message import Message
from textual.screen import Screen, ScreenResultType

from tui.data.run_list import RunLister, keep_listing

if TYPE_CHECKING:
    from tui.app import CifartuiApp

_LOOK_EVERY_S = 2.0


class Listing(Screen[ScreenResultType]):
    """Hears RunsListed from `list_runs` on; a message to a covered screen would paint the one above anew."""

    app: "CifartuiApp"

    def __init__(self) -> None:
        super().__init__()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._is_asleep = False

    @work(thread=True)
    def list_runs(self, lister: RunLister) -> None:
        """Look for runs now, every two seconds, and when `look_again` says so, until the screen is left."""
        keep_listing(lister, self.post, self._wake, self._stop, _LOOK_EVERY_S)

    def look_again(self) -> None:
        """Let the thread look at once."""
        self._wake.set()

    def post(self, message: Message) -> None:
        """Pass on what a thread found, if this screen is in sight."""
        if not self._is_asleep:
            self.post_message(message)

    def on_unmount(self) -> None:
        """Let the thread end at once."""
        self._stop.set()
        self._wake.set()

    def on_screen_resume(self) -> None:
        """Look again at once."""
        self._is_asleep = False
        self._wake.set()

    def on_screen_suspend(self) -> None:
        """Hear nothing while another screen is above."""
        self._is_asleep = True
