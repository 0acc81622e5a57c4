"""One page on how cifartui runs on a GPU, to be put into an issue: `make gpu`, ten minutes at most.

python -m benchmarks.gpu [--device cuda:0] [--output gpu.md] [--short] [--row NAME]

Every row is checked in a process of its own, which its deadline ends with all that it started, and is ok, an error, or
left out with the reason. Without a GPU (--device cpu) what needs none is checked on the processor; --short does less of
it.
"""

import argparse
import importlib.metadata
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import psutil
import torch

from benchmarks import gpu_checks, gpu_programs
from benchmarks.accuracy import processor
from benchmarks.gpu_checks import Asked, LeftOut
from engine.training.device import choose_device, device_name, prepare_backend
from presets.errors import CifartuiError

_BUDGET_S = 600.0
_MOST_OF_A_ROW_S = 240.0
"""One that hangs leaves time for the others."""
_LEAST_S = 15.0
"""A row is begun only if so much of the budget is left."""
CHECKS: dict[str, Callable[[Asked], str]] = {
    "tests marked gpu": gpu_programs.marked_tests,
    "steps that wait for nothing": gpu_checks.steps,
    "recorded steps": gpu_checks.recorded,
    "compiled steps": gpu_checks.compiled,
    "memory that runs out": gpu_checks.halving,
    "memory estimate": gpu_checks.memory,
    "checkpoint to the CPU and back": gpu_checks.checkpoint,
    "kernels of a step": gpu_checks.kernels,
    "several GPUs": gpu_programs.several,
    "dashboard": gpu_programs.dashboard,
    "doctor --benchmark": gpu_programs.benchmark,
    **{
        f"time to accuracy: {name}": partial(gpu_programs.accuracy, name=name, wanted=wanted)
        for name, wanted in gpu_programs.TRAINED.items()
    },
}


class Row(msgspec.Struct):
    """One check and what came of it."""

    name: str
    status: Literal["ok", "error", "left out"]
    text: str
    """Figures as Markdown, the error, or the reason for leaving it out."""
    seconds: float = 0.0
    at: str = ""
    """The last lines of an error's traceback."""


class _Budget(NamedTuple):
    ends: float

    @property
    def left_s(self) -> float:
        return self.ends - time.monotonic()


def main(argv: Sequence[str] | None = None) -> int:
    """Check, print the page and write it; return 1 if a row is an error, 2 if there is no such device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=Path("gpu.md"))
    parser.add_argument("--short", action="store_true", help="less of everything, for the tests")
    parser.add_argument("--row", action="append", choices=CHECKS, help="these rows alone")
    parser.add_argument("--as-json", action="store_true", help="check one row in this process, for the page")
    parser.add_argument("--within-s", type=float, default=_MOST_OF_A_ROW_S, help="seconds that a row may take")
    asked = parser.parse_args(argv)
    try:
        device = choose_device(asked.device)
    except CifartuiError as error:
        print(error, file=sys.stderr)
        return 2
    names = asked.row or list(CHECKS)
    if asked.as_json:
        print(msgspec.json.encode(check(names[0], str(device), asked.within_s, is_short=asked.short)).decode())
        return 0
    rows, budget = [], _Budget(time.monotonic() + _BUDGET_S)
    for name in names:
        print(f"{name} …", file=sys.stderr, flush=True)
        rows.append(_in_process(name, str(device), asked.short, budget, asked.within_s))
    text = page(rows, device)
    asked.output.write_text(text, encoding="utf-8")
    print(text)
    print(f"Written to {asked.output.resolve()}: put it into an issue as it is.", file=sys.stderr)
    return 1 if any(row.status == "error" for row in rows) else 0


def check(name: str, device: str, within_s: float, *, is_short: bool) -> Row:
    """Check one row in this process; an error becomes a row."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            prepare_backend(torch.device(device))
            text = CHECKS[name](Asked(torch.device(device), is_short, Path(folder), within_s))
            row = Row(name, "ok", text)
        except LeftOut as reason:
            row = Row(name, "left out", str(reason))
        except Exception as error:
            at = "".join(traceback.format_exception(error)[-5:-1])
            row = Row(name, "error", f"{type(error).__name__}: {error}", at=at)
    row.seconds = time.monotonic() - began
    return row


def _in_process(name: str, device: str, is_short: bool, budget: _Budget, within_s: float) -> Row:
    if budget.left_s < _LEAST_S:
        return Row(name, "left out", "the ten minutes were over")
    began, limit_s = time.monotonic(), min(budget.left_s, within_s)
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", device, "--row", name, "--as-json"]
    command += ["--within-s", str(limit_s)]
    process = subprocess.Popen(
        [*command, *(["--short"] if is_short else [])], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        told, said = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        _end(process.pid)
        process.communicate()
        return Row(name, "error", f"did not end within {limit_s:.0f} s", time.monotonic() - began)
    try:
        row = msgspec.json.decode(told.strip().splitlines()[-1], type=Row)
    except (IndexError, msgspec.DecodeError):
        row = Row(name, "error", "it told nothing", time.monotonic() - began)
    if process.returncode:
        last = "\n".join(said.strip().splitlines()[-5:])
        row = Row(name, "error", f"its process ended with {process.returncode}: {last} ({row.text})", row.seconds)
    return row


def _end(pid: int) -> None:
    """Kill a process and all that it started: workers too, which are in sessions of their own."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.suspend()  # or it would start others meanwhile
        for each in (*process.children(recursive=True), process):
            with suppress(psutil.NoSuchProcess):
                each.kill()


def page(rows: Sequence[Row], device: torch.device) -> str:
    """Return the Markdown page."""
    lines = ["# cifartui on a GPU" if device.type == "cuda" else f"# cifartui without a GPU ({device.type})", ""]
    lines += [f"- {name}: {value}" for name, value in machine(device).items()]
    lines += ["", "| check | | seconds | |", "|---|---|---|---|"]
    for row in rows:
        short = row.text if "\n" not in row.text and len(row.text) <= 200 else "see below"
        lines.append(f"| {row.name} | {row.status} | {row.seconds:.0f} | {short.replace('|', '/')} |")
    for row in rows:
        if "\n" in row.text or len(row.text) > 200:
            lines += ["", f"## {row.name}: {row.status}", "", row.text]
        if row.at:
            lines += ["", f"{row.name} failed at:", "", "```", row.at.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def machine(device: torch.device) -> dict[str, str]:
    """Return what the figures depend on: device, driver, versions."""
    found = {
        "device": f"{device} ({device_name(device)})",
        "GPUs": str(torch.cuda.device_count()),
        "driver": gpu_programs.driver_version(),
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}, cuDNN {torch.backends.cudnn.version()}",
        "processor": f"{processor()}, {torch.get_num_threads()} threads",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "cifartui": importlib.metadata.version("cifartui"),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["compute capability"] = f"{properties.major}.{properties.minor}"
        found["memory"] = f"{properties.total_memory / 1e9:.1f} GB"
    return found


if __name__ == "__main__":
    sys.exit(main())
