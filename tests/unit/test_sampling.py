"""engine.shared.sampling against the real pynvml, which loads a library of pretended GPUs compiled from nvml_stub.c.

Each scenario runs in a process of its own, because pynvml keeps the library that it loaded first.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]
import pytest

from engine.shared.sampling import HostReader
from tests.nvml_stub import compile_stub

GB = 10**9
Sample = dict[str, Any]

# Samples once for each text given on stdin, which becomes the stub's answers; PID in it stands for the process itself.
SCENARIO = """
import json, os, subprocess, sys
import msgspec
from engine.shared import sampling

steps, in_namespace, through_child = json.load(sys.stdin)
sampling._in_pid_namespace = lambda: in_namespace
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
pid = child.pid if through_child else os.getpid()
seen = []
with sampling.NvmlReader() as reader:
    for step in steps:
        if "STUB_NVML" in os.environ:
            open(os.environ["STUB_NVML"], "w").write(step.replace("PID", str(pid)))
        gpus, why = reader.sample()
        seen.append({"gpus": [{"missing": {}} | gpu for gpu in msgspec.to_builtins(gpus)], "why": why})
child.communicate(b"\\n")
print(json.dumps(seen))
"""


def run_scenario(library: Path, *steps: str, in_namespace: bool = False, through_child: bool = False) -> list[Sample]:
    environment = os.environ | {"LD_LIBRARY_PATH": str(library)}
    if (library / "answers").exists():
        environment["STUB_NVML"] = str(library / "answers")
    done = subprocess.run(
        [sys.executable, "-c", SCENARIO],
        input=json.dumps([steps, in_namespace, through_child]),
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    samples: list[Sample] = json.loads(done.stdout)
    return samples


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_stub(tmp_path_factory.mktemp("nvml"))


def test_reads_both_gpus_and_follows_their_memory(stub: Path) -> None:
    first, second = run_scenario(stub, "used 0 1000\nused 1 5\nprocess 0 PID 700\nprocess 0 1 200", "used 0 3000")
    assert first["why"] == ""
    assert first["gpus"] == [
        {
            "index": 0,
            "name": "Pretended GPU A",
            "uuid": "GPU-aa",
            "memory_used_bytes": 1000,
            "memory_total_bytes": 8 * GB,
            "process_memory_bytes": 700,
            "utilization": 0.87,
            "temperature_c": 61.0,
            "power_w": 250.5,
            "missing": {},
        },
        first["gpus"][0]
        | {
            "index": 1,
            "name": "Pretended GPU B",
            "uuid": "GPU-bb",
            "memory_used_bytes": 5,
            "process_memory_bytes": 0,
        },
    ]
    assert [gpu["memory_used_bytes"] for gpu in second["gpus"]] == [3000, 0]


@pytest.mark.parametrize(
    ("answers", "field", "reason"),
    [
        ("fail nvmlDeviceGetPowerUsage 1 3", "power_w", "not supported by this GPU"),
        ("mig 1 1\nfail nvmlDeviceGetUtilizationRates 1 3", "utilization", "not available in MIG mode"),
        ("mig 0 1\nfail nvmlDeviceGetUtilizationRates 1 3", "utilization", "not supported by this GPU"),
        ("fail nvmlDeviceGetComputeRunningProcesses 1 4", "process_memory_bytes", "no permission"),
        ("process 1 PID -1", "process_memory_bytes", "the driver does not tell memory by process"),
        ("fail nvmlDeviceGetTemperature 1 13", "temperature_c", "not offered by this NVIDIA driver"),
        ("fail nvmlDeviceGetTemperature 1 999", "temperature_c", "NVML says: Unknown Error"),
    ],
)
def test_a_reading_that_fails_is_missing_with_its_reason(stub: Path, answers: str, field: str, reason: str) -> None:
    [sample] = run_scenario(stub, answers)
    healthy, failing = sample["gpus"]
    assert failing["missing"] == {field: reason}
    assert field not in failing
    assert failing.keys() - {"migs"} | {field} == healthy.keys() - {"migs"}
    assert healthy["missing"] == {}


CALLS = sorted(
    set(re.findall(r'failure\("(nvmlDeviceGet\w+)"', (Path(__file__).parents[1] / "nvml_stub.c").read_text()))
)


def test_whatever_call_fails_with_whatever_code_the_other_gpu_is_read(stub: Path) -> None:
    """And of the same GPU all that does not need that call."""
    codes = [*range(1, 28), 999]
    asked = [(call, code) for call in CALLS for code in codes if call != "nvmlDeviceGetCount_v2"]
    found = run_scenario(stub, *(f"mig 1 1\nfail {call} 1 {code}" for call, code in asked))
    for (call, code), sample in zip(asked, found, strict=True):
        if code in {1, 9, 18}:  # NVML as a whole
            assert len(sample["gpus"]) == 2 or sample["why"], (call, code)
            continue
        healthy, failing = sample["gpus"]
        assert healthy["missing"] == {}
        assert len(failing["missing"]) <= (6 if call == "nvmlDeviceGetHandleByIndex_v2" else 2), (call, code)
        assert all(failing["missing"].values())


def test_readings_that_cannot_be_are_missing_and_cost_nothing_else(stub: Path) -> None:
    [sample] = run_scenario(stub, "odd 1 1\nmig 1 1\nprocess 1 PID 4611686018427387904")
    healthy, odd = sample["gpus"]
    assert healthy["missing"] == {}
    assert odd["name"] == "GPU 1"
    readings = {"memory_used_bytes", "memory_total_bytes", "utilization", "temperature_c", "power_w"}
    assert odd.keys() == {"index", "name", "missing"}
    assert odd["missing"].keys() == readings | {"process_memory_bytes"}
    assert all("which cannot be" in reason for reason in odd["missing"].values())


def test_a_gpu_in_mig_mode_has_its_parts_with_their_memory(stub: Path) -> None:
    [sample] = run_scenario(stub, "mig 1 1")
    assert sample["gpus"][1]["migs"] == [
        {"uuid": "MIG-1", "memory_used_bytes": 500, "memory_total_bytes": 2 * GB},
    ]
    assert "migs" not in sample["gpus"][0]


def test_a_gpu_lost_mid_run_keeps_its_row_and_the_other_goes_on(stub: Path) -> None:
    before, after = run_scenario(stub, "used 0 10\nused 1 20", "used 0 11\nfail * 1 15")
    lost = after["gpus"][1]
    readings = {"memory_used_bytes", "process_memory_bytes", "utilization", "temperature_c", "power_w"}
    assert lost == {
        "index": 1,
        "name": "Pretended GPU B",
        "uuid": "GPU-bb",
        "memory_total_bytes": 8 * GB,
        "missing": dict.fromkeys(readings, "GPU is lost"),
    }
    assert after["gpus"][0] == before["gpus"][0] | {"memory_used_bytes": 11}


def test_a_gpu_lost_before_the_first_sample_still_has_a_row_and_may_come_back(stub: Path) -> None:
    lost, back = run_scenario(stub, "fail nvmlDeviceGetHandleByIndex_v2 1 15", "")
    assert lost["gpus"][1]["name"] == "GPU 1"
    assert lost["gpus"][1]["missing"]["memory_total_bytes"] == "GPU is lost"
    assert "memory_total_bytes" not in lost["gpus"][1]
    assert back["gpus"][1]["name"] == "Pretended GPU B"
    assert back["gpus"][1]["missing"] == {}


def test_a_driver_that_goes_away_is_told_and_taken_up_again(stub: Path) -> None:
    before, gone, still_gone, back = run_scenario(stub, "used 0 10", "driver absent", "driver absent", "used 0 20")
    assert (gone["gpus"], gone["why"]) == ([], "the NVIDIA driver went away")
    assert (still_gone["gpus"], still_gone["why"]) == ([], "the NVIDIA driver is not loaded")
    assert back["why"] == ""
    assert back["gpus"][0] == before["gpus"][0] | {"memory_used_bytes": 20}


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ("driver absent", "the NVIDIA driver is not loaded"),
        ("fail nvmlInitWithFlags -1 4", "no permission"),
        ("fail nvmlInitWithFlags -1 18", "the NVIDIA driver was updated and the machine not yet restarted"),
        ("fail nvmlDeviceGetCount_v2 -1 999", "NVML says: Unknown Error"),
    ],
)
def test_nvml_that_does_not_open_gives_a_reason(stub: Path, answers: str, reason: str) -> None:
    assert run_scenario(stub, answers) == [{"gpus": [], "why": reason}]


def test_no_driver_library_gives_a_reason(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").touch()  # not a library, and in front of a real one, should there be one
    reason = "no NVIDIA driver library (libnvidia-ml.so.1) on this machine"
    assert run_scenario(tmp_path, "", "") == [{"gpus": [], "why": reason}] * 2


def test_memory_of_child_processes_counts_as_the_runs(stub: Path) -> None:
    [sample] = run_scenario(stub, "process 0 PID 300\nprocess 0 1 5000", through_child=True)
    assert sample["gpus"][0]["process_memory_bytes"] == 300


def test_in_a_container_an_unlisted_process_is_missing_and_a_listed_one_read(stub: Path) -> None:
    [sample] = run_scenario(stub, "process 0 PID 300\nprocess 1 999999 7", in_namespace=True)
    listed, unlisted = sample["gpus"]
    assert listed["process_memory_bytes"] == 300
    assert unlisted["missing"] == {"process_memory_bytes": "process ids are hidden in this container"}


def test_an_older_drivers_process_list_is_read(tmp_path: Path) -> None:
    [sample] = run_scenario(compile_stub(tmp_path, "-DOLD_DRIVER"), "process 0 PID 300")
    assert sample["gpus"][0]["process_memory_bytes"] == 300


def test_telemetry_never_imports_torch_and_the_module_loads_no_reader_before_it_is_used() -> None:
    code = """
import sys
import engine.shared.sampling
print(sorted({"pynvml", "psutil", "torch", "textual"} & sys.modules.keys()))
engine.shared.sampling.NvmlReader().sample()
engine.shared.sampling.HostReader().sample()
print(sorted({"pynvml", "psutil", "torch", "textual"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["[]", "['psutil', 'pynvml']"], done.stderr


def test_host_reader_gives_real_numbers() -> None:
    sample = HostReader().sample()
    assert 0 < sample.memory_used_bytes < sample.memory_total_bytes
    assert 5 * 2**20 < sample.process_rss_bytes < sample.memory_total_bytes
    assert sample.cpu_utilization is None


def test_cpu_utilization_is_that_since_the_sample_before(monkeypatch: pytest.MonkeyPatch) -> None:
    times = psutil.cpu_times()
    zero = dict.fromkeys(times._fields, 0.0)
    later = [zero, zero | {"user": 3.0, "guest": 3.0, "idle": 1.0}, zero | {"user": 3.0, "guest": 3.0, "idle": 3.0}]
    readings = iter(type(times)(**reading) for reading in [*later, later[-1]])
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(readings))
    reader = HostReader()
    assert [reader.sample().cpu_utilization for _ in range(4)] == [None, 0.75, 0.0, None]


def test_an_ended_process_has_no_memory() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert HostReader(child.pid).sample().process_rss_bytes == 0


@pytest.fixture
def group(tmp_path: Path) -> Callable[[str, str, int], Path]:
    def make(path: str, limit: str, current: int) -> Path:
        folder = tmp_path / path
        folder.mkdir()
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{current}\n")
        (folder / "memory.stat").write_text("anon 1\ninactive_file 300\nactive_file 5\n")
        return folder

    return make


def test_a_containers_memory_limit_is_the_total(group: Callable[[str, str, int], Path]) -> None:
    sample = HostReader(cgroup=group("job", "2000000", 1300)).sample()
    assert (sample.memory_used_bytes, sample.memory_total_bytes) == (1000, 2_000_000)


def test_the_tightest_limit_above_the_process_counts(group: Callable[[str, str, int], Path]) -> None:
    group("job", "2000000", 1300)
    group("job/step", "9000000", 800)
    sample = HostReader(cgroup=group("job/step/task", "max", 700)).sample()
    assert (sample.memory_used_bytes, sample.memory_total_bytes) == (1000, 2_000_000)


def test_without_a_limit_below_the_machine_its_memory_is_the_total(group: Callable[[str, str, int], Path]) -> None:
    assert HostReader(cgroup=group("a", "max", 1)).sample().memory_total_bytes == psutil.virtual_memory().total
    assert HostReader(cgroup=group("b", str(2**60), 1)).sample().memory_total_bytes == psutil.virtual_memory().total
