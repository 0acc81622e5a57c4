"""Recently opened folders of images: a JSON list in the user's state folder, newest first, for its owner alone."""

from pathlib import Path

import msgspec
import platformdirs

from engine import files
from engine.runs.run_dir import write_atomically

_MOST = 10


def recent_path() -> Path:
    """Return the path of the list, which need not exist."""
    return platformdirs.user_state_path("cifartui") / "folders.json"


def recent_folders() -> tuple[str, ...]:
    """Return the folders; none if there is no list, or one that cannot be read."""
    try:
        found = msgspec.json.decode(files.read(recent_path()), type=list[str])
    except (OSError, *files.DAMAGED):
        return ()
    return tuple(dict.fromkeys(found))[:_MOST]


def remember_folder(folder: str) -> None:
    """Put a folder first. A list that cannot be written is left as it is: it is a convenience."""
    path, kept = recent_path(), [folder, *(each for each in recent_folders() if each != folder)]
    try:
        files.make_folders(path.parent)
        write_atomically(path, msgspec.json.encode(kept[:_MOST]))
    except (OSError, UnicodeEncodeError):
        return


def completion(typed: str) -> str | None:
    """Return what is typed with the rest of the first folder's name that begins so; None if there is none.

    Hidden folders are completed only after a dot.
    """
    base, slash, start = typed.rpartition("/")
    if not slash:
        return None
    try:
        folder = files.expanded(f"{base}/")
        names = sorted(each.name for each in folder.iterdir() if each.name.startswith(start) and each.is_dir())
    except (OSError, ValueError):
        return None
    found = next((name for name in names if start or not name.startswith(".")), None)
    return None if found is None else f"{base}/{found}/"
