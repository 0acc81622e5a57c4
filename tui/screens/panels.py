"""The small panels that open above a screen: start a preset, confirm an abort, help."""

import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from presets.errors import CifartuiError
from presets.schema import Preset
from tui.palette import MUTED, TEXT, TONES, TRAIN
from tui.widgets import describe
from tui.widgets.fields import table

if TYPE_CHECKING:
    from tui.app import CifartuiApp


class StartPanel(ModalScreen[list[str] | None]):
    """Asks for overrides and checks them as they are typed; gives them back, or None where it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back")]

    def __init__(self, name: str, load: Callable[[str, Sequence[str]], Preset]) -> None:
        """Ask about the preset called `name`; `load` raises CifartuiError where an override is not valid."""
        super().__init__()
        self.preset_name, self._load = name, load
        self.problem = ""

    def compose(self) -> ComposeResult:
        """Lay the panel out."""
        with Vertical(classes="panel"):
            yield Static(Text.assemble(("Start ", MUTED), (self.preset_name, f"bold {TEXT}")))
            yield Static(id="plan")
            yield Input(placeholder="changes, such as  train.epochs=3 optimizer.lr=0.01", id="overrides")
            yield Static(id="verdict")
            yield Static(Text.assemble(("Enter", TRAIN), (" starts   ", MUTED), ("Esc", TRAIN), (" back", MUTED)))

    def on_mount(self) -> None:
        """Check the preset as it stands."""
        self._check("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check what has been typed so far."""
        self._check(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give the overrides back if they are valid."""
        self._check(event.value)
        if not self.problem:
            self.dismiss(shlex.split(event.value))

    def action_leave(self) -> None:
        """Start nothing."""
        self.dismiss(None)

    def _check(self, typed: str) -> None:
        verdict = self.query_one("#verdict", Static)
        try:
            preset = self._load(self.preset_name, shlex.split(typed))
        except (CifartuiError, ValueError) as error:
            self.problem = str(error) if isinstance(error, CifartuiError) else "A quotation mark is not closed."
            verdict.update(Text(self.problem, TONES["bad"]))
            return
        self.problem = ""
        said = "Valid. Starts with these changes." if typed.strip() else "No changes: starts the preset as it is."
        verdict.update(Text(said, TONES["good"] if typed.strip() else MUTED))
        rows = [
            ("training", describe.training(preset)),
            ("optimizer", describe.optimizer(preset.optimizer)),
            ("schedule", describe.schedule(preset.schedule)),
        ]
        self.query_one("#plan", Static).update(table(rows))


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

    app: "CifartuiApp"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "leave", "Back")]

    _KEYS: ClassVar[Sequence[tuple[str, ...]]] = (  # usual keys, what they do, the ids of their bindings
        ("Everywhere", ""),
        ("?", "this page", "app.help"),
        ("ctrl+p", "palette: every action by name"),
        ("esc", "back"),
        ("q", "leave; training goes on", "app.leave"),
        ("Home", ""),
        ("enter", "start the preset, or open the run"),
        ("/", "filter the presets"),
        ("tab", "presets or runs"),
        ("a", "attach to the newest run that is alive"),
        ("t", "the ablation's table"),
        ("Monitor", ""),
        ("s   e", "stop after this batch, after this epoch", "monitor.stop", "monitor.stop_after_epoch"),
        ("n", "end this stage, begin the next one", "monitor.next_stage"),
        ("p", "pause, and continue", "monitor.pause"),
        ("c", "write a checkpoint now", "monitor.checkpoint"),
        ("X", "abort: end at once (asks first)", "monitor.abort"),
        ("r", "resume a run that has no worker", "monitor.resume"),
        ("z", "zoom: loss, accuracy, memory, all", "monitor.zoom"),
        ("i", "test images, as the best weights see them", "monitor.images"),
    )

    def compose(self) -> ComposeResult:
        """Lay the page out."""
        rows = [(self._key(usual, *ids), Text(what, TEXT)) for usual, what, *ids in self._KEYS]
        with Vertical(classes="panel -help"):
            yield Static(Text("Keys", f"bold {TEXT}"))
            yield Static(table(rows))

    def _key(self, usual: str, *ids: str) -> str:
        """Return the keys of a row as they are, should the configuration have given them others."""
        keys = usual.split() if len(ids) > 1 else [usual]
        return "   ".join(self.app.key_of(*pair) for pair in zip(ids, keys, strict=True)) if ids else usual

    def action_leave(self) -> None:
        """Close the page."""
        self.dismiss(None)
