"""Commands `compare` and `ablation`: measured results beside the report's."""

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from engine.journal.outline import read_outline
from engine.runs.find_run import find_runs
from engine.runs.needed_files import check_needed
from engine.runs.newer_info import read_shown
from engine.runs.run_options import RunOptions
from engine.runs.seed_groups import each_seed
from engine.runs.start import start_run
from presets import catalog
from presets.errors import CifartuiError
from tui import format as fmt
from tui.cli.follow import Output, follow
from tui.cli.interrupts import ENDS, HUNG_UP, NOBODY_READS, Interrupts, say_left
from tui.cli.options import Places, as_json_option, as_set, device_option, places, seeds_option, with_places
from tui.cli.output import say, say_json
from tui.cli.queue import add_and_report
from tui.cli.train import following
from tui.data.compare import (
    Row,
    RunSide,
    ablation_presets,
    compare_runs,
    comparison_table,
    difference_table,
    differences,
    each_run,
    newest_by_preset,
    sentence,
)
from tui.data.compare import compare as rows_of
from tui.data.output_file import check_new, write_new
from tui.data.seed_group import Listed, with_groups
from tui.data.summaries import summarise, summarise_all
from tui.data.summary import Summary


class TableFiles(NamedTuple):
    """Files to write a table to; "-" is standard output."""

    csv: str | None
    markdown: str | None
    force: bool


def _table_files(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options --csv, --markdown and --force, checked, as its argument `files`."""

    @click.option("--csv", "csv_file", metavar="FILE", help="Also write the table as CSV; - prints that alone.")
    @click.option("--markdown", metavar="FILE", help="Also write it as a Markdown table; - prints that alone.")
    @click.option("--force", is_flag=True, help="Write over a FILE that is there.")
    @wraps(command)
    def with_files(*args: Any, csv_file: str | None, markdown: str | None, force: bool, **options: Any) -> None:
        if [csv_file, markdown, "-" if options["as_json"] else None].count("-") > 1:
            raise CifartuiError("Only one of --json, --csv - and --markdown - can be printed; name files for others.")
        for path in (csv_file, markdown):
            if path not in {None, "-"}:
                check_new(Path(str(path)), force=force)
        command(*args, files=TableFiles(csv_file, markdown, force), **options)

    return with_files


@click.command()
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--diff", is_flag=True, help="Also print the fields in which the runs' presets, seeds and machines differ."
)
@as_json_option
@_table_files
@with_places
@click.pass_context
def compare(ctx: click.Context, names: tuple[str, ...], diff: bool, as_json: bool, files: TableFiles) -> None:
    """Print runs side by side: the report's accuracy, the measured one, and what each step changed.

    Runs of one group of seeds are a row with mean, deviation and number.
    """
    if diff and "-" in files:
        raise CifartuiError("--diff is printed beside the table; name a file for --csv and --markdown.")
    runs_dir = places(ctx).runs_dir
    found = [run for name in names for run in find_runs(runs_dir, name)]
    summaries, listed = [summarise(run) for run in found], catalog.list_presets()
    seeds = with_groups(summaries, searches=False)
    rows = each_run(summaries, listed) if as_json else compare_runs(seeds, listed)
    if not diff:
        _show(rows, as_json, files)
        return
    differing = differences([RunSide(read_shown(run), read_outline(run.events).started) for run in found])
    if as_json:
        say_json({"runs": rows, "differences": differing})
        return
    _show(rows, as_json, files)
    say("\n" + sentence(differing, len(found)))
    if differing:
        say("\n" + "\n".join(difference_table(differing, fmt.short_ids([run.id for run in found]))))


@click.command()
@click.argument("steps", metavar="[STEPS...]", nargs=-1)
@click.option(
    "--epochs-scale", type=click.FloatRange(min=0, min_open=True), help="Train so much of every step's epochs."
)
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a field of every step.")
@device_option
@seeds_option
@click.option("--table", "only_table", is_flag=True, help="Train nothing: print what the runs so far have shown.")
@as_json_option
@_table_files
@following
@with_places
@click.pass_context
def ablation(
    ctx: click.Context,
    steps: tuple[str, ...],
    epochs_scale: float | None,
    overrides: tuple[str, ...],
    device: str,
    seed: int,
    seeds: tuple[int, ...],
    only_table: bool,
    as_json: bool,
    output: Output,
    detach: bool,
    files: TableFiles,
) -> None:
    """Train the report's ablation step by step, and print its results beside the report's.

    STEPS are numbers or ranges, such as 0 1 5-9; without any, all of them. With --seeds each is trained so often, and
    has its mean and deviation.
    """
    if "-" in files and not only_table:
        raise CifartuiError("--csv - and --markdown - are for --table; name a file for what is trained now.")
    if detach and (files.csv or files.markdown):
        raise CifartuiError("--detach prints no table; write --csv and --markdown later, with --table.")
    where = places(ctx)
    names = _named_steps(steps, ablation_presets(catalog.list_presets()))
    if epochs_scale is not None:
        overrides = (*overrides, f"train.epochs_scale={epochs_scale}")
    for name in names:
        catalog.load(name, overrides)  # all are checked before any is started
    if only_table:
        _show(
            rows_of(
                names,
                newest_by_preset(summarise_all(where.runs_dir, lambda bad: say(f"left out: {bad.problem}", err=True))),
                catalog.list_presets(),
            ),
            as_json,
            files,
        )
        return
    options = as_set(RunOptions(overrides=overrides, seed=seed, seeds=seeds, device=device), where)
    for name in names:
        check_needed(catalog.load(name, overrides), where.data_dir, options)
    if detach:
        ctx.exit(add_and_report(names, options, where))
    trained: dict[str, Listed] = {}
    exit_code = 0
    refused: CifartuiError | None = None
    with Interrupts() as interrupts:
        for number, name in enumerate(names):
            runs: list[Summary] = []
            try:
                code = _train_step(name, options, where, "quiet" if as_json else output, interrupts, trained, runs)
            except CifartuiError as error:  # the disk is full by now, or the data is gone: what is trained is shown
                refused, code = error, 0
            exit_code = code or exit_code
            if code in ENDS or (refused and trained):
                say_left(ctx, names[number:], options, len(runs))
            if code in ENDS or refused:
                break
    if (trained or not refused) and exit_code not in (HUNG_UP, NOBODY_READS):
        _show(rows_of(list(trained), trained, catalog.list_presets()), as_json, files)
    if refused:
        raise refused
    ctx.exit(exit_code)


def _train_step(
    name: str,
    options: RunOptions,
    where: Places,
    output: Output,
    interrupts: Interrupts,
    trained: dict[str, Listed],
    runs: list[Summary],
) -> int:
    """Train a step with each of its seeds; return the exit code.

    A run that fails does not end the others, a signal does. The runs are put into `runs` as they end, and into
    `trained`, where several are a group.
    """
    exit_code = 0
    several = each_seed(options)
    if len(several) > 1 and output not in {"json", "quiet"}:
        say(f"{name}: {len(several)} runs, one after another (group {several[0].group})")
    for each in several:
        if interrupts.code:
            return interrupts.code
        run = start_run(where.runs_dir, name, each)
        if output not in {"json", "quiet"}:
            say(f"{name}{f', seed {each.seed}' if len(several) > 1 else ''}: run {run.id}")
        code = follow(run, output, interrupts)
        runs.append(summarise(run))
        (trained[name],) = with_groups(runs)
        if code in ENDS:
            return code
        exit_code = code or exit_code
    return exit_code


def _named_steps(wanted: tuple[str, ...], known: list[str]) -> list[str]:
    """Return the presets for `wanted`: step numbers, ranges of them, or names.

    Raises:
        CifartuiError: there is no such step.
    """
    if not wanted:
        return [name for name in known if re.fullmatch(r"ablation/step-\d+", name)]
    names: list[str] = []
    for text in wanted:
        numbers = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
        found = [text, f"ablation/{text}"]
        if numbers:
            first, last = int(numbers[1]), int(numbers[2] or numbers[1])
            found = [f"ablation/step-{number:02}" for number in range(first, min(last, first + 1000) + 1)]
            if not all(name in known for name in found) or not found:
                raise CifartuiError(f"There is no ablation step {text}; they go from 0 to 15.")
            names += found
        elif not set(found) & set(known):
            raise CifartuiError(f'There is no ablation step "{text}"; name numbers or ranges, such as 0 1 5-9.')
        else:
            names += [name for name in found if name in known]
    return list(dict.fromkeys(names))


def _show(rows: list[Row], as_json: bool, files: TableFiles) -> None:
    """Print the table, unless it is JSON or goes to standard output in another form; write it to the files named."""
    for path, make in ((files.csv, "comparison_csv"), (files.markdown, "comparison_markdown")):
        if path is None:
            continue
        from tui.report import comparison

        text: str = getattr(comparison, make)(rows)
        if path == "-":
            say(text.removesuffix("\n"))
        else:
            write_new(Path(path), text.encode(errors="replace"), force=files.force)
    if as_json:
        say_json(rows)
    elif "-" not in {files.csv, files.markdown}:
        for line in comparison_table(rows):
            say(line.rstrip())
