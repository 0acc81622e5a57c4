"""Text from files is as long as before and holds nothing that a terminal would obey."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color

from presets.safe_text import visible, visible_in_a_row, visible_json
from tui.terminal.screen_diff import ControlCharFilter

CONTROLS = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xD800, 0xDCFF, 0xDFFF]


@pytest.mark.parametrize("code", CONTROLS)
def test_every_control_character_becomes_a_sign(code: int) -> None:
    assert visible_in_a_row(f"a{chr(code)}b").isprintable()
    if chr(code) not in "\t\n":
        assert visible(f"a{chr(code)}b").isprintable()
    assert len(visible(f"a{chr(code)}b")) == 3


def test_ordinary_text_is_left_alone() -> None:
    for text in ("plain", "ünïcödé ✓ → ·", "عربي", "日本", "👩‍👩‍👧", "a\n\tb", "non breaking", "e\u0301"):
        assert visible(text) == text


def test_the_signs_say_which_character_it_was() -> None:
    assert visible("\x1b[2J\x7f\x9b\r\n") == "␛[2J␡\ufffd␍\n"


@given(st.text())
def test_json_says_the_same_and_is_safe(text: str) -> None:
    spelled = visible_json(json.dumps({"x": text}, ensure_ascii=False))
    assert json.loads(spelled) == {"x": text}
    assert visible_in_a_row(spelled) == spelled


@given(st.lists(st.text(st.sampled_from("ab日\x1b\x07\x9b\u202e\n👩")), max_size=5))
def test_a_row_is_as_wide_as_before(texts: list[str]) -> None:
    row = [Segment(text) for text in texts]
    width = Segment.get_line_length(row)
    shown = "".join(segment.text for segment in ControlCharFilter().apply(row, Color(0, 0, 0)))
    assert cell_len(shown) == width
    assert visible_in_a_row(shown) == shown
