"""Dialogs of several screens: confirm an abort, resume with changes, help, the command palette's entries."""

import shlex
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.command import DiscoveryHit, Hits
from textual.containers import Vertical, VerticalScroll
from textual.keys import key_to_character
from textual.screen import ModalScreen
from textual.system_commands import SystemCommandsProvider
from textual.widgets import Input, Static

from engine.journal.state import RunState
from engine.runs.resume import amended, split_options
from engine.runs.run_dir import RunInfo
from presets.errors import CifartuiError
from presets.plan import total_epochs
from tui.text import run_text
from tui.text.layout import table
from tui.text.run_name import name_of
from tui.theme import MUTED, TEXT, TONES, TRAIN
from tui.widgets.basic import ChangedStatic, TextField


class Palette(SystemCommandsProvider):
    """Entries of the command palette in the app's order; Textual's own provider sorts them by their titles."""

    async def discover(self) -> Hits:
        """Yield all of them, before anything is typed."""
        for title, about, act, _ in self.app.get_system_commands(self.screen):
            yield DiscoveryHit(title, act, help=about)


class ConfirmAbort(ModalScreen[bool]):
    """Confirmation of an abort: y or n."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Abort"),
        Binding("n,escape", "answer(False)", "Go on"),
    ]

    def compose(self) -> ComposeResult:
        """Lay the panel out."""
        with Vertical(classes="panel -alarming"):
            yield Static(Text("Abort this run now?", f"bold {TONES['bad']}"))
            yield Static(
                Text(
                    "It ends at once: no validation, no test. Checkpoints written so far stay, and the run can be "
                    "resumed from the last one. To keep this epoch's work, choose n and press s instead.",
                    TEXT,
                )
            )
            yield Static(Text.assemble(("y", TRAIN), (" abort   ", MUTED), ("n", TRAIN), (" let it train", MUTED)))

    def action_answer(self, answer: bool) -> None:
        """Close with the answer."""
        self.dismiss(answer)


class Help(ModalScreen[None]):
    """List of the keys of every screen, as they are bound now; the screen below is first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "leave", "back", id="help.leave", tooltip="close this page"),
    ]

    def compose(self) -> ComposeResult:
        """Lay the page out."""
        with VerticalScroll(classes="panel -help", id="help"):
            hint = (("↑ ↓ pgdn", TRAIN), (" scroll   ", MUTED), ("Esc", TRAIN), (" back", MUTED))
            yield Static(Text.assemble(("Keys   ", f"bold {TEXT}"), *hint))
            for title, rows in self._sections():
                yield Static(Text(title, f"bold {TEXT}"), classes="title")
                yield Static(table([(keys, Text(what, TEXT)) for keys, what in rows]))

    def _sections(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return titles, each with keys and what they do."""
        below = type(self.app.screen_stack[-2]).__name__ if len(self.app.screen_stack) > 1 else ""
        keymap = self.app._keymap  # Textual has no other way to ask what keys were rebound
        everywhere = _rows([type(self.app)], keymap)
        everywhere.append((self.app.COMMAND_PALETTE_BINDING, "palette: every action by name"))
        sections = [("Everywhere", "", everywhere)]
        for title, screen, owners in _SCREENS:
            classes = [getattr(import_module(module), name) for module, name in owners]
            sections.append((title, screen, _rows(classes, keymap)))
        sections.sort(key=lambda section: bool(below) and section[1] != below)
        return [(title, rows) for title, _, rows in sections]

    def action_leave(self) -> None:
        """Close the page."""
        self.dismiss(None)


_SCREENS: Sequence[tuple[str, str, Sequence[tuple[str, str]]]] = (
    ("Home", "Home", (("tui.widgets.lists", "PresetList"), ("tui.screens.home", "Home"))),
    ("Before a start", "StartPanel", (("tui.screens.start_dialog", "StartPanel"),)),
    (
        "Open a folder",
        "OpenFolder",
        (("tui.screens.open_folder", "OpenFolder"), ("tui.screens.open_folder", "Folders")),
    ),
    ("Folder of images", "FolderScreen", (("tui.screens.folder", "_Choices"), ("tui.screens.folder", "FolderScreen"))),
    ("Run", "Monitor", (("tui.screens.monitor", "Monitor"),)),
    ("All runs", "RunsScreen", (("tui.screens.runs", "RunsScreen"),)),
    ("Queue", "QueueScreen", (("tui.screens.queue", "QueueScreen"),)),
    ("Test images", "PredictionsScreen", (("tui.screens.predictions", "PredictionsScreen"),)),
    ("Confusion matrix", "MatrixScreen", (("tui.screens.scores", "MatrixScreen"),)),
    ("Most probable classes", "TopClasses", (("tui.screens.top_classes", "TopClasses"),)),
    ("Images of your own", "OwnImages", (("tui.screens.own_images", "OwnImages"),)),
    ("Lists", "AblationScreen", (("tui.widgets.lists", "Pickable"),)),
)
"""A title, the class of the screen, and the classes with its keys, imported with the help."""


def _rows(owners: Sequence[type[Any]], keymap: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return keys and meanings of every binding of `owners`; those that do the same share a row."""
    rows: dict[str, list[str]] = {}
    for owner in owners:
        for binding in owner.BINDINGS:
            if binding.system:  # of every program in a terminal
                continue
            meaning = binding.tooltip or binding.description
            rebound = keymap.get(binding.id or "")
            shown = binding.with_key(rebound, key_display=None) if rebound else binding
            keys = [shown.key_display] if shown.key_display else shown.key.split(",")
            rows.setdefault(meaning, []).extend(_key(key) for key in keys if key != "ctrl+c")
    return [("  ".join(dict.fromkeys(keys)), meaning) for meaning, keys in rows.items()]


def _key(key: str) -> str:
    """Return a key as people call it: "?" of question_mark."""
    known = {"escape": "esc", "pagedown": "pgdn", "pageup": "pgup", "up": "↑", "down": "↓", "left": "←", "right": "→"}
    modifiers, plus, last = key.rpartition("+")
    if last in known:
        return modifiers + plus + known[last]
    character = key_to_character(key)
    return character if character and character.isprintable() and not character.isspace() else key


_MORE_EPOCHS = "train.epochs=+5"


class ResumePanel(ModalScreen[list[str] | None]):
    """Dialog before a resume. Its result is the changes, often none; None if it was cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back", id="resume.leave", tooltip="leave the run as it is"),
    ]

    def __init__(self, info: RunInfo, state: RunState) -> None:
        """Suggest changes for a run: more epochs if it is completed, a remedy if it failed."""
        super().__init__()
        self._info, self._state = info, state
        self.problem = ""

    def compose(self) -> ComposeResult:
        """Lay the panel out."""
        is_completed = self._state.phase == "completed"
        with Vertical(classes="panel"):
            yield Static(Text.assemble(("Resume ", MUTED), (name_of(self._info), f"bold {TEXT}")))
            yield TextField(
                _MORE_EPOCHS if is_completed else " ".join(run_text.remedy(self._state)),
                placeholder=f"changes, such as  {_MORE_EPOCHS} optimizer.lr=0.01",
                id="changes",
            )
            yield ChangedStatic(id="verdict")
            keys = (("Enter", TRAIN), (" resumes   ", MUTED), ("Esc", TRAIN), (" back", MUTED))
            yield Static(Text.assemble(*keys))

    def on_mount(self) -> None:
        """Check the suggestion."""
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
        self.problem, text = "", "No changes: goes on from the last checkpoint as it was."
        try:
            asked = split_options(shlex.split(typed))
            preset, _ = amended(self._info.id, self._info.preset, self._state, asked.changes)
            if asked.accept_changed_data and not asked.changes:
                text = "Goes on with the data as it is now; the best weights so far are validated again."
            elif asked.changes or asked.data is not None:
                text = f"Valid. Goes on from the last checkpoint, to {total_epochs(preset)} epochs in all."
            elif self._state.phase == "completed":
                self.problem = f"Every epoch is trained; to train on, type {_MORE_EPOCHS}."
        except (CifartuiError, ValueError) as error:
            self.problem = str(error) if isinstance(error, CifartuiError) else "A quotation mark is not closed."
        verdict = (self.problem, TONES["bad"]) if self.problem else (text, TONES["good"] if typed.strip() else MUTED)
        self.query_one("#verdict", ChangedStatic).set_text(Text(*verdict))
