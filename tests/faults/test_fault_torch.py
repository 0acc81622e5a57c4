"""GPUs that the driver shows and torch cannot use, and a torch that cannot be imported."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.journal.events import Alerted, DeviceSampled, GpuSample, HostSample, RunStarted
from engine.journal.jsonl import EventWriter, read_events
from engine.journal.peaks import PeakMemory, peaks_with
from engine.journal.state import RunState
from engine.runs import run_dir, start
from engine.runs.run_dir import RunDir, list_runs
from engine.training import device as devices
from engine.training import worker
from engine.training.telemetry import Telemetry
from presets import catalog
from tests.nvml_stub import compile_stub
from tests.terminal import Terminal
from tests.waiting import wait_for
from tui.data.summary import torch_gpus_here
from tui.text.device_text import gpus_now, memory_panel

HOST = HostSample(memory_used_bytes=10**9, memory_total_bytes=10**10, process_rss_bytes=10**8, cpu_utilization=0.5)


def gpu(index: int, process: int | None = None) -> GpuSample:
    return GpuSample(
        index=index, name=f"Card {index}", memory_used_bytes=7 * 10**9, memory_total_bytes=8 * 10**9,
        process_memory_bytes=process, utilization=0.9, temperature_c=60.0, power_w=200.0,
    )  # fmt: skip


def started(device: str, num_gpus: int | None = None) -> RunStarted:
    return RunStarted(
        pid=1,
        host="h",
        device=device,
        device_name="CPU",
        precision="fp32",
        num_threads=2,
        versions={},
        num_gpus=num_gpus,
    )


def sample(*gpus: GpuSample) -> DeviceSampled:
    return DeviceSampled(host=HOST, gpus=gpus, gpus_missing="")


def alerts_of(telemetry: Telemetry, *gpus: GpuSample) -> list[Alerted]:
    """Return the alerts about a machine with these GPUs."""
    return telemetry._alerts(sample(*gpus), gpus)


def test_the_memory_of_others_on_a_gpu_is_not_shown_as_that_of_a_run_on_the_cpu() -> None:
    state = RunState()
    state.device, state.started = sample(gpu(0), gpu(1)), started("cpu")
    text = memory_panel(state, 100, 4).plain
    assert "Card" not in text.partition("\n")[0]
    assert text.startswith("on the CPU: host memory")
    assert peaks_with(PeakMemory(), sample(gpu(0), gpu(1)), state.started).gpu_bytes is None
    state.started = started("cuda:1")
    assert memory_panel(state, 100, 4).plain.startswith("1 Card 1")
    assert peaks_with(PeakMemory(), sample(gpu(0), gpu(1, 5)), state.started).gpu_bytes == 7 * 10**9


@pytest.mark.parametrize(
    ("torch_gpus", "said"),
    [
        (0, "Training will use the CPU: torch could use no GPU in the last run here."),
        (None, "Whether torch can use them is not known before a first run here."),
        (2, "0 Card 0"),
    ],
)
def test_home_says_whether_torch_can_use_the_gpus_as_the_last_run_found_it(torch_gpus: int | None, said: str) -> None:
    text = gpus_now([gpu(0), gpu(1)], "", 4, 100, 4, torch_gpus).plain
    assert text.startswith(said)
    assert "1 Card 1" in text


def test_what_torch_saw_is_taken_from_the_newest_run_of_this_host_that_tells(tmp_path: Path) -> None:
    from tui.data.summaries import summarise

    for name, device, num_gpus in (("a", "cuda:0", None), ("b", "cpu", 0), ("c", "cpu", None)):
        run = run_dir.create(tmp_path, "demo", name, preset=catalog.load("demo"), seed=0, device="auto")
        journal = EventWriter(run.events)
        journal.write(started(device, num_gpus))
        journal.close()
    runs = {run.id[-1]: summarise(run) for run in list_runs(tmp_path)}
    assert {name: run.torch_gpus for name, run in runs.items()} == {"a": 1, "b": 0, "c": None}
    assert torch_gpus_here([runs["c"], runs["b"], runs["a"]], "h") == 0
    assert torch_gpus_here([runs["c"], runs["a"]], "h") == 1
    assert torch_gpus_here([runs["c"]], "h") is None
    assert torch_gpus_here([runs["b"]], "another") is None


@pytest.mark.parametrize(
    ("asked", "cuda", "severity", "said"),
    [
        ("cpu", None, "notice", "--device cpu was asked for"),
        ("auto", None, "warning", "is a build without CUDA"),
        ("auto", "12.4", "warning", "built for CUDA 12.4, cannot use them (The NVIDIA driver is too old)"),
    ],
)
def test_gpus_that_are_not_used_are_told_once_with_the_reason_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, cuda: str | None, severity: str, said: str
) -> None:
    def init() -> None:
        raise RuntimeError("The NVIDIA driver is too old.\nUpdate it.")

    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("engine.training.telemetry.shutil.disk_usage", lambda _path: (_ for _ in ()).throw(OSError))
    telemetry = Telemetry(EventWriter(tmp_path / "events.jsonl"), os.getpid(), tmp_path)
    telemetry.unused = devices.why_cpu(asked)
    assert alerts_of(telemetry) == []
    (alert,) = alerts_of(telemetry, gpu(0), gpu(1))
    assert alert.text.startswith("The driver shows 2 GPUs (Card 0, Card 1), and training uses the CPU: ")
    assert said in alert.text
    assert (alert.severity, bool(alert.advice)) == (severity, True)
    assert alerts_of(telemetry, gpu(0), gpu(1)) == []


def test_gpus_that_a_variable_hides_are_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    telemetry = Telemetry(EventWriter(tmp_path / "events.jsonl"), os.getpid(), tmp_path)
    telemetry.unused = devices.why_cpu("auto")
    assert [alert for alert in alerts_of(telemetry, gpu(0)) if alert.kind == "unused-gpus"] == []
    assert devices.num_gpus_of("auto") is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use the GPUs of this machine")
def test_a_run_beside_gpus_that_torch_cannot_use_says_so_and_home_does(
    cifartui: Callable[..., subprocess.CompletedProcess[str]],
    terminals: Callable[..., Terminal],
    runs_dir: Path,
    tmp_path: Path,
) -> None:
    stub = compile_stub(tmp_path)
    environment = {"LD_LIBRARY_PATH": str(stub), "STUB_NVML": str(stub / "answers")}
    done = cifartui("train", "demo", "--detach", "--set", "data.train_limit=1280", "--epochs", "1000", **environment)
    assert done.returncode == 0, done.stderr
    (run,) = list_runs(runs_dir)

    def told() -> list[Alerted]:
        events = read_events(run.events)
        return [event for event in events if isinstance(event, Alerted) and event.kind == "unused-gpus"]

    wait_for(told, "the alert")
    assert cifartui("abort", run.id).returncode == 0
    wait_for(lambda: not run.worker_lives(), "the end of the worker")
    (alert,) = told()
    assert "The driver shows 2 GPUs (Pretended GPU A, Pretended GPU B), and training uses the CPU: torch" in alert.text
    terminals(**environment).shows("Training will use the CPU: torch could use no GPU")


@pytest.mark.parametrize("num_devices", [1, 2])
def test_a_worker_where_torch_cannot_be_imported_says_so_as_its_last_word(
    runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_devices: int
) -> None:
    package = tmp_path / "broken/torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    run: RunDir = run_dir.create(
        runs_dir, "demo", preset=catalog.load("demo"), seed=0, device="cpu", devices=num_devices
    )
    start.start_worker(run)
    finished = wait_for(lambda: run.read_state().finished, "its last word")
    assert finished.outcome == "failed"
    assert finished.reason.startswith(  # with several devices the agent says how to go on
        "torch cannot be imported (libcudart.so.12: cannot open shared object file); reinstall it for this Python: "
        "pip install torch torchvision"
    )
    wait_for(lambda: not run.worker_lives(), "its end")


def test_another_error_before_torch_is_imported_is_not_called_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    told = worker.explain(OSError("the disk does not answer"))
    assert told == "OSError: the disk does not answer (the traceback is in worker.log)"
