import time

import pytest
import torch

from engine.training import step_timer
from engine.training.step_timer import StepTimer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the stopwatch sees; the test moves it."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def step(watch: StepTimer, clock: list[float], data_s: float, compute_s: float) -> None:
    watch.step_begins()
    clock[0] += data_s
    watch.has_data()
    clock[0] += compute_s
    watch.step_ends()


def test_a_step_is_split_in_its_parts(clock: list[float]) -> None:
    watch = StepTimer(torch.device("cpu"))
    step(watch, clock, 1, 3)
    assert watch.take() is not None
    for _ in range(2):
        clock[0] += 0.5
        step(watch, clock, 1, 3)
    timing = watch.take()
    assert timing is not None
    assert (timing.data_s, timing.compute_s, timing.report_s) == (1, 3, 0.5)
    assert watch.longest_s == 4


def test_a_timing_comes_now_and_then(clock: list[float]) -> None:
    watch = StepTimer(torch.device("cpu"))
    taken = []
    for _ in range(100):
        step(watch, clock, 0.01, 0.09)
        taken.append(watch.take())
    assert sum(timing is not None for timing in taken) == pytest.approx(10 / step_timer._EVERY_S, abs=1)


def test_what_is_no_training_does_not_count(clock: list[float]) -> None:
    watch = StepTimer(torch.device("cpu"))
    step(watch, clock, 1, 1)
    clock[0] += 60  # paused
    watch.skip(60)
    step(watch, clock, 1, 1)
    watch.rest()
    clock[0] += 60  # validated
    step(watch, clock, 1, 1)
    timing = watch.take()
    assert timing is not None
    assert timing.report_s == 0


def test_how_long_a_step_has_been_under_way(clock: list[float]) -> None:
    watch = StepTimer(torch.device("cpu"))
    assert watch.running_s() is None
    watch.step_begins()
    clock[0] += 7
    assert watch.running_s() == 7
    watch.has_data()
    watch.step_ends()
    assert watch.running_s() is None


def test_where_it_cannot_be_had_there_is_none(clock: list[float]) -> None:
    watch = StepTimer(torch.device("meta"))
    step(watch, clock, 1, 100)
    assert watch.take() is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_a_step_is_timed_by_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_timer, "_EVERY_S", 0.0)
    watch = StepTimer(torch.device("cuda"))
    matrix = torch.randn(2048, 2048, device="cuda")
    watch.step_begins()
    watch.has_data()
    for _ in range(100):
        matrix = (matrix @ matrix).tanh()
    watch.step_ends()
    torch.cuda.synchronize()
    timing = watch.take()
    assert timing is not None
    assert timing.compute_s > timing.data_s > 0
