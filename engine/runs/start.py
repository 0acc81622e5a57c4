"""Starting a run: make its directory, take its lock, start its worker. No torch.

Used by the dashboard, the command line and the queue's runner.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from engine import files
from engine.journal.jsonl import end_of
from engine.runs import run_dir as runs
from engine.runs.claim import ENDS_WITHIN_S, claim, has_spoken_last, has_worker
from engine.runs.notify_settings import NOBODY, VARIABLE, Notify, encoded
from engine.runs.run_dir import RunDir
from engine.runs.run_options import DEFAULT_OPTIONS, RunOptions
from engine.runs.worker_mark import sign_lock
from engine.runs.worker_process import signal_worker
from engine.shared import child_process
from engine.shared.device_names import check_devices
from presets import catalog
from presets.checks import LARGEST_LR
from presets.errors import CifartuiError
from presets.range_test import DEFAULT_SWEEP, Sweep, range_test, range_test_name, table_of, tested_optimizer
from presets.schema import Preset

_LOCK_PATIENCE_S = 0.5
_LOG_PATIENCE_S = 60.0
"""The process that logged the worker before may still be handing over."""
"""For so long a lock is waited for: a viewer may hold it while he looks whether there is a worker."""
_HELD_BACK = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Until the worker listens to them (`Controls.listen_to_signals`): they would end it without a last event."""


def start_run(
    runs_dir: Path,
    name: str,
    options: RunOptions = DEFAULT_OPTIONS,
    *,
    argv: Sequence[str] | None = None,
    run_name: str = "",
    start: bool = True,
) -> RunDir:
    """Make the run directory of a preset and start its worker, which outlives this process.

    Args:
        runs_dir: made where absent.
        name: of the preset.
        options: overrides, seed, devices and the rest.
        argv: the command that asked for the run, for the record; without it this process's.
        run_name: in the place of the preset and random digits in its id (`engine.runs.named_runs`).
        start: without it the directory is all; somebody else starts the worker.

    Raises:
        CifartuiError: the preset or an override is not valid, so many devices cannot be, or the folder cannot be
            written.
    """
    check_devices(options.device, options.devices)
    preset = catalog.load(name, options.overrides)
    if table_of(preset) is not None:
        _check_one_device(options)
    file = catalog.file_of(name)
    return _start(runs_dir, recorded_name(name), preset, options, argv, file, run_name, start=start)


def start_range_test(
    runs_dir: Path,
    name: str,
    options: RunOptions = DEFAULT_OPTIONS,
    sweep: Sweep = DEFAULT_SWEEP,
    *,
    argv: Sequence[str] | None = None,
) -> RunDir:
    """Start the range test of a preset as a run of its own; see `start_run`.

    Args:
        runs_dir: made where absent.
        name: of the preset.
        options: its overrides are of the preset, before it is made a test.
        sweep: its rates and batches.
        argv: the command that asked for the run.

    Raises:
        CifartuiError: as `start_run`; more than one device; the rates are not two positive numbers, the smaller one
            first.
    """
    _check_one_device(options)
    preset = catalog.load(name, options.overrides)
    first, last = sweep.rates(tested_optimizer(preset))
    if not 0 < first < last <= LARGEST_LR:
        raise CifartuiError(
            f"A range test goes from a learning rate above 0 up to a larger one, at most {LARGEST_LR:g}, "
            f"not from {first:g} to {last:g}; give others with --from and --to."
        )
    test = range_test(preset, first, last, sweep.steps)
    return _start(runs_dir, range_test_name(recorded_name(name)), test, options, argv, catalog.file_of(name))


def _check_one_device(options: RunOptions) -> None:
    if options.devices > 1:
        raise CifartuiError("A range test takes one device; leave --devices out.")
    check_devices(options.device, 1)


def _start(
    runs_dir: Path,
    recorded: str,
    preset: Preset,
    options: RunOptions,
    argv: Sequence[str] | None,
    preset_file: str,
    run_name: str = "",
    *,
    start: bool = True,
) -> RunDir:
    """Make the run directory of a loaded preset, recorded under that name, and start its worker."""
    try:
        made = files.make_folders(runs_dir)
    except OSError as error:
        raise runs.unwritable(runs_dir, error) from error
    try:
        run = runs.create(
            runs_dir,
            recorded,
            run_name,
            preset_file=preset_file,
            preset=_with_absolute_paths(preset),
            overrides=options.overrides,
            seed=options.seed,
            device=options.device,
            devices=options.devices,
            data_dir=options.data_dir or data_from_environment(),
            argv=tuple(sys.argv if argv is None else argv),
            versions={},
            notify=options.notify.command,
            group=options.group,
        )
        if start:
            _start_first_worker(run, options.notify)
    except CifartuiError:
        files.remove_empty(made)
        raise
    return run


def _start_first_worker(run: RunDir, notify: Notify) -> None:
    """Start the worker of a run that was just made, and remove the run if there is none.

    Raises:
        CifartuiError: its process cannot be started, or its files cannot be written.
    """
    try:
        start_worker(run, notify=notify)
    except CifartuiError as error:
        why = error.__cause__
        if not isinstance(why, OSError):  # somebody else has given it a worker
            raise
        shutil.rmtree(run.path, ignore_errors=True)
        if os.path.lexists(run.path):
            raise
        raise CifartuiError(
            f"No run was started in {run.path.parent} ({why.strerror}); is there room on its disk? Choose another "
            "folder with --runs-dir."
        ) from why


def recorded_name(name: str) -> str:
    """Return a preset's name as its runs record it: that of a file without folder and ending."""
    return Path(name).stem if name.endswith(".toml") else name


def _with_absolute_paths(preset: Preset) -> Preset:
    """Return the preset with a data path of this folder named from the root: the worker runs in another one."""
    path = preset.data.path
    if path is None or not Path(path).exists():
        return preset
    return replace(preset, data=replace(preset.data, path=str(Path(path).absolute())))


def data_from_environment() -> str | None:
    """Return CIFARTUI_DATA as it is now: the run may be resumed from a shell that does not have it."""
    named = os.environ.get("CIFARTUI_DATA")
    return str(files.expanded(named).absolute()) if named else None


def start_worker(
    folder: RunDir,
    *,
    resume: bool = False,
    prepare: Callable[[], Sequence[str]] | None = None,
    notify: Notify = NOBODY,
    options: Sequence[str] = (),
) -> int:
    """Start the worker of a run in a session of its own and return its process id.

    The launcher takes the run's lock and hands it down, so that from the first moment nobody else can
    start a second worker here, and a worker that dies at once is seen to be dead.

    Args:
        folder: the run.
        resume: go on from its last checkpoint, if it has one.
        prepare: called with the lock held; returns what it changed, for the journal. What it raises comes through.
        notify: whom a watcher tells of the run, and where it is logged. It comes from whoever starts the worker, never
            from the run directory, which may have been written by somebody else.
        options: further arguments of the worker (`engine.training.worker.add_resume_arguments`).

    Raises:
        CifartuiError: a worker already holds the run, or none can be started.
    """
    try:
        lock_fd = take_lock(folder)
        try:
            changes = [f"--change={change}" for change in prepare()] if prepare else []
            start = end_of(folder.events) if notify.targets else 0
            pid = _start_process(folder, lock_fd, (*changes, *options), resume=resume)
            if notify.targets:
                watched = [f"--pid={pid}", f"--from={start}"]
                settings = {VARIABLE: encoded(notify)}  # no argument: it may hold a token
                _start_beside(folder, "engine.runs.watcher", watched, settings, "Nobody is told of this run")
            for service in notify.log:
                logged = [f"--to={service}", "--follow", f"--patience-s={_LOG_PATIENCE_S}"]
                _start_beside(folder, "engine.trackers.log_process", logged, {}, f"This run is not logged to {service}")
            return pid
        finally:
            os.close(lock_fd)
    except OSError as error:
        where = f": {error.filename}" if error.filename is not None else ""
        raise CifartuiError(
            f"Run {folder.id} cannot be given a worker ({error.strerror}{where}); is the run yours, and is there room "
            "on its disk?"
        ) from error


def _start_process(folder: RunDir, lock_fd: int, options: Sequence[str], *, resume: bool) -> int:
    commands_from = folder.commands.stat().st_size if resume and folder.commands.exists() else 0
    files.keep_room(folder.reserve)
    arguments = [str(folder.path.absolute()), "--lock-fd", str(lock_fd), "--commands-from", str(commands_from)]
    arguments += [*(["--resume"] if resume else []), *options]
    program = "worker" if folder.read_info().devices == 1 else "distributed.agent"
    log_fd = files.open_file(folder.log, os.O_WRONLY | os.O_APPEND)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)  # what is started inherits this
    try:
        process = child_process.start(
            f"engine.training.{program}",
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=(lock_fd,),
            start_new_session=True,
        )
        with suppress(OSError):  # the disk is full: the worker lives, and signs again once it has chosen its device
            sign_lock(lock_fd, process.pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(log_fd)
    return process.pid


def _start_beside(
    folder: RunDir, module: str, options: Sequence[str], settings: dict[str, str], otherwise: str
) -> None:
    """Start a process beside a worker; what becomes of it is nothing to the run.

    Args:
        folder: the run, the first argument of the process. Its log has what the process says.
        module: run as `__main__`.
        options: the other arguments.
        settings: more variables of its environment.
        otherwise: said in the log if it cannot be started.
    """
    with suppress(OSError):  # the disk is full: the worker lives, whatever comes of this
        log_fd = files.open_file(folder.log, os.O_WRONLY | os.O_APPEND)
        try:
            child_process.start(
                module,
                [str(folder.path.absolute()), *options],
                environment={**os.environ, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                start_new_session=True,
            )
        except OSError as error:
            os.write(log_fd, f"{otherwise}: no process can be started ({error.strerror}).\n".encode())
        finally:
            os.close(log_fd)


def take_lock(folder: RunDir) -> int:
    """Return a file descriptor that holds the run's lock for as long as it is open, here or where it is inherited.

    On a disk that refuses locks it holds nothing; the run's claim (`engine.runs.claim`) is taken in either case.

    Raises:
        CifartuiError: a worker already holds the run, or it belongs to another user.
    """
    folder.check_ours()
    fd = files.open_file(folder.lock, os.O_RDWR)
    look_again, ends_until = time.monotonic() + _LOCK_PATIENCE_S, time.monotonic() + ENDS_WITHIN_S
    try:
        while (has_lock := _locks(fd)) is None:  # a worker has it, or a viewer who is just looking whether there is one
            now = time.monotonic()
            if now > look_again:
                if now > ends_until or not has_spoken_last(folder):
                    raise has_worker(folder)
                look_again = now + _LOCK_PATIENCE_S
            time.sleep(0.02)
        claim(folder, has_lock=has_lock)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _locks(fd: int) -> bool | None:
    """Return True once the lock is held, None while somebody else holds it, False if the disk refuses locks."""
    try:
        return files.try_flock(fd, fcntl.LOCK_EX)
    except BlockingIOError:
        return None


def hurry_worker(folder: RunDir) -> bool:
    """Send SIGTERM to the worker of a run on this host: one that is stopping already ends at once.

    Returns:
        False, and nothing is sent, if it has none here, or the process that its lock names is not it.
    """
    return signal_worker(folder, signal.SIGTERM)
