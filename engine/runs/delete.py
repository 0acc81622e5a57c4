"""Deletion of runs, and their size on disk: never a folder that is not a run, never through a link. No torch."""

import fcntl
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine import files
from engine.runs.claim import has_spoken_last
from engine.runs.run_dir import STALLED_AFTER_S, RunDir
from presets.errors import CifartuiError
from presets.problems import printable

_HIDDEN = ".deleted-"
"""Prefix of a run's name while it is removed: `list_runs` skips it, even if the removal is cut short."""
_SUMMARY = "summary.jsonl"
"""Not counted in a run's size: a list that writes it would show another size the next time."""
_LONGEST_NAME = 255
"""Bytes of a file name, on all file systems."""
_MADE_HERE = re.compile(r"\d{8}T\d{6}-.+")
"""Names as `run_dir.create` gives them. A damaged run is recognised by its name alone."""


def size_bytes(path: Path) -> int:
    """Return the bytes of all files below `path`; links are not followed, several names of one file count once.

    A run's summary, which lists keep beside it, is left out.
    """
    total, seen = 0, set()
    folders = [str(path)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                        continue
                    if entry.name == _SUMMARY:
                        continue
                    about = entry.stat(follow_symlinks=False)
                    if (about.st_dev, about.st_ino) not in seen:
                        seen.add((about.st_dev, about.st_ino))
                        total += about.st_size
        except OSError:  # it went away while we looked
            continue
    return total


def check_deletable(runs_dir: Path, run_id: str) -> RunDir:
    """Return the run called `run_id`, which may be deleted.

    Raises:
        CifartuiError: it is no run directory of `runs_dir`, is a link, or has a worker.
    """
    path, said = runs_dir / run_id, printable(f"{runs_dir}/{run_id}")
    is_name = not run_id.startswith(".") and path.parent == runs_dir and path.name == run_id and "\0" not in run_id
    if not is_name or len(os.fsencode(run_id)) > _LONGEST_NAME:
        raise CifartuiError(
            f'"{printable(run_id, 100)}" is not the name of a run in {runs_dir}; cifartui runs lists them.'
        )
    if path.is_symlink():
        raise CifartuiError(f"{said} is a link, and what it points to is left alone; remove the link by hand.")
    run = RunDir(path)
    if not _is_run(run):
        raise CifartuiError(f"{said} is not a run directory, so it is left alone; remove it by hand if it is yours.")
    lives = run.worker_lives()
    if lives:
        raise CifartuiError(f"Run {run.id} has a worker; stop it first with: cifartui stop {run.id}")
    if lives is None and run.spoke_lately() and not has_spoken_last(run):
        host = getattr(run.read_mark(), "host", "another machine")
        raise CifartuiError(
            f"Run {run.id} was written to by {host} less than {STALLED_AFTER_S:.0f} s ago; "
            "stop it first, or wait until it is silent."
        )
    return run


def _is_run(run: RunDir) -> bool:
    if not run.path.is_dir() or not os.path.lexists(run.path / "run.json"):
        return False
    if _MADE_HERE.fullmatch(run.id):
        return True
    try:
        run.read_info()
    except CifartuiError:
        return False
    return True


def delete_run(runs_dir: Path, run_id: str) -> int:
    """Delete a run directory with all that is in it and return how many bytes that freed.

    It is renamed to a hidden name first, so that a run half deleted is never listed; what an earlier
    deletion left behind when it was cut short goes with it.

    Raises:
        CifartuiError: as `check_deletable`, or the folder cannot be removed.
    """
    run = check_deletable(runs_dir, run_id)
    num_bytes = size_bytes(run.path)
    hidden = runs_dir / f"{_HIDDEN}{secrets.token_hex(8)}"
    try:
        with _locked(run):  # no worker can be started between here and the new name
            run.path.rename(hidden)
    except OSError as error:
        raise CifartuiError(f"Run {run.id} cannot be deleted: {error.strerror} ({run.path}).") from error
    left = [path for path in runs_dir.glob(f"{_HIDDEN}*") if path != hidden and not path.is_symlink()]
    try:
        _remove(hidden)
    except OSError as error:
        raise CifartuiError(
            f"Run {run.id} is gone from the list, but part of it could not be removed ({error.strerror}); "
            f"the rest is in {hidden}."
        ) from error
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return num_bytes


@contextmanager
def _locked(run: RunDir) -> Iterator[None]:
    fd = files.open_file(run.lock, os.O_RDWR)
    try:
        mark = run.read_mark()
        if mark is None or mark.host == socket.gethostname():  # a lock of another machine need not be seen here
            files.try_flock(fd, fcntl.LOCK_EX)
        yield
    except BlockingIOError:
        raise CifartuiError(f"Run {run.id} was just given a worker; it is not deleted.") from None
    finally:
        os.close(fd)


def _remove(path: Path) -> None:
    while os.path.lexists(path):
        try:
            shutil.rmtree(path)  # opens folders relative to their parents: no link put in meanwhile is followed
        except FileNotFoundError:  # another deletion takes the same leftovers away
            continue
