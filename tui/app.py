"""The dashboard's application: screens, keys that work everywhere, and the palette. Reads no files itself."""

import asyncio
import gc
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from rich.console import Console
from rich.text import Text
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.events import DescendantFocus
from textual.filter import LineFilter, Monochrome, NoColor
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.theme import Theme
from textual.widgets import Input

from engine.runs.run_dir import RunDir
from presets.safe_text import visible
from tui import format as fmt
from tui.data.environment import Environment
from tui.display import Display, PlotStyle
from tui.screens.home import Home
from tui.terminal.driver import ControlCharFilter, DiffDriver
from tui.theme import theme

if TYPE_CHECKING:
    from tui.data.follower import History

_TOLD_ONCE_WITHIN_S = 60.0
_MOST_THREADS = 32
"""Each is started when it is needed. asyncio's own pool has four more than there are cores: screens that stand above
each other fill it with threads that read, and the key that asks for a stop would wait for one of them to be left."""
_STARTED_S = 1.0
"""After which the first screen is there, and garbage is collected again."""


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
        Binding("question_mark", "help", "help", key_display="?", id="app.help", tooltip="this page"),
        Binding("q", "leave", "leave", id="app.leave", tooltip="leave; training goes on"),
        Binding("ctrl+l", "redraw", "redraw", show=False, id="app.redraw", tooltip="paint the screen anew"),
        Binding("ctrl+q,ctrl+c", "leave", "leave", show=False, priority=True),
    ]

    def __init__(
        self,
        runs_dir: Path,
        data_dir: str | None = None,
        attach: RunDir | None = None,
        environment: Environment | None = None,
        display: Display | None = None,
        ahead: "Callable[[], History | None] | None" = None,
    ) -> None:
        """Show the runs of `runs_dir`.

        Args:
            runs_dir: where runs are kept; need not exist yet.
            data_dir: searched first for data sets, and handed to the runs started here.
            attach: open the Monitor on this run, with Home beneath it.
            environment: clock, GPUs, presets and data sets other than this machine's, for tests and pictures.
            ahead: waits for the history of `attach`, where somebody else reads it already.
            display: colours, signs and keys; those of a modern terminal if absent, whatever the environment says.
        """
        super().__init__(driver_class=DiffDriver)
        self.display_settings = display or Display()
        self._take_theme(theme(self.display_settings.theme))
        self.console = _console(self.console, self.display_settings)
        self._painters = [ControlCharFilter(), *_painters(self.display_settings)]
        if self.display_settings.low_bandwidth:
            self.animation_level = "none"
        self.set_keymap(self.display_settings.keys)
        self.runs_dir, self.data_dir = runs_dir, data_dir
        self.environment = environment or Environment()
        self._first_run, self._ahead = attach, ahead
        self._told_endings: dict[str, float] = {}

    # --- the look ------------------------------------------------------------------------------

    def _take_theme(self, own: Theme) -> None:
        """Show our own colours, from the first screen on."""
        self.register_theme(own)
        if own.dark:  # as Textual's own first theme: a change would have every style parsed and applied a second time
            self.set_reactive(App.theme, own.name)
            self.stylesheet.set_variables(self.get_css_variables())
        else:
            self.theme = own.name

    @property
    def plot_style(self) -> PlotStyle:
        """What curves are drawn with."""
        return self.display_settings.plots

    @property
    def has_colors(self) -> bool:
        """Whether colours are sent; without them, curves have to differ in their signs."""
        return self.display_settings.colors != "none"

    @property
    def paint_every_s(self) -> float:
        """How often a screen that shows a live run may paint."""
        return 2.0 if self.display_settings.low_bandwidth else 1.0

    @property
    def plots_every_s(self) -> float:
        """How often curves may be drawn anew."""
        return 5.0 if self.display_settings.low_bandwidth else 1.0

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Keep the cursor of a field from blinking over a slow line."""
        if self.display_settings.low_bandwidth and isinstance(event.widget, Input):
            event.widget.cursor_blink = False

    def key_of(self, binding_id: str, usual: str) -> str:
        """Return the key that an action has: the configured one, or else `usual`."""
        return self.display_settings.keys.get(binding_id, usual).replace(",", " ")

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Paint as the look asks. Textual's own answer to NO_COLOR sends greys; the look has decided on colours."""
        kept = [own for own in super().get_line_filters() if not isinstance(own, Monochrome | NoColor)]
        return [*kept, *self._painters]

    def notify(
        self, message: str, *, title: str = "", severity: SeverityLevel = "information", timeout: float | None = None,
        markup: bool = False,
    ) -> None:  # fmt: skip
        """Show a message for a while, as it is: what we say quotes files, and is never markup."""
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=False)

    # --- screens -------------------------------------------------------------------------------

    def get_default_screen(self) -> Home:
        """Return Home: the screen beneath all others."""
        home = Home()
        # Textual would set these with the first layout, and style every widget a second time.
        for length, breakpoints in (
            (self.size.width, self.HORIZONTAL_BREAKPOINTS),
            (self.size.height, self.VERTICAL_BREAKPOINTS),
        ):
            home.add_class([name for least, name in breakpoints or () if length >= least][-1])
        return home

    def on_load(self) -> None:
        """Make room for the threads of every screen, however few cores there are."""
        from concurrent.futures import ThreadPoolExecutor  # loads with the first thread anyway

        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_MOST_THREADS, "screens"))

    def on_mount(self) -> None:
        """Show the run asked for, above Home."""
        self.set_timer(_STARTED_S, _collect_garbage)
        if self._first_run is not None:
            self.open_monitor(self._first_run, self._ahead)

    @property
    def opens_on_a_run(self) -> bool:
        """Whether a run is the first thing to be shown."""
        return self._first_run is not None

    def open_monitor(self, run: RunDir, ahead: "Callable[[], History | None] | None" = None) -> None:
        """Show the Monitor on `run`, whose history `ahead` may wait for, in place of one that is open."""
        from tui.screens.monitor import Monitor

        if isinstance(self.screen, Monitor):
            self.pop_screen()
        self.push_screen(Monitor(run, ahead))

    def open_queue(self) -> None:
        """Show the queue, unless it is shown already."""
        from tui.screens.queue import QueueScreen

        if not isinstance(self.screen, QueueScreen):
            self.push_screen(QueueScreen(self.runs_dir, self.environment, self.display_settings.notify))

    def open_runs(self) -> None:
        """Show the table of all runs."""
        from tui.screens.runs import RunsScreen

        if not isinstance(self.screen, RunsScreen):
            self.push_screen(RunsScreen())

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer every key of the screen, and every recent run, by name."""
        for active in screen.active_bindings.values():
            binding = active.binding
            if active.node is screen and binding.tooltip and active.enabled:
                said, action = binding.tooltip, binding.action
                key = f"key {self.get_key_display(binding)}"
                yield SystemCommand(said[0].upper() + said[1:], key, lambda a=action: self._do(screen, a))
        home = next((below for below in self.screen_stack if isinstance(below, Home)), None)
        for run in home.runs if home is not None else ():
            folder = RunDir(Path(run.path))
            title = _as_it_is(f"Attach to run {fmt.short_id(run.id)}")
            yield SystemCommand(title, _as_it_is(f"{run.title}, {run.status}"), lambda f=folder: self.open_monitor(f))
        yield SystemCommand("Help", "key ?", self.action_help)
        yield SystemCommand("Leave", "key q; training goes on", self.action_leave)

    def _do(self, screen: Screen[object], action: str) -> None:
        self.call_later(self.run_action, action, default_namespace=screen)

    def on_resize(self) -> None:
        """Paint all of it: what the terminal shows of the old size is not known."""
        if isinstance(self._driver, DiffDriver):
            self._driver.invalidate()

    def action_redraw(self) -> None:
        """Paint the screen anew, whatever another program may have written over it."""
        self.on_resize()
        self.screen.refresh()

    def action_help(self) -> None:
        """Open the page of keys."""
        from tui.screens.dialogs import Help

        if not isinstance(self.screen, Help):
            self.push_screen(Help())

    def action_leave(self) -> None:
        """Leave; a run under view trains on, and how to come back is printed."""
        said = self.farewell()
        self.exit(message=None if said is None else Text(visible(said)))

    # --- runs that end -------------------------------------------------------------------------

    def run_ended(self, title: str, status: str, detail: str, run_id: str) -> None:
        """Tell somebody who looks elsewhere that a run ended: bell, the terminal's notification, a line on the screen.

        Home and the Monitor may both see a run end; within a minute it is told once.

        Args:
            title: of the preset.
            status: how it ended: completed, failed …
            detail: why, or how good it is; may be empty.
            run_id: of the run, which is not told twice, and not on the screen that shows it anyway.
        """
        now = self.environment.now()
        if now - self._told_endings.get(run_id, -math.inf) < _TOLD_ONCE_WITHIN_S:
            return
        self._told_endings[run_id] = now
        if self.display_settings.bell:
            self.bell()
        text = f"{status}: {detail}" if detail else status
        viewed = getattr(self.screen, "run_folder", None)
        if viewed is None or viewed.id != run_id:
            self.notify(text, title=title)
        if self.is_headless or self._driver is None:
            return
        from tui.terminal.sequences import sequences

        if self.plot_style == "ascii":
            from tui.terminal.fallback import ascii_table, to_ascii

            title, text = to_ascii(title, ascii_table()), to_ascii(text, ascii_table())
        self._driver.write(sequences(os.environ, title, text))

    def farewell(self) -> str | None:
        """Return what is printed after leaving: how to come back to a run that trains on."""
        from tui.screens.monitor import Monitor

        live = next((s for s in self.screen_stack if isinstance(s, Monitor) and s.is_live), None)
        if live is None:
            return None
        name = fmt.short_id(live.run_folder.id)
        return f"Training goes on. Come back with: cifartui attach {name}"


def _as_it_is(text: str) -> str:
    """Return markup that shows `text`: the palette takes nothing else."""
    return text.replace("[", "\\[")


def _console(before: Console, display: Display) -> Console:
    """Return Textual's console, sending as many colours as the look asks for."""
    system: Literal["truecolor", "256", "standard"] = (
        display.colors if display.colors in {"truecolor", "256"} else "standard"
    )
    if before.color_system == system:
        return before
    return Console(
        color_system=system, file=before.file, markup=True, highlight=False, emoji=False, legacy_windows=False,
        force_terminal=True, safe_box=False, soft_wrap=False,
    )  # fmt: skip


def _painters(display: Display) -> list[LineFilter]:
    """Return what turns painted rows into what `display` asks for: nothing, and nothing imported, for most people."""
    if display.is_as_drawn:
        return []
    from tui.terminal.fallback import repaint

    painter = repaint(display)
    return [painter] if painter is not None else []


def _collect_garbage() -> None:
    """Collect what becomes garbage from now on; all that is there now stays as long as the program."""
    if not gc.isenabled():  # switched off by `tui.main`
        gc.freeze()
        gc.enable()
