"""What a worker takes of the machine's memory, beside torch itself and the images."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.journal.jsonl import read_events
from engine.runs import run_dir as runs
from presets import catalog

LIMIT_MB = 450
"""Above the import of torch, shapes100 (37 MB) included; measured are 344 (docs/performance.md)."""
WORKER = """
import fcntl, os, re, sys
from pathlib import Path

def peak_mb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) / 1e3

import torch
before = peak_mb()
from engine.training.worker import main
fd = os.open(Path(sys.argv[1]) / "worker.lock", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(fd, fcntl.LOCK_EX)
code = main([sys.argv[1], "--lock-fd", str(fd)])
print(peak_mb() - before)
sys.exit(code)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc is Linux's")
def test_a_worker_stays_within_its_memory(tmp_path: Path) -> None:
    overrides = ("train.epochs=1", "data.train_limit=640")
    preset = catalog.load("demo", overrides)
    run = runs.create(
        tmp_path / "runs", "demo", preset=preset, overrides=overrides, seed=0, device="cpu", data_dir=None,
        argv=(), versions={}, notify="",
    )  # fmt: skip
    command = [sys.executable, "-c", WORKER, str(run.path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300)
    assert read_events(run.events)[-1].__class__.__name__ == "RunFinished"
    assert float(done.stdout.split()[-1]) < LIMIT_MB
