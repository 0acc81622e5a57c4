"""Fold of a long journal, kept beside it so that it need not be read from its start. No torch.

`events.fold` is what the journal added up to at some line; whoever reads goes on from there. It is a copy and never
needed: the journal stays the truth. It is believed only if it and the journal are ours, and the journal still begins
with what was folded, by its inode and by samples of its content; else the journal is read whole, and it is made anew.
"""

import os
from array import array
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import Struct

from engine import files
from engine.files import DAMAGED
from engine.journal.events import AnyEvent, Count, DeviceSampled
from engine.journal.jsonl import LineReader, event_reader
from engine.journal.series import COLUMNS, StepSeries
from engine.journal.state import RATE_WINDOW, SAMPLES_KEPT, RunState, fold

_FORMAT = 6
"""To be raised whenever RunState changes, or what `fold` makes of an event."""
WORTH_BYTES = 1 << 22
"""So much more of a journal is worth a new fold: half an hour at ten reports a second, read in some 0.02 s."""
_MOST_BYTES = 1 << 28
_HEADER_BYTES = 1 << 12
_TAIL_BYTES = 1 << 16
_NUM_SAMPLES, _SAMPLE_BYTES = 16, 1 << 12


class _Header(Struct, frozen=True):
    """First line of the file: of which journal it is the fold, and that it is whole."""

    format: int
    inode: int
    offset: Count
    """Bytes of the journal that were folded."""
    size: Count
    """Of the journal then."""
    changed_ns: int
    """The journal's time then."""
    samples: str
    """Digest of places in what was folded."""
    content: str
    """Digest of what follows in the file."""


def fold_path(journal: Path) -> Path:
    """Return where the fold of a journal is kept."""
    return journal.with_suffix(".fold")


def read_folded(journal: Path) -> tuple[RunState, LineReader[AnyEvent]]:
    """Return what a journal adds up to, and the reader for what follows; keep the fold if much was read.

    Raises:
        OSError: the journal is there and cannot be read.
    """
    state, reader = start_from_fold(journal)
    start = reader.offset
    for batch in reader.batches():
        fold(batch, state)
    if reader.offset - start >= WORTH_BYTES:
        keep_fold(journal, state, reader.offset)
    return state, reader


def start_from_fold(journal: Path) -> tuple[RunState, LineReader[AnyEvent]]:
    """Return the state of the fold kept beside a journal (of an empty one without), and the reader for what follows."""
    reader = event_reader(journal)
    with suppress(OSError, *DAMAGED, ValueError, TypeError):
        header, state = _load(journal)
        reader.skip_to(header.offset)
        return state, reader
    return RunState(), reader


def keep_up(journal: Path) -> None:
    """Keep the fold of a growing journal, if much was written since the last; whatever fails, nothing is lost."""
    with suppress(Exception):  # it is a copy: no training ends for it
        if unfolded_bytes(journal) >= WORTH_BYTES:
            read_folded(journal)


def unfolded_bytes(journal: Path) -> int:
    """Return how many bytes of a journal are to be read besides its fold.

    Raises:
        OSError: the journal is not there.
    """
    about = journal.stat()
    with suppress(OSError, *DAMAGED):
        content, owned = files.read_derived(str(fold_path(journal)), _HEADER_BYTES)
        header = _header(content)
        files.check_ours(owned, fold_path(journal))
        if _may_fit(header, about):
            return about.st_size - header.offset
    return about.st_size


def _header(content: bytes) -> _Header:
    return msgspec.json.decode(content.partition(b"\n")[0], type=_Header)


def _may_fit(header: _Header, about: os.stat_result) -> bool:
    """Return whether a journal can be the one that was folded, by its status alone."""
    if header.format != _FORMAT or header.inode != about.st_ino or about.st_size < header.offset:
        return False
    return about.st_size != header.size or about.st_mtime_ns == header.changed_ns


def _load(journal: Path) -> tuple[_Header, RunState]:
    """Return the fold of a journal.

    Raises:
        OSError: there is none, or it or the journal is another user's.
        ValueError, msgspec.MsgspecError: it is damaged, or of another journal or version.
    """
    path = fold_path(journal)
    content, owned = files.read_derived(str(path), _MOST_BYTES)
    files.check_ours(owned, path)
    header = _header(content)
    body = memoryview(content)[content.index(b"\n") + 1 :]
    fd = files.open_to_read(journal)
    try:
        about = os.fstat(fd)
        files.check_ours(about, journal)
        if not _may_fit(header, about) or header.samples != _samples(fd, header.offset):
            raise ValueError("it is of another journal")
    finally:
        os.close(fd)
    if header.content != _digest(body):
        raise ValueError("it is damaged")
    return header, _decoder().decode(body)


def keep_fold(journal: Path, state: RunState, offset: int) -> None:
    """Write the fold of the first `offset` bytes of a journal of ours."""
    if state.steps.most is None:
        return
    with suppress(OSError):
        fd = files.open_to_read(journal)
        try:
            about = os.fstat(fd)
            samples = _samples(fd, offset)
        finally:
            os.close(fd)
        if about.st_uid != os.geteuid() or about.st_size < offset:
            return
        body = msgspec.msgpack.encode(state, enc_hook=_encoded)
        header = _Header(
            _FORMAT, about.st_ino, offset, about.st_size, about.st_mtime_ns, samples, _digest(memoryview(body))
        )
        files.write_derived(fold_path(journal), (msgspec.json.encode(header), b"\n", body))


def _digest(content: memoryview) -> str:
    return blake2b(content, digest_size=16).hexdigest()


def _samples(fd: int, offset: int) -> str:
    """Return the digest of the last bytes before `offset`, and of some places before them."""
    digest = blake2b(digest_size=16)
    for start, size in _places(offset):
        digest.update(os.pread(fd, size, start))
    return digest.hexdigest()


def _places(offset: int) -> Iterator[tuple[int, int]]:
    for number in range(_NUM_SAMPLES):
        start = offset * number // _NUM_SAMPLES
        yield start, min(_SAMPLE_BYTES, offset - start)
    start = max(0, offset - _TAIL_BYTES)
    yield start, offset - start


def _encoded(value: Any) -> Any:
    if isinstance(value, StepSeries):
        return {
            "columns": [column.tobytes() for column in (getattr(value, name) for name in COLUMNS)],
            "version": value.version,
            "num_reports": value.num_reports,
            "slot_steps": value.slot_steps,
            "num_thinned": value.num_thinned,
        }
    if isinstance(value, deque):
        return list(value)
    raise NotImplementedError(type(value))


class _Series(Struct, frozen=True):
    columns: tuple[bytes, ...]
    version: Count
    num_reports: Count
    slot_steps: Count
    num_thinned: Count


def _decoded(kind: Any, value: Any) -> Any:
    if kind is StepSeries:
        kept, series = msgspec.convert(value, _Series), StepSeries()
        for name, content in zip(COLUMNS, kept.columns, strict=True):
            column: array[Any] = getattr(series, name)
            column.frombytes(content)
        if len({len(getattr(series, name)) for name in COLUMNS}) != 1:
            raise ValueError("its columns have different lengths")
        series.version, series.num_reports = kept.version, kept.num_reports
        series.slot_steps, series.num_thinned = max(1, kept.slot_steps), min(kept.num_thinned, len(series))
        return series
    if get_args(kind) == (DeviceSampled,):
        return deque(msgspec.convert(value, list[DeviceSampled]), maxlen=SAMPLES_KEPT)
    return deque(msgspec.convert(value, list[tuple[int, float]]), maxlen=RATE_WINDOW)


@lru_cache(maxsize=1)
def _decoder() -> "msgspec.msgpack.Decoder[RunState]":
    return msgspec.msgpack.Decoder(RunState, dec_hook=_decoded)
