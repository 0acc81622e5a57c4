"""What Home does to start presets: asks in a panel, starts one at once or queues several. Reads and draws nothing."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace
from textual.screen import Screen

from tui.screens.background import run_in_background

if TYPE_CHECKING:
    from pathlib import Path

    from engine.runs.run_dir import RunDir
    from engine.runs.run_options import RunOptions
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
        self._ask([name], lambda options: self.start(name, options), to_queue=False)

    def ask_to_queue(self, names: Sequence[str]) -> None:
        """Ask what to change, then queue presets that can be used."""
        self._ask(names, lambda options: self._enqueue(names, options), to_queue=True)

    def _ask(
        self, names: Sequence[str], run_in_background: "Callable[[RunOptions], object]", *, to_queue: bool
    ) -> None:
        from tui.screens.start_dialog import StartPanel

        if self.app.screen is not self:  # two keys that came at once, on a slow line
            return

        def answered(options: "RunOptions | None") -> None:
            if options is not None:
                run_in_background(options)

        self.app.push_screen(StartPanel(names, self.readings, to_queue=to_queue), answered)

    def start(self, name: str, options: "RunOptions") -> None:
        """Start a preset and open the Monitor; asked again while that is under way, it is the same run."""
        self._begin(self.app.environment.start, name, options)

    def find_lr(self, name: str) -> None:
        """Start the range test of a preset as it is, and open the Monitor."""
        from engine.runs.run_options import RunOptions

        self._begin(self.app.environment.find_lr, name, RunOptions())

    def _as_set(self, options: "RunOptions") -> "RunOptions":
        """Return the order with what the command line and the configuration say for all of them."""
        return replace(options, data_dir=self.app.data_dir, notify=self.app.display_settings.notify)

    def _begin(self, start: "Callable[[Path, str, RunOptions], RunDir]", name: str, options: "RunOptions") -> None:
        if self._is_starting:
            return
        self._is_starting = True
        app = self.app
        runs_dir, options = app.runs_dir, self._as_set(options)

        def started(run: "RunDir") -> None:
            app.open_monitor(run)
            self._is_starting = False

        def failed(why: str) -> None:
            self._say_failed(why)
            self._is_starting = False

        run_in_background(app, lambda: start(runs_dir, name, options), started, failed)

    def _enqueue(self, names: Sequence[str], options: "RunOptions") -> None:
        app = self.app
        runs_dir, options, enqueue = app.runs_dir, self._as_set(options), app.environment.enqueue

        def queued(_: object) -> None:
            if self in app.screen_stack:
                self.were_queued(len(names))

        run_in_background(app, lambda: enqueue(runs_dir, names, options), queued, self._say_failed)

    def _say_failed(self, why: str) -> None:
        self.app.notify(why, severity="error", timeout=15)
