"""Start of the dashboard: terminal checks, configuration, display settings, app. No click.

Its imports delay the first screen, so there are few: click alone takes 20 ms.
"""

import gc
import locale
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from engine.runs.run_dir import RunDir, default_runs_dir
from presets.errors import CifartuiError
from presets.safe_text import visible
from tui.account import check_account
from tui.config import Config, config_path, read_config
from tui.display import ColorDepth, Display, PlotStyle
from tui.terminal import capabilities

if TYPE_CHECKING:
    from tui.hosts.ssh import Host


def open_as_configured() -> int:
    """Show the dashboard as `cifartui` without arguments does; return the exit code."""
    try:
        check_account()
        return open_dashboard(default_runs_dir().absolute(), None)
    except CifartuiError as error:
        print(visible(f"cifartui: {error}"), file=sys.stderr)
        return 2


def open_dashboard(
    runs_dir: Path,
    data_dir: str | None,
    attach: RunDir | None = None,
    options: Mapping[str, Any] | None = None,
    hosts: str | None = None,
    elsewhere: str = "",
) -> int:
    """Show the dashboard until the user leaves it; return the exit code, 1 after a fault of the dashboard.

    A signal ends the process here, with 128 and its number.

    Args:
        runs_dir: where runs are kept.
        data_dir: folder searched first for data.
        attach: open the Monitor on this run.
        options: fields of Config that go before those of the file.
        hosts: names of other hosts, with commas between; by default all of the configuration.
        elsewhere: in place of `attach`, a run of another host: gpu1:RUN.

    Raises:
        CifartuiError: there is no terminal to show it on, or the configuration is not valid.
    """
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise CifartuiError(
            "the dashboard needs a terminal; here, start runs with `cifartui train PRESET` and see cifartui --help."
        )
    if not capabilities.has_screen(os.environ):
        raise CifartuiError(
            f"the dashboard needs a terminal that can move its cursor, and TERM={os.environ.get('TERM')} says that "
            "this one cannot; here, start runs with `cifartui train PRESET`."
        )
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the driver listens, Ctrl-C leaves no traceback
    gc.disable()
    config = structs.replace(checked_config(), **(options or {}))
    display = display_of(config)  # may refuse: nobody would wait for the helper
    others = _hosts(config, hosts, elsewhere.partition(":")[0])
    ahead = None
    if attach is not None:
        from tui.data.follower import read_ahead

        ahead = read_ahead(attach)
    from tui.app import CifartuiApp

    app = CifartuiApp(runs_dir, data_dir, attach, display=display, ahead=ahead, hosts=others, elsewhere=elsewhere)
    threading.excepthook = lambda fault: app.fail(fault.exc_value or fault.exc_type())
    try:
        app.run()
    except Exception as error:
        app.crash = app.crash or _traceback_of(error)
    finally:
        app.give_terminal_back()
    if app.ended_by is not None:
        from tui.terminal.driver import end_process

        end_process(128 + app.ended_by)
    if app.crash is None:
        return 0
    print(visible(_crashed(app.crash, runs_dir)), file=sys.stderr)
    return 1


def _hosts(config: Config, named: str | None, needed: str) -> "Sequence[Host]":
    """Return the other hosts: those named, else those of the configuration; and the one needed in any case."""
    if not config.hosts and named is None and not needed:
        return ()
    from tui.hosts.ssh import chosen_hosts

    names = named if named is not None else ",".join(config.hosts)
    return chosen_hosts(f"{needed},{names}" if names != "all" else f"{needed},{','.join(config.hosts)}", config.hosts)


def _traceback_of(error: Exception) -> str:
    import traceback

    return "".join(traceback.format_exception(error))


def _crashed(crash: str, runs_dir: Path) -> str:
    """Put a traceback into a file, and return the sentence that names it."""
    import tempfile

    last = crash.strip().splitlines()[-1]
    for folder in (runs_dir, Path(tempfile.gettempdir())):
        try:
            fd, path = tempfile.mkstemp(prefix="dashboard-crash-", suffix=".txt", dir=folder)
            with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(crash)
        except OSError:
            continue
        return f"cifartui: the dashboard ended by a fault of its own ({last}). Training goes on; the fault is in {path}"
    return f"cifartui: the dashboard ended by a fault of its own. Training goes on.\n{crash}"


def checked_config() -> Config:
    """Return the configuration, its keys checked against the screens.

    Raises:
        CifartuiError: something in it is not valid.
    """
    config = read_config()
    if config.keys:
        from tui.keymap import check_keys  # imports the screens

        check_keys(config.keys, str(config_path()))
    return config


def display_of(config: Config) -> Display:
    """Return `config` with what it leaves to the terminal decided."""
    plots, colors = plot_choice(config), color_choice(config)
    return Display(
        theme=config.theme,
        plots=plots.value,
        colors=colors.value,
        narrow=config.plots == "auto" and capabilities.wide_signs(os.environ).value,
        low_bandwidth=config.low_bandwidth,
        bell=config.bell,
        keys=config.keys,
        notify=config.beside,
    )


def plot_choice(config: Config) -> capabilities.Choice[PlotStyle]:
    """Return what plots are drawn with, and why."""
    if config.plots != "auto":
        return capabilities.Choice(config.plots, "as configured")
    return capabilities.plot_style(os.environ, locale.getpreferredencoding(False))


def color_choice(config: Config) -> capabilities.Choice[ColorDepth]:
    """Return how many colours are sent, and why."""
    if config.colors != "auto":
        return capabilities.Choice(config.colors, "as configured")
    return capabilities.color_depth(os.environ)
