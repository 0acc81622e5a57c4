"""Command `report`: runs on one page that one can send, as HTML or Markdown."""

import time
from pathlib import Path

import click

from engine.runs.find_run import find_runs
from engine.runs.run_dir import RunDir
from presets.errors import CifartuiError
from tui.cli.options import device_option, places, with_places
from tui.cli.output import say
from tui.data.output_file import check_new, write_new
from tui.data.torch_process import run_module

_HTML, _MARKDOWN = {".html", ".htm"}, {".md", ".markdown"}


@click.command()
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@click.option("--output", metavar="FILE", help="A page (.html), or Markdown (.md); default: the run's id, here.")
@click.option("--force", is_flag=True, help="Write over FILE if it is there.")
@click.option("--no-evaluate", is_flag=True, help="Measure nothing: show what is stored already.")
@click.option("--data", metavar="PATH", help="Where the data is now, if it has moved; it must be the same.")
@click.option("--no-paths", is_flag=True, help="Name no folder and no host, for publishing.")
@device_option
@with_places
@click.pass_context
def report(
    ctx: click.Context,
    names: tuple[str, ...],
    output: str | None,
    force: bool,
    no_evaluate: bool,
    data: str | None,
    no_paths: bool,
    device: str,
) -> None:
    """Write a page about runs that one can send: no network, no script. Several runs stand beside each other.

    What the best weights of a run that is over say of its images is measured first, unless it was before.
    """
    found = [run for name in dict.fromkeys(names) for run in find_runs(places(ctx).runs_dir, name)]
    found = list({run.id: run for run in found}.values())
    path = Path(output) if output is not None else Path(f"{found[0].id if len(found) == 1 else 'report'}.html")
    if path.suffix.lower() not in _HTML | _MARKDOWN:
        raise CifartuiError(f"{path} has no ending that says its form; name a file that ends in .html or .md.")
    if data is not None and no_evaluate:
        raise CifartuiError("--data is for what is measured; leave it out, or --no-evaluate.")
    check_new(path, force=force)
    from tui.report.anonymous import read_without_places
    from tui.report.content import read_report

    if not no_evaluate:
        for run in found:
            _evaluate(run, device, places(ctx).data_dir, data)
    read = read_without_places if no_paths else read_report
    runs = [read(run, time.time()) for run in found]
    if path.suffix.lower() in _MARKDOWN:
        from tui.report.markdown import markdown

        text = markdown(runs)
    else:
        from tui.report.html import html

        text = html(runs)
    write_new(path, text.encode(errors="replace"), force=force)
    for each in runs:
        for sentence in each.missing:
            say(f"{each.name}: {sentence}" if len(runs) > 1 else sentence)
    say(f"The report is in {path}.")


def _evaluate(run: RunDir, device: str, data_dir: str | None, data: str | None) -> None:
    """Measure the splits that a report lacks. If that fails, say why: the page shows what is known without them.

    Raises:
        CifartuiError: `data`, a path, is given, and there is no such data, or not the run's.
    """
    from tui.report.evaluated import SPLIT_NAMES, to_measure

    for split in to_measure(run, time.time()):
        say(f"Evaluating the {SPLIT_NAMES[split]} images of {run.id} by its best weights…", err=True)
        arguments = [str(run.path), "--split", split, "--device", device]
        arguments += ["--data-dir", data_dir] if data_dir else []
        if data is not None:
            from engine.shared.data_path import data_at  # slow to import, and seldom needed

            of_run = run.read_info().preset.data
            found = data_at(data, labels=of_run.labels, dataset=of_run.dataset)
            arguments += ["--data", found.path, "--same-data"]
        try:
            run_module("engine.training.evaluate_checkpoint", arguments)
        except CifartuiError as error:
            if data is not None:
                raise
            say(f"cifartui: {error}", err=True)
            return
