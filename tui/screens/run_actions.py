"""Disk actions of the Runs screen: compare, export, delete. Run in threads; no widgets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from engine import files
from engine.journal.outline import read_outline
from engine.runs.delete import check_deletable, delete_run, size_bytes
from engine.runs.newer_info import read_shown
from engine.runs.notify_settings import NOBODY, Notify
from engine.runs.resume import resume_run
from engine.runs.run_dir import RunDir
from presets.errors import CifartuiError
from tui import format as fmt
from tui.data.compare import Difference, RunSide, differences
from tui.plots.overlay import OverlaidRun
from tui.text import run_text


def compare(runs_dir: Path, ids: Sequence[str]) -> list[Difference]:
    """Return in what runs differ.

    Raises:
        CifartuiError: one of them cannot be read.
    """
    folders = [RunDir(runs_dir / run_id) for run_id in ids]
    return differences([RunSide(read_shown(run), read_outline(run.events).started) for run in folders])


def resume(runs_dir: Path, run_id: str, notify: Notify = NOBODY) -> str:
    """Start a worker that goes on from the last checkpoint.

    Raises:
        CifartuiError: the run has a worker, or no checkpoint.
    """
    run = RunDir(runs_dir / run_id)
    if not run.has_checkpoint:
        raise CifartuiError(
            "there is no checkpoint to go on from; Enter opens the run, which can be started anew there."
        )
    resume_run(run, notify=notify)
    return f"{run_text.STARTED}. Enter opens the run."


def export(runs_dir: Path, run_id: str, kind: str, where: str, data_dir: str | None = None) -> str:
    """Write a run's curves (`kind` csv, csv-steps or svg) or its network to the file `where`, as `cifartui export`.

    Returns:
        What was written, and of a network how it was checked.

    Raises:
        CifartuiError: there is nothing to write yet, or the file is there already or cannot be made or written.
    """
    from engine.runs.export_record import SUFFIXES
    from tui.data.model_export import export_model, exported_lines
    from tui.data.output_file import check_new, write_new
    from tui.plots.export import curves_text

    run, path = RunDir(runs_dir / run_id), files.working_folder() / files.expanded(where)
    check_new(path, advice="")
    if kind in SUFFIXES:
        return " ".join([f"written to {path}.", *exported_lines(export_model(run, kind, path, data_dir=data_dir))])
    state = run.read_state(every_step=True)
    if not state.steps and not state.epochs:
        raise CifartuiError("this run has no curves yet: nothing was trained.")
    form: Literal["csv", "svg"] = "svg" if kind == "svg" else "csv"
    write_new(path, curves_text(run, state, form, kind == "csv-steps").encode())
    return f"written to {path}"


def export_overlay(drawn: Sequence[OverlaidRun], where: str, *, is_log: bool) -> str:
    """Write the curves of several runs over each other to the file `where`, as SVG.

    Raises:
        CifartuiError: the file is there already or cannot be written.
    """
    from tui.data.output_file import check_new, write_new
    from tui.plots.export import overlay_svg

    path = files.working_folder() / files.expanded(where)
    check_new(path, advice="")
    write_new(path, overlay_svg(drawn, is_log=is_log).encode())
    return f"written to {path}"


def weigh(runs_dir: Path, ids: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """Return the bytes of those runs that may be deleted, by id, and why the others may not."""
    sizes, refused = {}, []
    for run_id in ids:
        try:
            sizes[run_id] = size_bytes(check_deletable(runs_dir, run_id).path)
        except CifartuiError as error:
            refused.append(str(error))
    return sizes, refused


def delete(runs_dir: Path, ids: Sequence[str]) -> str:
    """Delete runs.

    Raises:
        CifartuiError: some of them could not be deleted; the sentence also names those that were.
    """
    freed, problems = 0, []
    for run_id in ids:
        try:
            freed += delete_run(runs_dir, run_id)
        except CifartuiError as error:
            problems.append(str(error))
    text = f"{fmt.plural(len(ids) - len(problems), 'run')} deleted, {fmt.memory(freed)} freed."
    if problems:
        raise CifartuiError(f"{text} {problems[0]}")
    return text
