import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from engine.journal import commands, events
from engine.journal.jsonl import EventWriter, append_command, read_events
from engine.runs.run_dir import RunDir
from engine.training.controls import Aborted, Controls, SecondSignal
from tests import every


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


@pytest.fixture
def controls(run: RunDir) -> Iterator[Controls]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield Controls(run, EventWriter(run.events))
    for number, handler in before.items():
        signal.signal(number, handler)


def answers(run: RunDir) -> list[events.CommandApplied]:
    return [event for event in read_events(run.events) if isinstance(event, events.CommandApplied)]


def ask(run: RunDir, command: commands.AnyCommand) -> str:
    append_command(run.commands, command)
    return command.id


@pytest.mark.parametrize("command", every.COMMANDS, ids=str)
def test_every_command_is_answered_and_those_without_a_use_in_a_range_test_refused(
    run: RunDir, controls: Controls, command: commands.AnyCommand
) -> None:
    controls.stages_left = 0  # as in a range test, which has no weights to offer either
    try:
        controls._obey(command)
    except Aborted:
        assert isinstance(command, commands.Abort)
    (answer,) = answers(run)
    assert answer.effect != "not offered by this worker"
    needs_another_state = isinstance(command, commands.NextStage | commands.Continue)
    assert answer.accepted == (command.in_range_test and not needs_another_state)


def test_a_stop_is_acknowledged_at_its_step(run: RunDir, controls: Controls) -> None:
    controls.epoch, controls.global_step = 3, 421
    command_id = ask(run, commands.Stop(after="epoch"))
    controls.poll()
    assert controls.stop_after == "epoch"
    (answer,) = answers(run)
    assert (answer.command_id, answer.command, answer.accepted) == (command_id, "Stop", True)
    assert (answer.epoch, answer.global_step) == (3, 421)


def test_a_stop_before_training_promises_no_test(run: RunDir, controls: Controls) -> None:
    ask(run, commands.Stop())
    controls.poll()
    controls.stages_left = 0
    ask(run, commands.Stop())
    controls._next_read = 0.0
    controls.poll()
    assert [answer.effect for answer in answers(run)] == [
        "stopping before training begins",
        "stopping after this batch, then testing the best weights",
    ]


def test_a_stop_after_this_epoch_can_be_taken_back(run: RunDir, controls: Controls) -> None:
    ask(run, commands.Stop(after="epoch"))
    ask(run, commands.Continue())
    controls.poll()
    assert controls.stop_after is None


def test_a_pause_stands_still_until_continue(run: RunDir, controls: Controls) -> None:
    ask(run, commands.Pause())
    polling = threading.Thread(target=controls.poll)
    polling.start()
    while not any(isinstance(event, events.Paused) for event in read_events(run.events)):
        assert polling.is_alive()
    ask(run, commands.Continue())
    polling.join(timeout=5)
    assert not polling.is_alive()
    assert [type(event).__name__ for event in read_events(run.events)] == [
        "CommandApplied", "Paused", "CommandApplied", "Continued",
    ]  # fmt: skip


@pytest.mark.parametrize("after", ["batch", "epoch"])
def test_a_stop_ends_a_pause(run: RunDir, controls: Controls, after: str) -> None:
    ask(run, commands.Pause())
    ask(run, commands.Stop(after="epoch" if after == "epoch" else "batch"))
    assert controls.poll() < 5
    assert controls.stop_after == after


def test_a_pause_after_a_wish_to_stop_after_the_epoch_still_pauses(run: RunDir, controls: Controls) -> None:
    ask(run, commands.Stop(after="epoch"))
    ask(run, commands.Pause())
    polling = threading.Thread(target=controls.poll)
    polling.start()
    while not any(isinstance(event, events.Paused) for event in read_events(run.events)):
        assert polling.is_alive()
    assert polling.is_alive()
    ask(run, commands.Continue())
    polling.join(timeout=5)
    assert controls.stop_after == "epoch"


def test_abort_is_acknowledged_and_raised(run: RunDir, controls: Controls) -> None:
    ask(run, commands.Abort())
    with pytest.raises(Aborted):
        controls.poll()
    assert answers(run)[0].command == "Abort"


def test_what_cannot_be_done_is_refused_in_words(run: RunDir, controls: Controls) -> None:
    ask(run, commands.Continue())
    ask(run, commands.SaveCheckpoint())
    controls.poll()
    assert [answer.accepted for answer in answers(run)] == [False, False]
    assert all(answer.effect for answer in answers(run))


def test_save_checkpoint_says_what_it_did(run: RunDir, controls: Controls) -> None:
    controls.save_checkpoint = lambda: "written"
    ask(run, commands.SaveCheckpoint())
    controls.poll()
    assert answers(run)[0].effect == "written"


def test_commands_from_before_a_resume_are_not_obeyed(run: RunDir) -> None:
    ask(run, commands.Stop())
    controls = Controls(run, EventWriter(run.events), commands_from=run.commands.stat().st_size)
    controls.poll()
    assert controls.stop_after is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_and_sigint_mean_stop_after_this_batch(controls: Controls, number: signal.Signals) -> None:
    controls.listen_to_signals()
    os.kill(os.getpid(), number)
    controls.poll()
    assert controls.stop_after == "batch"
    assert number.name in controls.stop_reason


def test_sighup_means_nothing(controls: Controls) -> None:
    controls.listen_to_signals()
    os.kill(os.getpid(), signal.SIGHUP)
    controls.poll()
    assert controls.stop_after is None


def test_polling_does_not_read_the_file_at_every_step(run: RunDir, controls: Controls) -> None:
    controls.poll()
    ask(run, commands.Stop())
    controls.poll()
    assert controls.stop_after is None  # looked at again only after 50 ms


@pytest.mark.parametrize("factor", [0.0, -1.0, 100.5])
def test_a_factor_beyond_reason_is_refused(run: RunDir, controls: Controls, factor: float) -> None:
    controls.scale_lr = lambda _factor: pytest.fail("it was obeyed")
    ask(run, commands.ScaleLearningRate(factor=factor))
    controls.poll()
    (answer,) = answers(run)
    assert not answer.accepted
    assert "above 0 and at most 100" in answer.effect


def test_before_training_there_is_nothing_to_validate_or_to_scale(run: RunDir, controls: Controls) -> None:
    for wish in (commands.Validate(), commands.ScaleLearningRate(factor=2.0), commands.SaveCheckpoint()):
        ask(run, wish)
    controls.poll()
    assert [answer.accepted for answer in answers(run)] == [False] * 3
    assert all("training has not begun yet" in answer.effect for answer in answers(run))


def test_a_validation_counts_as_standing_still(run: RunDir, controls: Controls) -> None:
    controls.validate = lambda: None
    ask(run, commands.Validate())
    assert controls.poll() > 0
    assert controls.poll() == 0


def test_a_signal_while_the_run_ends_ends_it_at_once(run: RunDir, controls: Controls) -> None:
    controls.listen_to_signals()
    os.kill(os.getpid(), signal.SIGTERM)
    controls.poll()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SecondSignal, match="SIGTERM was received while"):
        controls.poll()
    controls.poll()  # said once


def test_two_signals_within_a_batch_are_one_so_that_there_is_time_to_save(controls: Controls) -> None:
    controls.listen_to_signals()
    for _ in range(3):
        os.kill(os.getpid(), signal.SIGTERM)
    controls.poll()
    assert controls.stop_after == "batch"


MANY = 100_000


def ask_many(run: RunDir, *behind: commands.AnyCommand) -> None:
    """Put very many commands into the queue, and others behind them."""
    asked = [*(commands.SaveCheckpoint() for _ in range(MANY)), *behind]
    run.commands.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in asked))


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    flushed: list[int] = []
    monkeypatch.setattr("engine.journal.jsonl.os.fsync", flushed.append)
    return flushed


@pytest.mark.parametrize("after", ["batch", "epoch"])
def test_a_stop_goes_before_very_many_commands_which_are_refused(
    run: RunDir, controls: Controls, flushes: list[int], after: str
) -> None:
    stop = commands.Stop(after="epoch" if after == "epoch" else "batch")
    ask_many(run, stop)
    controls.poll()
    assert controls.stop_after == after
    assert len(flushes) < 20  # one a command took twenty seconds
    found = answers(run)
    assert len(found) == MANY + 1
    assert [answer.accepted for answer in found[-1:]] == [True]
    assert not any(answer.accepted for answer in found[:-1])
    assert [event.seq for event in found] == list(range(1, MANY + 2))


def test_an_abort_goes_before_very_many_commands(run: RunDir, controls: Controls, flushes: list[int]) -> None:
    ask_many(run, commands.Stop(), commands.Abort())
    with pytest.raises(Aborted):
        controls.poll()
    assert [answer.command for answer in answers(run)] == ["Abort"]
    assert len(flushes) == 1


def test_a_signal_goes_before_very_many_commands(run: RunDir, controls: Controls, flushes: list[int]) -> None:
    ask_many(run, commands.Pause())
    controls.listen_to_signals()
    os.kill(os.getpid(), signal.SIGTERM)
    assert controls.poll() < 5
    assert controls.stop_after == "batch"
    assert len(answers(run)) == MANY + 1
    assert len(flushes) < 20


def test_a_signal_is_seen_between_two_of_many_commands(run: RunDir, controls: Controls, flushes: list[int]) -> None:
    ask_many(run)
    controls.listen_to_signals()
    saved = []

    def save() -> str:
        saved.append(None)
        if len(saved) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return "written"

    controls.save_checkpoint = save
    controls.poll()
    assert len(saved) == 3
    controls.poll()
    assert controls.stop_after == "batch"


def test_training_goes_on_between_very_many_commands_and_all_are_obeyed(run: RunDir, controls: Controls) -> None:
    for _ in range(250):
        ask(run, commands.SaveCheckpoint())
    controls.save_checkpoint = lambda: "written"
    controls.poll()
    assert len(answers(run)) == 100
    while len(answers(run)) < 250:
        controls.poll_at_once()
        controls.poll()
    assert all(answer.accepted for answer in answers(run))


@pytest.mark.parametrize("last", [commands.Pause(), commands.Continue()])
def test_the_last_pause_or_continue_and_a_save_go_before_very_many_commands(
    run: RunDir, controls: Controls, flushes: list[int], last: commands.AnyCommand
) -> None:
    """Those behind it are obeyed while the run is paused."""
    save = commands.SaveCheckpoint()
    many = [commands.ScaleLearningRate(factor=1.0) for _ in range(300)]
    early: list[commands.AnyCommand] = [commands.Continue(), *(commands.Pause() for _ in range(1000))]
    asked = [*early, *many, last, save]
    run.commands.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in asked))
    controls.save_checkpoint = lambda: ask(run, commands.Continue())  # while it is paused
    controls.scale_lr = lambda _factor: "as it was"
    controls.poll()
    found = answers(run)
    assert {answer.effect for answer in found[:1001]} == {"not done: a later pause or continue goes first"}
    first, second, *others = found[1001:]
    assert [first.command_id, second.command_id] == [last.id, save.id]
    assert (first.accepted, second.accepted) == (isinstance(last, commands.Pause), True)
    assert others[0].command_id == many[0].id
    assert not controls._paused


def test_a_pause_behind_a_hundred_thousand_commands_stands_at_once(run: RunDir, controls: Controls) -> None:
    asked = [*(commands.ScaleLearningRate(factor=1.0) for _ in range(MANY)), commands.Pause()]
    run.commands.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in asked))
    controls._look()
    assert controls._paused
    assert answers(run)[0].command_id == asked[-1].id


def test_few_commands_before_a_stop_are_obeyed_in_their_order(run: RunDir, controls: Controls) -> None:
    ask(run, commands.SaveCheckpoint())
    ask(run, commands.Stop())
    controls.save_checkpoint = lambda: "written"
    controls.poll()
    assert [(answer.command, answer.accepted) for answer in answers(run)] == [("SaveCheckpoint", True), ("Stop", True)]
