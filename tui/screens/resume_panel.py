"""Asks what is to change in a run that is resumed, and checks it as it is typed. Reads no files, starts nothing."""

import shlex
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from engine.journal.state import RunState
from engine.runs.resume import amended
from engine.runs.run_dir import RunInfo
from presets.errors import CifartuiError
from presets.plan import total_epochs
from tui import format as fmt
from tui.text import run_text
from tui.theme import MUTED, TEXT, TONES, TRAIN
from tui.widgets.quiet import Quiet
from tui.widgets.text_field import TextField

_MORE_EPOCHS = "train.epochs=+5"


class ResumePanel(ModalScreen[list[str] | None]):
    """Gives the changes back, often none; None where it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back", id="resume.leave", tooltip="leave the run as it is"),
    ]

    def __init__(self, info: RunInfo, state: RunState) -> None:
        """Ask about a run: a completed one is offered more epochs, a failed one what is advised against that."""
        super().__init__()
        self._info, self._state = info, state
        self.problem = ""

    def compose(self) -> ComposeResult:
        """Lay the panel out."""
        is_completed = self._state.phase == "completed"
        with Vertical(classes="panel"):
            yield Static(Text.assemble(("Resume ", MUTED), (fmt.short_id(self._info.id), f"bold {TEXT}")))
            yield TextField(
                _MORE_EPOCHS if is_completed else " ".join(run_text.remedy(self._state)),
                placeholder=f"changes, such as  {_MORE_EPOCHS} optimizer.lr=0.01",
                id="changes",
            )
            yield Quiet(id="verdict")
            keys = (("Enter", TRAIN), (" resumes   ", MUTED), ("Esc", TRAIN), (" back", MUTED))
            yield Static(Text.assemble(*keys))

    def on_mount(self) -> None:
        """Check what is offered."""
        self._check(self.query_one(Input).value)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check what has been typed so far."""
        self._check(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give the changes back if they can be made."""
        self._check(event.value)
        if not self.problem:
            self.dismiss(shlex.split(event.value))

    def action_leave(self) -> None:
        """Change nothing, start nothing."""
        self.dismiss(None)

    def _check(self, typed: str) -> None:
        self.problem, said = "", "No changes: goes on from the last checkpoint as it was."
        try:
            changes = shlex.split(typed)
            preset, _ = amended(self._info.id, self._info.preset, self._state, changes)
            if changes:
                said = f"Valid. Goes on from the last checkpoint, to {total_epochs(preset)} epochs in all."
            elif self._state.phase == "completed":
                self.problem = f"Every epoch is trained; to train on, type {_MORE_EPOCHS}."
        except (CifartuiError, ValueError) as error:
            self.problem = str(error) if isinstance(error, CifartuiError) else "A quotation mark is not closed."
        verdict = (self.problem, TONES["bad"]) if self.problem else (said, TONES["good"] if typed.strip() else MUTED)
        self.query_one("#verdict", Quiet).tell(Text(*verdict))
