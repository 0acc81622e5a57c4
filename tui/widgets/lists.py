"""The two lists of Home: presets in groups, and recent runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui import format as fmt
from tui import words
from tui.palette import MUTED, TEXT, TONES
from tui.summary import Summary

if TYPE_CHECKING:
    from presets.catalog import Listed

_BROKEN = "cannot be used"


class Pickable(OptionList):
    """A list that moves with arrows and with j and k."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Down", show=False),
        Binding("k", "cursor_up", "Up", show=False),
        Binding("g", "first", "First", show=False),
        Binding("G", "last", "Last", show=False),
    ]

    def chosen(self) -> str | None:
        """Return the id under the cursor."""
        option = self.highlighted_option
        return option.id if option is not None else None

    def fill(self, options: Sequence[Option]) -> None:
        """Replace the options, keeping the cursor on the same id where it is still there."""
        before = self.chosen()
        self.set_options(options)
        ids = [option.id for option in options]
        first = next((index for index, option in enumerate(options) if not option.disabled), None)
        self.highlighted = ids.index(before) if before is not None and before in ids else first


class PresetList(Pickable):
    """Presets under the headings of their groups."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select", "start", key_display="enter")]

    def show(self, presets: Sequence["Listed"], wanted: str) -> int:
        """List the presets that have every word of `wanted` in their name, title or group; return how many."""
        shown = [listed for listed in presets if _matches(listed, wanted)]
        options: list[Option] = []
        heading = None
        for listed in shown:
            group = listed.preset.group if listed.preset is not None else _BROKEN
            if group != heading:
                options.append(Option(Text(group, f"bold {MUTED}"), disabled=True))
                heading = group
            color = TEXT if listed.preset is not None else TONES["bad"]
            options.append(Option(Text(f"  {listed.name}", color, no_wrap=True, overflow="ellipsis"), id=listed.name))
        if not shown:
            options.append(Option(Text("No preset matches." if wanted else "No presets found.", MUTED), disabled=True))
        self.fill(options)
        return len(shown)


def _matches(listed: "Listed", wanted: str) -> bool:
    preset = listed.preset
    known = f"{listed.name} {preset.title} {preset.group}" if preset is not None else listed.name
    return all(word in known.lower() for word in wanted.lower().split())


class RunList(Pickable):
    """Recent runs, newest first."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select", "open", key_display="enter")]

    def show(self, runs: Sequence[Summary], now: float) -> None:
        """List `runs` in aligned columns, as many as the width has room for."""
        name_width = min(36, max(12, self.size.width - 51))
        lines = [_run_line(run, now, name_width) for run in runs]
        before = [option.prompt for option in self.options]
        if [line.markup for line in lines] == [prompt.markup for prompt in before if isinstance(prompt, Text)]:
            return
        self.fill([Option(line, id=run.id) for line, run in zip(lines, runs, strict=True)])


def _run_line(run: Summary, now: float, name_width: int) -> Text:
    name = fmt.short_id(run.id)
    name = name if len(name) <= name_width else "…" + name[1 - name_width :]
    return Text.assemble(
        (f"{run.status:<11}", TONES[words.tone(run.status)]),
        (f"{name:<{name_width}}", TEXT),
        (f"{f'{run.epoch}/{run.epochs}':>9}", MUTED),
        (" best val ", MUTED),
        (f"{fmt.percent(run.best_val_top1):>7}", TEXT),
        (f"{fmt.ago(max(0.0, now - run.created)):>12}", MUTED),
        no_wrap=True,
    )
