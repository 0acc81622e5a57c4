"""The single rows of Home, in words: filter and marks, the queue, and what a first-time user can do."""

from rich.text import Text

from presets.problems import printable
from tui.data.environment import Queued
from tui.theme import MUTED, TEXT, TONES, TRAIN


def matches(num_found: int, num_all: int) -> Text:
    """Return how many presets the filter found."""
    return Text(f"{num_found} of {num_all}", MUTED if num_found else TONES["warn"])


def marks(number: int) -> Text:
    """Return how many presets are marked, and what to do with them."""
    return Text.assemble((f"{number} marked: ", TRAIN), ("Enter queues", MUTED), no_wrap=True)


def queue(queued: Queued) -> Text:
    """Return the queue in a row; nothing where it is empty."""
    if queued.problem:
        return Text.assemble(("queue: ", MUTED), (queued.problem, TONES["bad"]))
    if not queued.names:
        return Text("")
    idle = "" if queued.is_worked_on else ", but nothing works on it"
    return Text.assemble(
        ("queue: ", MUTED), (f"{len(queued.names)} waiting{idle}", TONES["calm" if queued.is_worked_on else "warn"]),
        (", next ", MUTED), (printable(queued.names[0]), TEXT), ("   Q", TRAIN), (" shows it", MUTED),
        no_wrap=True, overflow="ellipsis",
    )  # fmt: skip


def no_runs(num_runs: int | None, has_cifar: bool | None, has_gpu: bool | None) -> Text:
    """Return what is said where no run is listed.

    Args:
        num_runs: how many there are; None before they were looked for.
        has_cifar: whether CIFAR-100 was found; None before it was looked for.
        has_gpu: whether there is a GPU; None before that was read.
    """
    if num_runs is None:
        return Text("looking for runs …", MUTED)
    if num_runs:
        return Text("No run can be read: cifartui runs says why.", TONES["warn"])
    lacking = " and ".join(
        [*(["no CIFAR-100 found"] if has_cifar is False else []), *(["no GPU"] if has_gpu is False else [])]
    )
    if not lacking:
        return Text("No runs yet. Press Enter to start the highlighted preset; demo needs no data.", MUTED)
    return Text.assemble(
        (f"No runs yet, {lacking}. New here? Press ", MUTED), ("d", f"bold {TRAIN}"),
        (": demo trains at once, on images that it generates, in minutes even on a CPU.", MUTED),
    )  # fmt: skip
