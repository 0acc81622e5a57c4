"""Published results that a run is compared with. No Textual.

Apart from `presets.reference`, which has the rule: presets know no runs.
"""

from functools import lru_cache

from engine.runs.run_dir import RunInfo
from presets import catalog
from presets.reference import names_data, reference_for
from presets.schema import Report


def report_of(info: RunInfo) -> Report:
    """Return the published results of a run's preset; an empty table if the run is trained on other data than it."""
    return _report_of(info.preset.report, info.overrides, "" if info.preset_file else info.preset_name)


@lru_cache(maxsize=256)  # the Monitor asks at every paint
def _report_of(report: Report, overrides: tuple[str, ...], name: str) -> Report:
    """Return the same, by the name of a preset in the catalog; empty for one that was given as a file."""
    if report == Report() or not names_data(overrides):
        return report
    return reference_for(report, catalog.data_of(name) if name else None, overrides)
