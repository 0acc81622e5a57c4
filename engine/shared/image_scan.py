"""Scan of a folder tree for image files, by names alone: what is an image, what is junk, what is not read and why.

No torch, no Pillow, nothing decoded. Only a file whose name has no extension is opened, for its first bytes.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypeAlias

from msgspec import Struct

from engine import files
from engine.shared.system_files import SystemFilesError, system_devices
from presets.errors import CifartuiError
from presets.safe_text import visible_in_a_row

SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpf", ".jpx",
})  # fmt: skip
"""Extensions of image files, in lower case, that every installation reads."""
OPTIONAL_SUFFIXES = {
    ".avif": ("PIL._avif", "install Pillow 11.3 or newer"),
    ".heic": ("pillow_heif", "install pillow-heif"),
    ".heif": ("pillow_heif", "install pillow-heif"),
    ".hif": ("pillow_heif", "install pillow-heif"),
}
"""Extensions that are read where a module is installed: the module, and what to do where it is not."""

HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
"""Bytes behind `ftyp` in HEIF files: of single images, of series, and of either whatever their coding."""
NO_IMAGE = "not an image format that is read"
"""Reason why files of any other extension are not read."""
_SIGNATURES = (
    (re.compile(rb"\xff\xd8\xff"), ".jpg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), ".png"),
    (re.compile(rb"GIF8[79]a"), ".gif"),
    (re.compile(rb"BM.{12}", re.DOTALL), ".bmp"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), ".webp"),
    (re.compile(rb"II\*\0|MM\0\*"), ".tif"),
    (re.compile(rb"P[1-6]\s"), ".ppm"),
    (re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"), ".jp2"),
    (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), ".avif"),
    (re.compile(rb".{4}ftyp(?:" + b"|".join(HEIF_BRANDS) + rb")", re.DOTALL), ".heic"),
)
"""First bytes of the formats, for files without an extension."""
_SIGNATURE_BYTES = 16
_MOST_ENTRIES = 20_000_000
"""Files and folders that are looked at: no data set of image files has as many."""
_POLL_EVERY = 10_000
_EXTENSION = re.compile(r"\.[a-z][a-z0-9]{0,7}", re.IGNORECASE)
_JUNK = frozenset(
    name.casefold()
    for name in (
        "__MACOSX", "Network Trash Folder", "Temporary Items", "Icon\r",  # macOS
        "$RECYCLE.BIN", "RECYCLER", "System Volume Information", "desktop.ini",  # Windows
        "Thumbs.db", "ehthumbs.db", "ehthumbs_vista.db",
        "@eaDir", "@tmp", "@SynoEAStream", "@sharebin", "#recycle", "#snapshot",  # Synology
        "@Recycle", "@Recently-Snapshot", "@Transcode",  # QNAP
        "~snapshot", "lost+found", "aquota.user", "aquota.group", "__pycache__",
        "Picasa.ini", "ZbThumbnail.info", "pspbrwse.jbf",  # viewers
    )
)  # fmt: skip
"""Files and folders that operating systems, NAS boxes, viewers and notebooks leave."""
_JUNK_FORM = re.compile(r"\.|~\$|found\.\d{3}\Z|.*(@syno(eastream|resource)|:zone\.identifier)\Z", re.DOTALL)
"""The same, by their form, in lower case: hidden, locks of Office, Windows' repairs, streams beside files."""


class Unread(Struct, frozen=True):
    """Files of one folder that are not read, all for the same reason."""

    folder: str
    """Relative to the data set; "" for its own folder."""
    reason: str
    """A clause for people, such as ".heic: install pillow-heif"."""
    num_files: int
    first: str
    """The name of one of them."""

    def sentence(self) -> str:
        """Return what to tell people."""
        where = shown(self.folder) or "the folder itself"
        if self.num_files == 1:
            return f"{shown(f'{self.folder}/{self.first}'.lstrip('/'))} is not read ({self.reason})."
        return f"{self.num_files:,} files in {where} are not read ({self.reason})."


class Folder(NamedTuple):
    """Contents of one folder, sorted, without junk."""

    images: list[str]
    """Names of image files, relative to the data set."""
    folders: list[str]
    links: list[str]
    """Folders that a symbolic link leads to."""

    @property
    def all_folders(self) -> list[str]:
        """Folders and linked ones, sorted."""
        return sorted([*self.folders, *self.links])


Poll: TypeAlias = Callable[[], object]


def shown(name: str) -> str:
    r"""Return a file's name for people: bytes that are no UTF-8 as \xff, control characters as signs."""
    if name.isprintable():
        return name
    return visible_in_a_row(name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def in_json(name: str) -> str:
    """Return a file's name for JSON, which can hold any but one with bytes that are no UTF-8: that is as `shown`."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return shown(name)
    return name


def folder_of(name: str) -> str:
    """Return the folder of a relative name; "" if it has none."""
    return name.rpartition("/")[0]


def base_of(name: str) -> str:
    """Return the last part of a relative name."""
    return name.rpartition("/")[2]


def is_junk(name: str) -> bool:
    """Return true for a file or folder that is none of the data set's, by its name."""
    folded = name.casefold()
    return folded in _JUNK or _JUNK_FORM.match(folded) is not None


def suffix_of(name: str) -> str:
    """Return a file name's extension in lower case, with its dot; "" if what follows the last dot is none."""
    suffix = name[name.rfind(".") :] if "." in name else ""
    return suffix.lower() if _EXTENSION.fullmatch(suffix) else ""


@cache
def why_not_read(suffix: str) -> str:
    """Return a clause why files of this extension are not read; "" if they are."""
    if suffix in SUFFIXES:
        return ""
    if suffix not in OPTIONAL_SUFFIXES:
        return NO_IMAGE
    module, advice = OPTIONAL_SUFFIXES[suffix]
    return "" if find_spec(module) is not None else advice


class Scanner:
    """Reader of the folders below a root. Each is read once, and what is not read is counted in `unread`."""

    def __init__(self, root: Path, poll: Poll, table: Path | None = None) -> None:
        """Prepare; `poll` is called before each folder, and may raise to end the scan; `table` is not counted."""
        self.root = root
        self.named = root
        """The folder that the user named, if that holds nothing but folders around `root`."""
        self._table = "" if table is None else os.path.normpath(table)
        self._poll = poll
        self._num_entries = 0
        self._system = system_devices()
        self._known: dict[str, Folder] = {}
        self._unread: dict[tuple[str, str], tuple[int, str]] = {}
        self._unread_others: dict[tuple[str, str], tuple[int, str]] = {}
        self.unread_images: set[str] = set()
        """Those of the files not read that are named like images."""

    @property
    def unread(self) -> tuple[Unread, ...]:
        """Files not read, by folder and reason, sorted."""
        return _grouped(self._unread)

    @property
    def unread_others(self) -> tuple[Unread, ...]:
        """Those of `unread` that are not named like images."""
        return _grouped(self._unread_others)

    def leave_out(self, folder: str, name: str, reason: str) -> None:
        """Count a file or folder of `folder` that is not read."""
        suffix = suffix_of(name)
        if suffix in SUFFIXES or suffix in OPTIONAL_SUFFIXES:
            self.unread_images.add(f"{folder}/{name}".lstrip("/"))
        else:
            _count(self._unread_others, folder, name, reason)
        _count(self._unread, folder, name, reason)

    def contents(self, folder: str = "") -> Folder:
        """Return the contents of a folder, itself relative to the root.

        Raises:
            CifartuiError: it cannot be read.
        """
        if folder in self._known:
            return self._known[folder]
        self._poll()
        found = Folder([], [], [])
        prefix = f"{folder}/" if folder else ""
        try:
            for entry in self._entries(self.root / folder):
                self._sort_in(entry, folder, prefix, found)
        except OSError as error:
            where = shown(str(self.root / folder))
            advice = "; name a folder of images" if isinstance(error, SystemFilesError) else ""
            raise CifartuiError(f"{where} could not be read: {error.strerror}{advice}.") from error
        for names in found:
            names.sort()
        self._known[folder] = found
        return found

    def _entries(self, folder: Path) -> Iterator["os.DirEntry[str]"]:
        """Yield what is in a folder, without junk.

        Raises:
            CifartuiError: there is no end of files.
            OSError: it cannot be read, or is one of the system's own.
        """
        if kind := self._system.get(folder.stat().st_dev):
            raise SystemFilesError(kind)
        with os.scandir(folder) as entries:
            for entry in entries:
                self._num_entries += 1
                if self._num_entries % _POLL_EVERY == 0:
                    self._poll()
                    self._check_number()
                if not is_junk(entry.name):
                    yield entry

    def _check_number(self) -> None:
        if self._num_entries > _MOST_ENTRIES:
            raise CifartuiError(
                f"{shown(str(self.root))} has more than {_MOST_ENTRIES:,} files and folders, and was not read to the "
                "end; name the folder of the images themselves."
            )

    def _sort_in(self, entry: "os.DirEntry[str]", folder: str, prefix: str, found: Folder) -> None:
        name = entry.name
        is_file = entry.is_file(follow_symlinks=False)
        if not is_file and entry.is_dir(follow_symlinks=False):
            found.folders.append(prefix + name)
            return
        if not is_file:
            kind = _kind_of_link(entry) if entry.is_symlink() else "not a regular file"
            if kind == "folder":
                found.links.append(prefix + name)
                return
            if kind:
                self.leave_out(folder, name, kind)
                return
        suffix, why = _why_left_out(name, entry.path)
        if why:
            if os.path.normpath(entry.path) != self._table:
                self.leave_out(folder, name, f"{suffix or 'no extension'}: {why}")
        else:
            found.images.append(prefix + name)

    def has_image(self, folder: str) -> bool:
        """Return true if there is an image in a folder or below it; stop at the first one."""
        waiting = [self.root / folder]
        seen = set()
        while waiting:
            path = waiting.pop()
            if (identity := _identity(path)) in seen:
                continue
            seen.add(identity)
            self._poll()
            with suppress(OSError):
                for entry in self._entries(path):
                    with suppress(OSError):  # a link that leads in a circle
                        if entry.is_dir():
                            waiting.append(Path(entry.path))
                        elif entry.is_file() and not _why_left_out(entry.name, entry.path)[1]:
                            return True
        return False

    def is_same(self, folder: str, other: str) -> bool:
        """Return true if two folders are one, by a link; false if one of them is gone by now."""
        identity = _identity(self.root / folder)
        return identity is not None and identity == _identity(self.root / other)

    def each_once(self, folder: str) -> Iterator[str]:
        """Yield the folders in a folder, and the linked ones that lead to none of these, nor to one another."""
        here = self.contents(folder)
        known = {_identity(self.root / name) for name in here.folders} if here.links else set()
        yield from here.folders
        for name in here.links:
            if (identity := _identity(self.root / name)) not in known:
                known.add(identity)
                yield name

    def below(self, folders: Iterable[tuple[int, str]]) -> list[tuple[int, str]]:
        """Return the images of folders and of all folders below them, sorted by label and name.

        Linked folders come last, and are followed once: not if they have been read here already, by themselves or
        through another link, and not if they lead to a folder above. So a loop ends, and no image is there twice.

        Args:
            folders: labels and folders, relative to the root.

        Raises:
            CifartuiError: one of `folders` cannot be read; one below them, and one of the system's own file systems,
                is left out, and counted.
        """
        asked = list(folders)
        links = [(label, name) for label, name in asked if name and (self.root / name).is_symlink()]
        plain = [pair for pair in asked if pair not in set(links)]
        tops = {name for _, name in asked}
        images: list[tuple[int, str]] = []
        visited: list[str] = []
        for label, name in plain:
            self._walk(label, name, tops, images, links, visited, None)
        above = [self.root / name for name in visited] + [self.root, *self.root.absolute().parents]
        above += [(self.root / name).parent for name in tops]
        known = {_identity(path) for path in above} if links else set()
        for label, name in _drain(links):
            self._walk(label, name, tops, images, links, [], known)
        images.sort()
        return images

    def _walk(
        self,
        label: int,
        top: str,
        tops: set[str],
        images: list[tuple[int, str]],
        links: list[tuple[int, str]],
        visited: list[str],
        known: set[tuple[int, int] | None] | None,
    ) -> None:
        """Add what is in a folder and below it to the lists; leave out folders that are `known`, if that is given."""
        stack = [top]
        while stack:
            name = stack.pop()
            if known is not None:
                identity = _identity(self.root / name)
                if identity in known:
                    self.leave_out(folder_of(name), base_of(name), "a link to a folder that is read already")
                    continue
                known.add(identity)
            visited.append(name)
            try:
                here = self.contents(name)
            except CifartuiError as error:
                cause = error.__cause__
                if not isinstance(cause, OSError) or (name in tops and not isinstance(cause, SystemFilesError)):
                    raise
                self.leave_out(folder_of(name), base_of(name), f"{cause.strerror}".lower())
                continue
            images += [(label, image) for image in here.images]
            links += [(label, link) for link in here.links]
            stack += here.folders


def _count(counts: dict[tuple[str, str], tuple[int, str]], folder: str, name: str, reason: str) -> None:
    num_files, first = counts.get((folder, reason), (0, name))
    counts[folder, reason] = (num_files + 1, min(first, name))


def _grouped(counts: dict[tuple[str, str], tuple[int, str]]) -> tuple[Unread, ...]:
    return tuple(Unread(folder, reason, *found) for (folder, reason), found in sorted(counts.items()))


def _drain(links: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield links in the order of their names, those too that are added meanwhile."""
    while links:
        links.sort(key=lambda link: link[1], reverse=True)
        yield links.pop()


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode, the same for every link to a folder; None if it is gone."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino


def _kind_of_link(entry: "os.DirEntry[str]") -> str:
    """Return "folder", "" for a link to a regular file, or a clause why it is not read."""
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        return "a link that leads nowhere" if error.errno in {errno.ENOENT, errno.ELOOP} else str(error.strerror)
    if stat.S_ISDIR(mode):
        return "folder"
    return "" if stat.S_ISREG(mode) else "a link to what is not a regular file"


def _why_left_out(name: str, path: str) -> tuple[str, str]:
    """Return a file's extension, and why it is not read ("" if it is)."""
    suffix = suffix_of(name)
    return (suffix, why_not_read(suffix)) if suffix else _look_inside(path)


def _look_inside(path: str) -> tuple[str, str]:
    """Return the extension that a file without one should have, and why it is not read ("" if it is)."""
    try:
        with os.fdopen(files.open_to_read(Path(path)), "rb") as file:
            start = file.read(_SIGNATURE_BYTES) or b""  # None: one of the system's files, which would be waited for
    except OSError as error:
        return "", str(error.strerror).lower()
    for signature, suffix in _SIGNATURES:
        if signature.match(start):
            return ("", "") if not why_not_read(suffix) else (suffix, why_not_read(suffix))
    return "", "no image that is read inside"
