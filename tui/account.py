"""Checks of the user's account before anything else is done: home folder and working directory. No Textual.

Configuration, presets, runs and caches are below the home folder unless variables name other places, so a home that
cannot be used is said once, here, and not by whatever meets it first.
"""

import os
import stat
from pathlib import Path

from engine import files
from presets.errors import CifartuiError
from presets.problems import printable

_ADVICE = "set HOME to a folder of yours: export HOME=/path/to/it"


def check_account() -> None:
    """Check home folder and working directory; take the home of the list of users if HOME is unset or no whole path.

    Raises:
        CifartuiError: there is no home; it is another user's, cannot be entered or is no folder; the working directory
            was deleted or cannot be found.
    """
    try:
        os.getcwd()  # noqa: PTH109 (Path.cwd is the same, and longer)
    except OSError as error:
        why = "was deleted" if isinstance(error, FileNotFoundError) else f"cannot be used ({error.strerror})"
        raise CifartuiError(f"The working directory {why}; go to another one, for example: cd") from None
    if not os.environ.get("HOME", "").startswith("/"):  # children have other working directories
        os.environ.pop("HOME", None)
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 (Path.expanduser raises where there is no home)
    if not home.is_absolute():
        raise CifartuiError(
            f"There is no home folder: HOME is not set, and the list of users has no user {os.getuid()}; {_ADVICE}"
        )
    shown = printable(str(home))
    try:
        about = home.stat()
        files.check_ours(about, home)
    except FileNotFoundError:  # it is made where something is written
        return
    except OSError as error:
        raise CifartuiError(f"The home folder {shown} cannot be used ({error.strerror}); {_ADVICE}") from None
    if not stat.S_ISDIR(about.st_mode):
        raise CifartuiError(f"The home folder {shown} is no folder; {_ADVICE}")
    if not os.access(home, os.X_OK):
        raise CifartuiError(f"The home folder {shown} cannot be used (Permission denied); {_ADVICE}")
