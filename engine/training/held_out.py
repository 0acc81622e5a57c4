"""The network on validation or test images, in the middle of a run: told in the journal, and not deaf meanwhile."""

import time
from collections.abc import Callable
from typing import Literal

from engine.journal.events import DataProgressed, EvaluationProgressed
from engine.journal.jsonl import EventWriter
from engine.training.controls import Controls, Stopped
from engine.training.evaluate import evaluate
from engine.training.input_pipeline import Feed
from engine.training.metrics import Sums
from engine.training.microbatch import AtOnce
from engine.training.progress import Progress
from engine.training.reports import Pace, validated
from engine.training.setup import Setup


class HeldOut:
    """Measures the network under training, however often."""

    def __init__(self, setup: Setup, feed: Feed, journal: EventWriter, controls: Controls) -> None:
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
        next_event = time.monotonic() + Pace.SHORTEST_S

        def progress(done: int) -> None:
            nonlocal next_event
            self._controls.poll()
            if look is not None:
                look()
            if time.monotonic() >= next_event:
                next_event = time.monotonic() + Pace.SHORTEST_S
                self._journal.write(EvaluationProgressed(split=split, done=done, total=len(inputs.split)))

        return evaluate(
            inputs.network,
            inputs.split,
            inputs.transform,
            self._setup.criterion,
            at_once=self._at_once,
            autocast=self._setup.autocast,
            progress=progress,
            flip_average=self._setup.info.preset.train.flip_average,
        )

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
        """Tell of features that are computed, and listen."""
        self._journal.write(event)
        self._controls.poll()
