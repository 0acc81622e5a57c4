"""Where the time of a step goes: the batch, the network, the rest. Knows clocks and CUDA events; no run.

On the CPU every step is timed, by three readings of a clock. On CUDA the host runs ahead of the device, so now
and then one step is timed by events, which are read only once they have happened: nothing ever waits for them.
Elsewhere there is no split.
"""

import time
from typing import Any

import torch

from engine.journal.events import StepTiming

_EVERY_S = 2.0
"""Between two timings: enough to follow by eye, and nothing to speak of in the journal."""


class StepTimer:
    """Told of the parts of every step by the loop; read by the telemetry thread too."""

    def __init__(self, device: torch.device) -> None:
        self._has_host_times = device.type == "cpu"
        self._events: list[Any] = []
        if device.type == "cuda":
            self._events = [torch.cuda.Event(enable_timing=True) for _ in range(3)]  # type: ignore[no-untyped-call]
        self._samples_step = False
        self._has_sample = False
        self._began: float | None = None
        self._ended: float | None = None
        self._has_data_at = 0.0
        self._due_at = time.perf_counter() + _EVERY_S  # the first steps warm up
        self._forget()
        self.longest_s = 0.0
        """The host's longest step so far."""

    def _forget(self) -> None:
        self._data_s = self._compute_s = self._report_s = 0.0
        self._num_steps = 0

    def step_begins(self) -> None:
        """Note that a batch is about to be taken."""
        now = time.perf_counter()
        if self._ended is not None:
            self._report_s += now - self._ended
        self._began = now
        if self._events and not self._has_sample and now >= self._due_at:
            self._samples_step = True
            self._events[0].record()

    def has_data(self) -> None:
        """Note that the batch is transformed; the network comes next."""
        self._has_data_at = time.perf_counter()
        if self._samples_step:
            self._events[1].record()

    def step_ends(self) -> None:
        """Note that the optimizer took its step."""
        now = self._ended = time.perf_counter()
        if self._began is None:
            return
        self._data_s += self._has_data_at - self._began
        self._compute_s += now - self._has_data_at
        self._num_steps += 1
        self.longest_s = max(self.longest_s, now - self._began)
        self._began = None
        if self._samples_step:
            self._events[2].record()
            self._samples_step, self._has_sample = False, True

    def skip(self, seconds: float) -> None:
        """Leave time out in which nothing was trained."""
        self._report_s -= seconds

    def rest(self) -> None:
        """Let what comes until the next step not count: training gives way to something else, such as validation."""
        self._began = self._ended = None

    def running_s(self) -> float | None:
        """Return for how long the step under way has been; None between steps."""
        began = self._began
        return None if began is None else time.perf_counter() - began

    def take(self) -> StepTiming | None:
        """Return mean times since the last ones; None where they are not due, not there yet, or cannot be had."""
        now = time.perf_counter()
        if now < self._due_at or self._num_steps == 0:
            return None
        num_steps, report_s = self._num_steps, max(0.0, self._report_s / self._num_steps)
        if self._has_host_times:
            timing = StepTiming(
                data_s=self._data_s / num_steps, compute_s=self._compute_s / num_steps, report_s=report_s
            )
        elif self._has_sample and self._events[2].query():
            begin, middle, end = self._events
            timing = StepTiming(
                data_s=begin.elapsed_time(middle) / 1000, compute_s=middle.elapsed_time(end) / 1000, report_s=report_s
            )
            self._has_sample = False
        else:
            return None
        self._forget()
        self._due_at = now + _EVERY_S
        return timing
