"""Child process that may import torch: run one of our modules and return its output."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from presets.errors import CifartuiError

_POLL_EVERY_S = 0.1
_BACKGROUND_NICENESS = 19


def run_module(
    module: str,
    arguments: Sequence[str] = (),
    *,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    stop: threading.Event | None = None,
    in_background: bool = False,
) -> bytes:
    """Run `python -m module arguments` to its end and return its standard output.

    Args:
        module: of ours, run as a program.
        arguments: its command line.
        cwd: the folder it runs in; by default this process's.
        stdin: its input; empty by default.
        stop: the process is ended when this is set.
        in_background: with the machine's lowest priority.

    Raises:
        CifartuiError: it exited with 2 and a sentence, failed in another way, cannot be started, or was ended
            by `stop`.
    """
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", module, *arguments]
    try:
        started = subprocess.Popen(command, cwd=cwd, stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        raise CifartuiError(f"{module} cannot be started ({error.strerror}); is the machine out of memory?") from error
    with started as process:
        try:
            if in_background:
                os.setpriority(os.PRIO_PROCESS, process.pid, _BACKGROUND_NICENESS)
            printed, complaints = _talk(process, stdin or b"", stop)
        except BaseException:
            process.kill()
            raise
    errors = complaints.decode(errors="replace").strip().splitlines()
    if process.returncode == 0:
        return printed
    if process.returncode == 2 and errors:
        raise CifartuiError(errors[-1])
    last = errors[-1] if errors else f"exit code {process.returncode}"
    raise CifartuiError(f"{module} failed ({last}); cifartui doctor looks for the cause.")


def _talk(process: subprocess.Popen[bytes], stdin: bytes, stop: threading.Event | None) -> tuple[bytes, bytes]:
    if stop is None:
        return process.communicate(stdin)
    sent: bytes | None = stdin
    while not stop.is_set():
        try:
            return process.communicate(sent, timeout=_POLL_EVERY_S)
        except subprocess.TimeoutExpired:
            sent = None
    raise CifartuiError("The question was withdrawn.")
