"""What a run that is over, or silent, has to say: the outcome, the advice, and the worker's last words."""

from rich.text import Text

from engine.journal.events import Alerted
from tui.data.range_test import in_words
from tui.text import run_text
from tui.theme import MUTED, TEXT, TONES, VAL
from tui.widgets.basic import Quiet
from tui.widgets.run_header import RunView


class Notice(Quiet):
    """Takes no room while training goes well."""

    def show(self, view: RunView, log_tail: tuple[str, ...], num_log_lines: int, resume_key: str) -> None:
        """Draw the outcome of `view`; `log_tail` is told only where something went wrong."""
        wanted = not run_text.is_live(view.status) or view.status == "stalled"
        self.display = wanted
        if not wanted:
            return
        outcome = run_text.outcome(view.status, view.state, resume_key)
        text = Text.assemble((outcome, f"bold {TONES[run_text.tone(view.status)]}"))
        test = view.range_test
        if test is not None and test.points:
            text.append(f"\n{in_words(test.suggestion)}", VAL if test.lr is not None else TEXT)
        saved = view.run.best
        if "best" in view.state.checkpoints:
            text.append("\nbest weights  ", MUTED).append(str(saved), TEXT)
        if view.status in {"failed", "lost"}:
            errors = [alert for alert in view.state.alerts if alert.severity == "error"]
            text.append_text(_advice(errors[-1:]))
            text.append("\nlast lines of worker.log", MUTED)
            for line in log_tail[-num_log_lines:] or ("(it is empty)",):
                text.append("\n  " + line, MUTED)
        self.tell(text)


def _advice(alerts: list[Alerted]) -> Text:
    text = Text()
    for alert in alerts:
        text.append(f"\n{alert.text} {alert.advice}".rstrip(), TONES["bad"])
    return text
