"""Rows of the comparison: what is compared with what, and what is marked as not comparable."""

import msgspec
import pytest
from msgspec.structs import replace

from presets.catalog import list_presets
from tui.data.compare import (
    Row,
    ablation_presets,
    compare,
    compare_runs,
    comparison_table,
    each_run,
    newest_by_preset,
    points,
)
from tui.data.seed_group import with_groups
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


def seeds_of(preset_name: str, *values: float, created: float = 1.0, **changes: object) -> list[Summary]:
    """Return completed runs of a group, with seeds from 0 on and these accuracies."""
    alone = run(preset_name, None, created=created)
    several = [
        replace(alone, id=f"{alone.id}-{seed}", group="aa", seed=seed, best_val_top1=value, test_top1=value + 0.01)
        for seed, value in enumerate(values)
    ]
    return [replace(each, **changes) for each in several]  # type: ignore[arg-type]


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


def test_a_group_of_seeds_stands_for_its_step_with_mean_and_deviation() -> None:
    group = seeds_of("ablation/step-01", 0.24, 0.25, 0.29, created=2)
    group[2] = replace(group[2], status="training")
    found = rows(run("ablation/step-00", 0.2), run("ablation/step-01", 0.5), *group)
    assert found["1"].measured == pytest.approx(0.245)
    assert found["1"].measured_difference == pytest.approx(0.045)
    assert found["1"].val_spread is not None
    assert found["1"].val_spread.std == pytest.approx(0.0070711, abs=1e-7)
    assert (found["1"].val_spread.n, found["1"].seeds, found["1"].is_partial) == (2, (0, 1), False)
    assert (found["0"].val_spread, found["0"].seeds, found["0"].group) == (None, (0,), "")
    assert found["2"].seeds == ()
    lines = comparison_table([found["0"], found["1"]])
    assert lines[0].split() == ["STEP", "CHANGE", "REPORT", "DIFF", "VAL", "DIFF", "TEST", "N", "RUN"]
    assert " 24.5 ± 0.7 %    +4.5   25.5 ± 0.7 %    2  seeds 0, 1 (completed)" in lines[2]
    assert lines[1].endswith("    1  ablation/step-00-1 (completed)")
    assert any(line.startswith("±: sample standard deviation") for line in lines)


def test_runs_of_a_group_are_one_row_to_read_and_a_row_each_in_json() -> None:
    given = [*seeds_of("a", 0.2, 0.4, overrides=("optimizer.lr=0.1",)), run("b", 0.5)]
    grouped, alone = compare_runs(with_groups(given), LISTED)
    assert (grouped.measured, alone.measured) == (pytest.approx(0.3), 0.5)
    assert comparison_table([grouped, alone])[1].startswith("a lr 0.1  T ")
    each = each_run(given, LISTED)
    assert [row.measured for row in each] == [0.2, 0.4, 0.5]
    assert each[0].val_spread == each[1].val_spread == grouped.val_spread
    assert each[2].val_spread is None
    assert [row.seeds for row in each] == [(0,), (1,), (0,)]
    assert comparison_table(each[2:])[0].split()[-1] == "RUN"
    assert "N" not in comparison_table(each[2:])[0].split()
