"""Signals to a command that starts workers: counted, and acted upon where what is said of a run is so.

A run that is being made or given its worker is finished first, and its id said: there is either no run, or one whose
id is known.
"""

import shlex
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import click
from msgspec.structs import replace
from typing_extensions import Self

from engine.runs.run_dir import RunDir
from engine.runs.run_options import RunOptions
from tui.cli.output import say

HUNG_UP, INTERRUPTED, NOBODY_READS, TERMINATED = 129, 130, 141, 143
"""Exit codes, as a shell reports of a program ended by SIGHUP, SIGINT, SIGPIPE or SIGTERM."""
ENDS = (HUNG_UP, INTERRUPTED, NOBODY_READS, TERMINATED)
"""Exit codes of following a run after which nothing else is started."""


class Interrupts:
    """A context manager: inside, Ctrl-C, SIGTERM and SIGHUP do nothing but count. Under nohup, SIGHUP is ignored."""

    def __init__(self) -> None:
        self.num_interrupts = self.num_terminations = 0
        self.hung_up = False
        self.wake = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: object) -> None:
        self.hung_up = self.hung_up or number == signal.SIGHUP
        self.num_interrupts += number == signal.SIGINT
        self.num_terminations += number == signal.SIGTERM
        self.wake.set()

    @property
    def code(self) -> int:
        """Exit code of a command that one of them ends; 0 if none came."""
        if self.num_terminations:
            return TERMINATED
        if self.num_interrupts:
            return INTERRUPTED
        return HUNG_UP if self.hung_up else 0

    def leave(self, run: RunDir) -> int:
        """Leave a run that was started and is not followed; if a signal came, say that it trains on."""
        if self.code:
            say(f"It trains on. Watch it with: cifartui attach {run.id}", err=True)
            say(f"End it with: cifartui stop {run.id}", err=True)
        return self.code


def say_left(ctx: click.Context, names: Sequence[str], options: RunOptions, num_started: int) -> None:
    """Say what a command was to train and did not start, and the command lines that do.

    Args:
        ctx: of the command.
        names: of the presets that are not done, the one under way first.
        options: of the command, with all its seeds.
        num_started: runs of the first of `names` that were started.
    """
    if not num_started:
        _say_left(ctx, names, options)
        return
    if seeds := options.seeds[num_started:]:
        _say_left(ctx, names[:1], replace(options, seeds=seeds))
    if names[1:]:
        _say_left(ctx, names[1:], options)


def _say_left(ctx: click.Context, names: Sequence[str], options: RunOptions) -> None:
    words = ["cifartui", str(ctx.info_name), *names]
    words += [word for override in options.overrides for word in ("--set", override)]
    words += ["--device", options.device] if options.device != "auto" else []
    words += ["--devices", str(options.devices)] if options.devices > 1 else []
    if len(options.seeds) > 1:
        words += ["--seeds", ",".join(map(str, options.seeds))]
    else:
        (seed,) = options.seeds or (options.seed,)
        words += ["--seed", str(seed)] if seed else []
    for key in ("runs_dir", "data_dir"):
        words += [f"--{key.replace('_', '-')}", ctx.meta[key]] if key in ctx.meta else []
    seeds = f" with {'seeds' if len(options.seeds) > 1 else 'seed'} {', '.join(map(str, options.seeds))}"
    what = f"{', '.join(names)}{seeds if options.seeds else ''}"
    with suppress(OSError):  # nobody may read it
        say(f"Not trained: {what}. Train {'it' if len(names) == 1 else 'them'} with:", err=True)
        say(f"    {shlex.join(words)}", err=True)
