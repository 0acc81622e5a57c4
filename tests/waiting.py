"""Waiting for what another process does: for conditions, never for a fixed time."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 120.0


def wait_for(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Return the first true value of `condition`; fail with `what` where none comes."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)  # between looks at another process; nothing depends on its length
    raise AssertionError(f"waited {patience_s:.0f} s in vain for: {what}")
