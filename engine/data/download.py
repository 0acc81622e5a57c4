"""Download of data sets from their publishers, md5-checked. No decoding."""

import os
import time
from contextlib import suppress
from pathlib import Path

import pooch

from engine.data.progress import LoadProgress, Report
from engine.shared.cleaned_up import cleaned_up
from engine.shared.data_locations import Location, search_folders
from engine.shared.published_sets import PUBLISHED, reason_of
from presets.errors import CifartuiError

_TIMEOUT_S = (5.0, 30.0)
"""Seconds to connect, and between two pieces."""
_ABANDONED_S = 600.0
"""Seconds since the last write after which a partial file is abandoned: a running download gives up after thirty."""
_CHUNK_BYTES = 1 << 16
"""Bytes between two polls of commands: a second and a half on a line of 40 kB/s."""


class _Bar:
    """Progress bar for pooch, in place of tqdm's."""

    def __init__(self, progress: LoadProgress) -> None:
        self._progress = progress
        self.total = 0

    def update(self, amount: int) -> None:
        self._progress.total = self.total
        self._progress.move_to(min(self._progress.done + amount, self.total or self._progress.done + amount))

    def reset(self) -> None:
        self._progress.done = 0

    def close(self) -> None:
        self._progress.finish()


def download_published(absent: Location, data_dir: str | None, report: Report) -> None:
    """Fetch the published files of a data set into `data_dir`, or else into the user data folder.

    Files that are there already stay, so that a download that broke off goes on with the next file.

    Raises:
        CifartuiError: they could not be fetched; the message carries the advice of `absent`.
    """
    published = PUBLISHED[absent.dataset]
    folder = search_folders(data_dir)[0 if data_dir else -1] / published.folder
    try:
        for file in published.files:
            if not (folder / file.name).is_file():
                fetch(file.url, file.md5, folder / file.name, report)
    except CifartuiError as error:
        raise CifartuiError(f"{absent.text}, and {error} {absent.advice}") from error


def fetch(url: str, md5: str, path: Path, report: Report) -> Path:
    """Download `url` to `path`: under another name first, renamed when its md5 is right.

    Raises:
        CifartuiError: unreachable, broken off, of another md5, or not writable; nothing is left behind.
    """
    progress = LoadProgress(report, "download", "B", url)
    downloader = pooch.HTTPDownloader(progressbar=_Bar(progress), chunk_size=_CHUNK_BYTES, timeout=_TIMEOUT_S)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        with cleaned_up(lambda: _remove(part)):
            downloader(url, str(part), None)
            if pooch.file_hash(str(part), alg="md5") != md5:
                raise CifartuiError(f"what {url} sent has another md5 than the published one.")
            part.replace(path)
    except PermissionError:
        raise CifartuiError(f"{path.parent} cannot be written to.") from None
    except OSError as error:  # the errors of the library that pooch downloads with, too
        raise CifartuiError(f"downloading {url} failed ({reason_of(error)}).") from error
    return path


def _remove(part: Path) -> None:
    with suppress(OSError):
        part.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Remove partial files of downloads of `path` that were killed."""
    for part in path.parent.glob(f".{path.name}.*.part"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > _ABANDONED_S:
                part.unlink()
