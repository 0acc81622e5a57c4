"""The canvas: dots where they belong, one colour a cell, text only where no curve is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.display import PlotStyle
from tui.widgets.raster import DOTS, Canvas


def _text(canvas: Canvas) -> list[str]:
    return ["".join(character for character, _ in canvas.row(row)) for row in range(canvas.num_rows)]


def test_braille_dots_are_where_they_are_set() -> None:
    canvas = Canvas(2, 1, "braille")
    canvas.dot(0, 0, "red")
    canvas.dot(3, 3, "blue")
    assert canvas.row(0) == [("⠁", "red"), ("⢀", "blue")]


def test_blocks_and_ascii_draw_the_same_curve_more_coarsely() -> None:
    for grain, expected in (("blocks", ["▗", "▌"]), ("ascii", ["*", "*"])):
        canvas = Canvas(1, 2, grain)  # type: ignore[arg-type]
        across, down = DOTS[grain]  # type: ignore[index]
        canvas.curve([(across - 1, down - 1), (0, down), (0, 2 * down - 1)], "red")
        assert _text(canvas) == expected


@pytest.mark.parametrize("grain", ["braille", "blocks", "ascii"])
@given(st.lists(st.tuples(st.integers(-40, 60), st.integers(-40, 60)), max_size=8))
def test_a_curve_never_leaves_the_canvas_and_joins_its_dots(grain: PlotStyle, dots: list[tuple[int, int]]) -> None:
    canvas = Canvas(5, 4, grain)
    canvas.curve(dots, "red")
    assert [len(row) for row in _text(canvas)] == [5] * 4
    per_column, per_row = DOTS[grain]
    for across, down in dots:
        if 0 <= across < canvas.num_across and 0 <= down < canvas.num_down:
            assert canvas.row(down // per_row)[across // per_column] != (" ", "")


def test_a_mark_covers_dots_and_text_goes_beneath_both() -> None:
    canvas = Canvas(6, 1, "braille")
    canvas.dot(0, 0, "red")
    canvas.mark(4, 2, "◆", "white")
    canvas.under(0, 0, "abcdefgh", "grey")
    assert _text(canvas) == ["⠁b◆def"]
    assert canvas.row(0)[2] == ("◆", "white")


def test_what_is_asked_outside_is_left_out() -> None:
    canvas = Canvas(2, 2, "braille")
    canvas.mark(-1, 0, "x", "red")
    canvas.mark(0, 99, "x", "red")
    canvas.dot(99, -3, "red")
    canvas.upright(1, -50, -2, "red")
    canvas.under(0, 7, "text", "red")
    assert _text(canvas) == ["  ", "  "]


def test_a_curve_over_another_stays_as_thin_as_it_is() -> None:
    canvas = Canvas(1, 1, "braille")
    for down in range(4):
        canvas.dot(0, down, "faint")
    canvas.dot(1, 2, "bright")
    assert canvas.row(0) == [("⠠", "bright")]
