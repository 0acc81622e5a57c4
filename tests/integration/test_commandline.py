import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from engine.runs.run_dir import RunDir, list_runs
from presets.schema import DATASETS
from tests.fork_client import ForkServer
from tests.waiting import PATIENCE_S, wait_for

Call = Callable[..., CompletedProcess[str]]
SMALL = ("--set", "data.train_limit=1280", "--set", "train.batch_size=32", "--device", "cpu")


def one_sentence(result: CompletedProcess[str]) -> str:
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    return result.stderr


def test_train_off_a_terminal_prints_a_line_an_epoch(cifartui: Call) -> None:
    result = cifartui("train", "demo", "--epochs", "2", *SMALL)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert sum(line.startswith("epoch ") for line in lines) == 2
    assert "generated" in result.stdout
    assert lines[-1].startswith("completed: best val ")
    assert "\r" not in result.stdout


def test_train_in_json_prints_the_events(cifartui: Call, runs_dir: Path) -> None:
    result = cifartui("train", "demo", "--epochs", "1", "--output", "json", *SMALL)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[-1]["type"] == "RunFinished"
    (run,) = list_runs(runs_dir)
    assert len(events) == len(run.events.read_text().splitlines())


def test_several_presets_run_one_after_another(cifartui: Call, runs_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('extends = "demo"\ntitle = "Another"\n')
    assert cifartui("train", "demo", str(other), "--epochs", "1", *SMALL).returncode == 0
    states = [run.read_state() for run in list_runs(runs_dir)]
    assert len(states) == 2
    assert all(state.phase == "completed" for state in states)


def test_several_seeds_are_trained_one_after_another_and_summed_up(cifartui: Call, runs_dir: Path) -> None:
    result = cifartui("train", "demo", "--epochs", "1", "--seeds", "2", "--seed", "4", *SMALL)
    assert result.returncode == 0, result.stderr
    runs = list_runs(runs_dir)[::-1]
    infos, ends = [run.read_info() for run in runs], [run.read_state() for run in runs]
    assert sorted(info.seed for info in infos) == [4, 5]
    assert infos[0].group == infos[1].group != ""
    lines = result.stdout.splitlines()
    assert lines[0].endswith(f": 2 runs, one after another, with seeds 4, 5 (group {infos[0].group})")
    assert [line.split(": run ")[0].split(", ")[-1] for line in lines if ": run " in line] == ["seed 4", "seed 5"]
    values = [100 * state.best.val_top1 for state in ends if state.best is not None]
    assert f"val {statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} %, test " in lines[-1]
    assert lines[-1].endswith(" % (mean ± std, n = 2)")


def test_a_detached_run_is_steered_and_resumed(cifartui: Call, runs_dir: Path) -> None:
    assert cifartui("train", "demo", "--epochs", "500", "--detach", *SMALL).returncode == 0
    (run,) = list_runs(runs_dir)
    wait_for(lambda: run.read_state().steps, "training")
    assert "paused" in cifartui("pause", "latest").stdout
    assert "already paused" in one_sentence(cifartui("pause", "latest"))
    assert "going on" in cifartui("continue", "latest").stdout
    assert "already has a worker" in one_sentence(cifartui("resume", run.id))
    assert "stopping after this batch" in cifartui("stop", "latest").stdout
    wait_for(lambda: run.worker_lives() is False, "the end")
    assert run.read_state().phase == "stopped"
    assert "cifartui resume" in one_sentence(cifartui("stop", "latest"))
    assert cifartui("resume", "latest", "--detach").returncode == 0
    wait_for(lambda: run.read_state().phase == "training", "training again")
    assert "aborting" in cifartui("abort", "latest").stdout


def _train_interrupted(
    fork_server: ForkServer | None, runs_dir: Path, times: int, *, at_once: bool = False
) -> tuple[int, RunDir, str]:
    program = fork_server.command() if fork_server else [sys.executable, "-m", "cifartui"]
    process = subprocess.Popen(
        [*program, "train", "demo", "--epochs", "500", *SMALL],
        env={**os.environ, **(fork_server.variables if fork_server else {}), "CIFARTUI_RUNS": str(runs_dir)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    run: RunDir = wait_for(lambda: next(iter(list_runs(runs_dir)), None), "the run folder")
    wait_for(lambda: run.read_state().steps, "training")
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        if times > 1:
            if not at_once:
                wait_for(lambda: run.commands.exists(), "the wish to stop")
            process.send_signal(signal.SIGINT)
            break
    _out, error = process.communicate(timeout=PATIENCE_S)
    return process.returncode, run, error


def test_ctrl_c_once_stops_and_waits_for_the_result(runs_dir: Path) -> None:
    code, run, error = _train_interrupted(None, runs_dir, times=1)
    assert code == 130
    assert "Asked to stop" in error
    assert run.read_state().phase == "stopped"
    assert run.best.exists()


def test_ctrl_c_twice_returns_and_says_how_to_come_back(fork_server: ForkServer, runs_dir: Path) -> None:
    code, run, error = _train_interrupted(fork_server, runs_dir, times=2)
    assert code == 130
    assert f"It stops after this batch; watch it with: cifartui attach {run.id}" in error
    wait_for(lambda: run.read_state().phase == "stopped", "the stop that was told")


def test_two_ctrl_c_at_once_do_what_is_said(fork_server: ForkServer, runs_dir: Path) -> None:
    code, run, error = _train_interrupted(fork_server, runs_dir, times=2, at_once=True)
    assert code == 130
    last = error.splitlines()[-1]
    assert last.startswith(("Training goes on", "It stops after this batch", "Asked to stop")), error
    assert last.startswith("Training goes on") == (not run.commands.exists())
    if run.commands.exists():
        assert "Training goes on" not in error
        wait_for(lambda: run.read_state().phase == "stopped", "the stop that was told")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "no-such-preset"), "no-such-preset"),
        (("train", "demo", "--set", "optimizer.rl=1"), "lr"),
        (("train", "demo", "--set", "train.epochs=none"), "train.epochs"),
        (("train", "demo", "--seeds", "three"), "--seeds cannot be 'three'"),
        (("train", "demo", "--seeds", "2", "--name", "job-1"), "leave --seeds out"),
        (("show", "latest"), "cifartui train demo"),
        (("attach",), "no runs"),
        (("--data-dir", "/no/such/folder", "data"), "--data-dir"),
        ((), "needs a terminal"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(cifartui: Call, arguments: tuple[str, ...], said: str) -> None:
    assert said in one_sentence(cifartui(*arguments))


def test_absent_data_offline_is_said_with_what_to_do(cifartui: Call, runs_dir: Path, tmp_path: Path) -> None:
    result = cifartui(
        "train", "basenet", "--epochs", "1", "--device", "cpu",
        CIFARTUI_DATA=str(tmp_path), XDG_DATA_HOME=str(tmp_path), HOME=str(tmp_path),
        http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9",
    )  # fmt: skip
    assert result.returncode == 1
    last = result.stdout.splitlines()[-1]
    assert last.startswith("failed")
    assert "cifar-100-python.tar.gz" in last
    assert "eb9058c3a382ffc7106e4002c42a8d85" in last
    assert "cifartui train demo" in last


def test_backbones_are_listed_with_parameters_and_published_accuracy(cifartui: Call) -> None:
    found = json.loads(cifartui("presets", "--backbones", "convnext_tiny", "--json").stdout)
    assert list(found["torchvision"]) == ["convnext_tiny"]
    assert found["torchvision"]["convnext_tiny"]["num_parameters"] == 28_589_128
    assert found["torchvision"]["convnext_tiny"]["weights"][0]["top1"] == 0.8252
    assert "convnext_tiny" in found["timm"] or "pip install 'cifartui[timm]'" in found["note"]
    line = next(
        line for line in cifartui("presets", "--backbones", "regnet_y_800").stdout.splitlines() if "gnet_y_8" in line
    )
    assert line.split() == ["regnet_y_800mf", "6,432,512", "224", "px", "78.8", "%", "26.0", "MB"]


def test_a_word_that_no_backbone_holds_is_said_with_what_was_meant(cifartui: Call) -> None:
    said = cifartui("presets", "--backbones", "resnt18").stdout
    assert said.startswith('torchvision: no name holds resnt18; did you mean "resnet18"?\n')


def test_presets_data_and_doctor(cifartui: Call) -> None:
    names = [row["name"] for row in json.loads(cifartui("presets", "--json").stdout)]
    assert {"demo", "basenet", "vgg-custom", "vgg-custom-5", "resnet50-frozen", "resnet50-finetune"} <= set(names)
    one = cifartui("presets", "basenet").stdout
    assert one.startswith("BaseNet\n")
    for heading in ("[data]", "[model]", "[train]", "[optimizer]", "[schedule]", "[loss]"):
        assert f"\n{heading}\n" in one
    assert '\n  dataset = "cifar100"\n' in one
    assert "\nreport: val " in one
    listed = {row["dataset"] for row in json.loads(cifartui("data", "--json").stdout)}
    assert listed == {*DATASETS} - {"class-folders"}
    machine = json.loads(cifartui("gpus", "--json").stdout)
    assert set(machine) == {"gpus", "missing", "num_cores", "host_free_bytes", "taken"}
    assert machine["taken"] == []
    checks = {row["what"]: row["verdict"] for row in json.loads(cifartui("doctor", "--json").stdout)}
    assert checks["torch"] == "ok"
    assert set(checks) == {"versions", "torch", "gpu", "config", "terminal", "data", "disk"}


def test_a_foreign_engine_on_pythonpath_is_named(cifartui: Call, tmp_path: Path) -> None:
    foreign = tmp_path / "engine.py"
    foreign.write_text("raise SystemExit('wrong engine')\n")
    result = subprocess.run(
        [Path(sys.executable).parent / "cifartui", "presets"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert str(foreign) in one_sentence(result)


def test_the_command_line_never_imports_torch() -> None:
    code = (
        "import sys, pkgutil, importlib, cifartui, tui.cli as package\n"
        "names = [found.name for found in pkgutil.walk_packages(package.__path__, 'tui.cli.')]\n"
        "for name in names: importlib.import_module(name)\n"
        "sys.exit('torch' in sys.modules or len(names) < 10)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.real_data
def test_one_epoch_of_basenet_on_real_cifar100(cifartui: Call, runs_dir: Path, cifar100_dir: Path) -> None:
    result = cifartui("--data-dir", str(cifar100_dir), "train", "basenet", "--epochs", "1", "--device", "cpu")
    assert result.returncode == 0, result.stdout + result.stderr
    (run,) = list_runs(runs_dir)
    state = run.read_state()
    assert state.data is not None
    assert (state.data.num_train, state.data.num_val, state.data.num_test) == (45_000, 5_000, 10_000)
    assert state.epochs[0].val_top1 > 0.03  # chance is 0.01
    assert state.finished is not None
    assert state.finished.test_top1 is not None
