"""Work that is cleaned up after, also if a signal ends the process meanwhile. No torch."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ENDS = (signal.SIGTERM, signal.SIGHUP)
_BY_DEFAULT = (signal.SIG_DFL, signal.default_int_handler)


@contextmanager
def cleaned_up(clean_up: Callable[[], object]) -> Iterator[None]:
    """Give the block a clean-up, called when it ends, also by Ctrl-C, SIGTERM or SIGHUP, which do not end that early.

    SIGTERM and SIGHUP raise SystemExit in the block where they would end the process at once: in the main thread, if
    nobody has given them another meaning.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in (*_ENDS, signal.SIGINT)}
        before = {number: handler for number, handler in handlers.items() if handler in _BY_DEFAULT}
    for number in before:
        if number in _ENDS:
            signal.signal(number, _end)
    try:
        yield
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        try:
            clean_up()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    """End the process as a shell reports of one that the signal has ended."""
    raise SystemExit(128 + number)
