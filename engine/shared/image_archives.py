"""Zip and tar archives of images, unpacked once into the cache folder. No torch.

An archive may be a stranger's: only regular files are written, below one folder, and no more than there is room for.
"""

import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Literal, NamedTuple, TypeAlias

import msgspec

from engine import files
from engine.shared.cache_folder import cache_folder, make_cache_folder, new_copy, note_use, remove_unfinished
from engine.shared.image_scan import Unread, base_of, folder_of, is_junk, shown
from presets.errors import CifartuiError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_KEPT_FREE_BYTES = 1_000_000_000
_MOST_FILE_BYTES = 2_000_000_000
_MOST_FILES = 20_000_000
_MOST_GROWTH = 200
"""Bytes unpacked for each byte of the archive, beyond the first gigabyte: more is no data set."""
_LONGEST_NAME_BYTES, _LONGEST_PATH_BYTES, _DEEPEST = 255, 1000, 100
_MOST_HEADER_BYTES = 1 << 20
_MOST_GLOBAL_NAMES = 100
_CHUNK_BYTES = 1 << 20
_LEFT_OUT = ".left-out.json"
_ZIP_BEGINS = (b"PK\3\4", b"PK\5\6")
"""First bytes of a zip archive, and of one without members."""
_UTF8_FLAG, _ENCRYPTED_FLAG = 0x800, 0x1
_DAMAGED = (
    OSError, EOFError, ValueError, NotImplementedError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError, RecursionError,
)  # fmt: skip

_READ_WHOLE = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
"""Kinds of members whose content tarfile takes into memory, however long they say that it is."""


class TarMember(tarfile.TarInfo):
    """Header of a tar archive, for `tarfile.open`: refused with ReadError where reading it would take all memory.

    A megabyte of a packed archive can be gigabytes of names, or of places in a sparse file.
    """

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:  # as tarfile says, to be overridden
        if self.type in _READ_WHOLE and self.size > _MOST_HEADER_BYTES:
            raise tarfile.ReadError("a name in it is megabytes long")
        if self.type == tarfile.XGLTYPE and len(archive.pax_headers) > _MOST_GLOBAL_NAMES:
            raise tarfile.ReadError("it says more of itself than any archive does")
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._proc_gnusparse_10()
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return found

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise tarfile.ReadError("it holds a sparse file, as no data set does")


OnBytes: TypeAlias = Callable[[int, int], object]
"""Called with the bytes of the archive that are read, and all of them, at least once a megabyte that is written; its
exceptions end the unpacking."""


class Unpacked(NamedTuple):
    """A folder with the files of an archive, and the members that are not in it."""

    folder: Path
    unread: tuple[Unread, ...]


class _Member(NamedTuple):
    name: str
    why_not: str
    """A clause why it is not unpacked; else empty."""
    open: Callable[[], IO[bytes]]
    position: int


def say_nothing(_done: int, _total: int) -> None:
    """Ignore progress."""


def is_archive(path: Path) -> bool:
    """Return true for a file that is named like an archive."""
    try:
        return path.name.lower().endswith(SUFFIXES) and path.is_file()
    except OSError:
        return False


def check_archive(path: Path) -> None:
    """Raise CifartuiError if a file is no archive; only its first or last bytes are read."""
    try:
        if _is_zip(path) or _is_tar(path):
            return
    except _DAMAGED:
        pass
    raise CifartuiError(f"{shown(str(path))} is no archive that can be read; fetch it again.")


def kind_inside(path: Path) -> Literal["zip", "tar"] | None:
    """Return the kind of archive that a file is by its content, whatever its name; None if it is none with members."""
    with suppress(*_DAMAGED):
        if _is_zip(path):
            return "zip"
        with tarfile.open(path, tarinfo=TarMember) as opened:
            return None if opened.next() is None else "tar"
    return None


def _is_zip(path: Path) -> bool:
    """Return true if a file is a zip archive, whatever its name: a tar is often called .zip, and the other way round.

    One that begins with something else, as those that unpack themselves, is one if its name says so too.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP_BEGINS[0])) in _ZIP_BEGINS:
            return True
    return path.name.lower().endswith(".zip") and zipfile.is_zipfile(path) and not _is_tar(path)


def _is_tar(path: Path) -> bool:
    try:
        tarfile.open(path, tarinfo=TarMember).close()
    except tarfile.TarError:
        return False
    return True


def unpacked_before(archive: Path) -> Unpacked | None:
    """Return the folder that an archive was unpacked into, if it was and has not changed since.

    What processes that are gone have left half unpacked, of any archive, is removed.

    Raises:
        CifartuiError: the archive cannot be looked at, or the folder is somebody else's.
    """
    folder = _folder_of(archive)
    remove_unfinished(folder.parent)
    if not folder.is_dir():
        return None
    make_cache_folder(folder)
    try:
        unread = msgspec.json.decode(files.read(folder / _LEFT_OUT), type=tuple[Unread, ...])
    except (OSError, *files.DAMAGED):
        return None
    return Unpacked(folder, unread)


def unpack(archive: Path, on_bytes: OnBytes = say_nothing) -> Unpacked:
    """Unpack an archive into the cache folder unless that was done before; remove the copies of what it was before.

    Junk is skipped; links, devices, and members that would lie outside of the folder are left out and counted.

    Args:
        archive: a file with one of `SUFFIXES`.
        on_bytes: told of progress; if it raises, nothing is left behind.

    Raises:
        CifartuiError: it is damaged or locked by a password, is far larger unpacked than packed, or there is no room.
    """
    before = unpacked_before(archive)
    if before is not None:
        note_use(before.folder)
        return before
    folder = _folder_of(archive)
    try:
        with new_copy(folder, str(archive.absolute())) as temporary:
            unread = _write(archive, temporary, on_bytes)
            (temporary / _LEFT_OUT).write_bytes(msgspec.json.encode(unread))
    except _DAMAGED as error:
        with suppress(CifartuiError):
            if (before := unpacked_before(archive)) is not None:  # another process was quicker
                return before
        raise CifartuiError(
            f"{shown(str(archive))} could not be unpacked into {cache_folder()} ({shown(str(error))}); fetch it again "
            "if it is damaged, or free some room."
        ) from error
    return Unpacked(folder, unread)


def _folder_of(archive: Path) -> Path:
    try:
        about = archive.stat()
    except OSError as error:
        raise CifartuiError(f"{shown(str(archive))} cannot be read ({error.strerror}).") from error
    text = f"{archive.absolute()}\0{about.st_size}\0{about.st_mtime_ns}"
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
    return cache_folder() / "unpacked" / digest


def _write(archive: Path, folder: Path, on_bytes: OnBytes) -> tuple[Unread, ...]:
    """Write the members of an archive below a folder, and return those that are left out."""
    num_bytes = archive.stat().st_size
    room = min(
        shutil.disk_usage(folder).free - _KEPT_FREE_BYTES, max(_KEPT_FREE_BYTES, _MOST_GROWTH * num_bytes)
    )  # fmt: skip
    left_out: dict[tuple[str, str], Unread] = {}
    made: set[str] = set()
    counts: Counter[str] = Counter()
    for member in (_zip_members if _is_zip(archive) else _tar_members)(archive):
        on_bytes(member.position, num_bytes)
        name, why_not = _place_of(member.name)
        why_not = why_not or member.why_not
        if not name and not why_not:
            continue
        counts["files"] += 1
        if why_not:
            _count(left_out, member.name, why_not)
            continue
        if counts["files"] > _MOST_FILES:
            raise CifartuiError(f"{shown(str(archive))} has more than {_MOST_FILES:,} files, which is no data set.")
        path = folder / name
        try:
            if (parent := folder_of(name)) not in made:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.add(parent)
            if path.is_file():
                _count(left_out, member.name, "a later file of the archive has its name")
            written = partial(on_bytes, member.position, num_bytes)
            counts["bytes"] += _copy(member, path, room - counts["bytes"], archive, written)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            _count(left_out, member.name, "the archive has a file and a folder of one name")
    on_bytes(num_bytes, num_bytes)
    return tuple(left_out.values())


def _copy(member: _Member, path: Path, room: int, archive: Path, poll: Callable[[], object]) -> int:
    """Write a member's content, calling `poll` after each piece; return how many bytes it has."""
    written = 0
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file, member.open() as content:
        while chunk := content.read(_CHUNK_BYTES):
            written += len(chunk)
            if written > min(room, _MOST_FILE_BYTES):
                raise CifartuiError(
                    f"{shown(str(archive))} is larger unpacked than there is room for in {cache_folder()}, or than a "
                    "data set is; free some room, or name another folder in CIFARTUI_CACHE."
                )
            file.write(chunk)
            poll()
    return written


def _count(left_out: dict[tuple[str, str], Unread], name: str, why: str) -> None:
    folder = shown(folder_of(name))
    before = left_out.get((folder, why))
    num_files = 1 + (before.num_files if before is not None else 0)
    left_out[folder, why] = Unread(folder, why, num_files, before.first if before else shown(base_of(name)))


def _place_of(name: str) -> tuple[str, str]:
    """Return where a member is written, relative to the folder, and why it is not; both empty for junk."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if name.startswith(("/", "\\")) or ".." in parts or "\0" in name:
        return "", "it would lie outside of the archive's folder"
    if any(len(os.fsencode(part)) > _LONGEST_NAME_BYTES for part in parts):
        return "", "its name is too long"
    if len(parts) > _DEEPEST or len(os.fsencode(name)) > _LONGEST_PATH_BYTES:
        return "", "its folders lie too deep"
    return ("", "") if any(map(is_junk, parts)) else ("/".join(parts), "")


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if info.is_dir():
                continue
            if info.flag_bits & _ENCRYPTED_FLAG:
                raise CifartuiError(f"{shown(str(archive))} is locked by a password; unpack it by hand.")
            mode = info.external_attr >> 16
            is_file = stat.S_IFMT(mode) in (0, stat.S_IFREG)
            why_not = "" if is_file else "a link" if stat.S_ISLNK(mode) else "not a regular file"
            yield _Member(_zip_name(info), why_not, lambda info=info: opened.open(info), info.header_offset)  # type: ignore[misc]


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return a member's name; archives of macOS have it in UTF-8 without saying so."""
    if not info.flag_bits & _UTF8_FLAG:
        with suppress(UnicodeError):
            return info.orig_filename.encode("cp437").decode("utf-8")
    return info.filename


def _tar_members(archive: Path) -> Iterator[_Member]:
    with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|*", tarinfo=TarMember) as opened:
        for member in opened:
            opened.members.clear()  # type: ignore[attr-defined] # or it keeps all of them, a kilobyte each
            if member.isdir():
                continue
            why_not = "" if member.isreg() else "a link" if member.issym() or member.islnk() else "not a regular file"
            yield _Member(member.name, why_not, lambda member=member: _stream(opened, member), raw.tell())  # type: ignore[misc]


def _stream(opened: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = opened.extractfile(member)
    assert stream is not None, "a regular file has content"
    return stream
