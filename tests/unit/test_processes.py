"""No test leaves a process running or sees what is the caller's: tests of the fixtures that hold this."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import processes

ROOT = Path(__file__).parents[2]
TESTS = """
import os
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def grace_s():
    return 0.0


def test_leaves_a_child():
    subprocess.Popen(["sleep", "600"])


def test_leaves_a_grandchild_in_a_session_of_its_own():
    subprocess.run(["sh", "-c", "sleep 600 &"], start_new_session=True, check=True, stdout=subprocess.DEVNULL)


def test_sees_nothing_of_the_callers():
    assert "CIFARTUI_DATA" not in os.environ
    assert "CIFARTUI_RUNS" not in os.environ
    assert "XDG_STATE_HOME" not in os.environ
    assert Path.home() != Path("/callers/home")


@pytest.mark.real_data
def test_marked_it_sees_the_callers_data(cifar100_dir):
    assert "CIFARTUI_DATA" not in os.environ
    assert (cifar100_dir / "is the caller's").exists()


def test_not_marked_it_does_not(cifar100_dir):
    pass
"""


def test_a_process_that_outlives_its_parent_is_found_and_ended() -> None:
    before = set(psutil.pids())
    shell = ["sh", "-c", "sleep 600 >/dev/null & echo $!"]
    pid = int(subprocess.check_output(shell, start_new_session=True, text=True))
    found = processes.left_running(before, grace_s=0)
    assert [process.pid for process in found] == [pid]
    assert processes.describe(found[0]) == f"{pid}: sleep 600"
    processes.end(before)
    assert processes.left_running(before, grace_s=0) == []


def test_what_ends_by_itself_is_not_left_running() -> None:
    before = set(psutil.pids())
    with subprocess.Popen(["sleep", "0.1"]) as process:
        assert processes.left_running(before, grace_s=20) == []
    assert process.returncode == 0


@pytest.mark.slow
def test_tests_that_leave_processes_fail_and_callers_things_are_hidden(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    data = tmp_path / "data"
    data.mkdir()
    (data / "cifar-100-python.tar.gz").touch()
    (data / "is the caller's").touch()
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = real_data\n")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    callers = {"CIFARTUI_DATA": str(data), "CIFARTUI_RUNS": "/a", "XDG_STATE_HOME": "/b", "HOME": "/callers/home"}
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-rpE", "--tb=line"]
    callers["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        command, cwd=tmp_path, env={**variables, **callers}, capture_output=True, text=True, check=False
    )
    told = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("PASSED", "ERROR test_it"))]
    assert told == [
        "PASSED test_it.py::test_leaves_a_child",  # itself: it is its end that fails
        "PASSED test_it.py::test_leaves_a_grandchild_in_a_session_of_its_own",
        "PASSED test_it.py::test_sees_nothing_of_the_callers",
        "PASSED test_it.py::test_marked_it_sees_the_callers_data",
        "ERROR test_it.py::test_leaves_a_child",
        "ERROR test_it.py::test_leaves_a_grandchild_in_a_session_of_its_own",
        "ERROR test_it.py::test_not_marked_it_does_not",
    ], done.stdout + done.stderr
