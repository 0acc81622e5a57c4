import re

import pyte
from hypothesis import given
from hypothesis import strategies as st

from tui.terminal.screen_diff import ScreenDiff

_COLUMNS, _ROWS = 24, 6


def _screen() -> tuple[pyte.Screen, pyte.Stream]:
    screen = pyte.Screen(_COLUMNS, _ROWS)
    return screen, pyte.Stream(screen)


def _seen(screen: pyte.Screen) -> list[list[tuple[object, ...]]]:
    """What a person sees of every cell: the colour and weight of a space do not show."""
    rows = []
    for y in range(_ROWS):
        cells = [screen.buffer[y][x] for x in range(_COLUMNS)]
        rows.append(
            [
                (cell.data, cell.bg, cell.underscore, cell.reverse)
                if cell.data == " " and not cell.reverse and not cell.underscore
                else tuple(cell)
                for cell in cells
            ]
        )
    return rows


_colour = st.sampled_from(["", "38;2;1;2;3", "38;2;9;9;9", "38;5;12", "31", "97"])
_background = st.sampled_from(["", "48;2;0;0;0", "48;2;7;7;7", "48;5;3", "44", "100"])
_attribute = st.sampled_from(["", "1", "2", "4", "7", "1;3"])
_style = st.tuples(_attribute, _colour, _background).map(lambda parts: ";".join(part for part in parts if part))
_text = st.text(alphabet=" abc█⣿━日", min_size=1, max_size=8)
_piece = st.tuples(st.integers(1, _ROWS), st.integers(1, _COLUMNS - 16), _style, _text)


def _painted(piece: tuple[int, int, str, str]) -> str:
    row, column, style, text = piece
    return f"\x1b[{row};{column}H" + (f"\x1b[{style}m{text}\x1b[0m" if style else text)


@given(st.lists(st.lists(_piece, min_size=1, max_size=5), max_size=12))
def test_a_terminal_shows_the_same_whether_thinned_or_not(paints: list[list[tuple[int, int, str, str]]]) -> None:
    plain, plain_stream = _screen()
    diff, thin_stream = _screen()
    wire = ScreenDiff()
    thin_stream.feed(wire.diff("\x1b[H\x1b[2J"))
    for pieces in paints:
        data = "".join(map(_painted, pieces)) + "\x1b[1;1H"
        plain_stream.feed(data)
        thin_stream.feed(wire.diff(data))
        if all("日" not in piece[3] for paint in paints for piece in paint):  # half a wide character is nobody's
            assert _seen(diff) == _seen(plain)


def test_painting_the_same_again_sends_nothing() -> None:
    wire = ScreenDiff()
    paint = "\x1b[?2026h\x1b[2;3H\x1b[1;38;2;1;2;3mloss 1.23\x1b[0m\x1b[1;1H\x1b[?2026l"
    assert wire.diff(paint)
    assert wire.diff(paint) == ""


def test_only_the_digits_that_changed_are_sent() -> None:
    wire = ScreenDiff()
    wire.diff("\x1b[2;3H\x1b[38;2;1;2;3mepoch 3, batch 1,204 of 1,407\x1b[0m")
    sent = wire.diff("\x1b[2;3H\x1b[38;2;1;2;3mepoch 3, batch 1,205 of 1,407\x1b[0m")
    assert sent == "\x1b[2;22H5\x1b[2;32H"


def test_the_pen_is_changed_by_no_more_than_it_must() -> None:
    wire = ScreenDiff()
    wire.diff("\x1b[1;1H\x1b[38;2;1;2;3;48;2;0;0;0ma\x1b[0m")
    assert wire.diff("\x1b[1;2H\x1b[38;2;9;9;9;48;2;0;0;0mb\x1b[0m") == "\x1b[38;2;9;9;9mb"
    assert wire.diff("\x1b[1;3H\x1b[38;2;5;5;5;48;2;0;0;0m \x1b[0m") == " "


def test_what_is_not_a_paint_goes_through_unchanged_and_is_forgotten_over() -> None:
    wire = ScreenDiff()
    paint = "\x1b[1;1H\x1b[31mabc\x1b[0m"
    first = wire.diff(paint)
    for sequence in ("\x1b[?1049h", "\x1b[2J", "\x1b_Gf=100;AAAA\x1b\\", "\x1bPq#0\x1b\\", "\x1b[5S"):
        assert wire.diff(sequence) == sequence
        assert wire.diff(paint) == first
    for sequence in ("\x1b[?25l", "\x1b]52;c;aGk=\x07", "\x1b]0;title\x1b\\", "\x1b[?1000h", "\x07"):
        assert wire.diff(sequence) == sequence
        assert wire.diff(paint) == ""


def test_wide_characters_are_sent_whole() -> None:
    wire = ScreenDiff()
    wire.diff("\x1b[1;1H日本x")
    assert "日" not in wire.diff("\x1b[1;1H日本y")
    assert re.sub(r"\x1b\[\d+;\d+H", "", wire.diff("\x1b[1;1H月本y")) == "月"
