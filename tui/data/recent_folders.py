"""Recently opened folders of images: a JSON list in the user's state folder, newest first, for its owner alone."""

from pathlib import Path

import msgspec
import platformdirs

from engine import files
from engine.runs.run_dir import write_atomically
from engine.shared.image_archives import is_archive
from engine.shared.label_table import SUFFIXES as TABLES

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


def completion(typed: str, beside: Path) -> str | None:
    """Return what is typed with the rest of the first name that begins so: of a folder, an archive or a table.

    A relative path is one below `beside`. Hidden ones are completed only after a dot. None if there is none.
    """
    base, slash, start = typed.rpartition("/")
    try:
        folder = beside / files.expanded(f"{base}{slash}")
        there = sorted(each for each in folder.iterdir() if each.name.startswith(start))
        visible = (each for each in there if start or not each.name.startswith("."))
        found = next((each for each in visible if each.is_dir() or _holds_images(each)), None)
        return None if found is None else f"{base}{slash}{found.name}{'/' if found.is_dir() else ''}"
    except (OSError, ValueError):
        return None


def _holds_images(path: Path) -> bool:
    return is_archive(path) or (path.suffix.lower() in TABLES and path.is_file())
