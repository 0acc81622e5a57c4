"""The keys that ask something of a run: each is written down, shown as asked, and answered by the worker."""

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen

from engine.journal import jsonl
from engine.journal.commands import (
    Abort,
    AnyCommand,
    Continue,
    NextStage,
    Pause,
    SaveCheckpoint,
    ScaleLearningRate,
    Stop,
    Validate,
)
from engine.journal.state import RunState
from engine.runs.run_dir import RunDir, RunInfo, Status
from tui.data.range_test import NO_WEIGHTS, is_range_test
from tui.screens.background import run_in_background
from tui.text import run_text
from tui.theme import Tone
from tui.widgets.monitor_panes import CommandStrip

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel

    from tui.app import CifartuiApp


OF_WEIGHTS = {"checkpoint", "validate", "scale_lr(0.5)", "scale_lr(2.0)"}
"""What a range test has no use for: it keeps no weights, and moves its learning rate itself."""


class Steering(Screen[None]):
    """A screen on one run that passes wishes on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop('batch')", "stop", id="monitor.stop",
                tooltip="stop after this batch: validate, test the best weights"),
        Binding("e", "stop('epoch')", "after epoch", id="monitor.stop_after_epoch", tooltip="stop after this epoch"),
        Binding("n", "next_stage", "next", id="monitor.next_stage", tooltip="end this stage, begin the next one"),
        Binding("p", "pause", "pause", id="monitor.pause", tooltip="pause, and continue"),
        Binding("c", "checkpoint", "save", id="monitor.checkpoint", tooltip="write a checkpoint now"),
        Binding("v", "validate", "validate", id="monitor.validate", tooltip="measure the validation set now"),
        Binding("left_square_bracket", "scale_lr(0.5)", "lr ×½", key_display="[", id="monitor.halve_lr",
                tooltip="halve the learning rate"),
        Binding("right_square_bracket", "scale_lr(2.0)", "lr ×2", key_display="]", id="monitor.double_lr",
                tooltip="double the learning rate"),
        Binding("X", "abort", "abort", id="monitor.abort", tooltip="abort: end at once (asks first)"),
        Binding("r", "resume", "resume", id="monitor.resume", tooltip="resume a run that has no worker"),
        Binding("R", "resume_changed", "resume with…", id="monitor.resume_changed",
                tooltip="resume with changes: more epochs, another lr"),
    ]  # fmt: skip
    app: "CifartuiApp"
    run_folder: RunDir
    info: RunInfo | None
    state: RunState
    status: Status
    is_live: bool
    _wants_pause: bool | None = None

    def action_stop(self, after: str) -> None:
        """Ask the run to stop."""
        if after == "epoch":
            self._ask(Stop(after="epoch"), "stop after this epoch")
        else:
            self._ask(Stop(after="batch"), "stop after this batch")

    def action_pause(self) -> None:
        """Ask the run to pause, or to go on."""
        pausing = self.state.phase != "paused" if self._wants_pause is None else not self._wants_pause
        if self._ask(Pause(), "pause") if pausing else self._ask(Continue(), "continue"):
            self._wants_pause = pausing

    def action_next_stage(self) -> None:
        """Ask the run to end this stage."""
        if self.info is not None and not self.has_stages:
            self.query_one(CommandStrip).say("next: this run has one stage; s stops it", "warn", self.now())
            return
        self._ask(NextStage(), "next stage")

    def action_checkpoint(self) -> None:
        """Ask for a checkpoint."""
        self._ask(SaveCheckpoint(), "checkpoint")

    def action_validate(self) -> None:
        """Ask for the validation accuracy now."""
        self._ask(Validate(), "validate")

    def action_scale_lr(self, factor: float) -> None:
        """Ask for another learning rate."""
        self._ask(ScaleLearningRate(factor=factor), f"lr ×{factor:g}")

    def action_abort(self) -> None:
        """Ask whether to abort, then ask the run."""
        from tui.screens.dialogs import ConfirmAbort

        def answered(sure: bool | None) -> None:
            if sure:
                self._ask(Abort(), "abort")

        if self._can_obey("abort"):
            self.app.push_screen(ConfirmAbort(), answered)

    def action_resume(self) -> None:
        """Start a worker that goes on from the last checkpoint; ask first where that alone would lead nowhere."""
        if self.status == "completed" or run_text.remedy(self.state):
            self.action_resume_changed()
        elif not self._cannot_resume():
            self._start_again([])

    def action_resume_changed(self) -> None:
        """Ask what is to change, then go on from the last checkpoint."""
        from tui.screens.dialogs import ResumePanel

        def answered(changes: list[str] | None) -> None:
            if changes is not None:
                self._start_again(changes)

        if self.info is None or self._cannot_resume():
            return
        self.app.push_screen(ResumePanel(self.info, self.state), answered)

    @property
    def has_stages(self) -> bool:
        """Whether there is a next stage to go on to at all."""
        return self.info is not None and len(self.info.preset.stages) > 1

    @property
    def is_range_test(self) -> bool:
        """Whether the run is a range test."""
        return self.info is not None and is_range_test(self.info.preset)

    def _cannot_resume(self) -> bool:
        """Say why the run cannot be given a worker, if it cannot."""
        if self.is_range_test:
            self.query_one(CommandStrip).say(f"resume: {NO_WEIGHTS}; run it anew instead", "warn", self.now())
            return True
        if self.is_live:
            self.query_one(CommandStrip).say("resume: this run has its worker already", "warn", self.now())
        return self.is_live

    def _start_again(self, changes: list[str]) -> None:
        self.query_one(CommandStrip).say("resume: starting a worker…", "warn", self.now())
        self._resume(changes)

    def now(self) -> float:
        """Return Unix seconds."""
        return self.app.environment.now()

    def _can_obey(self, label: str) -> bool:
        if self.is_live:
            return True
        if self.info is None:
            why = "the run is still being read; try again in a moment."
        elif self.is_range_test:
            why = f"this range test is over ({run_text.status(self.status, self.state)}); Esc goes Home."
        elif self.status == "completed":
            more = self.app.key_of("monitor.resume_changed", "R")
            why = f"this run is completed; {more} trains it for more epochs, Esc goes Home."
        else:
            again = self.app.key_of("monitor.resume", "r")
            why = f"this run has no worker ({run_text.status(self.status, self.state)}); {again} resumes it."
        self.query_one(CommandStrip).say(f"{label}: {why}", "warn", self.now())
        return False

    def _ask(self, command: AnyCommand, label: str) -> bool:
        if not self._can_obey(label):
            return False
        self.query_one(CommandStrip).ask(command.id, label, self.now())
        self._write(command)
        return True

    def _write(self, command: AnyCommand) -> None:
        run = self.run_folder

        def failed(why: str) -> None:
            if self in self.app.screen_stack:
                self.query_one(CommandStrip).fail(command.id, why, self.now())
            else:
                self.app.notify(why, title=run.id, severity="error")

        run_in_background(self.app, lambda: jsonl.append_command(run.commands, command), lambda _: None, failed)

    def _resume(self, changes: list[str]) -> None:
        from engine.runs.resume import resume_run

        def say(text: str, tone: Tone) -> None:
            if self in self.app.screen_stack:
                self.query_one(CommandStrip).say(text, tone, self.now())
            else:
                severity: SeverityLevel = "error" if tone == "bad" else "information"
                self.app.notify(text, title=run.id, severity=severity)

        run, notify = self.run_folder, self.app.display_settings.notify
        told = "resume: a worker was started; PyTorch takes a few seconds to load"
        run_in_background(
            self.app,
            lambda: resume_run(run, changes, notify),
            lambda _: say(told, "good"),
            lambda why: say(f"resume: {why}", "bad"),
        )
