"""Whether a training step fits: the right device, the right sentence."""

import pytest
from msgspec.structs import replace

from engine.journal.events import GpuSample
from engine.shared.step_memory import StepMemory
from presets import catalog
from tui.data import memory_fit, network_facts
from tui.data.environment import GpuReadings
from tui.data.memory_fit import FreeMemory, free_memory, verdict

GB = 10**9


def gpu(index: int, used_gb: int | None, total_gb: int = 80) -> GpuSample:
    used = None if used_gb is None else used_gb * GB
    return GpuSample(index=index, name="GPU", memory_used_bytes=used, memory_total_bytes=total_gb * GB)


TWO = GpuReadings((gpu(0, 57), gpu(1, 10)), "", 8, 100 * GB)
NONE = GpuReadings((), "no driver", 8, 12 * GB)


@pytest.mark.parametrize(
    ("device", "readings", "visible", "expected"),
    [
        ("auto", TWO, None, FreeMemory(1, 70 * GB)),
        ("auto", replace(TWO, taken=frozenset({"cuda:1"})), None, FreeMemory(0, 23 * GB)),
        ("auto", replace(TWO, taken=frozenset({"cuda:1"})), "1", FreeMemory(1, 70 * GB)),
        ("cuda", TWO, None, FreeMemory(0, 23 * GB)),
        ("cuda:1", TWO, None, FreeMemory(1, 70 * GB)),
        ("cuda:2", TWO, None, None),
        ("auto", TWO, "1", FreeMemory(1, 70 * GB)),
        ("auto", TWO, "0", FreeMemory(0, 23 * GB)),
        ("cuda:1", TWO, "1,0", FreeMemory(0, 23 * GB)),
        ("cuda", TWO, "7", None),
        ("auto", TWO, "", FreeMemory(None, 100 * GB)),
        ("auto", TWO, "GPU-8a3f", None),
        ("cpu", TWO, None, FreeMemory(None, 100 * GB)),
        ("auto", NONE, None, FreeMemory(None, 12 * GB)),
        ("mps", NONE, None, FreeMemory(None, 12 * GB)),
        ("auto", GpuReadings((gpu(0, None),), "", 8), None, None),
        ("auto", None, None, None),
    ],
)
def test_the_device_that_a_run_would_get(
    device: str, readings: GpuReadings | None, visible: str | None, expected: FreeMemory | None
) -> None:
    assert free_memory(device, readings, visible) == expected


def test_a_run_on_the_cpu_of_a_gpu_machine_is_no_gpu_run() -> None:
    assert memory_fit.is_on_gpu("auto", TWO, None)
    assert not memory_fit.is_on_gpu("cpu", TWO, None)
    assert not memory_fit.is_on_gpu("auto", TWO, "")
    assert not memory_fit.is_on_gpu("auto", NONE, None)


@pytest.mark.parametrize(
    ("needed_gb", "tone", "said"),
    [
        (41, "bad", "needs about 41 GB, 23 GB are free on GPU 0: lower train.batch_size"),
        (22, "warn", "needs about 22 GB, only 23 GB are free on GPU 0: it may run out; lower train.batch_size"),
        (2.5, "calm", "needs about 2.5 GB; 23 GB are free on GPU 0"),
    ],
)
def test_the_sentence_says_what_to_do_before_memory_runs_out(needed_gb: float, tone: str, said: str) -> None:
    assert verdict(int(needed_gb * GB), FreeMemory(0, 23 * GB)) == (said, tone)


def test_where_nothing_is_known_nothing_is_claimed() -> None:
    said, tone = verdict(GB, None, subject="demo")
    assert said == "demo needs about 1.0 GB; free memory is not known"
    assert tone == "calm"


def test_a_recording_keeps_the_memory_of_a_step_for_itself() -> None:
    parts = {"parameters": 10, "gradients": 8, "optimizer_state": 8, "activations": 100, "working": 20}
    found = StepMemory(**parts, evaluation=50)
    assert found.total == 10 + 8 + (8 + 100 + 20)
    assert found.recorded == 10 + 8 + 2 * (8 + 100 + 20) + 4 * 8 + 8  # an eager step beside it, and what is compared
    assert StepMemory(**parts, evaluation=500).recorded == 10 + 8 + (8 + 100 + 20) + 500


@pytest.mark.parametrize(("name", "is_recorded"), [("basenet", True), ("vgg-custom", False)])
def test_a_run_on_a_gpu_needs_it_where_steps_are_recorded(name: str, is_recorded: bool) -> None:
    preset = catalog.load(name)
    found = network_facts.shipped()[network_facts.key_of(preset, 100)]
    half, beside = found.memory_half, memory_fit._BESIDE_BYTES
    expected = half.recorded if is_recorded else half.total
    assert memory_fit.needed_bytes(preset, found, on_gpu=True) == expected + beside
    assert memory_fit.needed_bytes(preset, found, on_gpu=False) == found.memory.total + beside
    without = replace(preset, train=replace(preset.train, cuda_graphs=False))
    assert memory_fit.needed_bytes(without, found, on_gpu=True) == half.total + beside
