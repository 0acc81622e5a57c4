"""Asking a process that may import torch, which this one may not."""

import os
import subprocess
import threading
from collections.abc import Sequence

from engine.shared import child_process
from presets.errors import CifartuiError

_LOOK_EVERY_S = 0.1
_BACKGROUND_NICENESS = 19


def ask(
    module: str,
    arguments: Sequence[str] = (),
    *,
    stdin: bytes | None = None,
    stop: threading.Event | None = None,
    in_background: bool = False,
) -> bytes:
    """Run `python -m module arguments` to its end and return what it printed.

    Args:
        module: of ours, run as a program.
        arguments: its command line.
        stdin: what it reads; nothing by default.
        stop: the process is ended when this is set.
        in_background: with the machine's lowest priority, because nobody asked for it.

    Raises:
        CifartuiError: it said in a sentence why it cannot (exit 2), failed unforeseen, cannot be started, or was
            ended by `stop`.
    """
    pipe = subprocess.PIPE
    try:
        started = child_process.start(module, arguments, stdin=pipe, stdout=pipe, stderr=pipe)
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
    said = complaints.decode(errors="replace").strip().splitlines()
    if process.returncode == 0:
        return printed
    if process.returncode == 2 and said:
        raise CifartuiError(said[-1])
    last = said[-1] if said else f"exit code {process.returncode}"
    raise CifartuiError(f"{module} failed ({last}); cifartui doctor looks for the cause.")


def _talk(process: child_process.Process, stdin: bytes, stop: threading.Event | None) -> tuple[bytes, bytes]:
    if stop is None:
        return process.communicate(stdin)
    sent: bytes | None = stdin
    while not stop.is_set():
        try:
            return process.communicate(sent, timeout=_LOOK_EVERY_S)
        except subprocess.TimeoutExpired:
            sent = None
    raise CifartuiError("The question was withdrawn.")
