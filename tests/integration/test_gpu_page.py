"""The page of `make gpu`: what needs no GPU is checked with the CPU, and the rest is left out with its reason."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks import gpu, gpu_checks, gpu_programs
from benchmarks.gpu_checks import Asked, LeftOut
from engine.training.worker import explain
from tests.waiting import PATIENCE_S

CPU = torch.device("cpu")
WITHOUT_GPU = {
    "steps that wait for nothing", "recorded steps", "memory that runs out", "checkpoint to the CPU and back",
    "kernels of a step",
}  # fmt: skip
LEFT_OUT = {
    "tests marked gpu": "they need a CUDA GPU",
    "compiled steps": "tests/unit/test_step.py",
    "memory estimate": "only CUDA's allocator",
    "several GPUs": "tests/integration/test_several_devices.py",
    "doctor --benchmark": "tests/integration/test_benchmark.py",
    "time to accuracy: basenet": "longer than ten minutes",
    "time to accuracy: recipes/vgg-custom-fast": "longer than ten minutes",
}


@pytest.mark.parametrize("name", sorted(WITHOUT_GPU))
def test_what_needs_no_gpu_is_checked_with_the_cpu(name: str) -> None:
    row = gpu.check(name, "cpu", PATIENCE_S, is_short=True)
    assert (row.status, row.name) == ("ok", name), row.text
    assert row.text


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_what_is_left_out_says_why(name: str) -> None:
    row = gpu.check(name, "cpu", PATIENCE_S, is_short=True)
    assert row.status == "left out"
    assert LEFT_OUT[name] in row.text


def test_every_row_is_one_of_these() -> None:
    assert {*WITHOUT_GPU, *LEFT_OUT, "dashboard"} == gpu.CHECKS.keys()


def test_the_dashboard_shows_the_device_and_the_page_is_written(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--short", "--output", str(page)]
    rows = ["--row", "dashboard", "--row", "memory estimate"]
    done = subprocess.run([*command, *rows], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text(encoding="utf-8")
    assert text in done.stdout
    assert text.startswith("# cifartui without a GPU (cpu)")
    assert "| dashboard | ok |" in text
    assert "## dashboard: ok" in text
    assert "| memory estimate | left out |" in text
    assert f"- torch: {torch.__version__}" in text


def test_a_check_that_fails_is_an_error_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_asked: Asked) -> str:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def leave_out(_asked: Asked) -> str:
        raise LeftOut("no reason")

    monkeypatch.setattr(gpu, "CHECKS", {"one": fail, "two": leave_out, "three": lambda _asked: "fine"})
    rows = [gpu.check(name, "cpu", PATIENCE_S, is_short=True) for name in ("one", "two", "three")]
    assert [row.status for row in rows] == ["error", "left out", "ok"]
    assert "| one | error | 0 | RuntimeError: CUDA error: an illegal memory access was encountered |" in gpu.page(
        rows, CPU
    )
    assert 'raise RuntimeError("CUDA error: an illegal memory access was encountered")' in gpu.page(rows, CPU)


def test_a_host_that_would_wait_is_an_error() -> None:
    from benchmarks.gpu_checks import nothing_waits

    with pytest.raises(RuntimeError, match="would wait"), nothing_waits(CPU):
        torch.ones(1).item()


def test_a_run_that_fails_on_cuda_says_what_to_try_and_where_the_page_comes_from() -> None:
    said = explain(RuntimeError("CUDA error: an illegal memory access was encountered\nand a long story"))
    for words in ("illegal memory access", "train.cuda_graphs=false", "train.compile=off", "make gpu"):
        assert words in said
    assert "make gpu" not in explain(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_row_that_hangs_ends_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeping = "import subprocess, time; subprocess.Popen(['sleep', '600'], start_new_session=True); time.sleep(600)"
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{sleeping}"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    before = set(psutil.Process().children(recursive=True))
    row = gpu._in_process("dashboard", "cpu", True, gpu._Budget(time.monotonic() + 60), 3.0)
    assert (row.status, row.text) == ("error", "did not end within 3 s")
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_benchmark_that_takes_too_long_tells_what_it_has_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho basenet 1,234\ntrap 'exit 130' INT\nwhile :; do sleep 0.1; done\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    told = gpu_programs.benchmark(Asked(CPU, False, tmp_path, gpu_programs._TOLD_WITHIN_S + 2.0))
    assert "basenet 1,234" in told
    assert "Ended after 2 s: what is missing was not measured." in told


@pytest.mark.parametrize(("default", "steps"), [("bf16", ("bf16", "fp32")), ("fp16", ("fp32", "bf16"))])
def test_steps_are_taken_in_the_precision_that_is_trained_in_by_default(
    monkeypatch: pytest.MonkeyPatch, default: str, steps: tuple[str, str]
) -> None:
    monkeypatch.setattr(gpu_checks, "choose_precision", lambda *_: default)
    assert gpu_checks._step_precisions(torch.device("cuda")) == steps


def test_recorded_losses_that_are_no_numbers_are_as_far_away_as_can_be() -> None:
    assert gpu_checks._furthest([1.0, 2.0], [1.0, 2.1]) == pytest.approx(0.05)
    assert gpu_checks._furthest([1.0, 2.0], [float("nan"), 2.0]) == float("inf")
