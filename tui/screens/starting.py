"""Starts of runs from the screens: presets from Home, runs anew and resumed from the Monitor. In threads of the app."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from msgspec.structs import replace

from engine.runs.run_dir import RunDir, RunInfo
from engine.runs.run_options import RunOptions
from presets.range_test import DEFAULT_SWEEP, is_range_test_name, sweep_of
from tui import format as fmt
from tui.screens.start_dialog import Purpose, StartPanel
from tui.text import run_text
from tui.theme import Tone

if TYPE_CHECKING:
    from textual.screen import Screen

    from presets.catalog import Listed
    from tui.app import CifartuiApp

Start: TypeAlias = Callable[[Path, str, RunOptions], RunDir]
"""Starts a preset, by its name, in a runs folder; raises CifartuiError."""

_DEMO = "demo"


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
        app: the dashboard, whose data folder and settings of messages the run is given.
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


class PresetStarts:
    """Starts of Home's presets, one at a time: asks what to change, then starts, queues, tests or previews."""

    def __init__(
        self, home: "Screen[None]", presets: "Mapping[str, Listed]", show_queued: Callable[[str], object]
    ) -> None:
        """Start `presets`, by name, from `home`; `show_queued` is told how many were put into the queue."""
        self._home, self._presets, self._show_queued = home, presets, show_queued
        self._app = cast("CifartuiApp", home.app)
        self.is_starting = False

    def offer(self, name: str) -> None:
        """Ask what to change of a preset, and start it."""
        if self.is_usable(name):
            self._ask([name], lambda options: self.start(name, options))

    def offer_queue(self, names: Sequence[str]) -> None:
        """Ask what to change of presets, and put them into the queue."""
        self._ask(names, lambda options: self._enqueue(names, options), "queue")

    def offer_range_test(self, name: str) -> None:
        """Ask what to change of a preset, and start its range test."""

        def find_lr(runs_dir: Path, name: str, options: RunOptions) -> RunDir:
            return self._app.environment.find_lr(runs_dir, name, options, DEFAULT_SWEEP)

        if self.is_usable(name):
            self._ask([name], lambda options: self._begin(find_lr, name, options), "range test")

    def start_demo(self) -> None:
        """Start demo as it is."""
        if _DEMO in self._presets:
            self.start(_DEMO, RunOptions())
        else:
            self._app.notify("There is no preset called demo here.", severity="warning")

    def open_folder(self) -> None:
        """Ask for a folder of images, show its summary, and start a preset on it."""
        from tui.screens.folder import Chosen
        from tui.screens.open_folder import OpenFolder

        def answered(chosen: Chosen | None) -> None:
            if chosen is not None:
                self.start(chosen.preset, chosen.options)

        self._app.push_screen(OpenFolder(list(self._presets.values())), answered)

    def preview(self, name: str) -> None:
        """Show training images of a preset, as a run with seed 0 would be given them."""
        preset = self._presets[name].preset if self.is_usable(name) else None
        if preset is not None:
            from engine.runs.preview import Question
            from tui.screens.preview import PreviewScreen

            self._app.push_screen(PreviewScreen(preset.title, Question(preset=preset, data_dir=self._app.data_dir)))

    def start(self, name: str, options: RunOptions) -> None:
        """Start a preset and open the Monitor; nothing if a start is under way already. Several seeds are queued."""
        if options.seeds:
            self._enqueue([name], options)
        else:
            self._begin(self._app.environment.start, name, options)

    def is_usable(self, name: str) -> bool:
        """Return whether a preset can be started; notify the user if not."""
        is_usable = self._presets[name].preset is not None
        if not is_usable:
            self._app.notify("This preset cannot be used as it is: its file needs mending.", severity="warning")
        return is_usable

    def _ask(self, names: Sequence[str], then: Callable[[RunOptions], object], purpose: Purpose = "start") -> None:
        if self._app.screen is not self._home:  # two keys that came at once, on a slow line
            return

        def answered(options: RunOptions | None) -> None:
            if options is not None:
                then(options)

        self._app.push_screen(StartPanel(names, self._app.readings, purpose=purpose), answered)

    def _begin(self, begin: Start, name: str, options: RunOptions) -> None:
        if not self.is_starting:
            self.is_starting = True
            start(self._app, begin, name, options, self._ended)

    def _ended(self) -> None:
        self.is_starting = False

    def _enqueue(self, names: Sequence[str], options: RunOptions) -> None:
        num_runs = len(options.seeds) * len(names)
        queued = f"{num_runs} runs" if num_runs else fmt.plural(len(names), "preset")
        enqueue(self._app, names, options, lambda: self._show_queued(queued))


def resume(app: "CifartuiApp", run: RunDir, changes: list[str], say: Callable[[str, Tone], object]) -> None:
    """Start a worker that goes on from the last checkpoint, with `changes` of the preset; `say` tells how that ends."""
    from engine.runs.resume import resume_run

    notify = app.display_settings.notify
    app.run_in_background(
        lambda: resume_run(run, changes, notify),
        lambda _: say(f"resume: {run_text.STARTED}", "good"),
        lambda why: say(f"resume: {why}", "bad"),
    )


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


def offer_elsewhere(app: "CifartuiApp", host: str, name: str) -> None:
    """Ask what to change of a preset, and start it on another host, or queue several seeds there."""
    others = app.others
    assert others is not None, "there is a host"

    def started(run: str) -> None:
        if run:
            app.open_run(run)
        else:
            app.notify(f"{name} is in the queue of {host}.")

    def answered(options: RunOptions | None) -> None:
        if options is not None:
            app.notify(f"Starting {name} on {host} …")
            app.run_in_background(lambda: others.start(host, name, options), started, lambda why: show_error(app, why))

    app.push_screen(StartPanel([name], app.readings, host=host), answered)


def _as_set(app: "CifartuiApp", options: RunOptions, data_dir: str | None) -> RunOptions:
    """Return the options with the data folder and who is told, which are the same for all runs."""
    return replace(options, data_dir=app.data_dir or data_dir, notify=app.display_settings.notify)
