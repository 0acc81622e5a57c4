"""What `cifartui show` prints of made-up runs, and what its JSON holds."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.journal import commands, events
from engine.journal.jsonl import append_command
from engine.journal.series import StepPoint
from tests.ui.sample_run import NOW, SampleRun, staged, training
from tui.cli.run_page import run_page
from tui.data.run_detail import detail_and_state, run_detail, thinned
from tui.plots.axes import Axis
from tui.plots.chart import Chart, Line, Reference
from tui.plots.render import text_rows
from tui.terminal.streams import in_ascii


def printed(run: SampleRun, width: int = 80, *, coloured: bool = False) -> list[str]:
    rows = run_page(*detail_and_state(run.folder, NOW), width, coloured=coloured)
    return [row.plain for row in rows]


def answered(run: SampleRun, command: commands.AnyCommand, effect: str, *, accepted: bool = True) -> None:
    append_command(run.folder.commands, command)
    run.write(
        events.CommandApplied(
            command_id=command.id, command=type(command).__name__, accepted=accepted, effect=effect, epoch=9,
            global_step=run.global_step,
        )
    )  # fmt: skip


def test_a_page_says_what_the_monitor_shows(tmp_path: Path) -> None:
    with training(tmp_path, gpu=True) as run:
        answered(run, commands.Pause(), "paused; everything stays in memory")
        answered(run, commands.NextStage(), "no next stage: this is the last stage", accepted=False)
        append_command(run.folder.commands, commands.SaveCheckpoint())
        run.write(events.Alerted(severity="warning", kind="x", text="The disk is nearly full.", advice="Delete runs."))
        text = "\n".join(printed(run))
    for said in (
        "BaseNet", "training", "epoch 9 of 15, batch 703 of 1,407", "left", "1,280 images/s", "learning rate 0.005",
        "report 24.0 %", "points)", "28,022 parameters", "CIFAR-100, 45,000 train", "A100", "bf16",
        "GPU peak 35.6 GB by the run", "torch peak 33.0 GB", "worker peak",
        "pause            paused; everything stays in memory (step", "refused: no next stage",
        "save checkpoint  not answered", "The disk is nearly full. Delete runs.", "checkpoints/best.pt", "238.0 kB",
        "epoch   6", "(the file is gone)", "cifartui attach basenet-a3f2",
    ):  # fmt: skip
        assert said in " ".join(text.split()) or said in text, said


def test_a_run_that_is_over_names_its_report_and_a_live_one_does_not(tmp_path: Path) -> None:
    with training(tmp_path) as run:
        assert not any("cifartui report" in row for row in printed(run))
        run.finish()
        assert any(row.startswith("  cifartui report basenet-a3f2") for row in printed(run))


@pytest.mark.parametrize(
    ("width", "row"), [(100, " lr 0.01 decay 0.0005 seed 3   "), (60, " lr 0.01 decay 0.00…   "), (40, "a3f2   ")]
)
def test_the_settings_stand_behind_the_id_as_far_as_there_is_room(tmp_path: Path, width: int, row: str) -> None:
    overrides = ("optimizer.lr=0.01", "optimizer.weight_decay=0.0005")
    with SampleRun(tmp_path, overrides=overrides, seed=3).begin().prepare() as run:
        run.train_epoch(1).finish()
    second = printed(run, width)[1]
    assert f"{row}completed" in second
    assert second.startswith(run.folder.id)


MADE: dict[str, Callable[[Path], SampleRun]] = {
    "training": training,
    "staged": staged,
    "waiting": lambda path: SampleRun(path),
    "finished": lambda path: training(path).finish("failed", "CUDA error: " + "device-side assert " * 20),
    "just begun": lambda path: SampleRun(path).live().begin().prepare(),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("width", [40, 80, 99, 100, 160, 400])
@pytest.mark.parametrize("coloured", [False, True])
def test_no_row_is_wider_than_the_page(tmp_path: Path, name: str, width: int, coloured: bool) -> None:
    with MADE[name](tmp_path) as run:
        rows = printed(run, width, coloured=coloured)
    wide = [row for row in rows if len(row) > width]
    assert all(len(row.split()[-1]) > width - 14 for row in wide), wide  # a path, which is not cut in two
    assert all(in_ascii(row).isascii() for row in rows)
    assert not any("\x1b" in row for row in rows)


def test_plots_lie_beside_each_other_from_100_columns_on(tmp_path: Path) -> None:
    with training(tmp_path) as run:
        narrow, wide = printed(run, 99), printed(run, 100)
    assert not any("loss" in row and "top-1 %" in row for row in narrow[:20])
    assert any("loss" in row and "top-1 %" in row for row in wide[:4])


def test_a_stage_counts_its_own_epochs(tmp_path: Path) -> None:
    with staged(tmp_path) as run:
        text = "\n".join(printed(run))
    assert "from epoch   1, 3 of 3 epochs" in text
    assert "from epoch   4, 2 of 4 epochs" in text


def test_a_lost_run_without_a_checkpoint_is_not_offered_a_resume(tmp_path: Path) -> None:
    with SampleRun(tmp_path, seed=2).live().begin().prepare() as run:
        run.die()
        lost = "\n".join(printed(run))
    assert "cifartui train basenet --seed 2  start it anew" in lost
    assert "resume" not in lost


def test_what_to_do_next_fits_what_became_of_the_run(tmp_path: Path) -> None:
    with training(tmp_path) as run:
        assert "cifartui stop" in "\n".join(printed(run))
        run.die()
        lost = "\n".join(printed(run))
        assert "lost: the worker ended without a last word" in lost
        assert "cifartui resume basenet-a3f2" in lost
        assert "start it anew" not in lost
        run.finish()
        done = "\n".join(printed(run))
        assert [line.split("  ")[1] for line in done.splitlines() if "resume" in line] == [
            "cifartui resume basenet-a3f2 --epochs +5"
        ]
        assert "24.1 %, report 23.8 % (+0.3 points)" in done


def test_text_from_elsewhere_cannot_command_the_terminal(tmp_path: Path) -> None:
    with training(tmp_path) as run:
        run.write(events.Alerted(severity="error", kind="x", text="bad \x1b[2J\x07 [bold]text[/bold]"))
        text = "\n".join(printed(run))
    assert "\x1b" not in text
    assert "[bold]text[/bold]" in text


def test_json_holds_every_epoch_and_few_steps(tmp_path: Path) -> None:
    with training(tmp_path) as run:
        whole = json.loads(msgspec.json.encode(run_detail(run.folder, NOW, None)))
        short = json.loads(msgspec.json.encode(run_detail(run.folder, NOW, 50)))
    assert len(whole["steps"]) == whole["num_steps"] == short["num_steps"] == 340
    assert len(short["steps"]) <= 50
    for key in ("loss", "top1"):
        for extreme in (min, max):
            assert extreme(p[key] for p in short["steps"]) == extreme(p[key] for p in whole["steps"])
    assert [point["global_step"] for point in whole["epochs"]] == [1407 * number for number in range(1, 9)]
    assert whole["eta_s"] == pytest.approx(260, rel=0.02)
    assert whole["peak_memory"]["worker_bytes"] >= whole["device"]["host"]["process_rss_bytes"]


def test_every_field_is_documented() -> None:
    from tui.data.run_detail import RunDetail

    text = (Path(__file__).parents[2] / "docs/show.md").read_text()
    assert [name for name in RunDetail.__struct_fields__ if f"`{name}`" not in text] == []


@given(st.lists(st.tuples(st.floats(allow_nan=True), st.floats(0, 1)), max_size=300), st.integers(10, 100))
def test_thinning_keeps_ends_order_and_extremes(values: list[tuple[float, float]], most: int) -> None:
    points = [StepPoint(number, float(number), 0.0, loss, top1) for number, (loss, top1) in enumerate(values)]
    kept = thinned(points, most)
    assert len(kept) <= most
    assert [point.global_step for point in kept] == sorted({point.global_step for point in kept})
    if points:
        assert (kept[0].global_step, kept[-1].global_step) == (0, len(points) - 1)  # points with NaN are not equal
        assert max(point.top1 for point in kept) == max(point.top1 for point in points)
        finite = [point.loss for point in points if math.isfinite(point.loss)]
        assert not finite or min(finite) in [point.loss for point in kept]


@given(
    st.lists(st.tuples(st.floats(-1, 11), st.floats(allow_nan=True, allow_infinity=True)), max_size=50),
    st.integers(12, 200), st.integers(5, 30), st.sampled_from(["", "o"]),
)  # fmt: skip
def test_a_printed_chart_has_its_size_whatever_is_drawn(
    points: list[tuple[float, float]], width: int, height: int, marker: str
) -> None:
    line = Line([x for x, _ in points], [y for _, y in points], "", marker)
    level = Reference(2.0, "report 2", "")
    chart = Chart("loss", Axis(0, 10, 2), Axis(0, 4, 1), "epochs", (line,), reference=level, boundaries=(5.0,))
    rows = text_rows(chart, width, height)
    assert len(rows) == height
    assert all(row.cell_len <= width for row in rows)
    assert all(in_ascii(row.plain).isascii() for row in rows)


def test_in_ascii_the_curves_are_told_apart(tmp_path: Path) -> None:
    with training(tmp_path) as run:
        rows = [in_ascii(row) for row in printed(run)]
    assert "* train 2.87   o val 2.98   # best" in rows[3]
    plot = "".join(row[5:] for row in rows[4:12])
    assert set("*o#") <= set(plot)


def test_a_falling_line_falls() -> None:
    chart = Chart("x", Axis(0, 10, 5), Axis(0, 10, 5), "epochs", (Line([0, 10], [10, 0], ""),))
    rows = [row.plain[5:] for row in text_rows(chart, 25, 13)[1:11]]
    first = [next(column for column, char in enumerate(row) if char != " ") for row in rows]
    assert first == sorted(first)
    assert (first[0], len(rows[-1])) == (0, 20)
