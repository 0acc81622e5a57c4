"""Every sign in ASCII, as wide as it was: those of the dashboard, and those in the text of files. Knows no widgets."""

import re
import unicodedata

from rich.cells import cell_len

_SIGNS = "…·•◆●○▪★✓✔✗✘→←↑↓▶◀▲▼⏎⇥␣×±−–—°µμΔ≈≤≥∞“”„«»‘’━═▔▁▌▐▊▎▏▕█▀▄░▒▓▂▃▅▆▇"
_SHOWN = '..o#*o**++xx><^v><^v<>_x~--- uud~<>~"""""\'\'==-_||||||###.:%     '
"""Signs whose nearest relative in ASCII is a matter of taste, and below each the one chosen."""
_PAIRS = (("± ", "+-"), ("×½", "/2"), ("🔎", " >"))
"""Two columns that are better said by two other signs."""
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
