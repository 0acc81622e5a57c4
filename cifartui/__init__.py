"""Entry point of the command line, and the public Python API: `cifartui.load`. Its import imports nothing of ours.

`presets`, `engine` and `tui` are common names, and PYTHONPATH on GPU machines often holds somebody else's `engine.py`.
So both check first that no other package shadows one of ours. torch is imported by `load`, not by `import cifartui`.
"""

import gc
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cifartui.model import ClassScore, Image, Metrics, Model, Prediction
    from presets.errors import CifartuiError

__version__ = "0.1.0"
__all__ = ["CifartuiError", "ClassScore", "Image", "Metrics", "Model", "Prediction", "load"]


def load(
    run: "str | os.PathLike[str]",
    *,
    checkpoint: Literal["best", "last"] = "best",
    device: str = "auto",
    runs_dir: "str | os.PathLike[str] | None" = None,
) -> "Model":
    """Load the network of a run, ready for images of any origin. docs/python.md has the whole API.

    Args:
        run: an id, a unique part of one, "latest", or the path of a run's folder.
        checkpoint: the weights: those of the best epoch, or the last ones.
        device: auto (a CUDA GPU if there is one, else the processor), cpu, cuda, cuda:N or mps.
        runs_dir: the folder of all runs; by default CIFARTUI_RUNS, else that of the user.

    Raises:
        CifartuiError: there is no such run, checkpoint or device, or a file is damaged or another user's. The text is
            one sentence: what is wrong, where, and what to do.
        ImportError: another package hides one of cifartui's.
    """
    _check_packages()
    from cifartui.model import load_model

    return load_model(run, checkpoint=checkpoint, device=device, runs_dir=runs_dir)


def __getattr__(name: str) -> object:
    """Return one of the public types, which import torch."""
    if name not in __all__:
        raise AttributeError(f"module 'cifartui' has no attribute {name!r}")
    _check_packages()
    if name == "CifartuiError":
        from presets.errors import CifartuiError

        return CifartuiError
    from cifartui import model

    return getattr(model, name)


def _foreign_package() -> str | None:
    """Return the file that shadows one of our packages, or None."""
    home = Path(__file__).resolve().parents[1]
    for name in ("presets", "engine", "tui"):
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if found != home / name / "__init__.py":
            return str(found) if found else f"a folder called {name} without an __init__.py"
    return None


def _check_packages() -> None:
    """Raise ImportError if another package shadows one of ours."""
    in_the_way = _foreign_package()
    if in_the_way:
        raise ImportError(f"{in_the_way} hides a package of cifartui; rename that file, or start in another folder.")


def _open_standard_streams() -> None:
    """Open what is closed of descriptors 0, 1 and 2, or the next files, a lock among them, would take their places."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def main() -> None:
    """Run the command line; exit 2 with a sentence if another package shadows one of ours."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in the background of a shell
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while modules are imported ends it without a traceback
    _open_standard_streams()
    in_the_way = _foreign_package()
    if in_the_way:
        print(
            f"cifartui: {in_the_way} hides a package of cifartui; "
            "unset PYTHONPATH (or remove that file) and try again.",
            file=sys.stderr,
        )
        sys.exit(2)
    if len(sys.argv) == 1 and "_CIFARTUI_COMPLETE" not in os.environ:  # by which a shell asks for completions
        gc.disable()  # until the first screen is there (`tui.app`): looking over all that is imported takes 50 ms
        from tui.main import open_as_configured

        sys.exit(open_as_configured())
    from tui.cli.main import cifartui

    cifartui(prog_name="cifartui")
