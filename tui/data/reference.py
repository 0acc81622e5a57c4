"""Published results that a run is compared with. No Textual."""

from functools import lru_cache

from engine.runs.run_dir import RunInfo
from presets import catalog
from presets.reference import names_data, reference_for
from presets.schema import Data, Report


def report_of(info: RunInfo) -> Report:
    """Return the published results of a run's preset; an empty table if the run is trained on other data than it."""
    report = info.preset.report
    if report == Report() or not names_data(info.overrides):
        return report
    return reference_for(report, None if info.preset_file else _own_data(info.preset_name), info.overrides)


@lru_cache(maxsize=256)
def _own_data(name: str) -> Data | None:
    return catalog.data_of(name)
