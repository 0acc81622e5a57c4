"""Sentences and labels about scores of predictions. Pure functions."""

from rich.text import Text

from engine.runs import scores
from engine.runs.predictions import Predictions
from engine.runs.scores import NUM_BINS, Interval, Scores
from tui import format as fmt
from tui.theme import MUTED, TEXT

_ROWS = 12
_NAME_WIDTH = 26


def overall(summed: Scores) -> list[tuple[str, str]]:
    """Return labels and values of the scores of a split, in the order in which they are shown."""
    rows = [("top-1", with_interval(summed.top1, summed.top1_interval))]
    if summed.top5 is not None and summed.top5_interval is not None:
        rows.append(("top-5", with_interval(summed.top5, summed.top5_interval)))
    rows.append(("balanced accuracy", fmt.percent(summed.balanced, 2)))
    rows.append(("macro F1", fmt.percent(summed.macro_f1, 2)))
    rows.append(("calibration error", f"{fmt.percent(summed.ece, 2)} (ECE, {NUM_BINS} bins); {confidence(summed)}"))
    return rows


def with_interval(share: float, interval: Interval) -> str:
    """Return "36.90 % (95 % interval 35.96 to 37.85 %)"."""
    low, high = (f"{100 * end:.2f}" for end in interval)
    return f"{fmt.percent(share, 2)} (95 % interval {low} to {high} %)"


def confidence(summed: Scores) -> str:
    """Return the mean confidence beside the accuracy: of over- or underconfidence, and by how much."""
    gap = 100 * (summed.mean_confidence - summed.top1)
    mean = f"mean confidence {fmt.percent(summed.mean_confidence, 1)}"
    if abs(gap) < 0.05:
        return f"{mean}, as the accuracy"
    return f"{mean}, {abs(gap):.1f} points {'above' if gap > 0 else 'below'} the accuracy"


def mistakes(found: Predictions) -> Text:
    """Return the worst classes and the most frequent confusions; empty where the labels are hidden."""
    text = Text()
    classes = scores.by_class(found)[:_ROWS]
    if classes:
        text.append("worst classes\n", MUTED)
    for score in classes:
        text.append(f"{score.name[:_NAME_WIDTH]:<{_NAME_WIDTH}} {fmt.percent(score.top1):>7}\n", TEXT)
    confusions = scores.confusions(found, _ROWS)
    if confusions:
        text.append("\nmost often confused\n", MUTED)
    for confusion in confusions:
        text.append(f"{confusion.num_images:>4} × {confusion.true} → {confusion.predicted}\n", TEXT)
    return text
