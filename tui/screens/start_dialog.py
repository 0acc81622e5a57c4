"""Start dialog: the data, the usual fields, any other key, memory; validated as they are typed. Starts nothing.

Its preview shows the training images of the preset as typed.
"""

import shlex
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

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
from presets.range_test import DEFAULT_SWEEP, Sweep
from presets.schema import Preset
from tui import format as fmt
from tui.data import memory_fit
from tui.data.environment import GpuReadings
from tui.data.preset_info import Found, lookup
from tui.data.start_form import (
    CHANGES,
    DATA,
    DEVICE,
    NOT_IN_RANGE_TEST,
    Checked,
    Field,
    FoundFiles,
    NeededFiles,
    check,
    device_warnings,
    fields_of,
    find_files,
    typed_for,
)
from tui.text import preset_text
from tui.text.layout import table
from tui.theme import MUTED, TEXT, TONES, TRAIN
from tui.widgets.basic import ChangedStatic, TextField

if TYPE_CHECKING:
    from tui.app import CifartuiApp


Purpose: TypeAlias = Literal["start", "queue", "range test"]
_LOOK_AFTER_S = 0.3
"""Delay before a path that is being typed is looked at."""


class _WithdrawnError(Exception):
    """Nobody waits for the files any more."""


class FilesSeen(Message):
    """Files that the presets need, as they were found."""

    def __init__(self, needed: NeededFiles, found: FoundFiles) -> None:
        self.needed, self.found = needed, found
        super().__init__()


class FactsRead(Message):
    """Facts of the presets with the changes typed so far."""

    def __init__(self, presets: tuple[Preset, ...], found: Found) -> None:
        self.presets, self.found = presets, found
        super().__init__()


class StartPanel(ModalScreen[RunOptions | None]):
    """Asks how a preset, or several, are to be started; gives an order back, or None where it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back", id="start.leave", tooltip="start nothing"),
        Binding("enter", "start", "start", id="start.start", tooltip="start, or queue, if nothing is wrong"),
        # A key that no field takes for itself.
        Binding("ctrl+g", "preview", "images", id="start.preview",
                tooltip="training images of the preset as typed, as its network is given them"),
        # First of all, because of keys that come at once on a slow line: what follows a tab is for the next field.
        Binding("tab,down", "app.focus_next", "next field", priority=True, id="start.next", tooltip="the next field"),
        Binding("shift+tab,up", "app.focus_previous", "field before", priority=True, id="start.previous",
                tooltip="the field before"),
    ]  # fmt: skip
    app: "CifartuiApp"
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)
    """As in Textual, whose screens paint all of themselves (13 kB) when the focus moves: here two fields do."""

    def __init__(
        self,
        names: Sequence[str],
        readings: Callable[[], GpuReadings | None],
        *,
        purpose: Purpose = "start",
        options: RunOptions | None = None,
        data: str = "",
        changes: Sequence[str] = (),
        sweep: Sweep = DEFAULT_SWEEP,
        host: str = "",
    ) -> None:
        """Ask about the presets called `names`.

        Args:
            names: of presets that can be used.
            readings: returns the latest reading of the machine.
            purpose: one is started, several are queued, or one is given a range test.
            options: those of a run that is to be started again; they are filled in.
            data: a path to fill in.
            changes: overrides to fill in.
            sweep: of a range test.
            host: another one, on which the preset is started; it looks at data, weights and GPUs itself.
        """
        super().__init__()
        self.names, self._readings, self._purpose = tuple(names), readings, purpose
        self._options, self._data, self._changes, self._sweep = options, data, changes, sweep
        self._host = host
        self._fields: tuple[Field, ...] = ()
        self._own: Preset | None = None
        self._files: dict[NeededFiles, FoundFiles] = {}
        self._looks_at: NeededFiles | None = None
        self._look_ends = threading.Event()
        self._wanted: Callable[[RunOptions], object] | None = None
        self._withdraw = threading.Event()
        self._asked: tuple[Preset, ...] = ()
        self._found: Found = ()
        self._planned: list[tuple[str, str]] = []
        self.checked = Checked()

    def compose(self) -> ComposeResult:
        """Lay the panel out."""
        verb = {
            "start": "Start ",
            "queue": f"Queue {fmt.plural(len(self.names), 'preset')}: ",
            "range test": "Find a learning rate for ",
        }[self._purpose]
        with VerticalScroll(classes="panel", id="start", can_focus=False):
            on_host = [(f" on {self._host}", MUTED)] if self._host else []
            yield Static(Text.assemble((verb, MUTED), (", ".join(self.names), f"bold {TEXT}"), *on_host), id="what")
            if len(self.names) == 1:
                yield Static(id="plan")
            try:
                load = self.app.environment.loader()
                presets = [load(name, ()) for name in self.names]
                self._own = presets[0]
                self._fields, typed = self._filled(presets)
            except CifartuiError as error:  # edited since it was listed
                typed = {}
                yield Static(Text(str(error), TONES["bad"]), id="broken")
            for field in self._fields:
                with Horizontal(classes="field"):
                    yield Label(Text(field.label, MUTED), classes="label")
                    text = typed.get(field.id, field.initial)
                    if field.id == CHANGES:
                        such_as = f"data.path=/photos (on {self._host})" if self._host else "optimizer.momentum=0.8"
                        yield TextField(text, placeholder=f"any key, such as  {such_as}", id=field.id)
                    elif field.id == DATA:
                        yield TextField(
                            text, placeholder="a folder of images, in place of the preset's data", id=field.id
                        )
                    else:
                        yield TextField(text, id=field.id, classes="short")
                        yield Label(Text(field.hint, MUTED), classes="hint")
                yield ChangedStatic(id=f"{field.id}-error", classes="error")
            yield ChangedStatic(id="fit")
            act = " queues them   " if self._purpose == "queue" else " starts   "
            keys = [("Enter", TRAIN), (act, MUTED), ("Tab", TRAIN), (" next field   ", MUTED)]
            if self._can_preview:
                shown = self.app.key_of("start.preview", "ctrl+g").capitalize()
                keys += [(shown, TRAIN), (" training images   ", MUTED)]
            yield Static(Text.assemble(*keys, ("Esc", TRAIN), (" back", MUTED)))

    def _filled(self, presets: Sequence[Preset]) -> tuple[tuple[Field, ...], dict[str, str]]:
        """Return the fields, and texts for them."""
        fields = fields_of(presets)
        typed = {} if self._options is None else typed_for(fields, self._options)
        if self._data:
            typed[DATA] = self._data
        if self._changes:
            typed[CHANGES] = shlex.join(self._changes)
        if self._purpose == "range test":
            fields = tuple(field for field in fields if field.id not in NOT_IN_RANGE_TEST)
        if self._host:  # its folders are not seen from here
            fields = tuple(field for field in fields if field.id != DATA)
        return fields, typed

    def on_mount(self) -> None:
        """Check the presets as they stand, and begin at what was most likely wanted."""
        if self._fields and self._options is None:
            first = next(field.id for field in self._fields if field.id != DATA)  # most people keep the data
            self.query_one(f"#{first}", Input).focus()
        if self._fields:
            self._check()

    def on_unmount(self) -> None:
        """Ask for nothing any more."""
        self._withdraw.set()
        self._look_ends.set()

    def on_input_changed(self) -> None:
        """Check what has been typed so far."""
        self._wanted = None
        self._check()

    def on_input_submitted(self) -> None:
        """Start."""
        self.action_start()

    def action_start(self) -> None:
        """Give the options back if they are valid, once the files are looked at; else go to the first wrong field."""
        self._once_valid(self.dismiss)

    def action_preview(self) -> None:
        """Show the training images of the preset as typed, once the files are looked at; start nothing."""
        self._once_valid(self._preview)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer the preview of one preset."""
        return action != "preview" or self._can_preview

    @property
    def _can_preview(self) -> bool:
        return len(self.names) == 1 and not self._host

    def _preview(self, options: RunOptions) -> None:
        from engine.runs.preview import Question
        from tui.screens.preview import PreviewScreen

        preset = self.checked.presets[0]
        question = Question(preset=preset, seed=options.seed, device=options.device, data_dir=self.app.data_dir)
        self.app.push_screen(PreviewScreen(preset.title, question))

    def _once_valid(self, then: Callable[[RunOptions], object]) -> None:
        """Call `then` with the options if they are valid, once the files are looked at; else go to the wrong field."""
        if not self._fields:
            return
        self._wanted = then
        self._check()
        if self.checked.options is not None:
            self._wanted = None
            then(self.checked.options)
            return
        wrong = next((field.id for field in self._fields if field.id in self.checked.errors), None)
        if wrong is not None:
            self._wanted = None
            self.query_one(f"#{wrong}", Input).focus()

    def action_leave(self) -> None:
        """Start nothing."""
        self.dismiss(None)

    def _check(self) -> None:
        typed = {field.id: self.query_one(f"#{field.id}", Input).value for field in self._fields}
        found = (lambda _needed: FoundFiles()) if self._host else self._files.get
        self.checked = check(self.names, self.app.environment.loader(), self._fields, typed, found)
        if self.checked.waits_for is not None:
            self._look_at(self.checked.waits_for)
        warnings = self._warnings()
        for field in self._fields:
            text, tone = self.checked.errors.get(field.id, ""), TONES["bad"]
            if not text and field.id in warnings:
                text, tone = warnings[field.id], TONES["warn"]
            if not text and field.id == DATA and self._wanted and self.checked.waits_for is not None:
                text, tone = "looking at the data …", MUTED
            row = self.query_one(f"#{field.id}-error", ChangedStatic)
            if row.display != bool(text):  # each change of the layout paints the whole screen
                row.display = bool(text)
            row.set_text(Text(text, tone))
        if self.checked.options is None:
            if DATA in self.checked.errors and self._own is not None and len(self.names) == 1:
                self._show_plan(self._own)  # nothing of the data that was named before stands above what is wrong
            self._withdraw.set()
            self._asked = ()
            self._show_memory_line(Text(""))
            return
        if len(self.names) == 1:
            self._show_plan(self.checked.presets[0])
        if self._host:
            self._show_memory_line(Text(f"{self._host} says whether it has the data, the weights and room.", MUTED))
            return
        presets = memory_fit.on_each(self.checked.presets, self.checked.options.devices)
        if presets == self._asked:
            self._show_memory()
            return
        self._asked, self._found = presets, ()
        self._withdraw.set()
        self._withdraw = threading.Event()
        self._look_up(self._asked, self._withdraw)

    def _warnings(self) -> dict[str, str]:
        options = self.checked.options
        visible = self.app.environment.visible_gpus
        return {} if options is None or self._host else device_warnings(options, self._readings(), visible)

    # --- files -----------------------------------------------------------------------------------

    def _look_at(self, needed: NeededFiles) -> None:
        """Look at files in a thread, which nobody waits for: a folder may be on a disk that does not answer."""
        if needed == self._looks_at:
            return
        self._look_ends.set()
        self._looks_at, self._look_ends = needed, threading.Event()
        environment, data_dir, ends = self.app.environment, self.app.data_dir, self._look_ends
        delay_s = _LOOK_AFTER_S if needed.data and needed.data != self._data else 0.0

        def poll() -> None:
            if ends.is_set():
                raise _WithdrawnError

        def work() -> None:
            if ends.wait(delay_s):
                return
            try:
                found = find_files(needed, environment, data_dir, poll)
            except _WithdrawnError:
                return
            if not ends.is_set():
                self.post_message(FilesSeen(needed, found))

        threading.Thread(target=work, name="files", daemon=True).start()

    def on_files_seen(self, event: FilesSeen) -> None:
        """Check anew with the files found; start if that was asked for meanwhile."""
        self._files[event.needed] = event.found
        if event.needed == self._looks_at:
            self._looks_at = None
        if self._wanted is not None:
            self._once_valid(self._wanted)
        else:
            self._check()

    # --- what is planned -------------------------------------------------------------------------

    def _show_plan(self, preset: Preset) -> None:
        sweep = self._sweep if self._purpose == "range test" else None
        rows = preset_text.planned(preset, self._own, sweep)
        if rows != self._planned:
            self._planned = rows
            self.query_one("#plan", Static).update(table(rows))

    # --- memory ----------------------------------------------------------------------------------

    @work(thread=True, group="facts")
    def _look_up(self, presets: tuple[Preset, ...], stop: threading.Event) -> None:
        def post(found: Found) -> None:
            self.post_message(FactsRead(presets, found))

        lookup(presets, self.app.data_dir, self.app.environment, stop, post)

    def on_facts_read(self, event: FactsRead) -> None:
        """Show whether it fits, if the facts are of the presets as typed now."""
        if event.presets == self._asked:
            self._found = event.found
            self._show_memory()

    def _show_memory(self) -> None:
        if not self._found:
            return
        refused = next((each for each in self._found if isinstance(each, str)), None)
        if refused is not None:
            self._show_memory_line(Text(refused, TONES["bad"]))
        elif any(each is None for each in self._found):
            self._show_memory_line(Text("memory: estimating, a few seconds …", MUTED))
        else:
            self._show_memory_line(self._verdict())

    def _verdict(self) -> Text:
        """Return whether the largest of the presets fits."""
        device = self.query_one(f"#{DEVICE}", Input).value.strip() or "auto"
        readings, visible = self._readings(), self.app.environment.visible_gpus
        found = [
            (name, each, facts)
            for name, each, facts in zip(self.names, self._asked, self._found, strict=True)
            if not isinstance(facts, str) and facts is not None
        ]
        text, tone = memory_fit.fits_largest(found, device, readings, visible)
        return Text(text, TONES[tone])

    def _show_memory_line(self, text: Text) -> None:
        self.query_one("#fit", ChangedStatic).set_text(text)
