"""A run that is killed, wherever, and resumed ends like the one left alone, to the bit. Forked workers and SIGKILL."""

import random
from pathlib import Path

import pytest
from msgspec.structs import replace

from benchmarks import torture
from tests.workers import ForkWorker

MOMENTS = [
    "saved while paused",
    "an epoch told, not saved",
    "in a checkpoint's write",
    "a stage begins",
    "in an evaluation",
]


@pytest.mark.torture
def test_kills_do_not_show_in_the_result(
    tmp_path: Path, fork_worker: ForkWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torture, "start_worker", fork_worker)  # make torture starts real ones
    monkeypatch.setattr(torture, "_NUM_TRAIN", 180)  # with batches of 8 as many steps as make torture's
    monkeypatch.setattr(torture, "_NUM_TEST", 40)
    images = torture.write_images(tmp_path / "images")
    preset = torture.CASES["stages from the best"]
    preset = replace(preset, train=replace(preset.train, batch_size=8))
    whole = torture.finish(torture.start(tmp_path / "runs", images, preset))
    kills, found = torture.torture(tmp_path / "runs", images, preset, MOMENTS, random.Random(1))
    assert len(kills) >= 3, kills  # a kill that comes too late ends the series
    assert found == whole, kills
