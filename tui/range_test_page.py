"""A range test in rows of text: its loss over the learning rate, and what it suggests. Knows no files, no terminal."""

import math
import textwrap

from rich.text import Text

from tui.data.range_test import Verdict, in_words, loss_range
from tui.sketch import Curve, Sketch, draw
from tui.theme import TRAIN, TRAIN_RANGE, VAL
from tui.widgets.axes import ValueAxis, lr_axis

_PLOT_ROWS = 14
_WIDEST = 100


def rows_of(found: Verdict, width: int, *, coloured: bool) -> list[Text]:
    """Return the plot, the suggestion in words, and how to train with it."""
    width = min(width, _WIDEST)
    rows = [*_plot(found, width, coloured=coloured), Text()]
    rows += [Text(row) for row in textwrap.wrap(in_words(found.suggestion), width, break_on_hyphens=False)]
    if found.train_with:
        rows += [Text(), Text(f"  {found.train_with}", "bold")]
    return rows


def _plot(found: Verdict, width: int, *, coloured: bool) -> list[Text]:
    places = [math.log10(point.lr) for point in found.points]
    curves = [Curve(places, found.smoothed, TRAIN)]
    legend = [(f"{'━' if coloured else '⠒'} smoothed", TRAIN)]
    if coloured:
        curves.insert(0, Curve(places, [point.loss for point in found.points], TRAIN_RANGE))
        legend.insert(0, ("━ batches", TRAIN_RANGE))
    if found.lr is not None:
        legend.append((f"┊ suggested {found.lr:g}", VAL))
    y = ValueAxis().holding(*loss_range(found), _PLOT_ROWS - 3)
    return draw(
        Sketch(
            "loss",
            lr_axis(math.log10(found.first_lr), math.log10(found.last_lr)),
            y,
            "lr",
            tuple(curves),
            tuple(legend),
            boundaries=() if found.lr is None else (math.log10(found.lr),),
        ),
        width,
        _PLOT_ROWS,
    )
