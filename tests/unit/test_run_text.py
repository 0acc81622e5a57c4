"""Words for a run's time, the same in the Monitor's header, in plain lines and on the printed page."""

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import replace
from rich.text import Text

from engine.journal.events import (
    AnyEvent,
    CheckpointSaved,
    DataProgressed,
    ModelBuilt,
    RankPlace,
    RunStarted,
    StageStarted,
    StepTiming,
)
from engine.journal.state import RunState, fold
from presets.range_test import range_test
from tests import every
from tests.ui.sample_run import NOW, SampleRun, preset
from tests.unit.test_state import DATA, STAGE, STARTED, epoch, steps
from tui import format as fmt
from tui.cli import follow, run_page
from tui.data.compare import compare_runs, comparison_table
from tui.data.run_detail import run_detail
from tui.data.summaries import summarise
from tui.report.content import read_report
from tui.text import run_text
from tui.text.layout import bar
from tui.theme import FAINT, TRAIN
from tui.widgets.monitor_panes import Preparation


def test_data_without_a_test_part_is_said_wherever_a_test_accuracy_would_stand(tmp_path: Path) -> None:
    with SampleRun(tmp_path).begin().prepare(num_test=0) as run:
        run.train_epoch(1).finish(test_top1=None)
    state = run.folder.read_state()
    assert run_text.result(state).endswith(", no test part")
    assert state.data is not None
    assert run_text.event(state.data)[0].endswith("45,000 train, 5,000 val, no test part")
    page = dict(run_page.fields(run_detail(run.folder, NOW)))
    assert page["test"] == "no test part: the run is judged on its validation images"
    assert "5,000 val, no test part, 100 classes" in page["data"]
    found = summarise(run.folder)
    assert (found.has_test, found.no_test, found.test_top1) == (False, "no part", None)
    (row,) = compare_runs([found], [])
    assert (row.test, row.no_test) == (None, "no part")
    assert " no part  " in comparison_table([row])[1]


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


def test_a_lost_run_is_said_alike_on_the_screen_on_the_page_and_in_plain_output(tmp_path: Path) -> None:
    why = "without a last word (killed, or out of memory?); "
    with SampleRun(tmp_path).live().begin().prepare() as run:
        run.train_epoch(1)
        run.die()
        state = run.folder.read_state()
        ended = f"he worker ended{run_text.place(state)} "
        assert run_text.place(state) == " in epoch 1, at step 1,407"
        again = "Press a to start it anew: there is no checkpoint to go on from."
        assert run_text.outcome("lost", state, "r", "a") == f"T{ended}without a last word. {again}"
        assert run_text.outcome("lost", state, "", "a") == f"T{ended}without a last word."
        said = f"Run {run.folder.id} is lost: t{ended}{why}{run.folder.log} may say why. "
        assert follow._lost(run.folder, state) == f"{said}To start it anew: cifartui train basenet"
        page = dict(run_page.fields(run_detail(run.folder, NOW)))
        assert page["state"] == f"lost: the worker ended {why}worker.log in its folder may say why"
        saved = CheckpointSaved(kind="last", path="last.pt", epoch=1, global_step=9, num_bytes=1, seconds=0.1)
        after = run_text.outcome("lost", fold([saved]), "r", "a")
        assert after.endswith("without a last word. Press r to resume from the last checkpoint.")
        advice = follow._lost(run.folder, fold([saved])).partition("may say why. ")[2]
        assert advice == f"To resume from the last checkpoint: cifartui resume {run.folder.id}"


def test_a_lost_range_test_is_not_offered_a_resume(tmp_path: Path) -> None:
    with (
        SampleRun(tmp_path, preset=range_test(preset(), 1e-5, 10.0, 300), preset_name="lr-find basenet")
        .live()
        .begin() as run
    ):
        run.die()
        command = "cifartui lr-find basenet --steps 300"
        assert follow._lost(run.folder, run.folder.read_state()).endswith(f"may say why. To start it anew: {command}")


def test_the_command_that_starts_a_run_anew_has_all_that_it_was_started_with(tmp_path: Path) -> None:
    with SampleRun(
        tmp_path, preset_name="mine", preset_file="/home/me/my presets/mine.toml", seed=3, device="cpu", devices=2,
        overrides=('data.path="/a b"', "train.epochs=2"), data_dir="/data",
    ) as run:  # fmt: skip
        command = run_text.start_command(run.info)
    assert shlex.split(command) == [
        "cifartui", "train", "/home/me/my presets/mine.toml", "--set", 'data.path="/a b"', "--set", "train.epochs=2",
        "--seed", "3", "--device", "cpu", "--devices", "2", "--data-dir", "/data",
    ]  # fmt: skip


def test_a_silent_run_is_said_alike_on_the_screen_and_on_the_page(tmp_path: Path) -> None:
    with SampleRun(tmp_path).live().begin().prepare() as run:
        run.train_epoch(1)
        found = run_detail(run.folder, run.now + 60)
        assert found.summary.status == "stalled"
        said = dict(run_page.fields(found))["state"]
        since = run_text.clock(run.now)
        assert said.startswith(f"stalled since {since}: the worker lives, and says nothing. Was it frozen")
        state = run.folder.read_state()
        assert run_text.outcome("stalled", state, "r", "a").replace(run_text.place(state), "") == f"S{said[1:]}"


@pytest.mark.parametrize(
    ("fraction", "done"), [(-1.0, 0), (0.0, 0), (0.049, 0), (0.051, 1), (0.5, 5), (0.96, 10), (1.0, 10), (7.0, 10)]
)
def test_a_bar_is_as_full_in_every_place(fraction: float, done: int) -> None:
    assert fmt.bar(fraction, 10) == ("━" * done, "━" * (10 - done))
    assert fmt.bar(fraction, 10, "=.") == ("=" * done, "." * (10 - done))
    assert [span.end - span.start for span in bar(fraction, 10).spans if span.style == TRAIN] == [done] * bool(done)


def preparation(state: RunState, monkeypatch: pytest.MonkeyPatch) -> Text:
    """Return what the pane says of `state`."""
    shown: list[Text] = []
    monkeypatch.setattr(Preparation, "set_text", lambda _self, text: shown.append(text))
    Preparation().show(SimpleNamespace(state=state, status=state.phase))  # type: ignore[arg-type]
    return shown[0]


def test_the_bar_of_the_preparation_is_rounded_as_that_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = DataProgressed(phase="verify", done=199, total=200, unit="images", what="x")
    shown = preparation(fold([progress]), monkeypatch)
    assert "━" * 30 in shown.plain
    assert not [span for span in shown.spans if span.style == FAINT]


def test_one_epoch_of_one_batch_is_no_plural_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = replace(STAGE, epochs=1, steps_per_epoch=1)
    assert run_text.event(stage)[0] == "train: 1 epoch of 1 batch"
    assert "1 epoch of 1 batch: the first batch is under way" in preparation(fold([stage]), monkeypatch)
    assert run_text.event(STAGE)[0] == "train: 4 epochs of 10 batches"


def test_a_network_of_which_a_part_is_trained_is_said_alike_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelBuilt(network="resnet50", layers=(), num_parameters=1500, num_trainable=300, flops_per_image=10**12)
    said = "resnet50, 1,500 parameters (300 trained)"
    assert run_text.event(model)[0] == f"model built: {said}"
    assert said in preparation(fold([model]), monkeypatch)
    with SampleRun(tmp_path).live().begin() as run:
        run.write(model)
        page = dict(run_page.fields(run_detail(run.folder, run.now)))
    assert page["network"] == f"{said}, 1,000 GFLOP an image forward"


def test_a_worker_that_starts_is_said_alike_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_text.LOADING in preparation(RunState(), monkeypatch)
    assert run_text.LOADING in follow.live(RunState(), "starting", 0.0, 80, ascii_only=True)
    assert run_text.LOADING in run_text.STARTED


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ({"python": "3.12", "cifartui": "0.1.0", "torch": "2.9", "torchvision": "0.24", "timm": "1.0"},
         "python 3.12, cifartui 0.1.0, torch 2.9, torchvision 0.24, timm 1.0"),
        ({"python": "3.12", "torch": "2.9"}, "python 3.12, torch 2.9, of cifartui and torchvision not recorded"),
        ({}, "not recorded"),
    ],
)  # fmt: skip
def test_versions_that_an_older_worker_did_not_record_are_said(
    recorded: dict[str, str], said: str, tmp_path: Path
) -> None:
    with SampleRun(tmp_path).begin(versions=recorded).prepare() as run:
        run.train_epoch(1).finish()
    detail = run_detail(run.folder, NOW)
    assert run_text.versions(detail.started or STARTED) == said
    assert dict(run_page.fields(detail))["versions"] == said
    assert dict(read_report(run.folder, NOW).facts)["versions"] == said
    assert detail.started is not None
    assert detail.started.versions == recorded  # as show --json has it
