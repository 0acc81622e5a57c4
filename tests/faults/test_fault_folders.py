"""Runs that cannot be read, or that a newer version made, cost their own row and nothing else."""

import json
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from engine.queue.allocation import held_devices, taken_devices
from engine.runs import run_dir, start
from engine.runs.delete import delete_run
from engine.runs.find_run import find_run
from engine.runs.newer_info import not_understood, read_shown
from engine.runs.resume import resume_run
from engine.runs.run_dir import RunDir
from engine.runs.worker_mark import sign_lock
from presets import catalog
from presets.errors import CifartuiError
from tests.other_user import NOBODY, as_another_user
from tui.cli.main import cifartui
from tui.data.compare import RunSide, differences
from tui.data.run_detail import run_detail
from tui.data.run_list import RunLister


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for above in (tmp_path, *tmp_path.parents[:-1]):
        if above.stat().st_uid == os.geteuid():
            above.chmod(above.stat().st_mode | 0o011)
    path = tmp_path / "all"
    path.mkdir()
    return path


def make(folder: Path, name: str, change: Callable[[dict[str, Any]], object] | None = None) -> RunDir:
    run = run_dir.create(folder, "demo", name, preset=catalog.load("demo"), seed=0, device="auto")
    if change is not None:
        content = json.loads((run.path / "run.json").read_bytes())
        change(content["preset"])
        (run.path / "run.json").write_text(json.dumps(content))
    return run


def newer(preset: dict[str, Any]) -> None:
    preset["optimizer"] = {"name": "lion", "lr": 0.1, "betas": [0.9, 0.99]}
    preset["train"]["zoom"] = 3


def link_to_itself(folder: Path) -> Path:
    path = folder / "20260101T000000-loop"
    path.symlink_to(path.name)
    return path


NEWER: dict[str, tuple[Callable[[dict[str, Any]], object], dict[str, str]]] = {
    "key": (lambda preset: preset["train"].update(zoom=3), {"preset.train.zoom": "3"}),
    "key at the top": (lambda preset: preset.update(teacher={"of": 1}), {"preset.teacher": '{"of":1}'}),
    "optimizer": (
        lambda preset: preset.update(optimizer={"name": "lion", "lr": 1}),
        {"preset.optimizer": '{"name":"lion","lr":1}'},
    ),
    "network": (
        lambda preset: preset.update(model={"network": "mamba"}),
        {"preset.model": '{"network":"mamba"}'},
    ),
    "op": (
        lambda preset: preset["train"].update(augment=[{"op": "horizontal-flip"}, {"op": "warp", "by": 2}]),
        {"preset.train.augment[1]": '{"op":"warp","by":2}'},
    ),
    "data set": (lambda preset: preset["data"].update(dataset="imagenet"), {"preset.data.dataset": "imagenet"}),
    "precision": (lambda preset: preset["train"].update(precision="fp8"), {"preset.train.precision": "fp8"}),
}


@pytest.mark.parametrize("kind", NEWER)
def test_a_run_of_a_newer_version_is_shown_as_far_as_it_is_understood_and_not_resumed(folder: Path, kind: str) -> None:
    change, left_out = NEWER[kind]
    run = make(folder, "newer", change)
    info = read_shown(run)
    assert not_understood(info) == left_out
    assert (info.id, info.preset.title) == (run.id, catalog.load("demo").title)
    listed = RunLister(folder, lambda: info.created).list()
    assert [(each.id, each.not_understood) for each in listed.runs] == [(run.id, tuple(left_out))]
    assert run_detail(run, info.created).summary.not_understood == tuple(left_out)
    with pytest.raises(CifartuiError, match=r"made by a newer version of cifartui: run\.json holds .* resume it with"):
        resume_run(run)


def test_runs_are_compared_by_what_a_newer_version_wrote_and_not_by_what_stands_in_for_it(folder: Path) -> None:
    runs = [make(folder, "old"), make(folder, "new", newer)]
    found = {each.field: each.values for each in differences([RunSide(read_shown(run), None) for run in runs])}
    assert found["optimizer"] == (None, '{"name":"lion","lr":0.1,"betas":[0.9,0.99]}'), found
    assert found["train.zoom"] == (None, "3")


def test_a_run_json_that_is_wrong_and_not_newer_is_still_damaged(folder: Path) -> None:
    run = make(folder, "wrong", lambda preset: preset["train"].update(epochs=-1))
    with pytest.raises(CifartuiError, match="is not a run directory"):
        read_shown(run)


def test_one_bad_run_costs_its_own_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = make(folder, "good"), make(folder, "newer", newer)
    (make(folder, "damaged").path / "run.json").write_text("{")
    loop = link_to_itself(folder)
    with pytest.raises(SystemExit) as end:
        cifartui(["--runs-dir", str(folder), "runs"])
    assert end.value.code == 0
    rows = {row.split()[0]: row for row in capsys.readouterr().out.splitlines()}
    assert " starting " in rows[good.id] or " lost " in rows[good.id]
    assert "made by a newer version: preset.train.zoom, preset.optimizer not known here" in rows[bad.id]
    assert "unreadable  Too many levels of symbolic links" in rows[loop.name].replace("run.json cannot be opened (", "")
    assert any("damaged" in row for row in rows.values())
    listed = RunLister(folder, lambda: 0.0, limit=None).list()
    assert {run.id for run in listed.runs} == {good.id, bad.id}
    assert {run.state for run in listed.damaged} == {"damaged", "unreadable"}
    assert find_run(folder, good.id).path == good.path
    assert delete_run(folder, good.id)


def test_a_newer_run_that_lives_holds_its_gpu(folder: Path) -> None:
    run = make(folder, "newer", newer)
    link_to_itself(folder)
    fd = start.take_lock(run)
    sign_lock(fd, os.getpid(), ("cuda:1",))
    try:
        assert taken_devices(run_dir.list_runs(folder)) == {"cuda:1"}
        assert held_devices(run_dir.list_runs(folder), ())["cuda:1"].id == run.id
    finally:
        os.close(fd)


def test_a_run_that_another_user_may_not_read_costs_its_own_row(folder: Path, tmp_path: Path) -> None:
    theirs = make(folder, "theirs")
    ours = make(folder, "ours")
    home = tmp_path / "home"
    home.mkdir()
    if os.geteuid() == 0:
        for path in (home, folder, ours.path, *ours.path.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    os.environ["HOME"], before = str(home), os.environ["HOME"]
    import_module("tui.cli.runs")
    code, said = as_another_user(tmp_path, lambda: cifartui(["--runs-dir", str(folder), "runs"]))
    os.environ["HOME"] = before
    assert code == 0, said
    rows = {row.split()[0]: row for row in said.splitlines()}
    assert "unreadable  run.json cannot be opened (Permission denied: it belongs to root (user 0))." in rows[theirs.id]
    assert ours.id in rows

    def look() -> None:
        runs = run_dir.list_runs(folder)
        print(
            sorted(run.id for run in runs),
            taken_devices(runs),
            held_devices(runs, ()),
            find_run(folder, "ours"),
        )

    code, said = as_another_user(tmp_path, look)
    assert code == 0, said


def test_a_runs_folder_that_cannot_be_listed_is_said(folder: Path, tmp_path: Path) -> None:
    make(folder, "theirs")
    folder.chmod(0o700)

    def look() -> None:
        print(RunLister(folder, lambda: 0.0).list().problem)

    code, said = as_another_user(tmp_path, look)
    assert code == 0
    assert said.startswith(f"The runs in {folder} cannot be listed (Permission denied: it belongs to root (user 0));")
