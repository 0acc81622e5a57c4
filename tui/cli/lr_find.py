"""Command `lr-find`: a preset's learning-rate range test, or a search by short runs, and its suggestion."""

import click

from engine.runs.needed_files import check_needed
from engine.runs.newer_info import read_shown
from engine.runs.run_dir import RunDir
from engine.runs.run_options import RunOptions
from engine.runs.start import start_range_test
from presets import catalog
from presets.errors import CifartuiError
from presets.range_test import Sweep, table_of
from presets.schema import RANGE_TEST_STEPS
from tui.cli.follow import Output, follow
from tui.cli.interrupts import HUNG_UP, NOBODY_READS, Interrupts
from tui.cli.options import Places, as_set, device_option, overrides_option, places, seed_option, with_places
from tui.cli.output import say
from tui.cli.train import following

_FEWEST_STEPS, _MOST_STEPS = 20, 100_000
_BUDGET = "20m"


@click.command("lr-find")
@click.argument("name", metavar="PRESET")
@overrides_option
@click.option("--from", "first_lr", type=float, metavar="LR", help="Where the rate begins (default 1e-5; AdamW 1e-7).")
@click.option("--to", "last_lr", type=float, metavar="LR", help="Where it ends (default 10; AdamW 1).")
@click.option(
    "--steps",
    type=click.IntRange(_FEWEST_STEPS, _MOST_STEPS),
    help=f"In how many batches (default {RANGE_TEST_STEPS}).",
)
@click.option("--thorough", is_flag=True, help="Train short runs at several rates, the better ones longer.")
@click.option("--budget", metavar="TIME", help="With --thorough: for about so long, such as 1h30m (default 20m).")
@device_option
@seed_option
@following
@with_places
@click.pass_context
def lr_find(
    ctx: click.Context,
    name: str,
    overrides: tuple[str, ...],
    first_lr: float | None,
    last_lr: float | None,
    steps: int | None,
    thorough: bool,
    budget: str | None,
    device: str,
    seed: int,
    output: Output,
    detach: bool,
) -> None:
    """Find a learning rate for PRESET: let it rise every batch, and see where the loss falls and where it rises.

    With --thorough by short runs with the preset's own schedule: of several rates the better half is trained again
    for twice as long, until the time is over.
    """
    where = places(ctx)
    options = as_set(RunOptions(overrides=overrides, seed=seed, device=device), where)
    if thorough:
        ctx.exit(_search(name, options, (first_lr, last_lr), steps, budget, output, where, detach=detach))
    if budget is not None:
        raise CifartuiError("--budget is the time of a search by short runs; add --thorough.")
    sweep = Sweep(first_lr=first_lr, last_lr=last_lr, steps=RANGE_TEST_STEPS if steps is None else steps)
    check_needed(catalog.load(name, overrides), where.data_dir, options)
    is_told = output not in {"json", "quiet"}
    with Interrupts() as interrupts:
        run = start_range_test(where.runs_dir, name, options, sweep)
        if is_told:
            say(f"{read_shown(run).preset.title}: run {run.id}")
        exit_code = interrupts.leave(run) if detach else follow(run, output, interrupts)
    if is_told and not detach and exit_code not in (HUNG_UP, NOBODY_READS):
        _tell(run, name)
    ctx.exit(exit_code)


def _search(
    name: str,
    options: RunOptions,
    ends: tuple[float | None, float | None],
    steps: int | None,
    budget: str | None,
    output: Output,
    where: Places,
    *,
    detach: bool,
) -> int:
    """Search by short runs; return the exit code."""
    from tui.cli.lr_search import parse_budget, run_search

    if steps is not None:
        raise CifartuiError("--steps is the length of a range test; with --thorough give a --budget, such as 1h30m.")
    if detach:
        raise CifartuiError("--thorough starts one run after another, so it cannot go on detached; use tmux or nohup.")
    preset = catalog.load(name, options.overrides)
    if table_of(preset) is not None:
        raise CifartuiError("This preset is a range test; --thorough searches for the rate of one that trains.")
    budget_s = parse_budget(budget if budget is not None else _BUDGET)
    check_needed(preset, where.data_dir, options)
    with Interrupts() as interrupts:
        return run_search(name, options, ends, budget_s, output, where, interrupts)


def _tell(run: RunDir, name: str) -> None:
    """Print the curve and the suggestion, where there is any of it."""
    from tui.cli.show import say_rows
    from tui.data.range_test import verdict_with_command
    from tui.plots.lr_range import rows_of

    found = verdict_with_command(read_shown(run), run.read_state(), name)
    if found is None or not found.points:
        return
    say("")
    say_rows(lambda width, coloured: rows_of(found, width, coloured=coloured))
