"""Fixtures of all tests, and guards: the caller's data and settings are hidden, no process is left behind."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

from presets import catalog
from tests import processes
from tests.workers import fork_server, fork_worker, forked  # noqa: F401

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # how quick a busy machine is with an example says nothing about the code

_CALLERS_DATA = "PYTEST_CALLERS_DATA"
"""Holds CIFARTUI_DATA of whoever started the tests, for those marked real_data."""
_FOR_TESTS = {"CIFARTUI_FUZZ_CASES"}
_QUICK = ("unit",)
"""The folders in which a test is quick unless it is marked slow or needs real data."""


def pytest_configure(config: pytest.Config) -> None:
    """Hide the caller's data, configuration, runs and caches, before any test is collected; mark all children."""
    os.environ.setdefault(_CALLERS_DATA, os.environ.get("CIFARTUI_DATA", ""))
    for name in set(os.environ) - _FOR_TESTS:
        if name.startswith(("CIFARTUI_", "XDG_")) or name in {"COLUMNS", "LINES"}:  # a size that no terminal here has
            del os.environ[name]
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # some hundred processes would compile the same modules again
    sys.dont_write_bytecode = False
    os.environ["HOME"] = home = tempfile.mkdtemp(prefix="cifartui-tests-home-")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    if num_workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
        num_threads = max(1, (os.cpu_count() or 1) // num_workers)
        os.environ.setdefault("OMP_NUM_THREADS", str(num_threads))  # torch's, here and in what tests start
    processes.mark_children()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage meanwhile: the tests are kept, and so is what they import."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave unread the files without a test marked `alone`, where only those are run: to read all takes longer."""
    only_alone = config.option.markexpr == "alone" and collection_path.suffix == ".py"
    return True if only_alone and "mark.alone" not in collection_path.read_text() else None


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark slow tests by their folder and by what they ask for."""
    for item in items:
        if item.path.parent.name not in _QUICK or "cifar100_dir" in item.fixturenames:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of garbage collections, which look over all of it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _short_collections() -> None:
    """Leave out of garbage collections what the tests before imported too: the trainer collects after every failure."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def kept_processes() -> set[int]:
    """Return the ids of processes that are left running between tests; fixtures that start such a one add its id."""
    return set()


@pytest.fixture(scope="session")
def grace_s() -> float:
    """Return for how long a process that was asked to end may go on after its test."""
    return 5.0


@pytest.fixture(autouse=True)
def _leaves_no_process(kept_processes: set[int], grace_s: float) -> Iterator[None]:
    """Fail a test that leaves a process running, and end that process: it would slow down all later tests."""
    before = set(psutil.pids())
    yield
    if left := processes.left_running(before | kept_processes, grace_s):
        said = "\n".join(map(processes.describe, left))
        processes.end(before | kept_processes)
        pytest.fail(f"It left running, and must end:\n{said}", pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def _signals_are_heard() -> None:
    """Let programs that tests start take SIGHUP, SIGQUIT and SIGINT as usual, under nohup and in the background too."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def cifar100_dir(request: pytest.FixtureRequest) -> Path:
    """Return the folder with the real CIFAR-100 archive: the caller's CIFARTUI_DATA, or shared/data beside us."""
    assert request.node.get_closest_marker("real_data"), "only tests marked real_data see the caller's data"
    named = os.environ[_CALLERS_DATA]
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


@pytest.fixture(scope="session")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return new folders: `mktemp` would list all those before, which takes longer than many a test."""
    parent = tmp_path_factory.mktemp("caches")
    return (parent / str(number) for number in count())


@pytest.fixture(autouse=True)
def _own_image_cache(_caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep decoded images out of the session's cache folder, where other tests' images would be found."""
    folder = next(_caches)
    folder.mkdir(0o700)
    monkeypatch.setenv("CIFARTUI_CACHE", str(folder))
    yield
    shutil.rmtree(folder, ignore_errors=True)  # together they would be gigabytes


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of every read of a journal."""
    sizes: list[int] = []
    pread = os.pread

    def counting(fd: int, num_bytes: int, offset: int) -> bytes:
        found = pread(fd, num_bytes, offset)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(os, "pread", counting)
    return sizes
