"""Very many runs, very long journals and queues: how long lists, pages, resumes and stops take, and their memory.

python -m benchmarks.large [runs] [idle] [journal] [resume] [queue] [--folder DIR] [--rounds 5] [--runs N] [--lines N]

Prints one row a figure, the best of the rounds, with its limit. What is made up for it goes to DIR and is used again:
5,000 finished runs and a journal of 6 million lines (1.3 GB).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.long_run import write_long_run
from benchmarks.terminal import Terminal
from engine.journal import commands
from engine.journal.events import RunStarted
from engine.journal.jsonl import EventWriter, event_reader
from engine.runs.run_dir import RunDir, list_runs

_CIFARTUI = [sys.executable, "-m", "cifartui"]
_IDLE_S = 20.0
_SETTLED_S = 12.0
_NUM_COMMANDS = 100_000
_REPORTS_AN_EPOCH = 6000
_SAMPLES_EVERY = 20


class Cost(NamedTuple):
    """Cost of a process: seconds on the clock, bytes of memory at most."""

    seconds: float
    most_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help="runs, idle, journal, resume, queue; all by default")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "cifartui-large")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--lines", type=int, default=6_000_000)
    asked = parser.parse_args()
    measure: dict[str, Callable[[], None]] = {
        "runs": lambda: runs(many_runs(asked.folder, asked.runs), asked.rounds),
        "idle": lambda: idle(many_runs(asked.folder, asked.runs)),
        "journal": lambda: journal(long_journal(asked.folder, asked.lines), asked.rounds),
        "resume": lambda: resume(asked.folder, asked.lines, asked.rounds),
        "queue": lambda: queue(asked.rounds),
    }
    print(f"{'figure':<58} {'best':>10}   limit")
    for part in asked.parts or measure:
        measure[part]()


def row(figure: str, values: Sequence[float], unit: str, limit: str) -> None:
    """Print the least of some values."""
    print(f"{figure:<58} {min(values):>10.3g}   {limit} {unit}", flush=True)


def many_runs(folder: Path, number: int) -> Path:
    """Return a folder of so many finished runs, made where it is not there."""
    runs_dir = folder / f"{number}-runs"
    if runs_dir.is_dir():
        return runs_dir
    making = runs_dir.with_suffix(".new")
    shutil.rmtree(making, ignore_errors=True)
    first = write_long_run(making, "first", epochs=15, num_reports=600, is_finished=True, samples_every=10)
    info = first.read_info()
    for each in range(1, number):
        made = time.strftime("%Y%m%dT%H%M%S", time.gmtime(1_767_225_600 + 60 * each))
        run = RunDir(making / f"{made}-basenet-{each:04x}")
        run.checkpoints.mkdir(parents=True)
        shutil.copyfile(first.events, run.events)
        record = msgspec.structs.replace(info, id=run.id, created=1_767_225_600.0 + 60 * each, seed=each)
        (run.path / "run.json").write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
    making.rename(runs_dir)
    return runs_dir


def long_journal(folder: Path, lines: int) -> RunDir:
    """Return a run with a journal of about so many lines, made where it is not there."""
    runs_dir = folder / f"{lines}-lines"
    if not runs_dir.is_dir():
        making = runs_dir.with_suffix(".new")
        shutil.rmtree(making, ignore_errors=True)
        num_reports = lines * _SAMPLES_EVERY // (_SAMPLES_EVERY + 1)
        epochs = max(1, num_reports // _REPORTS_AN_EPOCH)
        write_long_run(
            making, "long", epochs=epochs, num_reports=num_reports, is_finished=True, planned=epochs,
            samples_every=_SAMPLES_EVERY,
        )  # fmt: skip
        making.rename(runs_dir)
    return list_runs(runs_dir)[0]


def runs(runs_dir: Path, rounds: int) -> None:
    """Time of `cifartui runs`: once as the folder is, then again and again."""
    command = [*_CIFARTUI, "--runs-dir", str(runs_dir), "runs"]
    row("cifartui runs, the first time", [_cost(command).seconds], "s", "")
    row("cifartui runs", [_cost(command).seconds for _ in range(rounds)], "s", "≤ 0.5")


def idle(runs_dir: Path) -> None:
    """Time on a core while nothing happens and nobody presses a key."""
    for screen, keys in (("Home", ""), ("Runs", "r")):
        with Terminal([*_CIFARTUI, "--runs-dir", str(runs_dir)], 120, 36) as terminal:
            terminal.listen(_SETTLED_S)
            if keys:
                terminal.press(keys)
                terminal.listen(_SETTLED_S)
            before, began = terminal.process.cpu_times(), time.perf_counter()
            terminal.listen(_IDLE_S)
            passed, after = time.perf_counter() - began, terminal.process.cpu_times()
            memory = terminal.process.memory_info().rss
        spent = after.user + after.system - before.user - before.system
        row(f"{screen} with nothing to do", [100 * spent / passed], "% of a core", "≤ 1")
        row(f"{screen}: memory", [memory / 1e6], "MB", "")


def journal(run: RunDir, rounds: int) -> None:
    """Time and memory of `cifartui show`: once as the run is, then again and again."""
    command = [*_CIFARTUI, "--runs-dir", str(run.path.parent), "show", run.id]
    first = _cost(command)
    row("cifartui show, the first time", [first.seconds], "s", "")
    row("cifartui show, the first time: memory", [first.most_bytes / 1e6], "MB", "≤ 200")
    again = [_cost(command) for _ in range(rounds)]
    row("cifartui show", [each.seconds for each in again], "s", "≤ 3")
    row("cifartui show: memory", [each.most_bytes / 1e6 for each in again], "MB", "≤ 200")


def resume(folder: Path, lines: int, rounds: int) -> None:
    """Time from `cifartui resume` to the worker's first word, of a run with a short journal and with a long one."""
    for name, num_lines in (("short", 0), ("long", lines)):
        seconds = []
        with tempfile.TemporaryDirectory(dir=folder) as runs_dir:
            base = [*_CIFARTUI, "--runs-dir", runs_dir]
            subprocess.run([*base, "train", "demo", "--epochs", "1", "--output", "quiet"], check=True)
            (run,) = list_runs(Path(runs_dir))
            _lengthen(run, num_lines)
            for _ in range(rounds):
                size = run.events.stat().st_size
                began = time.perf_counter()
                subprocess.run([*base, "resume", run.id, "--epochs", "+1", "--detach"], check=True,
                               stdout=subprocess.DEVNULL)  # fmt: skip
                reader = event_reader(run.events)
                reader.skip_to(size)
                while not any(isinstance(event, RunStarted) for event in reader.read()):
                    time.sleep(0.005)
                seconds.append(time.perf_counter() - began)
                while run.worker_lives():
                    time.sleep(0.05)
        row(f"cifartui resume to the first word, {name} journal: first", seconds[:1], "s", "")
        row(f"cifartui resume to the first word, {name} journal", seconds[1:] or seconds, "s", "≤ 5")


def _lengthen(run: RunDir, num_lines: int) -> None:
    """Repeat the reports of steps in a journal until there are so many lines; the last lines stay the last."""
    lines = run.events.read_bytes().splitlines(keepends=True)
    reports = [number for number, line in enumerate(lines) if b'"StepsTrained"' in line[:24]]
    first, last = lines[: reports[-1]], lines[reports[-1] :]
    if num_lines:
        with run.events.open("wb") as file:
            file.writelines(first)
            piece = last[0] * 10_000
            for _ in range(num_lines // 10_000):
                file.write(piece)
            file.writelines(last)


def queue(rounds: int) -> None:
    """Time until a worker's controls obey a stop behind very many commands."""
    from engine.training.controls import Controls

    seconds = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            run = RunDir(Path(folder))
            asked: list[commands.AnyCommand] = [commands.SaveCheckpoint() for _ in range(_NUM_COMMANDS)]
            run.commands.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in [*asked, commands.Stop()]))
            controls = Controls(run, EventWriter(run.events))
            began = time.perf_counter()
            while controls.stop_after is None:
                controls.poll_at_once()
                controls.poll()
            seconds.append(time.perf_counter() - began)
    row(f"a stop behind {_NUM_COMMANDS:,} commands", seconds, "s", "≤ 1")


def _cost(command: list[str]) -> Cost:
    """Run a command to its end."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Cost(time.perf_counter() - began, usage.ru_maxrss * 1024)


if __name__ == "__main__":
    main()
