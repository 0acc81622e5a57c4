"""Bytes and text made wrong in the ways that disks, editors and attackers know. The same seed, the same fault."""

import random
import re

TOKENS = (
    b"\x00", b"\xff\xfe", b"\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x1b[2J", b"\n", b"\r\n", b'"', b"'", b'"""',
    b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[", b"]", b"[[", b"=", b",", b":", b"#", b"null", b"true", b"nan",
    b"NaN", b"-inf", b"Infinity", b"1e999", b"-0", b"0x7f", b"9" * 40, b"-9223372036854775809", b"18446744073709551616",
    b"1e-999", b"1_000", b"2026-01-01T00:00:00Z", b"../..", b"/etc/passwd", b"~root", b"*", b"$(id)", b"%s%n", b"{0}",
    b"type", b'"type":"Later"', b"extends", b"A" * 5000,
)  # fmt: skip
DEEP = (b"[", b'{"a":', b"a.", b"(")


def of_bytes(content: bytes, chance: random.Random) -> bytes:
    """Return `content` with one to four faults in it."""
    for _ in range(chance.randint(1, 4)):
        content = _FAULTS[chance.randrange(len(_FAULTS))](content, chance)
    return content


def of_word(content: bytes, chance: random.Random) -> bytes:
    """Return `content` with a single number or word in it exchanged for another of its own: often still valid."""
    words = re.findall(rb"[\w.+-]+", content) or [b"x"]
    at = chance.randrange(len(content) + 1)
    return content[:at] + content[at:].replace(chance.choice(words), chance.choice(words), 1)


def of_lines(content: bytes, chance: random.Random) -> bytes:
    """Return lines with some of them torn, changed, doubled, exchanged, lost or glued together."""
    lines = content.splitlines(keepends=True)
    for _ in range(chance.randint(1, 5)):
        here, there = chance.randrange(len(lines)), chance.randrange(len(lines))
        match chance.randrange(6):
            case 0:
                lines[here] = of_bytes(lines[here], chance)
            case 1:
                lines[here], lines[there] = lines[there], lines[here]
            case 2:
                lines[here] = lines[here][: chance.randrange(len(lines[here]) + 1)]
            case 3:
                lines.insert(here, lines[there])
            case 4:
                lines[here] = lines[here].rstrip(b"\n") + lines[there]
            case _:
                lines[here] = b""
        lines = [line for line in lines if line] or [b"\n"]
    return b"".join(lines)


def of_values(value: object, chance: random.Random, rate: float = 0.08) -> object:
    """Return plain values, as JSON has them, with some exchanged for others of another kind or size."""
    if chance.random() < rate:
        return chance.choice(_VALUES)
    if isinstance(value, dict):
        return {of_key(key, chance, rate): of_values(each, chance, rate) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [of_values(each, chance, rate) for each in value]
    return value


def of_key(key: object, chance: random.Random, rate: float) -> str:
    return str(key) if chance.random() > rate / 4 else chance.choice(("", "\x00", "seq", "type", "\x1b[2J", "x" * 300))


_VALUES: tuple[object, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, 10**30, 10**400, 1e308, -1e308, 5e-324, 0.5, "",
    "\x00", "\x1b[2J", "../..", "latest", "cuda:999", "x" * 10_000, [], {}, [[]], {"type": "Stop"}, [0] * 1000,
    {"": ""},
)  # fmt: skip


def _flip(content: bytes, chance: random.Random) -> bytes:
    if not content:
        return b"\x00"
    at = chance.randrange(len(content))
    return content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :]


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _lose(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[:at] + content[at + chance.randint(1, 60) :]


def _repeat(content: bytes, chance: random.Random) -> bytes:
    at, length = chance.randrange(len(content) + 1), chance.randint(1, 60)
    return content[: at + length] + content[at:]


def _insert(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[:at] + chance.choice(TOKENS) + content[at:]


def _replace_word(content: bytes, chance: random.Random) -> bytes:
    words = content.split(b" ")
    words[chance.randrange(len(words))] = chance.choice(TOKENS)
    return b" ".join(words)


def _deepen(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[:at] + chance.choice(DEEP) * chance.choice((10, 1000, 30_000)) + content[at:]


_FAULTS = (_flip, _flip, _cut, _lose, _repeat, _insert, _insert, _replace_word, _replace_word, _deepen)
