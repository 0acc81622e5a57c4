"""Child process that may import torch: run one of our modules and return its output, or its lines as they come."""

import os
import select
import subprocess
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from tempfile import TemporaryFile

from engine.shared import child_process
from presets.errors import CifartuiError

_POLL_EVERY_S = 0.1
_BACKGROUND_NICENESS = 19
_ENDS_WITHIN_S = 10.0


def run_module(
    module: str,
    arguments: Sequence[str] = (),
    *,
    stdin: bytes | None = None,
    stop: threading.Event | None = None,
    in_background: bool = False,
) -> bytes:
    """Run `python -m module arguments` to its end and return its standard output.

    Args:
        module: of ours, run as a program.
        arguments: its command line.
        stdin: its input; empty by default.
        stop: the process is ended when this is set.
        in_background: with the machine's lowest priority.

    Raises:
        CifartuiError: it exited with 2 and a sentence, failed in another way, cannot be started, or was ended
            by `stop`.
    """
    pipe = subprocess.PIPE
    try:
        started = child_process.start(module, arguments, stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        raise _not_started(module, error) from error
    with started as process:
        try:
            if in_background:
                os.setpriority(os.PRIO_PROCESS, process.pid, _BACKGROUND_NICENESS)
            printed, complaints = _talk(process, stdin or b"", stop)
        except BaseException:
            _end(process)
            raise
    _check_end(module, process.returncode, complaints)
    return printed


def stream_module(
    module: str,
    arguments: Sequence[str] = (),
    *,
    stdin: Iterable[bytes] = (),
    stop: threading.Event | None = None,
    pass_fds: Sequence[int] = (),
) -> Generator[bytes, None, None]:
    """Run `python -m module arguments` and yield the lines of its standard output as they come.

    Closing the iterator ends the process.

    Args:
        module: of ours, run as a program.
        arguments: its command line.
        stdin: parts of its input, which a thread takes and sends while the output is read.
        stop: the process is ended when this is set.
        pass_fds: open files that it has too, by the same numbers.

    Raises:
        CifartuiError: as in `run_module`.
    """
    pipe = subprocess.PIPE
    with TemporaryFile() as errors:  # a pipe would have to be read meanwhile
        try:
            started = child_process.start(
                module, arguments, stdin=pipe, stdout=pipe, stderr=errors, pass_fds=tuple(pass_fds)
            )
        except OSError as error:
            raise _not_started(module, error) from error
        with started as process:
            threading.Thread(target=_send, args=(process, stdin), name="names", daemon=True).start()
            try:
                yield from _lines(process, stop)
                process.wait()
            except BaseException:
                _end(process)
                raise
        errors.seek(0)
        _check_end(module, process.returncode, errors.read())


def _end(process: child_process.Process) -> None:
    """End a process: it may take away first what it has written in part, and is killed if that takes too long."""
    process.terminate()
    try:
        process.wait(_ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
    except BaseException:  # another Ctrl-C
        process.kill()
        raise


def _not_started(module: str, error: OSError) -> CifartuiError:
    return CifartuiError(f"{module} cannot be started ({error.strerror}); is the machine out of memory?")


def _send(process: child_process.Process, parts: Iterable[bytes]) -> None:
    """Write parts to a process as they come, until it ends; then close its input."""
    assert process.stdin is not None
    with suppress(OSError, ValueError), process.stdin as file:  # it has ended, and its input is closed
        for part in parts:
            file.write(part)
            file.flush()


def _lines(process: child_process.Process, stop: threading.Event | None) -> Iterator[bytes]:
    assert process.stdout is not None
    rest, fd = b"", process.stdout.fileno()
    while True:
        if stop is not None:
            while not select.select([fd], [], [], _POLL_EVERY_S)[0]:
                _check_wanted(stop)
        if not (chunk := os.read(fd, 1 << 16)):
            return
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
        if stop is not None:
            _check_wanted(stop)


def _check_wanted(stop: threading.Event) -> None:
    """Raise CifartuiError if nobody wants the answer any more."""
    if stop.is_set():
        raise CifartuiError("The question was withdrawn.")


def _check_end(module: str, code: int, complaints: bytes) -> None:
    """Raise CifartuiError, with a sentence of what it printed on stderr, unless a process has succeeded."""
    errors = complaints.decode(errors="replace").strip().splitlines()
    if code == 0:
        return
    if code == 2 and errors:
        raise CifartuiError(errors[-1])
    last = errors[-1] if errors else f"exit code {code}"
    raise CifartuiError(f"{module} failed ({last}); cifartui doctor looks for the cause.")


def _talk(process: child_process.Process, stdin: bytes, stop: threading.Event | None) -> tuple[bytes, bytes]:
    if stop is None:
        return process.communicate(stdin)
    sent: bytes | None = stdin
    while True:
        _check_wanted(stop)
        try:
            return process.communicate(sent, timeout=_POLL_EVERY_S)
        except subprocess.TimeoutExpired:
            sent = None
