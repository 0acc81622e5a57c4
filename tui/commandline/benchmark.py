"""`cifartui doctor --benchmark`: what the device can do and how fast it trains, in a table that grows meanwhile.

Measuring takes torch, and so a process of its own (`engine.training.bench`); this one prints what that one says.
"""

import subprocess
import tempfile
from collections.abc import Callable, Iterator

import msgspec

from engine.device_speed import Device, Limit, Line, Speed, ceiling
from engine.shared import child_process
from presets.errors import CifartuiError
from tui.commandline.say import say, say_json

_ARITHMETIC = {"matmul": "matrix products", "convolution": "3×3 convolutions"}
_LIMITS = {"memory": "memory, read and written", "host-to-device": "host to device"}
_FOOTNOTE = """
at most: what arithmetic allows, the best rate above in that format over the FLOPs of a training step. No network
reaches it; one far below it waits for memory, or for Python between operations that are over too soon."""


def benchmark(device: str, *, as_json: bool, start: Callable[..., child_process.Process] = child_process.start) -> None:
    """Measure and print.

    Args:
        device: as for `train`.
        as_json: print everything at the end, as one list.
        start: starts the process that measures, as `child_process.start` does.

    Raises:
        CifartuiError: the device is not there, or the measuring failed.
    """
    lines = _measured(device, start)
    if as_json:
        say_json(list(lines))
        return
    limits: list[Limit] = []
    has_heading = False
    for line in lines:
        if isinstance(line, Limit):
            limits.append(line)
        elif isinstance(line, Speed) and not has_heading:
            has_heading = True
            say(f"\n{'preset':<20} {'px':>4} {'batch':>5}  {'with':<27} {'images/s':>9}  {'at most':>9}")
        say(_row(line, limits))
    say(_FOOTNOTE)


def _row(line: Line, limits: list[Limit]) -> str:
    if isinstance(line, Device):
        threads = f", {line.num_threads} threads" if line.device == "cpu" else ""
        return f"{line.name} ({line.device}{threads}), torch {line.torch}"
    if isinstance(line, Limit):
        if line.what in _ARITHMETIC:
            return f"{f'{_ARITHMETIC[line.what]}, {line.precision}':<26} {line.per_s / 1e12:>9.2f} TFLOP/s"
        return f"{_LIMITS[line.what]:<26} {line.per_s / 1e9:>9.1f} GB/s"
    options = ", ".join((line.precision, *line.options))
    start = f"{line.preset:<20} {line.image_size:>4} {line.batch_size:>5}  {options:<27} "
    if line.images_per_s is None:
        return f"{start}{line.trouble}"
    most = ceiling(line, limits)
    said = f"{start}{line.images_per_s:>9,.0f}  {f'{most:,.0f}' if most is not None else '':>9}"
    return f"{said}  {line.trouble}".rstrip()


def _measured(device: str, start: Callable[..., child_process.Process]) -> Iterator[Line]:
    """Yield what a measuring process prints; it ends with this generator.

    Raises:
        CifartuiError: it said in a sentence why it cannot (exit 2), or failed unforeseen.
    """
    decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
    with tempfile.TemporaryFile() as complaints:
        with start(
            "engine.training.bench",
            ["--device", device],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    yield decoder.decode(line)
                process.wait()
            finally:
                process.kill()
        if process.returncode == 0:
            return
        complaints.seek(0)
        said = complaints.read().decode(errors="replace").strip().splitlines()
    if process.returncode == 2 and said:
        raise CifartuiError(said[-1])
    last = said[-1] if said else f"exit code {process.returncode}"
    raise CifartuiError(f"The benchmark failed ({last}); cifartui doctor looks for the cause.")
