"""`cifartui doctor --benchmark`: the table, its JSON, and its ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from engine.shared.benchmark_lines import Limit, Speed, ceiling
from engine.training import benchmark as measuring
from presets.errors import CifartuiError
from tests.waiting import PATIENCE_S
from tui.cli.doctor import benchmark

SPEED = Speed(preset="demo", image_size=32, batch_size=64, precision="bf16", images_per_s=900.0, flops_per_image=2_000)
MATMULS = [
    Limit(what="matmul", precision="fp32", per_s=1e6),
    Limit(what="matmul", precision="bf16", per_s=4e6),
    Limit(what="memory", per_s=2e9),
]


def saying(*lines: str, then: str = "") -> Callable[..., "subprocess.Popen[bytes]"]:
    """Return what starts a stand-in for the measuring process, which prints lines."""
    code = f"import sys\nfor line in {lines!r}: print(line, flush=True)\n{then}"

    def start(_module: str, _arguments: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", code], **options)

    return start


def as_lines(*facts: object) -> tuple[str, ...]:
    import msgspec

    return tuple(msgspec.json.encode(fact).decode() for fact in facts)


def test_the_ceiling_is_of_the_same_precision() -> None:
    assert ceiling(SPEED, MATMULS) == 2_000
    assert ceiling(SPEED, MATMULS[:1]) is None


def test_the_ceiling_goes_by_what_is_quickest() -> None:
    convolutions = [
        Limit(what="convolution", precision="fp32", per_s=9e6),
        Limit(what="convolution", precision="bf16", per_s=6e6),
    ]
    assert ceiling(SPEED, [*MATMULS, *convolutions]) == 3_000


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark("cpu", as_json=False, start=saying(*as_lines(*MATMULS, SPEED)))
    table = capsys.readouterr().out.splitlines()
    assert table[1].split() == ["matrix", "products,", "bf16", "0.00", "TFLOP/s"]
    assert table[5].split() == ["demo", "32", "64", "bf16", "900", "2,000"]


def test_what_the_measuring_says_on_its_way_out_is_the_error() -> None:
    refusing = saying(then="print('cuda:7 is not there.', file=sys.stderr); sys.exit(2)")
    with pytest.raises(CifartuiError, match=r"^cuda:7 is not there\.$"):
        benchmark("cuda:7", as_json=True, start=refusing)
    with pytest.raises(CifartuiError, match=r"The benchmark failed .ZeroDivisionError"):
        benchmark("cpu", as_json=True, start=saying(then="1 / 0"))


def test_a_device_that_is_not_there() -> None:
    command = [sys.executable, "-m", "cifartui", "doctor", "--benchmark", "--device", "cuda:77"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2
    assert "cuda:77 cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_it_cleanly_and_takes_the_measuring_along() -> None:
    command = [sys.executable, "-m", "cifartui", "doctor", "--benchmark", "--device", "cpu"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("CPU (cpu, ")
        os.killpg(process.pid, signal.SIGINT)
        _, complaints = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert complaints == ""
    with pytest.raises(ProcessLookupError):  # nobody of the group is left
        os.killpg(process.pid, 0)


def test_the_real_thing_on_a_cpu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    presets = [(name, (*overrides, "train.batch_size=8")) for name, overrides in measuring._PRESETS["cpu"]]
    monkeypatch.setitem(measuring._PRESETS, "cpu", tuple(presets))
    monkeypatch.setitem(measuring._MATRIX_SIDE, "cpu", 128)
    monkeypatch.setitem(measuring._CONVOLUTION, "cpu", (4, 16))
    assert measuring.main(["--device", "cpu", "--seconds", "0.05"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    speeds = [line for line in lines if line["type"] == "Speed"]
    assert {line["preset"] for line in speeds} == {"basenet", "demo", "vgg-custom"}
    assert all(line["images_per_s"] > 0 and not line["trouble"] for line in speeds)
    assert all(line["per_s"] > 0 for line in lines if line["type"] == "Limit")
