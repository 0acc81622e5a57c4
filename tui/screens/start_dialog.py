"""The panel before a run: the usual fields, any other key, whether it fits; checked as it is typed. Starts nothing."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.reactive import Reactive
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, Label, Static

from engine.runs.run_options import RunOptions
from presets.errors import CifartuiError
from presets.schema import Preset
from tui import format as fmt
from tui.data import memory_fit
from tui.data.environment import GpuReadings
from tui.data.preset_info import Found, lookup
from tui.data.start_form import CHANGES, DEVICE, Checked, Field, check, fields_of
from tui.text import preset_text
from tui.text.layout import table
from tui.theme import MUTED, TEXT, TONES, TRAIN
from tui.widgets.basic import ChangedStatic, TextField

if TYPE_CHECKING:
    from tui.app import CifartuiApp


class FactsTold(Message):
    """What is known of presets as the panel makes them."""

    def __init__(self, presets: tuple[Preset, ...], found: Found) -> None:
        self.presets, self.found = presets, found
        super().__init__()


class StartPanel(ModalScreen[RunOptions | None]):
    """Asks how a preset, or several, are to be started; gives an order back, or None where it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back", id="start.leave", tooltip="start nothing"),
        Binding("enter", "start", "start", id="start.start", tooltip="start, or queue, if nothing is wrong"),
        # First of all, because of keys that come at once on a slow line: what follows a tab is for the next field.
        Binding("tab,down", "app.focus_next", "next field", priority=True, id="start.next", tooltip="the next field"),
        Binding(
            "shift+tab,up",
            "app.focus_previous",
            "field before",
            priority=True,
            id="start.previous",
            tooltip="the field before",
        ),
    ]
    app: "CifartuiApp"
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)
    """As in Textual, whose screens paint all of themselves (13 kB) when the focus moves: here two fields do."""

    def __init__(
        self, names: Sequence[str], readings: Callable[[], GpuReadings | None], *, to_queue: bool = False
    ) -> None:
        """Ask about the presets called `names`.

        Args:
            names: of presets that can be used.
            readings: returns the latest reading of the machine.
            to_queue: they go to the queue, where one is started at once otherwise.
        """
        super().__init__()
        self.names, self._readings, self._to_queue = tuple(names), readings, to_queue
        self._fields: tuple[Field, ...] = ()
        self._withdraw = threading.Event()
        self._asked: tuple[Preset, ...] = ()
        self._found: Found = ()
        self._planned: list[tuple[str, str]] = []
        self.checked = Checked()

    def compose(self) -> ComposeResult:
        """Lay the panel out."""
        verb = f"Queue {fmt.plural(len(self.names), 'preset')}: " if self._to_queue else "Start "
        with VerticalScroll(classes="panel", id="start", can_focus=False):
            yield Static(Text.assemble((verb, MUTED), (", ".join(self.names), f"bold {TEXT}")), id="what")
            if len(self.names) == 1:
                yield Static(id="plan")
            try:
                load = self.app.environment.loader()
                self._fields = fields_of([load(name, ()) for name in self.names])
            except CifartuiError as error:  # edited since it was listed
                yield Static(Text(str(error), TONES["bad"]), id="broken")
            for field in self._fields:
                with Horizontal(classes="field"):
                    yield Label(Text(field.label, MUTED), classes="label")
                    if field.id == CHANGES:
                        yield TextField(placeholder="any key, such as  optimizer.momentum=0.8", id=field.id)
                    else:
                        yield TextField(field.initial, id=field.id, classes="short")
                        yield Label(Text(field.hint, MUTED), classes="hint")
                yield ChangedStatic(id=f"{field.id}-error", classes="error")
            yield ChangedStatic(id="room")
            act = " queues them   " if self._to_queue else " starts   "
            keys = (("Enter", TRAIN), (act, MUTED), ("Tab", TRAIN), (" next field   ", MUTED))
            yield Static(Text.assemble(*keys, ("Esc", TRAIN), (" back", MUTED)))

    def on_mount(self) -> None:
        """Check the presets as they stand."""
        if self._fields:
            self._check()

    def on_unmount(self) -> None:
        """Ask for nothing any more."""
        self._withdraw.set()

    def on_input_changed(self) -> None:
        """Check what has been typed so far."""
        self._check()

    def on_input_submitted(self) -> None:
        """Start."""
        self.action_start()

    def action_start(self) -> None:
        """Give the order back if it is valid; else go to the first field that is not."""
        if not self._fields:
            return
        self._check()
        if self.checked.options is not None:
            self.dismiss(self.checked.options)
            return
        wrong = next(field.id for field in self._fields if field.id in self.checked.errors)
        self.query_one(f"#{wrong}", Input).focus()

    def action_leave(self) -> None:
        """Start nothing."""
        self.dismiss(None)

    def _check(self) -> None:
        typed = {field.id: self.query_one(f"#{field.id}", Input).value for field in self._fields}
        self.checked = check(self.names, self.app.environment.loader(), self._fields, typed)
        for field in self._fields:
            said = self.checked.errors.get(field.id, "")
            row = self.query_one(f"#{field.id}-error", ChangedStatic)
            if row.display != bool(said):  # each change of the layout paints the whole screen
                row.display = bool(said)
            row.tell(Text(said, TONES["bad"]))
        if self.checked.options is None:
            self._withdraw.set()
            self._asked = ()
            self._say_memory(Text(""))
            return
        if len(self.names) == 1:
            self._show_plan(self.checked.presets[0])
        presets = memory_fit.on_each(self.checked.presets, self.checked.options.devices)
        if presets == self._asked:
            self._show_memory()
            return
        self._asked, self._found = presets, ()
        self._withdraw.set()
        self._withdraw = threading.Event()
        self._look_up(self._asked, self._withdraw)

    def _show_plan(self, preset: Preset) -> None:
        rows = [
            ("training", preset_text.training(preset)),
            ("optimizer", preset_text.optimizer(preset.optimizer)),
            ("schedule", preset_text.schedule(preset.schedule)),
        ]
        if rows != self._planned:
            self._planned = rows
            self.query_one("#plan", Static).update(table(rows))

    # --- memory ----------------------------------------------------------------------------------

    @work(thread=True, group="facts")
    def _look_up(self, presets: tuple[Preset, ...], stop: threading.Event) -> None:
        def tell(found: Found) -> None:
            self.post_message(FactsTold(presets, found))

        lookup(presets, self.app.data_dir, self.app.environment, stop, tell)

    def on_facts_told(self, event: FactsTold) -> None:
        """Say whether it fits, if these are still the presets asked about."""
        if event.presets == self._asked:
            self._found = event.found
            self._show_memory()

    def _show_memory(self) -> None:
        if not self._found:
            return
        refused = next((each for each in self._found if isinstance(each, str)), None)
        if refused is not None:
            self._say_memory(Text(refused, TONES["bad"]))
        elif any(each is None for each in self._found):
            self._say_memory(Text("memory: estimating, a few seconds …", MUTED))
        else:
            self._say_memory(self._verdict())

    def _verdict(self) -> Text:
        """Return whether the largest of the presets fits."""
        device = self.query_one(f"#{DEVICE}", Input).value.strip() or "auto"
        readings, visible = self._readings(), self.app.environment.visible_gpus
        on_gpu = memory_fit.is_on_gpu(device, readings, visible)
        needed = [
            (memory_fit.needed_bytes(preset, found, on_gpu=on_gpu), name)
            for name, preset, found in zip(self.names, self._asked, self._found, strict=True)
            if not isinstance(found, str) and found is not None
        ]
        most, name = max(needed)
        subject = f"memory: {name}" if len(self.names) > 1 else "memory:"
        said, tone = memory_fit.verdict(most, memory_fit.free_memory(device, readings, visible), subject=subject)
        return Text(said, TONES[tone])

    def _say_memory(self, text: Text) -> None:
        self.query_one("#room", ChangedStatic).tell(text)
