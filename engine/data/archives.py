"""Archives of published data sets, unpacked once into the cache folder."""

import hashlib
import re
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from engine.data.progress import LoadProgress, Report
from engine.shared.cache_folder import cache_folder, make_cache_folder, new_copy, note_use, remove_unfinished
from engine.shared.image_archives import TarMember
from presets.errors import CifartuiError

_WANTED = {
    "cub-200-2010": re.compile(r"images/[^/\0]+/[^/\0]+\.jpg|lists/[^/\0]+\.txt"),
    "flowers-102": re.compile(r"jpg/[^/\0]+\.jpg"),
    "oxford-iiit-pet": re.compile(r"images/[^/\0]+\.jpg|annotations/(?:trainval|test)\.txt"),
}
"""Names of members to unpack. All others are skipped, so no member is written outside of the folder."""


def unpack(name: str, archives: Sequence[Path], report: Report) -> Path:
    """Return a folder with what is wanted of the archives of a data set.

    Args:
        name: of the data set and of the folder: cub-200-2010, flowers-102 or oxford-iiit-pet.
        archives: .tar.gz files.
        report: called with the bytes read; its exceptions propagate, and nothing half-unpacked is left.

    Raises:
        CifartuiError: an archive is damaged, or there is no room.
    """
    folder = archives[0].parent
    unpacked = cache_folder() / f"{name}-{_key(archives)}"
    remove_unfinished(unpacked.parent)
    if unpacked.is_dir():
        make_cache_folder(unpacked)
        note_use(unpacked)
        return unpacked
    try:
        with new_copy(unpacked, str(folder)) as temporary:
            for archive in archives:
                _unpack(archive, temporary, _WANTED[name], report)
    except (OSError, EOFError, tarfile.TarError) as error:
        if unpacked.is_dir():  # another process was quicker
            return unpacked
        raise CifartuiError(
            f"The archives in {folder} could not be unpacked into {cache_folder()} ({error}); fetch a damaged one "
            "again, or free some room."
        ) from error
    return unpacked


def _unpack(archive: Path, folder: Path, wanted: re.Pattern[str], report: Report) -> None:
    progress = LoadProgress(report, "unpack", "B", archive.name, archive.stat().st_size)
    with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:gz", tarinfo=TarMember) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if member.isfile() and wanted.fullmatch(name) and "/../" not in f"/{name}/":
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None
                with path.open("wb") as file:
                    shutil.copyfileobj(content, file)
            progress.move_to(raw.tell())
    progress.finish()


def _key(archives: Sequence[Path]) -> str:
    text = "".join(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n" for path in archives)
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
