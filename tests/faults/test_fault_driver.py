"""A driver whose calls do not return: nobody waits for it, and everybody says so."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from engine.journal.events import DeviceSampled
from engine.journal.jsonl import read_events
from engine.queue import queue_file
from engine.runs.run_dir import RunDir, list_runs
from engine.runs.run_options import RunOptions
from engine.shared.device_names import NO_ANSWER
from tests.nvml_stub import compile_stub
from tests.terminal import Terminal
from tests.unit.test_sampling import CALLS
from tests.waiting import PATIENCE_S, wait_for

SCRIPT = """
import json, os, sys, time
from engine.shared import device_reader
from engine.shared.device_reader import DeviceReader

answers = os.environ["STUB_NVML"]
def tell(text):
    open(answers + ".new", "w").write(text)
    os.replace(answers + ".new", answers)
def read(reader):
    began = time.monotonic()
    gpus, why = reader.sample()
    print(json.dumps([[gpu.memory_used_bytes for gpu in gpus], why, time.monotonic() - began]), flush=True)
"""


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_stub(tmp_path_factory.mktemp("nvml"))


def environment(stub: Path, answers: str = "hang nvmlInitWithFlags\n") -> dict[str, str]:
    (stub / "answers").write_text(answers)
    return {"LD_LIBRARY_PATH": str(stub), "STUB_NVML": str(stub / "answers")}


def run_script(stub: Path, script: str, answers: str) -> list[tuple[list[int], str, float]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + script],
        env=os.environ | environment(stub, answers),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("function", ["nvmlInitWithFlags", "nvmlDeviceGetMemoryInfo", "nvmlShutdown"])
def test_a_call_into_the_driver_that_does_not_return_keeps_nobody(stub: Path, function: str) -> None:
    """The process ends too, though the reader is not closed."""
    script = """
device_reader._PATIENCE_S = 0
reader = DeviceReader(0.3)
read(reader)
read(reader)
print(json.dumps([[reader._process.pid], "", 0.0]))
"""
    first, second, (pids, _, _) = run_script(stub, script, f"hang {function}\n")
    if function == "nvmlShutdown":
        assert second[1] == ""
    else:
        assert first[0] == second[0] == []
        assert second[1].startswith(f"{NO_ANSWER}, since ")
        assert second[2] < 0.25  # not waited for again
    assert not psutil.pid_exists(pids[0])


def test_whatever_is_asked_of_the_driver_may_hang(stub: Path) -> None:
    script = f"""
device_reader._PATIENCE_S = 0
for call in {CALLS}:
    tell("mig 0 1\\nhang " + call + "\\n")
    with DeviceReader(0.3) as reader:
        read(reader)
"""
    found = run_script(stub, script, "")
    assert [(call, gpus, why[: len(NO_ANSWER)]) for call, (gpus, why, _) in zip(CALLS, found, strict=True)] == [
        (call, [], NO_ANSWER) for call in CALLS
    ]


def test_errors_and_odd_answers_of_the_driver_are_seen_as_readings_that_are_missing(
    cifartui: Callable[..., subprocess.CompletedProcess[str]], terminals: Callable[..., Terminal], stub: Path
) -> None:
    failing = ("Temperature", "PowerUsage", "MigMode", "ComputeRunningProcesses")
    answers = "".join(f"fail nvmlDeviceGet{name} 0 999\n" for name in failing) + "mig 0 1\nodd 1 1\n"
    variables = environment(stub, answers)
    done = cifartui("gpus", **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Pretended GPU A" in done.stdout
    assert "GPU 1" in done.stdout
    assert "429496" not in done.stdout  # the largest number of 32 bits
    found = json.loads(cifartui("gpus", "--json", **variables).stdout)["gpus"]
    assert found[0]["missing"]["temperature_c"] == "NVML says: Unknown Error"
    assert found[0]["utilization"] == 0.87
    checks = {line.split()[1]: line for line in cifartui("doctor", **variables).stdout.splitlines()}
    assert checks["gpu"].startswith("ok       gpu       Pretended GPU A, 8.0 GB; GPU 1, ")
    terminal = terminals(**variables)
    terminal.shows("Pretended GPU A")
    terminal.process.send("q")
    wait_for(lambda: terminal.text() is not None and not terminal.process.isalive(), "the end", patience_s=10)


@pytest.mark.parametrize("awaited", ["", "reader._process.wait()"], ids=["dying", "dead"])
def test_a_driver_that_answers_again_is_read_again(stub: Path, awaited: str) -> None:
    script = f"""
device_reader._PATIENCE_S = 0
with DeviceReader(20.0) as reader:
    read(reader)
    reader._wait_s = 0.2
    tell("used 0 5\\nhang nvmlDeviceGetMemoryInfo\\n")
    read(reader)
    tell("used 0 7\\n")
    while not reader.sample()[0]:
        time.sleep(0.02)
    reader._wait_s = 20.0
    read(reader)
    os.kill(reader._process.pid, 9)
    {awaited}
    read(reader)
    read(reader)
"""
    first, hung, again, dead, anew = run_script(stub, script, "used 0 3\n")
    assert (first[0], hung[0], again[0], dead[0], anew[0]) == ([3, 0], [], [7, 0], [], [7, 0])
    assert hung[1].startswith(NO_ANSWER)
    assert "is started again" in dead[1]


def test_a_machine_without_a_driver_starts_no_process_for_it() -> None:
    from engine.shared.device_reader import DeviceReader

    with DeviceReader() as reader:
        gpus, why = reader.sample()
        assert gpus or why
        if "no NVIDIA driver library" in why:
            assert reader._process is None


def test_home_shows_a_driver_that_hangs_and_can_be_left(
    terminals: Callable[..., Terminal], stub: Path, runs_dir: Path
) -> None:
    terminal = terminals(**environment(stub))
    terminal.shows("The NVIDIA driver does not answer, since ")
    terminal.process.send("q")
    wait_for(lambda: terminal.text() is not None and not terminal.process.isalive(), "the end", patience_s=10)


def test_gpus_and_doctor_end_with_a_sentence_about_a_driver_that_hangs(
    cifartui: Callable[..., subprocess.CompletedProcess[str]], stub: Path
) -> None:
    done = cifartui("gpus", **environment(stub))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The NVIDIA driver does not answer, since ")
    checks = {line.split()[1]: line for line in cifartui("doctor", **environment(stub)).stdout.splitlines()}
    assert checks["gpu"].startswith("problem  gpu       the NVIDIA driver does not answer, since ")
    assert "disk" in checks


def test_a_worker_sends_heartbeats_beside_a_driver_that_hangs_and_ends(
    cifartui: Callable[..., subprocess.CompletedProcess[str]], runs_dir: Path, stub: Path
) -> None:
    started = cifartui(
        "train", "demo", "--detach", "--device", "cpu", "--set", "data.train_limit=1280", "--epochs", "1000",
        **environment(stub),
    )  # fmt: skip
    assert started.returncode == 0, started.stderr
    (run,) = list_runs(runs_dir)

    def beats() -> list[DeviceSampled]:
        return [event for event in read_events(run.events) if isinstance(event, DeviceSampled)]

    wait_for(lambda: len(beats()) >= 5, "heartbeats", patience_s=PATIENCE_S)
    assert beats()[-1].gpus_missing.startswith(f"{NO_ANSWER}, since ")
    times = [beat.time for beat in beats()]
    assert max(after - before for before, after in pairwise(times)) < 10
    assert cifartui("abort", run.id).returncode == 0
    wait_for(lambda: run.worker_lives() is False, "the end of the worker")


def test_the_queue_goes_on_beside_a_driver_that_hangs(
    runs_dir: Path, stub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(stub).items():
        monkeypatch.setenv(name, value)
    options = RunOptions(overrides=("data.train_limit=320", "train.epochs=1"), device="cpu")
    queue_file.add(runs_dir, ["demo"], options)

    def finished() -> RunDir | None:
        return next((run for run in list_runs(runs_dir) if run.read_state().is_finished), None)

    wait_for(finished, "the run", patience_s=PATIENCE_S)
    wait_for(lambda: not queue_file.runner_lives(runs_dir), "the end of the runner")


def test_the_choice_of_a_gpu_goes_on_beside_a_driver_that_hangs(stub: Path) -> None:
    script = """
import torch
from engine.training import device
torch.cuda.device_count = lambda: 2
torch.cuda.is_available = lambda: True
os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
began = time.monotonic()
print(json.dumps([[], str(device.choose_device("auto")), time.monotonic() - began]))
"""
    ((_, chosen, seconds),) = run_script(stub, script, "hang nvmlInitWithFlags\n")
    assert chosen == "cuda:0"
    assert seconds < 30


def test_what_is_said_of_a_driver_that_has_just_been_asked(stub: Path) -> None:
    script = """
clock = [100.0]
reader = DeviceReader(0.0, now=lambda: 1e9, steady=lambda: clock[0])
read(reader)
clock[0] += 6
read(reader)
"""
    first, second = run_script(stub, script, "hang nvmlInitWithFlags\n")
    assert first[1] == "the NVIDIA driver has not answered yet"
    since = time.strftime("%H:%M:%S", time.localtime(1e9))
    assert second[1] == f"the NVIDIA driver does not answer, since {since}"
