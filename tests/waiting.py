"""Waiting for what another process does: for conditions, never for a fixed time."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 120.0
_SHORTEST_REST_S = 0.02
_REST_PER_LOOK = 4
"""A condition that reads a whole journal would otherwise take the processor from what it waits for."""


def wait_for(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Return the first true value of `condition`; fail with `what` where none comes."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        before = time.thread_time()
        if value := condition():
            return value
        # between looks at another process; nothing depends on its length
        time.sleep(max(_SHORTEST_REST_S, _REST_PER_LOOK * (time.thread_time() - before)))
    raise AssertionError(f"waited {patience_s:.0f} s in vain for: {what}")
