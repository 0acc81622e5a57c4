"""Pane of Home with a row for each other host: its GPUs and what is free there, its runs, or why it is not asked."""

import math
from collections.abc import Sequence

from rich.text import Text

from engine.shared.gpus import free_bytes, machine_name
from tui import format as fmt
from tui.data.environment import GpuReadings
from tui.hosts.listing import HostListing
from tui.text import run_text
from tui.text.layout import in_a_row
from tui.theme import MUTED, TEXT, TONES, TRAIN
from tui.widgets.basic import ChangedStatic

_GAP = 3
"""Cells between columns."""
_SPARE_SHARE = 0.9
"""A GPU of whose memory at least so much is free is used by nobody worth mentioning."""


class OtherHosts(ChangedStatic):
    """The other hosts, a row each."""

    def on_mount(self) -> None:
        """Name the pane."""
        self.border_title = "other hosts"

    def show(self, listings: Sequence[HostListing]) -> None:
        """Draw what each host told last."""
        width = max(40, self.content_size.width)
        names = max((len(listing.name) for listing in listings), default=0)
        self.set_text(Text("\n", no_wrap=True).join([_row(listing, names, width) for listing in listings]))


def _row(listing: HostListing, names: int, width: int) -> Text:
    name = Text(f"{listing.name:<{names}}", TEXT if listing.line.is_up else MUTED)
    if not listing.line.is_up:
        why = listing.line.problem.removeprefix(f"{listing.name}: ") or "is asked …"
        return Text.assemble(name, " " * _GAP, (why, TONES["warn"] if listing.line.problem else MUTED))
    fields = [name]
    if listing.readings is not None:
        fields.append(gpus_in_short(listing.readings))
    live = sum(run_text.is_live(run.status) for run in listing.runs.values())
    fields.append(Text(f"{fmt.plural(live, 'run')} at work" if live else "nothing trains", TRAIN if live else MUTED))
    if listing.queue:
        idle = "" if listing.is_worked_on else ", but nothing works on it"
        fields.append(Text(f"{len(listing.queue)} waiting{idle}", TEXT if listing.is_worked_on else TONES["warn"]))
    problem = listing.problem or listing.queue_problem
    if problem:
        fields.append(Text(problem, TONES["bad"]))
    return in_a_row(fields, width, gap=_GAP)


def gpus_in_short(readings: GpuReadings) -> Text:
    """Return how many GPUs of a host are free, and of what kind they are."""
    gpus = readings.gpus
    if not gpus:
        return Text(f"no GPU, {fmt.plural(readings.num_cores, 'core')}", MUTED)
    free = 0
    for gpu in gpus:
        left = free_bytes(gpu)
        is_empty = left is None or left >= _SPARE_SHARE * (gpu.memory_total_bytes or math.inf)
        free += is_empty and machine_name(gpu) not in readings.taken
    kinds = {gpu.name for gpu in gpus}
    kind = next(iter(kinds)) if len(kinds) == 1 else "several kinds"
    return Text.assemble(
        (f"{free} of {fmt.plural(len(gpus), 'GPU')} free", TONES["good"] if free else MUTED), (f"  {kind}", MUTED)
    )
