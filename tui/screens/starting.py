"""Starts, queues and starts anew runs for the screens, in threads of the app; asks nothing but what a start asks."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from msgspec.structs import replace

from engine.runs.run_dir import RunDir, RunInfo
from engine.runs.run_options import RunOptions
from presets.range_test import is_range_test_name, sweep_of
from tui.screens.start_dialog import Purpose, StartPanel

if TYPE_CHECKING:
    from tui.app import CifartuiApp

Start: TypeAlias = Callable[[Path, str, RunOptions], RunDir]
"""Starts a preset, by its name, in a runs folder; raises CifartuiError."""


def start(
    app: "CifartuiApp",
    begin: Start,
    name: str,
    options: RunOptions,
    ended: Callable[[], object] = lambda: None,
    data_dir: str | None = None,
) -> None:
    """Start a run in a thread and open the Monitor on it; an error is shown as a notification.

    Args:
        app: the dashboard, whose data folder and notify command the run is given.
        begin: makes the run.
        name: of the preset.
        options: typed by the user.
        ended: called once the start is over, whatever came of it.
        data_dir: in place of the dashboard's data folder, if that has none.
    """
    runs_dir, options = app.runs_dir, _as_set(app, options, data_dir)

    def started(run: RunDir) -> None:
        app.open_monitor(run)
        ended()

    def failed(why: str) -> None:
        show_error(app, why)
        ended()

    app.run_in_background(lambda: begin(runs_dir, name, options), started, failed)


def enqueue(
    app: "CifartuiApp",
    names: Sequence[str],
    options: RunOptions,
    queued: Callable[[], object],
    data_dir: str | None = None,
) -> None:
    """Put presets, or the runs of several seeds, at the end of the queue in a thread; then call `queued`."""
    runs_dir, options, add = app.runs_dir, _as_set(app, options, data_dir), app.environment.enqueue
    app.run_in_background(lambda: add(runs_dir, names, options), lambda _: queued(), lambda why: show_error(app, why))


def show_error(app: "CifartuiApp", why: str) -> None:
    """Show why a run was not started."""
    app.notify(why, severity="error", timeout=15)


def start_again(app: "CifartuiApp", info: RunInfo, remedy: Sequence[str], say: Callable[[str], object]) -> None:
    """Ask as before a start, with the settings of a run filled in; then start a run of its own, or queue several seeds.

    Args:
        app: the dashboard.
        info: of the run.
        remedy: changes that are filled in besides, because the run failed without.
        say: shows a sentence while the worker is started.
    """
    environment, name, sweep = app.environment, info.preset_source, sweep_of(info.preset)
    is_test = is_range_test_name(info.preset_name)
    data_dir = app.data_dir or info.data_dir
    filled = RunOptions(overrides=(*info.overrides, *remedy), seed=info.seed, device=info.device, devices=info.devices)

    def begin(runs_dir: Path, name: str, options: RunOptions) -> RunDir:
        if is_test:
            return environment.find_lr(runs_dir, name, options, sweep)
        return environment.start(runs_dir, name, options)

    def answered(chosen: RunOptions | None) -> None:
        if chosen is None:
            return
        if chosen.seeds:
            key, num_runs = app.key_of("home.queue", "Q"), len(chosen.seeds)
            told = f"Queued {num_runs} runs; the queue is on Home's {key}."
            enqueue(app, [name], chosen, lambda: app.notify(told), data_dir)
            return
        say("start again: starting a worker…")
        start(app, begin, name, chosen, data_dir=data_dir)

    purpose: Purpose = "range test" if is_test else "start"
    app.push_screen(StartPanel([name], app.readings, purpose=purpose, options=filled, sweep=sweep), answered)


def _as_set(app: "CifartuiApp", options: RunOptions, data_dir: str | None) -> RunOptions:
    """Return the options with the data folder and the notify command, which are the same for all runs."""
    return replace(options, data_dir=app.data_dir or data_dir, notify=app.display_settings.notify)
