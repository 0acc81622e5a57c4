"""A fork of a process that has imported torch, in the place of a program: what `python -m` starts, seconds earlier.

The fork has the program's arguments (also those that other processes see), variables, working directory, descriptors,
signals and session. Only the start of the interpreter and the imports are missing.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from engine.shared import child_process

FORKED = frozenset(
    {
        "engine.models.describe",
        "engine.queue.runner",
        "engine.training.device",
        "engine.training.distributed.agent",
        "engine.training.distributed.rank",
        "engine.training.evaluate_checkpoint",
        "engine.training.export_model",
        "engine.training.predict_images",
        "engine.training.preview",
        "engine.training.worker",
    }
)
"""Modules of ours that a fork runs in forks of its own; it starts any other one as ever."""
ROOM = 8192
"""Bytes that the process which forks must have for arguments: those of its forks are written over its own."""
_ARGUMENTS_BEGIN, _ARGUMENTS_END = 48, 49
"""Fields of /proc/PID/stat, counted from 1."""
_ABOVE_ALL_OTHERS = 512
"""Descriptors from here on are free."""


class Popen(subprocess.Popen[bytes]):
    """A process that runs one of our modules in the fork itself, where others would call exec."""

    def __init__(
        self, args: Any, *, env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = (), **options: Any
    ) -> None:
        if env is not None and not isinstance(args, str) and is_forked(args):
            options["preexec_fn"] = partial(_after_fork, args, env, {0, 1, 2, *pass_fds})
        super().__init__(args, env=env, pass_fds=pass_fds, **options)
        for path in _marks(args, env)[int((env or {}).get("RANK", 0)) :][:1]:
            path.touch()


def is_forked(command: Sequence[str]) -> bool:
    """Return true for the command line of a module that can be run in a fork."""
    return any(module in FORKED for module in module_in(command)[:1])


def module_in(command: Sequence[str]) -> Sequence[str]:
    """Return the module that a command line of Python runs and its arguments; empty if it runs none."""
    words = [word for word in command[1:3] if word != "-u"]
    if words[:1] == [str(Path(child_process.__file__).with_name("run_module.py"))]:
        return command[2:]
    return command[command.index("-m") + 1 :] if words[:1] == ["-m"] else ()


def replace_popen() -> None:
    """Have the program, and torch for its ranks, start processes by `Popen`, in this process and its forks."""
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    subprocess_handler.Popen = Popen
    child_process.subprocess = types.SimpleNamespace(Popen=Popen)  # type: ignore[attr-defined]


def be_the_command_line(arguments: Sequence[str], variables: Mapping[str, str]) -> None:
    """Be `python -m cifartui`, and raise SystemExit at its end."""
    import cifartui

    _become([sys.executable, "-m", "cifartui", *arguments], variables, [cifartui.__file__, *arguments])
    cifartui.main()


def be_the_module(command: Sequence[str], variables: Mapping[str, str]) -> object:
    """Be what a command line with a module starts, and return its exit code."""
    name, *arguments = module_in(command)
    module = import_module(name)
    _become(command, variables, [str(module.__file__), *arguments])
    return module.main()


def ended(program: Callable[[], object]) -> int:
    """Run a program to its end and return its exit code, all that it printed being written."""
    try:
        code = program()
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code if isinstance(code, int) else 0 if code is None else 1


def keep(descriptors: Sequence[int], numbers: Sequence[int]) -> None:
    """Give descriptors these numbers, and close all others."""
    spared = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _ABOVE_ALL_OTHERS) for descriptor in descriptors]
    _close_all_but(set(spared))
    for descriptor, number in zip(spared, numbers, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _marks(command: Sequence[str], variables: Mapping[str, str] | None) -> list[Path]:
    """Return the files that say which ranks of a run are forked, in their order; none for another module."""
    module, *arguments = module_in(command) if is_forked(command) else ("",)
    if module != "engine.training.distributed.rank" or variables is None:
        return []
    port, num_ranks = variables["MASTER_PORT"], int(variables["WORLD_SIZE"])
    return [Path(arguments[0], f"forked-{port}-{number}") for number in range(num_ranks)]


def _await_others(command: Sequence[str], variables: Mapping[str, str]) -> None:
    """Wait until all ranks of a run are forked.

    The agents that fork them have a thread, torch's store, which looks up the name of whoever connects to it. A rank
    that is forked meanwhile would have the lock of the C library's resolver, and nobody to release it.
    """
    agent = os.getppid()
    while not all(path.exists() for path in _marks(command, variables)) and os.getppid() == agent:
        time.sleep(0.005)


def _after_fork(command: Sequence[str], variables: Mapping[str, str], kept: set[int]) -> None:
    _close_all_but(kept)  # as exec does: whoever started this waits for one of them to be closed
    _await_others(command, variables)
    os._exit(ended(lambda: be_the_module(command, variables)))


def _close_all_but(kept: set[int]) -> None:
    for number in map(int, os.listdir("/proc/self/fd")):
        if number not in kept:
            try:
                os.close(number)
            except OSError:  # it was for the listing
                continue


def _become(command: Sequence[str], variables: Mapping[str, str], argv: list[str]) -> None:
    """Have the arguments, variables, streams and signals that a new interpreter has."""
    _show_arguments(command)
    sys.argv = argv
    os.environ.clear()
    os.environ.update(variables)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)) or number == signal.SIGCHLD:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _show_arguments(command: Sequence[str]) -> None:
    """Write a command line over that of this process, where /proc/PID/cmdline is read from."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = (int(fields[number - 3]) for number in (_ARGUMENTS_BEGIN, _ARGUMENTS_END))
    line = b"".join(os.fsencode(word) + b"\0" for word in command)
    assert len(line) < end - begin, "tests.forks.ROOM is too small"
    ctypes.memmove(begin, line.ljust(end - begin, b"\0"), end - begin)
