"""How a device is prepared: which number format "auto" comes to, and what a CPU does with freed memory."""

import os
import platform
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from engine.runs.run_dir import RunInfo
from engine.training import device
from engine.training.device import choose_precision
from engine.training.muon import Muon
from engine.training.setup import choose_hardware
from presets import catalog

CPU = torch.device("cpu")


def never() -> int:
    raise AssertionError("nobody needs to know")


@pytest.mark.parametrize(
    ("preset", "overrides", "precision"),
    [("basenet", (), "fp32"), ("demo", (), "fp32"), ("vgg-custom", ("data.image_size=32",), "bf16")],
)
def test_a_cpu_with_bf16_uses_it_for_networks_that_gain(
    preset: str, overrides: tuple[str, ...], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = catalog.load(preset, overrides)
    info = RunInfo(id="r", preset_name=preset, preset=loaded, seed=0, device="cpu", created=0.0, host="")
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: True)
    assert choose_hardware(info) == (CPU, precision)
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: False)
    assert choose_hardware(info) == (CPU, "fp32")


def test_what_is_asked_for_is_taken() -> None:
    assert choose_precision("bf16", CPU, never) == "bf16"
    assert choose_precision("fp32", CPU, never) == "fp32"


def test_a_processor_says_what_its_flags_say() -> None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
        flags = next(line for line in lines if line.startswith("flags")).split()
    except (OSError, StopIteration):
        pytest.skip("there is no /proc/cpuinfo with flags here")
    assert device.cpu_has_bf16() == bool({"avx512_bf16", "amx_tile"} & set(flags))


@pytest.mark.parametrize(("capability", "dtype"), [(7, torch.float32), (8, torch.bfloat16)])
def test_muon_iterates_in_bf16_on_gpus_that_have_it_and_not_where_they_emulate_it(
    capability: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "mm" in str(func):
                multiplied.update(each.dtype for each in args if isinstance(each, torch.Tensor))
            return func(*args, **(kwargs or {}))

    multiplied: set[torch.dtype] = set()
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake:
        filters = torch.nn.Parameter(torch.empty(8, 4, 3, 3, device="cuda"))
        filters.grad = torch.empty_like(filters)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or capability >= 8
    )
    muon = Muon([{"params": [filters], "orthogonal": True}])
    monkeypatch.undo()
    with fake, Products():
        muon.step()
    assert multiplied == {dtype}


def test_memory_is_asked_of_the_device_that_trains_whatever_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    for name, num_bytes in (("memory_allocated", 1), ("memory_reserved", 2), ("max_memory_allocated", 3)):
        monkeypatch.setattr(torch.cuda, name, lambda at, answer=num_bytes: asked.append(at) or answer)
    second = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _device: None)
    memory = device.torch_memory(second)
    assert (memory.allocated_bytes, memory.reserved_bytes, memory.peak_bytes) == (1, 2, 3)
    assert asked == [second] * 3


@pytest.mark.parametrize(("set_to", "order"), [(None, "PCI_BUS_ID"), ("FASTEST_FIRST", "FASTEST_FIRST")])
def test_gpus_are_counted_as_nvidia_smi_does_unless_somebody_wants_otherwise(set_to: str | None, order: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_DEVICE_ORDER"}
    if set_to is not None:
        environment["CUDA_DEVICE_ORDER"] = set_to
    code = "import sys, engine.training, os; assert 'torch' not in sys.modules; print(os.environ['CUDA_DEVICE_ORDER'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == order


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc's malloc")
def test_glibc_takes_what_it_is_told_of_freed_memory() -> None:
    assert device.keep_freed_memory()
