"""Last events of runs: whatever ends training becomes an outcome and a sentence; tracebacks go to worker.log."""

from pathlib import Path

import pytest
import torch

from engine.journal.events import RunFinished
from engine.journal.jsonl import EventWriter
from engine.training.controls import Aborted, Controls, SecondSignal
from engine.training.worker import StoppedBeforeTraining, outcome_of
from presets.errors import CifartuiError
from tests.tiny_trainer import make_folder


@pytest.mark.parametrize(
    ("error", "outcome", "reason", "has_traceback"),
    [
        (StoppedBeforeTraining(), "stopped", "by command, before training began", False),
        (Aborted(), "aborted", "aborted by command; the checkpoints written before stay", False),
        (
            SecondSignal("SIGTERM was received again"),
            "stopped",
            "SIGTERM was received again; what is in last.pt",
            False,
        ),
        (CifartuiError("The disk is full."), "failed", "The disk is full.", False),
        (torch.OutOfMemoryError(), "failed", "smaller train.batch_size", True),
        (ValueError("no such thing\nand more"), "failed", "ValueError: no such thing (the traceback is in", True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_end_has_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], error: Exception, outcome: str, reason: str, has_traceback: bool
) -> None:
    folder = make_folder(tmp_path)
    controls = Controls(folder, EventWriter(folder.events))
    controls.stop_reason, controls.epoch, controls.global_step = "by command", 2, 11

    def train() -> RunFinished:
        raise error

    finished = outcome_of(folder, controls, train)
    assert (finished.outcome, finished.epoch, finished.global_step) == (outcome, 2, 11)
    assert reason in finished.reason
    assert ("Traceback" in capfd.readouterr().err) == has_traceback
