"""Base of the screens that list runs: a thread lists them, and posts only while the screen is in view."""

import threading
from typing import TYPE_CHECKING

from textual import work
from textual.message import Message
from textual.screen import Screen, ScreenResultType

from tui.data.run_list import RunLister, list_repeatedly

if TYPE_CHECKING:
    from tui.app import CifartuiApp

_LIST_EVERY_S = 2.0


class Listing(Screen[ScreenResultType]):
    """Screen that receives RunsListed after `list_runs`, unless covered: a message would paint the one above anew."""

    app: "CifartuiApp"

    def __init__(self) -> None:
        super().__init__()
        self._stop, self._wake = threading.Event(), threading.Event()
        self._is_asleep = False

    @work(thread=True)
    def list_runs(self, lister: RunLister) -> None:
        """List runs now, every two seconds, and after `list_again`, until the screen is closed."""
        list_repeatedly(lister, self.post, self._wake, self._stop, _LIST_EVERY_S)

    def on_mount(self) -> None:
        """Hear of other hosts, if there are any."""
        if self.app.others is not None:
            self.app.others.watch(self, self.post)

    def list_again(self) -> None:
        """Let the thread list the runs at once."""
        self._wake.set()

    def post(self, message: Message) -> None:
        """Post a message from a thread, if this screen is in view."""
        if not self._is_asleep:
            self.post_message(message)

    def on_unmount(self) -> None:
        """Let the thread end at once."""
        self._stop.set()
        self._wake.set()
        if self.app.others is not None:
            self.app.others.unwatch(self)

    def on_screen_resume(self) -> None:
        """List the runs at once."""
        self._is_asleep = False
        if self.app.others is not None:
            self.app.others.watch(self, self.post)
        self._wake.set()

    def on_screen_suspend(self) -> None:
        """Post nothing while another screen is above."""
        self._is_asleep = True
        if self.app.others is not None:
            self.app.others.unwatch(self)
