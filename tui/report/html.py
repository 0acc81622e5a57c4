"""Report as one HTML page: no network, no script. Every text of a run is escaped by the template engine."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from presets.safe_text import visible
from tui import format as fmt
from tui.report.content import RunReport
from tui.report.several import differing_data, groups_of, in_common
from tui.text import run_text, score_text


def html(runs: Sequence[RunReport]) -> str:
    """Return the page of one run, or of several beside each other."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=_percent, count=fmt.count, duration=fmt.duration, markup=lambda svg: Markup(visible(svg)),
        interval=_interval, overall=score_text.overall, sentence=run_text.sentence,
        share=lambda fraction: f"{100 * fraction:.1f}", pflop=fmt.pflop,
    )  # fmt: skip
    return environment.get_template("page.html").render(
        runs=runs, groups=groups_of(runs), differing_data=differing_data(runs), in_common=in_common(runs)
    )


def _shown(value: object) -> object:
    """Return a value as it is put into the page, with signs for control and reordering characters."""
    return visible(value) if type(value) is str else value


def _percent(fraction: float | None, digits: int = 1) -> str:
    """Return a percentage whose sign stays in the line of its number."""
    return fmt.percent(fraction, digits).replace(" ", "\u00a0")


def _interval(interval: tuple[float, float]) -> str:
    low, high = (f"{100 * end:.1f}" for end in interval)
    return f"{low} to {high}"
