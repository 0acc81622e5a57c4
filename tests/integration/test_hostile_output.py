"""The command line on files that would draw, and the bytes that a terminal gets of them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.journal import commands
from engine.journal.jsonl import append_command
from tests.hostile_run import ATTACK, LONG, MARK, hostile_folder, hostile_run, write_hostile_preset
from tests.terminal import Terminal
from tests.waiting import wait_for
from tui.cli.follow import Output, follow
from tui.cli.interrupts import Interrupts
from tui.cli.main import cifartui
from tui.cli.output import say_json

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
HARMLESS = f"{MARK} a title like any other"
C1_OR_BIDI = re.compile(rb"\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]|\x7f")
SEQUENCE = re.compile(rb"\x1b(\[[<-?]?|[\]PX^_][^\x07\x1b]*|.)([\d;:]*)([ -/]*[@-~])?", re.DOTALL)


@pytest.fixture
def ask(runs_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Call the command line among hostile runs, presets and a hostile configuration's name."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    write_hostile_preset(tmp_path / "config/cifartui/presets")
    hostile_folder(runs_dir)
    hostile_run(runs_dir).finish("failed", LONG)
    hostile_run(runs_dir, name="other-0002").finish("completed", LONG)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cifartui, ["--runs-dir", str(runs_dir), *arguments])

    return call


@pytest.mark.parametrize(
    "command",
    [
        "runs", "runs --filter nothing", "show bad-a3f2", "show latest", "compare bad-a3f2 other-0002 --diff", "queue",
        "presets", "presets broken", "data", "gpus", "ablation --table", "stop bad-a3f2", "attach bad-a3f2",
        "export bad-a3f2 --output {tmp}/curves.csv", "export bad-a3f2 --format svg --output {tmp}/curves.svg",
        "delete bad-a3f2 --yes", "queue remove 0", "queue clear", "evaluate latest --submission {tmp}",
        "train broken", "train \x1b[2J", "show \x1b[2J", "lr bad-a3f2 0.5",
    ],
)  # fmt: skip
def test_no_command_prints_what_a_terminal_obeys(ask: Callable[..., Result], command: str, tmp_path: Path) -> None:
    result = ask(*command.format(tmp=tmp_path).split(" "))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.output
    assert not OBEYED.findall(result.output)


@pytest.mark.parametrize("command", ["runs", "show bad-a3f2", "compare bad-a3f2 other-0002 --diff", "queue", "presets"])
def test_json_is_escaped_and_whole(ask: Callable[..., Result], command: str) -> None:
    result = ask(*command.split(), "--json")
    assert result.exit_code == 0, result.output
    assert not OBEYED.findall(result.stdout)
    said = json.dumps(json.loads(result.stdout), ensure_ascii=False)
    assert json.dumps(ATTACK, ensure_ascii=False)[1:40] in said


@pytest.mark.parametrize("output", ["lines", "json"])
def test_a_followed_run_prints_nothing_that_is_obeyed(
    runs_dir: Path, output: Output, capsys: pytest.CaptureFixture[str]
) -> None:
    follow(hostile_run(runs_dir).finish("failed", LONG).folder, output, Interrupts())
    printed = capsys.readouterr()
    assert MARK in printed.out
    assert not OBEYED.findall(printed.out + printed.err)


def bytes_of(terminals: Callable[..., Terminal], runs_dir: Path, text: str, long: str) -> set[bytes]:
    """Return the kinds of sequences that the program sends of a run that says `text`."""
    run = hostile_run(runs_dir, text, long)
    for _ in range(2):
        append_command(run.folder.commands, commands.Pause())
    run.finish("failed", long)
    kinds: set[bytes] = set()
    for arguments, keys in (
        (("show", "latest"), ""),
        (("runs",), ""),
        (("attach", "latest"), "L"),
        (("attach", "latest"), "i"),
        (("train", "no-such"), ""),
    ):
        terminal = terminals(*arguments, size=(40, 120), TERM="xterm-256color", COLORTERM="truecolor")
        if keys:
            terminal.shows(MARK)
            terminal.press(keys)
            terminal.shows(MARK)
            terminal.press("q")
        wait_for(terminal.ended, "the end")
        assert not C1_OR_BIDI.findall(terminal.received), arguments
        assert b"\x1b[38;5;77m" not in terminal.received
        for start, _numbers, end in SEQUENCE.findall(terminal.received):
            kinds.add(start + b" " + end)
        kinds |= {bytes([byte]) for byte in terminal.received if byte < 0x20}
    return kinds


def test_a_terminal_gets_no_sequence_that_a_harmless_run_does_not_send(
    terminals: Callable[..., Terminal], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[set[bytes]] = []
    for number, (text, long) in enumerate(((HARMLESS, HARMLESS * 200), (ATTACK, LONG))):
        runs_dir = tmp_path / f"runs{number}"
        monkeypatch.setenv("CIFARTUI_RUNS", str(runs_dir))

        def opened(*arguments: str, runs_dir: Path = runs_dir, **options: object) -> Terminal:
            return terminals(*arguments, CIFARTUI_RUNS=str(runs_dir), **options)

        sent.append(bytes_of(opened, runs_dir, text, long))
    assert sent[1] <= sent[0]


@pytest.mark.parametrize("indent", [0, 2])
def test_json_can_say_a_file_name_that_is_not_utf8(indent: int, capsys: pytest.CaptureFixture[str]) -> None:
    told = {"path": "/runs/\udcff\x9b31m", "size": 1.5}
    say_json(told, indent=indent)
    printed = capsys.readouterr().out
    assert json.loads(printed) == told
    assert printed.isascii()
