"""The log of a run: what happened, with the time, newest at the end."""

from collections import deque
from collections.abc import Iterable

from rich.table import Table
from rich.text import Text
from textual.events import Resize
from textual.widgets import RichLog

from engine.journal import events as ev
from tui.text import run_text
from tui.theme import MUTED, TONES

_LINES_KEPT = 1000
_ROWS_WRAPPED_ANEW = 200
_NOT_LOGGED = (
    ev.StepsTrained,
    ev.DeviceSampled,
    ev.EvaluationProgressed,
    ev.DataProgressed,
    ev.CheckpointSaved,
    ev.Paused,  # CommandApplied has said so
    ev.Continued,
)


class LogPane(RichLog):
    """Appends; draws again what it has drawn only where the width is another."""

    def __init__(self) -> None:
        super().__init__(id="log", max_lines=_LINES_KEPT, min_width=20, wrap=True)
        self.border_title = "log"
        self.can_focus = False
        self.sentences: list[str] = []
        self._kept: deque[Table] = deque(maxlen=_ROWS_WRAPPED_ANEW)
        self._wrapped_for = 0

    def add(self, events: Iterable[ev.AnyEvent]) -> None:
        """Append those of `events` that a person would want to read."""
        for event in events:
            if isinstance(event, _NOT_LOGGED):
                continue
            sentence, tone = run_text.event(event)
            self.sentences.append(sentence)
            row = Table.grid(padding=(0, 2, 0, 0), expand=True)
            row.add_column(no_wrap=True)
            row.add_column(ratio=1)  # a long sentence goes on below itself, not below the time
            row.add_row(Text(run_text.clock(event.time), MUTED), Text(sentence, TONES[tone]))
            self._kept.append(row)
            self.write(row, expand=True)  # beyond what COLUMNS says

    def on_resize(self, event: Resize) -> None:
        """Wrap the newest rows anew where there is more or less room for them."""
        if event.size.width in {0, self._wrapped_for}:
            return
        is_first, self._wrapped_for = not self._wrapped_for, event.size.width
        if not is_first:
            self.clear()
            for row in self._kept:
                self.write(row, expand=True)
