"""Script that runs a module of cifartui as `__main__`: `python …/run_module.py MODULE ARGUMENT...`.

It is `python -m MODULE` without the working directory on sys.path, for Python 3.10 too (`-P` came with 3.11), and
with the packages of this installation whatever PYTHONPATH holds. `engine.shared.child_process` names it by its path,
and so may a process that was started before an upgrade: keep it here. It imports nothing before sys.path is clean.
"""

import os
import sys

_PACKAGES = frozenset({"cifartui", "engine", "presets", "tui"})
_ROOT = __file__.rsplit(os.sep, 3)[0]


class _SameInstallation:
    """Meta path finder of our own packages: this installation's, before any other entry of sys.path."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Return the spec of one of our packages, None for any other module."""
        from importlib.machinery import PathFinder

        return PathFinder.find_spec(name, [_ROOT]) if name in _PACKAGES else None


def main() -> None:
    """Run the module that the first argument names; the others are its own."""
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[0]  # the folder of this file
    working_directory = os.getcwd()  # noqa: PTH109 (pathlib is not imported yet)
    sys.path[:] = [entry for entry in sys.path if entry not in ("", working_directory)]  # of an empty PYTHONPATH entry
    import atexit
    import gc
    import runpy

    atexit.register(gc.freeze)  # or the last collection looks over all of torch: 0.6 s of processor time
    sys.meta_path.insert(0, _SameInstallation())  # type: ignore[arg-type]
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
