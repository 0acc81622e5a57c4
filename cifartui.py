"""The way in: makes sure that `presets`, `engine` and `tui` are this installation's, then starts the command line.

These are common names, and PYTHONPATH on GPU machines often holds somebody else's `engine.py`. Imports
nothing of ours before that is checked.
"""

import gc
import importlib.util
import os
import sys
from pathlib import Path

__version__ = "0.1.0"


def _foreign_package() -> str | None:
    """Return the file that hides one of our packages, or None."""
    home = Path(__file__).resolve().parent
    for name in ("presets", "engine", "tui"):
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if found != home / name / "__init__.py":
            return str(found) if found else f"a folder called {name} without an __init__.py"
    return None


def _open_standard_streams() -> None:
    """Open what is closed of descriptors 0, 1 and 2, or the next files, a lock among them, would take their places."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def main() -> None:
    """Run the command line; exit 2 with a sentence where another package hides one of ours."""
    _open_standard_streams()
    in_the_way = _foreign_package()
    if in_the_way:
        print(
            f"cifartui: {in_the_way} hides a package of cifartui; "
            "unset PYTHONPATH (or remove that file) and try again.",
            file=sys.stderr,
        )
        sys.exit(2)
    if len(sys.argv) == 1:
        gc.disable()  # until the first screen is there (`tui.app`): looking over all that is imported takes 50 ms
        from tui.main import open_as_configured

        sys.exit(open_as_configured())
    from tui.cli.main import cifartui

    cifartui(prog_name="cifartui")


if __name__ == "__main__":
    main()
