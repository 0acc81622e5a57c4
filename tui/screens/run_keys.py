"""Keys of the Monitor that act on its run: the command that each sends, and why it has no effect now. No widgets."""

from collections.abc import Callable

from textual.binding import Binding, BindingType

from engine.journal.commands import (
    Abort,
    Command,
    NextStage,
    Pause,
    SaveCheckpoint,
    ScaleLearningRate,
    Stop,
    Validate,
)
from engine.journal.state import RunState
from engine.runs.run_dir import RunInfo, Status
from presets.safe_text import visible_in_a_row
from tui import format as fmt
from tui.data.range_test import NO_WEIGHTS, is_range_test
from tui.text import run_text

RUN_KEYS: list[BindingType] = [
    Binding("s", "stop('batch')", "stop", id="monitor.stop",
            tooltip="stop after this batch: validate, test the best weights"),
    Binding("e", "stop('epoch')", "after epoch", id="monitor.stop_after_epoch", tooltip="stop after this epoch"),
    Binding("n", "next_stage", "next", id="monitor.next_stage", tooltip="end this stage, begin the next one"),
    Binding("p", "pause", "pause", id="monitor.pause", tooltip="pause, and continue"),
    Binding("c", "checkpoint", "save", id="monitor.checkpoint", tooltip="write a checkpoint now"),
    Binding("v", "validate", "validate", id="monitor.validate", tooltip="measure the validation set now"),
    Binding("left_square_bracket", "scale_lr(0.5)", "lr ×½", key_display="[", id="monitor.halve_lr",
            tooltip="halve the learning rate"),
    Binding("right_square_bracket", "scale_lr(2.0)", "lr ×2", key_display="]", id="monitor.double_lr",
            tooltip="double the learning rate"),
    Binding("X", "abort", "abort", id="monitor.abort", tooltip="abort: end at once (asks first)"),
    Binding("r", "resume", "resume", id="monitor.resume", tooltip="resume a run that has no worker"),
    Binding("R", "resume_changed", "resume with…", id="monitor.resume_changed",
            tooltip="resume with changes: more epochs, another lr"),
    Binding("a", "start_again", "start again", id="monitor.start_again",
            tooltip="start a run anew that has ended, with its settings filled in, to change one"),
]  # fmt: skip
"""Keys that send the run a command, resume it, or start it anew. Their actions are methods of the Monitor."""
SENT_BY: dict[str, type[Command]] = {
    "stop": Stop, "next_stage": NextStage, "pause": Pause, "checkpoint": SaveCheckpoint, "validate": Validate,
    "scale_lr": ScaleLearningRate, "abort": Abort,
}  # fmt: skip
"""Command that an action sends to the worker (Continue too, if it is paused)."""


def sent_by(binding: Binding) -> type[Command] | None:
    """Return the command that a key sends to the worker; None for a key that resumes or starts a run."""
    return SENT_BY.get(binding.action.partition("(")[0])


def idle_actions(info: RunInfo | None, state: RunState, *, is_live: bool) -> frozenset[str]:
    """Return the actions without effect now: not offered, and answered with the reason."""
    keys = [(each.action, sent_by(each)) for each in Binding.make_bindings(RUN_KEYS)]
    of_a_run_at_rest = {action for action, command in keys if command is None}
    resumes = of_a_run_at_rest - {"start_again"}
    idle = set() if "best" in state.checkpoints else {"images"}
    if not has_stages(info):
        idle.add("next_stage")
    if info is not None and is_range_test(info.preset):
        useless = {action for action, command in keys if command is not None and not command.in_range_test}
        idle |= resumes | useless | {"smoothing", "x_axis"}
    if not state.checkpoints:
        idle |= resumes
    if is_live:
        return frozenset(idle | of_a_run_at_rest)
    return frozenset(idle | {action for action, command in keys if command is not None})


def has_stages(info: RunInfo | None) -> bool:
    """Return whether a run has more than one stage; False before it is read."""
    return info is not None and len(info.preset.stages) > 1


def why_not_sent(info: RunInfo | None, state: RunState, status: Status, key_of: Callable[[str, str], str]) -> str:
    """Return why a run without a live worker takes no command, and what to do instead.

    Args:
        info: None while the run is still being read.
        state: of the run.
        status: of the run.
        key_of: returns the key of a binding: `CifartuiApp.key_of`.
    """
    if info is None:
        return "the run is still being read; try again in a moment."
    if is_range_test(info.preset):
        return f"this range test is over ({run_text.status(status, state)}); Esc goes Home."
    if not state.checkpoints:
        remedy = f"{again_key(key_of)} starts it anew"
    elif status == "completed":
        remedy = f"{key_of('monitor.resume_changed', 'R')} trains it for more epochs"
    else:
        remedy = f"{key_of('monitor.resume', 'r')} resumes it"
    if status == "completed":
        return f"this run is completed; {remedy}, Esc goes Home."
    return f"this run has no worker ({run_text.status(status, state)}); {remedy}."


def why_not_resumed(info: RunInfo | None, state: RunState, key_of: Callable[[str, str], str], *, is_live: bool) -> str:
    """Return why a run cannot be resumed, and what to do instead; nothing if it can be."""
    if info is not None and is_range_test(info.preset):
        return f"{NO_WEIGHTS}; {again_key(key_of)} starts it anew"
    if is_live:
        return "this run has its worker already"
    if not state.checkpoints:
        return f"this run has no checkpoint to go on from; {again_key(key_of)} starts it anew"
    return ""


def next_ways(
    info: RunInfo | None, state: RunState, status: Status, key_of: Callable[[str, str], str], *, is_here: bool
) -> tuple[str, ...]:
    """Return what can be done with a run that is over, most likely first; nothing of a live one.

    Args:
        info: None while the run is still being read.
        state: of the run.
        status: of the run.
        key_of: returns the key of a binding: `CifartuiApp.key_of`.
        is_here: it is a run of this machine, which commands can name.
    """
    if info is None or run_text.is_live(status):
        return ()
    if is_range_test(info.preset):
        return (f"{again_key(key_of)} tests again",)
    ways = []
    if state.checkpoints:
        more = f"{key_of('monitor.resume_changed', 'R')} trains for more epochs"
        ways.append(more if status == "completed" else f"{key_of('monitor.resume', 'r')} resumes")
    ways.append(f"{again_key(key_of)} starts anew")
    if is_here and "best" in state.checkpoints:
        ways.append(f"cifartui predict {visible_in_a_row(fmt.short_id(info.id))} PATH says what other images show")
    return tuple(ways)


def again_key(key_of: Callable[[str, str], str]) -> str:
    """Return the key that starts a run anew."""
    return key_of("monitor.start_again", "a")
