"""The small panels that open above a screen: start a preset, confirm an abort, help."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.palette import MUTED, TEXT, TONES, TRAIN
from tui.widgets.fields import table


class ConfirmAbort(ModalScreen[bool]):
    """Asks once more before a run is aborted: y or n."""

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
        """Give the answer back."""
        self.dismiss(answer)


class Help(ModalScreen[None]):
    """The keys, and what the signs mean."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "leave", "Back")]

    _KEYS: ClassVar[Sequence[tuple[str, str]]] = (
        ("Everywhere", ""),
        ("?", "this page"),
        ("ctrl+p", "palette: every action by name"),
        ("esc", "back"),
        ("q", "leave; training goes on"),
        ("Home", ""),
        ("enter", "start the preset, or open the run"),
        ("/", "filter the presets"),
        ("tab", "presets or runs"),
        ("a", "attach to the newest run that is alive"),
        ("t", "the ablation's table"),
        ("Monitor", ""),
        ("s   e", "stop after this batch, after this epoch"),
        ("n", "end this stage, begin the next one"),
        ("p", "pause, and continue"),
        ("c", "write a checkpoint now"),
        ("X", "abort: end at once (asks first)"),
        ("r", "resume a run that has no worker"),
        ("z", "zoom: loss, accuracy, memory, all"),
        ("i", "test images, as the best weights see them"),
    )

    def compose(self) -> ComposeResult:
        """Lay the page out."""
        rows = [(key, Text(what, TEXT)) for key, what in self._KEYS]
        with Vertical(classes="panel -help"):
            yield Static(Text("Keys", f"bold {TEXT}"))
            yield Static(table(rows))

    def action_leave(self) -> None:
        """Close the page."""
        self.dismiss(None)
