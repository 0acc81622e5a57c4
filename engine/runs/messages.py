"""Messages about a run for somebody who is away: their content and wording. No network, no clock of its own.

Text of files goes in with a sign for every control character and newline: no text adds a line or a header.
"""

import re
import socket
import time
from typing import Literal, TypeAlias

from msgspec import Struct

from engine.journal.events import Alerted, RunFinished
from engine.journal.outline import read_outline
from engine.journal.state import EpochPoint, RunState
from engine.runs.notify_settings import Kind
from engine.runs.run_dir import RunDir, RunInfo
from presets.safe_text import visible_in_a_row

_LONGEST_TITLE, _LONGEST_TEXT = 120, 1200
_SEPARATORS = re.compile("[\u2028\u2029]")
"""Ends of lines for Unicode, which no terminal obeys."""
ALERTS: dict[str, Kind] = {"stall": "stall", "non-finite-loss": "nan", "plateau": "plateau"}
"""Kinds of alerts in the journal that are told, as the configuration calls them."""
_WORDS: dict[str, str] = {
    "failure": "failed",
    "stall": "stalled",
    "nan": "the loss is no number",
    "plateau": "no better for a while",
    "lost": "worker lost",
    "test": "test",
}
_Told: TypeAlias = Literal["test"] | Kind


class Message(Struct, frozen=True, kw_only=True):
    """One message; every field is one line."""

    kind: _Told
    title: str
    """Preset and what became of the run."""
    text: str
    """The event, in a sentence or two."""
    value: str
    """The run's standing: its accuracies, or its epoch and the best one so far."""
    run: str
    host: str
    time: float
    """Unix seconds of what happened."""
    variables: dict[str, str] = {}
    """Besides these fields, for a command: without the prefix CIFARTUI_."""

    @property
    def body(self) -> str:
        """All but the title, a line each."""
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.time))
        return "\n".join(line for line in (self.text, self.value, f"{self.run} on {self.host}, {when}") if line)


def of_end(folder: RunDir, info: RunInfo, finished: RunFinished) -> Message:
    """Return the message that a run has ended."""
    state = _state(folder)
    accuracies = [
        f"{name} {_percent(value)}"
        for name, value in (
            ("validation", finished.best_val_top1),
            ("balanced", finished.best_val_balanced),
            ("test", finished.test_top1),
            ("test balanced", finished.test_balanced),
        )
        if value is not None
    ]
    variables = {
        "OUTCOME": finished.outcome,
        "BEST_VAL": _fraction(finished.best_val_top1),
        "TEST": _fraction(finished.test_top1),
        "BEST_VAL_BALANCED": _fraction(finished.best_val_balanced),
        "TEST_BALANCED": _fraction(finished.test_balanced),
    }
    return _message(
        folder,
        info,
        "failure" if finished.outcome == "failed" else "end",
        finished.outcome,
        finished.reason,
        ", ".join(accuracies) if accuracies else _place(state),
        finished.time,
        variables,
    )


def of_alert(folder: RunDir, info: RunInfo, kind: Kind, alert: Alerted) -> Message:
    """Return the message of an alert in the journal."""
    state = _state(folder)
    text = f"{alert.text} {alert.advice}".strip()
    return _message(folder, info, kind, _WORDS[kind], text, _place(state), alert.time, _of_state(state))


def of_silence(folder: RunDir, info: RunInfo, kind: Kind, text: str, now: float) -> Message:
    """Return the message of what no event tells: a worker that is gone, or silent, at `now` (Unix seconds)."""
    state = _state(folder)
    return _message(folder, info, kind, _WORDS[kind], text, _place(state), now, _of_state(state))


def of_test(now: float) -> Message:
    """Return the message of `cifartui notify test`."""
    return Message(
        kind="test",
        title="cifartui: test",
        text="This is a test: messages about your runs will come this way.",
        value="",
        run="no run",
        host=socket.gethostname(),
        time=now,
        variables={"RUN": "", "RUN_ID": "", "OUTCOME": "", "TITLE": "cifartui", "BEST_VAL": "", "TEST": ""},
    )


def _message(
    folder: RunDir, info: RunInfo, kind: Kind, word: str, text: str, value: str, when: float, about: dict[str, str]
) -> Message:
    preset = _line(info.preset.title, _LONGEST_TITLE)
    empty = {"OUTCOME": "", "BEST_VAL": "", "TEST": "", "BEST_VAL_BALANCED": "", "TEST_BALANCED": ""}
    return Message(
        kind=kind,
        title=f"{preset}: {word}",
        text=_line(text, _LONGEST_TEXT),
        value=value,
        run=_line(folder.id, _LONGEST_TITLE),
        host=socket.gethostname(),
        time=when,
        variables={"RUN": str(folder.path), "RUN_ID": folder.id, "TITLE": preset, **empty, **about},
    )


def _line(text: str, longest: int) -> str:
    """Return a text from a file as one line, which no sender takes for two."""
    safe = _SEPARATORS.sub("\ufffd", visible_in_a_row(text.strip()))
    return safe if len(safe) <= longest else f"{safe[: longest - 1]}…"


def _state(folder: RunDir) -> RunState:
    """Return a run's outline; an empty one where the journal cannot be read."""
    try:
        return read_outline(folder.events)
    except OSError:
        return RunState()


def _of_state(state: RunState) -> dict[str, str]:
    best = state.best
    return {"BEST_VAL": _fraction(best.val_top1)} if best is not None else {}


def _place(state: RunState) -> str:
    """Return where a run stands."""
    if not state.epoch:
        return "before the first epoch"
    of_all = f" of {state.total_epochs}" if state.total_epochs else ""
    return f"epoch {state.epoch}{of_all}{_best(state.best)}"


def _best(best: EpochPoint | None) -> str:
    if best is None:
        return ""
    kind = "balanced " if best.best_by == "val_balanced" else ""
    return f", best {kind}validation accuracy {_percent(best.score)} (epoch {best.number})"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _fraction(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
