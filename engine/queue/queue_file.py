"""The queue of a runs folder: what is to be trained next, in queue.json.

Knows the file and how it is edited: by several dashboards, command lines and the runner at once. How the
runner's process is started is in `engine.queue.runner_process`, what it does in `engine.queue.runner`.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from engine import files
from engine.files import DAMAGED
from engine.queue.runner_process import LOCK_AGAIN_AFTER_S, runner_lives, start_runner, try_lock
from engine.runs.notify_settings import NOBODY, Notify
from engine.runs.run_dir import unwritable, write_atomically
from engine.runs.run_options import DEFAULT_OPTIONS, RunOptions, StoredOptions
from engine.runs.seed_groups import each_seed
from engine.runs.start import data_from_environment
from engine.shared.device_names import check_devices, is_device_name
from presets import catalog
from presets.errors import CifartuiError
from presets.problems import printable
from presets.schema import Preset

__all__ = [
    "Entry", "add", "clear", "editing", "entries", "move", "put_back", "remove", "runner_lives", "start_runner",
    "write",
]  # fmt: skip

_FILE, _LOCK = "queue.json", "queue.lock"
_EDIT_PATIENCE_S = 10.0


class Entry(StoredOptions, frozen=True, kw_only=True):
    """A run that is still to be started: a preset and what it is started with.

    Versions before kept a `notify` command here too. It is passed over: whoever starts the runner says who is told.
    """

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{12}\Z")]
    preset_name: Annotated[str, Meta(min_length=1)]


def entries(runs_dir: Path) -> tuple[Entry, ...]:
    """Return the queue in order; empty where there is none.

    Raises:
        CifartuiError: the file is damaged, cannot be read, or belongs to another user.
    """
    path = runs_dir / _FILE
    try:
        content = files.read_ours(path)
        found = msgspec.json.decode(content, type=tuple[Entry, ...])
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except files.NotOursError as error:
        raise CifartuiError(
            f"{path} is not obeyed: {error.strerror}. Delete it if you may, or choose another folder with --runs-dir."
        ) from error
    except OSError as error:
        raise CifartuiError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    except DAMAGED as error:
        raise _damaged(path, printable(str(error))) from error
    if len({entry.id for entry in found}) < len(found):
        raise _damaged(path, "two entries have the same id")
    return found


def add(runs_dir: Path, names: Sequence[str], options: RunOptions = DEFAULT_OPTIONS) -> tuple[Entry, ...]:
    """Put presets at the end of the queue and see to it that a runner lives; return what was added.

    Args:
        runs_dir: made where absent.
        names: of presets; all are checked before any is added.
        options: for every one of `names`, with several seeds an entry for each; its `notify` is for a runner that is
            started here, and is not kept.

    Raises:
        CifartuiError: a preset, an override or the device is not valid, or the folder cannot be written; nothing is
            added then, unless the sentence says so.
    """
    if not is_device_name(options.device):
        raise CifartuiError(f"{printable(options.device)!r} is not a device; use auto, cpu, cuda, cuda:N or mps.")
    check_devices(options.device, options.devices)
    folder = str(files.expanded(options.data_dir).absolute()) if options.data_dir else data_from_environment()
    added = tuple(
        Entry(
            id=os.urandom(6).hex(),
            preset_name=_from_the_root(name),
            overrides=_with_absolute_paths(catalog.load(name, options.overrides), options.overrides),
            seed=run.seed,
            device=options.device,
            devices=options.devices,
            data_dir=folder,
            group=run.group,
        )
        for name in names
        for run in each_seed(options)
    )
    try:
        files.make_folders(runs_dir)
    except OSError as error:
        raise unwritable(runs_dir, error) from error
    with editing(runs_dir):
        write(runs_dir, (*entries(runs_dir), *added))
    _see_to_runner(runs_dir, options.notify)
    return added


def _see_to_runner(runs_dir: Path, notify: Notify) -> None:
    """Start a runner for what was just added.

    Raises:
        CifartuiError: none can be started; the sentence says that what was added stays.
    """
    try:
        start_runner(runs_dir, notify)
    except CifartuiError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        raise CifartuiError(
            f"It is in the queue, and its runner cannot be started ({error.__cause__.strerror}); when that is mended: "
            "cifartui queue start"
        ) from error


def put_back(runs_dir: Path, entry: Entry, place: int, notify: Notify = NOBODY) -> bool:
    """Put an entry that was removed back at `place` (0 is the first); return False where it is there already.

    `notify` is for a runner that is started here.
    """
    with editing(runs_dir):
        found = list(entries(runs_dir))
        if any(each.id == entry.id for each in found):
            return False
        found.insert(max(0, place), entry)
        write(runs_dir, found)
    _see_to_runner(runs_dir, notify)
    return True


def remove(runs_dir: Path, entry_id: str) -> bool:
    """Take an entry out; return False where it is not there (any more): it may have been started meanwhile."""
    return _edit(runs_dir, lambda found: [entry for entry in found if entry.id != entry_id])


def move(runs_dir: Path, entry_id: str, places: int) -> bool:
    """Move an entry so many places towards the end (negative: the front), or as far as that goes.

    Returns:
        Whether it moved: False where it is not there, or at that end already.
    """

    def moved(found: list[Entry]) -> list[Entry]:
        index = next((index for index, entry in enumerate(found) if entry.id == entry_id), None)
        if index is None:
            return found
        entry = found[index]
        others = found[:index] + found[index + 1 :]
        others.insert(max(0, index + places), entry)
        return others

    return _edit(runs_dir, moved)


def clear(runs_dir: Path) -> int:
    """Take every entry out and return how many there were; what is training goes on."""
    num_cleared = 0

    def none_of(found: list[Entry]) -> list[Entry]:
        nonlocal num_cleared
        num_cleared = len(found)
        return []

    _edit(runs_dir, none_of)
    return num_cleared


def _edit(runs_dir: Path, change: Callable[[list[Entry]], list[Entry]]) -> bool:
    """Write what `change` makes of the queue; return whether that is anything new."""
    if not (runs_dir / _FILE).exists():
        return False
    with editing(runs_dir):
        found = list(entries(runs_dir))
        wanted = change(list(found))
        if wanted != found:
            write(runs_dir, wanted)
    return wanted != found


@contextmanager
def editing(runs_dir: Path) -> Iterator[None]:
    """Keep everybody else, in this process too, from editing the queue.

    Raises:
        CifartuiError: the folder cannot be written, or somebody else does not let go.
    """
    try:
        fd = files.open_file(runs_dir / _LOCK, os.O_RDWR)
    except OSError as error:
        raise unwritable(runs_dir, error) from error
    try:
        deadline = time.monotonic() + _EDIT_PATIENCE_S
        while not try_lock(fd, fcntl.LOCK_EX, runs_dir):
            if time.monotonic() > deadline:
                raise CifartuiError(f"Another process has been editing the queue in {runs_dir} for 10 s; try again.")
            time.sleep(LOCK_AGAIN_AFTER_S)
        yield
    finally:
        os.close(fd)


def write(runs_dir: Path, wanted: Sequence[Entry]) -> None:
    """Write the whole queue, within `editing`.

    Raises:
        CifartuiError: the file cannot be written.
    """
    try:
        write_atomically(runs_dir / _FILE, msgspec.json.format(msgspec.json.encode(wanted), indent=2))
    except UnicodeEncodeError:
        raise CifartuiError("A name or a value holds characters that are not UTF-8; rename that file.") from None
    except OSError as error:
        raise unwritable(runs_dir, error) from error


def _damaged(path: Path, why: str) -> CifartuiError:
    return CifartuiError(f"{path} is damaged ({why}); mend it, or delete it to begin an empty queue.")


# --- names and paths: the runner works in another folder -----------------------------------------


def _from_the_root(name: str) -> str:
    """Return a preset's name as it is, and that of a file as its full path."""
    path = files.expanded(name)
    is_file = name.endswith(".toml") or (path.is_file() and name not in {each.name for each in catalog.list_presets()})
    return str(path.absolute()) if is_file else name


def _with_absolute_paths(preset: Preset, overrides: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides with the paths of this folder named from the root, the preset file's own included."""
    kept = list(overrides)
    for key, value in (("data.path", preset.data.path), ("model.weights", getattr(preset.model, "weights", None))):
        if value is None or not (Path(value).is_absolute() or Path(value).exists()):
            continue
        absolute = str(Path(value).absolute())
        keys = {override.partition("=")[0].strip() for override in kept}
        if absolute != value or keys & {key, key.partition(".")[0]}:
            kept = [override for override in kept if override.partition("=")[0].strip() != key]
            kept.append(f"{key}={json.dumps(absolute, ensure_ascii=False)}")
    return tuple(kept)
