"""Bytes from the terminal as Textual's events: keys and mouse; replies that a terminal gives unasked are left out.

Textual's own parser turns a sequence that it does not know into keys, and keys steer a run. Here every control
sequence is read to its end, by the grammar of ECMA-48, before its meaning is looked up; of what has no meaning for
the dashboard nothing is left.
"""

import codecs
import re
from contextlib import suppress

from textual import constants, events
from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual._keyboard_protocol import FUNCTIONAL_KEYS
from textual._xterm_parser import IS_ITERM, XTermParser
from textual.keys import Keys
from textual.message import Message
from textual.messages import InBandWindowResize, TerminalSupportsSynchronizedOutput

HELD_S = 0.03
"""Characters of this time are looked at together. The next key of a hand comes later, and repeated keys are equal."""
QUIET_S = 0.15
"""A burst has ended when so long nothing has come."""
CUT_S = 1.0
"""A sequence or paste whose end does not come in this time has none."""
_BEGUN_S = 0.5
"""The same of Escape with a character that begins a sequence: it may be Alt with that character."""
LONGEST_S = 3.0
"""After this time a sequence goes on only as long as it comes without a pause, as on a slow line."""
_BURST = 4
_ESC, _BEL, _ST, _PASTE, _END_OF_PASTE = "\x1b", "\x07", "\x9c", "\x1b[200~", "\x1b[201~"
_STRINGS = "]PX^_"
"""Second characters of OSC, DCS, SOS, PM and APC."""
_BEGINNINGS = _STRINGS + "[O"
_C1 = {0x9B: "[", 0x9D: "]", 0x90: "P", 0x98: "X", 0x9E: "^", 0x9F: "_", 0x8F: "O"}
_LONGEST = 64
_LONGEST_PASTE = 1 << 20
_X10_BYTES = 6

_MOUSE = re.compile(r"\x1b\[<\d{1,3};\d{1,5};\d{1,5}[Mm]")
_MODE = re.compile(r"\x1b\[\?(2026|2048);([0-4])\$y")
_SIZE = re.compile(r"\x1b\[48;(\d{1,4})(?::[\d:]*)?;(\d{1,4})(?::[\d:]*)?;(\d{1,5})(?::[\d:]*)?;(\d{1,5})(?::[\d:]*)?t")
_KEY = re.compile(
    r"\x1b\[(?P<code>\d{0,7})(?::[\d:]*)?"
    r"(?:;(?P<modifiers>\d{0,3})(?::(?P<kind>\d?))?(?:;(?P<text>[\d:]*))?)?(?P<final>[u~ABCDEFHPQS])"
)
"""A key with its sub-fields: other layouts behind the code, the kind of event behind the modifiers."""
_CURSOR = re.compile(r"\x1b\[.*R")
"""Reports of the cursor's place, of which some look like F3."""
_RELEASED = "3"
_CONTROLS = {9, 13, 27}
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_OF_REPLIES = re.compile(r"[0-9;:>|$\x07]")
_SHORT = re.compile(r"\x1b?(?:\[{1,2}[A-Za-z]|O[A-DFHIMP-Sj-y])+")
"""Focus, arrows and function keys whose escape came long before them, or was lost."""
_REPLY = re.compile(r"rgba?:|[\x07\x9c]|^[\[?>=]*\d*(?:;\d*)*\$?[A-Za-z~]$")


class Burst(Message):
    """Characters that came faster than any hand types, and are no keys."""

    def __init__(self, text: str, is_reply: bool) -> None:
        """Hold the characters, and whether they look like the end of a terminal's reply."""
        self.text, self.is_reply = text, is_reply
        super().__init__()


class Keyboard:
    """State of the terminal's input between two reads. Times are seconds of a steady clock."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._textual = XTermParser()  # its tables and its words for keys and mouse; it is fed nothing
        self._out: list[Message] = []
        self._is_broken = False
        """True behind a byte that is no UTF-8: what follows may be the rest of a broken character, and is no C1."""
        self._sequence = ""
        self._begun = self._last = 0.0
        self._paste: list[str] | None = None
        self._held: list[tuple[str, list[Message]]] = []
        self._held_until = 0.0
        self._burst = ""
        self._burst_at = 0.0

    def feed(self, content: bytes, now: float) -> list[Message]:
        """Return the events of what was read, and of what was held before."""
        self._expire(now)
        for char in self._decode(content):
            self._take(char, now)
            self._is_broken = "\udc80" <= char <= "\udcff"
        return self.tick(now)

    def tick(self, now: float) -> list[Message]:
        """Return the events that are due: of an escape without a sequence, of characters that were held."""
        self._expire(now)
        out, self._out = self._out, []
        return out

    def due_in_s(self, now: float) -> float | None:
        """Return the seconds until `tick` has something to do; None if nothing is held."""
        due = []
        if self._sequence or self._paste is not None:
            due.append(self._sequence_until())
        if self._held:
            due.append(self._held_until)
        if self._burst:
            due.append(self._burst_at + QUIET_S)
        return max(0.0, min(due) - now) if due else None

    # --- time ------------------------------------------------------------------------------------

    def _sequence_until(self) -> float:
        if self._paste is not None:
            return self._last + CUT_S
        if len(self._sequence) <= 2:
            return self._last + (constants.ESCAPE_DELAY if self._sequence == _ESC else _BEGUN_S)
        return min(self._last + CUT_S, max(self._begun + LONGEST_S, self._last + QUIET_S))

    def _expire(self, now: float) -> None:
        if (self._sequence or self._paste is not None) and now >= self._sequence_until():
            self._give_up(now)
        if self._held and now >= self._held_until:
            self._let_go(now)
        if self._burst and now >= self._burst_at + QUIET_S:
            self._out.append(Burst(self._burst, bool(_REPLY.search(self._burst))))
            self._burst = ""

    def _give_up(self, now: float) -> None:
        """Take what has no end: an escape that was pressed, Alt with a character, or nothing."""
        sequence, self._sequence = self._sequence, ""
        if self._paste is not None:
            self._end_paste()
        elif sequence == _ESC:
            self._press(_ESC, [events.Key("escape", _ESC)], now)
        elif len(sequence) == 2:
            self._press(sequence, self._with_alt(sequence), now)

    # --- characters --------------------------------------------------------------------------------

    def _take(self, char: str, now: float) -> None:
        code = ord(char)
        byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code  # of what is no UTF-8
        if self._paste is not None:
            self._take_pasted(char, now)
        elif self._sequence:
            self._last = now
            self._take_in_sequence(_ST if byte == 0x9C else char, now)
        elif char == _ESC:
            self._begin(_ESC, now)
        elif byte in _C1 and not self._is_broken:
            self._begin(_ESC + _C1[byte], now)
        elif byte == 0x9C:
            self._end_of_a_reply(now)
        elif byte == code and not 0x80 <= code < 0xA0 and not 0xD800 <= code < 0xE000:
            self._press(char, self._keys(char), now)

    def _begin(self, sequence: str, now: float) -> None:
        self._sequence, self._begun, self._last = sequence, now, now

    def _take_in_sequence(self, char: str, now: float) -> None:
        before = self._sequence
        if before[1:2] in _STRINGS and len(before) > 1:
            self._take_in_string(char, now)
        elif before[:3] == "\x1b[M":  # the mouse in three bytes, of any value, as before 1995
            self._sequence += char
            if len(self._sequence.encode("utf-8", "surrogateescape")) >= _X10_BYTES:
                self._sequence = ""
        elif char == _ESC:
            self._sequence = ""
            if before == _ESC:
                self._press(_ESC, [events.Key("escape", _ESC)], now)
            self._begin(_ESC, now)
        elif before == _ESC:
            if char in _BEGINNINGS:
                self._sequence += char
            else:
                self._sequence = ""
                self._take_behind_escape(char, now)
        elif char < " ":  # cuts the sequence off, and is a key
            self._sequence = ""
            self._take(char, now)
        elif char > "~":
            self._sequence = ""
        else:
            self._grow(char, now)

    def _take_behind_escape(self, char: str, now: float) -> None:
        if char == "\\":
            self._end_of_a_reply(now)
        elif " " <= char <= "~" or char in "\r\t\x7f":
            self._press(_ESC + char, self._with_alt(_ESC + char), now)
        else:
            self._press(_ESC, [events.Key("escape", _ESC)], now)
            self._take(char, now)

    def _take_in_string(self, char: str, now: float) -> None:
        """Go on to the end of OSC, DCS, SOS, PM or APC: ST (of OSC also BEL), and what is no part of one."""
        if self._sequence[2:] == _ESC and char == _ESC:  # doubled, as in what is passed through tmux
            self._sequence = self._sequence[:2] + "."
        elif self._sequence[2:] == _ESC and char != "\\":
            self._begin(_ESC, now)
            self._take_in_sequence(char, now)
        elif self._sequence[2:] == _ESC or char in (_ST, "\x18", "\x1a") or self._sequence[1] + char == "]" + _BEL:
            self._sequence = ""
        else:
            self._sequence = self._sequence[:2] + (_ESC if char == _ESC else ".")

    def _grow(self, char: str, now: float) -> None:
        """Add a character to CSI or SS3, and look it up if it is the last one."""
        if self._sequence == "\x1b[" and char == "[":  # function keys of the Linux console
            self._sequence += char
            return
        if len(self._sequence) < _LONGEST:
            self._sequence += char
        if self._sequence == "\x1b[M":
            return
        if "@" <= char <= "~" or self._sequence in ANSI_SEQUENCES_KEYS:  # the latter: rxvt's keys that end in "$"
            sequence, self._sequence = self._sequence, ""
            if sequence == _PASTE:
                self._paste, self._last = [], now
            elif sequence.endswith(char):
                self._look_up(sequence, now)

    def _take_pasted(self, char: str, now: float) -> None:
        assert self._paste is not None
        self._last = now
        self._paste.append(char)
        if char == "~" and "".join(self._paste[-len(_END_OF_PASTE) :]) == _END_OF_PASTE:
            del self._paste[-len(_END_OF_PASTE) :]
            self._end_paste()
        elif len(self._paste) > _LONGEST_PASTE:
            del self._paste[: _LONGEST_PASTE // 2]

    def _end_paste(self) -> None:
        text, self._paste = "".join(self._paste or ()), None
        self._flush_held()
        self._out.append(
            events.Paste("".join(char for char in text if char != "\0" and not "\ud800" <= char < "\ue000"))
        )

    # --- meaning -----------------------------------------------------------------------------------

    def _look_up(self, sequence: str, now: float) -> None:
        """Add the event of a whole sequence, if it has one for us."""
        if sequence in {"\x1b[I", "\x1b[O"}:
            self._out.append(events.AppFocus() if sequence == "\x1b[I" else events.AppBlur())
        elif _MOUSE.fullmatch(sequence):
            with suppress(ValueError, ZeroDivisionError):
                if (moved := self._textual.parse_mouse_code(sequence)) is not None:
                    self._out.append(moved)
        elif mode := _MODE.fullmatch(sequence):
            setting = int(mode[2])
            if mode[1] == "2026" and setting > 0:
                self._out.append(TerminalSupportsSynchronizedOutput())
            elif mode[1] == "2048" and constants.SMOOTH_SCROLL and not IS_ITERM:
                self._out.append(InBandWindowResize.from_setting_parameter(setting))
        elif size := _SIZE.fullmatch(sequence):
            self._resize(*map(int, size.groups()))
        else:
            self._press("", self._keys(sequence), now)

    def _resize(self, height: int, width: int, pixel_height: int, pixel_width: int) -> None:
        if not (height and width and pixel_height and pixel_width):
            return
        resized = events.Resize.from_dimensions((width, height), (pixel_width, pixel_height))
        self._textual.terminal_size, self._textual.terminal_pixel_size = resized.size, resized.pixel_size
        self._textual.mouse_pixels = True
        self._out.append(resized)

    def _keys(self, sequence: str) -> list[Message]:
        """Return the keys of a character or a whole sequence; none if it is no key."""
        if len(sequence) > 1 and (key := _KEY.fullmatch(sequence)):
            sequence = _plain_key(key)
        elif len(sequence) > 1 and (sequence not in ANSI_SEQUENCES_KEYS or _CURSOR.fullmatch(sequence)):
            return []
        if not sequence:
            return []
        try:
            found = list(self._textual._sequence_to_key_events(sequence))
        except (ValueError, OverflowError):  # a number that is no character
            return []
        return [key for key in found if key.key != Keys.Ignore and key.key.isprintable()]

    def _with_alt(self, sequence: str) -> list[Message]:
        if sequence in ANSI_SEQUENCES_KEYS:
            return self._keys(sequence)
        found = self._textual._sequence_to_key_events(sequence[1], alt=True)
        return [key for key in found if "alt+" in key.key]  # Textual takes Alt with a bracket for the bracket

    # --- hands and other things --------------------------------------------------------------------

    def _press(self, text: str, keys: list[Message], now: float) -> None:
        """Hold keys until it is known that a hand pressed them. `text` is empty for whole sequences: they are keys."""
        if self._burst and (text or keys):
            self._burst += text
            self._burst_at = now
        elif not text and not self._held:
            self._out += keys
        elif keys:
            if not self._held:
                self._held_until = now + (constants.ESCAPE_DELAY if text in _BEGINNINGS else HELD_S)
            self._held.append((text, keys))
            typed = [char for char, _ in self._held if char]
            if len(typed) >= _BURST and len(set(typed)) > 1:
                self._burst_now(now)

    def _end_of_a_reply(self, now: float) -> None:
        """Take the end of a reply whose beginning was lost: what came before it is no key, and belongs to no field."""
        if self._held:
            self._burst_now(now)
        if self._burst:
            self._burst, self._burst_at = self._burst + _ST, now

    def _let_go(self, now: float) -> None:
        typed = "".join(char for char, _ in self._held)
        is_rest = len(set(typed)) > 1 and _OF_REPLIES.search(typed) and re.search(r"[A-Za-z\[\]\x07]", typed)
        if is_rest or _SHORT.fullmatch(typed):
            self._burst_now(now)
        else:
            self._flush_held()

    def _flush_held(self) -> None:
        for _, keys in self._held:
            self._out += keys
        self._held.clear()

    def _burst_now(self, now: float) -> None:
        self._burst += "".join(char for char, _ in self._held)
        self._burst_at = now
        self._held.clear()


def _plain_key(key: re.Match[str]) -> str:
    """Return a key's sequence without its sub-fields; empty if it is let go of, or its numbers are no characters."""
    code, modifiers, kind, text, final = key.group("code", "modifiers", "kind", "text", "final")
    if kind == _RELEASED or not _is_key(code, text, final):
        return ""
    typed = ":".join(part for part in (text or "").split(":") if part and _is_visible(part))
    if text and not typed:
        return ""
    fields = [code, modifiers or "", typed]
    while len(fields) > 1 and not fields[-1]:
        fields.pop()
    return f"\x1b[{';'.join(fields)}{final}"


def _is_key(code: str, text: str | None, final: str) -> bool:
    """Return whether a key has this number; of others, Textual makes the character of that number."""
    if final == "u":
        return code != "" and _is_character(int(code)) and (int(code) >= 0x20 or int(code) in _CONTROLS or bool(text))
    if final == "~":
        return f"{code}~" in FUNCTIONAL_KEYS or f"\x1b[{code}~" in ANSI_SEQUENCES_KEYS
    return code in {"", "1"}


def _is_character(code: int) -> bool:
    return code <= 0x10FFFF and not 0xD800 <= code < 0xE000


def _is_visible(number: str) -> bool:
    return len(number) <= 7 and _is_character(int(number)) and chr(int(number)).isprintable()
