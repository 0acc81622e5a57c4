"""Lists to pick a row from: their base, and Home's lists of presets in groups and of recent runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui import format as fmt
from tui.theme import MUTED, TEXT, TONES, TRAIN

if TYPE_CHECKING:
    from presets.catalog import Listed
    from tui.data.summary import Summary

_BROKEN = "cannot be used"
_NAME_COLUMNS, _MOST_NAME_COLUMNS = 36, 80
"""Columns of the runs' names where there is room: at least, and at most for long ones."""


class Pickable(OptionList):
    """A list that moves with arrows and with j and k."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Down", show=False, id="list.cursor_down", tooltip="one row down"),
        Binding("k", "cursor_up", "Up", show=False, id="list.cursor_up", tooltip="one row up"),
        Binding("g", "first", "First", show=False, id="list.first", tooltip="the first row"),
        Binding("G", "last", "Last", show=False, id="list.last", tooltip="the last row"),
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
    """Presets under the headings of their groups; several can be marked."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "start", key_display="enter", id="list.start",
                tooltip="start the preset, or queue the marked ones; asks first what to change"),
        Binding("space", "mark", "mark", id="list.mark", tooltip="mark the preset, or take its mark away"),
        Binding("pageup", "screen.page(-1)", "description up", show=False, id="list.page_up",
                tooltip="scroll the description or the layer table"),
        Binding("pagedown", "screen.page(1)", "description down", show=False, id="list.page_down",
                tooltip="scroll the description or the layer table"),
    ]  # fmt: skip

    class Marked(Message):
        """Another set of presets is marked than before."""

    def __init__(self, *, id: str | None = None, sign: str = "✓") -> None:
        super().__init__(id=id, compact=True)
        self._sign = sign
        self._usable: list[str] = []
        self._marked: set[str] = set()

    @property
    def marked(self) -> list[str]:
        """The names of the marked presets, in the order of the list; those that the filter hides included."""
        return [name for name in self._usable if name in self._marked]

    def show(self, presets: Sequence["Listed"], wanted: str) -> int:
        """List the presets that have every word of `wanted` in their name, title or group; return how many."""
        self._usable = [listed.name for listed in presets if listed.preset is not None]
        shown = [listed for listed in presets if _matches(listed, wanted)]
        options: list[Option] = []
        heading = None
        for listed in shown:
            group = listed.preset.group if listed.preset is not None else _BROKEN
            if group != heading:
                options.append(Option(Text(group, f"bold {MUTED}"), disabled=True))
                heading = group
            options.append(Option(self._line(listed.name), id=listed.name))
        if not shown:
            options.append(Option(Text("No preset matches." if wanted else "No presets found.", MUTED), disabled=True))
        self.fill(options)
        return len(shown)

    def _line(self, name: str) -> Text:
        color = TEXT if name in self._usable else TONES["bad"]
        is_marked = name in self._marked
        return Text.assemble(
            (f"{self._sign} " if is_marked else "  ", TRAIN), (name, TRAIN if is_marked else color),
            no_wrap=True, overflow="ellipsis",
        )  # fmt: skip

    def action_mark(self) -> None:
        """Mark the preset under the cursor, or take its mark away."""
        name = self.chosen()
        if name is None:
            return
        if name not in self._usable:
            self.notify("This preset cannot be used as it is: its file needs mending.", severity="warning")
            return
        self._marked ^= {name}
        self.replace_option_prompt(name, self._line(name))
        self.post_message(self.Marked())

    def unmark(self) -> None:
        """Take every mark away."""
        before, self._marked = self.marked, set()
        for option in self.options:
            if option.id in before:
                self.replace_option_prompt(option.id, self._line(option.id))
        self.post_message(self.Marked())


def _matches(listed: "Listed", wanted: str) -> bool:
    preset = listed.preset
    known = f"{listed.name} {preset.title} {preset.group}" if preset is not None else listed.name
    return all(word in known.lower() for word in wanted.lower().split())


class RunList(Pickable):
    """Recent runs, newest first."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "open", key_display="enter", id="list.open", tooltip="open the run")
    ]

    def __init__(self, *, id: str | None = None, compact: bool = False) -> None:
        super().__init__(id=id, compact=compact)
        self._shown: tuple[Sequence[Summary], float] | None = None

    def on_resize(self) -> None:
        """Give the columns the room that there is now."""
        if self._shown is not None:
            self.show(*self._shown)

    def show(self, runs: "Sequence[Summary]", now: float) -> None:
        """List `runs` in aligned columns, as many as the width has room for; once there is a width.

        Of the short runs of a learning-rate search, of which there are twenty, the newest is listed.
        """
        from tui.text.run_name import run_name

        self._shown = runs, now
        if not self.size.width:  # `on_resize` shows them
            return
        runs = _newest_of_searches(runs)
        hosts = max((max(4, len(run.host)) for run in runs if run.is_elsewhere), default=0)
        longest = max((cell_len(run_name(run.id, run.preset_name, _words(run))) for run in runs), default=0)
        room = self.size.width - 51 - (hosts + 2 if hosts else 0)
        name_width = max(12, min(room, max(_NAME_COLUMNS, min(longest, _MOST_NAME_COLUMNS))))
        shared = _shared(runs)
        lines = [_run_line(run, now, name_width, shared.get(run.preset_name, frozenset()), hosts) for run in runs]
        before = [option.prompt for option in self.options]
        if [line.markup for line in lines] == [prompt.markup for prompt in before if isinstance(prompt, Text)]:
            return
        self.fill([Option(line, id=run.id) for line, run in zip(lines, runs, strict=True)])


def _newest_of_searches(runs: "Sequence[Summary]") -> "Sequence[Summary]":
    from engine.runs.seed_groups import is_search

    newest: dict[str, Summary] = {}
    for run in runs:
        newest.setdefault(run.group if is_search(run.group) else run.id, run)
    return list(newest.values())


def _words(run: "Summary") -> tuple[str, ...]:
    from engine.runs.seed_groups import is_search

    return ("lr-find", *run.words) if is_search(run.group) else run.words


def _shared(runs: "Sequence[Summary]") -> dict[str, frozenset[str]]:
    from tui.text.run_name import shared_words

    return shared_words((run.preset_name, _words(run)) for run in runs)


def _run_line(run: "Summary", now: float, name_width: int, shared: frozenset[str], hosts: int) -> Text:
    """Return a run as a row; `hosts` are the columns for the host of one that is not on this machine."""
    from tui.text import run_text
    from tui.text.run_name import run_name

    return Text.assemble(
        (f"{run.status:<11}", TONES[run_text.tone(run.status)]),
        (fmt.column(run.host if run.is_elsewhere else "here", hosts) + "  " if hosts else "", TEXT),
        (fmt.column(run_name(run.id, run.preset_name, _words(run), name_width, shared), name_width), TEXT),
        (f"{f'{run.epoch}/{run.epochs}':>9}", MUTED),
        (" best val ", MUTED),
        (f"{fmt.percent(run.best_val_top1):>7}", TEXT),
        (f"{fmt.ago(max(0.0, now - run.created)):>12}", MUTED),
        no_wrap=True,
    )
