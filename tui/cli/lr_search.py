"""Search of `lr-find --thorough`: its short runs, one after another, with plan, curves and suggestion as printed."""

import math
import re
import shlex
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

from msgspec.structs import replace

from engine.journal.commands import Abort
from engine.journal.events import AnyEvent, StepsTrained
from engine.journal.jsonl import append_command
from engine.runs.lr_search import (
    Grid,
    Progress,
    Search,
    Trial,
    found,
    grid_of,
    has_diverged,
    in_words,
    planned,
    progress_of,
)
from engine.runs.lr_trials import TrialRuns, cost_of, delete_weights, is_diverged, trial_of
from engine.runs.notify_settings import NOBODY
from engine.runs.run_dir import RunDir
from engine.runs.run_options import RunOptions
from presets import catalog
from presets.errors import CifartuiError
from presets.plan import plan
from presets.problems import printable
from presets.schema import Preset
from presets.short_run import Length, probe, short_run
from tui import format as fmt
from tui.cli.follow import Output, follow
from tui.cli.interrupts import ENDS, HUNG_UP, NOBODY_READS, Interrupts
from tui.cli.options import Places
from tui.cli.output import say, say_json
from tui.data.range_test import training_command

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?(h|min|m|s)")
_LEAST_S, _MOST_S = 30.0, 30 * 86_400.0
_WIDEST = 100
_PROBE_S = 12.0
"""The run that measures the time trains for so long, or a twentieth of the budget if that is less."""
_PROBE_SHARE = 0.05


def parse_budget(text: str) -> float:
    """Return the seconds that a text such as 20m, 1.5h or "1h 30m" names.

    Raises:
        CifartuiError: it names none, or too few, or too many.
    """
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text).strip():
        raise CifartuiError(f"--budget cannot be {printable(text, 40)!r}; write a time such as 20m, 1.5h or 1h30m.")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not _LEAST_S <= seconds <= _MOST_S:
        raise CifartuiError(f"--budget is from 30s to 720h, not {text.strip()}.")
    return seconds


class _Ended(Exception):
    """The search ends before its end; the argument is the exit code."""


class _Teller:
    """Printing of a search: for people, or as JSON lines for programs."""

    def __init__(self, output: Output) -> None:
        self.is_json = output == "json"
        self._says = output not in {"json", "quiet"}
        self._draws = output in {"auto", "live"} and sys.stdout.isatty()
        self.output: Output = "quiet" if self.is_json else output
        """Of each run."""

    def say(self, text: str) -> None:
        """Print a line for people."""
        if self._says:
            say(text)

    def record(self, kind: str, **fields: Any) -> None:
        """Print a line for programs."""
        if self.is_json:
            say_json({"type": kind, **fields}, indent=0)

    def begun(self, preset: Preset, group: str, num_there: int) -> None:
        """Tell what is searched."""
        stage = f', the rate of its first stage, "{plan(preset)[0].name}", trained alone' if preset.stages else ""
        self.say(f"{preset.title}: search for a learning rate{stage} (group {group})")
        if num_there:
            self.say(
                f"{fmt.plural(num_there, 'run')} of it there already, which cifartui delete {group} would take away"
            )

    def plan(self, search: Search, group: str) -> None:
        """Tell how many rates are trained for how long."""
        first = progress_of(search, {})
        rungs = [(len(first.rungs[0].places), first.rungs[0].length), *first.to_come]
        rates = [search.grid.rate(place) for place in search.grid.places]
        parts = ", ".join(f"{num} × {in_words(length, search.num_images)}" for num, length in rungs)
        self.say(
            f"{len(rates)} rates from {fmt.lr(rates[0])} to {fmt.lr(rates[-1])}, "
            f"{fmt.plural(len(rungs), 'rung')} ({parts}), about {fmt.duration(first.seconds_left)}"
        )
        self.record(
            "plan",
            group=group,
            rates=rates,
            rungs=[{"rates": num, "epochs": each.epochs, "images": each.num_images} for num, each in rungs],
            seconds=round(first.seconds_left),
        )

    def rung(self, search: Search, progress: Progress) -> None:
        """Draw what there is of the rungs before, and head the next one."""
        self.draw(search, progress, None)
        rung = progress.rungs[-1]
        of = len(progress.rungs) + len(progress.to_come)
        self.say(
            f"rung {len(progress.rungs)} of {of}: {fmt.plural(len(rung.places), 'rate')}, "
            f"{in_words(rung.length, search.num_images)} each"
        )

    def trial(self, rung: int, trial: Trial) -> None:
        """Tell what a run came to."""
        reached = "diverged" if trial.accuracy is None else f"val {fmt.percent(trial.accuracy)}"
        self.say(f"  lr {fmt.lr(trial.lr):<10} {reached:<11} {fmt.duration(trial.seconds):>10}")
        self.record(
            "trial",
            rung=rung,
            lr=trial.lr,
            epochs=trial.length.epochs,
            images=trial.length.num_images,
            val=trial.accuracy,
            val_loss=trial.loss if math.isfinite(trial.loss) else None,
            seconds=round(trial.seconds, 2),
            run=trial.run,
        )

    def draw(self, search: Search, progress: Progress, lr: float | None, *, always: bool = False) -> None:
        """Draw the accuracies so far, if anybody sees it grow, or `always` where people read."""
        if not self._says or not (self._draws or always):
            return
        from tui.cli.show import say_rows
        from tui.plots.lr_search import search_rows

        say_rows(lambda width, _coloured: search_rows(search, progress.rungs, lr, width))


def run_search(
    name: str,
    options: RunOptions,
    ends: tuple[float | None, float | None],
    budget_s: float,
    output: Output,
    where: Places,
    interrupts: Interrupts,
) -> int:
    """Search for the learning rate of a preset, tell of it, and return the exit code.

    Args:
        name: of the preset.
        options: of its runs.
        ends: smallest and largest rate; None where the search decides.
        budget_s: seconds that it may take.
        output: as for a run that is followed.
        where: the folders.
        interrupts: signals to this command.
    """
    preset = catalog.load(name, options.overrides)
    grid = grid_of(plan(preset)[0].optimizer.lr, *ends)
    runs = TrialRuns(where.runs_dir, name, replace(options, notify=NOBODY))
    teller = _Teller(output)
    teller.begun(preset, runs.group, len(runs))
    try:
        search = planned(_measured(preset, grid, budget_s, runs, teller, interrupts))
        teller.plan(search, runs.group)
        progress = _trained(preset, search, runs, teller, interrupts)
    except _Ended as end:
        return int(end.args[0])
    result = found(search, progress.rungs)
    teller.say("")
    teller.draw(search, progress, result.lr, always=True)
    command = "" if result.lr is None else training_command(name, options.overrides, result.lr)
    teller.record("found", lr=result.lr, reason=result.reason, command=command, group=runs.group)
    teller.say("")
    teller.say(textwrap.fill(_in_words(result.lr, result.reason), _WIDEST, break_on_hyphens=False))
    if command:
        teller.say(f"\n  {command}")
    return 0


def _in_words(lr: float | None, reason: str) -> str:
    return f"No learning rate is suggested. {reason}" if lr is None else f"Suggested learning rate: {lr:g}. {reason}"


def _measured(
    preset: Preset, grid: Grid, budget_s: float, runs: TrialRuns, teller: _Teller, interrupts: Interrupts
) -> Search:
    """Return the search, after a run at the smallest rate that measures how long an epoch takes.

    Raises:
        _Ended: it did not come to its end.
    """
    seconds = min(_PROBE_S, _PROBE_SHARE * budget_s)
    lr = grid.rate(grid.places[0])
    overrides = probe(preset, lr, seconds / 60)
    run = _complete(runs, overrides, "measuring the time of an epoch", teller, interrupts)
    state = run.read_state()
    if is_diverged(state):
        raise CifartuiError(f"A run at the smallest rate, {lr:g}, diverged; give a smaller one with --from.")
    cost = cost_of(state, is_first=True)
    if cost is None or state.data is None or state.phase != "completed":
        raise _failed(run)
    trial = trial_of(run, lr, Length(1, state.data.num_train))
    return Search(
        grid=grid,
        num_images=state.data.num_train,
        whole_epochs=plan(preset)[0].epochs,
        batch_size=preset.train.batch_size,
        cost=cost,
        time_s=max(0.0, budget_s - (trial.seconds if trial is not None else 0.0)),
        num_val=max(1, state.data.num_val),
    )


def _trained(preset: Preset, search: Search, runs: TrialRuns, teller: _Teller, interrupts: Interrupts) -> Progress:
    """Train what is not there of a search.

    Raises:
        _Ended: a run did not come to its end.
    """
    trials: dict[tuple[float, Length], Trial] = {}
    num_rungs = 0
    while (progress := progress_of(search, trials)).next is not None:
        lr, length = progress.next
        if len(progress.rungs) > num_rungs:
            num_rungs = len(progress.rungs)
            teller.rung(search, progress)
        left = f", {fmt.duration(progress.seconds_left)} left"
        label = f"rung {num_rungs}, lr {fmt.lr(lr)}{left}:"
        run = _complete(runs, short_run(preset, lr, length, search.num_images), label, teller, interrupts)
        trial = trial_of(run, lr, length)
        if trial is None:
            raise _failed(run)
        trials[lr, length] = trial
        teller.trial(num_rungs, trial)
    first = progress_of(search, {})
    if num_rungs < len(first.rungs) + len(first.to_come):
        teller.say("The runs took longer than was measured first: there was no time for longer ones.")
    return progress


def _complete(runs: TrialRuns, overrides: Sequence[str], label: str, teller: _Teller, interrupts: Interrupts) -> RunDir:
    """Return the run with these overrides, trained to its end; one that diverges is aborted.

    Raises:
        _Ended: a signal came before.
    """
    there = runs.find(overrides)
    if there is not None and trial_of(there, 0.0, Length(1, 1)) is not None:
        delete_weights(there)  # it may have ended while nobody watched
        return there
    if interrupts.code:
        raise _left(interrupts.code)
    run = runs.begin(overrides)
    losses: list[float] = []
    is_ended = False

    def watch(event: AnyEvent) -> None:
        nonlocal is_ended
        if isinstance(event, StepsTrained):
            losses.append(event.loss)
            if not is_ended and has_diverged(losses):
                is_ended = True
                append_command(run.commands, Abort())

    code = follow(run, teller.output, interrupts, label=label, watch=watch)
    if code in ENDS:
        raise _left(code)
    delete_weights(run)
    return run


def _left(code: int) -> _Ended:
    """Return what ends a search that a signal ended, having said how it goes on."""
    if code not in {HUNG_UP, NOBODY_READS}:
        say("The search is not over, and what it trained is kept; the same command goes on with it:", err=True)
        say(f"    {shlex.join(['cifartui', *sys.argv[1:]])}", err=True)
    return _Ended(code)


def _failed(run: RunDir) -> _Ended:
    """Return what ends a search whose run did not come to its end, having said why."""
    finished = run.read_state().finished
    ended: Literal["failed", "was stopped"] = (
        "failed" if finished is None or finished.outcome == "failed" else "was stopped"
    )
    why = "" if finished is None else f" ({finished.reason.rstrip('.')})"
    say(f"Run {run.id} {ended}{why}, and the search with it; the same command goes on with it.", err=True)
    return _Ended(1)
