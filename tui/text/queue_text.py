"""Text of the queue, as rows and sentences, for the screen and the command line. No file access."""

from collections.abc import Sequence

from msgspec import Struct

from engine.queue.allocation import QueuePosition
from engine.queue.queue_file import Entry
from engine.runs.worker_mark import WorkerMark
from presets.problems import printable
from tui import format as fmt
from tui.text.run_name import Words, words_of


class Row(Struct, frozen=True, kw_only=True):
    """An entry of the queue and what it waits for."""

    number: int
    """Its place, from 1."""
    id: str
    preset_name: str
    overrides: tuple[str, ...]
    seed: int
    device: str
    devices: int
    data_dir: str | None
    state: str
    """"next", "waits for RUN", "waits for a GPU" or "after NUMBER"."""
    waits_for: str | None
    """Id of a run that holds what it waits for."""
    group: str = ""
    """Id that it shares with entries of other seeds; empty if it stands alone."""


def rows_of(entries: Sequence[Entry], positions: Sequence[QueuePosition]) -> list[Row]:
    """Return a row for each entry, at its place in `positions`."""
    return [
        Row(
            number=number,
            id=entry.id,
            preset_name=entry.preset_name,
            overrides=entry.overrides,
            seed=entry.seed,
            device=entry.device,
            devices=entry.devices,
            data_dir=entry.data_dir,
            state=_state(position),
            waits_for=position.waits_for[0].id if position.waits_for else None,
            group=entry.group,
        )
        for number, (entry, position) in enumerate(zip(entries, positions, strict=True), 1)
    ]


def _state(position: QueuePosition) -> str:
    if position.after is not None:
        return f"after {position.after}"
    if not position.waits_for:
        return "next"
    return f"waits for {fmt.short_id(position.waits_for[0].id)}" if len(position.waits_for) == 1 else "waits for a GPU"


def name(row: Row | Entry) -> str:
    """Return the preset's name as any terminal can show it."""
    return printable(row.preset_name)


def changes(row: Row | Entry) -> str:
    """Return what is not as the preset has it, in a few words; nothing where all is."""
    seed = [f"seed {row.seed}"] if row.seed or row.group else []
    devices = [f"on {row.devices} devices"] if row.devices > 1 else []
    return printable(" ".join([*row.overrides, *seed, *devices]), longest=500)


def words(row: Row | Entry) -> Words:
    """Return what is not as the preset has it, in short words, for a column."""
    devices = (f"on {row.devices} devices",) if row.devices > 1 else ()
    return (*words_of(row.overrides, row.seed, row.group), *devices)


def described(entry: Entry) -> str:
    """Return an entry in a sentence: its preset and, in brackets, what is changed."""
    changed = changes(entry)
    return name(entry) + (f" ({changed})" if changed else "")


def runner(lives: bool, mark: WorkerMark | None) -> str:
    """Return who starts what waits, in a few words."""
    if not lives:
        return "no runner is alive"
    who = f" (process {mark.pid} on {printable(mark.host)})" if mark is not None else ""
    return f"the runner is at work{who}"


NO_RUNNER = "Nothing here is started while no runner is alive (was the machine restarted?)."
