from pathlib import Path

import pytest

from engine.runs import start
from engine.runs.run_dir import RunDir
from engine.runs.run_options import RunOptions
from engine.runs.start import start_range_test, start_run


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[RunDir]:
    runs: list[RunDir] = []
    monkeypatch.setattr(start, "start_worker", lambda run, notify: runs.append(run))
    return runs


def test_a_preset_file_gives_the_run_its_bare_name(tmp_path: Path, launched: list[RunDir]) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('extends = "demo"\n')
    run = start_run(tmp_path / "runs", str(mine), RunOptions(overrides=("train.epochs=2",), seed=3, device="cpu"))
    info = run.read_info()
    assert [each.id for each in launched] == [run.id]
    assert run.id.split("-")[1] == "mine"
    assert (info.preset.train.epochs, info.seed, info.device, info.overrides) == (2, 3, "cpu", ("train.epochs=2",))


def test_a_preset_that_was_given_as_a_file_is_recorded_from_the_root(
    tmp_path: Path, launched: list[RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text('extends = "demo"\n')
    monkeypatch.chdir(tmp_path)
    mine, test = start_run(tmp_path / "runs", "mine.toml"), start_range_test(tmp_path / "runs", "mine.toml")
    assert {run.read_info().preset_source for run in (mine, test)} == {str(tmp_path / "mine.toml")}
    assert start_run(tmp_path / "runs", "demo").read_info().preset_file == ""
    assert start_range_test(tmp_path / "runs", "demo").read_info().preset_source == "demo"


def test_paths_are_kept_from_the_root(tmp_path: Path, launched: list[RunDir], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images/train/a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIFARTUI_DATA", "images")
    options = RunOptions(overrides=("data.dataset=class-folders", "data.path=images"))
    info = start_run(tmp_path / "runs", "demo", options).read_info()
    assert info.preset.data.path == str(tmp_path / "images")
    assert info.data_dir == str(tmp_path / "images")


def test_the_folder_named_goes_before_the_environment(
    tmp_path: Path, launched: list[RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFARTUI_DATA", "/somewhere/else")
    info = start_run(tmp_path / "runs", "demo", RunOptions(data_dir=str(tmp_path))).read_info()
    assert info.data_dir == str(tmp_path)
