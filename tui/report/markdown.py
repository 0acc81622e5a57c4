"""Report as Markdown, for a repository: its tables and words, without pictures. Every text of a run is escaped."""

import re
from collections.abc import Iterable, Iterator, Sequence

from engine.runs.seed_groups import Spread
from presets.safe_text import visible_in_a_row
from tui import format as fmt
from tui.report.content import Detail, RunReport
from tui.report.evaluated import SplitScores
from tui.report.several import InCommon, differing_data, groups_of, in_common
from tui.text import run_text, score_text

_SPECIAL = re.compile(r"[\\`*_{}\[\]#+!|~$@]|(?<=www)\.|(?<=^\d)\.(?=\s|$)|^-|:(?=/)", re.IGNORECASE)
"""Markup, links that GitHub makes of addresses, and beginnings of lists."""
_NONE = "–"


def markdown(runs: Sequence[RunReport]) -> str:
    """Return the report of one run, or of several beside each other."""
    lines: list[str] = []
    if len(runs) > 1:
        lines += [f"# {len(runs)} runs beside each other", "", *table(_BESIDE, map(_beside, runs))]
        groups = [
            (
                group.name,
                f"{group.num_runs}",
                *(_spread(group.top1.get(split)) for split in ("validation", "test")),
                _NONE if group.pflop is None else fmt.pflop(group.pflop),
            )
            for group in groups_of(runs)
        ]
        if groups:
            lines += ["", "Runs that differ in their seeds alone, mean ± std:", ""]
            lines += table(("preset", "runs", "val top-1 %", "test top-1 %", "spent"), groups)
        if differing := differing_data(runs):
            lines += ["", f"> {escaped(differing)}"]
        lines.append("")
    common = in_common(runs)
    if common.facts or common.settings:
        lines += ["## What is the same in all of them", "", *table(("", ""), (*common.facts, *common.settings)), ""]
    for run in runs:
        lines += _run(run, common, with_words=len(runs) > 1)
    return "\n".join(lines)


_BESIDE = ("run", "changed", "seed", "ended", "val top-1 %", "test top-1 %", "parameters", "time", "spent")


def _beside(run: RunReport) -> tuple[str, ...]:
    return (
        run.name, " ".join(run.changes), f"{run.seed}", run.status, _top1(run.of("validation")),
        _top1(run.of("test")) if run.has_test else "no part",
        fmt.count(run.num_parameters), fmt.duration(run.duration_s),
        _NONE if run.pflop is None else fmt.pflop(run.pflop),
    )  # fmt: skip


def _run(run: RunReport, common: InCommon, *, with_words: bool) -> Iterator[str]:
    title = " ".join((run.title, *(run.words if with_words else ())))
    yield from (f"# {escaped(title)}", "", escaped(run.summary), "")
    yield from (f"**{escaped(run.status)}**, run {escaped(run.id)}", "")
    if run.status != "completed":
        yield from (f"> {escaped(run_text.sentence(run.ended))}.", "")
    for sentence in (*run.missing, *(run.verdict or ())):
        yield from (f"> {escaped(sentence)}", "")
    if run.splits:
        yield from table(("images", "number", "top-1 %", "top-5 %", "balanced %", "macro F1 %", "ECE %"), _scores(run))
        yield ""
    facts, settings = common.own(run)
    if facts or settings:
        yield from ("## What was trained, on what", "", *table(("", ""), (*facts, *settings)), "")
    for alert in run.alerts:
        yield from (f"> {escaped(alert)}", "")
    if run.detail is not None:
        yield from _detail(run.detail)
    yield from ("## Do it again", "", f"    {visible_in_a_row(run.command)}", "")


def _scores(run: RunReport) -> Iterator[tuple[str, ...]]:
    for scored in run.splits:
        summed = scored.summed
        top5 = _NONE
        if summed is not None and summed.top5 is not None and summed.top5_interval is not None:
            top5 = _with_interval(summed.top5, summed.top5_interval)
        more = (_NONE, _NONE) if summed is None else (f"{100 * summed.macro_f1:.2f}", f"{100 * summed.ece:.2f}")
        balanced = _NONE if scored.balanced is None else f"{100 * scored.balanced:.2f}"
        yield scored.name, fmt.count(scored.num_images), _top1(scored), top5, balanced, *more


def _detail(detail: Detail) -> Iterator[str]:
    yield from (f"## Scores of the {detail.split} images", "", *table(("", ""), score_text.overall(detail.summed)), "")
    yield from ("## Classes, those that cost most first", "")
    yield from table(
        ("class", "images", "errors", "precision", "recall", "F1"),
        (
            (
                score.name, fmt.count(score.num_images), fmt.count(score.harm), fmt.percent(score.precision),
                fmt.percent(score.recall), fmt.percent(score.f1),
            )
            for score in detail.classes
        ),
    )  # fmt: skip
    if detail.num_more_classes:
        yield from ("", f"{detail.num_more_classes} classes with fewer errors are left out.")
    if detail.confusions:
        yield from ("", "## Most often confused", "")
        rows = ((f"{each.num_images:,}", each.true, each.predicted) for each in detail.confusions)
        yield from table(("images", "true", "taken for"), rows)
    yield ""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table; its cells are escaped, its heads are not."""
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(map(escaped, row))} |"


def escaped(text: str) -> str:
    """Return text that is no markup in Markdown, nor HTML, on one line."""
    shown = visible_in_a_row(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(lambda found: f"\\{found[0]}", shown)


def _top1(scored: SplitScores | None) -> str:
    return _NONE if scored is None else _with_interval(scored.top1, scored.top1_interval)


def _with_interval(share: float, interval: tuple[float, float]) -> str:
    low, high = (f"{100 * end:.2f}" for end in interval)
    return f"{100 * share:.2f} ({low} to {high})"


def _spread(found: Spread | None) -> str:
    return _NONE if found is None or found.std is None else f"{100 * found.mean:.2f} ± {100 * found.std:.2f}"
