"""Runs so small that a whole one takes a tenth of a second."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.runs import run_dir
from engine.runs.run_dir import RunDir, Status, status_of
from presets import schema
from tests.bird_files import write_class_folders
from tests.faults.serving import serve  # noqa: F401
from tests.integration.conftest import cifartui, runs_dir, terminals  # noqa: F401
from tui.data.summaries import summarise


def status(run: RunDir, later_s: float = 0.0) -> Status:
    """Return what every list says of a run, `later_s` seconds from now."""
    return status_of(run.read_state(), run.worker_lives(), time.time() + later_s)


@pytest.fixture(scope="session")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty training and six test images of three classes, 8×8 pixels."""
    root = write_class_folders(tmp_path_factory.mktemp("birds"))
    shutil.rmtree(root / "images", ignore_errors=True)
    return root


@pytest.fixture
def tiny(runs_dir: Path, birds: Path) -> Callable[..., RunDir]:  # noqa: F811
    """Make a run of seven batches an epoch, not started yet."""

    def make(epochs: int = 3, *, data: schema.Data | None = None, data_dir: Path | None = None) -> RunDir:
        preset = schema.Preset(
            title="Tiny",
            data=data or schema.Data(dataset="class-folders", path=str(birds), image_size=8, normalize="half"),
            model=schema.Vgg(blocks=((4,),), pools=("avg",)),
            train=schema.Train(epochs=epochs, batch_size=4, precision="fp32"),
            optimizer=schema.Sgd(lr=0.01, momentum=0.9),
        )
        return run_dir.create(
            runs_dir, "tiny", preset=preset, seed=0, device="cpu", data_dir=str(data_dir) if data_dir else None
        )

    return make


def said(run: RunDir) -> str:
    """Return the reason that lists and `show` give of a run."""
    return summarise(run).reason
