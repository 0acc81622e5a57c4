"""What Home does to start presets: asks in a panel, starts one at once or queues several. Reads and draws nothing."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace
from textual.screen import Screen

from tui.screens.background import act

if TYPE_CHECKING:
    from pathlib import Path

    from engine.runs.run_dir import RunDir
    from engine.runs.run_options import Order
    from tui.app import CifartuiApp
    from tui.data.environment import GpuReadings


class Starting(Screen[None]):
    """A screen from which presets are started."""

    app: "CifartuiApp"

    def __init__(self) -> None:
        super().__init__()
        self._is_starting = False

    def readings(self) -> "GpuReadings | None":
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

    def _ask(self, names: Sequence[str], act: "Callable[[Order], object]", *, to_queue: bool) -> None:
        from tui.screens.start_dialog import StartPanel

        if self.app.screen is not self:  # two keys that came at once, on a slow line
            return

        def answered(order: "Order | None") -> None:
            if order is not None:
                act(order)

        self.app.push_screen(StartPanel(names, self.readings, to_queue=to_queue), answered)

    def start(self, name: str, order: "Order") -> None:
        """Start a preset and open the Monitor; asked again while that is under way, it is the same run."""
        self._begin(self.app.surroundings.start, name, order)

    def find_lr(self, name: str) -> None:
        """Start the range test of a preset as it is, and open the Monitor."""
        from engine.runs.run_options import Order

        self._begin(self.app.surroundings.find_lr, name, Order())

    def _as_set(self, order: "Order") -> "Order":
        """Return the order with what the command line and the configuration say for all of them."""
        return replace(order, data_dir=self.app.data_dir, notify=self.app.look.notify)

    def _begin(self, start: "Callable[[Path, str, Order], RunDir]", name: str, order: "Order") -> None:
        if self._is_starting:
            return
        self._is_starting = True
        app = self.app
        runs_dir, order = app.runs_dir, self._as_set(order)

        def started(run: "RunDir") -> None:
            app.open_monitor(run)
            self._is_starting = False

        def failed(why: str) -> None:
            self._say_failed(why)
            self._is_starting = False

        act(app, lambda: start(runs_dir, name, order), started, failed)

    def _enqueue(self, names: Sequence[str], order: "Order") -> None:
        app = self.app
        runs_dir, order, enqueue = app.runs_dir, self._as_set(order), app.surroundings.enqueue

        def queued(_: object) -> None:
            if self in app.screen_stack:
                self.were_queued(len(names))

        act(app, lambda: enqueue(runs_dir, names, order), queued, self._say_failed)

    def _say_failed(self, why: str) -> None:
        self.app.notify(why, severity="error", timeout=15)
