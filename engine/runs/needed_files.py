"""Files and libraries that a run needs: its data and its weights, before there is a run directory. No torch."""

import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from engine.runs.run_options import DEFAULT_OPTIONS, RunOptions
from engine.shared.data_locations import Location, check_located, locate
from presets.backbones import TIMM_ADVICE
from presets.errors import CifartuiError
from presets.problems import printable
from presets.schema import Backbone, Data, Model, Preset

_LISTED_WITHIN_S = 2.0
"""Time for the names of a folder of images, about 200,000 on a local disk; of a slower one the run itself finds out."""


class _TooLongError(Exception):
    """A listing takes longer than a start should."""


def check_needed(preset: Preset, data_dir: str | None, options: RunOptions = DEFAULT_OPTIONS) -> None:
    """Make sure that a run of `preset` finds its data, weights and library, as far as it does not download them.

    Args:
        preset: checked; names of published weights are known by `presets.checks`.
        data_dir: the folder named with --data-dir, if any.
        options: its seeds decide which images a fraction holds back.

    Raises:
        CifartuiError: one of them is not there, or cannot be read, or leaves no image to validate with.
    """
    location = locate(preset.data, data_dir)
    check_located(location, preset.data)
    check_weights(preset.model)
    check_split(location, preset.data, options.seeds or (options.seed,))


def check_split(
    location: Location, data: Data, seeds: tuple[int, ...], poll: Callable[[], object] = lambda: None
) -> None:
    """Raise CifartuiError if a folder of images, or an archive unpacked before, has no image to validate with.

    A folder whose listing takes long is not judged.

    Args:
        location: of the data; other kinds of data always have such images.
        data: how they are divided.
        seeds: of the runs.
        poll: called before each folder is read; its exceptions end the listing.
    """
    if location.dataset != "class-folders" or location.path is None or location.num_classes is None:
        return
    from engine.shared.image_archives import is_archive  # with all layouts and archives: slow to import
    from engine.shared.image_listing import list_images
    from engine.shared.image_parts import check_validation

    ends_at = time.monotonic() + _LISTED_WITHIN_S

    def poll_in_time() -> None:
        poll()
        if time.monotonic() > ends_at:
            raise _TooLongError

    path = Path(location.path)
    try:
        listing = list_images(path, data.labels, poll=poll_in_time)
    except _TooLongError:
        return
    check_validation(listing, data.validation, seeds, location.path if is_archive(path) else None)


def check_weights(model: Model) -> None:
    """Raise CifartuiError if the weights file of a network, or the library that builds it, is not there."""
    if isinstance(model, Backbone) and model.source == "timm" and find_spec("timm") is None:
        raise CifartuiError(f'model.source = "timm" needs the library timm: {TIMM_ADVICE}')
    weights = getattr(model, "weights", None)
    if not isinstance(weights, str) or not Path(weights).is_absolute():  # the name of published ones
        return
    path = Path(weights)
    try:
        problem = "" if path.is_file() else "are not a file" if path.exists() else "do not exist"
        if not problem and not os.access(path, os.R_OK):
            problem = "cannot be read (Permission denied)"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    if problem:
        raise CifartuiError(
            f"The weights {printable(weights)} {problem}; name another file with model.weights=PATH, or none with "
            "model.weights=none."
        )
