"""The dashboard in terminals that change, go away, or are two on one run."""

import random
from collections.abc import Callable

from engine.journal import commands
from engine.journal.jsonl import append_command
from engine.runs.run_dir import RunDir
from tests.terminal import Terminal
from tests.waiting import wait_for

Open, Start = Callable[..., Terminal], Callable[..., RunDir]
LONG = "train.epochs=500"
TALL = (45, 160)


def training(start: Start) -> RunDir:
    run = start(LONG)
    wait_for(lambda: run.read_state().steps, "training")
    return run


def asked(run: RunDir, command: commands.AnyCommand) -> None:
    append_command(run.commands, command)
    wait_for(lambda: command.id in run.read_state().commands, f"an answer to {command}")


def test_after_a_storm_of_resizes_the_screen_is_as_a_fresh_one(terminals: Open, start: Start) -> None:
    run = training(start)
    stormed = terminals("attach", run.id, size=(60, 200))
    stormed.shows("training", "top-1")
    chance = random.Random(3)
    for _ in range(30):
        stormed.resize(chance.randint(10, 60), chance.randint(40, 200))
        if chance.random() < 0.5:
            stormed.text()  # some resizes come before the screen has been drawn for the one before
    stormed.resize(10, 40)
    stormed.shows("too small")
    stormed.resize(40, 120)
    stormed.shows("training", "top-1")
    asked(run, commands.Pause())  # what is compared stands still
    fresh = terminals("attach", run.id, size=(40, 120))
    fresh.shows("paused", "top-1")
    stormed.shows("paused")
    wait_for(lambda: stormed.words() == fresh.words(), "the same words on both screens", patience_s=30)
    assert stormed.process.isalive()
    assert run.worker_lives()


def test_a_hang_up_ends_the_dashboard_and_not_the_worker(terminals: Open, start: Start) -> None:
    run = training(start)
    terminal = terminals("attach", run.id)
    terminal.shows("training")
    terminal.hang_up()
    wait_for(lambda: not terminal.process.isalive(), "the end of the dashboard", patience_s=30)
    step = run.read_state().global_step
    wait_for(lambda: run.read_state().global_step > step, "training without a terminal")
    assert run.worker_lives()


def test_two_viewers_of_one_run_agree(terminals: Open, start: Start) -> None:
    run = training(start)
    one, other = (terminals("attach", run.id, size=TALL) for _ in range(2))
    for terminal in (one, other):
        terminal.shows("training", "top-1")
    one.press("c")
    other.shows("checkpoints/last.pt is written")
    one.press("p")
    other.shows("paused; everything stays in memory")
    other.press("p")
    one.shows("going on, at step")
    wait_for(lambda: run.read_state().phase == "training", "training again")
