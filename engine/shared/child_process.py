"""Start of every process of the program: none imports a module from, or runs anything in, its working directory.

A run directory, a runs folder and the user's own folder may hold files of anybody, among them a `json.py` or a
`libcudart.so`. So a child works in the root of the file system, where only root writes; starts through `run_module`,
which keeps sys.path clean; and has PYTHONSAFEPATH for the Python processes that torch starts from there.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

Process: TypeAlias = "subprocess.Popen[bytes]"

WORKING_DIRECTORY = "/"
_SAFE_PATH = "PYTHONSAFEPATH"
_SET_HERE = "cifartui"
"""The value by which PYTHONSAFEPATH is known to come from here; any text turns it on."""
_FOLDERS = ("CIFARTUI_CACHE", "CIFARTUI_CONFIG", "CIFARTUI_DATA", "CIFARTUI_RUNS")
"""Variables with a path, which may be relative to the user's folder."""


def command(module: str, arguments: Sequence[str] = ()) -> list[str]:
    """Return the command line that runs a module of this installation as `__main__`, as `python -m` would."""
    return [sys.executable, str(Path(__file__).with_name("run_module.py")), module, *arguments]


def start(
    module: str, arguments: Sequence[str] = (), *, environment: Mapping[str, str] | None = None, **options: Any
) -> Process:
    """Start a module of this installation as a process.

    Args:
        module: dotted name, run as `__main__`.
        arguments: its command line.
        environment: all its variables; by default this process's.
        options: of subprocess.Popen, other than args, cwd and env.

    Raises:
        OSError: it cannot be started.
    """
    variables = _safe(os.environ if environment is None else environment)
    return subprocess.Popen(command(module, arguments), cwd=WORKING_DIRECTORY, env=variables, **options)


def start_shell(command_line: str, **options: Any) -> Process:
    """Start a command of the user's through the shell, with the user's own variables; `options` as in `start`."""
    return subprocess.Popen(command_line, shell=True, cwd=WORKING_DIRECTORY, env=_users_own(), **options)


def start_program(arguments: Sequence[str], **options: Any) -> Process:
    """Start a program of the user's, found on the PATH, with the user's own variables; `options` as in `start`.

    Raises:
        OSError: it cannot be started.
    """
    return subprocess.Popen(list(arguments), cwd=WORKING_DIRECTORY, env=_users_own(), **options)


def _users_own() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if (name, text) != (_SAFE_PATH, _SET_HERE)}


def _safe(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with PYTHONSAFEPATH, and with paths that do not depend on the working directory."""
    variables = {**environment, _SAFE_PATH: environment.get(_SAFE_PATH) or _SET_HERE}
    for name in _FOLDERS:
        text = variables.get(name, "")
        if text and not text.startswith(("/", "~")):
            variables[name] = str(Path(text).absolute())
    return variables
