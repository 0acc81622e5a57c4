"""What the guides must name: every action that can have another key, and every command."""

import re
from pathlib import Path

import click

from tui import keymap
from tui.cli.main import cifartui

ROOT = Path(__file__).parents[2]


def test_every_action_and_its_usual_keys_are_in_the_terminals_guide() -> None:
    guide = (ROOT / "docs" / "terminals.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", guide[guide.index("## Keys") : guide.index("## When a run ends")]))
    assert named == set(keymap.actions())


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("## The command line") : readme.index("## Configuration")]
    named = set(re.findall(r"(?:^    cifartui|·) ([a-z-]+)", section, re.MULTILINE))
    assert set(cifartui.list_commands(click.Context(cifartui))) <= named
