"""What Home does to start presets: asks in a panel, starts one at once or queues several. Reads and draws nothing."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace
from textual import work
from textual.screen import Screen

from presets.errors import CifartuiError
from tui.order import Order
from tui.surroundings import GpuReadings

if TYPE_CHECKING:
    from tui.app import CifartuiApp


class Starting(Screen[None]):
    """A screen from which presets are started."""

    app: "CifartuiApp"

    def __init__(self) -> None:
        super().__init__()
        self._is_starting = False

    def readings(self) -> GpuReadings | None:
        """Return the latest reading of the machine."""
        raise NotImplementedError

    def were_queued(self, num_queued: int) -> None:
        """React to presets having been queued."""
        raise NotImplementedError

    def ask_to_start(self, name: str) -> None:
        """Ask what to change, then start a preset that can be used."""
        self._ask([name], lambda order: self.start(name, order), to_queue=False)

    def ask_to_queue(self, names: Sequence[str]) -> None:
        """Ask what to change, then queue presets that can be used."""
        self._ask(names, lambda order: self._enqueue(names, order), to_queue=True)

    def _ask(self, names: Sequence[str], act: Callable[[Order], object], *, to_queue: bool) -> None:
        from tui.screens.start_panel import StartPanel

        if self.app.screen is not self:  # two keys that came at once, on a slow line
            return

        def answered(order: Order | None) -> None:
            if order is not None:
                act(order)

        self.app.push_screen(StartPanel(names, self.readings, to_queue=to_queue), answered)

    def start(self, name: str, order: Order) -> None:
        """Start a preset and open the Monitor; asked again while that is under way, it is the same run."""
        if not self._is_starting:
            self._is_starting = True
            self._start(name, order)

    def _with_notify(self, order: Order) -> Order:
        return replace(order, notify=self.app.look.notify)

    @work(thread=True, group="start")
    def _start(self, name: str, order: Order) -> None:
        try:
            run = self.app.surroundings.start(self.app.runs_dir, name, self._with_notify(order), self.app.data_dir)
        except CifartuiError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error", timeout=15)
            return
        finally:
            self._is_starting = False
        self.app.call_from_thread(self.app.open_monitor, run)

    @work(thread=True, group="start")
    def _enqueue(self, names: Sequence[str], order: Order) -> None:
        try:
            self.app.surroundings.enqueue(self.app.runs_dir, names, self._with_notify(order), self.app.data_dir)
        except CifartuiError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error", timeout=15)
            return
        self.app.call_from_thread(self.were_queued, len(names))
