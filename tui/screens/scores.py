"""Screens over all images of predictions: the confusion matrix, whose cells open their images, and the scores."""

from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static

from engine.runs import scores
from engine.runs.predictions import Predictions
from tui import format as fmt
from tui.plots.confusion import ORDERED_FROM, Matrix, matrix_of
from tui.text import score_text
from tui.theme import MUTED, TEXT
from tui.widgets.basic import ChangedStatic, TooSmall
from tui.widgets.key_bar import KeyBar
from tui.widgets.matrix_view import MatrixView

if TYPE_CHECKING:
    from tui.app import CifartuiApp


class MatrixMade(Message):
    """The confusion matrix is counted and its classes are in order."""

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix
        super().__init__()


class MatrixScreen(Screen[tuple[int, int] | None]):
    """The confusion matrix; its result is the cell whose images are wanted: indices of true and predicted class."""

    CSS_PATH = "scores.tcss"
    app: "CifartuiApp"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "images", id="matrix.open", tooltip="the images of this cell"),
        Binding("n", "mistake(1)", "next mistake", id="matrix.next_mistake", tooltip="the next most frequent mistake"),
        Binding("N", "mistake(-1)", "mistake before", show=False, id="matrix.mistake_before",
                tooltip="the mistake before"),
        Binding("left,h", "move(0, -1)", "left", show=False, id="matrix.left", tooltip="the class before, predicted"),
        Binding("right,l", "move(0, 1)", "right", show=False, id="matrix.right", tooltip="the next class, predicted"),
        Binding("up,k", "move(-1, 0)", "up", show=False, id="matrix.up", tooltip="the class before"),
        Binding("down,j", "move(1, 0)", "down", show=False, id="matrix.down", tooltip="the next class"),
        Binding("escape", "back", "images", id="matrix.back", tooltip="back"),
    ]  # fmt: skip

    def __init__(self, found: Predictions) -> None:
        """Show the matrix of predictions whose labels are known."""
        super().__init__()
        self._found = found

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield TooSmall()
        with Vertical(id="body"):
            yield ChangedStatic(id="top")
            yield MatrixView(id="matrix")
            yield ChangedStatic(id="cell")
            yield KeyBar()

    def on_mount(self) -> None:
        """Count, in a thread: bringing a thousand classes into order takes a moment."""
        self.query_one("#top", ChangedStatic).set_text(Text("Counting what is taken for what…", MUTED))
        self._count()

    @work(thread=True, group="matrix")
    def _count(self) -> None:
        self.post_message(MatrixMade(matrix_of(self._found)))

    def on_matrix_made(self, event: MatrixMade) -> None:
        """Show the matrix."""
        order = ", confused ones together" if len(event.matrix.names) >= ORDERED_FROM else ""
        title = Text.assemble(("Confusion matrix", f"bold {TEXT}"), (f"   {len(event.matrix.names)} classes", MUTED))
        self.query_one("#top", ChangedStatic).set_text(title.append(order, MUTED))
        self.query_one(MatrixView).show(event.matrix)

    def on_matrix_view_moved(self) -> None:
        """Say the cell under the cursor in words."""
        view = self.query_one(MatrixView)
        if view.matrix is not None and view.matrix.names:
            text = Text(view.matrix.sentence(view.row, view.column), TEXT)
            if view.place:
                text.append(f"   mistake {view.place:,} of {view.num_mistakes:,} by frequency", MUTED)
            self.query_one("#cell", ChangedStatic).set_text(text)

    def action_move(self, down: int, across: int) -> None:
        """Move the cursor."""
        view = self.query_one(MatrixView)
        if view.matrix is not None:
            view.go_to(view.row + down, view.column + across)

    def action_mistake(self, number: int) -> None:
        """Go to the mistake that is so many places further down in frequency."""
        view = self.query_one(MatrixView)
        if view.matrix is not None:
            view.next_mistake(number)

    def action_open(self) -> None:
        """Leave for the images of the cell, if it has any."""
        view = self.query_one(MatrixView)
        if view.matrix is None or not view.matrix.counts.get((view.row, view.column)):
            self.notify("This cell has no images.", timeout=3)
            return
        self.dismiss((view.matrix.classes[view.row], view.matrix.classes[view.column]))

    def action_back(self) -> None:
        """Leave for the images as they were."""
        self.dismiss(None)


class ScoresMade(Message):
    """The scores are counted."""

    def __init__(self, text: Text) -> None:
        self.text = text
        super().__init__()


class ScoresScreen(Screen[None]):
    """Scores of all images, and of every class, those that cost the most images first."""

    CSS_PATH = "scores.tcss"
    app: "CifartuiApp"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "images", id="scores.back", tooltip="back")]

    def __init__(self, found: Predictions) -> None:
        """Show the scores of predictions whose labels are known."""
        super().__init__()
        self._found = found

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield TooSmall()
        with Vertical(id="body"):
            yield ChangedStatic(id="top")
            with VerticalScroll(id="page"):
                yield Static(id="table")
            yield KeyBar()

    def on_mount(self) -> None:
        """Count, in a thread."""
        self.query_one("#top", ChangedStatic).set_text(Text("Scores", f"bold {TEXT}"))
        self.query_one("#page").focus()
        self._count()

    @work(thread=True, group="scores")
    def _count(self) -> None:
        self.post_message(ScoresMade(scores_page(self._found)))

    def on_scores_made(self, event: ScoresMade) -> None:
        """Show the scores."""
        self.query_one("#table", Static).update(event.text)

    def action_back(self) -> None:
        """Leave for the images."""
        self.dismiss()


def scores_page(found: Predictions) -> Text:
    """Return scores of all images, then a row for every class by harm."""
    text, summed = Text(), scores.overall(found)
    if summed is None:
        return Text("There are no images with labels.", MUTED)
    for label, value in score_text.overall(summed):
        text.append(f"{label:<18}", MUTED).append(f"{value}\n", TEXT)
    text.append(
        f"\n{'class, those that cost most first':<34}{'images':>7}{'precision':>11}{'recall':>9}{'F1':>9}", MUTED
    )
    text.append(f"{'95 % of recall':>18}\n", MUTED)
    for score in scores.by_harm(found):
        low, high = score.recall_interval
        text.append(f"{fmt.column(score.name, 34)}{score.num_images:>7,}", TEXT)
        shares = (fmt.percent(score.precision), fmt.percent(score.recall), fmt.percent(score.f1))
        text.append("{:>11}{:>9}{:>9}".format(*shares), TEXT)
        text.append(f"{f'{100 * low:.1f} to {100 * high:.1f} %':>18}\n", MUTED)
    return text
