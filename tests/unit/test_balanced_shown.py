"""Balanced accuracy beside top-1 wherever results are shown, and nowhere for even classes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from engine.journal import events as ev
from engine.journal.state import RunState, fold
from presets import schema
from presets.catalog import list_presets
from presets.schema import Report
from tests.ui.sample_run import NOW, SampleRun, preset
from tests.unit.test_compare import run as summary
from tests.unit.test_state import DATA, STAGE, STARTED, epoch
from tui import format as fmt
from tui.cli import follow, run_page
from tui.cli.main import cifartui
from tui.data.compare import compare_runs, comparison_table
from tui.data.run_detail import RunDetail, detail_and_state, run_detail
from tui.plots import render
from tui.plots.export import epochs_csv, metrics_svg
from tui.plots.metrics import MONOCHROME, MetricChart, View
from tui.text import preset_text, run_text
from tui.theme import MUTED, VAL

EVEN = [epoch(1, 0.9), epoch(2, 0.8), epoch(3, 0.95)]
UNEVEN = [
    replace(event, val_balanced=balanced, best_by="val_balanced")
    for event, balanced in zip(EVEN, (0.4, 0.6, 0.5), strict=True)
]
END = ev.RunFinished(
    outcome="completed", reason="", epoch=3, global_step=30, best_epoch=2, best_val_top1=0.8, test_top1=0.7,
    best_val_balanced=0.6, test_balanced=0.55,
)  # fmt: skip
SAVED = ev.CheckpointSaved(
    kind="best", path="checkpoints/best.pt", epoch=2, global_step=20, num_bytes=1, seconds=0.1, val_top1=0.8,
    val_balanced=0.6,
)  # fmt: skip


def shown(folder: Path) -> tuple[RunDetail, RunState]:
    return detail_and_state(uneven_run(folder).folder, NOW)


def uneven_run(folder: Path) -> SampleRun:
    """A run whose second epoch is the best by balanced accuracy, and not by top-1."""
    run = SampleRun(folder).live()
    for event in (STARTED, DATA, STAGE, *UNEVEN, SAVED, END):
        run.write(event, 1.0)
    run.die()
    return run


def test_both_accuracies_are_one_text() -> None:
    assert fmt.accuracy(0.831, None) == "83.1 %"
    assert fmt.accuracy(0.831, 0.71) == "83.1 % (balanced 71.0 %)"


def test_the_best_epoch_of_a_state_is_the_one_that_the_run_went_by() -> None:
    def best(epochs: list[ev.EpochCompleted]) -> int:
        state = fold([STARTED, DATA, STAGE, *epochs])
        assert state.best is not None
        return state.best.number

    assert (best(EVEN), best(UNEVEN)) == (3, 2)


def test_the_log_and_the_outcome_say_both() -> None:
    assert run_text.event(UNEVEN[1])[0].startswith("epoch 2: val 80.0 % (balanced 60.0 %), train")
    assert run_text.event(END)[0] == "completed: best val 80.0 % (balanced 60.0 %), test 70.0 % (balanced 55.0 %)"
    asked = ev.Validated(epoch=1, step=5, global_step=5, loss=1.0, top1=0.4, seconds=1.0, balanced=0.3)
    assert "val 40.0 % (balanced 30.0 %)" in run_text.event(asked)[0]
    state = fold([STARTED, DATA, STAGE, *UNEVEN, END])
    assert run_text.result(state) == "best val 80.0 % (balanced 60.0 %), test 70.0 % (balanced 55.0 %)"
    assert "val 1.000 80.0 % (balanced 60.0 %)" in follow.describe(UNEVEN[1], RunState())
    assert "balanced" not in run_text.result(fold([STARTED, DATA, STAGE, *EVEN]))


def test_the_page_says_both(tmp_path: Path) -> None:
    page = dict(run_page.fields(run_detail(uneven_run(tmp_path).folder, NOW)))
    assert page["best val"].startswith("80.0 % (balanced 60.0 %) (epoch 2), report 24.0 %")
    assert page["test"].startswith("70.0 % (balanced 55.0 %), report")
    assert page["last epoch"].endswith("val loss 1.000 and 95.0 % (balanced 50.0 %)")


def test_lists_of_runs_have_both(tmp_path: Path) -> None:
    uneven_run(tmp_path)
    (told,) = json.loads(CliRunner().invoke(cifartui, ["runs", "--json", "--runs-dir", str(tmp_path)]).stdout)
    assert [told[key] for key in ("best_val_top1", "best_val_balanced", "test_balanced")] == [0.8, 0.6, 0.55]
    heading, row = CliRunner().invoke(cifartui, ["runs", "--runs-dir", str(tmp_path)]).stdout.splitlines()
    place = heading.index("BALANCED")
    assert row[place : place + len("BALANCED")] == "  60.0 %"


def test_exported_curves_have_both() -> None:
    even, uneven = (epochs_csv(fold([STARTED, DATA, STAGE, *epochs])).splitlines() for epochs in (EVEN, UNEVEN))
    assert "val_balanced" not in even[0]
    assert uneven[0] == f"{even[0]},val_balanced"
    assert [row.rpartition(",")[2] for row in uneven[1:]] == ["0.4", "0.6", "0.5"]


def test_the_plots_have_both_curves(tmp_path: Path) -> None:
    """On the screen, on the printed page (with and without colours) and in the SVG."""
    size = render.resolution_of(80, 12, "braille")
    state = fold([STARTED, DATA, STAGE, *UNEVEN, SAVED, END])
    for view in (View(), MONOCHROME, View(is_figure=True)):
        chart = MetricChart("top1", Report()).chart(state, size, view)
        curves = [list(line.ys) for line in chart.lines if line.color == MUTED]
        assert curves == [pytest.approx([40.0, 60.0, 50.0])] * (2 if view.is_coloured else 1)
        assert [line.marker for line in chart.lines if line.color == MUTED][-1] == "▪"
        (best,) = [line for line in chart.lines if line.marker == "◆"]
        assert list(best.ys) == pytest.approx([60.0]), "on the curve that decides"
        assert ("▪ balanced" if view.is_figure else "▪ balanced 50.0", MUTED) in chart.legend
    reading = MetricChart("top1", Report()).chart(state, size, View(cursor=0.0)).legend
    assert reading[-2:] == (("• val 90.0 (epoch 1)", VAL), ("▪ balanced 40.0", MUTED))
    assert "▪ balanced 50.0" in "\n".join(row.plain for row in run_page.run_page(*shown(tmp_path), 80, coloured=False))
    picture = metrics_svg(state, Report())
    assert (picture.count("<rect"), picture.count("▪ balanced")) == (1 + 3, 1)


def test_the_plots_of_even_classes_have_one_and_so_has_that_of_the_loss() -> None:
    size = render.resolution_of(80, 12, "braille")
    for metric, epochs in (("top1", EVEN), ("loss", UNEVEN)):
        chart = MetricChart(metric, Report()).chart(fold([STARTED, DATA, STAGE, *epochs]), size, View())  # type: ignore[arg-type]
        assert MUTED not in {line.color for line in chart.lines}
        assert "balanced" not in str(chart.legend)


def test_a_comparison_has_a_column_of_them_if_any_run_has() -> None:
    listed = list_presets()
    even = summary("basenet", 0.2)
    uneven = replace(summary("demo", 0.8), best_val_balanced=0.6, test_balanced=0.55)
    assert "BALANCED" not in "\n".join(comparison_table(compare_runs([even], listed)))
    rows = compare_runs([even, uneven], listed)
    assert [row.measured_balanced for row in rows] == [None, 0.6]
    heading, first, second, *_ = comparison_table(rows)
    assert heading.count("BALANCED") == 2
    assert second.split("80.0 %")[1].split("demo")[0].split() == ["60.0", "%", "55.0", "%"]
    assert len(first.split("20.0 %")[0]) == len(second.split("80.0 %")[0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": schema.Loss(class_weights="balanced")}, "balanced class weights"),
        ({"loss": schema.Loss(class_weights={"bee": 2.0, "ant": 0.5})}, "class weights bee 2, ant 0.5"),
        ({"train": schema.Train(epochs=2, batch_size=4, best_by="val_balanced")}, "best by balanced accuracy"),
    ],
)
def test_a_preset_says_how_it_treats_uneven_classes(changes: dict[str, object], said: str) -> None:
    assert said in preset_text.training(preset(**changes))
    assert "balanced" not in preset_text.training(preset())


def test_a_preset_says_that_it_draws_classes_equally_often() -> None:
    assert preset_text.data(schema.Data(dataset="cifar100", sampler="balanced")).endswith("every class equally often")
