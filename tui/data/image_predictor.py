"""Client of the helper process that predicts images of one's own (`engine.training.predict_images`)."""

import os
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing

import msgspec

from engine.runs.image_predictions import Answer, Request
from tui.data.torch_process import stream_module

STANDARD_INPUT = "-"
_CHUNK_BYTES = 1 << 16


def answers(
    request: Request, named: Sequence[str], stop: threading.Event | None = None
) -> Generator[Answer, None, None]:
    """Predict the images at paths, and yield the helper's answers as they come; closing the iterator ends it.

    Args:
        request: `num_names` is filled in here.
        named: files, folders, archives, and "-" for names on standard input, a line each (or each ended by a zero
            byte, as `find -print0` prints them).
        stop: ends the helper when it is set.

    Raises:
        CifartuiError: the helper cannot be started, or fails.
    """
    num_names = None if STANDARD_INPUT in named else len(named)
    first = msgspec.json.encode(msgspec.structs.replace(request, num_names=num_names)) + b"\n"
    fds = () if request.pixels_fd is None else (request.pixels_fd,)
    decoder = msgspec.json.Decoder(Answer)
    lines = stream_module("engine.training.predict_images", stdin=_parts(first, named), stop=stop, pass_fds=fds)
    with closing(lines):
        yield from map(decoder.decode, lines)


def _parts(first: bytes, named: Iterable[str]) -> Iterator[bytes]:
    """Yield what the helper is sent, standard input as it comes."""
    yield first
    for name in named:
        if name == STANDARD_INPUT:
            yield from _typed_names()
        else:
            yield os.fsencode(name) + b"\0"


def _typed_names() -> Iterator[bytes]:
    """Yield names read from standard input. Not by sys.stdin, whose lock would be held when the program ends."""
    rest = b""
    while chunk := os.read(0, _CHUNK_BYTES):
        *whole, rest = (rest + chunk).replace(b"\r\n", b"\n").replace(b"\n", b"\0").split(b"\0")
        if names := [name for name in whole if name]:
            yield b"\0".join(names) + b"\0"
    if rest:
        yield rest + b"\0"
