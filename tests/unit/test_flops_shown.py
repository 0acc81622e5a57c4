"""FLOPs that runs have spent, wherever results are shown, and nothing in their place where they were not counted."""

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from engine.journal import events as ev
from engine.journal.state import fold
from presets.catalog import list_presets
from tests.report_page import check
from tests.ui.sample_run import NOW, SampleRun
from tests.unit.test_compare import run as summary
from tests.unit.test_compare import seeds_of
from tests.unit.test_state import DATA, STAGE, STARTED, epoch
from tui import format as fmt
from tui.cli import run_page
from tui.cli.main import cifartui
from tui.data.compare import compare_runs, comparison_table
from tui.data.run_detail import run_detail
from tui.data.seed_group import with_groups
from tui.plots.export import epochs_csv
from tui.report.comparison import comparison_csv, comparison_markdown
from tui.report.content import read_report
from tui.report.html import html
from tui.report.markdown import markdown

SPENT = ev.Flops(train=0.92e15, optimizer=0.25e15, evaluation=0.07e15)
UNCOUNTED = [epoch(1, 0.9), epoch(2, 0.8)]
COUNTED = [replace(UNCOUNTED[0], flops=ev.Flops(train=0.5e15)), replace(UNCOUNTED[1], flops=ev.Flops(train=1e15))]
END = ev.RunFinished(
    outcome="completed", reason="", epoch=2, global_step=20, best_epoch=1, best_val_top1=0.9, test_top1=0.7, flops=SPENT
)


def made(folder: Path, *, counted: bool = True, run_id: str = "basenet-a3f2", seed: int = 0) -> SampleRun:
    run = SampleRun(folder, run_id, seed=seed).live()
    end = END if counted else replace(END, flops=None)
    for event in (STARTED, DATA, STAGE, *(COUNTED if counted else UNCOUNTED), end):
        run.write(event, 1.0)
    run.die()
    return run


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (None, "n/a"), (0.92, "0.92 PFLOP"), (632, "632 PFLOP"), (1.2433, "1.24 PFLOP"), (12_345.6, "12,346 PFLOP"),
        (0.1, "0.1 PFLOP"), (0.0999, "99.9 TFLOP"), (0.013, "13 TFLOP"), (0.0000123, "12.3 GFLOP"), (0, "0 GFLOP"),
    ],
)  # fmt: skip
def test_pflop_have_three_digits_and_smaller_ones_a_smaller_unit(number: float | None, shown: str) -> None:
    assert fmt.pflop(number) == shown


def test_a_page_says_all_and_its_parts(tmp_path: Path) -> None:
    said = dict(run_page.fields(run_detail(made(tmp_path).folder, NOW)))["spent"]
    assert said == "1.24 PFLOP: training 0.92 PFLOP, optimizer 0.25 PFLOP, evaluation 70 TFLOP"
    older = run_detail(made(tmp_path, counted=False, run_id="basenet-b4d7").folder, NOW)
    assert dict(run_page.fields(older))["spent"] == ""


def test_json_has_the_parts_in_flop(tmp_path: Path) -> None:
    run = made(tmp_path)
    made(tmp_path, counted=False, run_id="basenet-b4d7")
    told = json.loads(CliRunner().invoke(cifartui, ["runs", "--json", "--runs-dir", str(tmp_path)]).stdout)
    found = {each["id"]: each["flops"] for each in told}
    assert found[run.folder.id] == {"train": 0.92e15, "optimizer": 0.25e15, "evaluation": 0.07e15}
    assert list(found.values()).count(None) == 1
    shown = json.loads(CliRunner().invoke(cifartui, ["show", "a3f2", "--json", "--runs-dir", str(tmp_path)]).stdout)
    assert shown["summary"]["flops"] == found[run.folder.id]
    assert [point["flops"]["train"] for point in shown["epochs"]] == [0.5e15, 1e15]


def test_curves_have_a_column_where_they_were_counted() -> None:
    counted, older = (epochs_csv(fold([STARTED, DATA, STAGE, *told])) for told in (COUNTED, UNCOUNTED))
    assert [row["pflop"] for row in csv.DictReader(io.StringIO(counted))] == ["0.5", "1.0"]
    assert "pflop" not in older


def test_comparisons_have_a_column_where_a_run_has_it() -> None:
    counted = replace(summary("ablation/step-03", 0.1), flops=SPENT)
    rows = compare_runs([counted, summary("ablation/step-04", 0.2)], list_presets())
    heading, first, second, *notes = comparison_table(rows)
    end = heading.index("SPENT") + len("SPENT")
    assert first[:end].endswith("  1.24 PFLOP")
    assert second[end - 11 : end].isspace()
    assert any(note.startswith("SPENT: ") for note in notes)
    assert "SPENT" not in "".join(comparison_table(compare_runs([summary("ablation/step-03", 0.1)], list_presets())))
    assert [row["pflop"] for row in csv.DictReader(io.StringIO(comparison_csv(rows)))] == ["1.240000", ""]
    heads, _, first, second = comparison_markdown(rows).splitlines()
    assert heads.endswith("| test | spent | run |")
    assert "| 1.24 PFLOP | ablation" in first
    assert heads.count("|") == second.count("|")


def test_columns_stand_under_their_heads_where_classes_are_uneven_too() -> None:
    run = replace(
        summary("ablation/step-03", 0.1), flops=SPENT, best_val_balanced=0.3, test_top1=0.7, test_balanced=0.4
    )
    rows = compare_runs([run], list_presets())
    heads, _, cells = (line.split(" | ") for line in comparison_markdown(rows).splitlines())
    assert dict(zip(heads[-4:], cells[-4:], strict=True)) == {
        "test": "70.0 %", "balanced": "40.0 %", "spent": "1.24 PFLOP", heads[-1]: cells[-1],
    }  # fmt: skip
    heading, row, *_ = comparison_table(rows)
    assert row[: heading.index("SPENT") + len("SPENT")].endswith("70.0 %    40.0 %   1.24 PFLOP")


def test_a_group_of_seeds_has_the_mean_of_a_run(tmp_path: Path) -> None:
    one, two, three = seeds_of("ablation/step-03", 0.1, 0.2, 0.3)
    flops = [ev.Flops(train=amount) for amount in (1e15, 2e15, 3e15)]
    counted = [replace(run, flops=spent) for run, spent in zip((one, two, three), flops, strict=True)]
    (row,) = compare_runs(with_groups(counted), list_presets())
    assert row.pflop == 2
    (row,) = compare_runs(with_groups([counted[0], counted[1], three]), list_presets())
    assert row.pflop is None


def test_reports_have_it_in_the_facts_and_beside_each_other(tmp_path: Path) -> None:
    runs = [made(tmp_path, run_id=f"basenet-000{seed}", seed=seed) for seed in (1, 2)]
    older = made(tmp_path, counted=False, run_id="basenet-0009", seed=3)
    said = "1.24 PFLOP: training 0.92 PFLOP, optimizer 0.25 PFLOP, evaluation 70 TFLOP"
    one = read_report(runs[0].folder, NOW)
    assert said in check(html([one])).text
    assert f"| spent | {said} |" in markdown([one])
    group = [read_report(run.folder, NOW) for run in runs]
    page = check(html(group)).text
    assert page.count("1.24 PFLOP") == 2 + 1 + 1  # each, their mean, the fact that they have in common
    assert markdown(group).count("| 1.24 PFLOP |") == 3
    with_older = [*group, read_report(older.folder, NOW)]
    assert check(html(with_older)).text.count("1.24 PFLOP") == 2 + 2  # no mean: it is not known of all
    assert markdown(with_older).count("| 1.24 PFLOP |") == 2
