"""Runs and exported models by the name that a user gives: an id or a part of one, "latest", a folder, a file."""

import re
from contextlib import suppress
from pathlib import Path

from engine import files
from engine.runs.run_dir import RunDir, RunInfo, list_runs
from presets.errors import CifartuiError
from presets.problems import printable

_LOADED = (".onnx", ".safetensors")
"""Endings of exported models that are data; see docs/export.md."""
_PROGRAMS = {".pt2": "torch.export.load", ".torchscript": "torch.jit.load"}
"""Endings of those that are programs, and what loads them."""
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_GROUP_ID = re.compile("(lr-)?[0-9a-f]{4,12}")
"""Beginning of a group's id; see `engine.runs.seed_groups`."""


def find_runs(runs_dir: Path, name: str) -> list[RunDir]:
    """Return the runs called `name`: one as `find_run` finds it, or those of a group, by seed.

    A group is called by its id, or a unique beginning of it; names of runs go before.

    Raises:
        CifartuiError: no run, or several that are no group, answer to the name.
    """
    runs = list_runs(runs_dir)
    if not runs:
        raise CifartuiError(f"There are no runs in {runs_dir} yet; start one with: cifartui train demo")
    if name == "latest":
        return runs[:1]
    if not _RUN_ID.fullmatch(name):
        raise CifartuiError(f'"{printable(name, 100)}" is not a run id; cifartui runs lists them.')
    exact = [run for run in runs if run.id == name]
    found = exact or [run for run in runs if run.id.startswith(name)] or [run for run in runs if name in run.id]
    if len(found) == 1:
        return found
    if not found:
        groups = _groups_called(runs, name) if _GROUP_ID.fullmatch(name) else {}
        if len(groups) == 1:
            (members,) = groups.values()
            return [run for run, _ in sorted(members, key=lambda member: (member[1].seed, member[0].id))]
        if groups:
            shown = ", ".join(sorted(groups)[:4]) + (" …" if len(groups) > 4 else "")
            raise CifartuiError(f"{name} could be {len(groups)} groups of runs ({shown}); give more of the id.")
        raise CifartuiError(f"No run is called {printable(name, 100)}; cifartui runs lists them.")
    shown = ", ".join(run.id for run in found[:4]) + (" …" if len(found) > 4 else "")
    raise CifartuiError(f"{printable(name, 100)} could be {len(found)} runs ({shown}); give more of the name.")


def _groups_called(runs: list[RunDir], name: str) -> dict[str, list[tuple[RunDir, RunInfo]]]:
    """Return the members of the groups whose id begins with `name`, by id; runs that cannot be read are in none."""
    groups: dict[str, list[tuple[RunDir, RunInfo]]] = {}
    for run in runs:
        with suppress(CifartuiError):
            info = run.read_info()
            if info.group.startswith(name):
                groups.setdefault(info.group, []).append((run, info))
    return groups


def find_run(runs_dir: Path, name: str) -> RunDir:
    """Return the run called `name`: an id, a unique prefix or part of one, or "latest"; or a group's only run.

    Raises:
        CifartuiError: no run, or several, answer to the name.
    """
    found = find_runs(runs_dir, name)
    if len(found) > 1:
        shown = ", ".join(run.id for run in found[:8]) + (" …" if len(found) > 8 else "")
        raise CifartuiError(f"{name} is a group of {len(found)} runs, and this takes one: name one of {shown}.")
    return found[0]


def find_model(runs_dir: Path, named: str) -> RunDir | Path:
    """Return the run whose network is to be loaded, by its folder or as `find_run` finds it; or an exported file.

    Raises:
        CifartuiError: nothing that can be loaded answers to the name.
    """
    path, why = files.expanded(named), ""
    where = printable(str(path), 200)
    try:
        if (found := _model_at(path)) is not None:
            return found
        is_there = path.exists()
    except OSError as error:
        is_there, why = True, files.why_refused(path, error)
    try:
        return find_run(runs_dir, named)
    except CifartuiError:
        if not is_there and path.suffix in {*_LOADED, *_PROGRAMS}:
            raise CifartuiError(f"There is no file {where}; cifartui export RUN writes one.") from None
        if not is_there:
            raise
    if why:
        raise CifartuiError(f"{where} cannot be read ({why}); check its name and permissions.")
    raise CifartuiError(
        f"{where} is no run's folder and no exported model (.onnx, .safetensors); name one, or a run by its id, a "
        "unique part of one, or latest."
    )


def _model_at(path: Path) -> RunDir | Path | None:
    """Return the run or the exported file at a path; None if it is neither.

    Raises:
        CifartuiError: it is a program.
        OSError: it cannot be looked at.
    """
    if (path / "run.json").is_file():
        return RunDir(path.absolute())
    if path.is_file():
        if path.suffix in _LOADED:
            return path.absolute()
        if path.suffix in _PROGRAMS:
            raise CifartuiError(
                f"{printable(str(path))} is a program, and no program of a file is run: export the run as onnx or "
                f"safetensors, or load the file with {_PROGRAMS[path.suffix]} if you trust it."
            )
    return None
