"""Run directories: their folder, their files, their lock, and the status of a run. No torch.

Knows names, paths and locks; knows nothing of what events mean (`engine.journal.state`) or of starting
workers (`engine.runs.start`).
"""

import errno
import os
import re
import shutil
import socket
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
import platformdirs
from msgspec import Meta

from engine import files
from engine.files import DAMAGED, is_locked
from engine.shared.device_names import MOST_DEVICES
from presets.errors import CifartuiError
from presets.problems import is_unknown, printable
from presets.range_test import tested_name
from presets.schema import Preset

if TYPE_CHECKING:  # the first screen asks where runs are, and reads none
    from engine.journal.state import RunState
    from engine.runs.worker_mark import WorkerMark

Status: TypeAlias = Literal[
    "starting", "data", "model", "training", "validating", "testing", "paused", "stalled", "lost",
    "completed", "stopped", "aborted", "failed",
]  # fmt: skip
STALLED_AFTER_S = 30.0
"""A living worker sends telemetry every two seconds; this long without any means it is not running."""
WATCHED_S = 5.0
"""For so long a journal is watched where times cannot be believed; a living worker writes in every two seconds."""
_LOOK_EVERY_S = 0.1


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a run: run.json, written once by the launcher, or amended.json where a resume changed it."""

    id: str
    """The run's name as the file has it; whoever reads it by `RunDir` gets that of the folder."""
    preset_name: str
    preset_file: str = ""
    """Absolute path of the preset where it was given as a file; else empty."""
    preset: Preset
    overrides: tuple[str, ...] = ()
    seed: int
    device: str
    devices: Annotated[int, Meta(ge=1, le=MOST_DEVICES)] = 1
    """Number of processes that train it on the machine where it is started, one a device."""
    data_dir: str | None = None
    created: Annotated[float, Meta(ge=0.0, le=1e11)]
    """Unix seconds."""
    host: str
    argv: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    notify: str = ""
    """The shell command that was to run when the run has ended: a record, which nobody obeys (`engine.runs.notify`)."""
    group: str = ""
    """Id that it shares with runs of other seeds, or of one learning-rate search; empty if it stands alone."""

    @property
    def preset_source(self) -> str:
        """Name or file by which the preset is loaded again; of a range test, that of the preset it tests."""
        return self.preset_file or tested_name(self.preset_name)


def default_runs_dir() -> Path:
    """Return CIFARTUI_RUNS, or the runs folder in the user's state directory."""
    named = os.environ.get("CIFARTUI_RUNS")
    return files.expanded(named) if named else platformdirs.user_state_path("cifartui") / "runs"


def _file(name: str) -> "cached_property[Path]":
    """Return a RunDir's attribute for one of its files, made when it is asked for: lists have thousands of runs."""
    return cached_property(lambda run: run.path / name)


class RunDir:
    """One run directory: its paths, and the few things that can be read without knowing their meaning."""

    def __init__(self, path: Path) -> None:
        self.path = path

    amended = _file("amended.json")
    events = _file("events.jsonl")
    commands = _file("commands.jsonl")
    log = _file("worker.log")
    lock = _file("worker.lock")
    reserve = _file("reserve")
    unreadable = _file("unreadable.txt")
    notified = _file("notified.json")
    summary = _file("summary.jsonl")
    checkpoints = _file("checkpoints")
    best = _file("checkpoints/best.pt")
    last = _file("checkpoints/last.pt")

    @property
    def id(self) -> str:
        """The run's name: its folder's."""
        return self.path.name

    @property
    def has_checkpoint(self) -> bool:
        """True if there are weights to go on from."""
        return any(self.checkpoints.glob("*.pt"))

    def read_info(self) -> RunInfo:
        """Return amended.json, or run.json where no resume changed anything; CifartuiError where it is not one.

        Its `id` is the folder's name: a copied run is not the one it was copied from, and no file names another run.
        """
        return self._read_info(self.info_file())

    def info_file(self) -> Path:
        """Return the path of amended.json, or of run.json where no resume changed anything."""
        return self.amended if os.path.lexists(self.amended) else self.path / "run.json"

    def read_original(self) -> RunInfo:
        """Return run.json, whatever was changed since; raise CifartuiError where it is absent or not one."""
        return self._read_info(self.path / "run.json")

    def _read_info(self, file: Path) -> RunInfo:
        try:
            return msgspec.structs.replace(msgspec.json.decode(files.read(file), type=RunInfo), id=self.id)
        except (OSError, *DAMAGED) as error:
            raise CifartuiError(self._why_unread(file, error)) from error

    def _why_unread(self, file: Path, error: Exception) -> str:
        why = printable(error.strerror or str(error) if isinstance(error, OSError) else str(error))
        shown = printable(str(self.path))
        if is_unknown(error):
            return (
                f"Run {printable(self.id)} was made by a newer version of cifartui: {file.name} holds what this one "
                f"does not know ({why}). It is shown as far as it is understood; resume it with that version."
            )
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            why = files.why_refused(self.path, error)
            return f"{shown} cannot be read: {file.name} cannot be opened ({why})."
        return f"{shown} is not a run directory: {file.name} cannot be read ({why})."

    def write_amended(self, info: RunInfo) -> None:
        """Keep what a resume changed, beside run.json, which stays."""
        write_atomically(self.amended, msgspec.json.format(msgspec.json.encode(info), indent=2))

    def write_unreadable(self, reasons: Mapping[str, str]) -> None:
        """Keep the names of all images that cannot be read, with the reason behind a tab; without any, no file.

        Raises:
            CifartuiError: the file cannot be written.
        """
        try:
            if reasons:
                lines = "".join(f"{name}\t{why}\n" for name, why in sorted(reasons.items()))
                write_atomically(self.unreadable, lines.encode())
            else:
                self.unreadable.unlink(missing_ok=True)
        except OSError as error:
            raise files.unwritable(self.unreadable, error) from error

    def read_state(self, *, every_step: bool = False) -> "RunState":
        """Return what the journal so far adds up to; with `every_step` a very long run's curve is not thinned."""
        from engine.journal import fold_file, jsonl
        from engine.journal.series import StepSeries
        from engine.journal.state import RunState, fold

        if not every_step:
            return fold_file.read_folded(self.events)[0]
        state = RunState(steps=StepSeries(most=None))
        for batch in jsonl.event_reader(self.events).batches():
            fold(batch, state)
        return state

    def check_ours(self) -> None:
        """Raise CifartuiError if a file that steers the run belongs to another user, or a checkpoint is a link."""
        steering = (self.path / "run.json", self.amended, self.events, self.commands, self.lock)
        weights = (self.checkpoints, *self.checkpoints.glob("*.pt"))
        for path in (self.path, *steering, *weights):
            try:
                files.check_ours(path.lstat(), path)
                if path in weights and path.is_symlink():
                    raise CifartuiError(f"{path} is a link, and no checkpoint is read or written through one.")
            except files.NotOursError as error:
                as_owner = "" if os.geteuid() else "Go on with it as that user (sudo -u, docker run --user). "
                raise CifartuiError(
                    f"Run {self.id} is shown, and not gone on with: {path.name} is another user's ({error.strerror}). "
                    f"{as_owner}To go on with it as yours, copy its folder and resume the copy: cp -r {self.path} …"
                ) from error
            except OSError:  # it is not there
                continue

    def is_ours(self) -> bool:
        """Return whether nothing that steers the run belongs to another user."""
        try:
            self.check_ours()
        except CifartuiError:
            return False
        return True

    def worker_lives(self) -> bool | None:
        """Return whether a worker holds the lock; None where that cannot be seen from this host, or on this disk."""
        mark = self.read_mark()
        if mark is not None and mark.host != socket.gethostname():
            return None
        return is_locked(self.lock)

    def works_here(self) -> bool:
        """Return whether a worker of this host trains it; by its heartbeat, where the disk refuses locks."""
        lives, mark = self.worker_lives(), self.read_mark()
        if lives is None and mark is not None and mark.host == socket.gethostname():
            return self.spoke_lately()
        return bool(lives)

    def is_gone(self) -> bool:
        """Return whether the folder was deleted or moved; a disk that is away for a while is not taken for that."""
        try:
            self.path.stat()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return False

    def why_gone(self) -> str:
        """Return what a worker says at its end where `is_gone`; a moved journal keeps it."""
        return f"{self.path} was deleted or moved, so training has ended."

    def spoke_lately(self) -> bool:
        """Return whether its journal was written to in the last half minute, by whomever and from wherever.

        Times come from other clocks: of one in the future nothing is believed, the journal is watched for its growth.
        """
        try:
            ago_s = time.time() - self.events.stat().st_mtime
        except OSError:
            return False
        return self.grows() if ago_s < -STALLED_AFTER_S else ago_s < STALLED_AFTER_S

    def grows(self, watch_s: float | None = None) -> bool:
        """Watch the journal for more than two heartbeats, and return whether anything was written to it."""
        deadline, before = time.monotonic() + (WATCHED_S if watch_s is None else watch_s), self._journal_size()
        while time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
            if self._journal_size() != before:
                return True
        return False

    def _journal_size(self) -> int:
        """Return the bytes of the journal. It is opened for that: a file server's client asks the server then."""
        try:
            fd = files.open_to_read(self.events)
        except OSError:
            return 0
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def read_mark(self) -> "WorkerMark | None":
        """Return who last took the lock, where that is known."""
        from engine.runs.worker_mark import WorkerMark

        try:
            return msgspec.json.decode(files.read(self.lock), type=WorkerMark)
        except (OSError, *DAMAGED):
            return None


def status_of(state: "RunState", lives: bool | None, now: float, heard_s: float | None = None) -> Status:
    """Return a run's status: its phase, corrected by whether its worker lives and still speaks.

    Args:
        state: what the events add up to.
        lives: `RunDir.worker_lives`; None (another host) goes by the age of the last event alone.
        now: Unix seconds.
        heard_s: for how long this viewer has heard nothing, by a clock that nobody sets; None where it has heard
            nothing yet, or looks only once. It goes before `now`, from which the writer's clock may differ.
    """
    if state.is_finished and not lives:
        return state.phase
    if lives is False:
        return "lost"
    if heard_s is None:
        heard_s = 0.0 if state.last_time is None else now - state.last_time
    is_elsewhere = lives is None
    silent = heard_s > STALLED_AFTER_S or (is_elsewhere and heard_s < -STALLED_AFTER_S)  # its clock is not ours
    if silent and lives and state.is_finished:  # a worker that resumes it has not spoken yet
        return "starting"
    if silent:
        return "lost" if is_elsewhere else "stalled"
    return state.phase


def stem_of(preset_name: str) -> str:
    """Return the part of a run's id that stands for its preset, between the time and the random digits."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", preset_name).strip("-.")[-40:] or "run"


def create(runs_dir: Path, preset_name: str, run_name: str = "", **info: Any) -> RunDir:
    """Make a new run directory (mode 0700) with its run.json, under a name nobody else has.

    Args:
        runs_dir: made where absent.
        preset_name: goes into the folder's name.
        run_name: goes there in its place, and in that of the random digits.
        info: the other fields of RunInfo except `id`, `created` and `host`.
    """
    now = datetime.now(timezone.utc)
    stem = stem_of(preset_name)
    made, path = list[Path](), None
    try:
        made = files.make_folders(runs_dir)
        while path is None:
            wanted = runs_dir / f"{now:%Y%m%dT%H%M%S}-{run_name or f'{stem}-{os.urandom(2).hex()}'}"
            try:
                files.new_folder(wanted)
                path = wanted
            except FileExistsError:
                if run_name:
                    raise CifartuiError(f"Run {wanted.name} was started this second; try again.") from None
        folder = RunDir(path)
        files.new_folder(folder.checkpoints)
        record = RunInfo(
            id=path.name, preset_name=preset_name, created=now.timestamp(), host=socket.gethostname(), **info
        )
        write_atomically(path / "run.json", msgspec.json.format(msgspec.json.encode(record), indent=2))
    except BaseException as error:
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)
        files.remove_empty(made)
        if isinstance(error, UnicodeEncodeError):
            raise CifartuiError("A name or a value holds characters that are not UTF-8; rename that file.") from None
        if isinstance(error, OSError):
            raise unwritable(runs_dir, error) from error
        raise
    return folder


def unwritable(runs_dir: Path, error: OSError) -> CifartuiError:
    """Return what to say where a file of `runs_dir` cannot be written."""
    return CifartuiError(f"Cannot write to {runs_dir}: {error.strerror}; choose another folder with --runs-dir.")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part; an error leaves the old one alone.

    Raises:
        OSError: the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = files.open_file(temporary, os.O_WRONLY | os.O_TRUNC)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def list_runs(runs_dir: Path) -> list[RunDir]:
    """Return every run directory below `runs_dir`, newest first; hidden folders are none.

    One that cannot be looked into is among them: whoever reads it is told why.

    Raises:
        CifartuiError: the folder is there, and cannot be listed.
    """
    try:
        with os.scandir(runs_dir) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and _may_be_run(entry)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CifartuiError(
            f"The runs in {printable(str(runs_dir))} cannot be listed ({files.why_refused(runs_dir, error)}); check "
            "its permissions, or choose another folder with --runs-dir."
        ) from error
    return [RunDir(runs_dir / name) for name in sorted(names, reverse=True)]


_NO_RUN = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


def _may_be_run(entry: "os.DirEntry[str]") -> bool:
    try:
        if not entry.is_dir():
            return False
    except OSError:  # a link to itself
        return True
    try:
        os.stat(f"{entry.path}/run.json")
    except OSError as error:  # else another user's, or a stale handle of a file server
        return error.errno not in _NO_RUN
    return True
