"""Dialogs of the Runs screen: delete, export, differences."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec import Struct
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import ScrollableContainer, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from presets.problems import printable
from tui import format as fmt
from tui.data import compare
from tui.data.compare import Difference
from tui.theme import MUTED, TEXT, TONES, TRAIN
from tui.widgets.basic import TextField

_NAMED = 8
"""More runs than this are counted, not named."""


class ConfirmDelete(ModalScreen[bool]):
    """Names the runs and the bytes that go, and asks: y or n."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Delete", id="runs.delete_yes"),
        Binding("n,escape", "answer(False)", "Keep", id="runs.delete_no"),
    ]

    def __init__(self, sizes: Mapping[str, int], refused: Sequence[str]) -> None:
        """Ask about the runs in `sizes` (bytes by name); `refused` says why each of the others stays."""
        super().__init__()
        self._sizes, self._refused = sizes, refused

    def compose(self) -> ComposeResult:
        """Lay the panel out."""
        num = len(self._sizes)
        sizes = [(printable(run_id), fmt.memory(size)) for run_id, size in list(self._sizes.items())[:_NAMED]]
        width = max(len(name) for name, _ in sizes)
        named = [f"{name:<{width}}  {size:>9}" for name, size in sizes]
        named += [f"and {num - _NAMED} more"] if num > _NAMED else []
        freed = fmt.memory(sum(self._sizes.values()))
        with Vertical(classes="panel -alarming -delete"):
            title = "Delete this run for good?" if num == 1 else f"Delete these {num} runs for good?"
            yield Static(Text(title, f"bold {TONES['bad']}"))
            yield Static(Text("\n".join(named), TEXT))
            yield Static(Text(f"This frees {freed}. Records, curves and checkpoints cannot be brought back.", TEXT))
            if self._refused:
                yield Static(Text("\n".join(map(printable, self._refused[:4])), TONES["warn"]))
            yield Static(Text.assemble(("y", TRAIN), (" delete   ", MUTED), ("n", TRAIN), (" keep", MUTED)))

    def action_answer(self, answer: bool) -> None:
        """Give the answer back."""
        self.dismiss(answer)


class DifferencePanel(ModalScreen[None]):
    """In what runs differ, a column a run; scrolls both ways."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,equals_sign,q", "leave", "Back", id="runs.diff_leave"),
        Binding("j", "scroll(1)", "Down", show=False, id="runs.diff_down"),
        Binding("k", "scroll(-1)", "Up", show=False, id="runs.diff_up"),
    ]

    def __init__(self, found: Sequence[Difference], names: Sequence[str]) -> None:
        """Show `found` of the runs called `names`."""
        super().__init__()
        self._found, self._names = found, names

    def compose(self) -> ComposeResult:
        """Lay the panel out."""
        with Vertical(classes="panel -diff"):
            yield Static(Text(compare.sentence(self._found, len(self._names)), f"bold {TEXT}"))
            with ScrollableContainer(id="differences"):
                yield Static(self._table(), id="difference-table")
            yield Static(Text.assemble(("Esc", TRAIN), (" back   ", MUTED), ("arrows", TRAIN), (" scroll", MUTED)))

    def _table(self) -> Text:
        if not self._found:
            return Text("")
        fields = {each.field for each in self._found}
        text = Text(no_wrap=True)
        for number, line in enumerate(compare.difference_table(self._found, self._names, most=28)):
            name = line.split("  ")[0]
            cut = len(name) if name in fields else 0
            text.append(line[:cut], MUTED).append(line[cut:] + "\n", MUTED if number == 0 else TEXT)
        text.rstrip()
        return text

    def on_mount(self) -> None:
        """Let the arrows scroll."""
        self.query_one("#differences").focus()

    def action_scroll(self, rows: int) -> None:
        """Scroll by so many rows."""
        self.query_one("#differences").scroll_relative(y=rows, animate=False)

    def action_leave(self) -> None:
        """Close the panel."""
        self.dismiss(None)


class Export(Struct, frozen=True):
    """Format and path of an export."""

    kind: str
    path: str


class ExportPanel(ModalScreen[Export | None]):
    """Asks what to write and where; gives it back, or None where it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="runs.export_leave"),
        Binding("up", "choose(-1)", "Up", show=False, id="runs.export_up"),
        Binding("down", "choose(1)", "Down", show=False, id="runs.export_down"),
    ]
    KINDS: ClassVar[Sequence[tuple[str, str, str]]] = (
        ("csv", ".csv", "CSV, a line an epoch"),
        ("csv-steps", "-steps.csv", "CSV, a line for every report of the training loop"),
        ("svg", ".svg", "SVG, a picture of loss and accuracy"),
        ("onnx", ".onnx", "ONNX, the network for other programs"),
        ("safetensors", ".safetensors", "safetensors, its weights"),
        ("pt2", ".pt2", "pt2, the network for torch.export"),
        ("torchscript", ".torchscript", "TorchScript, the network for torch.jit"),
    )

    SEVERAL: ClassVar[Sequence[tuple[str, str, str]]] = (
        ("overlay", ".svg", "SVG, a picture of loss and accuracy over each other"),
    )

    def __init__(self, name: str, stem: str, kinds: Sequence[tuple[str, str, str]] = KINDS) -> None:
        """Ask about what is called `name`; its file is `stem` and an ending unless the user gives another one."""
        super().__init__()
        self._name_shown, self._stem, self._kinds = name, stem, kinds
        self._chosen = 0

    def compose(self) -> ComposeResult:
        """Lay the panel out."""
        with Vertical(classes="panel"):
            yield Static(Text.assemble(("Export ", MUTED), (printable(self._name_shown), f"bold {TEXT}")))
            yield Static(self._choices(), id="kinds")
            yield TextField(self._stem + self._kinds[0][1], id="export-path")
            yield Static(
                Text.assemble(
                    ("↑ ↓", TRAIN), (" what   ", MUTED), ("Enter", TRAIN), (" writes   ", MUTED),
                    ("Esc", TRAIN), (" back", MUTED),
                )
            )  # fmt: skip

    def _choices(self) -> Text:
        rows = [
            Text(f"{'>' if number == self._chosen else ' '} {label}", TEXT if number == self._chosen else MUTED)
            for number, (_, _, label) in enumerate(self._kinds)
        ]
        return Text("\n").join(rows)

    def action_choose(self, rows: int) -> None:
        """Choose another form; the file's ending follows where it is as it was proposed."""
        before = self._kinds[self._chosen][1]
        self._chosen = (self._chosen + rows) % len(self._kinds)
        self.query_one("#kinds", Static).update(self._choices())
        field = self.query_one(Input)
        if field.value.endswith(before):
            field.value = field.value.removesuffix(before) + self._kinds[self._chosen][1]

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give the answer back."""
        if event.value.strip():
            self.dismiss(Export(self._kinds[self._chosen][0], event.value.strip()))

    def action_leave(self) -> None:
        """Write nothing."""
        self.dismiss(None)
