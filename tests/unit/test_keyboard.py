"""Bytes from a terminal: keys of a hand are keys, and nothing that the terminal says of itself is one."""

import inspect
import random

import pytest
from textual import events
from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

from tests.fuzz.kinds import terminal_input
from tui.terminal.driver import DiffDriver
from tui.terminal.keyboard import CUT_S, HELD_S, LONGEST_S, QUIET_S, Burst, Keyboard

REPLIES = {
    "OSC 10": b"\x1b]10;rgb:ffff/ffff/ffff\x1b\\",
    "OSC 11": b"\x1b]11;rgb:1e1e/1e1e/2e2e\x07",
    "OSC 4": b"\x1b]4;1;rgba:cccc/0000/vvvv/ssss\x1b\\",
    "OSC 52": b"\x1b]52;c;c3ZlcGNuW10=\x07",
    "DA1": b"\x1b[?62;1;4;22c",
    "DA2": b"\x1b[>41;354;0c",
    "DA3": b"\x1bP!|7E565445\x1b\\",
    "XTVERSION": b"\x1bP>|tmux 3.4 vsepc\x1b\\",
    "DECRQSS": b"\x1bP1$r0m\x1b\\",
    "XTGETTCAP": b"\x1bP1+r544e=787465726d\x1b\\",
    "APC": b"\x1b_Gi=31;OK svec\x1b\\",
    "PM": b"\x1b^privacy svec[]\x1b\\",
    "SOS": b"\x1bXsvec[]\x1b\\",
    "title": b"\x1b]lvsepnc []X\x1b\\",
    "icon": b"\x1b]Lvsepnc\x1b\\",
    "window size": b"\x1b[8;24;80t",
    "cell size": b"\x1b[6;18;9t",
    "cursor": b"\x1b[12;40R",
    "status": b"\x1b[0n",
    "ANSI mode": b"\x1b[4;1$y",
    "private mode": b"\x1b[?1004;2$y",
    "kitty keyboard": b"\x1b[?25u",
    "through tmux": b"\x1bPtmux;\x1b\x1b]11;rgb:1e1e/1e1e/2e2e\x1b\x1b\\\x1b\\",
    "through tmux, with BEL": b"\x1bPtmux;\x1b\x1b]11;rgb:1e1e/1e1e/2e2e\x07\x1b\\",
    "OSC in eight bits": b"\x9d11;rgb:1e1e/1e1e/2e2e\x9c",
    "DA1 in eight bits": b"\x9b?62;22c",
}
_UNHURRIED_S = 10.0


def told(*reads: bytes, every_s: float = 0.0) -> list[str]:
    """Return what becomes of reads that are so many seconds apart: names of keys, and of other events."""
    keyboard, now, out = Keyboard(), 0.0, []

    def pass_until(end: float) -> None:
        nonlocal now
        while (due_s := keyboard.due_in_s(now)) is not None and now + due_s <= end:
            now += due_s + 1e-9
            out.extend(keyboard.tick(now))
        now = max(now, end)

    for read in reads:
        out += keyboard.feed(read, now)
        pass_until(now + every_s)
    pass_until(now + _UNHURRIED_S)
    return [message.key if isinstance(message, events.Key) else type(message).__name__ for message in out]


def hands(found: list[str]) -> list[str]:
    """Return what is left beside bursts, and escapes and characters without a meaning of their own."""
    return [name for name in found if name != "Burst"]


@pytest.mark.parametrize("name", REPLIES)
def test_replies_are_swallowed_whole_and_the_next_key_is_one(name: str) -> None:
    assert told(REPLIES[name] + b"q") == ["q"]
    assert told(REPLIES[name], b"q", every_s=0.2) == ["q"]


@pytest.mark.parametrize("name", REPLIES)
@pytest.mark.parametrize("pause_s", [0.0, 0.02, 0.09])
def test_replies_are_swallowed_wherever_a_read_cuts_them(name: str, pause_s: float) -> None:
    reply = REPLIES[name]
    for cut in range(1, len(reply)):
        assert told(reply[:cut], reply[cut:], b"q", every_s=pause_s)[-1:] == ["q"] or pause_s < HELD_S
        assert hands(told(reply[:cut], reply[cut:], every_s=pause_s)) == [], (name, cut)
    assert hands(told(*(bytes([byte]) for byte in reply), every_s=min(pause_s, 0.02))) == []


@pytest.mark.parametrize("name", REPLIES)
@pytest.mark.parametrize("pause_s", [0.12, 0.2, 0.4])
def test_replies_that_a_slow_line_cuts_in_two_steer_nothing(name: str, pause_s: float) -> None:
    reply = REPLIES[name]
    for cut in range(1, len(reply)):
        found = told(reply[:cut], reply[cut:], every_s=pause_s)
        assert hands(found) in ([], ["escape"][:cut]), (name, cut)  # an escape alone is a key at some time


@pytest.mark.parametrize("every_s", [0.035, 0.09])
def test_a_long_reply_over_a_slow_line_is_swallowed_whole(every_s: float) -> None:
    for reply in (b"\x1b]52;c;" + b"c3ZlcGNuW10=" * 20 + b"\x07", b"\x1bP>|" + b"vsepc[]" * 40 + b"\x1b\\"):
        assert len(reply) * every_s > LONGEST_S
        assert told(*(bytes([byte]) for byte in reply), b"q", every_s=every_s) == ["q"]


@pytest.mark.parametrize("key", [b"[I", b"[O", b"[A", b"[B", b"[C", b"[D", b"[H", b"[F", b"OA", b"OP", b"[[A", b"[Z"])
def test_focus_arrows_and_function_keys_that_lost_their_escape_are_no_keys_of_a_letter(key: bytes) -> None:
    assert told(key, b"q", every_s=0.5) == ["Burst", "q"]
    assert told(b"\x1b", key, every_s=0.12) == ["Burst"]
    assert told(b"\x1b", key, every_s=0.3) == ["escape", "Burst"]
    assert told(b"\x1b" + key[:1], key[1:], every_s=0.3)[-1:] != [key[-1:].decode()]
    assert told(key[:1], key[1:], every_s=0.12) != []  # a hand


@pytest.mark.parametrize("name", [name for name in REPLIES if "eight" not in name and "tmux" not in name])
def test_the_rest_of_a_reply_without_its_first_bytes_is_no_key(name: str) -> None:
    reply = REPLIES[name]
    for lost in range(1, len(reply) - 2):
        found = told(reply[lost:], b"q", every_s=0.5)
        assert found in (["Burst", "q"], ["q"]), (name, lost, found)


def test_a_burst_is_told_once_and_what_follows_it_at_once_belongs_to_it() -> None:
    assert told(b"vs[]X") == ["Burst"]
    assert told(b"vs[]", b"s", b"v", every_s=0.05) == ["Burst"]
    assert told(b"vs[]", b"s", every_s=QUIET_S + 0.01) == ["Burst", "s"]
    assert told(b"first line\rsecond line\r") == ["Burst"]


def test_keys_of_hands_are_keys() -> None:
    assert told(b"]]]]") == ["right_square_bracket"] * 4
    assert told(b"]", b"]", b"]", b"]", every_s=0.04) == ["right_square_bracket"] * 4
    assert told(b"j" * 300) == ["j"] * 300
    assert told(*[b"j"] * 60, every_s=1 / 60) == ["j"] * 60  # a key that is held down
    assert told(b"\x1b[B" * 40) == ["down"] * 40
    assert told(b"g", b"G", b"\r", b"q", every_s=0.04) == ["g", "G", "enter", "q"]
    assert told(b"s", b"v", every_s=0.005) == ["s", "v"]  # two keys that are rolled
    assert told(b"\x03\x03") == ["ctrl+c", "ctrl+c"]
    assert told("é".encode()[:1], "é".encode()[1:]) == ["é"]
    assert told(b"\x1b") == ["escape"]
    assert told(b"\x1b\x1b") == ["escape", "escape"]
    assert told(b"\x1bx") == ["alt+x"]
    assert told(b"\x1b[") == []  # Alt with a bracket, or a sequence of which no more came
    assert told(b"\x1b/") == []


def test_a_held_key_is_not_held_back() -> None:
    keyboard = Keyboard()
    assert keyboard.feed(b"j", 0.0) == []
    keyboard.feed(b"j", HELD_S / 2)
    assert len(keyboard.tick(HELD_S)) == 2


def test_a_key_of_the_table_is_what_textual_makes_of_it() -> None:
    """Pins Textual's tables, and its words for keys."""
    parser = XTermParser()
    for sequence in ANSI_SEQUENCES_KEYS:
        wanted = [key.key for key in parser._sequence_to_key_events(sequence) if key.key != "<ignore>"]
        if sequence.startswith("\x1b[") and sequence.endswith("R"):
            wanted = []  # a report of the cursor's place
        wanted = [name for name in wanted if name.isprintable()]  # of "CSI 5 A" Textual makes character 5
        if sequence not in {"\x1b\x1b", "\x1b\x7f", "\x1b"} and sequence.isascii():
            assert told(sequence.encode()) == wanted, repr(sequence)


@pytest.mark.parametrize(
    ("sequence", "keys"),
    [
        (b"\x1b[118u", ["v"]),
        (b"\x1b[97;5u", ["ctrl+a"]),
        (b"\x1b[97:65:97;2:1;65u", ["A"]),
        (b"\x1b[97;1:2;97u", ["a"]),
        (b"\x1b[97;1:3u", []),
        (b"\x1b[1;1:3A", []),
        (b"\x1b[1;5:1A", ["ctrl+up"]),
        (b"\x1b[0;;229u", ["å"]),
        (b"\x1b[27u", ["escape"]),
        (b"\x1b[55296u", []),
        (b"\x1b[1114112u", []),
        (b"\x1b[97;1;55296u", []),
        (b"\x1b[97;;1114112u", []),
        (b"\x1b[97;;27:91:65u", ["left_square_bracket", "A"]),
        (b"\x1b[" + b"9" * 5000 + b"u", []),
        (b"\x1b[97;" + b"9" * 40 + b"u", []),
        (b"\x1b[<0;" + b"9" * 400 + b";1M", []),
        (b"\x1b[:::;;;:::u", []),
        (b"\x1b[48;0;0;0;0t", []),
        (b"\x1b[118~", []),
        (b"\x1b[118A", []),
        (b"\x1b[3u", []),
        (b"\x1b[u", []),
        (b"\x1b[48;99999999999;1;1;1t", []),
    ],
)
def test_sub_fields_event_types_and_numbers_that_are_none(sequence: bytes, keys: list[str]) -> None:
    assert told(sequence) == keys


@pytest.mark.parametrize(
    "content",
    [
        b"\x1b[M\x20\xff\xff", b"\x1b[M\x20\xc3\xa9", b"\x1b[M\x20\x80\x80", b"\x1b[M\x20\xe2\x82",
        b"\xff\xfe", b"\xc3", b"\x9b",
        b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x84\x85\x88\x8d\x8e\x96\x97", "\x85\x84".encode(), b"\x9c", b"\x1b\\",
    ],
)  # fmt: skip
def test_what_is_no_text_is_nothing_and_the_next_key_is_one(content: bytes) -> None:
    assert told(content, b"q", every_s=1.1) == ["q"]


def test_a_sequence_without_an_end_holds_the_keys_up_for_a_moment_only() -> None:
    for cut in (b"\x1b]11;rgb", b"\x1bP>|x", b"\x1b[12;", b"\x1b[M\x20", b"\x1b[200~text"):
        assert [name for name in told(cut, b"q", every_s=CUT_S + 0.1) if name != "Paste"] == ["q"]


def test_a_bracketed_paste_is_one_whatever_is_in_it() -> None:
    keyboard = Keyboard()
    pasted = keyboard.feed(b"\x1b[200~a\x1b[31mb\r\n\x00\xff\xc3", 0.0) + keyboard.feed(b"\xa9\x1b[201~", 0.1)
    assert [type(each) for each in pasted] == [events.Paste]
    assert isinstance(pasted[0], events.Paste)
    assert pasted[0].text == "a\x1b[31mb\r\né"
    assert told(b"\x1b[200~vs[]\x1b[201~q") == ["Paste", "q"]
    assert told(b"\x1b[201~") == []


def test_a_burst_keeps_its_text_and_knows_a_reply() -> None:
    def burst(content: bytes) -> Burst:
        keyboard = Keyboard()
        found = keyboard.feed(content, 0.0) + keyboard.tick(1.0)
        assert isinstance(found[-1], Burst)
        return found[-1]

    assert (burst(b"/data/birds").text, burst(b"/data/birds").is_reply) == ("/data/birds", False)
    assert burst(b"[?62;22c").is_reply
    assert burst(b"1;rgb:1e1e/1e1e/2e2e\x1b\\").is_reply
    for end in (b"\x1b\\", b"\x07", b"\xc2\x9c"):
        assert burst(b"1e1e/1e1e" + end).is_reply
        assert burst(b"ux 3.4" + end + b"bash").is_reply


def test_seeded_bytes_leave_a_keyboard_that_works(tmp_path: pytest.TempPathFactory) -> None:
    taken = [terminal_input(seed, tmp_path) for seed in random.Random(1).sample(range(10**6), 50)]  # type: ignore[arg-type]
    assert len(set(taken)) == 2


def test_textual_still_has_what_the_driver_stands_on() -> None:
    """Pins what is private in Textual: read what took its place before changing this."""
    thread = inspect.getsource(LinuxDriver._run_input_thread)
    assert "self.run_input_thread()" in thread
    source = inspect.getsource(LinuxDriver)
    for name in ("_writer_thread", "exit_event", "_get_terminal_size()", "XTermParser(self._debug)", "\\x1b[<u"):
        assert name in source, name
    assert "self._size" not in source
    assert DiffDriver.__mro__[1] is LinuxDriver
    parser = XTermParser()
    assert [key.key for key in parser._sequence_to_key_events("v")] == ["v"]
    assert [key.key for key in parser._sequence_to_key_events("v", alt=True)] == ["alt+v"]
    assert isinstance(parser.parse_mouse_code("\x1b[<0;3;4M"), events.MouseDown)
