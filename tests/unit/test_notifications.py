"""Notifications: sent where the terminal is known to show them, safe whatever a run is called."""

import pytest

from tests.ui.sample_run import NOW
from tui.data.summary import Summary
from tui.terminal.sequences import newly_ended, sequences


@pytest.mark.parametrize(
    ("environment", "sent"),
    [
        ({"TERM": "xterm-256color"}, ""),
        ({"TERM": "linux"}, ""),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "\x1b]9;VGG: completed\a"),
        ({"TERM": "xterm-kitty"}, "\x1b]9;VGG: completed\a"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "\x1b]9;VGG: completed\a"),
        ({"TERM": "foot"}, "\x1b]777;notify;VGG;completed\a"),
        ({"TERM": "rxvt-unicode-256color"}, "\x1b]777;notify;VGG;completed\a"),
        ({"TERM": "tmux-256color", "TMUX": "/tmp/x"}, ""),
        (
            {"TERM": "tmux-256color", "TMUX": "/tmp/x", "WEZTERM_PANE": "0"},
            "\x1bPtmux;\x1b\x1b]9;VGG: completed\a\x1b\\",
        ),
        ({"TERM": "screen", "STY": "1.x", "LC_TERMINAL": "iTerm2"}, ""),
    ],
)
def test_only_terminals_that_show_notifications_are_sent_any(environment: dict[str, str], sent: str) -> None:
    assert sequences(environment, "VGG", "completed") == sent


def test_no_name_can_send_commands_to_the_terminal() -> None:
    sent = sequences({"TERM": "foot"}, "a;b\x1b]0;c\a", "x\x9c\x1b\\y\n")
    assert sent == "\x1b]777;notify;a,b ]0,c ;x  \\y \a"
    assert len(sequences({"TERM": "foot"}, "t", "x" * 5000)) < 300


def run(name: str, status: str) -> Summary:
    return Summary(
        id=name, preset_name="demo", title="Demo", overrides=(), status=status, reason="", created=NOW, seed=0, data="",  # type: ignore[arg-type]
        device="", epoch=1, epochs=2, global_step=1, train_loss=None, val_loss=None, best_epoch=None,
        best_val_top1=None, test_top1=None, alerts=(), path="",
    )  # fmt: skip


def test_runs_that_were_alive_and_are_not_any_more_have_ended() -> None:
    before = [run("a", "training"), run("b", "training"), run("c", "completed"), run("e", "stalled")]
    after = [run("a", "failed"), run("b", "paused"), run("c", "completed"), run("d", "completed"), run("e", "lost")]
    assert [ended.id for ended in newly_ended(before, after)] == ["a", "e"]
