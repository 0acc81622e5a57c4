"""Append-only JSON Lines files: writer and reader of a run's events and commands.

Lines are written whole and read while another process writes. A reader leaves an unfinished last line for later; a
resuming writer cuts it off.
"""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from engine import files
from engine.files import DAMAGED
from engine.journal.commands import AnyCommand
from engine.journal.events import AnyEvent, Count
from presets.errors import CifartuiError
from presets.safe_text import visible

Record = TypeVar("Record", bound=msgspec.Struct)
_CHUNK_BYTES = 1 << 20
_TAIL_BYTES = 1 << 22
_LONGEST_LINE_BYTES = 1 << 25
"""No event and no command is as long; a crash can leave gigabytes of NULs in the middle of a file."""


def append_command(path: Path, command: AnyCommand) -> None:
    """Append one command, stamped with the time, in a single write (several viewers may do so at once).

    Raises:
        CifartuiError: the run is gone, or its disk takes no more.
    """
    stamped = msgspec.structs.replace(command, time=time.time())
    try:
        _append(path, msgspec.json.encode(stamped) + b"\n")
    except FileNotFoundError:
        raise CifartuiError(f"{path.parent} is not there any more: the run was deleted or moved.") from None
    except OSError as error:
        raise CifartuiError(
            f"{path} cannot be written ({error.strerror}); is its disk full or gone, or the run another user's?"
        ) from error


def _append(path: Path, line: bytes) -> None:
    fd = files.open_for_folders_owner(path, os.O_RDWR | os.O_APPEND)
    try:
        end = os.fstat(fd).st_size
        if end and os.pread(fd, 1, end - 1) != b"\n":
            line = b"\n" + line  # a full disk cut the one before short, which must not spoil this one
        if os.write(fd, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(fd)


class EventWriter:
    """The one writer of events.jsonl: numbers and stamps events, and writes each with one system call.

    Epochs, checkpoints, acknowledgements and the end are also fsynced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = files.open_file(path, os.O_RDWR | os.O_APPEND)
        self._seq = _repair_tail(self._fd)
        self._lock = threading.Lock()  # training and telemetry write from two threads

    def write(self, event: AnyEvent) -> AnyEvent:
        """Append `event` and return it as written, with its number and time.

        Raises:
            CifartuiError: the disk is full or away. Nothing of the event is left then, so that the next may follow.
        """
        return self.write_all([event])[0]

    def write_all(self, events: Iterable[AnyEvent]) -> list[AnyEvent]:
        """Append events in one write, flushed once; see `write`."""
        with self._lock:
            stamped = [
                msgspec.structs.replace(event, seq=seq, time=time.time())
                for seq, event in enumerate(events, start=self._seq + 1)
            ]
            self._append(b"".join(_encoded(event) + b"\n" for event in stamped))
            self._seq += len(stamped)
        try:
            if any(event.sync for event in stamped):
                os.fsync(self._fd)
        except OSError as error:
            raise files.unwritable(self._path, error) from error
        return stamped

    def _append(self, line: bytes) -> None:
        left = memoryview(line)
        try:
            while left:  # a full disk can take part of a line; the rest must follow or raise
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            with suppress(OSError):  # half a line would spoil the next one too
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - len(line) + len(left))
            raise files.unwritable(self._path, error) from error

    def close(self) -> None:
        """Close the file; no event can be written after this."""
        os.close(self._fd)


def _encoded(event: AnyEvent) -> bytes:
    """Return an event as JSON; a file name in it that is not UTF-8 is made printable."""
    try:
        return msgspec.json.encode(event)
    except UnicodeEncodeError:
        return msgspec.json.encode(well_formed(msgspec.to_builtins(event)))


def well_formed(value: Any) -> Any:
    """Return plain values with every text made printable that is not UTF-8."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {well_formed(name): well_formed(each) for name, each in value.items()}
    return [well_formed(each) for each in value] if isinstance(value, list | tuple) else value


class _Numbered(msgspec.Struct, frozen=True):
    """The number of an event, also of one that this version does not know."""

    seq: Count


_SEQ_DECODER = msgspec.json.Decoder(_Numbered)


def _repair_tail(fd: int) -> int:
    """Cut an unfinished last line off and return the last sequence number used.

    Only the end of the file is read: a crash may leave gigabytes of NULs there, which are passed over, and before them
    lie days of lines, of which the last has the greatest number.
    """
    size, num_bytes = os.fstat(fd).st_size, _TAIL_BYTES
    used = size
    while True:
        num_bytes = min(num_bytes, used)
        complete, newline, _ = _read_at(fd, used - num_bytes, num_bytes).rpartition(b"\n")
        is_whole = num_bytes == used
        lines = complete.split(b"\n")[0 if is_whole else 1 :]  # else the first is the end of one
        numbers = [number for line in lines if (number := _seq_of(line)) is not None]
        if numbers or is_whole:
            end = used - num_bytes + len(complete) + len(newline)
            if end < size:  # else the file's time would change
                os.ftruncate(fd, end)
            return max(numbers, default=0)
        without_nuls = _end_of_data(fd, used)
        num_bytes *= 4 if without_nuls == used else 1
        used = without_nuls


def _end_of_data(fd: int, size: int) -> int:
    """Return where the NULs at the end of a file of `size` bytes begin; `size` if there are none."""
    while size:
        start = max(0, size - _LONGEST_LINE_BYTES)
        if kept := len(_read_at(fd, start, size - start).rstrip(b"\0")):
            return start + kept
        size = start
    return 0


def _seq_of(line: bytes) -> int | None:
    try:
        return _SEQ_DECODER.decode(line).seq
    except DAMAGED:
        return None


def _read_at(fd: int, offset: int, num_bytes: int) -> bytes:
    """Return so many bytes from an offset on; fewer at the end of the file."""
    found = os.pread(fd, num_bytes, offset)
    while len(found) < num_bytes and (more := os.pread(fd, num_bytes - len(found), offset + len(found))):
        found += more
    return found


def _end_of_line(fd: int, offset: int) -> int | None:
    """Return where the line ends that goes on at `offset`, behind its newline; None if it has no end."""
    while chunk := os.pread(fd, _CHUNK_BYTES, offset):
        if (found := chunk.find(b"\n")) >= 0:
            return offset + found + 1
        try:
            offset = os.lseek(fd, offset + len(chunk), os.SEEK_DATA)  # over a hole, which may be gigabytes
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole up to the end
                return None
            offset += len(chunk)  # a file system without holes
    return None


class LineReader(Generic[Record]):
    """Follows a growing journal: each call of `read` returns the records completed since the last.

    Lines of a type this version does not know, and lines that are not valid, are counted in
    `num_skipped` and passed over: a newer or damaged journal can still be watched.
    """

    def __init__(
        self,
        path: Path,
        record_type: Any,
        choose: Callable[[Sequence[bytes]], Iterable[bytes]] | None = None,
        *,
        ours_only: bool = False,
    ) -> None:
        """Follow a file.

        Args:
            path: need not exist.
            record_type: of a line.
            choose: picks the lines that are decoded, out of those just read; else all are.
            ours_only: raise NotOursError, when the file is read, if it belongs to another user.
        """
        self._path = path
        self._ours_only = ours_only
        self._decoder = msgspec.json.Decoder(record_type)
        self._list_decoder = msgspec.json.Decoder(list[record_type])
        self._choose = choose
        self._offset = 0
        self._unfinished: tuple[int, int] | None = None
        """Offset of a line that had no end, and the size that the file had then."""
        self.num_skipped = 0

    def skip_to(self, offset: int) -> None:
        """Start at byte `offset`, which must be the beginning of a line."""
        self._offset = offset

    def skip_to_end(self) -> None:
        """Start at the line that is not written yet, or not to its end."""
        with suppress(FileNotFoundError):
            fd = files.open_to_read(self._path)
            try:
                size = os.fstat(fd).st_size
                start = max(0, size - _CHUNK_BYTES)
                self._offset = start + _read_at(fd, start, size - start).rfind(b"\n") + 1
            finally:
                os.close(fd)

    @property
    def offset(self) -> int:
        """The byte at which the next unread line begins."""
        return self._offset

    def read(self) -> list[Record]:
        """Return the new records, oldest first; an absent file is an empty one."""
        return [record for batch in self.batches() for record in batch]

    def batches(self) -> Iterator[list[Record]]:
        """Yield the new records, oldest first, some thousands at a time: a long journal never is in memory whole."""
        for chunk in self._chunks():
            if self._choose is not None:
                chunk = b"\n".join(self._choose(chunk.split(b"\n")))
            try:  # all at once is ten times as fast as line by line
                yield self._list_decoder.decode(b"[" + chunk.replace(b"\n", b",") + b"]")
            except DAMAGED:
                yield list(self._decode(chunk.split(b"\n")))

    def _chunks(self) -> Iterator[bytes]:
        try:
            fd = files.open_to_read(self._path)
        except files.NoFileError as error:  # nothing was ever written there, and nothing will be
            raise OSError(errno.EINVAL, error.strerror, str(self._path)) from None
        except FileNotFoundError:
            return
        try:
            about = os.fstat(fd)
            if self._ours_only:
                files.check_ours(about, self._path)
            self._offset = min(self._offset, about.st_size)  # a resuming worker cut a torn line
            if self._unfinished == (self._offset, about.st_size):
                return
            wanted = _CHUNK_BYTES
            while chunk := os.pread(fd, wanted, self._offset):
                complete, newline, _rest = chunk.rpartition(b"\n")
                if not newline:
                    if len(chunk) < wanted:
                        self._unfinished = (self._offset, self._offset + len(chunk))
                        return
                    if wanted < _LONGEST_LINE_BYTES:
                        wanted *= 2  # one line longer than the chunk
                    elif (end := _end_of_line(fd, self._offset + len(chunk))) is None:
                        self._unfinished = (self._offset, about.st_size)
                        return
                    else:
                        self._offset, wanted = end, _CHUNK_BYTES
                        self.num_skipped += 1
                    continue
                self._offset += len(complete) + 1
                yield complete
        finally:
            os.close(fd)

    def _decode(self, lines: Iterable[bytes]) -> Iterator[Record]:
        for line in lines:
            if not line:
                continue
            try:
                yield self._decoder.decode(line)
            except DAMAGED:
                self.num_skipped += 1


def end_of(path: Path) -> int:
    """Return the byte of an events.jsonl at which the next whole line will begin; 0 where there is none."""
    reader = event_reader(path)
    reader.skip_to_end()
    return reader.offset


def event_reader(path: Path) -> LineReader[AnyEvent]:
    """Return a reader at the start of an events.jsonl."""
    return LineReader(path, AnyEvent)


def command_reader(path: Path, *, ours_only: bool = False) -> LineReader[AnyCommand]:
    """Return a reader at the start of a commands.jsonl; see LineReader."""
    return LineReader(path, AnyCommand, ours_only=ours_only)


def read_events(path: Path) -> list[AnyEvent]:
    """Return every event written so far."""
    return event_reader(path).read()
