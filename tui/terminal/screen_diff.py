"""Screen diff: what a terminal is sent is only the cells that changed, and no control characters from text."""

import operator
import re
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from presets.safe_text import visible_in_a_row

_TOKEN = re.compile(
    r"\x1b\[(?P<row>\d+);(?P<column>\d+)H"
    r"|\x1b\[(?P<style>[\d;:]*)m"
    r"|(?P<other>\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\)|.)|[\x00-\x09\x0b-\x1f])"
    r"|(?P<newline>\n)"
    r"|(?P<text>[^\x00-\x1f]+)",
    re.DOTALL,
)
_HARMLESS = re.compile(
    r"\x07|\x1b\[(\?(25|1000|1002|1003|1004|1006|1015|1016|2004|2026|2031|2048)[hl]|[<>=?].*u)|\x1b\].*", re.DOTALL
)
"""Modes of cursor, mouse, keyboard and paint, and messages to the terminal: the cells stay as they are."""
_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"
_CHEAPER_THAN_A_MOVE = 6
"""So many unchanged cells of one style are sent again rather than jumped over."""
_UNKNOWN = "\x00"
_SEEN_ON_LETTERS_ONLY = {"", "1", "2", "3"}
"""Bold, dim and italic: SGR attributes that do not show on a space."""


class _CellStyle(NamedTuple):
    """A style taken apart: attributes and the two colours, as SGR parameters."""

    attributes: str
    foreground: str
    background: str


class ScreenDiff:
    """The cells of one terminal, and how to bring them up to date with the fewest bytes."""

    def __init__(self) -> None:
        self._characters: dict[int, list[str]] = {}
        self._styles: dict[int, list[str]] = {}
        self._at: tuple[int, int] | None = None
        """Position of the terminal's cursor: row and column from 0; None if unknown."""
        self._shown_style = _UNKNOWN
        """Style that the terminal writes with now."""
        self._held_begin = ""

    def invalidate(self) -> None:
        """Forget the cells shown, so that the next paint is sent whole."""
        self._characters.clear()
        self._styles.clear()
        self._at, self._shown_style = None, _UNKNOWN

    def diff(self, painted: str) -> str:
        """Return what must be sent to have the effect of `painted`."""
        parts: list[str] = []
        style, at = "", self._at
        for token in _TOKEN.finditer(painted):
            kind = token.lastgroup
            if kind == "text":
                at = self._paint(parts, at, token["text"], style)
            elif kind == "style":
                style = _joined(style, token["style"])
            elif kind == "column":
                at = int(token["row"]) - 1, int(token["column"]) - 1
            elif kind == "newline" and at is not None:
                at = at[0] + 1, at[1]
            else:
                at = self._pass_on(parts, at, token[0])
        self._move(parts, at)
        return "".join(parts)

    def _pass_on(self, parts: list[str], at: tuple[int, int] | None, sequence: str) -> tuple[int, int] | None:
        """Send a sequence that paints no text; return where the cursor is then."""
        if sequence == _BEGIN:
            self._held_begin = _BEGIN  # sent only if something is painted
        elif sequence == _END:
            if not self._held_begin:
                parts.append(_END)
            self._held_begin = ""
        elif _HARMLESS.fullmatch(sequence):
            self._say(parts, sequence)
        else:
            self._move(parts, at)
            self._say(parts, sequence)
            self.invalidate()
            return None
        return at

    def _say(self, parts: list[str], text: str) -> None:
        if self._held_begin:
            parts.append(self._held_begin)
            self._held_begin = ""
        parts.append(text)

    def _paint(self, parts: list[str], at: tuple[int, int] | None, text: str, style: str) -> tuple[int, int] | None:
        """Send what differs of `text` where the cursor is; return where it is behind the text."""
        if at is None:
            self._say(parts, _change(_UNKNOWN, style) + text)
            self._shown_style = style
            return None
        row, column = at
        cells = list(text) if cell_len(text) == len(text) and text.isprintable() else _cells(text)
        end = column + len(cells)
        characters, styles = self._row(row, end)
        blank = _blank(style)
        pens = [blank if cell == " " else style for cell in cells]
        before, before_pens = characters[column:end], styles[column:end]
        if before != cells or before_pens != pens:
            characters[column:end], styles[column:end] = cells, pens
            if before.count(_UNKNOWN) == len(before):  # the first paint
                self._send(parts, at, cells, pens)
                return row, end
            same = map(operator.eq, zip(before, before_pens, strict=True), zip(cells, pens, strict=True))
            for first, last in _stretches([not each for each in same], cells):
                self._send(parts, (row, column + first), cells[first:last], pens[first:last])
        return row, end

    def _row(self, row: int, end: int) -> tuple[list[str], list[str]]:
        characters = self._characters.setdefault(row, [])
        styles = self._styles.setdefault(row, [])
        if (short := end - len(characters)) > 0:
            characters.extend([_UNKNOWN] * short)
            styles.extend([_UNKNOWN] * short)
        return characters, styles

    def _send(self, parts: list[str], at: tuple[int, int], cells: list[str], styles: list[str]) -> None:
        self._move(parts, at)
        for (style, is_blank), group in groupby(
            zip(styles, cells, strict=True), key=lambda pair: (pair[0], pair[1] == " ")
        ):
            pen = _pen_for_a_blank(self._shown_style, style) if is_blank else style
            if pen != self._shown_style:
                self._say(parts, _change(self._shown_style, pen))
                self._shown_style = pen
            self._say(parts, "".join(cell for _, cell in group))
        self._at = (at[0], at[1] + len(cells))

    def _move(self, parts: list[str], to: tuple[int, int] | None) -> None:
        if to is not None and to != self._at:
            self._say(parts, f"\x1b[{to[0] + 1};{to[1] + 1}H")
            self._at = to


def _stretches(differs: list[bool], cells: list[str]) -> list[tuple[int, int]]:
    """Return (first, behind the last) of what is to be sent; short gaps between changes are sent with them."""
    found: list[tuple[int, int]] = []
    for index, changed in enumerate(differs):
        if not changed:
            continue
        first, last = index, index + 1
        while first and not cells[first]:  # the second half of a wide character: send it whole
            first -= 1
        while last < len(cells) and not cells[last]:
            last += 1
        if found and first - found[-1][1] <= _CHEAPER_THAN_A_MOVE:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def _cells(text: str) -> list[str]:
    """Return a string for every cell: a wide character is followed by an empty one, marks join the cell before."""
    cells: list[str] = []
    for character in text:
        width = cell_len(character)
        if width == 0 and cells:
            last = len(cells) - 1 if cells[-1] else len(cells) - 2
            cells[last] += character
        else:
            cells += [character] + [""] * (width - 1)
    return cells


def _joined(style: str, parameters: str) -> str:
    if parameters in {"", "0"}:
        return ""
    return f"{style};{parameters}" if style else parameters


@lru_cache(maxsize=512)
def _cell_style(style: str) -> _CellStyle:
    """Split an SGR sequence; later colours win."""
    attributes, foreground, background = [], "", ""
    numbers = style.split(";") if style else []
    while numbers:
        first = numbers.pop(0)
        if first in {"38", "48"} and numbers:
            length = {"2": 4, "5": 2}.get(numbers[0], len(numbers))
            colour = ";".join([first, *numbers[:length]])
            del numbers[:length]
            foreground, background = (colour, background) if first == "38" else (foreground, colour)
        elif (len(first) == 2 and first[0] in "39" and first[1] != "8") or first in {
            "90",
            "91",
            "92",
            "93",
            "94",
            "95",
            "96",
            "97",
        }:
            foreground = first
        elif (len(first) == 2 and first[0] == "4") or len(first) == 3:
            background = first
        else:
            attributes.append(first)
    return _CellStyle(";".join(attributes), foreground, background)


@lru_cache(maxsize=512)
def _blank(style: str) -> str:
    """Return how a space in this style looks: without attributes that draw something, its background alone."""
    cell_style = _cell_style(style)
    return style if set(cell_style.attributes.split(";")) - _SEEN_ON_LETTERS_ONLY else cell_style.background


@lru_cache(maxsize=2048)
def _pen_for_a_blank(shown: str, wanted: str) -> str:
    """Return the style nearest to what the pen is set to now that draws a space as `wanted`."""
    cell_style, now = _cell_style(wanted), _cell_style(shown)
    keeps_letters = shown != _UNKNOWN and not set(now.attributes.split(";")) - _SEEN_ON_LETTERS_ONLY
    if cell_style.attributes or not keeps_letters or (now.background and not cell_style.background):
        return wanted
    return ";".join(part for part in (now.attributes, now.foreground, cell_style.background) if part)


@lru_cache(maxsize=2048)
def _change(before: str, after: str) -> str:
    """Return the shortest sequence that takes the pen from one style to the other."""
    new = _cell_style(after)
    whole = ";".join(part for part in ("0", *new) if part)
    if before == _UNKNOWN:
        return f"\x1b[{whole}m"
    old = _cell_style(before)
    if (
        old.attributes != new.attributes
        or (old.foreground and not new.foreground)
        or (old.background and not new.background)
    ):
        return f"\x1b[{whole.removeprefix('0;') if before == '' else whole}m" if after else "\x1b[m"
    return f"\x1b[{';'.join(now for was, now in zip(old[1:], new[1:], strict=True) if was != now)}m"


class ControlCharFilter(LineFilter):
    """Filter that replaces control characters by visible ones, and cuts the row to its width after that."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments of a row without control characters."""
        for text, _, control in segments:
            if not (control or text.isprintable()):
                return _cleaned(segments)
        return segments


def _cleaned(segments: list[Segment]) -> list[Segment]:
    width = Segment.get_line_length(segments)
    cleaned = [
        segment if segment.control else Segment(visible_in_a_row(segment.text), segment.style) for segment in segments
    ]
    return Segment.adjust_line_length(cleaned, width)
