"""Ablation screen: table of every step with the report's accuracy and the measured one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from engine.runs.run_dir import RunDir
from engine.runs.seed_groups import Spread
from tui import format as fmt
from tui.data.compare import Row, ablation_presets, compare, newest_by_preset, pflop, points
from tui.data.run_list import RunLister, RunsListed
from tui.screens.run_listing import Listing
from tui.text import run_text, seed_text
from tui.theme import MUTED, REFERENCE, TEXT, TONES, VAL
from tui.widgets.basic import ChangedStatic, TooSmall
from tui.widgets.key_bar import KeyBar
from tui.widgets.lists import Pickable

if TYPE_CHECKING:
    from presets.catalog import Listed

_RUN_IDS = "-ablation-"
"""Part of the id of every run of the ablation."""
_WIDE = 100
"""From this width on the test accuracy, what was spent and the full state of a run are shown."""
_SPENT = 12
"""Columns of what was spent, where that is known of any run."""


class AblationScreen(Listing[str | None]):
    """Table with a row a step. Enter opens the step's run, or else closes with its preset, to be started."""

    CSS_PATH = "ablation.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "Home", id="ablation.back")]

    def __init__(self, listed: "Sequence[Listed]") -> None:
        """Show the ablation's steps among the presets `listed`."""
        super().__init__()
        self._listed = listed
        self.rows: list[Row] = compare(ablation_presets(listed), {}, listed)

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield TooSmall()
        with Vertical(id="body"):
            yield ChangedStatic(id="top")
            yield ChangedStatic(id="columns")
            yield _Steps(id="steps", compact=True)
            yield ChangedStatic(id="footnote")
            yield KeyBar()

    def on_mount(self) -> None:
        """List runs in a thread."""
        self.query_one(_Steps).focus()
        self.list_runs(RunLister(self.app.runs_dir, self.app.environment.now, _RUN_IDS))

    def on_runs_listed(self, event: RunsListed) -> None:
        """Fill the table."""
        self.rows = compare(ablation_presets(self._listed), newest_by_preset(event.runs), self._listed)
        self._show()

    def on_resize(self) -> None:
        """Set the columns anew."""
        self.call_after_refresh(self._show)

    def _show(self) -> None:
        width = max(40, self.query_one("#top", ChangedStatic).content_size.width)
        done = sum(row.measured is not None for row in self.rows)
        title = Text.assemble(
            ("Ablation", f"bold {TEXT}"), (f"   {done} of {len(self.rows)} steps have a result", MUTED)
        )
        self.query_one("#top", ChangedStatic).set_text(title)
        self.query_one("#columns", ChangedStatic).set_text(_heading(self.rows, width))
        self.query_one("#footnote", ChangedStatic).set_text(_footnote(self.rows))
        self.query_one(_Steps).show(self.rows, width)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Open the step's run, or offer to start it."""
        row = next(row for row in self.rows if row.preset_name == event.option.id)
        if row.run:
            self.app.open_monitor(RunDir(self.app.runs_dir / row.run))
        else:
            self.dismiss(row.preset_name)

    def action_back(self) -> None:
        """Go back to Home."""
        self.dismiss(None)


class _Steps(Pickable):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "open the run, or start it", key_display="enter")
    ]

    def show(self, rows: Sequence[Row], width: int) -> None:
        lines = [_line(row, width, _value_width(rows), _spent_width(rows, width)) for row in rows]
        before = [option.prompt for option in self.options]
        if [line.markup for line in lines] != [prompt.markup for prompt in before if isinstance(prompt, Text)]:
            self.fill([Option(line, id=row.preset_name) for line, row in zip(lines, rows, strict=True)])


def _value_width(rows: Sequence[Row]) -> int:
    """Return the columns of an accuracy: more if groups of seeds are among the rows."""
    return 11 if any(row.val_spread is not None for row in rows) else 7


def _spent_width(rows: Sequence[Row], width: int) -> int:
    """Return the columns of what was spent; 0 if it is not shown."""
    return _SPENT if width >= _WIDE and any(row.pflop is not None for row in rows) else 0


def _change_width(width: int, value: int, spent: int) -> int:
    is_wide = width >= _WIDE
    return max(12, min(44, width - (70 if is_wide else 48) - (value - 7) * (2 if is_wide else 1) - spent))


def _heading(rows: Sequence[Row], width: int) -> Text:
    value, spent = _value_width(rows), _spent_width(rows, width)
    test = f"{'test':>{value}}" if width >= _WIDE else ""
    test += f"{'spent':>{spent}}" if spent else ""
    change = _change_width(width, value, spent)
    return Text(
        f"{'step':<5}{'change':<{change}}{'report':>8}{'diff':>7}{'val':>{value}}{'diff':>7} {test}  state",
        MUTED,
        no_wrap=True,
    )


def _line(row: Row, width: int, value: int, spent: int) -> Text:
    change = _change_width(width, value, spent)
    before = f"{_number(row.report_before)}→" if row.report_before is not None else ""
    mark = "*" if row.is_partial and row.measured_difference is not None else " "
    return Text.assemble(
        (f"{row.step:<5}", MUTED),
        (fmt.column(row.change, change), TEXT if row.run else MUTED),
        (f"{before + _number(row.report):>8}", REFERENCE),
        (f"{points(row.report_difference):>7}", MUTED),
        (f"{_spread(row.val_spread, row.measured):>{value}}", VAL),
        (f"{points(row.measured_difference):>7}{mark}", TEXT),
        (f"{row.no_test or _spread(row.test_spread, row.test):>{value}}" if width >= _WIDE else "", TEXT),
        (f"{pflop(row):>{spent}}" if spent else "", MUTED),
        _state(row, width),
        no_wrap=True,
    )


def _state(row: Row, width: int) -> tuple[str, str]:
    if not row.run:
        return "  not run", MUTED
    color = TONES[run_text.tone(row.status)]  # type: ignore[arg-type]
    if row.val_spread is not None and row.status == "completed":
        return f"  {fmt.plural(row.val_spread.n, 'seed')}", color
    if row.status == "completed":
        return "  completed", color
    return f"  {row.status if width >= _WIDE else row.status[:5]} {row.epoch}/{row.epochs}", color


def _footnote(rows: Sequence[Row]) -> Text:
    text = "Validation accuracy in %; diff: points to the step that it builds on."
    if any(row.val_spread is not None for row in rows):
        text += " ±: sample deviation over seeds."
    if any(row.is_partial and row.measured_difference is not None for row in rows):
        text += " *: not trained to its end, or for fewer epochs."
    if not any(row.run for row in rows):
        text += " Nothing is run yet: Enter starts the highlighted step; cifartui ablation runs them all."
    return Text(text, MUTED)


def _number(fraction: float | None) -> str:
    return f"{100 * fraction:.0f}" if fraction is not None else ""


def _spread(spread: Spread | None, value: float | None) -> str:
    return seed_text.cell(spread).removesuffix(" %") if spread is not None else _percent(value)


def _percent(fraction: float | None) -> str:
    return fmt.percent(fraction).removesuffix(" %") if fraction is not None else ""
