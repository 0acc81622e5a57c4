"""Threads that touch CUDA choose the run's GPU first: they begin with cuda:0, and a context there takes memory."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import pytest
import torch

from engine.journal.jsonl import EventWriter
from engine.training import device
from engine.training.checkpoint_manager import Checkpoints
from engine.training.input_pipeline import HostImages
from tests.tiny_trainer import NO_RECORD, make_folder

SECOND = torch.device("cuda", 1)
# Threads of the engine's processes that may touch CUDA, and those that never do.
CHOOSE = {"input_pipeline.py": "images", "checkpoint_manager.py": "checkpoints", "telemetry.py": "telemetry"}
NO_CUDA = {"agent.py": "hands signals on", "heartbeat.py": "speaks to a store", "image_decoders.py": "decodes files"}


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.device]:
    """Return the GPUs chosen, by the threads that chose."""
    found: dict[str, torch.device] = {}

    def choose(gpu: torch.device) -> None:
        found[threading.current_thread().name.partition("_")[0]] = gpu

    monkeypatch.setattr(torch.cuda, "set_device", choose)
    return found


def test_every_thread_is_one_that_chooses_or_one_that_never_touches_cuda() -> None:
    root = Path(device.__file__).parents[1]
    starts = re.compile(r"ThreadPoolExecutor\(|Thread\(target")
    found = {path.name for path in root.rglob("*.py") if starts.search(path.read_text(encoding="utf-8"))}
    assert found - NO_CUDA.keys() == CHOOSE.keys()


def test_they_choose_the_runs_gpu(
    chosen: dict[str, torch.device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", mock.Mock())
    images = HostImages(torch.zeros(4, 3, 8, 8), SECOND)
    images._thread.submit(lambda: None).result()
    folder = make_folder(tmp_path)
    with Checkpoints(folder, EventWriter(folder.events), NO_RECORD, SECOND) as checkpoints:
        checkpoints._thread.submit(lambda: None).result()
    for name in ("memory_allocated", "memory_reserved", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda _device: 0)
    with ThreadPoolExecutor(1, "telemetry") as telemetry:
        telemetry.submit(device.torch_memory, SECOND).result()
    assert chosen == dict.fromkeys(CHOOSE.values(), SECOND)


def test_without_cuda_nothing_is_chosen(chosen: dict[str, torch.device]) -> None:
    HostImages(torch.zeros(4, 3, 8, 8), torch.device("cpu"))._thread.submit(lambda: None).result()
    device.prepare_backend(torch.device("cpu"))
    assert chosen == {}
