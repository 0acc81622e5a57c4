"""What the guides must name: every action that can have another key, and every command."""

import re
from pathlib import Path
from typing import get_args

import click
import pytest

from engine.journal.commands import AnyCommand
from engine.journal.events import AnyEvent
from presets import schema
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


@pytest.mark.parametrize("kind", [*get_args(AnyEvent), *get_args(AnyCommand)])
def test_every_event_and_every_command_of_a_run_is_in_the_guide_to_its_directory(kind: type) -> None:
    guide = (ROOT / "docs" / "run-directory.md").read_text(encoding="utf-8")
    assert re.search(rf"\b{kind.__name__}\b", guide)


@pytest.mark.parametrize("union", [schema.Augmentation, schema.Model, schema.Optimizer, schema.Schedule])
def test_everything_that_a_preset_can_choose_is_in_the_presets_guide(union: object) -> None:
    guide = (ROOT / "docs" / "presets.md").read_text(encoding="utf-8")
    absent = [tag for tag in (kind.__struct_config__.tag for kind in get_args(union)) if tag not in guide]
    assert absent == []
