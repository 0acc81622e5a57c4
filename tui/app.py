"""The dashboard's application: screens, keys that work everywhere, and the palette. Reads no files itself."""

import locale
import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from engine.runs.folder import RunFolder
from tui import format as fmt
from tui.palette import theme
from tui.screens.home import Home
from tui.screens.panels import Help
from tui.surroundings import Surroundings
from tui.widgets.raster import Grain
from tui.wire import WireDriver


class CifartuiApp(App[None]):
    """Home, and Monitor above it."""

    TITLE = "cifartui"
    CSS_PATH = "style.tcss"
    ENABLE_COMMAND_PALETTE = True
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - as Textual declares it
        (0, "-tiny"), (60, "-narrow"), (110, "-wide"), (150, "-very-wide"),
    ]  # fmt: skip
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (16, "-short"), (34, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("q", "leave", "leave"),
        Binding("ctrl+l", "redraw", "redraw", show=False),
        Binding("ctrl+q,ctrl+c", "leave", "leave", show=False, priority=True),
    ]

    def __init__(
        self,
        runs_dir: Path,
        data_dir: str | None = None,
        attach: RunFolder | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        """Show the runs of `runs_dir`.

        Args:
            runs_dir: where runs are kept; need not exist yet.
            data_dir: searched first for data sets, and handed to the runs started here.
            attach: open the Monitor on this run, with Home beneath it.
            surroundings: clock, GPUs, presets and data sets other than this machine's, for tests and pictures.
        """
        super().__init__(driver_class=WireDriver)
        self.register_theme(theme())
        self.theme = "cifartui"
        self.runs_dir, self.data_dir = runs_dir, data_dir
        self.surroundings = surroundings or Surroundings()
        self._first_run = attach

    @property
    def plot_style(self) -> Grain:
        """How fine the terminal can be trusted to draw."""
        encoding = locale.getpreferredencoding(False).lower().replace("-", "")
        return "ascii" if os.environ.get("TERM") == "linux" or encoding != "utf8" else "braille"

    paint_every_s = 1.0
    plots_every_s = 1.0

    def on_mount(self) -> None:
        """Show Home, and the run asked for."""
        self.push_screen(Home())
        if self._first_run is not None:
            self.open_monitor(self._first_run)

    def open_monitor(self, run: RunFolder) -> None:
        """Show the Monitor on `run`, in place of one that is open."""
        from tui.screens.monitor import Monitor

        if isinstance(self.screen, Monitor):
            self.pop_screen()
        self.push_screen(Monitor(run))

    def open_queue(self) -> None:
        """Show the queue, unless it is shown already."""
        from tui.screens.queue import QueueScreen

        if not isinstance(self.screen, QueueScreen):
            self.push_screen(QueueScreen(self.runs_dir))

    def open_runs(self) -> None:
        """Show the table of all runs."""
        from tui.screens.runs import RunsScreen

        if not isinstance(self.screen, RunsScreen):
            self.push_screen(RunsScreen())

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer every key of the screen, and every recent run, by name."""
        for active in screen.active_bindings.values():
            binding = active.binding
            if active.node is screen and binding.show and active.enabled:
                key = binding.key_display or binding.key
                action = binding.action
                yield SystemCommand(
                    binding.description.capitalize(), f"key {key}", lambda a=action: self._do(screen, a)
                )
        home = next((below for below in self.screen_stack if isinstance(below, Home)), None)
        for run in home.runs if home is not None else ():
            folder = RunFolder(Path(run.path))
            title = f"Attach to run {fmt.short_id(run.id)}"
            yield SystemCommand(title, f"{run.title}, {run.status}", lambda f=folder: self.open_monitor(f))
        yield SystemCommand("Help", "key ?", self.action_help)
        yield SystemCommand("Leave", "key q; training goes on", self.action_leave)

    def _do(self, screen: Screen[object], action: str) -> None:
        self.call_later(self.run_action, action, default_namespace=screen)

    def on_resize(self) -> None:
        """Paint all of it: what the terminal shows of the old size is not known."""
        if isinstance(self._driver, WireDriver):
            self._driver.forget()

    def action_redraw(self) -> None:
        """Paint the screen anew, whatever another program may have written over it."""
        self.on_resize()
        self.screen.refresh()

    def action_help(self) -> None:
        """Open the page of keys."""
        if not isinstance(self.screen, Help):
            self.push_screen(Help())

    def action_leave(self) -> None:
        """Leave; a run under view trains on, and how to come back is printed."""
        self.exit(message=self.farewell())

    def farewell(self) -> str | None:
        """Return what is printed after leaving: how to come back to a run that trains on."""
        from tui.screens.monitor import Monitor

        live = next((s for s in self.screen_stack if isinstance(s, Monitor) and s.is_live), None)
        if live is None:
            return None
        name = fmt.short_id(live.run_folder.id)
        return f"Training goes on. Come back with: cifartui attach {name}"
