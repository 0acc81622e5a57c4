"""Runs cases of a kind: each in a folder of its own, timed, and watched for what no input may bring about."""

import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tests.fuzz.kinds import KINDS

LONGEST_S = 1.0
_HANGS_AFTER_S = 5
_NEVER = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "ctypes.dlopen"}
_seen: list[str] = []
_is_watching = _is_installed = False


def _watch(event: str, _arguments: tuple[object, ...]) -> None:
    if _is_watching and event in _NEVER:
        _seen.append(event)


class Counts:
    """How many cases of a kind were taken and refused, and how long the longest took."""

    def __init__(self) -> None:
        self.num_taken = self.num_refused = 0
        self.longest_s = 0.0


@contextlib.contextmanager
def _alarmed() -> Iterator[None]:
    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"no answer after {_HANGS_AFTER_S} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(_HANGS_AFTER_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(name: str, seeds: range) -> Counts:
    """Run the cases of a kind; raise AssertionError with the seed of the first that does not hold."""
    global _is_watching, _is_installed
    if not _is_installed:
        sys.addaudithook(_watch)  # cannot be taken away again
        _is_installed = True
    with tempfile.TemporaryDirectory() as first, contextlib.suppress(Exception):
        KINDS[name](seeds.start, Path(first))  # imports, which take long and may start processes
    counts = Counts()
    root = Path(tempfile.mkdtemp(prefix="fuzz-"))
    beside = root / "beside"
    beside.mkdir()
    (beside / "file").write_text("untouched")
    try:
        for seed in seeds:
            place = root / "place"
            place.mkdir()
            _seen.clear()
            _is_watching = True
            started = time.process_time()  # what it computes: others may be at work
            try:
                with _alarmed():
                    is_taken = KINDS[name](seed, place)
            except BaseException as error:
                raise AssertionError(f"{name}, seed {seed}: {type(error).__name__}: {str(error)[:300]}") from error
            finally:
                _is_watching = False
            seconds = time.process_time() - started
            assert seconds < LONGEST_S, f"{name}, seed {seed}: took {seconds:.1f} s"
            assert not _seen, f"{name}, seed {seed}: {_seen}"
            assert [path.name for path in sorted(root.iterdir())] == ["beside", "place"], f"{name}, seed {seed}"
            assert (beside / "file").read_text() == "untouched", f"{name}, seed {seed}"
            counts.num_taken += is_taken
            counts.num_refused += not is_taken
            counts.longest_s = max(counts.longest_s, seconds)
            shutil.rmtree(place)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return counts
