"""One row that answers every key: what was asked, since when, and what came of it."""

from dataclasses import dataclass

from rich.text import Text

from engine.journal.events import CommandApplied
from tui import format as fmt
from tui.text.layout import in_a_row
from tui.theme import MUTED, TEXT, TONES, Tone
from tui.widgets.basic import Quiet


@dataclass
class _Asked:
    label: str
    at: float


class CommandStrip(Quiet):
    """Keeps the wishes that were not answered yet, and the last answer."""

    def __init__(self) -> None:
        super().__init__(id="strip")
        self.pending: dict[str, _Asked] = {}
        self._last: list[Text] = []

    def ask(self, command_id: str, label: str, now: float) -> None:
        """Show a wish as pending, at once."""
        self.pending[command_id] = _Asked(label, now)
        self.show(now)

    def answer(self, applied: CommandApplied, now: float) -> None:
        """Show that a wish was obeyed or refused, if it was asked here."""
        asked = self.pending.pop(applied.command_id, None)
        if asked is None:
            return
        at = f"applied at step {fmt.count(applied.global_step)}"
        effect = "" if applied.effect.lower() in {"", asked.label.lower()} else f" ({applied.effect})"
        if applied.accepted:
            told = Text.assemble((f"{asked.label}: ", TEXT), (at, TONES["good"]))
            self._last = [told, *([Text(applied.effect, MUTED)] if effect else [])]  # the effect only where it fits
        else:
            self._last = [Text.assemble((f"{asked.label}: ", TEXT), (f"refused{effect}", TONES["warn"]))]
        self.show(now)

    def fail(self, command_id: str, why: str, now: float) -> None:
        """Show that a wish could not even be written down."""
        asked = self.pending.pop(command_id, None)
        self.say(f"{asked.label if asked else 'command'}: {why}", "bad", now)

    def give_up(self, why: str, now: float) -> None:
        """Nobody is there to answer what is still pending: say so."""
        if self.pending:
            labels = ", ".join(asked.label for asked in self.pending.values())
            self.pending.clear()
            self.say(f"{labels}: {why}", "warn", now)

    def say(self, text: str, tone: Tone, now: float) -> None:
        """Show a sentence as the last answer; an empty one leaves none."""
        self._last = [Text(text, TONES[tone])] if text else []
        self.show(now)

    def show(self, now: float) -> None:
        """Draw the row; `now` is Unix seconds."""
        waiting = [
            Text.assemble((f"{asked.label}: ", TEXT), (f"asked {_since(now - asked.at)} ago…", TONES["warn"]))
            for asked in self.pending.values()
        ]
        fields = [*waiting[::-1], *self._last]
        width = max(20, self.content_size.width)
        if not fields:
            self.tell(Text("A key shows here as asked, then as applied. Leaving never stops training.", MUTED))
            return
        row = in_a_row(fields, width, gap=4)
        if not row.plain:
            row = fields[0].copy()
            row.truncate(width, overflow="ellipsis")
        self.tell(row)


def _since(seconds: float) -> str:
    return f"{max(0.0, seconds):.1f} s" if seconds < 10 else fmt.duration(seconds)
