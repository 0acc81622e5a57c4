"""What the worker warned of lately: when, what, and what can be done. The log keeps all of it."""

from rich.text import Text

from engine.journal.state import RunState
from tui.text import run_text
from tui.theme import MUTED, TEXT, TONES
from tui.widgets.basic import Quiet

_FRESH_S = 600.0
"""For so long a warning keeps its row where rows are few."""


class Alerts(Quiet):
    """Takes no room while there is nothing to warn of."""

    def show(self, state: RunState, now: float, max_rows: int) -> None:
        """Draw the newest warnings, the newest first, if there are rows to spare; where it is one, a fresh one only."""
        since = state.started.time if state.started is not None else 0.0
        warned = [alert for alert in state.alerts if alert.severity != "notice" and alert.time >= since]
        if max_rows == 1:
            warned = [alert for alert in warned if now - alert.time < _FRESH_S]
        self.display = bool(warned) and max_rows > 0
        rows = []
        for alert in warned[::-1][:max_rows]:
            tone = TONES["bad" if alert.severity == "error" else "warn"]
            row = Text.assemble(
                (run_text.clock(alert.time), MUTED), "  ", (alert.text, tone), (f" {alert.advice}", TEXT)
            )
            row.truncate(max(20, self.app.size.width - 2), overflow="ellipsis")
            rows.append(row)
        self.tell(Text("\n", no_wrap=True).join(rows))
