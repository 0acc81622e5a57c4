"""Predictions of a run with their images: read, or measured by a process of its own. Runs in threads."""

import mmap
import threading
from collections.abc import Callable

from rich.text import Text
from textual.message import Message

from engine.runs import predictions, scores
from engine.runs.predictions import Predictions, Split
from engine.runs.run_dir import RunDir
from presets.errors import CifartuiError
from tui.text import score_text


class PredictionsRead(Message):
    """Predictions with their images were read, or the reason why not; neither if there are none yet.

    Made in a thread, with the scores that they add up to. `is_measured` if a measurement made them, and not the first
    reading of the stored file.
    """

    def __init__(
        self, found: Predictions | None, pixels: mmap.mmap | None, problem: str = "", *, is_measured: bool = False
    ) -> None:
        self.found, self.pixels, self.problem, self.is_measured = found, pixels, problem, is_measured
        self.summed = scores.overall(found) if found is not None else None
        self.mistakes = score_text.mistakes(found) if found is not None else Text()
        super().__init__()


Post = Callable[[PredictionsRead], bool]
"""Posts to the screen; returns False if that is closed."""


def read_predictions(run: RunDir, split: Split, post: Post, left: threading.Event) -> None:
    """Post the stored predictions, unless `left` is set by then."""
    try:
        found, pixels = _stored(run, split)
        message = PredictionsRead(found, pixels)
    except CifartuiError as error:
        message = PredictionsRead(None, None, str(error))
    _post(message, post, left)


def measure_predictions(run: RunDir, split: Split, data_dir: str | None, post: Post, left: threading.Event) -> None:
    """Predict with the best weights, then post the predictions; `left` ends the process.

    Args:
        run: whose weights and data.
        split: whose images.
        data_dir: searched first for the data.
        post: to the screen.
        left: set once nobody waits any more.
    """
    from tui.data.torch_process import run_module

    more = ["--data-dir", data_dir] if data_dir else []
    arguments = [str(run.path.absolute()), "--split", split, *more]
    try:
        run_module("engine.training.evaluate_checkpoint", arguments, stop=left)
        found, pixels = _stored(run, split)
        message = PredictionsRead(found, pixels, is_measured=True)
    except CifartuiError as error:
        message = PredictionsRead(None, None, str(error), is_measured=True)
    _post(message, post, left)


def close(pixels: mmap.mmap | None) -> None:
    """Close the file of images, if there is one."""
    if pixels is not None:
        pixels.close()


def _stored(run: RunDir, split: Split) -> tuple[Predictions | None, mmap.mmap | None]:
    found = predictions.read(run, split)
    if found is None or found.data is not None:  # `evaluate --data`: of other images
        return None, None
    return found, predictions.open_pixels(run, found)


def _post(message: PredictionsRead, post: Post, left: threading.Event) -> None:
    if left.is_set() or not post(message):
        close(message.pixels)
