"""Asking a process that may import torch, which this one may not."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from presets.errors import CifartuiError


def ask(module: str, arguments: Sequence[str] = (), *, cwd: Path | None = None, stdin: bytes | None = None) -> bytes:
    """Run `python -m module arguments` to its end and return what it printed.

    Raises:
        CifartuiError: it said in a sentence why it cannot (exit 2), or failed unforeseen.
    """
    process = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd,
        input=stdin or b"",
        capture_output=True,
        check=False,
    )
    said = process.stderr.decode(errors="replace").strip().splitlines()
    if process.returncode == 0:
        return process.stdout
    if process.returncode == 2 and said:
        raise CifartuiError(said[-1])
    last = said[-1] if said else f"exit code {process.returncode}"
    raise CifartuiError(f"{module} failed ({last}); cifartui doctor looks for the cause.")
