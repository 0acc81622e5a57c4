"""Panes of the Monitor besides its plots and log: header, preparation, outcome, alerts, commands."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.cells import cell_len
from rich.text import Text

from engine.journal.eta import time_left
from engine.journal.events import Alerted, CommandApplied
from engine.journal.state import RunState, worked_s
from engine.runs.newer_info import not_understood
from engine.runs.run_dir import RunDir, RunInfo, Status
from tui import format as fmt
from tui.data.range_test import Verdict, in_words, verdict
from tui.data.reference import report_of
from tui.text import run_text
from tui.text.layout import bar, in_a_row, labelled, left_and_right
from tui.text.run_name import name_of, words_of_run
from tui.theme import GOOD, MUTED, REFERENCE, TEXT, TONES, TRAIN, VAL, Tone
from tui.widgets.basic import ChangedStatic


@dataclass(frozen=True)
class RunView:
    """The run under view, as its panes draw it. `now` is Unix seconds."""

    run: RunDir
    info: RunInfo
    state: RunState
    status: Status
    now: float

    @cached_property
    def range_test(self) -> Verdict | None:
        """Result of a range test so far; None for any other run."""
        return verdict(self.info.preset, self.state)


_GAP = "   "
_LEAST_NAME, _LEAST_TITLE = 28, 12
"""Columns that the name with its settings has beside a long title, and the title beside a long name."""


class RunHeader(ChangedStatic):
    """Four rows: title and status, progress and its cost, times and speeds, results."""

    def show(self, view: RunView) -> None:
        """Draw the header of `view`."""
        width = max(40, self.content_size.width)
        rows = [_title(view, width), _progress(view, width), _speeds(view, width), _results(view, width)]
        self.set_text(Text("\n", no_wrap=True).join(rows))


def _title(view: RunView, width: int) -> Text:
    tone = run_text.tone(view.status)
    if run_text.is_live(view.status) and view.state.is_stopping:
        tone = "warn"
    status = Text(run_text.status(view.status, view.state), f"bold {TONES[tone]}")
    newer = f" {run_text.newer(list(not_understood(view.info)))}".rstrip()
    title, name = view.info.preset.title, name_of(view.info)
    if words_of_run(view.info):  # which no long title may push out of the row
        room = width - status.cell_len - 1 - cell_len(newer) - len(_GAP)
        name = name_of(view.info, max(room - cell_len(title), min(_LEAST_NAME, cell_len(name))))
        title = fmt.cut(title, max(_LEAST_TITLE, room - cell_len(name)))
    left = Text.assemble((title, f"bold {TEXT}"), (f"{_GAP}{name}", MUTED), (newer, TONES["warn"]))
    return left_and_right(left, status, width)


def _progress(view: RunView, width: int) -> Text:
    state = view.state
    if not state.total_epochs or state.stage is None:
        text = Text("waiting for training to begin" if run_text.is_live(view.status) else "nothing was trained", MUTED)
        return Text.assemble(bar(0.0, max(8, width - text.cell_len - 2)), "  ", text)
    parts = [labelled("epoch", f"{state.epoch}/{state.total_epochs}")]
    if state.evaluation is not None:
        evaluation = state.evaluation
        parts.append(labelled(evaluation.split, f"{fmt.count(evaluation.done)}/{fmt.count(evaluation.total)} images"))
    elif not state.is_finished:
        parts.append(labelled("batch", f"{fmt.count(state.step)}/{fmt.count(state.stage.steps_per_epoch)}"))
    if state.stage.num_stages > 1:
        parts.insert(0, labelled("stage", f"{state.stage.stage + 1}/{state.stage.num_stages} {state.stage.name}"))
    parts.append(Text(f"{100 * state.share_done:3.0f} %", TEXT))
    if state.flops is not None:
        parts.append(Text(fmt.pflop(state.flops.pflop), TEXT))
    text = in_a_row(parts, width - 10, gap=2)
    color = (
        TRAIN if run_text.tone(view.status) == "good" and not state.is_finished else TONES[run_text.tone(view.status)]
    )
    return Text.assemble(bar(state.share_done, max(8, width - text.cell_len - 2), color), "  ", text)


def _speeds(view: RunView, width: int) -> Text:
    state, started = view.state, view.state.started
    fields = []
    is_live = run_text.is_live(view.status)
    worked = worked_s(state, view.now if is_live else state.last_time)
    if worked is not None:
        fields.append(labelled("elapsed" if is_live else "took", fmt.duration(worked)))
        if left := run_text.time_left(view.status, time_left(state)):
            fields.append(labelled("left", left))
    if state.images_per_s is not None and is_live:
        fields.append(labelled("", f"{fmt.count(state.images_per_s)} images/s"))
    if state.lr is not None:
        fields.append(labelled("lr", fmt.lr(state.lr)))
    if state.timing is not None and is_live:
        fields.append(labelled("step", run_text.step_split(state.timing)))
    if started is not None:
        fields.append(labelled("on", run_text.device_in_short(started)))
    return in_a_row(fields, width)


def _results(view: RunView, width: int) -> Text:
    state, report = view.state, report_of(view.info)
    fields = []
    test = view.range_test
    if test is not None:
        lr = f"{test.lr:g}" if test.lr is not None else "none" if state.is_finished else "not before the loss has risen"
        fields.append(labelled("suggested lr", lr, VAL if test.lr is not None else TEXT))
    elif state.best is not None:
        best = fmt.accuracy(state.best.val_top1, state.best.val_balanced)
        fields.append(labelled("best val", f"{best} (epoch {state.best.number})", VAL))
    elif not state.is_finished:
        fields.append(Text("no epoch validated yet", MUTED))
    if state.test is not None:
        fields.append(labelled("test", fmt.accuracy(state.test.test_top1, state.test.test_balanced), GOOD))
    elif test is None and run_text.has_no_test(state.data):
        fields.append(Text("no test part", MUTED))
    published = [
        f"{name} {fmt.percent(value, 1 if value * 1000 % 10 else 0)}"
        for name, value in (("val", report.val_top1), ("test", report.test_top1))
        if value is not None
    ]
    if published:
        fields.append(labelled(report.source, ", ".join(published), REFERENCE))
    if state.data is not None:
        fields.append(labelled("data", run_text.dataset(state.data), TONES["warn"] if state.data.generated else TEXT))
    elif view.info.preset.data.dataset == "shapes100":
        fields.append(labelled("data", run_text.generated("shapes100"), TONES["warn"]))
    return in_a_row(fields, width)


_BAR_WIDTH = 30


class Preparation(ChangedStatic):
    """Worker, data, network, training: each done, under way or waiting."""

    def show(self, view: RunView) -> None:
        """Draw how far the preparation of `view` is."""
        rows = [self._worker(view), self._data(view), self._network(view), self._training(view)]
        names = ("worker", "data", "network", "training")
        lines = [Text.assemble((f"{name:<10}", MUTED), row) for name, row in zip(names, rows, strict=True)]
        progress = view.state.data_progress
        if progress is not None and progress.total > 0 and view.status == "data":
            row = lines[1 if view.state.data is None else 3]  # the data is there: features are computed of it
            row.append("\n" + " " * 10).append_text(bar(progress.done / progress.total, _BAR_WIDTH))
        self.set_text(Text("\n\n").join(lines))

    def _worker(self, view: RunView) -> Text:
        started = view.state.started
        if started is None:
            if not run_text.is_live(view.status):
                return Text("ended before it began", TONES["bad"])
            return Text(f"starting: {run_text.LOADING}", TRAIN)
        return Text(f"started on {run_text.machine(started)}, {run_text.device(started)}", GOOD)

    def _data(self, view: RunView) -> Text:
        state = view.state
        if state.data is not None:
            images = f"{fmt.count(state.data.num_train)} train, {fmt.count(state.data.num_val)} val images"
            return Text(f"{run_text.dataset(state.data)}, {images}", GOOD)
        if state.data_progress is not None:
            return Text(run_text.progress(state.data_progress), TRAIN)
        return _waiting(view)

    def _network(self, view: RunView) -> Text:
        model = view.state.model
        if model is not None:
            return Text(run_text.network(model), GOOD)
        return Text("building the model", TRAIN) if view.status == "model" else _waiting(view)

    def _training(self, view: RunView) -> Text:
        stage = view.state.stage
        if stage is None:
            return _waiting(view)
        text = f"{run_text.length(stage)}: the first batch is under way"
        if view.status == "data" and view.state.data_progress is not None:
            text = f"{run_text.length(stage)}: {run_text.progress(view.state.data_progress)}"
        return Text(text, TRAIN if run_text.is_live(view.status) else TEXT)


def _waiting(view: RunView) -> Text:
    return Text("waits" if run_text.is_live(view.status) else "not reached", MUTED)


class OutcomeNotice(ChangedStatic):
    """Takes no room while training goes well."""

    def show(
        self,
        view: RunView,
        log_tail: tuple[str, ...],
        num_log_lines: int,
        *,
        resume_key: str,
        again_key: str,
        images_key: str,
    ) -> None:
        """Draw the outcome of `view`; `log_tail` is shown only if something went wrong."""
        wanted = not run_text.is_live(view.status) or view.status == "stalled"
        self.display = wanted
        if not wanted:
            return
        outcome = run_text.outcome(view.status, view.state, resume_key, again_key)
        text = Text.assemble((outcome, f"bold {TONES[run_text.tone(view.status)]}"))
        test = view.range_test
        if test is not None and test.points:
            text.append(f"\n{in_words(test.suggestion)}", VAL if test.lr is not None else TEXT)
        saved = view.run.best
        if "best" in view.state.checkpoints:
            text.append("\nbest weights  ", MUTED).append(str(saved), TEXT)
            if view.status in {"completed", "stopped"}:
                text.append(f"\n{run_text.to_look_into(view.run.id, images_key)}", MUTED)
        if view.status in {"failed", "lost"}:
            errors = [alert for alert in view.state.alerts if alert.severity == "error"]
            text.append_text(_advice(errors[-1:]))
            text.append("\nlast lines of worker.log", MUTED)
            for line in log_tail[-num_log_lines:] or ("(it is empty)",):
                text.append("\n  " + line, MUTED)
        self.set_text(text)


def _advice(alerts: list[Alerted]) -> Text:
    text = Text()
    for alert in alerts:
        text.append(f"\n{run_text.warning(alert)}", TONES["bad"])
    return text


_FRESH_S = 600.0
"""For so long a warning keeps its row where rows are few."""


class Alerts(ChangedStatic):
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
        self.set_text(Text("\n", no_wrap=True).join(rows))


@dataclass
class _Sent:
    label: str
    at: float


class CommandStrip(ChangedStatic):
    """Row with the commands that have no answer yet, and the last answer; of a run that is over, what can come next."""

    def __init__(self) -> None:
        super().__init__(id="strip")
        self.pending: dict[str, _Sent] = {}
        self._last: list[Text] = []
        self._next: Sequence[str] = ()

    def offer(self, ways: Sequence[str], now: float) -> None:
        """Show what can come next, where there is nothing else to show: as much as fits, in this order."""
        if ways != self._next:
            self._next = ways
            self.show(now)

    def add(self, command_id: str, label: str, now: float) -> None:
        """Show a command as pending."""
        self.pending[command_id] = _Sent(label, now)
        self.show(now)

    def answer(self, applied: CommandApplied, now: float) -> None:
        """Show that a command was applied or refused, if it was sent from here."""
        sent = self.pending.pop(applied.command_id, None)
        if sent is None:
            return
        at = f"applied at step {fmt.count(applied.global_step)}"
        effect = "" if applied.effect.lower() in {"", sent.label.lower()} else f" ({applied.effect})"
        if applied.accepted:
            self._last = [Text.assemble((f"{sent.label}: ", TEXT), (at, TONES["good"]))]
            self._last += [Text(applied.effect, MUTED)] if effect else []  # drawn only if it fits
        else:
            self._last = [Text.assemble((f"{sent.label}: ", TEXT), (f"refused{effect}", TONES["warn"]))]
        self.show(now)

    def fail(self, command_id: str, why: str, now: float) -> None:
        """Show that a command could not be written."""
        sent = self.pending.pop(command_id, None)
        self.say(f"{sent.label if sent else 'command'}: {why}", "bad", now)

    def give_up(self, why: str, now: float) -> None:
        """Show that the pending commands get no answer, because the run ended."""
        if self.pending:
            labels = ", ".join(sent.label for sent in self.pending.values())
            self.pending.clear()
            self.say(f"{labels}: {why}", "warn", now)

    def say(self, text: str, tone: Tone, now: float) -> None:
        """Show a sentence as the last answer; an empty one leaves none."""
        self._last = [Text(text, TONES[tone])] if text else []
        self.show(now)

    def show(self, now: float) -> None:
        """Draw the row; `now` is Unix seconds."""
        waiting = [
            Text.assemble((f"{sent.label}: ", TEXT), (f"asked {_since(now - sent.at)} ago…", TONES["warn"]))
            for sent in self.pending.values()
        ]
        fields = [*waiting[::-1], *self._last]
        width = max(20, self.content_size.width)
        if not fields and self._next:
            fields = [Text(way, MUTED) for way in (f"Next: {self._next[0]}", *self._next[1:])]
        if not fields:
            self.set_text(Text("A key shows here as asked, then as applied. Leaving never stops training.", MUTED))
            return
        row = in_a_row(fields, width, gap=4)
        if not row.plain:
            row = fields[0].copy()
            row.truncate(width, overflow="ellipsis")
        self.set_text(row)


def _since(seconds: float) -> str:
    return f"{max(0.0, seconds):.1f} s" if seconds < 10 else fmt.duration(seconds)
