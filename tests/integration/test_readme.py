"""The README's way from a folder of photographs to a prediction in one's own Python, run as it stands there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests import sample_model
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
SMALLER = ("data.image_size=32", "data.cache_size=32", "train.batch_size=6", "optimizer.lr=0.001")


def lines() -> tuple[str, str]:
    """Return the command and the Python of the section."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Use the model") : text.index("## Configuration")]
    command, program = (re.search(rf"```{kind}\n(.*?)```", section, re.DOTALL) for kind in ("sh", "python"))
    assert command is not None
    assert program is not None
    return command[1].strip(), program[1]


def test_the_way_is_five_lines() -> None:
    command, program = lines()
    assert len(command.splitlines()) + len([line for line in program.splitlines() if line.strip()]) == 5


def test_a_folder_of_photographs_becomes_a_prediction(tmp_path: Path) -> None:
    command, program = lines()
    photos = sample_model.write_images(tmp_path / "photos", 6, 3)
    (photos / "val/red/06.png").rename(tmp_path / "photo.jpg")
    environment = {**os.environ, "CIFARTUI_RUNS": str(tmp_path / "runs"), "PYTHONPATH": str(ROOT)}
    smaller = [f"--set={override}" for override in SMALLER]
    name, *arguments = shlex.split(command)
    assert name == "cifartui"
    trained = subprocess.run(
        [sys.executable, "-m", "cifartui", *arguments, *smaller, "--epochs", "1", "--device", "cpu"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr + trained.stdout
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    class_name, confidence = result.stdout.split()
    assert class_name in sample_model.CLASSES
    assert 1 / 3 <= float(confidence) <= 1
