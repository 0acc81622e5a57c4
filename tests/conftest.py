"""What every test may ask for."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from presets import catalog

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # how quick a busy machine is with an example says nothing about the code


@pytest.fixture(scope="session", autouse=True)
def _hang_ups_are_heard() -> None:
    """Let the programs that tests start take SIGHUP as usual, also where the tests run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def cifar100_dir() -> Path:
    """Return the folder with the real CIFAR-100 archive: CIFARTUI_DATA, or shared/data beside the project."""
    named = os.environ.get("CIFARTUI_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared/data"
    if not (folder / "cifar-100-python.tar.gz").is_file():
        pytest.skip(f"needs the real CIFAR-100: no cifar-100-python.tar.gz in {folder}; set CIFARTUI_DATA")
    return folder


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that is looked in for a user's own presets; empty."""
    folder = tmp_path / "config" / "presets"
    folder.mkdir(parents=True)
    monkeypatch.setattr(catalog, "user_folder", lambda: folder)
    return folder


@pytest.fixture(autouse=True)
def _own_image_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep decoded images out of the user's cache folder."""
    monkeypatch.setenv("CIFARTUI_CACHE", str(tmp_path_factory.mktemp("cache")))
