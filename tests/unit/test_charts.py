"""One chart, three outputs: the screen, the printed page and SVG say the same, and plotext is behind one module."""

import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import tui
from engine.journal import events as ev
from engine.journal.state import EpochPoint, RunState
from engine.runs.lr_search import Cost, Rung, Search, Trial, grid_of
from engine.runs.lr_suggestion import Point, Suggestion
from presets.schema import Report
from presets.short_run import Length
from tests.ui.sample_run import NOW, training
from tui.cli.run_page import run_page
from tui.data.range_test import Verdict
from tui.data.run_detail import detail_and_state
from tui.display import PlotStyle
from tui.plots import render
from tui.plots.axes import Axis, ValueAxis, log_axis, step_axis
from tui.plots.chart import Band, Chart, Line, Mark, Reference
from tui.plots.downsample import Column
from tui.plots.export import svg
from tui.plots.lr_range import rows_of
from tui.plots.lr_search import search_rows
from tui.plots.metrics import METRICS, MONOCHROME, MetricChart, View, XUnit
from tui.theme import MUTED, REFERENCE, TEXT, TRAIN, TRAIN_RANGE, VAL

EVERYTHING = Chart(
    title="loss",
    x=Axis(0, 10, 5),
    y=Axis(0, 4, 2),
    x_unit="epochs",
    lines=(
        Line([0, 2, 4, 6, 8], [3.5, math.nan, 3.0, math.inf, 2.5], TRAIN),
        Line([2, 6], [1.0, -math.inf], VAL, marker="•"),
        Line([4], [0.5], VAL, marker="○"),
        Line([8], [2.5], TEXT, marker="◆"),
    ),
    legend=(("━ train 2.50", TRAIN), ("• val 1.00", VAL)),
    reference=Reference(2.0, "report 2", REFERENCE),
    boundaries=(5.0,),
    bands=(Band([None, Column(2.4, 3.4, 3.0)] * 20, TRAIN_RANGE),),
    marks=(Mark(7.0, "▾stop", TEXT),),
    cursor=1.0,
)
TEXTS = ["loss", "━ train 2.50", "• val 1.00", "0", "2", "4", "5", "10", "epochs", "report 2", "▾stop"]
SIGNS = "•○◆┄┊▾│"


def on_the_screen(chart: Chart, width: int = 80, height: int = 16, grain: PlotStyle = "braille") -> list[str]:
    return ["".join(character for character, _ in row) for row in render.draw(chart, width, height, grain)]


def test_a_chart_says_the_same_on_the_screen_on_the_page_and_as_svg() -> None:
    screen = on_the_screen(EVERYTHING)
    printed = render.text_rows(EVERYTHING, 80, 16)
    assert [row.rstrip() for row in screen] == [row.plain for row in printed]
    assert all(text in "\n".join(screen) for text in TEXTS)
    assert all(sign in "".join(screen) for sign in SIGNS)
    root = ElementTree.fromstring(svg([EVERYTHING], "a run"))
    told = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"a run", "┄ report 2", *TEXTS} - {"report 2"} <= set(told)


def test_svg_has_a_shape_for_every_part_of_a_chart() -> None:
    text = svg([EVERYTHING, EVERYTHING], "twice")
    root = ElementTree.fromstring(text)
    shapes = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert shapes.count("polyline") == 2
    assert shapes.count("polygon") == 2
    assert shapes.count("circle") == 4  # a dot and a ring each
    assert len([element for element in root.iter() if element.get("stroke-dasharray") == "2 3"]) == 2
    assert len([element for element in root.iter() if element.get("stroke-dasharray") == "6 4"]) == 2
    assert "nan" not in text
    assert "inf" not in text
    assert not {TRAIN, TRAIN_RANGE, VAL, REFERENCE, TEXT, MUTED} & set(re.findall(r"#\w{6}", text)), "a screen's colour"


def test_a_chart_without_points_says_why_in_every_output() -> None:
    empty = Chart("loss", Axis(0, 10, 5), Axis(0, 4, 2), "epochs", (), empty="no batch trained yet")
    assert any("no batch trained yet" in row for row in on_the_screen(empty))
    assert any("no batch trained yet" in row.plain for row in render.text_rows(empty, 80, 16))
    assert ">no batch trained yet<" in svg([empty], "")


def test_a_page_leaves_ordinary_text_in_the_terminals_own_colour() -> None:
    styles = {str(span.style) for row in render.text_rows(EVERYTHING, 80, 16) for span in row.spans}
    assert {"bold", "dim", TRAIN, VAL, REFERENCE, TRAIN_RANGE} == styles


@pytest.mark.parametrize("stale", [{}, {"COLUMNS": "30", "LINES": "5"}])
def test_the_frame_is_whole_whatever_the_environment_says_of_the_window(
    monkeypatch: pytest.MonkeyPatch, stale: dict[str, str]
) -> None:
    for name, value in stale.items():
        monkeypatch.setenv(name, value)
    render._frame.cache_clear()
    line = Line([0, 10], [0, 4], TRAIN)
    rows = on_the_screen(Chart("loss", Axis(0, 10, 5), Axis(0, 4, 1), "epochs", (line,)), 45, 12, "ascii")
    assert rows == [
        "loss" + 41 * " ",
        "   4┤                                     ***",
        "    │                                *****   ",
        "   3┤                           *****        ",
        "    │                      *****             ",
        "   2┤                  ****                  ",
        "    │             *****                      ",
        "   1┤        *****                           ",
        "    │   *****                                ",
        "   0┤***                                     ",
        "    └┬───────────────────┬──────────────────┬",
        "     0                   5          10 epochs",
    ]


def test_of_ticks_that_share_a_row_the_lowest_is_labelled() -> None:
    """plotext would take any of them, another one in every process."""
    y = log_axis(-4, 4)
    rows = on_the_screen(Chart("loss", Axis(0, 10, 5), y, "epochs", (Line([0, 1], [0, 1], TRAIN),)), 40, 13)
    labels = [row[: row.index("┤")].strip() for row in rows if "┤" in row]
    assert labels == ["5000", "500", "100", "10", "1", "0.2", "0.02", "0.005", "0.0005", "0.0001"]


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(12, 200), st.integers(4, 60))
@example(0.0, 1e6, 12, 4)  # "2000000 steps" is wider than the plot
def test_every_row_of_a_plot_is_as_wide_as_the_plot(low: float, step: float, width: int, height: int) -> None:
    resolution = render.resolution_of(width, height, "blocks")
    y = ValueAxis().holding(low, 2 * low + 1, resolution.num_rows)
    x = step_axis(step, 2 * step, resolution.max_ticks)
    rows = on_the_screen(Chart("loss", x, y, "steps", (Line([0.0], [low], TRAIN),)), width, height, "blocks")
    assert [len(row) for row in rows] == [width] * height
    assert rows[-1].rstrip().endswith("steps")


_UNITS: list[XUnit] = ["epochs", "steps", "min"]
_ANY = st.floats(-1e30, 1e30) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0])


@given(st.lists(_ANY, max_size=20), st.lists(_ANY, max_size=4), st.sampled_from(_UNITS), st.booleans())
def test_no_value_of_a_run_keeps_its_charts_from_being_drawn(
    losses: list[float], val: list[float], x: XUnit, is_log: bool
) -> None:
    state = RunState(first_started_time=NOW)
    for number, loss in enumerate(losses, start=1):
        state.steps.extend([steps_trained(number, loss)], 5)
    state.epochs = [
        EpochPoint(5 * n, n, NOW + n, loss, loss, loss, loss, 0.1, 1.0, False) for n, loss in enumerate(val, start=1)
    ]
    size = render.resolution_of(40, 12, "braille")
    for metric in METRICS:
        for view in (View(x=x, is_log=is_log), MONOCHROME, View(is_figure=True)):
            chart = MetricChart(metric, Report(val_top1=0.5)).chart(state, size, view)
            assert all(map(math.isfinite, (chart.x.lower, chart.x.upper, chart.y.lower, chart.y.upper)))
            assert len(on_the_screen(chart, 40, 12)) == 12
            places = [
                value for each in ElementTree.fromstring(svg([chart], "")).iter() for value in each.attrib.values()
            ]
            assert not [value for value in places if re.search("nan|inf", value)]


def steps_trained(step: int, loss: float) -> ev.StepsTrained:
    return ev.StepsTrained(
        epoch=1, step=step, global_step=step, num_steps=1, num_images=32, loss=loss, top1=loss, lr=0.1,
        images_per_s=900.0, time=NOW + step,
    )  # fmt: skip


@pytest.mark.parametrize("coloured", [True, False])
def test_the_page_shows_the_charts_of_the_monitor(tmp_path: Path, coloured: bool) -> None:
    with training(tmp_path) as run:
        found, state = detail_and_state(run.folder, NOW)
    rows = [row.plain for row in run_page(found, state, 80, coloured=coloured)]
    view = View() if coloured else MONOCHROME
    for metric, first in (("loss", 3), ("top1", 15)):
        chart = MetricChart(metric, found.report).chart(state, render.resolution_of(80, 11, "braille"), view)  # type: ignore[arg-type]
        assert rows[first : first + 11] == [row.rstrip() for row in on_the_screen(chart, 80, 11)]


def test_without_colours_series_are_told_apart_by_characters(tmp_path: Path) -> None:
    with training(tmp_path) as run:
        state = run.folder.read_state()
    chart = MetricChart("loss", Report()).chart(state, render.resolution_of(80, 11, "braille"), MONOCHROME)
    assert chart.bands == ()
    assert [line.marker for line in chart.lines] == ["", "•", "◆"]


def test_a_figure_ends_with_its_data_and_holds_no_more_points_than_it_can_show(tmp_path: Path) -> None:
    with training(tmp_path) as run:
        state = run.folder.read_state()
    size = render.resolution_of(40, 11, "braille")
    figure = MetricChart("top1", Report(val_top1=0.2404)).chart(state, size, View(is_figure=True))
    assert figure.x.upper == max(state.steps.epoch)
    assert MetricChart("top1", Report()).chart(state, size, View()).x.upper == 15
    assert list(figure.lines[0].ys) == pytest.approx([100 * point.train_top1 for point in state.epochs])
    assert [text for text, _ in figure.legend] == ["━ train", "• val", "◆ best 24.19"]
    assert figure.reference is not None
    assert figure.reference.label == "report 24.0 %"
    assert len(state.steps) > size.num_columns == len(figure.bands[0].columns)


def test_a_range_test_is_printed_with_its_suggestion_marked() -> None:
    points = [Point(10.0 ** (-5 + number / 10), 4.0 - number / 20) for number in range(50)]
    found = Verdict(
        first_lr=1e-5, last_lr=1.0, points=points, smoothed=[point.loss for point in points],
        suggestion=Suggestion(lr=0.013, reason="It fell fastest there."), train_with="cifartui train basenet",
    )  # fmt: skip
    coloured, plain = (
        "\n".join(row.plain for row in rows_of(found, 80, coloured=coloured)) for coloured in (True, False)
    )
    for text in (coloured, plain):
        assert "▾ 0.013" in text
        assert "1e-5" in text
        assert "Suggested learning rate: 0.013. It fell fastest there." in text
        assert "  cifartui train basenet" in text
    assert "━ smoothed 1.55   ━ batches   ▾ suggested" in coloured
    assert "⠒ smoothed 1.55   ▾ suggested" in plain


def test_a_search_is_printed_with_a_line_a_rung_and_its_rate_marked() -> None:
    cost, short, long = Cost(1.0, 0.001, 1.0), Length(1, 500), Length(2, 1000)
    search = Search(
        grid=grid_of(0.01, None, None), num_images=1000, whole_epochs=4, batch_size=10, cost=cost, time_s=60.0,
        num_val=100,
    )  # fmt: skip
    rates = [(0.005, 0.21), (0.01, 0.33), (0.02, 0.3), (0.04, None)]
    first = [Trial(lr=lr, length=short, accuracy=top1, seconds=1.0) for lr, top1 in rates]
    second = [Trial(lr=lr, length=long, accuracy=top1, seconds=1.0) for lr, top1 in ((0.01, 0.4), (0.02, 0.45))]
    rungs = [Rung(length=short, places=[-1, 0, 1, 2], trials=first), Rung(length=long, places=[0, 1], trials=second)]
    printed = "\n".join(row.plain for row in search_rows(search, rungs, 0.02, 80))
    assert printed.startswith("val %   • 2 epochs   · 1 epoch of 500 images   × diverged")
    assert "▾ 0.02" in printed
    assert (printed.count("•") - 1, printed.count("×") - 1) == (2, 1)
    assert search_rows(search, [Rung(length=short, places=[0], trials=[])], None, 80) == []


def test_plotext_is_behind_one_module_and_used_by_its_public_names() -> None:
    sources = {path: path.read_text() for path in Path(tui.__file__).parent.rglob("*.py")}
    importing = [path for path, text in sources.items() if re.search(r"(import|from) plotext", text)]
    assert importing == [Path(render.__file__)]
    assert "plotext._" not in sources[importing[0]]
    used = set(re.findall(r"plotext\.(\w+)", sources[importing[0]]))
    assert {"clear_figure", "build", "yticks"} <= used
    import plotext

    assert all(hasattr(plotext, name) for name in used)
