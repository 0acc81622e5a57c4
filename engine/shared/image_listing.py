"""Listing of any folder of images: its layout, classes, and the files of each part. No torch, nothing decoded.

Names of files are relative to the listing's root, as the file system has them; `image_scan.shown` makes them printable.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from engine.shared import label_table
from engine.shared.class_folders import count_classes, in_archive, list_class_folders
from engine.shared.image_archives import OnBytes, is_archive, say_nothing, unpack, unpacked_before
from engine.shared.image_parts import Listing, unread_notices
from engine.shared.image_scan import Poll, shown
from presets.errors import CifartuiError


def list_images(
    path: Path,
    labels: str | None = None,
    *,
    name: str = "class-folders",
    poll: Poll = lambda: None,
    on_bytes: OnBytes = say_nothing,
) -> Listing:
    """List a folder or an archive of images, whatever its layout.

    Read are class folders `<class>/*`; parts `train/`, `val/` (or valid, validation, dev) and `test/` of class
    folders; a `test/` of loose images, which have no labels; and a table of file names and labels, with the images
    anywhere in the folder. Images in folders below a class are the class's. An archive (zip, tar) of these is unpacked
    into the cache folder first.

    Args:
        path: the folder, the archive, or the table itself beside its images.
        labels: a table (CSV, TSV), relative to `path` or absolute; without it, labels are those of the folders.
        name: of the data set.
        poll: called before each folder is read; its exceptions end the listing.
        on_bytes: told of progress where an archive is unpacked.

    Raises:
        CifartuiError: it cannot be read, has no layout of these or looks like two, or has fewer than two classes.
    """
    path = Path(path)
    if not is_archive(path):
        return _list(path, labels, name, poll)
    unpacked = unpack(path, on_bytes)
    with _as_archive(unpacked.folder, path):
        found = _list(unpacked.folder, labels, name, poll)
    return replace(
        found,
        layout=_of_archive(found.layout, unpacked.folder, path),
        unread=(*found.unread, *unpacked.unread),
        notices=(
            *(_of_archive(said, unpacked.folder, path) for said in found.notices),
            *unread_notices(unpacked.unread),
        ),
    )


@contextmanager
def _as_archive(folder: Path, archive: Path) -> Iterator[None]:
    """Let the errors of the block be about the archive, and not about the cache's folder that it is unpacked into."""
    try:
        yield
    except CifartuiError as error:
        raise CifartuiError(in_archive(str(error)).replace(shown(str(folder)), shown(str(archive)))) from error


def _of_archive(said: str, folder: Path, archive: Path) -> str:
    """Return a sentence with the archive in place of the cache's folder that it is unpacked into."""
    name = shown(archive.name)
    return said.replace(shown(f"{folder}/"), f"{name}: ").replace(shown(str(folder)), name).replace(folder.name, name)


def num_classes(path: Path, labels: str | None = None) -> int | None:
    """Return the number of classes of a folder or an archive, quickly; None for an archive that is not unpacked yet.

    Raises:
        CifartuiError: it has no layout that is read.
    """
    if is_archive(path):
        unpacked = unpacked_before(path)
        if unpacked is None:
            return None
        with _as_archive(unpacked.folder, path):
            return num_classes(unpacked.folder, labels)
    if (beside := _table_at(path)) is not None:
        return label_table.count_labels(*beside)
    return count_classes(path) if labels is None else label_table.count_labels(path, labels)


def _list(path: Path, labels: str | None, name: str, poll: Poll) -> Listing:
    if (beside := _table_at(path)) is not None:
        return label_table.list_table(*beside, name, poll)
    if labels is not None:
        return label_table.list_table(path, labels, name, poll)
    return list_class_folders(path, name, poll)


def _table_at(path: Path) -> tuple[Path, str] | None:
    """Return folder and name of a table that is named itself."""
    return (path.parent, path.name) if path.suffix.lower() in label_table.SUFFIXES and path.is_file() else None
