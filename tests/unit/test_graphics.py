"""Which terminals are taken to show images, by the environment alone."""

import subprocess
import sys

import pytest

from tui.terminal import capabilities


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "sixel"),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux-0/default,1,0"}, None),
        ({"TERM": "xterm-kitty", "CIFARTUI_IMAGES": "blocks"}, None),
        ({"TERM": "xterm-256color", "CIFARTUI_IMAGES": "sixel"}, "sixel"),
        ({}, None),
    ],
)
def test_the_environment_decides(environment: dict[str, str], expected: str | None) -> None:
    assert capabilities.protocol(environment) == expected


def test_where_characters_have_no_known_size_half_blocks_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFARTUI_IMAGES", "kitty")
    monkeypatch.setattr(capabilities, "_cell_size", lambda: None)
    assert capabilities.image_widget() is None


def test_the_dashboard_loads_no_image_library_before_it_is_needed() -> None:
    code = "import sys, tui.app, tui.screens.monitor; sys.exit('textual_image' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
