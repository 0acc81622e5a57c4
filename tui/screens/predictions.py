"""Predictions screen: images with their true and predicted class, and a column of the most frequent mistakes."""

import mmap
import threading
from typing import ClassVar

from rich.console import Group
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Input, Static

from engine.runs import scores
from engine.runs.predictions import Predictions, Split
from engine.runs.run_dir import RunDir, RunInfo
from tui import format as fmt
from tui.data.run_predictions import PredictionsRead, close, measure_predictions, read_predictions
from tui.screens.gallery_screen import GalleryScreen
from tui.text import run_text
from tui.theme import MUTED, TEXT, TONES
from tui.widgets.basic import ChangedStatic, TextField, TooSmall
from tui.widgets.gallery import Gallery, Picture
from tui.widgets.key_bar import KeyBar

_SPLIT_NAMES: dict[Split, str] = {"val": "validation images", "test": "test images"}
_ORDERS: dict[scores.Order, str] = {
    "confident": "the most confident first",
    "unsure": "the least confident first",
    "split": "as they are in the data",
}
_TICK_S = 0.5


class PredictionsScreen(GalleryScreen):
    """A gallery; where there are no predictions yet, an offer to make them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "make", "measure now", id="predictions.make", tooltip="measure the test images now"),
        Binding("w", "want('wrong')", "wrong", id="predictions.wrong",
                tooltip="only images that are taken for something else"),
        Binding("r", "want('right')", "right", id="predictions.right", tooltip="only images that are recognised"),
        Binding("a", "want('all')", "all", id="predictions.all", tooltip="all images"),
        Binding("c", "choose_class", "class", id="predictions.choose_class", tooltip="only images of one class"),
        Binding("s", "order", "order", id="predictions.order", tooltip="most or least confident first, or in order"),
        Binding("x", "matrix", "matrix", id="predictions.matrix", tooltip="confusion matrix: what is taken for what"),
        Binding("t", "scores", "scores", id="predictions.scores", tooltip="top-5, precision, recall, F1, calibration"),
        Binding("5", "top", "top-5", id="predictions.top", tooltip="an image with its five most probable classes"),
        Binding("right,down,pagedown,l,j", "turn(1)", "page", key_display="→", id="predictions.next_page",
                tooltip="the next page"),
        Binding("left,up,pageup,h,k", "turn(-1)", "page before", show=False, key_display="←",
                id="predictions.page_before", tooltip="the page before"),
        Binding("o", "open", "open", id="predictions.open", tooltip="predict an image or a folder of your own"),
        Binding("escape", "back", "run", id="predictions.back", tooltip="back"),
    ]  # fmt: skip
    AUTO_FOCUS = ""  # the field for a class would take the keys

    def __init__(self, run: RunDir, info: RunInfo, best_step: int, is_live: bool, has_test: bool = True) -> None:
        """Show the test images of `run`, whose best weights are of `best_step`; `is_live` if it still trains.

        Without a test part (`has_test`) they are the validation images.
        """
        super().__init__()
        self._split: Split = "test" if has_test else "val"
        self._run, self._info, self._best_step, self._is_live = run, info, best_step, is_live
        self.found: Predictions | None = None
        self.wanted: scores.Wanted = "wrong"
        self.order: scores.Order = "confident"
        self.cell: tuple[int, int] | None = None
        self.class_wanted = ""
        self.rows: list[int] = []
        self._summed: scores.Scores | None = None
        self._pixels: mmap.mmap | None = None
        self._over: Screen[None] | None = None
        self._started_at: float | None = None
        self._problem = ""
        self._left = threading.Event()

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield TooSmall()
        with Vertical(id="body"):
            yield ChangedStatic(id="top")
            yield ChangedStatic(id="sorting")
            yield TextField(
                placeholder="class, or a part of its name; Enter shows it, Esc all", id="class", compact=True
            )
            yield Static(id="making")
            with Horizontal(id="gallery"):
                yield self.new_gallery()
                yield Static(id="scores")
            yield KeyBar()

    def on_mount(self) -> None:
        """Read what there is, in a thread."""
        self.query_one("#class").display = False
        self._read()
        self.set_interval(_TICK_S, self._tick)

    def on_unmount(self) -> None:
        """End a measurement that nobody waits for any more; the next visit starts it again."""
        self._left.set()
        close(self._pixels)

    # --- reading and making ----------------------------------------------------------------------

    @work(thread=True, group="predictions")
    def _read(self) -> None:
        read_predictions(self._run, self._split, self.post_message, self._left)

    @work(thread=True, group="predictions")
    def _measure(self, data_dir: str | None) -> None:
        measure_predictions(self._run, self._split, data_dir, self.post_message, self._left)

    def on_predictions_read(self, event: PredictionsRead) -> None:
        """Show the predictions; if there are none, how to make them."""
        if event.is_measured:
            self._started_at = None
        elif self._started_at is not None and event.found is None:
            return  # the measurement under way is older, and posts its result
        self._problem = event.problem
        if event.found is not None:
            if self._over is not None and self._over.is_current:
                self._over.dismiss()  # its rows are those of the predictions before
            close(self._pixels)
            self.found, self._pixels, self._summed = event.found, event.pixels, event.summed
            self.query_one("#scores", Static).update(event.mistakes)
            if event.found.true is None:
                self.wanted = "all"
            self._sort()
        self._show()

    @property
    def is_outdated(self) -> bool:
        """True if the run has saved better weights since."""
        return self.found is not None and self.found.global_step < self._best_step

    def action_make(self) -> None:
        """Measure the best weights, in a process of its own."""
        if self._started_at is None and (self.found is None or self.is_outdated):
            self._started_at = self.app.environment.now()
            self._problem = ""
            self._show()
            self._measure(self.app.data_dir)

    def action_open(self) -> None:
        """Ask for an image or a folder of one's own, and predict it with the best weights."""
        from tui.screens.own_images import OpenImages

        self.app.push_screen(OpenImages(self._run, self._info))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer measuring where it would bring something, filters where there are labels."""
        if action == "make":
            return self._started_at is None and (self.found is None or self.is_outdated)
        if action == "top":
            return self.found is not None and bool(self.found.top)
        if action in {"want", "matrix", "scores"}:
            return self._summed is not None
        return self.found is not None or action not in {"choose_class", "turn", "order"}

    # --- what is shown ---------------------------------------------------------------------------

    def _sort(self) -> None:
        assert self.found is not None, "sorted only once read"
        self.rows = scores.matching(self.found, self.wanted, self.class_wanted, order=self.order, cell=self.cell)
        self._page_start = 0

    def action_want(self, wanted: scores.Wanted) -> None:
        """Show wrong, right or all images."""
        self.wanted, self.cell = wanted, None
        self._sort()
        self._show()

    def action_order(self) -> None:
        """Show the images in the next order."""
        orders = tuple(_ORDERS)
        self.order = orders[(orders.index(self.order) + 1) % len(orders)]
        self._sort()
        self._show()

    def action_matrix(self) -> None:
        """Show the confusion matrix, and then the images of the cell that was chosen there."""
        from tui.screens.scores import MatrixScreen

        def choose(cell: tuple[int, int] | None) -> None:
            if cell is not None:
                self.cell = cell
                self._sort()
                self._show()

        assert self.found is not None, "offered only once read"
        self.app.push_screen(MatrixScreen(self.found), choose)

    def action_scores(self) -> None:
        """Show the scores of all images and of every class."""
        from tui.screens.scores import ScoresScreen

        assert self.found is not None, "offered only once read"
        self.app.push_screen(ScoresScreen(self.found))

    def action_top(self) -> None:
        """Show the page's first image with its most probable classes, and the others after it."""
        from tui.screens.top_classes import TopClasses

        assert self.found is not None, "offered only once read"
        if self.rows:
            self._over = TopClasses(self.found, self.rows, self._page_start, self._picture)
            self.app.push_screen(self._over)

    def action_choose_class(self) -> None:
        """Open the field for a class."""
        field = self.query_one("#class", Input)
        field.display = True
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show images of the class as it is typed."""
        self.class_wanted, self.cell = event.value, None
        self._sort()
        self._show()

    def on_input_submitted(self) -> None:
        """Go back to the images."""
        self.query_one("#class").display = bool(self.class_wanted)
        self.set_focus(None)

    def action_back(self) -> None:
        """Show all cells and classes again, or go back to the run."""
        field = self.query_one("#class", Input)
        if self.cell is not None:
            self.cell = None
            self._sort()
            self._show()
        elif field.display:
            field.value = ""
            field.display = False
            self.set_focus(None)
        else:
            self.dismiss()

    def _num_pictures(self) -> int:
        return len(self.rows)

    def _tick(self) -> None:
        if self._started_at is not None:
            self._show()

    def _show(self) -> None:
        self.refresh_bindings()
        self.query_one("#top", ChangedStatic).set_text(self._title())
        self.query_one("#sorting", ChangedStatic).set_text(self._sorting())
        making, gallery = self.query_one("#making", Static), self.query_one("#gallery")
        gallery.display = self.found is not None
        making.display = self.found is None
        if self.found is None:
            making.update(self._instructions())
            return
        pictures = self.query_one("#images", Gallery)
        pictures.show([self._picture(row) for row in self.rows[self._page_start :][: pictures.capacity]])

    def _title(self) -> Text:
        title = Text.assemble((self._info.preset.title, f"bold {TEXT}"), (f"   {_SPLIT_NAMES[self._split]}   ", MUTED))
        if self._split == "val":
            title.append("there is no test part   ", MUTED)
        if self.found is None:
            return title
        title.append(f"best.pt of epoch {self.found.epoch}", TEXT)
        if self._summed is not None:
            title.append(f"   {fmt.percent(self._summed.top1, 2)} right", TEXT)
        if self._started_at is not None:
            title.append(f"   measuring anew… {self._elapsed()}", TONES["busy"])
        elif self._problem:
            title.append(f"   {self._problem}", TONES["bad"])
        elif self.is_outdated:
            title.append("   there are better weights now: Enter measures them", TONES["warn"])
        return title

    def _elapsed(self) -> str:
        return fmt.duration(self.app.environment.now() - (self._started_at or 0.0))

    def _sorting(self) -> Text:
        if self.found is None:
            return Text("")
        if self.found.true is None:
            text = "The labels of these images are hidden: predictions only"
        elif self.cell is not None:
            true, predicted = (self.found.class_names[index] for index in self.cell)
            text = f"{true} taken for {predicted}" if true != predicted else f"{true}, recognised"
        else:
            text = {"wrong": "wrong ones", "right": "right ones", "all": "all"}[self.wanted]
        text += f", class {self.class_wanted}" if self.class_wanted and self.cell is None else ""
        capacity = self.query_one("#images", Gallery).capacity
        last = min(len(self.rows), self._page_start + capacity)
        place = f"{self._page_start + 1:,} to {last:,} of {len(self.rows):,}" if self.rows else "none"
        return Text(f"{text}, {_ORDERS[self.order]}: {place}", MUTED)

    def _instructions(self) -> Group | Text:
        if self._started_at is not None:
            text = f"Measuring the best weights on the {_SPLIT_NAMES[self._split]}… {self._elapsed()}"
            return Group(Text(text, TONES["busy"]), Text(f"{run_text.sentence(run_text.LOADING)}. Esc leaves.", MUTED))
        lines = [Text(self._problem, TONES["bad"])] if self._problem else []
        images = _SPLIT_NAMES[self._split]
        lines.append(Text(f"What these weights say of the {images} has not been recorded yet.", TEXT))
        lines.append(Text(f"Enter measures it: one pass over the {images}, in a process of its own.", MUTED))
        if self._is_live:
            lines.append(Text("The run still trains: it will be slower for so long.", TONES["warn"]))
        return Group(*lines)

    def _picture(self, row: int) -> Picture:
        found, pixels = self.found, self._pixels
        assert found is not None, "shown only once read"
        assert pixels is not None, "shown only once read"
        num_bytes = 3 * found.image_size**2
        predicted = found.class_names[found.predicted[row]]
        text = f"{predicted} {fmt.percent(found.confidence[row], 0)}"
        if found.true is None:
            captions = ((f"image {row}", MUTED), (text, TEXT))
        else:
            is_right = found.true[row] == found.predicted[row]
            captions = ((found.class_names[found.true[row]], TEXT), (text, TONES["good" if is_right else "bad"]))
        return Picture(pixels[row * num_bytes : (row + 1) * num_bytes], found.image_size, captions)
