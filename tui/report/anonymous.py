"""Report without what it tells of a machine: of paths their last part is left, host names go."""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePath

from engine.journal.outline import read_outline
from engine.runs.newer_info import read_shown
from engine.runs.run_dir import RunDir
from tui.report.content import RunReport, read_report
from tui.text import run_text

_PATH = re.compile(r"(?<![\w/:.~])(?:~[\w.-]*)?/(?:[^\s/'\"()<>,;]+/)+([^\s/'\"()<>,;]*)")
"""A path from the root or a home folder, of two parts or more: what is written alone, such as "/255", is none."""
_HOST = "(host)"


def read_without_places(run: RunDir, now: float) -> RunReport:
    """Read a run as `read_report` does; its texts name no folder and no host, those of classes and images stay.

    Args:
        run: the run.
        now: Unix seconds.

    Raises:
        CifartuiError: run.json cannot be read.
    """
    report, info, state = read_report(run, now), read_shown(run), read_outline(run.events)
    started, source = state.started, state.data.source if state.data is not None else ""
    weights = getattr(info.preset.model, "weights", None)
    data = info.preset.data
    known = {each for each in (data.path, data.labels, weights, info.data_dir, info.preset_file, source) if each}
    paths = sorted((each.rstrip("/") for each in known if each.startswith(("/", "~"))), key=len, reverse=True)
    hosts = {info.host} | ({started.host, *(each.host for each in started.ranks)} if started is not None else set())

    def cut(text: str) -> str:
        for path in filter(None, paths):
            text = text.replace(path, PurePath(path).name)
        text = _PATH.sub(lambda found: found[1] or PurePath(found[0]).name, text)
        for host in filter(None, hosts):
            text = re.sub(rf"(?<![\w-]){re.escape(host)}(?![\w-])", _HOST, text)
        return text

    def rows(found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        device = run_text.device_alone(started) if started is not None else ""
        return [(label, device if label == "machine" else cut(value)) for label, value in found]

    return replace(
        report,
        summary=cut(report.summary),
        ended=cut(report.ended),
        alerts=[cut(each) for each in report.alerts],
        facts=rows(report.facts),
        settings=rows(report.settings),
        changes=tuple(map(cut, report.changes)),
        words=tuple(map(cut, report.words)),
        verdict=None if report.verdict is None else tuple(map(cut, report.verdict)),
        missing=[cut(each) for each in report.missing],
        command=cut(report.command),
    )
