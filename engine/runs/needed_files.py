"""Files and libraries that a run needs: its data and its weights, before there is a run directory. No torch."""

import os
from importlib.util import find_spec
from pathlib import Path

from engine.shared.data_locations import check_located, locate
from presets.backbones import TIMM_ADVICE
from presets.errors import CifartuiError
from presets.problems import printable
from presets.schema import Backbone, Model, Preset


def check_needed(preset: Preset, data_dir: str | None) -> None:
    """Make sure that a run of `preset` finds its data, weights and library, as far as it does not download them.

    Args:
        preset: checked; names of published weights are known by `presets.checks`.
        data_dir: the folder named with --data-dir, if any.

    Raises:
        CifartuiError: one of them is not there, or cannot be read.
    """
    check_located(locate(preset.data, data_dir), preset.data)
    check_weights(preset.model)


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
