"""The queue's runner as a real process: it outlives who started it, and nothing is lost or trained twice."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from engine.queue import queue_file, runner_process
from engine.runs import run_dir
from engine.runs.run_dir import RunDir, list_runs
from engine.runs.run_options import RunOptions
from engine.runs.start import start_worker
from engine.runs.worker_mark import sign_lock
from presets import catalog
from tests.nvml_stub import compile_stub
from tests.waiting import PATIENCE_S, wait_for

Call = Callable[..., CompletedProcess[str]]
SMALL = ("data.train_limit=320", "train.batch_size=32")
SHORT = (*SMALL, "train.epochs=1")
LONG = (*SMALL, "train.epochs=500")


@pytest.fixture(autouse=True)
def _no_runner_stays(runs_dir: Path) -> Iterator[None]:
    """End the runner before the workers: it would start the next one."""
    yield
    if queue_file.runner_lives(runs_dir):
        kill_runner(runs_dir)


def kill_runner(runs_dir: Path, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(runner_pid(runs_dir), number)
    wait_for(lambda: not queue_file.runner_lives(runs_dir), "the runner's end")


def runner_pid(runs_dir: Path) -> int:
    def signed() -> int:
        mark = runner_process.runner_mark(runs_dir)
        return mark.pid if mark is not None and queue_file.runner_lives(runs_dir) and _is_runner(mark.pid) else 0

    pid: int = wait_for(signed, "the runner's process")
    return pid


def _is_runner(pid: int) -> bool:
    """Whether the process is a runner: the lock may still name the one before."""
    try:
        return b"engine.queue.runner" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def pid_of(run: RunDir) -> int:
    mark = run.read_mark()
    assert mark is not None
    return mark.pid


def is_over(run: RunDir) -> bool:
    return run.worker_lives() is False and run.read_state().is_finished


def seeds(runs_dir: Path) -> list[int]:
    """The seeds of the runs there are, oldest first: which entries they were."""
    return [run.read_info().seed for run in reversed(list_runs(runs_dir))]


def add(runs_dir: Path, seed: int, changes: tuple[str, ...] = SHORT, device: str = "cpu") -> queue_file.Entry:
    """Add the demo; the seed tells it from others."""
    (entry,) = queue_file.add(runs_dir, ["demo"], RunOptions(overrides=changes, seed=seed, device=device))
    return entry


def all_over(runs_dir: Path, num_runs: int) -> bool:
    runs = list_runs(runs_dir)
    return len(runs) == num_runs and not queue_file.entries(runs_dir) and all(is_over(run) for run in runs)


@pytest.mark.usefixtures("forked")
def test_runs_go_one_after_another_and_what_is_taken_out_does_not(runs_dir: Path) -> None:
    add(runs_dir, 1)
    add(runs_dir, 2)
    third = add(runs_dir, 3)
    wait_for(lambda: len(list_runs(runs_dir)) == 1, "the first run")
    assert queue_file.remove(runs_dir, third.id)
    wait_for(lambda: all_over(runs_dir, 2), "both runs", 2 * PATIENCE_S)
    assert seeds(runs_dir) == [1, 2]
    second, first = (run.read_state() for run in list_runs(runs_dir))
    assert (first.phase, second.phase) == ("completed", "completed")
    assert first.last_time is not None
    assert second.first_started_time is not None
    assert second.first_started_time >= first.last_time
    wait_for(lambda: not queue_file.runner_lives(runs_dir), "the runner's end")
    assert (runs_dir / "queue.log").read_text().count("started demo as ") == 2


@pytest.mark.usefixtures("forked")
def test_the_next_one_waits_for_a_run_started_by_hand_and_other_devices_do_not(
    start: Callable[..., RunDir], runs_dir: Path
) -> None:
    by_hand = start("train.epochs=500")
    add(runs_dir, 1)
    add(runs_dir, 2, device="cuda:63")
    wait_for(lambda: 2 in seeds(runs_dir), "the run on the other device")
    wait_for(lambda: [entry.seed for entry in queue_file.entries(runs_dir)] == [1], "its entry's end")
    assert 1 not in seeds(runs_dir)
    os.kill(pid_of(by_hand), signal.SIGKILL)
    wait_for(lambda: 1 in seeds(runs_dir), "the run that waited")


def test_a_gpu_is_given_away_when_nobody_uses_it(
    start: Callable[..., RunDir], new_cifartui: Call, runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two GPUs for the runner, none for torch: so the first run that may choose comes to the processor."""
    library = compile_stub(tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    monkeypatch.setenv("STUB_NVML", str(library / "answers"))
    (library / "answers").write_text("used 1 4000000000")
    by_hand = start("train.epochs=500")
    wait_for(lambda: getattr(by_hand.read_mark(), "holds", ()) == ("cpu",), "what it has chosen")
    lock_fd = os.open(by_hand.lock, os.O_RDWR)
    sign_lock(lock_fd, pid_of(by_hand), ("cuda:0",))
    os.close(lock_fd)
    add(runs_dir, 1, device="auto")
    add(runs_dir, 2, device="auto")
    states = [row["state"] for row in json.loads(new_cifartui("queue", "--json").stdout)["entries"]]
    assert states == [f"waits for {by_hand.id.partition('-')[2]}", "after 1"]
    pid = runner_pid(runs_dir)
    wait_for(lambda: "libnvidia-ml" in Path(f"/proc/{pid}/maps").read_text(), "the runner's look at the GPUs")
    assert [run.id for run in list_runs(runs_dir)] == [by_hand.id]
    (library / "answers").write_text("")
    wait_for(lambda: len(list_runs(runs_dir)) == 3, "both runs", 2 * PATIENCE_S)
    wait_for(lambda: is_over(list_runs(runs_dir)[0]), "the second one's end", 2 * PATIENCE_S)
    second, first = (run.read_state() for run in list_runs(runs_dir)[:2])
    assert first.last_time is not None
    assert second.first_started_time is not None
    assert second.first_started_time >= first.last_time
    assert by_hand.worker_lives()


@pytest.mark.usefixtures("forked")
def test_runs_that_end_badly_and_presets_that_are_gone_do_not_stop_it(runs_dir: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('extends = "demo"\n')
    failing = (*SHORT, "data.dataset=class-folders", f"data.path={tmp_path / 'nothing'}")
    add(runs_dir, 1, failing)
    queue_file.add(runs_dir, [str(mine)], RunOptions(overrides=SHORT, device="cpu"))
    add(runs_dir, 2)
    mine.unlink()
    wait_for(lambda: all_over(runs_dir, 2), "both runs", 2 * PATIENCE_S)
    assert [run.read_state().phase for run in list_runs(runs_dir)] == ["completed", "failed"]
    log = (runs_dir / "queue.log").read_text()
    assert f"took {mine} out, it cannot be started: {mine} does not exist" in log


@pytest.mark.usefixtures("forked")
def test_a_killed_runner_loses_and_doubles_nothing(runs_dir: Path) -> None:
    for seed in range(3):
        add(runs_dir, seed)
    for num_started in (1, 2):
        wait_for(lambda n=num_started: len(list_runs(runs_dir)) >= n, "the next run")
        if queue_file.runner_lives(runs_dir):
            kill_runner(runs_dir)
        queue_file.start_runner(runs_dir)
        queue_file.start_runner(runs_dir)  # a second one does nothing
    wait_for(lambda: all_over(runs_dir, 3), "all runs", 3 * PATIENCE_S)
    assert seeds(runs_dir) == [0, 1, 2]
    assert all(run.read_state().phase == "completed" for run in list_runs(runs_dir))


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("has_worker", [False, True])
def test_a_runner_killed_between_starting_and_taking_out_goes_on_from_there(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch, has_worker: bool
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(queue_file, "start_runner", lambda _runs_dir, _notify: None)
        entry = add(runs_dir, 1, LONG)
    preset = catalog.load("demo", LONG)
    run = run_dir.create(runs_dir, "demo", preset=preset, seed=1, device="cpu", argv=("x", f"queue:{entry.id}"))
    if has_worker:
        start_worker(run)
        wait_for(run.events.exists, "its first event")
    queue_file.start_runner(runs_dir)
    wait_for(lambda: not queue_file.entries(runs_dir), "the entry's end")
    wait_for(lambda: run.read_state().started, "its worker")
    assert [each.id for each in list_runs(runs_dir)] == [run.id]


@pytest.mark.usefixtures("forked")
def test_sigterm_ends_it_and_leaves_the_queue_and_sighup_does_nothing(
    start: Callable[..., RunDir], runs_dir: Path
) -> None:
    run = start("train.epochs=500")
    added = [add(runs_dir, seed) for seed in (1, 2)]
    pid = runner_pid(runs_dir)
    os.kill(pid, signal.SIGHUP)
    wait_for(lambda: run.read_state().steps, "training")
    assert queue_file.runner_lives(runs_dir)
    kill_runner(runs_dir, signal.SIGTERM)
    assert list(queue_file.entries(runs_dir)) == added
    assert run.worker_lives()


def test_it_outlives_the_process_and_the_session_that_started_it(runs_dir: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; "
        "from engine.queue import queue_file; from engine.runs.run_options import RunOptions; "
        f"queue_file.add(Path({str(runs_dir)!r}), ['demo'], RunOptions(overrides={LONG!r}, device='cpu')); "
        "print(os.getsid(0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, start_new_session=True
    )
    wait_for(lambda: list_runs(runs_dir), "the run")
    add(runs_dir, 2)
    pid = runner_pid(runs_dir)
    assert os.getsid(pid) == pid != int(done.stdout)
    assert str(Path(f"/proc/{pid}/fd/0").readlink()) == "/dev/null"


@pytest.mark.alone
def test_it_looks_cheaply(start: Callable[..., RunDir], runs_dir: Path) -> None:
    start("train.epochs=500")
    for seed in range(20):
        add(runs_dir, seed)
    pid = runner_pid(runs_dir)

    def cpu_s() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    wait_for(lambda: (runs_dir / "queue.json").exists() and cpu_s() > 0, "its first looks")
    before, began = cpu_s(), time.monotonic()
    wait_for(lambda: time.monotonic() - began > 5, "five of its looks")
    assert cpu_s() - before <= 0.02 * (time.monotonic() - began)  # the clock ticks in hundredths of a second


@pytest.mark.usefixtures("forked")
def test_the_command_line(cifartui: Call, start: Callable[..., RunDir], runs_dir: Path) -> None:
    assert "The queue is empty" in cifartui("queue").stdout
    assert json.loads(cifartui("queue", "--json").stdout) == {"runner_lives": False, "entries": []}
    run = start("train.epochs=500")
    added = cifartui("queue", "add", "demo", "basenet", "vgg-custom", "--epochs", "3", "--device", "cpu", "--seed", "7")
    assert added.returncode == 0, added.stderr
    listed = cifartui("queue").stdout.splitlines()
    assert listed[1].split()[:3] == ["1", "demo", "train.epochs=3"]
    assert f"waits for {run.id.partition('-')[2]}" in listed[1]
    assert "after 1" in listed[2]
    assert "The runner is at work" in listed[-1]
    wait_for(lambda: "at work (process" in cifartui("queue").stdout, "the runner's word on who it is")
    assert "vgg-custom" in cifartui("queue", "move", "3", "1").stdout
    assert "demo" in cifartui("queue", "remove", "2").stdout
    rows = json.loads(cifartui("queue", "--json").stdout)["entries"]
    assert [(row["number"], row["preset_name"]) for row in rows] == [(1, "vgg-custom"), (2, "basenet")]
    assert (rows[0]["overrides"], rows[0]["seed"], rows[0]["device"]) == (["train.epochs=3"], 7, "cpu")
    assert "There is no number 3" in cifartui("queue", "remove", "3").stderr
    kill_runner(runs_dir)
    assert "cifartui queue start" in cifartui("queue").stdout
    assert cifartui("queue", "start").returncode == 0
    assert queue_file.runner_lives(runs_dir)
    assert "2" in cifartui("queue", "clear").stdout
    wait_for(lambda: not queue_file.runner_lives(runs_dir), "the runner's end")


@pytest.mark.usefixtures("forked")
def test_detached_presets_go_into_the_queue(cifartui: Call, start: Callable[..., RunDir], runs_dir: Path) -> None:
    start("train.epochs=500")
    trained = cifartui("train", "demo", "basenet", "--detach", "--epochs", "2", "--device", "cpu")
    steps = cifartui("ablation", "0-1", "--detach", "--device", "cpu")
    assert (trained.returncode, steps.returncode) == (0, 0), trained.stderr + steps.stderr
    assert "cifartui queue" in trained.stdout
    names = [entry.preset_name for entry in queue_file.entries(runs_dir)]
    assert names == ["demo", "basenet", "ablation/step-00", "ablation/step-01"]
    several = cifartui("train", "demo", "--detach", "--seeds", "1,4", "--device", "cpu")
    assert "2 runs put into the queue" in several.stdout
    *_, first, second = queue_file.entries(runs_dir)
    assert (first.seed, second.seed, first.group) == (1, 4, second.group)
    assert first.group
    assert cifartui("ablation", "0-1", "--detach", "--seeds", "2", "--device", "cpu").returncode == 0
    steps_of_seeds = queue_file.entries(runs_dir)[-4:]
    assert [(entry.preset_name, entry.seed) for entry in steps_of_seeds] == [
        (name, seed) for name in ("ablation/step-00", "ablation/step-01") for seed in (0, 1)
    ]
    assert len({entry.group for entry in steps_of_seeds}) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "no-such"), "no-such"),
        (("add", "demo", "--set", "optimizer.rl=1"), "lr"),
        (("add", "demo", "--device", "tpu"), "is not a device"),
        (("add", "demo", "--seeds", "1,1"), "--seeds name 1 twice"),
        (("remove", "1"), "The queue is empty"),
        (("move", "1", "2"), "The queue is empty"),
        (("start",), "The queue is empty"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(cifartui: Call, arguments: tuple[str, ...], said: str) -> None:
    result = cifartui("queue", *arguments)
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
