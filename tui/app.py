"""Textual application: screens, global keys, command palette, notification at the end of a run. No file access."""

import asyncio
import gc
import itertools
import math
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from rich.console import Console
from rich.text import Text
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.events import DescendantFocus, Paste
from textual.filter import LineFilter, Monochrome, NoColor
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.theme import Theme
from textual.widgets import Input

from engine import files
from engine.runs.run_dir import RunDir
from presets.errors import CifartuiError
from presets.safe_text import visible
from tui import format as fmt
from tui.data.environment import Environment
from tui.display import Display, PlotStyle
from tui.screens.home import Home
from tui.terminal.driver import DiffDriver
from tui.terminal.keyboard import Burst
from tui.terminal.screen_diff import ControlCharFilter
from tui.theme import theme
from tui.widgets.basic import TakesText

if TYPE_CHECKING:
    from textual.command import Provider

    from tui.data.environment import GpuReadings
    from tui.data.follower import History
    from tui.hosts.listing import Hosts
    from tui.hosts.remote_run import RemoteRun
    from tui.hosts.ssh import Host

_SAME_END_WITHIN_S = 60.0
_Answer = TypeVar("_Answer")
_MOST_THREADS = 32
"""Each is started when it is needed. asyncio's own pool has four more than there are cores: screens that stand above
each other fill it with threads that read, and the key that asks for a stop would wait for one of them to be left."""
_STARTED_S = 1.0
"""The first screen is painted by then, and garbage is collected again."""
_DESTRUCTIVE = {"abort", "delete", "remove"}
"""Actions that take something away."""


def _palette() -> "type[Provider]":
    from tui.screens.dialogs import Palette

    return Palette


class CifartuiApp(App[None]):
    """The dashboard: Home at the bottom of the screen stack, other screens above it."""

    TITLE = "cifartui"
    CSS_PATH = "style.tcss"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS = {_palette}  # noqa: RUF012 - as Textual declares it
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - as Textual declares it
        (0, "-tiny"), (60, "-narrow"), (110, "-wide"), (150, "-very-wide"),
    ]  # fmt: skip
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (16, "-short"), (34, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "help", key_display="?", id="app.help", tooltip="this page"),
        Binding("q", "leave", "leave", id="app.leave", tooltip="leave; training goes on"),
        Binding("ctrl+l", "redraw", "redraw", show=False, id="app.redraw", tooltip="paint the screen anew"),
        Binding("ctrl+q,ctrl+c", "leave", "leave", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", "suspend", show=False, priority=True, system=True),
    ]

    def __init__(
        self,
        runs_dir: Path,
        data_dir: str | None = None,
        attach: RunDir | None = None,
        environment: Environment | None = None,
        display: Display | None = None,
        ahead: "Callable[[], History | None] | None" = None,
        hosts: "Sequence[Host]" = (),
        elsewhere: str = "",
    ) -> None:
        """Show the runs of `runs_dir`.

        Args:
            runs_dir: where runs are kept; need not exist yet.
            data_dir: searched first for data sets, and passed to the runs started here.
            attach: open the Monitor on this run, with Home beneath it.
            environment: clock, GPUs, presets and data sets other than this machine's, for tests and pictures.
            ahead: waits for the history of `attach`, if a helper process reads it already.
            display: theme, colours, characters and keys; if absent, those of a modern terminal.
            hosts: other machines, whose runs are shown too.
            elsewhere: open the Monitor on this run of one of them: gpu1:RUN.
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
        self._first_run, self._ahead, self._elsewhere = attach, ahead, elsewhere
        self._hosts = hosts
        self.others: Hosts | None = None
        """The other hosts, once the first screen is painted; None if there are none."""
        self._notified_at: dict[str, float] = {}
        self.crash: str | None = None
        """Traceback of the fault that ended the dashboard."""

    # --- display -------------------------------------------------------------------------------

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
        """Characters that curves are drawn with."""
        return self.display_settings.plots

    @property
    def has_colors(self) -> bool:
        """True if colours are sent; without them, curves differ by their characters."""
        return self.display_settings.colors != "none"

    @property
    def paint_every_s(self) -> float:
        """Seconds between two paints of a screen that shows a live run."""
        return 2.0 if self.display_settings.low_bandwidth else 1.0

    @property
    def plots_every_s(self) -> float:
        """Seconds between two paints of curves."""
        return 5.0 if self.display_settings.low_bandwidth else 1.0

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Keep the cursor of a field from blinking over a slow line."""
        if self.display_settings.low_bandwidth and isinstance(event.widget, Input):
            event.widget.cursor_blink = False

    def key_of(self, binding_id: str, usual: str) -> str:
        """Return the key that an action has: the configured one, or else `usual`."""
        return self.display_settings.keys.get(binding_id, usual).replace(",", " ")

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return the filters of our display in place of Textual's own for NO_COLOR, which send greys."""
        kept = [own for own in super().get_line_filters() if not isinstance(own, Monochrome | NoColor)]
        return [*kept, *self._painters]

    def notify(
        self, message: str, *, title: str = "", severity: SeverityLevel = "information", timeout: float | None = None,
        markup: bool = False,
    ) -> None:  # fmt: skip
        """Show a message for a while, as plain text: it may quote files, so it is never markup."""
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
        """Make room for the threads of every screen, however few cores there are; hear of faults in the loop."""
        from concurrent.futures import ThreadPoolExecutor  # loads with the first thread anyway

        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_MOST_THREADS, "screens"))
        loop.set_exception_handler(self._fail_in_loop)

    def on_mount(self) -> None:
        """Open the Monitor on the first run, if one was given."""
        self.set_timer(_STARTED_S, _collect_garbage)
        if self._first_run is not None:
            self.open_monitor(self._first_run, self._ahead)
        if self._elsewhere:
            self.connect()
            self.open_run(self._elsewhere)

    def connect(self) -> None:
        """Open the lines to the other hosts, if there are any."""
        if self._hosts and self.others is None:
            from tui.hosts.listing import Hosts

            self.others = Hosts(self._hosts)

    def on_unmount(self) -> None:
        """Close the lines to the other hosts."""
        if self.others is not None:
            self.others.close()

    def readings(self) -> "GpuReadings | None":
        """Return Home's latest reading of the machine."""
        home = next((below for below in self.screen_stack if isinstance(below, Home)), None)
        return home.readings() if home is not None else None

    @property
    def has_others(self) -> bool:
        """True if other hosts are shown too."""
        return bool(self._hosts)

    @property
    def opens_on_a_run(self) -> bool:
        """True if the Monitor is opened at the start, above Home."""
        return self._first_run is not None or bool(self._elsewhere)

    def open_monitor(
        self,
        run: RunDir,
        ahead: "Callable[[], History | None] | None" = None,
        elsewhere: "RemoteRun | None" = None,
    ) -> None:
        """Show the Monitor on `run`, whose history `ahead` may wait for, in place of one that is open.

        `elsewhere` is the run, if it is one of another host.
        """
        from tui.screens.monitor import Monitor

        if isinstance(self.screen, Monitor):
            self.pop_screen()
        self.push_screen(Monitor(run, ahead, elsewhere))

    def open_run(self, name: str) -> None:
        """Show the Monitor on a run by its name in a list: an id of this machine, or gpu1:ID."""
        elsewhere = self.others.run(name) if self.others is not None else None
        if elsewhere is None:
            self.open_monitor(RunDir(self.runs_dir / name))
        else:
            self.open_monitor(elsewhere.folder, elsewhere=elsewhere)

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
        """Offer the keys of the screen that have an effect now, every recent run and every preset, by name.

        What takes something away comes last.
        """
        from tui.text.run_name import run_name

        keys = list(self._keys_of(screen))
        yield from (command for command, is_destructive in keys if not is_destructive)
        home = next((below for below in self.screen_stack if isinstance(below, Home)), None)
        shown = getattr(screen, "shown_run", "")
        for run in home.everywhere().runs if home is not None else ():
            if run.id != shown:
                where = f" on {run.host}" if run.is_elsewhere else ""
                title = _as_it_is(f"Attach to run {run_name(run.id, run.preset_name, run.words)}{where}")
                yield SystemCommand(title, _as_it_is(f"{run.title}, {run.status}"), lambda r=run.id: self.open_run(r))
        for title, about, start in home.starts_by_name() if home is not None else ():
            yield SystemCommand(_as_it_is(title), _as_it_is(about), start)
        yield SystemCommand("Help", "key ?", self.action_help)
        yield SystemCommand("Leave", "key q; training goes on", self.action_leave)
        yield from (command for command, is_destructive in keys if is_destructive)

    def _keys_of(self, screen: Screen[object]) -> Iterator[tuple[SystemCommand, bool]]:
        """Yield the keys of a screen that have an effect, and whether they take something away; no two alike."""
        idle: Collection[str] = getattr(screen, "idle_actions", ())
        seen: set[str] = set()
        for active in screen.active_bindings.values():
            binding = active.binding
            if active.node is not screen or not active.enabled or binding.action in idle:
                continue
            if not binding.tooltip or binding.tooltip in seen:
                continue
            seen.add(binding.tooltip)
            title, key = binding.tooltip[0].upper() + binding.tooltip[1:], f"key {self.get_key_display(binding)}"
            command = SystemCommand(title, key, lambda action=binding.action: self._do(screen, action))
            yield command, binding.action in _DESTRUCTIVE

    def _do(self, screen: Screen[object], action: str) -> None:
        self.call_later(self.run_action, action, default_namespace=screen)

    def run_in_background(
        self,
        action: Callable[[], _Answer],
        then: Callable[[_Answer], object],
        failed: Callable[[str], object],
    ) -> None:
        """Run `action` in a thread, then call `then` with its result, or `failed` with its error, in the app's thread.

        The thread is the app's: `action` runs to its end, and the callbacks are called, also if the screen that
        asked is closed by then; they check whether it is still there.
        """

        def work() -> None:
            try:
                answer = action()
            except CifartuiError as error:
                self.call_from_thread(failed, str(error))
            except OSError as error:
                self.call_from_thread(failed, str(files.unusable(error)))
            else:
                self.call_from_thread(then, answer)

        self.run_worker(work, thread=True, group="actions")

    def on_burst(self, burst: Burst) -> None:
        """Put the first line of what no hand typed into a field; elsewhere it does nothing, and that is said."""
        if not burst.is_reply:
            typed = "".join(itertools.takewhile(str.isprintable, burst.text))
            is_taken = isinstance(self.focused, Input)
            if self.focused is not None and is_taken:
                self.focused.post_message(Paste(typed))
            elif isinstance(self.screen, TakesText):
                beginning = burst.text.lstrip()  # a Tab may lead to the field
                typed = "".join(itertools.takewhile(str.isprintable, beginning))
                is_taken = self.screen.take_text(typed)
            if is_taken and burst.text.strip() == typed.strip():
                return
        self.clear_notifications()
        self.notify(f"{len(burst.text)} characters at once: not taken for keys.")

    @property
    def ended_by(self) -> int | None:
        """Number of the signal that ended the dashboard, if one did."""
        return self._driver.ended_by if isinstance(self._driver, DiffDriver) else None

    def give_terminal_back(self) -> None:
        """See to it that the terminal is as it was, also if a fault kept Textual from it."""
        if isinstance(self._driver, DiffDriver):
            self._driver.end()

    def _handle_exception(self, error: Exception) -> None:
        """Keep the traceback: `tui/main.py` puts it into a file."""
        self.crash = self.crash or "".join(traceback.format_exception(error))
        super()._handle_exception(error)

    def fail(self, error: BaseException) -> None:
        """End by a fault that Textual does not hear of: of a thread, of a call in the loop."""
        if self._exit or self._loop is None:
            return
        self.crash = self.crash or "".join(traceback.format_exception(error))
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.exit, None, 1)

    def _fail_in_loop(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception):
            self.fail(error)
        else:
            loop.default_exception_handler(context)

    def _print(self, text: str, stderr: bool = False) -> None:
        """Keep what is printed by Python with what is printed by others: the driver says it at the end."""
        super()._print(text, stderr)
        if not self.is_headless and sys.__stderr__ is not None:
            sys.__stderr__.write(text)

    def _print_error_renderables(self) -> None:
        """Leave a long traceback out of the terminal: a sentence names its file."""
        if self.crash is not None and not self.is_headless:
            self._exit_renderables.clear()
        super()._print_error_renderables()

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
        """Leave; if a live run is shown, it trains on, and the command to attach to it is printed."""
        text = self.farewell()
        self.exit(message=None if text is None else Text(visible(text)))

    # --- runs that end -------------------------------------------------------------------------

    def run_ended(self, title: str, status: str, detail: str, run_id: str) -> None:
        """Notify of the end of a run: bell, the terminal's notification, a line on the screen.

        Home and the Monitor may both observe the same end; of those within a minute, the first is notified.

        Args:
            title: of the preset, with the settings of the run.
            status: completed, failed …
            detail: the reason, or the result; may be empty.
            run_id: of the run; on the Monitor of that run, the line on the screen is left out.
        """
        now = self.environment.now()
        if now - self._notified_at.get(run_id, -math.inf) < _SAME_END_WITHIN_S:
            return
        self._notified_at[run_id] = now
        if self.display_settings.bell:
            self.bell()
        text = f"{status}: {detail}" if detail else status
        viewed = getattr(self.screen, "run_folder", None)
        if viewed is None or viewed.id != run_id.rpartition(":")[2]:
            self.notify(text, title=title)
        if self.is_headless or self._driver is None:
            return
        from tui.terminal.sequences import sequences

        if self.plot_style == "ascii":
            from tui.terminal.fallback import ascii_table, to_ascii

            title, text = to_ascii(title, ascii_table()), to_ascii(text, ascii_table())
        self._driver.write(sequences(os.environ, title, text))

    def farewell(self) -> str | None:
        """Return the line to print after leaving: the command that attaches to the run shown, if it is live."""
        from tui.screens.monitor import Monitor

        live = next((s for s in self.screen_stack if isinstance(s, Monitor) and s.is_live), None)
        if live is None:
            return None
        name = live.elsewhere.name if live.elsewhere is not None else fmt.short_id(live.run_folder.id)
        return f"Training goes on. Come back with: cifartui attach {name}"


def _as_it_is(text: str) -> str:
    """Return markup that shows `text`: the palette takes nothing else."""
    return text.replace("[", "\\[")


def _console(before: Console, display: Display) -> Console:
    """Return Textual's console, sending as many colours as `display` asks for."""
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
