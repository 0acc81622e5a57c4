"""Looking up the facts of presets, and asking for those that are not known. Runs in a thread of its own."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from presets.errors import CifartuiError
from presets.schema import Preset
from tui.data.environment import Surroundings
from tui.data.network_facts import Facts

PATIENCE_S = 0.6
"""So long nothing is asked for: the cursor moves on, or another digit is typed."""

Found: TypeAlias = Sequence[Facts | str | None]
"""For each preset its facts, a sentence that says why there are none, or None while they are being computed."""


def look_up(
    presets: Sequence[Preset],
    data_dir: str | None,
    surroundings: Surroundings,
    stop: threading.Event,
    tell: Callable[[Found], object],
) -> None:
    """Tell what is known of `presets` at once, and all of it when it has been computed, unless `stop` is set."""
    known = surroundings.known_facts(presets, data_dir)
    if stop.is_set():
        return
    tell(known)
    missing = [preset for preset, found in zip(presets, known, strict=True) if found is None]
    if not missing or stop.wait(PATIENCE_S):
        return
    try:
        computed = surroundings.compute_facts(missing, data_dir, stop)
    except CifartuiError as error:
        computed = [str(error)] * len(missing)
    if not stop.is_set():
        rest = iter(computed)
        tell([found if found is not None else next(rest) for found in known])
