"""A column of text beside the test images: the worst classes, and what is taken for what."""

from rich.text import Text

from engine.runs import predictions
from engine.runs.predictions import Predictions
from tui import format as fmt
from tui.theme import MUTED, TEXT

_ROWS = 12
_NAME_WIDTH = 26


def mistakes(found: Predictions) -> Text:
    """Return both lists; empty where the labels are hidden."""
    said = Text()
    classes = predictions.by_class(found)[:_ROWS]
    if classes:
        said.append("worst classes\n", MUTED)
    for score in classes:
        said.append(f"{score.name[:_NAME_WIDTH]:<{_NAME_WIDTH}} {fmt.percent(score.top1):>7}\n", TEXT)
    confusions = predictions.confusions(found, _ROWS)
    if confusions:
        said.append("\nmost often confused\n", MUTED)
    for confusion in confusions:
        said.append(f"{confusion.num_images:>4} × {confusion.true} → {confusion.predicted}\n", TEXT)
    return said
