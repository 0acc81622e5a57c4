"""`cifartui runs`, `compare --diff` and `delete`, on runs made up beforehand."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from engine.runs.run_dir import RunDir, list_runs
from tests.ui.sample_run import NOW, SampleRun
from tests.waiting import PATIENCE_S

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def two(runs_dir: Path) -> list[RunDir]:
    """Two completed runs that differ in their seed; the older one takes more room."""
    folders = []
    for number, name in enumerate(("basenet-a1b2", "basenet-c3d4")):
        with SampleRun(runs_dir, name, start=NOW + 1000 * number, seed=number).begin().prepare() as run:
            run.train_epoch(1).finish()
        folders.append(run.folder)
    folders[0].last.write_bytes(b"x" * 3_000_000)
    return folders


def test_runs_are_filtered_and_sorted(cifartui: Call, two: list[RunDir]) -> None:
    lines = cifartui("runs").stdout.splitlines()
    headings = ["RUN", "STATE", "EPOCH", "BEST", "VAL", "TEST", "DURATION", "SIZE", "STARTED", "SETTINGS"]
    assert lines[0].split() == headings
    assert two[1].id in lines[1]
    assert [line.endswith(" seed 1") for line in lines[1:]] == [True, False]
    assert two[0].id in cifartui("runs", "--sort", "size").stdout.splitlines()[1]
    assert "3.0 MB" in cifartui("show", "a1b2").stdout
    (found,) = json.loads(cifartui("runs", "--filter", "A1B2 completed", "--json").stdout)
    assert (found["id"], found["num_bytes"] > 3_000_000, found["host"]) == (two[0].id, True, "gpu-box")
    assert "None of 2 runs matches: nothing" in cifartui("runs", "--filter", "nothing").stdout


def test_compare_tells_differences(cifartui: Call, two: list[RunDir]) -> None:
    said = cifartui("compare", "a1b2", "c3d4", "--diff").stdout
    assert "These 2 runs differ in nothing but seed." in said
    assert said.splitlines()[-1].split() == ["seed", "0", "1"]
    found = json.loads(cifartui("compare", "a1b2", "c3d4", "--diff", "--json").stdout)
    assert found["differences"] == [{"field": "seed", "values": ["0", "1"]}]
    assert len(found["runs"]) == len(json.loads(cifartui("compare", "a1b2", "c3d4", "--json").stdout)) == 2


def test_compare_says_mean_and_deviation_of_seeds(cifartui: Call, runs_dir: Path) -> None:
    for seed in (3, 4):
        name, overrides = f"basenet-a00{seed}", ("optimizer.lr=0.1",)
        with SampleRun(runs_dir, name, start=NOW + seed, seed=seed, group="aa", overrides=overrides) as run:
            run.better = 0.01 * seed
            run.begin().prepare().train_epoch(1).finish()
    heading, row, *_ = cifartui("compare", "a003", "a004").stdout.splitlines()
    assert heading.split()[-2:] == ["N", "RUN"]
    assert row.startswith("basenet lr 0.1 ")
    assert "23.8 ± 0.7 %" in row
    assert row.endswith("2  seeds 3, 4 (completed)")
    found = json.loads(cifartui("compare", "a003", "a004", "--json").stdout)
    assert [each["run"][-4:] for each in found] == ["a003", "a004"]
    assert found[0]["val_spread"] == found[1]["val_spread"]
    assert (found[0]["val_spread"]["n"], found[0]["settings"]) == (2, ["lr 0.1", "seed 3"])


def test_delete_needs_a_yes(cifartui: Call, two: list[RunDir], runs_dir: Path) -> None:
    refused = cifartui("delete", "a1b2")
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    assert len(list_runs(runs_dir)) == 2
    assert "could be 2 runs" in cifartui("delete", "basenet", "--yes").stderr
    done = cifartui("delete", "a1b2", "--yes")
    assert (done.returncode, "MB freed" in done.stdout) == (0, True)
    assert [run.id for run in list_runs(runs_dir)] == [two[1].id]


def test_nothing_is_deleted_where_one_of_the_runs_has_a_worker(
    cifartui: Call, two: list[RunDir], runs_dir: Path
) -> None:
    with SampleRun(runs_dir, "live-e5f6").live().begin():
        refused = cifartui("delete", "a1b2", "e5f6", "--yes")
    assert (refused.returncode, "cifartui stop" in refused.stderr) == (2, True)
    assert len(list_runs(runs_dir)) == 3


@pytest.mark.parametrize(("answer", "num_left", "exit_code"), [("n", 2, 1), ("y", 0, 0)])
def test_delete_asks_on_a_terminal(
    two: list[RunDir], runs_dir: Path, answer: str, num_left: int, exit_code: int
) -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-m", "cifartui", "delete", "a1b2", "c3d4"],
        env={**os.environ, "CIFARTUI_RUNS": str(runs_dir)},  # type: ignore[arg-type]
        timeout=PATIENCE_S,
        encoding="utf-8",
    )
    child.expect("Delete these 2 runs for good, 3.* MB in all")
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == exit_code
    assert len(list_runs(runs_dir)) == num_left
