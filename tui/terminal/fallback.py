"""Fallbacks for terminals with 256, 16 or no colours, a light background, or ASCII only. Imported only where needed."""

import re
import unicodedata
from functools import cache, lru_cache

from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.color import ColorSystem, ColorType
from rich.color_triplet import ColorTriplet
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from tui.display import Display
from tui.theme import BAD, CURSOR, FAINT, LIGHT, MUTED, SIXTEEN, VAL

_STYLES_KEPT = 4096
_HALF_BLOCK = "▀"
_SHADES, _ASCII_SHADES = " ░▒▓█", " .:-=+*#%@"
"""Pixels without colour, dark to bright."""
_CUBE = (0, 95, 135, 175, 215, 255)


def repaint(display: Display) -> LineFilter | None:
    """Return the filter that adapts rows to `display`; None if they need none."""
    if display.is_as_drawn:
        return None
    return _Repaint(display)


def shown_colors(display: Display) -> dict[ColorTriplet, RichColor]:
    """Return the colours sent for those of the theme, dark and light; empty if no colours are sent."""
    shown = {}
    for dark, light in LIGHT.items():
        wanted = dark if display.theme == "dark" else light
        if display.colors == "16":
            color = RichColor("", ColorType.STANDARD, number=SIXTEEN[display.theme][dark])
        elif display.colors == "256":
            color = RichColor("", ColorType.EIGHT_BIT, number=_nearest_of_256(triplet(wanted)))
        elif display.colors == "truecolor":
            color = RichColor.parse(wanted)
        else:
            continue
        shown[triplet(dark)] = shown[triplet(light)] = color
    return shown


def triplet(color: str) -> ColorTriplet:
    """Return "#56b4e9" as Rich compares colours."""
    return ColorTriplet(*bytes.fromhex(color[1:]))


def _nearest_of_256(color: ColorTriplet) -> int:
    """Return the nearest of the colours that are the same on all terminals: the cube and the greys.

    Rich rounds differently, and makes blue and green of our dark greys.
    """
    levels = [min(range(6), key=lambda level, part=part: abs(_CUBE[level] - part)) for part in color]  # type: ignore[misc]
    grey = min(23, max(0, round((sum(color) / 3 - 8) / 10)))
    off_cube = sum((part - _CUBE[level]) ** 2 for part, level in zip(color, levels, strict=True))
    off_grey = sum((part - 8 - 10 * grey) ** 2 for part in color)
    return 232 + grey if off_grey < off_cube else 16 + 36 * levels[0] + 6 * levels[1] + levels[2]


class _Repaint(LineFilter):
    """Filter that replaces the theme's colours by those of the display; mixed ones are left to Rich."""

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._is_ascii = display.plots == "ascii"
        self._table = ascii_table() if self._is_ascii else narrow_table() if display.narrow else None
        self._has_colors = display.colors != "none"
        self._is_poor = self._table is not None or not self._has_colors
        self._shades = _SHADES if self._table is None else _ASCII_SHADES
        self._colors = shown_colors(display)
        self._legible = Style.from_color(self._colors[triplet(MUTED)]) if display.colors == "16" else None
        self._restyled = lru_cache(_STYLES_KEPT)(self._with_colors if self._has_colors else _without_colors)

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments of a row as they are shown."""
        return [self._shown(*segment) for segment in segments]

    def _shown(self, text: str, style: Style | None, control: object = None) -> Segment:
        if style is None:
            return Segment(self._in_signs(text))
        if text.startswith(_HALF_BLOCK):
            return self._pixels(text, style) if self._is_poor else Segment(text, style)
        if self._is_poor and "━" in text and style.color is not None and style.color.triplet in _either(FAINT):
            text = text.replace("━", "─")  # what is left of a bar; its colour no longer shows it
        if self._is_ascii and style.bgcolor is not None and style.bgcolor.triplet in _either(FAINT):
            text = text.replace(" ", "#")  # the bar of a scrollbar: the Linux console has no bright backgrounds
        return Segment(self._in_signs(text), self._restyled(style))

    def _in_signs(self, text: str) -> str:
        if self._table is None or text.isascii():
            return text
        return to_ascii(text, self._table) if self._is_ascii else text.translate(self._table)

    def _pixels(self, text: str, style: Style) -> Segment:
        """Return half blocks as signs that are as dark or bright as what they showed."""
        pixels = [color.triplet for color in (style.color, style.bgcolor) if color is not None and color.triplet]
        luminance = sum(0.3 * red + 0.6 * green + 0.1 * blue for red, green, blue in pixels) / max(1, len(pixels))
        sign = self._shades[int(luminance / 256 * len(self._shades))]
        color = style.color if self._has_colors else None
        return Segment(sign * cell_len(text), Style.from_color(color, RichColor.default()))

    def _with_colors(self, style: Style) -> Style:
        color = self._colors.get(style.color.triplet) if style.color and style.color.triplet else None
        ground = self._colors.get(style.bgcolor.triplet) if style.bgcolor and style.bgcolor.triplet else None
        shown = style + Style.from_color(color, ground) if color or ground else style
        return shown if self._legible is None or not _vanishes(shown) else shown + self._legible


def _vanishes(style: Style) -> bool:
    """Return whether a mixed colour, such as that of a placeholder, becomes its own background in 16 colours."""
    if style.color is None or style.bgcolor is None:
        return False
    color, ground = (found.downgrade(ColorSystem.STANDARD) for found in (style.color, style.bgcolor))
    return color.number is not None and color.number == ground.number


@cache
def _either(color: str) -> tuple[ColorTriplet, ColorTriplet]:
    """Return a colour of the palette in both themes."""
    return triplet(color), triplet(LIGHT[color])


def _without_colors(style: Style) -> Style:
    """Return the style in the terminal's own colours; what they meant shows by weight, or reversed."""
    color = style.color.triplet if style.color else None
    ground = style.bgcolor.triplet if style.bgcolor else None
    is_strong = color in (*_either(VAL), *_either(BAD))
    is_quiet = color in (*_either(MUTED), *_either(FAINT))
    is_marked = ground in (*_either(CURSOR), *_either(FAINT))  # a list's cursor, a scrollbar
    default = RichColor.default()
    return style + Style(
        color=default, bgcolor=default, bold=is_strong or None, dim=is_quiet or None, reverse=is_marked or None
    )


_SIGNS = "…·•◆●○▪★✓✔✗✘→←↑↓▶◀▲▼▸◂▴▾⏎⇥␣×±−–—°µμΔ≈≤≥∞“”„«»‘’━═▔▁▌▐▊▎▏▕█▀▄░▒▓▂▃▅▆▇"
_SHOWN = '..o#*o**++xx><^v><^v><^v<>_x~--- uud~<>~"""""\'\'==-_||||||###.:%     '
"""Signs whose nearest relative in ASCII is a matter of taste, and below each the one chosen."""
_PAIRS = (("± ", "+-"), ("×½", "/2"), ("🔎", " >"))
"""Pairs of columns with a better pair in ASCII."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_BOX = (0x2500, 0x257F)
_BLOCKS = (0x2580, 0x259F)
_BRAILLE = (0x2800, 0x28FF)
_SEXTANTS = (0x1FB00, 0x1FB3B)


class _Table(dict[int, str]):
    """For str.translate: finds the relative of a character when it first comes."""

    def __missing__(self, code: int) -> str:
        self[code] = shown = chr(code) if code < 0x80 else _relative(chr(code))
        return shown


def ascii_table() -> dict[int, str]:
    """Return a table for `to_ascii`, which learns from use."""
    return _Table((ord(sign), shown) for sign, shown in zip(_SIGNS, _SHOWN, strict=True))


class _NarrowTable(_Table):
    """For str.translate: finds the relative of a character whose width is ambiguous, and keeps all others."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if unicodedata.east_asian_width(char) == "A" and cell_len(char) == 1:
            return super().__missing__(code)
        self[code] = char
        return char


def narrow_table() -> dict[int, str]:
    """Return a table for str.translate that puts signs of ambiguous width into ASCII, and learns from use."""
    known = zip(_SIGNS, _SHOWN, strict=True)
    return _NarrowTable((ord(sign), shown) for sign, shown in known if unicodedata.east_asian_width(sign) == "A")


def to_ascii(text: str, table: dict[int, str]) -> str:
    """Return `text` in ASCII, as many columns wide as before; control characters, which have no width, are kept."""
    if text.isascii():
        return text
    width = cell_len(text) + len(_CONTROLS.findall(text))
    for signs, shown in _PAIRS:
        text = text.replace(signs, shown)
    return text.translate(table).ljust(width)[:width]


def _relative(char: str) -> str:
    code, width = ord(char), cell_len(char)
    if _BOX[0] <= code <= _BOX[1]:
        return _line(unicodedata.name(char))
    if any(first <= code <= last for first, last in (_BLOCKS, _BRAILLE, _SEXTANTS)):
        return " " if code == _BRAILLE[0] else "*"
    letters = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    return letters if len(letters) == width and letters.isprintable() else "?" * width


def _line(name: str) -> str:
    """Return a box-drawing character as "-", "|" or "+", by its Unicode name."""
    if "DIAGONAL" in name:
        return "x" if "CROSS" in name else "\\" if "UPPER LEFT" in name else "/"
    if " AND " in name:
        return "+"
    return "|" if name.endswith(("VERTICAL", "UP", "DOWN")) else "-"
