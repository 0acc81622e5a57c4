"""Text that comes from files, made safe to show: nothing in it is left that a terminal would obey.

A title, a class name or a line of a log may hold anything: escape sequences that draw over the screen, set the
clipboard or answer for the user, and marks that turn the order of what is read. Each such character is replaced by
one sign, so that it is seen that something is there. Knows no files, no streams and no widgets.
"""

import re

_OBEYED = "\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
"""C0 but tab and newline, DEL and C1, the marks that reorder text, and halves of characters from odd file names."""
_IN_TEXT = re.compile(f"[{_OBEYED}]")
_IN_A_ROW = re.compile(f"[\t\n{_OBEYED}]")
_IN_JSON = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Return text, as long as before, with a sign for every character that a terminal would obey.

    Tabs and newlines are kept. C0 and DEL become their pictures (␛ for escape), everything else becomes �.
    """
    return text if text.isprintable() else _IN_TEXT.sub(_sign, text)


def visible_in_a_row(text: str) -> str:
    """Return `visible` text with signs for tabs and newlines too."""
    return text if text.isprintable() else _IN_A_ROW.sub(_sign, text)


def visible_json(text: str) -> str:
    """Return JSON with escapes for what JSON lets stand and a terminal obeys: the same values, spelled otherwise."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _sign(found: "re.Match[str]") -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else "\ufffd"
