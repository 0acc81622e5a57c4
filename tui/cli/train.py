"""Commands `train` and `resume`: start workers and follow them."""

from collections.abc import Sequence
from typing import Any

import click

from engine.journal.fold_file import read_folded
from engine.runs.find_run import find_run
from engine.runs.named_runs import COMPLETED, check_name, find_named, resume_named
from engine.runs.needed_files import check_needed
from engine.runs.run_dir import RunDir
from engine.runs.run_options import RunOptions
from engine.runs.seed_groups import each_seed, spread_of
from engine.runs.start import start_run
from presets import catalog
from presets.errors import CifartuiError
from presets.schema import Preset
from tui.cli.follow import Output, follow
from tui.cli.hosts import lines_to, start_there
from tui.cli.interrupts import Interrupts, say_left
from tui.cli.options import Places, as_set, devices_option, places, with_order, with_places
from tui.cli.output import say
from tui.cli.queue import add_and_report
from tui.config import read_config
from tui.data.summaries import summarise
from tui.hosts.ssh import chosen_hosts
from tui.text.seed_text import trained


def following(command: Any) -> Any:
    """Give a command --output and --detach."""
    command = click.option("--detach", is_flag=True, help="Do not follow: return at once; several runs are queued.")(
        command
    )
    return click.option(
        "--output",
        type=click.Choice(["auto", "live", "lines", "json", "quiet"]),
        default="auto",
        help="auto: a live line on a terminal, else plain lines; json: the events themselves.",
    )(command)


@click.command()
@click.argument("names", metavar="PRESET...", nargs=-1, required=True)
@click.option("--name", "run_name", metavar="NAME", help="Name the run; where it is there already, go on with it.")
@with_order
@click.option("--host", metavar="HOST", help="Start it on another machine that ssh reaches, and leave it there.")
@click.option("--prepare", is_flag=True, help="Only make the run directory and print it: torchrun starts the ranks.")
@following
@with_places
@click.pass_context
def train(
    ctx: click.Context,
    names: tuple[str, ...],
    run_name: str | None,
    options: RunOptions,
    host: str | None,
    prepare: bool,
    output: Output,
    detach: bool,
) -> None:
    """Train PRESETs, one run after another; with --seeds as many runs of each, whose mean and deviation are printed."""
    where = places(ctx)
    if host is not None:
        if run_name is not None or prepare:
            raise CifartuiError("--name and --prepare are for this machine; leave --host out, or log in there.")
        _train_there(host, names, options)
        return
    options = as_set(options, where)
    loaded = {name: catalog.load(name, options.overrides) for name in names}  # all are checked before any is started
    if run_name is not None:
        ctx.exit(_train_named(run_name, loaded, options, output, where, detach=detach, prepare=prepare))
    if not prepare:  # which may be done where the data is not
        for preset in loaded.values():
            check_needed(preset, where.data_dir, options)
    if detach and (len(names) > 1 or len(options.seeds) > 1) and not prepare:
        ctx.exit(add_and_report(names, options, where))
    with Interrupts() as interrupts:
        if prepare:
            for name in loaded:
                for each in each_seed(options):
                    say(str(start_run(where.runs_dir, name, each, start=False).path))
            ctx.exit(interrupts.code)
        if detach:
            ((name, preset),) = loaded.items()
            run = start_run(where.runs_dir, name, each_seed(options)[0])
            _report_start(run, preset, output)
            ctx.exit(interrupts.leave(run))
        ctx.exit(_train_all(ctx, loaded, options, output, where, interrupts))


def _train_there(host: str, names: Sequence[str], options: RunOptions) -> None:
    with lines_to(chosen_hosts(host, read_config().hosts)) as (connection,):
        start_there(connection, names, options)


def _train_all(
    ctx: click.Context,
    loaded: dict[str, Preset],
    options: RunOptions,
    output: Output,
    where: Places,
    interrupts: Interrupts,
) -> int:
    """Train presets, one after another; return the exit code, and say what a run that did not complete left undone."""
    names = list(loaded)
    for number, name in enumerate(names):
        runs: list[RunDir] = []
        try:
            exit_code = _train_each(name, loaded[name], each_seed(options), output, where, interrupts, runs)
        except CifartuiError:  # the disk is full by now, or the data is gone
            if runs or number:
                say_left(ctx, names[number:], options, len(runs))
            raise
        if exit_code:
            say_left(ctx, names[number:], options, len(runs))
            return exit_code
    return 0


def _train_each(
    name: str,
    preset: Preset,
    several: Sequence[RunOptions],
    output: Output,
    where: Places,
    interrupts: Interrupts,
    runs: list[RunDir],
) -> int:
    """Train a preset with each of these options, which differ in their seeds; return the exit code.

    The first run that does not complete is the last. At the end come the mean and the deviation of those that did,
    also where the next one cannot be started. The runs are put into `runs` as they are started.
    """
    is_group, says = len(several) > 1, output not in {"json", "quiet"}
    if is_group and says:
        seeds = ", ".join(str(each.seed) for each in several)
        say(f"{preset.title}: {len(several)} runs, one after another, with seeds {seeds} (group {several[0].group})")
    exit_code = 0
    try:
        for each in several:
            if exit_code := interrupts.code:
                break
            runs.append(start_run(where.runs_dir, name, each))
            _report_start(runs[-1], preset, output, f"seed {each.seed}" if is_group else "")
            if exit_code := follow(runs[-1], output, interrupts):
                break
    finally:
        if is_group and says and runs:
            completed = [summary for run in runs if (summary := summarise(run)).status == "completed"]
            val, test = (spread_of(getattr(each, key) for each in completed) for key in ("best_val_top1", "test_top1"))
            say(trained(preset.title, val, test, len(several)))
    return exit_code


def _train_named(
    run_name: str,
    loaded: dict[str, Preset],
    options: RunOptions,
    output: Output,
    where: Places,
    *,
    detach: bool,
    prepare: bool,
) -> int:
    """Start the run of that name, or go on with it; return the exit code."""
    check_name(run_name)
    if len(options.seeds) > 1:
        raise CifartuiError("--name is for one run; leave --seeds out.")
    if len(loaded) > 1:
        raise CifartuiError("--name is for one run; name one preset.")
    ((preset_name, preset),) = loaded.items()
    known, run, is_new = None, find_named(where.runs_dir, run_name), False
    if run is None and not prepare:
        check_needed(preset, where.data_dir, options)
    with Interrupts() as interrupts:
        if run is None:
            is_new, run = True, start_run(where.runs_dir, preset_name, options, run_name=run_name, start=not prepare)
        if prepare:
            say(str(run.path))
            return interrupts.code
        if is_new:
            _report_start(run, preset, output)
        else:
            known = read_folded(run.events)
            done = resume_named(run, preset_name, options)
            if output not in {"json", "quiet"}:
                say(f"{preset.title}: run {run.id}, {done}")
            if done == COMPLETED:
                return 0
        return interrupts.leave(run) if detach else follow(run, output, interrupts, known)


def _report_start(run: RunDir, preset: Preset, output: Output, which: str = "") -> None:
    if output == "json" or output == "quiet":
        return
    say(f"{preset.title}{', ' if which else ''}{which}: run {run.id}")


@click.command()
@click.argument("name", metavar="RUN")
@click.option("--epochs", metavar="N|+N", help="Train N epochs in all (of the last stage), or N more than planned.")
@click.option(
    "--set",
    "changes",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change train.epochs, train.augment, train.precision, or of optimizer, schedule and loss.",
)
@devices_option
@click.option("--data", metavar="PATH", help="Where the run's data is now, if it has moved.")
@click.option("--accept-changed-data", "accept", is_flag=True, help="Go on though the data is not what it was.")
@following
@with_places
@click.pass_context
def resume(
    ctx: click.Context,
    name: str,
    epochs: str | None,
    changes: tuple[str, ...],
    devices: int | None,
    data: str | None,
    accept: bool,
    output: Output,
    detach: bool,
) -> None:
    """Go on with a run from its last checkpoint, also with more epochs or other numbers."""
    from engine.runs.resume import ACCEPT, resume_run

    run, notify = find_run(places(ctx).runs_dir, name), read_config().beside
    known = read_folded(run.events)
    overrides = changes if epochs is None else (*changes, f"train.epochs={epochs}")
    options = ((ACCEPT,) if accept else ()) + ((f"--data={data}",) if data is not None else ())
    with Interrupts() as interrupts:
        resume_run(run, (*overrides, *options), notify, devices=devices)
        _report_start(run, run.read_info().preset, output)
        ctx.exit(interrupts.leave(run) if detach else follow(run, output, interrupts, known))
