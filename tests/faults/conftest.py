"""Runs so small that a whole one takes a tenth of a second, and workers that need no start-up (`nursery`)."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.journal.events import RunFinished
from engine.runs import run_dir
from engine.runs.run_dir import RunDir, Status, status_of
from presets import schema
from tests.bird_files import write_class_folders
from tests.faults.serving import serve  # noqa: F401
from tests.integration.conftest import cifartui, runs_dir, start, terminals  # noqa: F401
from tests.waiting import wait_for
from tui.data.summary import summarise

HOME = Path(__file__).parents[2]


class Worker:
    """A worker forked in the nursery, and its run."""

    def __init__(self, run: RunDir, pid: int) -> None:
        self.run = run
        self.pid = pid

    def is_held(self) -> None:
        """Wait until it is where it was to be held."""
        wait_for((self.run.path / "held").exists, f"the place; its log: {_log(self.run)}", patience_s=20)

    def go_on(self) -> None:
        (self.run.path / "held").unlink()

    def kill(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ends(self) -> RunFinished | None:
        """Wait until it is gone, and return its last word."""
        wait_for(lambda: not self.run.worker_lives(), f"its end; its log: {_log(self.run)}", patience_s=20)
        return self.run.read_state().finished

    def trains(self) -> None:
        wait_for(lambda: self.run.read_state().steps, f"training; its log: {_log(self.run)}", patience_s=20)


def _log(run: RunDir) -> str:
    return run.log.read_text() if run.log.exists() else ""


def status(run: RunDir, later_s: float = 0.0) -> Status:
    """Return what every list says of a run, `later_s` seconds from now."""
    return status_of(run.read_state(), run.worker_lives(), time.time() + later_s)


Hire = Callable[..., Worker]


@pytest.fixture(scope="session")
def _nursery() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.nursery"],
        cwd=HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    ) as process:  # fmt: skip
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def hire(_nursery: subprocess.Popen[str]) -> Iterator[Hire]:
    """Start a worker on a run, held at a place where one is named; it is ended with the test."""
    pids = []

    def start_worker(
        run: RunDir, hold: str = "", *, resume: bool = False, url: str = "", md5: str = "", **environment: str
    ) -> Worker:
        order = {"folder": str(run.path), "hold": hold, "resume": resume, "url": url, "md5": md5}
        assert _nursery.stdin is not None
        assert _nursery.stdout is not None
        cache = {"CIFARTUI_CACHE": os.environ["CIFARTUI_CACHE"]}
        _nursery.stdin.write(json.dumps({**order, "environment": {**cache, **environment}}) + "\n")
        pids.append(int(_nursery.stdout.readline()))
        return Worker(run, pids[-1])

    yield start_worker
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


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
