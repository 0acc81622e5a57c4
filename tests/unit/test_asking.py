"""The ways to ask something of a run: every command has a key, a line of the command line, and a use that is told."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner
from textual.binding import Binding

from engine.journal.commands import AnyCommand, Command, Continue
from engine.journal.events import AnyEvent
from engine.runs.run_dir import RunDir
from tui.cli.main import cifartui
from tui.screens.monitor import Monitor
from tui.screens.run_keys import RUN_KEYS, SENT_BY, sent_by

CONTEXT = click.Context(cifartui)


@pytest.mark.parametrize("name", cifartui.list_commands(CONTEXT))
def test_every_line_of_the_command_line_can_be_loaded(name: str) -> None:
    command = cifartui.get_command(CONTEXT, name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str()


def test_every_command_has_a_line_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[type] = []

    def ask(_run: RunDir, command: AnyCommand) -> Iterator[AnyEvent | None]:
        asked.append(type(command))
        return iter(())

    monkeypatch.setattr("tui.cli.control._send", ask)
    monkeypatch.setattr("tui.cli.control.find_run", lambda _runs_dir, name: RunDir(tmp_path / name))
    for name in ("stop", "next", "pause", "continue", "save", "validate", "abort"):
        assert CliRunner().invoke(cifartui, [name, "run"]).exit_code == 0
    assert CliRunner().invoke(cifartui, ["lr", "run", "0.5"]).exit_code == 0
    assert set(asked) == set(get_args(AnyCommand))


def test_every_command_has_a_key() -> None:
    keys = {each.action: sent_by(each) for each in Binding.make_bindings(RUN_KEYS)}
    assert {*keys.values(), Continue} - {None} == set(get_args(AnyCommand))  # the key of a pause goes on, too
    assert {action for action, command in keys.items() if command is None} == {
        "resume",
        "resume_changed",
        "start_again",
    }
    assert all(hasattr(Monitor, f"action_{name}") for name in SENT_BY)


def test_a_range_test_offers_what_it_has_a_use_for() -> None:
    useless: set[type[Command]] = {kind for kind in SENT_BY.values() if not kind.in_range_test}
    actions = {each.action for each in Binding.make_bindings(RUN_KEYS) if sent_by(each) in useless}
    assert actions == {"checkpoint", "validate", "scale_lr(0.5)", "scale_lr(2.0)"}
