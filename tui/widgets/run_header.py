"""The top of the Monitor: what runs, how it is doing, how far it is, how long it will take."""

from dataclasses import dataclass
from functools import cached_property

from rich.text import Text

from engine.journal.state import RunState, worked_s
from engine.runs.run_dir import RunFolder, RunInfo, Status
from tui import format as fmt
from tui.data.range_test import Verdict, verdict
from tui.text import run_text
from tui.text.layout import in_a_row, labelled, left_and_right
from tui.theme import FAINT, GOOD, MUTED, REFERENCE, TEXT, TONES, TRAIN, VAL
from tui.widgets.basic import Quiet


@dataclass(frozen=True)
class RunView:
    """All that a widget may know of the run under view. `now` is Unix seconds."""

    run: RunFolder
    info: RunInfo
    state: RunState
    status: Status
    now: float

    @cached_property
    def range_test(self) -> Verdict | None:
        """What a range test says so far; None of any other run."""
        return verdict(self.info.preset, self.state)


class RunHeader(Quiet):
    """Four rows: title and status, progress, times and speeds, results."""

    def show(self, view: RunView) -> None:
        """Draw the header of `view`."""
        width = max(40, self.content_size.width)
        rows = [_title(view, width), _progress(view, width), _speeds(view, width), _results(view, width)]
        self.tell(Text("\n", no_wrap=True).join(rows))


def _title(view: RunView, width: int) -> Text:
    left = Text.assemble((view.info.preset.title, f"bold {TEXT}"), (f"   {fmt.short_id(view.info.id)}", MUTED))
    tone = run_text.tone(view.status)
    if run_text.is_live(view.status) and view.state.is_stopping:
        tone = "warn"
    return left_and_right(left, Text(run_text.status(view.status, view.state), f"bold {TONES[tone]}"), width)


def _progress(view: RunView, width: int) -> Text:
    state = view.state
    if not state.total_epochs or state.stage is None:
        said = Text("waiting for training to begin" if run_text.is_live(view.status) else "nothing was trained", MUTED)
        return Text.assemble(_bar(0.0, max(8, width - said.cell_len - 2)), "  ", said)
    parts = [labelled("epoch", f"{state.epoch}/{state.total_epochs}")]
    if state.evaluation is not None:
        evaluation = state.evaluation
        parts.append(labelled(evaluation.split, f"{fmt.count(evaluation.done)}/{fmt.count(evaluation.total)} images"))
    elif not state.is_finished:
        parts.append(labelled("batch", f"{fmt.count(state.step)}/{fmt.count(state.stage.steps_per_epoch)}"))
    if state.stage.num_stages > 1:
        parts.insert(0, labelled("stage", f"{state.stage.stage + 1}/{state.stage.num_stages} {state.stage.name}"))
    parts.append(Text(f"{100 * state.share_done:3.0f} %", TEXT))
    said = in_a_row(parts, width - 10, gap=2)
    color = (
        TRAIN if run_text.tone(view.status) == "good" and not state.is_finished else TONES[run_text.tone(view.status)]
    )
    return Text.assemble(_bar(state.share_done, max(8, width - said.cell_len - 2), color), "  ", said)


def _bar(fraction: float, width: int, color: str = TRAIN) -> Text:
    full = round(min(1.0, max(0.0, fraction)) * width)
    return Text.assemble(("━" * full, color), ("━" * (width - full), FAINT))


def _speeds(view: RunView, width: int) -> Text:
    state, started = view.state, view.state.started
    fields = []
    is_live = run_text.is_live(view.status)
    worked = worked_s(state, view.now if is_live else state.last_time)
    if worked is not None:
        fields.append(labelled("elapsed" if is_live else "took", fmt.duration(worked)))
        if left := run_text.time_left(view.status, state.eta_s):
            fields.append(labelled("left", left))
    if state.images_per_s is not None and is_live:
        fields.append(labelled("", f"{fmt.count(state.images_per_s)} images/s"))
    if state.lr is not None:
        fields.append(labelled("lr", fmt.lr(state.lr)))
    if state.timing is not None and is_live:
        fields.append(labelled("step", run_text.step_split(state.timing)))
    if started is not None:
        cpu = f"CPU, {started.num_threads} threads"
        device = cpu if started.device == "cpu" else f"{started.device} {started.device_name}"
        fields.append(labelled("on", f"{run_text.times(started)}{device}, {started.precision}"))
    return in_a_row(fields, width)


def _results(view: RunView, width: int) -> Text:
    state, report = view.state, view.info.preset.report
    fields = []
    test = view.range_test
    if test is not None:
        lr = f"{test.lr:g}" if test.lr is not None else "none" if state.is_finished else "not before the loss has risen"
        fields.append(labelled("suggested lr", lr, VAL if test.lr is not None else TEXT))
    elif state.best is not None:
        fields.append(labelled("best val", f"{fmt.percent(state.best.val_top1)} (epoch {state.best.number})", VAL))
    elif not state.is_finished:
        fields.append(Text("no epoch validated yet", MUTED))
    if state.finished is not None and state.finished.test_top1 is not None:
        fields.append(labelled("test", fmt.percent(state.finished.test_top1), GOOD))
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
        fields.append(labelled("data", "shapes100 (generated data)", TONES["warn"]))
    return in_a_row(fields, width)
