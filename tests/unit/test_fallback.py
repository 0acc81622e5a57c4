"""The filter before the terminal: signs, colours, and nothing where nothing is asked."""

import ast
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from tui.display import Display
from tui.terminal.fallback import ascii_table, repaint, to_ascii
from tui.theme import BACKGROUND, CURSOR, FAINT, GOOD, MUTED, TRAIN, VAL


def painted(display: Display, text: str, color: str | None = None, ground: str | None = None) -> Segment:
    filter_ = repaint(display)
    assert filter_ is not None
    return filter_.apply([Segment(text, Style(color=color, bgcolor=ground))], Color(0, 0, 0))[0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("━━ train 3.1  • val  ◆ best", "== train 3.1  o val  # best"),
        ("╭─┬─╮│┄┊└┴┘", "+-+-+|-|+++"),
        ("77.1 ± 0.3 %, 3×3, lr ×½", "77.1 +-0.3 %, 3x3, lr /2"),
        ("looking for the data …", "looking for the data ."),
        ("⣀⠤⠒⠉ ▖▗", "**** **"),
        ("Zoë's Müsli, 日本", "Zoe's Musli, ????"),
        ("plain", "plain"),
    ],
)
def test_signs_have_relatives_in_ascii(text: str, shown: str) -> None:
    assert to_ascii(text, ascii_table()) == shown


@given(st.text(st.characters() | st.sampled_from("\x1b\a\n\t\x7f\x9c\u0301\u200b\u200d\ufe0f\u2060é日🔎")))
def test_any_text_becomes_ascii_of_the_same_width(text: str) -> None:
    shown = to_ascii(text, ascii_table())
    assert shown.isascii()
    assert cell_len(shown) == cell_len(text)
    controls = "".join(map(chr, (*range(0x20), 0x7F)))
    assert [char for char in shown if char in controls] == [char for char in text if char in controls]


def test_what_has_no_width_cuts_nothing_off() -> None:
    assert to_ascii("\x1b]9;Zoë: ★\a\n", ascii_table()) == "\x1b]9;Zoe: *\a\n"
    assert to_ascii("e\u0301\u200b…!", ascii_table()) == "e.!"


def test_dark_truecolor_unicode_costs_nothing() -> None:
    assert repaint(Display()) is None
    assert repaint(Display(plots="blocks", low_bandwidth=True)) is None


def test_the_light_theme_is_painted_in_light_colours() -> None:
    style = painted(Display(theme="light"), "x", VAL, BACKGROUND).style
    assert style is not None
    assert style.color is not None
    assert style.color.name == "#9c5200"
    assert style.bgcolor is not None
    assert style.bgcolor.name == "#f8f9fb"


def test_sixteen_colours_are_sent_by_number() -> None:
    style = painted(Display(colors="16"), "x", MUTED, BACKGROUND).style
    assert style is not None
    assert style.color is not None
    assert style.bgcolor is not None
    assert (style.color.number, style.bgcolor.number) == (7, 0)


def test_a_mixed_colour_does_not_vanish_into_its_background() -> None:
    style = painted(Display(colors="16"), "placeholder", "#555a60", "#222834").style
    assert style is not None
    assert style.color is not None
    assert style.color.number == 7


def test_without_colours_weight_and_reverse_tell() -> None:
    display = Display(colors="none")
    for color, ground, attribute in ((VAL, None, "bold"), (MUTED, None, "dim"), (TRAIN, CURSOR, "reverse")):
        style = painted(display, "x", color, ground).style
        assert style is not None
        assert getattr(style, attribute)
        assert style.color is not None
        assert style.color.is_default
    assert painted(display, "━━", GOOD).text == "━━"
    assert painted(display, "━━", FAINT).text == "──"
    assert painted(Display(colors="none", plots="ascii"), "━━", FAINT).text == "--"


def test_pixels_become_shades_where_there_are_no_half_blocks() -> None:
    assert painted(Display(colors="none"), "▀", "#ffffff", "#ffffff").text == "█"
    assert painted(Display(colors="none"), "▀", "#000000", "#000000").text == " "
    assert painted(Display(plots="ascii"), "▀▀", "#ffffff", "#ffffff").text == "@@"
    assert painted(Display(colors="16"), "▀", "#123456", "#654321").text == "▀"


def test_clicks_survive() -> None:
    filter_ = repaint(Display(colors="none"))
    assert filter_ is not None
    style = Style(color=TRAIN, meta={"@click": "app.help"})
    shown = filter_.apply([Segment("?", style)], Color(0, 0, 0))[0].style
    assert shown is not None
    assert shown.meta == {"@click": "app.help"}


def _signs_of_the_screens() -> set[str]:
    """Every sign outside ASCII that a string of the dashboard or the command line holds, docstrings aside."""
    found: set[str] = set()
    for path in (Path(__file__).parents[2] / "tui").rglob("*.py"):
        tree = ast.parse(path.read_text())
        told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
                found |= {char for char in node.value if not char.isascii() and char.isprintable()}
    return found


def test_every_sign_of_the_screens_has_a_relative_in_ascii() -> None:
    signs = _signs_of_the_screens()
    assert {"▾", "…", "·"} <= signs
    without = {sign for sign in signs - {"½", "\ue000"} if "?" in to_ascii(sign, ascii_table())}  # ×½ is a pair
    assert without == set()
    assert to_ascii("▾ steered … ▴", ascii_table()) == "v steered . ^"


def test_signs_of_ambiguous_width_are_ascii_and_braille_and_east_asian_text_stay() -> None:
    shown = painted(Display(narrow=True), "━━ 日本 · ▾ ⣀⠤ … ±0.3 ①e\u0301", VAL).text
    assert shown == "== 日本 . v ⣀⠤ . _0.3 ?e\u0301" or cell_len(shown) == cell_len("━━ 日本 · ▾ ⣀⠤ … ±0.3 ①e\u0301")
    assert not any(unicodedata.east_asian_width(char) == "A" and cell_len(char) for char in shown)
    assert painted(Display(narrow=True), "▀", VAL, FAINT).text in " .:-=+*#%@"
