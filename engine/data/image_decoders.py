"""Decoding of many image files at once, by processes or threads, into a file of pixels or as a stream. No torch.

Threads share Python's lock, which small images spend most of their time with: so many of them go to processes, which
write pixels in place. Only file names and one byte for each image pass through pipes. The processes do not outlive
this one: they end as soon as nobody reads their answers.
"""

import errno
import os
import signal
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from engine.data.image_pixels import Colour, read_square_and_range
from engine.shared import child_process
from engine.shared.image_formats import Fault, fault_of
from engine.shared.image_scan import shown
from presets.errors import CifartuiError

DECODED = 1
"""The answer for an image whose pixels are written; other answers are a `Fault`, or that they cannot be written."""
BY_OWN_RANGE = 64
"""The same, for one whose samples of more than 8 bits were scaled by their own range."""
_NOT_WRITTEN = 128
"""Such an answer is this plus the number of the system's error."""
_WORTH_PROCESSES = 1000
"""Images from which on the start of processes is worth its third of a second."""
_POLL_S = 0.02
_ASKED = 64
"""Images in one question at most; two questions are with each process, so that it never waits."""
_HEADER = struct.Struct("<Q")
_NOT_FOR_DECODERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals to the whole process group, meant for the process that started the decoders."""

Answer: TypeAlias = tuple[int, int]
"""A row, and DECODED, BY_OWN_RANGE or a Fault."""
Answers: TypeAlias = Generator[list[Answer], None, None]


@dataclass(frozen=True)
class Job:
    """Images that are decoded alike.

    Attributes:
        root: folder that `names` are relative to.
        names: of all files; a row is an index into them.
        pixels: file of uint8 [N, 3, S, S].
        size: S, in pixels.
        background: what shows through transparent pixels.
    """

    root: Path
    names: Sequence[str]
    pixels: Path
    size: int
    background: Colour


def decode(job: Job, rows: Sequence[int]) -> Answers:
    """Decode rows of a job, in any order; yield what is done, perhaps nothing, some times a second.

    Closing the iterator ends the decoding at once.

    Raises:
        CifartuiError: a process was ended by something else.
        OSError: pixels cannot be written.
    """
    num_cpus = usable_cpus()
    if len(rows) < _WORTH_PROCESSES or num_cpus == 1:
        return _by_threads(job, rows, max(4, num_cpus))
    return _by_processes(job, rows, num_cpus)


def _check_written(mark: int, pixels: Path) -> None:
    if mark >= _NOT_WRITTEN:
        raise OSError(mark - _NOT_WRITTEN, os.strerror(mark - _NOT_WRITTEN), str(pixels))


def usable_cpus() -> int:
    """Return how many CPUs this process may use: those it is bound to, no more than its container's share."""
    num_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        num_cpus = min(num_cpus, -(-int(quota) // int(period)))
    return max(1, num_cpus)


def _by_threads(job: Job, rows: Sequence[int], num_threads: int) -> Answers:
    pool = ThreadPoolExecutor(num_threads)
    pixels = os.open(job.pixels, os.O_WRONLY)
    try:
        answers = [pool.submit(_decode_row, pixels, row, job.root / job.names[row], job) for row in rows]
        for row, answer in zip(rows, answers, strict=True):
            while not answer.done():
                yield []
                time.sleep(_POLL_S)
            _check_written(answer.result(), job.pixels)
            yield [(row, answer.result())]
    finally:
        pool.shutdown(cancel_futures=True)
        os.close(pixels)


def _decoded(path: Path, size: int, background: Colour) -> "tuple[npt.NDArray[np.uint8], int] | Fault":
    """Return the pixels of a file, uint8 [3, size, size], with DECODED or BY_OWN_RANGE; or why there are none."""
    try:
        pixels, by_own_range = read_square_and_range(path, size, background)
    except Exception as error:
        return fault_of(error, path)
    return np.ascontiguousarray(np.moveaxis(pixels, 2, 0)), BY_OWN_RANGE if by_own_range else DECODED


def _decode_row(pixels: int, row: int, path: Path, job: Job) -> int:
    """Decode a file into its place in the open file `pixels`; return the answer."""
    found = _decoded(path, job.size, job.background)
    if isinstance(found, Fault):
        return found
    planes, answer = found
    try:
        written = os.pwrite(pixels, planes.data, row * planes.nbytes)  # less work than pages of a memory map
    except OSError as error:
        return _NOT_WRITTEN + min(error.errno or errno.EIO, 255 - _NOT_WRITTEN)
    return answer if written == planes.nbytes else _NOT_WRITTEN + errno.ENOSPC


def _by_processes(job: Job, all_rows: Sequence[int], num_processes: int) -> Answers:
    left = deque(all_rows)
    decoders: list[_Decoder] = []
    try:
        decoders += [_Decoder(job) for _ in range(num_processes)]
        while left or any(decoder.asked for decoder in decoders):
            for decoder in decoders:
                while left and len(decoder.asked) <= _ASKED:
                    num_rows = max(1, min(_ASKED, len(left) // (4 * num_processes)))
                    rows = [left.popleft() for _ in range(min(num_rows, len(left)))]
                    decoder.ask([(row, job.names[row]) for row in rows])
            time.sleep(_POLL_S)  # and not until there is an answer: there are thousands a second
            yield [answer for decoder in decoders for answer in decoder.answers()]
    finally:
        for decoder in decoders:
            decoder.kill()


class _Decoder:
    """A process that decodes; `asked` are rows and names that it has not answered yet, in order."""

    def __init__(self, job: Job, pass_fds: tuple[int, ...] = ()) -> None:
        self.asked: deque[tuple[int, str]] = deque()
        self._job = job
        numbers = (job.size, *job.background)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_DECODERS)  # inherited, so from the first moment
        try:
            self._process = child_process.start(
                __name__,
                [str(job.pixels), str(job.root), *map(str, numbers)],
                environment={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=pass_fds,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    def ask(self, rows: Sequence[tuple[int, str]]) -> None:
        """Have files decoded into rows after those asked before; names are relative to the job's root, or absolute."""
        assert self._process.stdin is not None
        question = b"\0".join(part for row, name in rows for part in (b"%d" % row, os.fsencode(name)))
        self.asked.extend(rows)
        with suppress(BrokenPipeError):  # `answers` finds out
            self._process.stdin.write(_HEADER.pack(len(question)) + question)

    def answers(self) -> list[Answer]:
        """Return the answers that have arrived since the last call.

        Raises:
            CifartuiError: the process has ended.
            OSError: it could not write pixels.
        """
        assert self._process.stdout is not None
        try:
            marks = os.read(self._process.stdout.fileno(), 1 << 16)
        except BlockingIOError:
            return []
        if not marks:
            raise self._ended()
        _check_written(max(marks), self._job.pixels)
        return [(self.asked.popleft()[0], mark) for mark in marks]

    def _ended(self) -> CifartuiError:
        code = self._process.wait()
        reason = f"exit status {code}" if code >= 0 else signal.Signals(-code).name
        at = f" while it read {shown(str(self._job.root / self.asked[0][1]))}" if self.asked else ""
        cure = (
            "perhaps memory ran out; make some free" if code == -signal.SIGKILL else "if it is that file, take it away"
        )
        kept = " What is decoded is kept." if self._job.names else ""
        return CifartuiError(f"A process that decodes images ended ({reason}){at}: {cure}, then start again.{kept}")

    def kill(self) -> None:
        """End the process, whatever it does, and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


Decoded: TypeAlias = "npt.NDArray[np.uint8] | Fault | None"
"""Pixels uint8 [3, S, S], why there are none, or None where no file was asked for."""


def decode_in_order(
    paths: Iterable[Path | None], size: int, background: Colour, num_ahead: int
) -> Generator[Decoded, None, None]:
    """Decode files one after another as `paths` yields them; at most `num_ahead` of them are begun and not taken.

    The first thousand are decoded by threads, and what follows by processes. Closing the iterator ends the decoding.

    Args:
        paths: absolute; None has no file.
        size: S, in pixels.
        background: what shows through transparent pixels.
        num_ahead: at least 1.

    Yields:
        Pixels uint8 [3, S, S], valid until the next is asked for; or a Fault, or None.

    Raises:
        CifartuiError: a process was ended by something else.
        OSError: pixels cannot be written to a temporary file.
    """
    left, num_cpus = iter(paths), usable_cpus()
    first = left if num_cpus == 1 else islice(left, _WORTH_PROCESSES)

    def decoded(path: Path | None) -> Decoded:
        found = None if path is None else _decoded(path, size, background)
        return found[0] if isinstance(found, tuple) else found

    with ThreadPoolExecutor(max(4, num_cpus)) as pool:
        yield from map_in_order(pool, decoded, first, num_ahead)
    if num_cpus > 1 and (path := next(left, _END)) is not _END:
        yield from _streamed(chain([path], left), size, background, num_ahead, num_cpus)


_END: Any = object()
Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], num_ahead: int
) -> Generator[Result, None, None]:
    """Yield `function` of every item, in order; at most `num_ahead` of them are begun and not taken."""
    begun: deque[Future[Result]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) >= num_ahead:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()


def _streamed(
    paths: Iterator[Path | None], size: int, background: Colour, num_ahead: int, num_processes: int
) -> Generator[Decoded, None, None]:
    """Decode by processes, which write into the rows of a file that nobody else can open; each is used again."""
    with TemporaryFile() as file:
        file.truncate(num_ahead * 3 * size * size)
        slots = np.memmap(file, np.uint8, "r", shape=(num_ahead, 3, size, size))
        job = Job(Path("/"), (), Path(f"/dev/fd/{file.fileno()}"), size, background)
        waiting: deque[int | None] = deque()
        """Rows in the order of the paths; None where there is no file."""
        free, marks = list(range(num_ahead)), dict[int, int]()
        decoders: list[_Decoder] = []
        try:
            decoders += [_Decoder(job, (file.fileno(),)) for _ in range(num_processes)]
            while True:
                idlest = min(decoders, key=lambda decoder: len(decoder.asked))
                some = list(islice(paths, min(_ASKED, len(free), max(1, num_ahead // (2 * num_processes)))))
                rows = [None if path is None else free.pop() for path in some]
                waiting.extend(rows)
                asked = [(row, str(path)) for row, path in zip(rows, some, strict=True) if row is not None]
                if asked:
                    idlest.ask(asked)
                elif not waiting:
                    return
                marks.update(answer for decoder in decoders for answer in decoder.answers())
                if not some and waiting[0] not in marks and waiting[0] is not None:
                    time.sleep(_POLL_S / 10)
                while waiting and (waiting[0] is None or waiting[0] in marks):
                    if (row := waiting.popleft()) is None:
                        yield None
                    else:
                        mark = marks.pop(row)
                        yield slots[row] if mark in (DECODED, BY_OWN_RANGE) else Fault(mark)
                        free.append(row)
        finally:
            for decoder in decoders:
                decoder.kill()


def main() -> None:
    """Decode what is asked for on standard input, until it ends; one byte of answer for each image."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what a decoder prints is no answer
    pixels_path, root, *numbers = sys.argv[1:]
    size, red, green, blue = map(int, numbers)
    job = Job(Path(root), (), Path(pixels_path), size, (red, green, blue))
    pixels = os.open(job.pixels, os.O_WRONLY)
    with suppress(BrokenPipeError):
        while header := sys.stdin.buffer.read(_HEADER.size):
            parts = sys.stdin.buffer.read(*_HEADER.unpack(header)).split(b"\0")
            for row, name in zip(parts[::2], parts[1::2], strict=True):
                mark = _decode_row(pixels, int(row), job.root / os.fsdecode(name), job)
                os.write(answers, bytes((mark,)))


if __name__ == "__main__":
    main()
