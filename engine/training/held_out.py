"""The network on validation or test images, in the middle of a run: told in the journal, and not deaf meanwhile."""

import time
from collections.abc import Callable
from typing import Literal

from engine.runs.events import DataProgressed, EvaluationProgressed
from engine.runs.journal import EventWriter
from engine.training.controls import Controls, Stopped
from engine.training.evaluate import evaluate
from engine.training.inputs import Feed
from engine.training.metrics import Sums
from engine.training.out_of_memory import AtOnce
from engine.training.pace import Pace
from engine.training.parallel import Parallel
from engine.training.progress import Progress
from engine.training.reporting import validated
from engine.training.setup import Setup


class HeldOut:
    """Measures the network under training, however often."""

    def __init__(self, setup: Setup, feed: Feed, journal: EventWriter, controls: Controls, parallel: Parallel) -> None:
        self._parallel = parallel
        self._setup = setup
        self._feed = feed
        self._journal = journal
        self._controls = controls
        self._at_once = AtOnce(setup.eval_batch_size, setup.device, journal.write)

    def measure(self, split: Literal["val", "test"], look: Callable[[], None] | None = None) -> Sums:
        """Return the sums over a split; `look`, called now and then, may raise to end the evaluation.

        Raises:
            Aborted: the user asked for it.
            CifartuiError: memory runs out even with one image at once.
        """
        inputs = self._feed.held_out(split, self.report_features)
        # BatchNorm's statistics of rank 0 are the run's; a moving average has its own
        self._parallel.from_rank0([*self._setup.network.buffers(), *inputs.network.buffers()])
        next_event = time.monotonic() + Pace.SHORTEST_S

        def progress(done: int) -> None:
            nonlocal next_event
            self._controls.poll()
            if look is not None:
                look()
            if time.monotonic() >= next_event:
                next_event = time.monotonic() + Pace.SHORTEST_S
                self._journal.write(EvaluationProgressed(split=split, done=done, total=len(inputs.split)))

        self._controls.poll_at_once()
        sums = evaluate(
            inputs.network,
            inputs.split,
            inputs.transform,
            self._setup.criterion,
            batch_size=self._setup.eval_batch_size,
            at_once=self._at_once,
            autocast=self._setup.autocast,
            progress=progress,
            flip_average=self._setup.info.preset.train.flip_average,
            parallel=self._parallel,
        )
        self._controls.poll_at_once()
        return sums

    def validate_between_batches(self, progress: Progress) -> None:
        """Measure the validation set because somebody asked; a wish to stop ends it, for that validates anyway."""

        def look() -> None:
            if self._controls.stop_after == "batch" or self._controls.next_stage:
                raise Stopped

        started = time.monotonic()
        try:
            val = self.measure("val", look)
        except Stopped:
            return
        self._journal.write(validated(progress, val, time.monotonic() - started))

    def report_features(self, event: DataProgressed) -> None:
        """Tell of features, which every rank computes for itself, and listen."""
        self._journal.write(event)
        self._controls.poll_alone()
