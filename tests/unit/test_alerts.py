"""When a run is given a word of warning, and above all when it is not."""

import math
import random
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from engine.journal import events
from engine.journal.events import Alerted, AnyEvent
from engine.training.alerts import (
    DISK_FREE_BYTES,
    PLATEAU_EPOCHS,
    SPIKE_EARLIEST,
    STALL_FIRST_S,
    STALL_S,
    LearningWatch,
    MachineWatch,
)

GB = 10**9


def stage(number: int = 0, epochs: int = 20) -> events.StageStarted:
    return events.StageStarted(
        stage=number, num_stages=2, name="s", first_epoch=1 + 20 * number, epochs=epochs, steps_per_epoch=100
    )


def steps(losses: Iterable[float], epoch: int = 1) -> list[AnyEvent]:
    return [
        events.StepsTrained(
            epoch=epoch, step=index, global_step=index, num_steps=1, num_images=32, loss=loss, top1=0.1, lr=0.1,
            images_per_s=1.0,
        )
        for index, loss in enumerate(losses)
    ]  # fmt: skip


def epoch(
    number: int, val_top1: float, *, train_top1: float = 0.3, val_loss: float = 2.0, train_loss: float = 2.0,
    stage: int = 0, partial: bool = False,
) -> events.EpochCompleted:  # fmt: skip
    return events.EpochCompleted(
        epoch=number, stage=stage, global_step=100 * number, train_loss=train_loss, train_top1=train_top1,
        val_loss=val_loss, val_top1=val_top1, lr=0.1, seconds=1.0, is_best=False, partial=partial,
    )  # fmt: skip


def said(told: Iterable[AnyEvent], watch: LearningWatch | None = None) -> list[str]:
    watch = watch or LearningWatch()
    return [alert.kind for event in told for alert in watch.see(event)]


def noisy(losses: Iterable[float], sigma: float, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [max(0.0, loss + draw.gauss(0, sigma)) for loss in losses]


def falling(first: float, last: float, number: int) -> list[float]:
    return [last + (first - last) * math.exp(-5 * index / number) for index in range(number)]


# --- curves that are healthy -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("sigma", [0.05, 0.4])  # a report of 500 images; of a single batch of eight
def test_the_first_epochs_of_basenet_alert_nothing(seed: int, sigma: float) -> None:
    losses = noisy(falling(4.6, 3.2, 600), sigma, seed)
    curve = [epoch(n, top1) for n, top1 in enumerate([0.07, 0.13, 0.15, 0.19, 0.21, 0.20, 0.23, 0.22, 0.24], 1)]
    assert said([stage(), *steps(losses), *curve]) == []


@pytest.mark.parametrize("seed", range(10))
def test_heavy_tails_near_the_end_alert_nothing(seed: int) -> None:
    draw = random.Random(seed)
    losses = [0.02 * math.exp(draw.gauss(0, 1)) for _ in range(2000)]
    assert said([stage(), *steps(losses)]) == []


def test_the_drop_of_a_step_schedule_alerts_nothing() -> None:
    losses = noisy([1.8] * 300 + [1.1] * 300 + [0.9] * 300, 0.05)
    top1 = [0.50, 0.52, 0.51, 0.52, 0.51, 0.52, 0.51, 0.52, 0.66, 0.67, 0.66, 0.67, 0.67, 0.70]
    assert said([stage(), *steps(losses), *(epoch(n, value) for n, value in enumerate(top1, 1))]) == []


def test_a_new_stage_with_harder_images_alerts_nothing() -> None:
    before = [stage(), *steps(noisy([1.0] * 300, 0.05)), *(epoch(n, 0.6, val_loss=1.4) for n in range(1, 9))]
    # A fresh optimizer without momentum: up at first, then down again, from a worse accuracy.
    losses = noisy([1.0 + 2.5 * index / SPIKE_EARLIEST for index in range(SPIKE_EARLIEST)] + falling(3.5, 2, 300), 0.05)
    after = [stage(1), *steps(losses), *(epoch(n, 0.4 + n / 100, val_loss=2.3, stage=1) for n in range(21, 30))]
    assert said([*before, *after]) == []


def test_a_gap_that_was_there_from_the_start_is_none_that_grows() -> None:
    curve = [epoch(n, 0.5 + n / 100, train_top1=0.7 + n / 100, val_loss=1.5) for n in range(1, 15)]
    assert said([stage(), *curve]) == []


def test_one_hard_batch_is_no_spike() -> None:
    assert said([stage(), *steps([2.0] * 100 + [9.0, 9.0] + [2.0] * 100)]) == []


# --- curves that are not ---------------------------------------------------------------------------


def test_a_spike_is_said_once_and_again_when_it_comes_again() -> None:
    losses = [2.0] * 100 + [4.5] * 50 + [2.0] * 100
    assert said([stage(), *steps(noisy(losses, 0.05))]) == ["loss-spike"]
    assert said([stage(), *steps(noisy(losses * 2, 0.05))]) == ["loss-spike"] * 2


def test_a_loss_that_stays_up_is_said_once() -> None:
    assert said([stage(), *steps(noisy([2.0] * 100 + [4.6] * 1000, 0.05))]) == ["loss-spike"]


def test_a_loss_that_is_no_number_is_left_to_the_loop() -> None:
    assert said([stage(), *steps([2.0] * 100 + [math.nan, math.inf] * 5)]) == []


def test_a_plateau_goes_by_the_accuracy_that_decides() -> None:
    rising = [replace(epoch(n, 0.83), val_balanced=0.5 + n / 100, best_by="val_balanced") for n in range(1, 21)]
    assert said([stage(), *rising]) == []
    falling_back = [replace(each, val_top1=0.5 + n / 100, val_balanced=0.6) for n, each in enumerate(rising)]
    watch = LearningWatch()
    (alert,) = [alert for told in [stage(), *falling_back] for alert in watch.see(told)]
    assert alert.text == "No better balanced validation accuracy for 10 epochs; that of epoch 1, 60.0 %, stands."


def test_a_plateau_is_said_once_and_again_after_a_better_epoch() -> None:
    flat = [epoch(1, 0.5), *(epoch(n, 0.4) for n in range(2, 2 + 3 * PLATEAU_EPOCHS))]
    assert said([stage(), *flat]) == ["plateau"]
    last = flat[-1].epoch
    again = [epoch(last + 1, 0.6), *(epoch(last + 1 + n, 0.5) for n in range(1, PLATEAU_EPOCHS + 1))]
    assert said([stage(), *flat, *again]) == ["plateau"] * 2


def test_a_long_run_has_more_patience() -> None:
    flat = [epoch(1, 0.5), *(epoch(n, 0.4) for n in range(2, 21))]
    assert said([stage(epochs=100), *flat]) == []
    assert said([stage(epochs=100), *flat, epoch(21, 0.4)]) == ["plateau"]


def test_overfitting_is_said_once() -> None:
    healthy = [
        epoch(n, 0.3 + n / 50, train_top1=0.3 + n / 50, val_loss=3 - n / 5, train_loss=3 - n / 5) for n in range(1, 6)
    ]
    worse = [
        epoch(n, 0.4 + n / 1000, train_top1=0.4 + n / 50, val_loss=1.5 + n / 10, train_loss=2 - n / 10)
        for n in range(6, 16)
    ]
    assert said([stage(), *healthy, *worse]) == ["overfitting"]


def test_a_resumed_run_does_not_repeat_what_was_said() -> None:
    watch = LearningWatch()
    flat = [epoch(1, 0.5), *(epoch(n, 0.4) for n in range(2, 2 + PLATEAU_EPOCHS))]
    assert said([stage(), *flat], watch) == ["plateau"]
    resumed = events.RunStarted(
        pid=1, host="h", device="cpu", device_name="CPU", precision="fp32", num_threads=1, versions={},
        global_step=flat[-1].global_step,
    )  # fmt: skip
    assert said([resumed, stage(), epoch(flat[-1].epoch + 1, 0.4)], watch) == []


# --- the machine -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"num_threads": 8}, "8 threads after 2 threads"),
        ({"versions": {"torch": "2.9"}}, "torch 2.9 after torch 2.8"),
        ({"device": "cuda:0", "device_name": "RTX", "num_threads": 8}, "RTX after CPU"),
    ],
)
def test_a_resume_elsewhere_is_said(change: dict[str, Any], expected: str | None) -> None:
    first = events.RunStarted(
        pid=1, host="h", device="cpu", device_name="CPU", precision="fp32", num_threads=2, versions={"torch": "2.8"}
    )
    watch = LearningWatch()
    assert watch.see(first) == []
    alerts = watch.see(msgspec.structs.replace(first, pid=2, **change))
    assert [alert.kind for alert in alerts] == ([] if expected is None else ["elsewhere"])
    assert all(str(expected) in alert.text for alert in alerts)


def sample(used: int, *, gpu: int | None = None, process: int | None = None) -> events.DeviceSampled:
    gpus = () if gpu is None else (
        events.GpuSample(
            index=0, name="G", memory_used_bytes=gpu, memory_total_bytes=80 * GB, process_memory_bytes=process
        ),
        events.GpuSample(index=1, name="G", memory_used_bytes=79 * GB, memory_total_bytes=80 * GB),
    )  # fmt: skip
    return events.DeviceSampled(
        host=events.HostSample(memory_used_bytes=used, memory_total_bytes=100 * GB, process_rss_bytes=1), gpus=gpus
    )


def texts(alerts: list[Alerted]) -> list[str]:
    return [alert.text for alert in alerts]


def test_memory_is_said_when_it_is_full_and_again_after_it_was_not() -> None:
    watch = MachineWatch()
    used = [90, 96, 97, 94, 96, 85, 96]
    assert [len(watch.memory(sample(gb * GB))) for gb in used] == [0, 1, 0, 0, 0, 0, 1]


def test_only_the_gpu_that_the_run_uses_counts() -> None:
    watch = MachineWatch()
    assert watch.memory(sample(0, gpu=10 * GB, process=GB)) == []
    (text,) = texts(watch.memory(sample(0, gpu=79 * GB, process=70 * GB)))
    assert text == "GPU 0's memory is 99 % full (79.0 of 80.0 GB)."


def test_a_disk_that_runs_full() -> None:
    watch = MachineWatch()
    free = [5 * GB, DISK_FREE_BYTES - 1, DISK_FREE_BYTES // 2, 3 * GB, DISK_FREE_BYTES - 1]
    assert [len(watch.disk(each, 1000 * GB)) for each in free] == [0, 1, 0, 0, 1]
    assert MachineWatch().disk(GB // 2, GB) == []  # a small disk, half of it free


def test_a_step_that_does_not_end() -> None:
    watch = MachineWatch()
    assert watch.stall(STALL_FIRST_S - 1, 0.0) == []  # the first step may take its time
    assert watch.stall(STALL_S - 1, 0.1) == []
    assert [alert.kind for alert in watch.stall(STALL_S + 1, 0.1)] == ["stall"]
    assert watch.stall(STALL_S + 3, 0.1) == []
    assert watch.stall(None, 70.0) == []
    assert watch.stall(STALL_S + 1, 70.0) == []  # steps of a minute are usual here
    assert watch.stall(None, 0.0) == []
