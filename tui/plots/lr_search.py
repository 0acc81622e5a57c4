"""Chart of a learning-rate search: validation accuracy over the learning rate, a line a rung. As printed rows."""

import math
from collections.abc import Sequence

from rich.text import Text

from engine.runs.lr_search import Rung, Search, in_words
from tui import format as fmt
from tui.plots.axes import ValueAxis, lr_axis
from tui.plots.chart import Chart, Line, Mark, Resolution
from tui.plots.render import resolution_of, text_rows
from tui.theme import BAD, MUTED, VAL

_ROWS = 12
_FOR_MARK = 0.15
_WIDEST = 100


def search_chart(search: Search, rungs: Sequence[Rung], lr: float | None, resolution: Resolution) -> Chart:
    """Return the chart of a search so far; `lr` is marked, if it is given. Rates that diverged lie at the bottom."""
    trials = [trial for rung in rungs for trial in rung.trials]
    places = [math.log10(trial.lr) for trial in trials]
    reached = [100 * trial.accuracy for trial in trials if trial.accuracy is not None]
    half = math.log10(search.grid.step) / 2
    x = lr_axis(min(places, default=-3.0) - half, max(places, default=0.0) + half)
    lowest, highest = min(reached, default=0.0), max(reached, default=1.0)
    room = _FOR_MARK * (highest - lowest)  # or the name of the mark would lie on the best point
    y = ValueAxis().holding(lowest, highest + room, resolution.num_rows)
    lines: list[Line] = []
    for rung in rungs:
        color = VAL if rung is rungs[-1] else MUTED
        xs = [math.log10(trial.lr) for trial in rung.trials if trial.accuracy is not None]
        ys = [100 * trial.accuracy for trial in rung.trials if trial.accuracy is not None]
        lines += [Line(xs, ys, color), Line(xs, ys, color, "•" if rung is rungs[-1] else "·")]
    diverged = sorted({math.log10(trial.lr) for trial in trials if trial.accuracy is None})
    lines.append(Line(diverged, [y.lower] * len(diverged), BAD, "×"))
    legend = [(f"• {in_words(rung.length, search.num_images)}", VAL) for rung in rungs[-1:]]
    legend += [(f"· {in_words(rung.length, search.num_images)}", MUTED) for rung in rungs[-2::-1]]
    legend += [("× diverged", BAD)] if diverged else []
    return Chart(
        title="val %",
        x=x,
        y=y,
        x_unit="lr",
        lines=tuple(lines),
        legend=tuple(legend),
        empty="no run is over yet",
        boundaries=() if lr is None else (math.log10(lr),),
        marks=() if lr is None else (Mark(math.log10(lr), f"▾ {fmt.lr(lr)}", VAL),),
    )


def search_rows(search: Search, rungs: Sequence[Rung], lr: float | None, width: int) -> list[Text]:
    """Return the plot of a search so far, at most 100 columns wide; nothing before a run is over."""
    width = min(width, _WIDEST)
    if not any(rung.trials for rung in rungs):
        return []
    chart = search_chart(search, [rung for rung in rungs if rung.trials], lr, resolution_of(width, _ROWS, "braille"))
    return text_rows(chart, width, _ROWS)
