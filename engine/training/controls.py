"""Commands from people and signals, as flags that the training loop reads. No tensors.

`poll` is called between batches, in evaluation, while data is prepared and while paused, so a run
takes commands in every state. It costs a clock reading; the file is read twenty times a second.
"""

import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

from engine import files
from engine.journal import commands
from engine.journal.events import Alerted, CommandApplied, Continued, Paused
from engine.journal.jsonl import EventWriter, command_reader
from engine.runs.run_dir import RunDir
from presets.errors import CifartuiError

_POLL_INTERVAL_S = 0.05
_MOST_AT_ONCE = 100
"""Commands obeyed in one poll, each with a flush of the disk; training goes on before the next. Where more wait, an
end goes first, and else the last pause or continue, and the last save."""
_MOST_IN_A_WRITE = 10_000
"""Answers, of some 200 bytes, that are written and flushed together."""


class Aborted(Exception):
    """The user wants the run to end now."""


class Stopped(Exception):
    """The user wants the run to end early, with its best weights tested; nothing is left to finish before that."""


class SecondSignal(Exception):
    """A second signal: the run is to end now, without validation and test; its checkpoint is written."""


class Controls:
    """Wishes received so far; `stop_after` and `next_stage` are what the loop has to look at."""

    def __init__(self, folder: RunDir, journal: EventWriter, *, commands_from: int = 0) -> None:
        self.stop_after: Literal["batch", "epoch"] | None = None
        self.stop_reason = ""
        self.next_stage = False
        """True if the current stage is to end; the loop sets it back once it has ended."""
        self.stages_left: int | None = None
        """Stages after the one under way; None before training."""
        self.epoch = 0
        self.global_step = 0
        self.save_checkpoint: Callable[[], str] | None = None
        """Writes last.pt now and returns a sentence; None while there is nothing to save."""
        self.scale_lr: Callable[[float], str] | None = None
        """Multiplies the learning rate and returns a sentence; None while nothing is trained."""
        self.validate: Callable[[], None] | None = None
        """Evaluates the validation set; None unless the loop is between two batches."""
        self.busy_with = "training has not begun yet"
        """Reason, in words, if one of these is None."""
        self.then = ", then testing the best weights"
        """Consequence of a stop, in words."""
        self.was_round = True
        """True if the ranks of a run agreed on commands at the last poll; always, with one process."""
        self._folder = folder
        self._journal = journal
        self._commands = command_reader(folder.commands, ours_only=True)
        self._has_told_of_owner = False
        self._commands.skip_to(commands_from)
        self._waiting: deque[commands.AnyCommand] = deque()
        self._next_read = 0.0
        self._signal: str | None = None
        self._paused = False
        self._validating = False
        self._stood_still = False
        self._wake = threading.Event()

    def listen_to_signals(self) -> None:
        """Let SIGTERM and SIGINT mean Stop after this batch, one more of them the end at once, and SIGHUP nothing."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))  # held back so far

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signal = signal.Signals(number).name
        self._wake.set()

    def share(self) -> None:
        """Note that from here on all ranks of the run poll at the same places; in one process, do nothing."""

    def poll_at_once(self) -> None:
        """Let the next poll read the file, whatever the last ones found: what comes now may take longer a poll."""
        self._next_read = 0.0

    def poll_alone(self) -> None:
        """Poll where the ranks of a run are not in step.

        Raises:
            Aborted: the user asked for it.
            SecondSignal: a signal came while the run was ending.
        """
        self.poll()

    def poll(self) -> float:
        """Take in what was asked; return for how many seconds nothing was trained: pauses, validations asked for.

        Raises:
            Aborted: the user asked for it.
            SecondSignal: a signal came while the run was ending.
        """
        now = time.monotonic()
        if now < self._next_read and self._signal is None:
            return 0.0
        self._next_read = now + _POLL_INTERVAL_S
        self._stood_still = False
        self._look()
        while self._paused and not self._validating:  # a validation asked for while paused is not paused itself
            self._wake.wait(_POLL_INTERVAL_S)
            self._wake.clear()
            self._look()
            self._stood_still = True
        return time.monotonic() - now if self._stood_still else 0.0

    def _look(self) -> None:
        if self._signal is not None:
            name, self._signal = self._signal, None
            if self.stop_after == "batch":
                raise SecondSignal(f"{name} was received while the run was ending")
            self._stop("batch", f"{name} was received")
            self._waiting.extend(self._arrived())
            self._overtake(len(self._waiting))
        else:
            arrived = self._arrived()
            self._waiting.extend(arrived)
            if arrived and len(self._waiting) > _MOST_AT_ONCE:
                ends = [number for number, each in enumerate(self._waiting) if isinstance(each, commands.Stop)]
                self._overtake(ends[0] if ends else 0)
                if not ends:
                    self._put_first()
        for _ in range(_MOST_AT_ONCE):
            if not self._waiting or self._signal is not None:
                break  # a validation looks again meanwhile, and takes what comes behind it
            self._obey(self._waiting.popleft())

    def _overtake(self, num_before: int) -> None:
        """Refuse the first commands that wait, so that an end behind them goes first; unless they are few.

        Raises:
            Aborted: an Abort is among those that wait; it goes before all.
        """
        if len(self._waiting) <= _MOST_AT_ONCE:
            return
        for command in self._waiting:
            if isinstance(command, commands.Abort):
                self._obey(command)
        refused = [self._waiting.popleft() for _ in range(num_before)]
        self._refuse(refused, "not done: the end of the run was asked for and goes first")

    def _put_first(self) -> None:
        """Let the last pause or continue, and the last save, go before all others that wait.

        Pauses and continues before it are refused: they would undo it.
        """
        steering = [each for each in self._waiting if isinstance(each, commands.Pause | commands.Continue)]
        saves = [each for each in self._waiting if isinstance(each, commands.SaveCheckpoint)]
        moved = {each.id for each in (*steering, *saves[-1:])}
        others = [each for each in self._waiting if each.id not in moved]
        self._waiting = deque([*steering[-1:], *saves[-1:], *others])
        self._refuse(steering[:-1], "not done: a later pause or continue goes first")

    def _refuse(self, refused: Sequence[commands.AnyCommand], why: str) -> None:
        for start in range(0, len(refused), _MOST_IN_A_WRITE):
            self._journal.write_all(
                self._answer(command, why, accepted=False) for command in refused[start : start + _MOST_IN_A_WRITE]
            )

    def _arrived(self) -> list[commands.AnyCommand]:
        """Return what is newly asked for.

        Raises:
            CifartuiError: the run directory is gone, so that nobody could ever see what is trained.
        """
        try:
            self._folder.path.stat()
            return self._commands.read()
        except FileNotFoundError:
            raise CifartuiError(self._folder.why_gone()) from None
        except files.NotOursError as error:
            self._tell_of_owner(error)
            return []
        except OSError:  # a shared disk that is away for a while
            return []

    def _tell_of_owner(self, error: files.NotOursError) -> None:
        """Journal once that commands.jsonl is another user's."""
        if self._has_told_of_owner:
            return
        self._has_told_of_owner = True
        self._journal.write(
            Alerted(
                severity="warning",
                kind="foreign-commands",
                text=f"{self._folder.commands} is not obeyed: {error.strerror}.",
                advice="Delete it if you may; until then stop the run with SIGTERM.",
            )
        )

    def _obey(self, command: commands.AnyCommand) -> None:
        if isinstance(command, commands.Abort):
            self._acknowledge(command, "aborting; the checkpoints written so far stay")
            raise Aborted
        if isinstance(command, commands.Stop):
            self._stop(command.after, f"by command, after this {command.after}")
            is_training = self.stages_left is not None
            how = (
                f"stopping after this {command.after}{self.then}" if is_training else "stopping before training begins"
            )
            self._acknowledge(command, how)
        elif isinstance(command, commands.NextStage):
            self._next_stage(command)
        elif isinstance(command, commands.Pause):
            self._pause(command)
        elif isinstance(command, commands.Continue):
            self._continue(command)
        elif isinstance(command, commands.SaveCheckpoint):
            self._save(command)
        elif isinstance(command, commands.Validate):
            self._validate(command)
        elif isinstance(command, commands.ScaleLearningRate):
            self._scale_lr(command)
        else:
            self._acknowledge(command, "not offered by this worker", accepted=False)

    def _stop(self, after: Literal["batch", "epoch"], reason: str) -> None:
        self.stop_after, self.stop_reason, self._paused = after, reason, False

    def _next_stage(self, command: commands.NextStage) -> None:
        if self.stages_left:
            self.next_stage, self._paused = True, False
            self._acknowledge(command, "ending this stage after this batch, then on to the next one")
            return
        reason = "training has not begun yet" if self.stages_left is None else "this is the last stage"
        self._acknowledge(command, f"no next stage: {reason}", accepted=False)

    def _pause(self, command: commands.Pause) -> None:
        if self._paused:
            self._acknowledge(command, "already paused", accepted=False)
            return
        self._paused = True
        self._acknowledge(command, "paused; everything stays in memory")
        self._journal.write(Paused(global_step=self.global_step))

    def _continue(self, command: commands.Continue) -> None:
        if self._paused:
            self._paused = False
            self._acknowledge(command, "going on")
            self._journal.write(Continued(global_step=self.global_step))
        elif self.stop_after == "epoch":
            self.stop_after = None
            self._acknowledge(command, "the stop after this epoch is taken back")
        else:
            self._acknowledge(command, "nothing to continue: the run is not paused", accepted=False)

    def _save(self, command: commands.SaveCheckpoint) -> None:
        if self.save_checkpoint is None:
            self._acknowledge(command, f"nothing to save: {self.busy_with}", accepted=False)
        else:
            self._acknowledge(command, self.save_checkpoint())
            self._say_paused_again()

    def _validate(self, command: commands.Validate) -> None:
        if self.validate is None or self._validating:
            reason = "a validation is under way" if self._validating else self.busy_with
            self._acknowledge(command, f"no validation now: {reason}", accepted=False)
            return
        self._acknowledge(command, "measuring the validation set now; training waits for it")
        self._validating = True
        try:
            self.validate()
        finally:
            self._validating = False
        self._stood_still = True
        self._say_paused_again()

    def _scale_lr(self, command: commands.ScaleLearningRate) -> None:
        factor = command.factor
        if not (math.isfinite(factor) and 0 < factor <= commands.LARGEST_FACTOR):
            allowed = f"above 0 and at most {commands.LARGEST_FACTOR:g}"
            self._acknowledge(
                command, f"the learning rate stays: a factor is {allowed}, not {factor:g}", accepted=False
            )
        elif self.scale_lr is None:
            self._acknowledge(command, f"no learning rate to change: {self.busy_with}", accepted=False)
        else:
            self._acknowledge(command, self.scale_lr(factor))
            self._say_paused_again()

    def _say_paused_again(self) -> None:
        """Let viewers know that a pause goes on, who have since seen a validation or a report of the last steps."""
        if self._paused:
            self._journal.write(Paused(global_step=self.global_step))

    def _acknowledge(self, command: commands.AnyCommand, effect: str, *, accepted: bool = True) -> None:
        self._journal.write(self._answer(command, effect, accepted=accepted))

    def _answer(self, command: commands.AnyCommand, effect: str, *, accepted: bool) -> CommandApplied:
        return CommandApplied(
            command_id=command.id,
            command=type(command).__name__,
            accepted=accepted,
            effect=effect,
            epoch=self.epoch,
            global_step=self.global_step,
        )
