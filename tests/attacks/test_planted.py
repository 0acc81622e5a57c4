"""Modules planted in every folder that a process of ours could have as its working directory: none is imported."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

import engine
from engine.journal.events import StepsTrained
from engine.journal.jsonl import EventWriter
from engine.queue import queue_file
from engine.runs import run_dir, start
from engine.runs.image_predictions import Predicted, Request
from engine.runs.notify_settings import of_command
from engine.runs.preview import Question
from engine.runs.run_dir import RunDir
from engine.runs.run_options import RunOptions
from engine.shared import child_process, run_module
from presets import catalog
from presets.errors import CifartuiError
from tests.waiting import PATIENCE_S, finished, wait_for
from tui.cli import doctor
from tui.cli.doctor import benchmark
from tui.data import follower, image_predictor, network_facts, torch_process
from tui.data.model_export import export_model

HOME = Path(engine.__file__).parents[1]
KEPT = HOME / "tests/data/run-0.1.0"
OURS = ("cifartui", "engine", "presets", "tui")
OTHERS = (
    "sitecustomize", "usercustomize", "torch", "torchvision", "numpy", "PIL", "msgspec", "psutil", "platformdirs",
    "pooch", "pynvml", "click", "textual", "rich", "plotext", "sympy", "networkx", "jinja2", "filelock", "requests",
    "apprise", "tomli", "typing_extensions", "tensorboard", "wandb", "mlflow", "trackio", "sqlalchemy",
)  # fmt: skip
SMALL = ("data.train_limit=320", "train.batch_size=32", "train.epochs=1")


def plant(place: Path, mark: Path, names: tuple[str, ...] = (*sys.stdlib_module_names, *OTHERS, *OURS)) -> None:
    """Write a module of every name, as a package where ours is one, that says in `mark` that it ran."""
    for name in names:
        code = f"open({str(mark)!r}, 'a').write({f'{place}: {name}'!r} + chr(10))\n"
        if name in OURS[1:]:
            (place / name).mkdir()
            (place / name / "__init__.py").write_text(code)
        else:
            (place / f"{name}.py").write_text(code)


@pytest.fixture
def mark(tmp_path: Path, runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Plant modules where this process is, among runs and among data; check afterwards that none ran."""
    mark, caller, data = tmp_path / "ran", tmp_path / "caller", tmp_path / "data"
    for place in (caller, data, runs_dir):
        place.mkdir()
        plant(place, mark)
    monkeypatch.chdir(caller)
    monkeypatch.setenv("CIFARTUI_DATA", str(data))
    monkeypatch.setenv("PYTHONPATH", f":{os.environ.get('PYTHONPATH', '')}")  # an empty entry: the working directory
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield mark
    assert not mark.exists(), mark.read_text()


@pytest.fixture
def run(mark: Path, runs_dir: Path) -> RunDir:
    """A run that is not started yet, with modules planted in it."""
    run = run_dir.create(runs_dir, "demo", preset=catalog.load("demo", SMALL), seed=0, device="cpu")
    plant(run.path, mark)
    return run


def test_a_worker_its_notify_command_and_an_evaluation(run: RunDir, tmp_path: Path) -> None:
    told = tmp_path / "told"
    command = f'"{sys.executable}" -c "import json" && pwd > {told}.part && mv {told}.part {told}'
    start.start_worker(run, notify=replace(of_command(command), log=("tensorboard", "mlflow")))
    assert finished(run).outcome == "completed"
    wait_for(lambda: run.log.read_text().count(" points logged. See them with: ") == 2, "what is logged")
    wait_for(told.exists, "the notify command")
    assert told.read_text() == "/\n"
    arguments = [str(run.path), "--split", "val"]
    assert b'"top1"' in torch_process.run_module("engine.training.evaluate_checkpoint", arguments)
    assert "Traceback" not in run.log.read_text()


def test_wandb_asks_no_server_that_a_file_of_the_working_directory_names(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B sends its key to the `base_url` of wandb/settings."""
    journal = EventWriter(run.events)
    journal.write(
        StepsTrained(epoch=1, step=1, global_step=1, num_steps=1, num_images=8, loss=1, top1=0, lr=1, images_per_s=1)
    )
    journal.close()
    for folder in (tmp_path, run.path):
        (folder / "wandb").mkdir()
        (folder / "wandb" / "settings").write_text("[default]\nbase_url = http://planted.example\nentity = planted\n")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("CIFARTUI_RUNS", str(run.path.parent))
    logged = subprocess.run(
        [sys.executable, "-m", "cifartui", "log", run.id, "--to", "wandb"], cwd=tmp_path, capture_output=True, text=True
    )
    assert logged.returncode == 0, logged.stderr
    kept = [path for path in run.path.rglob("*") if path.is_file() and path.name != "settings"]
    assert any(path.suffix == ".wandb" for path in kept)
    assert not [path for path in kept if b"planted" in path.read_bytes()]


def test_an_agent_and_its_ranks(mark: Path, runs_dir: Path) -> None:
    preset = catalog.load("demo", SMALL)
    run = run_dir.create(runs_dir, "demo", preset=preset, seed=0, device="cpu", devices=2)
    plant(run.path, mark)
    start.start_worker(run)
    assert finished(run).outcome == "completed"


def test_a_range_test(mark: Path, runs_dir: Path) -> None:
    preset = catalog.load("demo", (*SMALL, "schedule.name=range-test", "schedule.first_lr=0.001", "schedule.steps=20"))
    run = run_dir.create(runs_dir, "demo", preset=preset, seed=0, device="cpu")
    plant(run.path, mark)
    start.start_worker(run)
    assert finished(run).outcome == "completed"


def test_the_queues_runner_and_its_run(mark: Path, runs_dir: Path) -> None:
    queue_file.add(runs_dir, ["demo"], RunOptions(overrides=SMALL, device="cpu"))
    wait_for(lambda: not queue_file.runner_lives(runs_dir), "the runner's end")
    (run,) = run_dir.list_runs(runs_dir)
    assert finished(run).outcome == "completed"


@pytest.mark.usefixtures("mark")
def test_what_is_asked_of_a_process_with_torch() -> None:
    (found,) = network_facts.compute_many([(catalog.load("demo"), 100)])
    assert isinstance(found, network_facts.NetworkFacts)
    assert doctor._torch(num_gpus=0, is_hung=False).verdict == "ok"
    with pytest.raises(CifartuiError, match="cuda:77 cannot be used"):
        benchmark("cuda:77", as_json=True)


def test_predictions_an_export_and_a_preview(mark: Path, runs_dir: Path, tmp_path: Path) -> None:
    kept = RunDir(Path(shutil.copytree(KEPT, runs_dir / "20260101T000000-tiny-0000")))
    images = tmp_path / "images"
    images.mkdir()
    for place in (kept.path, images):
        plant(place, mark)
    (images / "a.ppm").write_bytes(b"P6 2 2 255 " + bytes(12))
    request = Request(run=str(kept.path), device="cpu", folder=str(images))
    *_, last = image_predictor.answers(request, ["."])
    assert isinstance(last, Predicted)
    assert [(row.file, row.problem) for row in last.rows] == [("a.ppm", "")]
    export_model(kept, "safetensors", tmp_path / "model.safetensors")
    question = Question(
        preset=catalog.load("demo", SMALL), seed=0, device="cpu", data_dir=None, num_epochs=1, num_images=1,
        wants_png=True,
    )  # fmt: skip
    assert torch_process.run_module("engine.training.preview", stdin=msgspec.json.encode(question))


def test_the_fork_that_reads_a_long_history(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    run.events.write_bytes(b"{}\n")
    monkeypatch.setattr(follower, "_WORTH_A_HELPER_BYTES", 1)
    wait = follower.read_ahead(run)
    assert wait is not None
    assert wait() is not None


@pytest.mark.usefixtures("mark")
def test_a_notify_command_that_nothing_was_set_for_has_the_users_own_variables(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script of the user's may import what lies beside it: PYTHONSAFEPATH is for our processes."""
    (tmp_path / "script.py").write_text("import beside\n")
    (tmp_path / "beside.py").write_text("print('beside')\n")
    monkeypatch.setenv("PYTHONPATH", "")
    asked = child_process.start("engine.runs.notify", [f'"{sys.executable}" {tmp_path}/script.py'])
    assert asked.wait(PATIENCE_S) == 0
    assert "beside" in capfd.readouterr().out
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    assert child_process.start("engine.runs.notify", ["echo $PYTHONSAFEPATH"]).wait(PATIENCE_S) == 0
    assert capfd.readouterr().out == "1\n"


def _pythons() -> list[str]:
    """Return this Python, and one of 3.10, which knows no PYTHONSAFEPATH, where there is one."""
    places = [*Path(sys.base_prefix).parent.glob("3.10*/bin/python3.10"), Path("/usr/bin/python3.10")]
    return [sys.executable, *[str(place) for place in places if place.exists()][:1]]


@pytest.mark.parametrize("python", _pythons())
def test_the_start_itself_imports_nothing_of_the_working_directory(tmp_path: Path, python: str) -> None:
    mark = tmp_path / "ran"
    plant(tmp_path, mark)
    (tmp_path / "sitecustomize.py").unlink()  # Python itself imports it where PYTHONPATH says so
    (tmp_path / "usercustomize.py").unlink()
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    for extra in ({}, {"PYTHONSAFEPATH": "1"}):
        done = subprocess.run(
            [python, run_module.__file__, "json.tool"],
            input=b"[1]", cwd=tmp_path, env={**environment, **extra}, stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        assert done.stdout.split() == [b"[", b"1", b"]"]
    assert not mark.exists(), mark.read_text()


def test_our_packages_are_this_installations_whatever_pythonpath_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    plant(tmp_path, mark, OURS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert child_process.start("engine.runs.notify", ["exit 0"]).wait(PATIENCE_S) == 0
    assert not mark.exists(), mark.read_text()


def test_paths_in_variables_do_not_depend_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"CIFARTUI_CACHE": "cache", "CIFARTUI_DATA": "~/data", "CIFARTUI_RUNS": "/runs", "CIFARTUI_CONFIG": ""}
    safe = child_process._safe(given)
    assert [safe[name] for name in given] == [str(tmp_path / "cache"), "~/data", "/runs", ""]


_STARTERS = {
    "subprocess": {"Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"},
    "os": {"system", "popen", "posix_spawn", "posix_spawnp"},
    "asyncio": {"create_subprocess_exec", "create_subprocess_shell"},
    "pty": {"spawn"},
}  # fmt: skip
_OTHER_MODULES = {"multiprocessing", "concurrent.futures.process", "pexpect", "torch.multiprocessing"}


def _starts(path: Path) -> Iterator[str]:
    """Yield what in a file could start a process."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            starts = node.attr in _STARTERS.get(node.value.id, ()) or node.attr.startswith(("exec", "spawn"))
            if starts and node.value.id in _STARTERS:
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in _OTHER_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module in _OTHER_MODULES:
                yield node.module
            yield from (
                f"{node.module}.{each.name}" for each in node.names if each.name in _STARTERS.get(node.module, ())
            )


def test_processes_are_started_in_one_file() -> None:
    found = {
        str(path.relative_to(HOME)): set(_starts(path))
        for package in OURS[1:]
        for path in (HOME / package).rglob("*.py")
    }  # fmt: skip
    assert {path for path, starts in found.items() if starts} == {"engine/shared/child_process.py"}


@pytest.mark.parametrize(
    "module",
    [
        "engine.training.worker", "engine.training.distributed.agent", "engine.training.distributed.rank",
        "engine.queue.runner",
    ],
)  # fmt: skip
def test_modules_that_living_processes_call_can_be_called_as_before(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert module in done.stdout
