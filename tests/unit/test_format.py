"""Text in a number of columns, as a terminal counts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui import format as fmt


@given(st.text(st.sampled_from("ab 図形é"), max_size=12), st.integers(1, 14), st.booleans())
def test_text_is_cut_by_columns_and_only_where_it_is_too_long(text: str, width: int, keep_end: bool) -> None:
    shown = fmt.cut(text, width, keep_end)
    assert cell_len(shown) <= width
    assert (shown == text) == (cell_len(text) <= width)
    assert cell_len(fmt.column(text, width, keep_end)) == width


def test_the_end_or_the_beginning_of_text_stays() -> None:
    assert fmt.cut("vgg-custom-5", 6) == "vgg-c…"
    assert fmt.cut("vgg-custom-5", 6, keep_end=True) == "…tom-5"
    assert fmt.column("百百百", 4) == "百 …"


def test_flop_have_three_digits_and_no_exponent() -> None:
    assert [fmt.flop(1e9 * each) for each in (0.00131, 6.713, 999.4, 999.6, 12_345.6)] == [
        "0.00131 GFLOP", "6.71 GFLOP", "999 GFLOP", "1,000 GFLOP", "12,346 GFLOP",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("width", "shown"),
    [(12, "abcdefghijkl"), (11, "abcde…hijkl"), (6, "abc…kl"), (5, "ab…kl"), (3, "a…l"), (2, "a…"), (1, "…")],
)
def test_a_text_is_cut_in_its_middle(width: int, shown: str) -> None:
    assert fmt.cut_middle("abcdefghijkl", width) == shown
