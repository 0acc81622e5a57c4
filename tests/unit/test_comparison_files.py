"""Tables of `compare` and `ablation` as CSV and Markdown, and several runs as one picture."""

import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from engine.runs.run_dir import RunDir, list_runs
from engine.runs.run_options import RunOptions
from presets.catalog import list_presets
from presets.errors import CifartuiError
from tests.ui.sample_run import SampleRun, training
from tests.unit.test_compare import run
from tui.cli import compare, train
from tui.cli.main import cifartui
from tui.data.compare import compare_runs
from tui.data.seed_group import with_groups
from tui.plots.export import overlaid_runs, overlay_svg
from tui.report.comparison import comparison_csv, comparison_markdown

ROWS = compare_runs(
    [run("ablation/step-03", 0.10), run("ablation/step-04", 0.18, status="stopped"), run("ablation/step-05", None)],
    list_presets(),
)


def test_csv_has_all_that_json_says() -> None:
    first, second, third = csv.DictReader(io.StringIO(comparison_csv(ROWS)))
    assert (first["step"], first["measured"], first["status"]) == ("3", "0.100000", "completed")
    assert (second["measured_difference"], second["is_partial"]) == ("0.080000", "True")
    assert (third["measured"], third["run"]) == ("", "ablation/step-05-1")
    assert set(first) >= {"preset_name", "report", "report_difference", "test", "epochs"}


def test_markdown_has_the_columns_of_the_printed_table() -> None:
    lines = comparison_markdown(ROWS).splitlines()
    assert lines[0] == "| step | change | report | diff | val | diff | test | run |"
    assert {line.count(" | ") for line in lines[2:]} == {7}
    assert "| 18.0 % | \\+8.0\\* |" in lines[3]
    assert "(stopped, 3/15)" in lines[3]


def test_markdown_says_mean_and_deviation_of_seeds() -> None:
    seeds = [
        replace(run("ablation/step-03", val), id=f"step-03-{seed}", seed=seed, group="a1")
        for seed, val in enumerate((0.10, 0.12, 0.14))
    ]
    (row,) = comparison_markdown(compare_runs(with_groups(seeds), list_presets())).splitlines()[2:]
    assert "| 12.0 ± 2.0 % |" in row
    assert "seeds 0, 1, 2 (n = 3)" in row


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("compare latest --diff --csv -", "--diff is printed beside the table; name a file"),
        ("compare latest --diff --markdown -", "--diff is printed beside the table; name a file"),
        ("compare latest --json --csv -", "Only one of --json, --csv - and --markdown - can be printed"),
        ("compare latest --csv - --markdown -", "Only one of --json, --csv - and --markdown - can be printed"),
        ("ablation 1 --csv -", "--csv - and --markdown - are for --table"),
        ("ablation 1 --markdown -", "--csv - and --markdown - are for --table"),
        ("ablation 1 --detach --csv new.csv", "--detach prints no table; write --csv and --markdown later"),
        ("ablation 1 --detach --markdown new.md", "--detach prints no table; write --csv and --markdown later"),
        ("ablation 1 --seeds 1,1", "--seeds name 1 twice"),
        ("ablation 1 --seeds 1,2 --seed 3", "leave seed at 0"),
        ("report latest --output new.txt", "has no ending that says its form"),
        ("report latest --no-evaluate --data .", "--data is for what is measured"),
        ("export latest --format svg --log", "--log is for the picture of several runs"),
        ("export latest --format csv --json", "--json is for networks"),
        ("export latest --format svg --with-preprocessing", "--with-preprocessing is for networks"),
    ],
)
def test_options_that_do_not_go_together_are_refused_and_write_nothing(
    arguments: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with training(tmp_path / "runs"):
        pass
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    refused = called(tmp_path / "runs", *arguments.split())
    assert refused.exit_code != 0
    assert said in str(refused.exception) + refused.output
    assert "STEP" not in refused.output
    assert not list((tmp_path / "here").iterdir())
    assert len(list_runs(tmp_path / "runs")) == 1


def test_files_name_the_settings_that_the_printed_table_has() -> None:
    found = compare_runs([replace(run("basenet", 0.2), overrides=("optimizer.lr=0.01",)), run("basenet", 0.3)], ())
    (first, _) = csv.DictReader(io.StringIO(comparison_csv(found)))
    assert first["settings"] == "lr 0.01"
    lines = comparison_markdown(found).splitlines()
    assert lines[2].startswith("| basenet lr 0.01 |")
    assert lines[3].startswith("| basenet |")


def called(runs_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cifartui, ["--runs-dir", str(runs_dir), *arguments])


def test_a_table_goes_to_a_file_or_alone_to_standard_output(tmp_path: Path) -> None:
    with training(tmp_path / "runs") as sample:
        name = sample.folder.id
    path = tmp_path / "table.md"
    both = called(tmp_path / "runs", "compare", name, "--markdown", str(path))
    assert both.exit_code == 0
    assert "STEP" in both.output
    assert path.read_text().startswith("| step |")
    again = called(tmp_path / "runs", "compare", name, "--markdown", str(path))
    assert "is there already" in str(again.exception) + again.output
    alone = called(tmp_path / "runs", "compare", name, "--csv", "-").output
    assert [row["run"] for row in csv.DictReader(io.StringIO(alone))] == [name]
    refused = called(tmp_path / "runs", "compare", name, "--csv", "-", "--json")
    assert "can be printed" in str(refused.exception) + refused.output


def test_a_group_of_seeds_stands_for_its_runs_on_the_command_line(tmp_path: Path) -> None:
    runs_dir, group = tmp_path / "runs", "00c0ffee0000"
    for seed in (1, 0):
        with SampleRun(runs_dir, f"basenet-a3f{seed}", seed=seed, group=group).begin().prepare() as run:
            run.train_epoch(1).finish(test_top1=0.2 + seed / 100)
    assert "seeds 0, 1" in called(runs_dir, "compare", "00c0ffee").output
    shown = json.loads(called(runs_dir, "show", group, "--json").output)
    assert [(each["summary"]["seed"], each["summary"]["group"]) for each in shown] == [(0, group), (1, group)]
    pages = called(runs_dir, "show", group).output
    assert pages.index("basenet-a3f0 seed 0") < pages.index("basenet-a3f1 seed 1")
    page = tmp_path / "all.md"
    assert called(runs_dir, "report", group, "--no-evaluate", "--output", str(page)).exit_code == 0
    assert "# 2 runs beside each other" in page.read_text()
    assert called(runs_dir, "export", group, "--format", "svg", "--output", str(tmp_path / "both.svg")).exit_code == 0
    for one in (("export", group, "--format", "csv"), ("evaluate", group), ("stop", group), ("resume", group),
                ("attach", group), ("predict", group, "x.png")):  # fmt: skip
        refused = called(runs_dir, *one)
        assert refused.exit_code != 0, one
        said = str(refused.exception) + refused.output
        assert "is a group of 2 runs, and this takes one: name one of" in said, one
        assert "basenet-a3f0, " in said, one
    assert called(runs_dir, "delete", group, "--yes").exit_code == 0
    assert not list_runs(runs_dir)


def trained_at_once(
    monkeypatch: pytest.MonkeyPatch, command: ModuleType = compare, *, codes: Sequence[int] = ()
) -> None:
    """Let the command's runs be made up and over at once, with these exit codes of following, then 0."""
    ended = iter(codes)

    def start(runs_dir: Path, name: str, options: RunOptions) -> RunDir:
        made: dict[str, object] = {"seed": options.seed, "group": options.group, "preset_name": name}
        run_name = f"{name.replace('/', '-')}-{options.seed:04}"
        sample = SampleRun(runs_dir, run_name, overrides=options.overrides, **made).begin().prepare()
        sample.better = options.seed / 100
        sample.train_epoch(1).finish(test_top1=0.2 + options.seed / 100)
        return sample.folder

    monkeypatch.setattr(command, "start_run", start)
    monkeypatch.setattr(command, "follow", lambda *_: next(ended, 0))
    monkeypatch.setattr(command, "check_needed", lambda *_: None)


def test_every_step_of_the_ablation_is_trained_with_every_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_at_once(monkeypatch)
    result = called(tmp_path, "ablation", "3", "4", "--seeds", "1,3", "--json")
    first, second = json.loads(result.output)
    assert (first["preset_name"], second["preset_name"]) == ("ablation/step-03", "ablation/step-04")
    for row in (first, second):
        assert row["seeds"] == [1, 3]
        assert row["test_spread"] == {"mean": pytest.approx(0.22), "std": pytest.approx(0.0141421, abs=1e-7), "n": 2}
        assert row["val_spread"]["n"] == 2
    assert second["measured_difference"] == pytest.approx(0)
    assert first["group"] != second["group"]
    table = called(tmp_path, "ablation", "3-4", "--table").output.splitlines()
    assert all(" 22.0 ± 1.4 %    2  seeds 1, 3" in line for line in table[1:3])


def test_an_interrupted_ablation_ends_in_its_first_seed_and_a_failed_run_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_at_once(monkeypatch, codes=(1, 0, 130))
    result = called(tmp_path, "ablation", "1", "2", "3", "--seeds", "2")
    assert result.exit_code == 130
    assert "ablation/step-01, seed 1: run " in result.output
    names = [each.read_info().preset_name for each in list_runs(tmp_path)]
    assert sorted(names) == ["ablation/step-01", "ablation/step-01", "ablation/step-02"]
    assert "step-03" not in result.stdout
    assert [line for line in result.stderr.splitlines() if line.startswith("Not")] == [
        "Not trained: ablation/step-02 with seed 1. Train it with:",
        "Not trained: ablation/step-03 with seeds 0, 1. Train it with:",
    ]


@pytest.mark.parametrize("command", ["ablation", "train"])
def test_what_was_trained_before_the_disk_was_full_is_shown_and_what_is_left_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    module = {"ablation": compare, "train": train}[command]
    trained_at_once(monkeypatch, module)
    start = module.start_run

    def start_while_there_is_room(runs_dir: Path, name: str, options: RunOptions) -> RunDir:
        if "step-02" in name and options.seed == 2:
            raise CifartuiError("Cannot write to /runs: No space left on device; choose another folder.")
        return start(runs_dir, name, options)

    monkeypatch.setattr(module, "start_run", start_while_there_is_room)
    steps = [f"ablation/step-0{number}" for number in (1, 2, 3)]
    result = called(tmp_path, command, *steps, "--seeds", "1,2,3")
    assert result.exit_code == 2
    assert [line for line in result.stderr.splitlines() if line.startswith(("Not", "Cannot"))] == [
        "Not trained: ablation/step-02 with seeds 2, 3. Train it with:",
        "Not trained: ablation/step-03 with seeds 1, 2, 3. Train it with:",
    ]
    assert "No space left on device" in result.stderr
    shown = result.stdout.splitlines()
    of_step_1, of_step_2 = {"ablation": ("22.0 ± 1.0 %", "21.0 %"), "train": ("22.00 ± 1.00 %", "21.00 %")}[command]
    assert any(of_step_1 in line for line in shown)
    assert any(of_step_2 in line for line in shown)
    assert not any("step-03" in line for line in shown)


def test_several_runs_are_one_picture_with_their_names_and_results(tmp_path: Path) -> None:
    with training(tmp_path) as one, training(tmp_path, name="basenet-77ff") as two:
        drawn = overlaid_runs([one.folder, two.folder])
    root = ElementTree.fromstring(overlay_svg(drawn))
    said = [element.text or "" for element in root.iter() if element.tag.endswith("text")]
    assert [text[:2] for text in said if text.endswith(" %") and text[0] in "12"] == ["1 ", "2 "]
    assert {"loss", "top-1 %", "━ val", "epochs"} <= set(said)
    assert len([element for element in root.iter() if element.tag.endswith("polyline")]) == 4
    logarithmic = [element.text for element in ElementTree.fromstring(overlay_svg(drawn, is_log=True)).iter()]
    assert "5" in logarithmic
    assert "5" not in said


def test_runs_without_curves_and_too_many_are_refused(tmp_path: Path) -> None:
    with SampleRun(tmp_path).live().begin() as run_without, pytest.raises(CifartuiError, match="no epoch was trained"):
        overlaid_runs([run_without.folder])
    with pytest.raises(CifartuiError, match="At most 6 runs"):
        overlaid_runs([run_without.folder] * 7)
