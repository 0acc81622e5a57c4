"""Rows of the comparison: what is compared with what, and what is marked as not comparable."""

import msgspec
import pytest

from presets.catalog import list_presets
from tui.data.compare import Row, ablation_presets, compare, compare_runs, comparison_table, newest_by_preset, points
from tui.data.summary import Summary

LISTED = list_presets()


def run(
    preset_name: str, val: float | None, *, epochs: int = 15, status: str = "completed", created: float = 1.0
) -> Summary:
    return Summary(
        id=f"{preset_name}-{created:.0f}", preset_name=preset_name, title="T", overrides=(), status=status,  # type: ignore[arg-type]
        reason="", created=created, seed=0, data="", device="", epoch=3, epochs=epochs, global_step=1, train_loss=1.0,
        val_loss=1.0, best_epoch=1, best_val_top1=val, test_top1=None, alerts=(), path="",
    )  # fmt: skip


def rows(*runs: Summary) -> dict[str, Row]:
    found = compare(ablation_presets(LISTED), newest_by_preset(runs), LISTED)
    return {row.step: row for row in found}


def test_every_step_has_a_row_with_the_reports_numbers() -> None:
    found = rows()
    assert list(found)[:6] == ["0", "1", "2", "3", "4", "5"]
    assert found["12"].change == "images resized to 64 px"
    assert (found["12"].report_before, found["12"].report) == (0.58, 0.62)
    assert all(row.measured is None and not row.run for row in found.values())
    assert found["15"].epochs == 700


def test_differences_are_to_the_step_that_is_built_on_in_both_columns() -> None:
    found = rows(run("ablation/step-03", 0.10), run("ablation/step-04", 0.18), run("ablation/step-02", 0.27))
    assert found["4"].base == "ablation/step-03"
    assert found["4"].measured_difference == pytest.approx(0.08)
    assert found["4"].report_difference == pytest.approx(0.11)
    assert found["3"].measured_difference == pytest.approx(-0.17)
    assert found["0"].report_difference is None  # basenet is where it comes from, not a step
    assert found["5"].measured_difference is None
    assert not found["4"].is_partial


def test_a_run_that_is_not_whole_is_marked_with_those_compared_with_it() -> None:
    found = rows(
        run("ablation/step-00", 0.2, epochs=2), run("ablation/step-01", 0.26),
        run("ablation/step-09", 0.3, status="stopped"),
    )  # fmt: skip
    assert (found["0"].is_partial, found["1"].is_partial, found["9"].is_partial) == (True, True, True)
    text = "\n".join(comparison_table(list(found.values())))
    assert "+6.0*" in text
    assert "stopped, 3/15" in text
    assert "not trained to its end" in text


def test_the_newest_completed_run_stands_for_its_preset() -> None:
    runs = [run("a", 0.1, created=1), run("a", 0.2, created=2), run("a", 0.3, status="training", created=3)]
    chosen = newest_by_preset([*runs, run("b", None, status="failed")])
    assert (chosen["a"].best_val_top1, chosen["b"].status) == (0.2, "failed")


def test_any_runs_can_be_compared_also_of_presets_that_are_gone() -> None:
    found = compare_runs([run("gone", 0.5), run("ablation/step-01", 0.3), run("ablation/step-00", 0.1)], LISTED)
    assert [row.step for row in found] == ["gone", "1", "0"]
    assert (found[0].change, found[0].report) == ("T", None)
    assert found[1].measured_difference == pytest.approx(0.2)


def test_two_runs_of_one_preset_keep_their_own_rows() -> None:
    found = compare_runs([run("a", 0.1, created=1), run("a", 0.2, created=2)], LISTED)
    assert [row.measured for row in found] == [0.1, 0.2]


def test_rows_are_aligned_and_can_be_json() -> None:
    lines = comparison_table(list(rows(run("ablation/step-00", 0.255)).values()))
    heading, first = lines[0], lines[1]
    assert first.index("25.5 %") + len("25.5 %") == heading.index("VAL") + len("VAL")
    assert msgspec.json.encode(list(rows().values()))
    assert (points(0.016), points(-0.1, "*"), points(None)) == ("+1.6", "-10.0*", "")
