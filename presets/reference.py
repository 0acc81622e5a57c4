"""Published results beside a run's: only where the run was trained on the preset's own data."""

from collections.abc import Sequence

from presets.config_layers import is_same_set, lay, override_layers
from presets.errors import CifartuiError
from presets.schema import Data, Report


def names_data(overrides: Sequence[str]) -> bool:
    """Return whether overrides may name a data set."""
    return any(override.partition("=")[0].strip().partition(".")[0].strip() == "data" for override in overrides)


def reference_for(report: Report, own: Data | None, overrides: Sequence[str]) -> Report:
    """Return the published results that a run can be compared with; an empty table if its data are others.

    Args:
        report: of the run's preset.
        own: data of the preset without overrides; None if that is not known any more.
        overrides: of the run.
    """
    if not names_data(overrides):
        return report
    try:
        table = lay(override_layers(overrides)).get("data")
    except CifartuiError:  # of another version
        return Report()
    changed = {key: table[key] for key in ("dataset", "path") if key in table} if isinstance(table, dict) else {}
    if not changed:
        return report
    if own is None:
        return Report()
    named = (changed.get("dataset", own.dataset), changed.get("path", own.path))
    return report if is_same_set(named, (own.dataset, own.path)) else Report()


def reference_of(report: Report, own: Data, data: Data) -> Report:
    """Return the published results that a preset on `data` can be compared with, given its own."""
    return report if is_same_set((data.dataset, data.path), (own.dataset, own.path)) else Report()
