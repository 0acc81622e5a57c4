"""Process `python -m engine.training.predict_images`: what a run's network takes images of one's own for.

Reads a `Request` and names of files on standard input, and prints `Answer`s, a line each, on standard output
(`engine.runs.image_predictions`). A sentence on stderr and exit 2 if it cannot. Writes no file. Images are decoded,
predicted and forgotten batch by batch: of the rest only names are kept.
"""

import math
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.data.geometry import resize
from engine.data.image_decoders import decode_in_order
from engine.journal.events import Alerted
from engine.runs.image_predictions import (
    Answer,
    Found,
    Guess,
    Loaded,
    Noticed,
    Predicted,
    Request,
    Row,
    Unpacking,
    images_at,
)
from engine.runs.predictions import MAX_SIDE
from engine.runs.run_dir import RunDir, RunInfo
from engine.shared.image_formats import Fault
from engine.shared.image_parts import unread_notices
from engine.shared.image_scan import Unread, shown
from engine.training.device import prepare_backend
from engine.training.exported_network import load_exported
from engine.training.microbatch import MicroBatch
from engine.training.trained_network import TrainedNetwork, load_trained
from presets.errors import CifartuiError

_MOST_WAITING = 8
"""Rows that are kept back for a batch to fill, in batches: files that cannot be read fill none."""
_LEAST_AHEAD = 128
"""Images that may be decoded ahead of the network however small a batch is."""
_NO_NUMBER = "the network's output for it is not a number; its weights are of no use"
_SAY_EVERY_S = 0.2
_CHUNK_BYTES = 1 << 16


def say(answer: Answer) -> None:
    """Print an answer."""
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


class _Images:
    """Iterator of the files to predict, in order, and how many are known so far."""

    def __init__(self, request: Request, names: Iterator[str]) -> None:
        self.known = 0
        self.is_all = False
        self._request = request
        self._names = names
        self._said_at = 0.0

    def __iter__(self) -> Iterator[Found]:
        folder, number = Path(self._request.folder), 0
        for number, name in enumerate(self._names, start=1):
            listed = list(images_at(name, folder, partial(self._unpacking, shown(name)), on_unread=_say_unread))
            self.known += len(listed)
            self.is_all = number == self._request.num_names
            if not listed:
                say(Noticed(f"There is no image in {shown(name)}."))
            yield from listed
        self.is_all = True

    def _unpacking(self, name: str, done: int, total: int) -> None:
        if done == total or time.monotonic() - self._said_at > _SAY_EVERY_S:
            self._said_at = time.monotonic()
            say(Unpacking(name, done, total))


class _Batch:
    """Rows that are not predicted yet, of which some have an image."""

    def __init__(self, batch_size: int, stored_size: int) -> None:
        self.rows: list[tuple[Found, str]] = []
        self.num_images = 0
        self._pixels = torch.empty(batch_size, 3, stored_size, stored_size, dtype=torch.uint8)

    def add(self, found: Found, pixels: npt.NDArray[np.uint8] | None, problem: str = "") -> None:
        """Add a row, with its pixels uint8 [3, S, S] or a clause why there are none."""
        self.rows.append((found, problem))
        if pixels is not None:
            self._pixels.numpy()[self.num_images] = pixels
            self.num_images += 1

    @property
    def is_due(self) -> bool:
        """True if the batch is full, or nothing in it waits for a batch to fill."""
        size = len(self._pixels)
        return self.num_images == size or not self.num_images or len(self.rows) >= _MOST_WAITING * size

    def images(self) -> Tensor:
        """Return the images, uint8 [B, 3, S, S]."""
        return self._pixels[: self.num_images]

    def clear(self) -> None:
        """Forget all rows."""
        self.rows, self.num_images = [], 0


def predict(request: Request, names: Iterator[str]) -> None:
    """Print the predictions for the images at `names`, in order.

    Raises:
        CifartuiError: the weights cannot be loaded, or the machine runs out of memory.
    """
    place = Path(request.run)
    if place.is_dir():
        trained = load_trained(RunDir(place), request.checkpoint, request.device, _prepare)
    else:
        trained, _ = load_exported(place, request.device, _prepare)
    batch_size = request.batch_size or trained.eval_batch_size
    side = min(trained.stored_size, MAX_SIDE)
    say(
        Loaded(
            run=trained.info.id,
            checkpoint=trained.checkpoint,
            file=trained.name,
            epoch=trained.epoch,
            is_average=trained.is_average,
            device=str(trained.device),
            precision=trained.precision,
            class_names=trained.class_names,
            image_size=trained.info.preset.data.image_size,
            side=side,
        )
    )
    at_once = MicroBatch(batch_size, trained.device, _notice)
    images = _Images(request, names)
    waiting: deque[Found] = deque()
    batch, done = _Batch(batch_size, trained.stored_size), 0

    def paths() -> Iterator[Path | None]:
        for found in images:
            waiting.append(found)
            yield found.path

    def finish_batch() -> None:
        nonlocal done
        rows = _rows(batch, trained, at_once, request.top)
        if request.pixels_fd is not None:
            _write_pixels(request.pixels_fd, done, batch, side)
        done += len(rows)
        say(Predicted(rows=tuple(rows), done=done, known=images.known, is_all=images.is_all))
        batch.clear()

    num_ahead = max(2 * batch_size, _LEAST_AHEAD)
    with closing(decode_in_order(paths(), trained.stored_size, trained.background, num_ahead)) as decoded:
        for pixels in decoded:
            found = waiting.popleft()
            if isinstance(pixels, np.ndarray):
                batch.add(found, pixels)
            else:
                batch.add(found, None, found.problem if pixels is None else Fault(pixels).text)
            if batch.is_due:
                finish_batch()
    if batch.rows:
        finish_batch()
    if not done:
        say(Predicted(rows=(), done=0, known=0, is_all=True))


def _rows(batch: _Batch, trained: TrainedNetwork, at_once: MicroBatch, top: int) -> list[Row]:
    confidences, classes = trained.probabilities(batch.images(), at_once).topk(min(top, len(trained.class_names)))
    guessed = iter(zip(confidences.tolist(), classes.tolist(), strict=True))
    rows = []
    for found, problem in batch.rows:
        guesses = () if problem else tuple(zip(*next(guessed), strict=True))
        if any(math.isnan(confidence) for confidence, _ in guesses):
            guesses, problem = (), _NO_NUMBER
        top_classes = tuple(Guess(trained.class_names[index], confidence) for confidence, index in guesses)
        rows.append(Row(found.name, top_classes, problem))
    return rows


def _write_pixels(fd: int, first: int, batch: _Batch, side: int) -> None:
    """Write the images of a batch into their rows of an open file, scaled down to what a screen shows."""
    images = batch.images()
    if images.shape[-1] > side:
        images = resize(images, side, side).round().byte()
    pixels = iter(images.permute(0, 2, 3, 1).contiguous().numpy())
    black = bytes(3 * side * side)
    content = b"".join(black if problem else next(pixels).tobytes() for _, problem in batch.rows)
    os.pwrite(fd, content, first * len(black))


def _prepare(device: torch.device, info: RunInfo) -> None:
    prepare_backend(device, tf32=info.preset.train.tf32)


def _notice(alert: Alerted) -> None:
    say(Noticed(alert.text))


def _say_unread(unread: tuple[Unread, ...]) -> None:
    for text in unread_notices(unread, beside_data=True):
        say(Noticed(text))


def _names(content: IO[bytes]) -> Iterator[str]:
    """Yield the names in a stream as they come, each ended by a zero byte."""
    rest = b""
    while chunk := os.read(content.fileno(), _CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from map(os.fsdecode, whole)


def main() -> int:
    """Predict what standard input asks for; return the exit code."""
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: whoever started this process gets it and ends it
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    try:
        predict(msgspec.json.decode(line, type=Request), _names(sys.stdin.buffer))
    except CifartuiError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
