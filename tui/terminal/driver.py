"""Terminal driver: Textual's own, with a screen diff before the terminal and `Keyboard` behind it; ends in order."""

import errno
import os
import selectors
import signal
import sys
import termios
import threading
import time
from contextlib import suppress
from typing import Any, NoReturn

from textual.drivers.linux_driver import LinuxDriver
from textual.events import MouseEvent
from textual.message import Message

from presets.safe_text import visible
from tui.terminal.keyboard import Keyboard
from tui.terminal.output import ScreenOutput
from tui.terminal.screen_diff import ScreenDiff

_ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT)
_ENDS_WITHIN_S = 3.0
_LAST_WORD_S = 0.5
"""For so long a terminal that takes nothing is asked to take what restores it."""
_LOOK_EVERY_S = 0.1
_READ_BYTES = 4096
_GONE = (errno.EIO, errno.ENXIO)
"""Errors of a write to a terminal that hung up."""
_LEAST_SIZE = (80, 24)
"""Columns and lines taken where the terminal says 0: a serial line, a container without a size."""
_NO_PIXELS = "\x1b[?1016l"
"""Ends mouse reports in pixels, which Textual forgets."""
_ALL_OFF = (
    "\x1b[?2026l\x1b[?2004l\x1b[?7h\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1004l"
    f"{_NO_PIXELS}\x1b[?2048l\x1b[<u\x1b[m\x1b[?1049l\x1b[?25h"
)


class DiffDriver(LinuxDriver):
    """Textual's own driver with a `ScreenDiff` before the terminal and a `Keyboard` behind it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._size = self._size or self._get_terminal_size()  # else the app asks Rich, which takes 25 lines for 0
        self.wire = ScreenDiff()
        self._file: Any = ScreenOutput(self._on_refusal)
        self.ended_by: int | None = None
        """Number of the signal that ended the dashboard."""
        self._is_on = self._is_stopping = False
        self._is_restored = True
        """False from the first byte sent until the last one of those that restore the terminal has left."""
        self._terminal_before: list[Any] | None = None
        signal.signal(signal.SIGTSTP, lambda *_: self._soon(self._stop))
        signal.signal(signal.SIGCONT, lambda *_: self._soon(self._go_on) if not self._is_stopping else None)
        for number in _ENDS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, self._on_end)

    # --- output ----------------------------------------------------------------------------------

    def write(self, data: str) -> None:
        """Send what `data` changes, as long as there is a terminal."""
        thinned = self.wire.diff(data)
        if thinned and self._writer_thread is not None and self._writer_thread.is_alive():
            super().write(thinned)

    def _on_refusal(self, error: OSError) -> None:
        """End by what the terminal answered to a write: it hung up, or a fault that is told as every thread's."""
        if error.errno in _GONE:
            self._soon(self._end, signal.SIGHUP)
        else:
            told = (type(error), error, error.__traceback__, threading.current_thread())
            threading.excepthook(threading.ExceptHookArgs(told))

    def invalidate(self) -> None:
        """Send the next paint whole: the terminal was resized, or shows something that is not ours."""
        self.wire.invalidate()

    def _get_terminal_size(self) -> tuple[int, int]:
        """Return the columns and lines of the terminal; 80 and 24 where it says 0."""
        try:
            found = tuple(os.get_terminal_size(self.fileno))
        except OSError:
            found = super()._get_terminal_size()
        return found[0] or _LEAST_SIZE[0], found[1] or _LEAST_SIZE[1]

    # --- input -----------------------------------------------------------------------------------

    def _run_input_thread(self) -> None:
        """Leave a fault to `threading.excepthook`, as in every other thread."""
        self.run_input_thread()

    def run_input_thread(self) -> None:
        """Read the terminal until the application mode ends, and post what is a key or the mouse."""
        keyboard = Keyboard()
        with selectors.DefaultSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                due_s = keyboard.due_in_s(time.monotonic())
                found = []
                if selector.select(_LOOK_EVERY_S if due_s is None else min(due_s, _LOOK_EVERY_S)):
                    if not self._is_in_front():  # it is the shell's, and reading it would stop us
                        self.exit_event.wait(_LOOK_EVERY_S)
                        continue
                    content = self._read()
                    if content == b"":
                        self._soon(self._end, signal.SIGHUP)
                        return
                    if content:
                        found = keyboard.feed(content, time.monotonic())
                for message in (*found, *keyboard.tick(time.monotonic())):
                    self.process_message(message)

    def process_message(self, message: Message) -> None:
        """Post a message, unless it is the mouse outside of the screen, where a click takes the focus away."""
        if isinstance(message, MouseEvent) and self._app.mouse_captured is None:
            columns, rows = self._app.size
            if not (0 <= message.x < columns and 0 <= message.y < rows):
                return
        super().process_message(message)

    def _read(self) -> bytes | None:
        """Return what the terminal sent; nothing once it is gone, None if there is nothing yet."""
        try:
            return os.read(self.fileno, _READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    # --- modes of the terminal -------------------------------------------------------------------

    def start_application_mode(self) -> None:
        """Take the terminal: raw, the other screen, mouse, paste, focus, keys."""
        self.invalidate()
        self._is_on, self._is_restored = True, False
        with suppress(termios.error):
            self._terminal_before = termios.tcgetattr(self.fileno)
        self._file.take()
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def stop_application_mode(self) -> None:
        """Leave the terminal as it was found."""
        self._is_on = False
        self.write(_NO_PIXELS)
        if not self._is_in_front():
            self.attrs_before = None  # they are the shell's now
        super().stop_application_mode()
        self._terminal_before = None

    def close(self) -> None:
        """Wait until all is sent, then say what was printed while the screen was up."""
        super().close()
        if self._file.has_failed:
            self._send_all_off()
        self._is_restored = not self._is_on
        if printed := self._file.give_back():
            with suppress(OSError):
                print(visible(f"Printed while the screen was up:\n{printed}"), file=sys.__stderr__, flush=True)

    def end(self) -> None:
        """Leave the terminal as it was found, if that has not been done."""
        if self._is_on:
            self.stop_application_mode()
        self.close()

    # --- Ctrl-Z, fg ------------------------------------------------------------------------------

    def _soon(self, call: Any, *arguments: Any) -> None:
        """Call in the loop: a signal may come in the middle of a write."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call, *arguments)

    def _stop(self) -> None:
        """Give the terminal back and stop, with the programs that started this one, until `fg`."""
        if self._is_on and self.ended_by is None:
            self._is_stopping = True
            self.suspend_application_mode()
            self._stop_group()
            self._take_back()

    def _go_on(self) -> None:
        """Take the terminal again after a stop that could not be seen (SIGSTOP): the shell has set it as it likes."""
        if self._is_on and self.ended_by is None and not self._is_stopping:
            self._is_stopping = True
            self._await_foreground()
            self.suspend_application_mode()
            self._take_back()

    def _take_back(self) -> None:
        self._await_foreground()
        if self.ended_by is not None:
            self._end_now()
        self.resume_application_mode()
        self._is_stopping = False
        self._app.refresh(layout=True)
        self._app.call_later(self._app.run_action, "redraw")

    def _stop_group(self) -> None:
        """Stop as a shell's Ctrl-Z does. Nothing happens where no shell could wake us: Linux discards the signal."""
        handler = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        with suppress(OSError):
            os.killpg(0, signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.pthread_kill(threading.get_ident(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)

    def _await_foreground(self) -> None:
        """Stay stopped after `bg`: from there nobody may draw or read. A signal that ends us is obeyed there too."""
        while self.ended_by is None and not self._is_in_front():
            self._stop_group()

    def _is_in_front(self) -> bool:
        try:
            return os.tcgetpgrp(self.fileno) == os.getpgrp()
        except OSError:  # no shell has this terminal
            return True

    # --- signals that end ------------------------------------------------------------------------

    def _on_end(self, number: int, _frame: object) -> None:
        """Leave in order; at once if that takes long, or if another such signal comes."""
        if self.ended_by is not None:
            self._end_now()
        self.ended_by = number
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # else what restores the terminal stops us in the background
        signal.signal(signal.SIGALRM, lambda *_: self._end_now())
        signal.setitimer(signal.ITIMER_REAL, _ENDS_WITHIN_S)
        self._soon(self._end, number)

    def _end(self, number: int) -> None:
        self.ended_by = self.ended_by or number
        self._app.exit(return_code=128 + number)

    def _end_now(self) -> NoReturn:
        if not self._is_restored:
            with suppress(OSError, termios.error):
                termios.tcflow(self.fileno, termios.TCOON)  # Ctrl-S, by whoever stopped the terminal
                termios.tcflush(self.fileno, termios.TCOFLUSH)
            self._send_all_off()
        with suppress(termios.error):
            if self._terminal_before is not None and self._is_in_front():
                termios.tcsetattr(self.fileno, termios.TCSANOW, self._terminal_before)
        os._exit(128 + (self.ended_by or signal.SIGTERM))

    def _send_all_off(self) -> None:
        fd, left, until = self._file.fd, _ALL_OFF.encode(), time.monotonic() + _LAST_WORD_S
        with suppress(OSError):
            os.set_blocking(fd, False)  # nobody may read it
            try:
                while left and time.monotonic() < until:
                    try:
                        left = left[os.write(fd, left) :]
                    except BlockingIOError:  # it is full, or another thread is in the middle of a write
                        time.sleep(_LAST_WORD_S / 50)
            finally:
                os.set_blocking(fd, True)


def end_process(code: int) -> NoReturn:
    """End with `code`, whatever threads wait for and whether or not the terminal takes any more output.

    Those that unpack an archive are given some seconds to clean up; after a signal, what is left of `_ENDS_WITHIN_S`.
    """
    from engine.shared.cache_folder import await_clean_up

    await_clean_up()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
