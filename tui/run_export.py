"""A run's curves into a file for the Runs screen, by the means of `cifartui export`."""

from pathlib import Path
from typing import Literal

from engine.runs.folder import RunFolder
from presets.errors import CifartuiError


def export(run: RunFolder, kind: str, where: str) -> Path:
    """Write the curves of `run` to the file `where`, and return its whole path.

    Args:
        run: read here, so not in the thread that draws.
        kind: csv, csv-steps or svg.
        where: a path; ~ and what is relative to the current folder are understood.

    Raises:
        CifartuiError: there are no curves yet, or the file is there already or cannot be written.
    """
    from tui.commandline.export import curves_text
    from tui.commandline.output_file import write_new

    path = Path(where).expanduser().absolute()
    state = run.read_state()
    if not state.steps and not state.epochs:
        raise CifartuiError("this run has no curves yet: nothing was trained.")
    if path.exists():
        raise CifartuiError(f"{path} is there already; name another file.")
    form: Literal["csv", "svg"] = "svg" if kind == "svg" else "csv"
    write_new(path, curves_text(run, state, form, kind == "csv-steps").encode())
    return path
