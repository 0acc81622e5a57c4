"""Fetching CIFAR-100 from where it is published. Knows nothing of what is in it."""

from pathlib import Path

import pooch

from engine.data.progress import Progress, Report
from engine.locate import CIFAR100_ARCHIVE, CIFAR100_MD5, CIFAR100_URL, Location, search_folders
from presets.errors import CifartuiError

_TIMEOUT_S = (5.0, 30.0)
"""To connect, and between two pieces."""
_CHUNK_BYTES = 1 << 18


class _Bar:
    """What pooch moves instead of a tqdm bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.total = 0

    def update(self, amount: int) -> None:
        self._progress.total = self.total
        self._progress.move_to(min(self._progress.done + amount, self.total or self._progress.done + amount))

    def reset(self) -> None:
        self._progress.done = 0

    def close(self) -> None:
        self._progress.finish()


def download_cifar100(absent: Location, data_dir: str | None, report: Report) -> Location:
    """Fetch the published archive into `data_dir`, or else into the user data folder.

    Raises:
        CifartuiError: it could not be fetched; the message carries the advice of `absent`.
    """
    folder = search_folders(data_dir)[0 if data_dir else -1]
    try:
        path = fetch(CIFAR100_URL, CIFAR100_MD5, folder / CIFAR100_ARCHIVE, report)
    except CifartuiError as error:
        raise CifartuiError(f"{absent.text}, and {error} {absent.advice}") from error
    return Location(dataset="cifar100", kind="archive", path=str(path), text=f"CIFAR-100 archive: {path}")


def fetch(url: str, md5: str, path: Path, report: Report) -> Path:
    """Download `url` to `path`: under another name first, renamed when its md5 is right.

    Raises:
        CifartuiError: unreachable, broken off, of another md5, or not writable; nothing is left behind.
    """
    progress = Progress(report, "download", "B", url)
    downloader = pooch.HTTPDownloader(progressbar=_Bar(progress), chunk_size=_CHUNK_BYTES, timeout=_TIMEOUT_S)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fetched = pooch.retrieve(url, f"md5:{md5}", fname=path.name, path=path.parent, downloader=downloader)
    except PermissionError:
        raise CifartuiError(f"{path.parent} cannot be written to.") from None
    except ValueError:  # what pooch says of a hash
        raise CifartuiError(f"what {url} sent has another md5 than the published one.") from None
    except OSError as error:  # requests' errors are OSErrors too
        reason = error.strerror or type(error).__name__
        raise CifartuiError(f"downloading {url} failed ({reason}).") from error
    return Path(fetched)
