"""Rows of the page of `make gpu` that start programs: the tests, runs, the dashboard, the benchmark."""

import asyncio
import html
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_checks import Asked, LeftOut, table
from engine.runs.run_dir import RunDir, list_runs
from engine.shared.data_locations import locate
from presets import catalog
from tui.app import CifartuiApp

_ROOT = Path(__file__).parents[1]
TRAINED = {"basenet": 0.30, "recipes/vgg-custom-fast": 0.70}
"""Presets that are trained, and the validation accuracy whose time is told beside that of the whole run."""
_SHOWN_WITHIN_S = 30.0
_TOLD_WITHIN_S = 15.0
"""Before a row is ended from outside, what it has found is told."""


def driver_version() -> str:
    """Return the NVIDIA driver's version, or why there is none."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"none ({type(error).__name__} of nvidia-smi)"
    return (done.stdout.strip().splitlines() or ["none"])[0]


def marked_tests(asked: Asked) -> str:
    """Run the tests that need a GPU."""
    if asked.device.type != "cuda":
        raise LeftOut("they need a CUDA GPU")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True)
    tail = done.stdout.strip().splitlines()
    if done.returncode:
        raise RuntimeError("\n".join(line for line in tail if line.startswith(("FAILED", "ERROR"))) or "\n".join(tail))
    where = f"; on cuda:0 and what is beside it, not on {asked.device} alone" if asked.device.index else ""
    return tail[-1] + where


def several(asked: Asked) -> str:
    """Train `demo` on all GPUs together, whichever is asked for; on the CPU by two processes."""
    num_devices = torch.cuda.device_count() if asked.device.type == "cuda" else 2
    if num_devices < 2:
        raise LeftOut("there is one GPU")
    if asked.is_short:
        raise LeftOut("the tests have it: tests/integration/test_several_devices.py")
    events = _train(asked, "demo", "--epochs", "2", "--devices", str(num_devices), device=asked.device.type)
    end = events[-1]
    return f"{num_devices} × {asked.device.type}: {end['outcome']}, val {end['best_val_top1']:.3f}"


def dashboard(asked: Asked) -> str:
    """Train `demo` for an epoch, and show it on the Monitor: its device has to be there."""
    limit = "256" if asked.device.type == "cpu" else "4096"
    _train(asked, "demo", "--epochs", "1", "--set", f"data.train_limit={limit}")
    [run] = list_runs(asked.folder)
    shown = asyncio.run(_monitor(asked.folder, run, r"GPU \d" if asked.device.type == "cuda" else "CPU"))
    return "```\n" + shown + "\n```"


async def _monitor(runs_dir: Path, run: RunDir, expected: str) -> str:
    """Return the Monitor's text once `expected`, a regular expression, is on it."""
    app, deadline = CifartuiApp(runs_dir, attach=run), time.monotonic() + _SHOWN_WITHIN_S
    async with app.run_test(size=(120, 36)) as pilot:
        while True:
            await pilot.pause(0.2)
            picture = app.export_screenshot()
            rows = re.findall(r"<text[^>]*>(.*?)</text>", picture, re.DOTALL)
            text = html.unescape(" ".join(re.sub(r"<[^>]*>", "", row) for row in rows)).replace("\xa0", " ")
            if re.search(expected, text) and "completed" in text:
                return "\n".join(line for line in _lines(app) if line)
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"the Monitor does not show {expected!r} and that the run is completed: {text[:500]}"
                )


def _lines(app: CifartuiApp) -> list[str]:
    return ["".join(segment.text for segment in strip).rstrip() for strip in app.screen._compositor.render_strips()]


def benchmark(asked: Asked) -> str:
    """Measure what `doctor --benchmark` does."""
    if asked.is_short:
        raise LeftOut("the tests have it: tests/integration/test_benchmark.py")
    command = [sys.executable, "-m", "cifartui", "doctor", "--benchmark", "--device", str(asked.device)]
    process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    over = ""
    try:
        told, said = process.communicate(timeout=asked.within_s - _TOLD_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # what was measured until now is told
        told, said = process.communicate()
        over = f"\n\nEnded after {asked.within_s - _TOLD_WITHIN_S:.0f} s: what is missing was not measured."
    if (process.returncode and not over) or not told.strip():
        raise RuntimeError(said.strip() or told)
    return "```\n" + told.strip() + "\n```" + over


def accuracy(asked: Asked, name: str, wanted: float) -> str:
    """Train a preset on CIFAR-100; tell the seconds until a validation accuracy, and the end."""
    if asked.device.type != "cuda":
        raise LeftOut("on a processor it takes longer than ten minutes")
    if locate(catalog.load(name).data, os.environ.get("CIFARTUI_DATA")).kind == "absent":
        raise LeftOut("there is no CIFAR-100 here; name its folder by CIFARTUI_DATA")
    events = _train(asked, name)
    began = next(event["time"] for event in events if event["type"] == "StageStarted")
    epochs = [event for event in events if event["type"] == "EpochCompleted"]
    reached = next((event["time"] - began for event in epochs if event["val_top1"] >= wanted), None)
    end = events[-1]
    seconds = "never" if reached is None else f"{reached:.1f}"
    row = (f"{wanted:.0%}", seconds, f"{end['best_val_top1']:.2%}", f"{end['test_top1']:.2%}")
    whole = epochs[-1]["time"] - began
    return table(("val", "reached after s", "best val", "test", "all epochs s"), [(*row, whole)])


def _train(asked: Asked, preset: str, *options: str, device: str = "") -> list[dict[str, Any]]:
    """Train through the command line and return the events."""
    command = [sys.executable, "-m", "cifartui", "--runs-dir", str(asked.folder), "train", preset, *options]
    command += ["--device", device or str(asked.device), "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True)
    events: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not events:
        raise RuntimeError(f"{preset}: {events[-1].get('reason') if events else done.stderr.strip()}")
    return events
