"""The line that is kept up to date: what it says at any width, and how it is drawn."""

import io
import os
import signal
import sys
from collections.abc import Callable

import pyte
import pytest
from rich.cells import cell_len

from engine.journal import events
from engine.journal.state import RunState, fold
from tests.unit.test_state import DATA, STAGE, STARTED, epoch, steps
from tui.cli import follow
from tui.cli.live_line import LiveLine
from tui.terminal.streams import ascii_only, can_draw, in_ascii, one_line


class Screen(io.StringIO):
    """A terminal of 40 columns that remembers every write."""

    def __init__(self) -> None:
        super().__init__()
        self.screen = pyte.Screen(40, 6)
        self._stream = pyte.Stream(self.screen)
        self.writes: list[str] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.writes.append(text)
        self._stream.feed(text.replace("\n", "\r\n"))
        return len(text)

    def rows(self) -> list[str]:
        return [row.rstrip() for row in self.screen.display if row.strip()]


def drawing(text: str) -> Callable[[int], str]:
    return lambda columns: text


@pytest.fixture
def state() -> RunState:
    return fold([STARTED, DATA, STAGE, steps(1, 5), steps(1, 10), epoch(1, 0.3), steps(2, 5)])


def test_a_line_that_does_not_fit_loses_whole_fields_from_its_end(state: RunState) -> None:
    said = follow.live(state, "training", 102.0, 1000, ascii_only=False).partition(" %  ")[2]
    for field in ("epoch 2/4", "batch  5/10", "5 s left", "best val 30.0 %", "100 images/s"):
        assert field in said
    for columns in range(1, 120):
        line = follow.live(state, "training", 102.0, columns, ascii_only=False)
        assert cell_len(line) <= columns
        shown = line.partition(" %  ")[2]
        assert said.startswith(shown)
        assert said[len(shown) :][:2] in {"", "  "} or not shown


def test_wide_characters_count_twice() -> None:
    assert follow.fitted(["図形", "百"], 7) == "図形"
    assert follow.fitted(["図形", "百"], 8) == "図形  百"


def test_without_unicode_a_line_is_ascii(state: RunState) -> None:
    assert follow.live(state, "training", 102.0, 100, ascii_only=True).isascii()
    assert in_ascii("64×64 – report… 5 °C") == "64x64 - report. 5  C"


@pytest.mark.parametrize("status", ["starting", "data", "model", "training", "validating", "paused", "stalled"])
def test_every_status_is_said_also_before_there_is_anything_to_say(status: str) -> None:
    for told in (RunState(), fold([STARTED]), fold([STARTED, DATA, STAGE])):
        assert follow.live(told, status, 200.0, 79, ascii_only=False)  # type: ignore[arg-type]


def test_what_a_terminal_would_obey_is_taken_out_of_events() -> None:
    alert = events.Alerted(severity="error", kind="x", text="a\x1b[2Jb\nc")
    line = follow.describe(alert, RunState())
    assert line == "a [2Jb c"
    assert one_line("\x9b31m\r") == " 31m "


def test_lines_that_stay_are_above_and_the_line_is_drawn_over() -> None:
    screen, now = Screen(), [0.0]
    with LiveLine(screen, lambda: None, clock=lambda: now[0]) as line:
        line.show(drawing("first, and quite long"))
        assert screen.screen.cursor.hidden
        line.keep("an alert that is much longer than the line below it: 60 cells wide")
        assert screen.rows()[-1] == "first, and quite long"
        now[0] = 1.0
        line.show(drawing("second"))
        assert screen.rows()[-1] == "second"
    assert screen.rows() == ["an alert that is much longer than the li", "ne below it: 60 cells wide"]
    assert not screen.screen.cursor.hidden


def test_it_is_drawn_five_times_a_second_at_most_and_only_when_it_changed() -> None:
    screen, now = Screen(), [0.0]
    with LiveLine(screen, lambda: None, clock=lambda: now[0]) as line:
        for tick in range(100):
            now[0] = tick * 0.05
            line.show(drawing(f"{tick}"))
        assert 20 < len(screen.writes) <= 30
        for _ in range(3):
            now[0] += 10
            line.show(drawing("the same"))
        assert screen.writes[-2] != screen.writes[-1]
        assert sum("the same" in text for text in screen.writes) == 1


def test_lines_that_come_seldom_are_drawn_at_once_and_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from tui.cli.export import progress

    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with progress() as tell:
        tell("loading the network")
        tell("writing onnx")
        assert screen.rows() == ["writing onnx …"]
    assert screen.rows() == []
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with progress() as tell:
        tell("writing onnx")
    assert pipe.getvalue() == ""


def test_the_cursor_comes_back_after_an_exception() -> None:
    screen = Screen()

    def interrupted() -> None:
        with LiveLine(screen, lambda: None) as line:
            line.show(drawing("something"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not screen.screen.cursor.hidden
    assert screen.rows() == []


def test_a_resize_clears_what_was_wrapped_and_draws_again() -> None:
    screen, woken, now = Screen(), [], [0.0]
    before = signal.getsignal(signal.SIGWINCH)
    with LiveLine(screen, lambda: woken.append(True), clock=lambda: now[0]) as line:
        line.show(drawing("the same"))
        os.kill(os.getpid(), signal.SIGWINCH)
        assert woken == [True]
        now[0] = 1.0
        line.show(drawing("the same"))
        assert "\x1b[J" in screen.writes[-1]
    assert signal.getsignal(signal.SIGWINCH) is before


def test_a_job_that_is_stopped_gives_the_cursor_back_first(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, stream = os.openpty()
    stopped = []

    def stop(_pid: int, number: int) -> None:
        stopped.append((number, signal.getsignal(number), os.read(terminal, 1000)))

    monkeypatch.setattr("tui.cli.live_line.os.kill", stop)
    with os.fdopen(stream, "w") as file, LiveLine(file, lambda: None) as line:
        line.show(drawing("something"))
        os.read(terminal, 1000)
        signal.raise_signal(signal.SIGTSTP)
        ((number, handler, drawn),) = stopped
        assert (number, handler) == (signal.SIGTSTP, signal.SIG_DFL)
        assert drawn.endswith(b"\x1b[?25h")
        assert os.read(terminal, 1000).endswith(b"\x1b[?25l")
    os.close(terminal)


def test_a_dumb_terminal_and_a_pipe_are_not_drawn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert can_draw(Screen())
    assert not can_draw(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not can_draw(Screen())


def test_another_encoding_than_utf_8_is_ascii() -> None:
    assert ascii_only(io.TextIOWrapper(io.BytesIO(), encoding="iso-8859-1"))
    assert ascii_only(io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
