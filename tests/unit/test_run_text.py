"""Words for a run's time, the same in the Monitor's header, in plain lines and on the printed page."""

import pytest
from msgspec.structs import replace

from engine.journal.events import AnyEvent, RankPlace, RunStarted, StageStarted, StepTiming
from engine.journal.state import RunState, fold
from tests import every
from tests.unit.test_state import DATA, STAGE, STARTED, epoch, steps
from tui.cli import follow
from tui.text import run_text


@pytest.mark.parametrize(
    ("status", "said"), [("training", "1 min 05 s"), ("paused", ""), ("stalled", ""), ("lost", ""), ("completed", "")]
)
def test_time_left_is_said_only_while_it_gets_less(status: str, said: str) -> None:
    assert run_text.time_left(status, 65.0) == said  # type: ignore[arg-type]
    assert not run_text.time_left(status, None)  # type: ignore[arg-type]


def test_a_step_is_split_in_one_vocabulary() -> None:
    split = run_text.step_split(StepTiming(data_s=0.001, compute_s=0.008, report_s=0.001))
    assert split == "10.0 ms: data 10 %, network 80 %, rest 10 %"
    assert run_text.step_split(StepTiming(data_s=0.0, compute_s=0.0, report_s=0.0)) == "n/a"


def test_the_share_done_counts_whole_epochs_and_batches() -> None:
    assert RunState().share_done == 0.0
    state = fold([STARTED, DATA, STAGE])
    assert state.share_done == 0.0
    fold([steps(1, 10), epoch(1, 0.3), steps(2, 5)], state)
    assert state.share_done == pytest.approx(1.5 / state.total_epochs)


@pytest.mark.parametrize("event", every.EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_that_people_read_has_a_sentence(event: AnyEvent) -> None:
    said = run_text.event(event)[0]
    assert bool(said) != event.frequent
    assert type(event).__name__ not in said
    line = follow.describe(event, RunState())
    is_the_only_stage = isinstance(event, StageStarted) and event.num_stages == 1
    assert bool(line) == (event.logged and not is_the_only_stage)


HOST = RankPlace(rank=0, host="gpu-box", pid=1, device="cuda:0")
GPU = replace(STARTED, host="gpu-box", device="cuda:0", device_name="NVIDIA H100", precision="bf16")
TWO = replace(GPU, ranks=(HOST, replace(HOST, rank=1, device="cuda:1")))
FAR = replace(GPU, ranks=(HOST, replace(HOST, rank=1, host="b")))
PLACES = [
    (replace(STARTED, host="gpu-box"), "cpu", "gpu-box"),
    (replace(STARTED, host="gpu-box", device_name=""), "cpu", "gpu-box"),
    (GPU, "cuda:0 (NVIDIA H100)", "gpu-box"),
    (TWO, "2 × cuda:0 (NVIDIA H100)", "gpu-box"),
    (FAR, "2 × cuda:0 (NVIDIA H100)", "2 machines, gpu-box first"),
]


@pytest.mark.parametrize(("started", "device", "machine"), PLACES)
def test_a_device_has_one_name_in_the_log_on_the_page_and_on_the_screen(
    started: RunStarted, device: str, machine: str
) -> None:
    threads = ", 2 threads" if device == "cpu" else ""
    assert run_text.event(started)[0] == f"worker started on {machine}, {device}, {started.precision}"
    assert run_text.device_in_full(started) == f"{device}{threads}, {started.precision}, on {machine}"
    shown = "CPU" if device == "cpu" else device
    assert run_text.device_in_short(started) == f"{shown}{threads}, {started.precision}"


def test_the_device_in_json_is_its_name_and_the_precision() -> None:
    assert run_text.device_type(STARTED) == "CPU, fp32"
    assert run_text.device_type(TWO) == "2 × NVIDIA H100, bf16"
