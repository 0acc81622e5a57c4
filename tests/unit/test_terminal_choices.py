"""What is chosen for which terminal, from its environment alone."""

import io

import pytest

from tui.terminal.capabilities import color_depth, has_screen, plot_style
from tui.terminal.streams import ascii_only


@pytest.mark.parametrize(
    ("environment", "encoding", "style"),
    [
        ({"TERM": "xterm-256color", "LANG": "en_US.UTF-8"}, "UTF-8", "braille"),
        ({"TERM": "xterm-256color"}, "utf-8", "ascii"),
        ({"TERM": "xterm-256color", "LC_CTYPE": "C.UTF-8"}, "utf-8", "ascii"),
        ({"TERM": "xterm-256color", "LC_CTYPE": "C.UTF-8", "LANG": "en_US.UTF-8"}, "utf-8", "braille"),
        ({"TERM": "xterm-256color", "LANG": "C", "PYTHONUTF8": "1"}, "utf-8", "braille"),
        ({"TERM": "xterm-256color", "LANG": "en_US.UTF-8"}, "ascii", "ascii"),
        ({"TERM": "xterm-256color", "LANG": "en_US"}, "ISO-8859-1", "ascii"),
        ({"TERM": "xterm-256color", "LANG": "en_US.ISO-8859-1"}, "utf-8", "ascii"),
        ({"TERM": "xterm-256color", "LANG": "de_DE.UTF-8@euro"}, "UTF-8", "braille"),
        ({"TERM": "xterm-256color", "LANG": "C"}, "utf-8", "ascii"),
        ({"TERM": "xterm-256color", "LANG": "C", "LC_CTYPE": "C.UTF-8"}, "utf-8", "ascii"),
        ({"TERM": "xterm-256color", "LANG": "C", "LC_CTYPE": "en_US.UTF-8"}, "UTF-8", "braille"),
        ({"TERM": "xterm-256color", "LANG": "en_US.UTF-8", "LC_ALL": "C"}, "utf-8", "ascii"),
        ({"TERM": "linux", "LANG": "en_US.UTF-8"}, "UTF-8", "ascii"),
        ({"TERM": "putty-256color", "LANG": "en_US.UTF-8"}, "UTF-8", "blocks"),
        ({"TERM": "dumb", "LANG": "en_US.UTF-8"}, "UTF-8", "ascii"),
    ],
)
def test_plots_are_drawn_with_what_locale_and_font_have(environment: dict[str, str], encoding: str, style: str) -> None:
    assert plot_style(environment, encoding).value == style


@pytest.mark.parametrize(
    ("environment", "depth"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "truecolor"),
        ({"TERM": "screen", "COLORTERM": "24bit"}, "256"),
        ({"TERM": "screen.xterm-256color", "COLORTERM": "truecolor"}, "256"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "STY": "1.pts-0.host"}, "256"),
        ({"TERM": "screen-256color", "COLORTERM": "truecolor", "TMUX": "/tmp/tmux-0/default,1,0"}, "truecolor"),
        ({"TERM": "xterm-kitty"}, "truecolor"),
        ({"TERM": "xterm-direct"}, "truecolor"),
        ({"TERM": "screen-256color"}, "256"),
        ({"TERM": "xterm"}, "16"),
        ({"TERM": "linux"}, "16"),
        ({}, "16"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "none"),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, "256"),
    ],
)
def test_colours_are_as_many_as_the_terminal_names(environment: dict[str, str], depth: str) -> None:
    assert color_depth(environment).value == depth


def test_a_dumb_terminal_has_no_screen() -> None:
    assert not has_screen({"TERM": "dumb"})
    assert has_screen({"TERM": "linux"})


def test_every_choice_names_what_decided_it() -> None:
    assert color_depth({"TERM": "xterm", "NO_COLOR": "1"}).why == "NO_COLOR is set"
    assert "LANG=C" in plot_style({"TERM": "xterm", "LANG": "C", "LC_CTYPE": "C.UTF-8"}, "utf-8").why
    assert "no locale" in plot_style({"TERM": "xterm", "LC_CTYPE": "C.UTF-8"}, "utf-8").why


@pytest.mark.parametrize("locale", ["", "C", "POSIX", "en_US.UTF-8", "en_US.ISO-8859-1", "C.UTF-8"])
def test_lines_and_plots_agree_on_what_a_locale_takes(locale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG", "PYTHONUTF8"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", locale)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    style = plot_style({"TERM": "xterm", "LANG": locale}, "utf-8").value
    assert ascii_only(stream) == (style == "ascii") == (locale not in {"en_US.UTF-8", "C.UTF-8"})
