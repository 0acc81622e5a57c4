"""Screen over one image of predictions: its most probable classes. Arrows go through the images as they were sorted."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from engine.runs.predictions import Predictions
from tui import format as fmt
from tui.screens.gallery_screen import GalleryScreen
from tui.text.layout import bar
from tui.theme import MUTED, TEXT, TONES, TRAIN
from tui.widgets.basic import ChangedStatic, TooSmall
from tui.widgets.gallery import Gallery, Picture
from tui.widgets.key_bar import KeyBar

_NAME_WIDTH, _BAR_WIDTH = 24, 24


class TopClasses(GalleryScreen):
    """One image as large as fits, and beside it its most probable classes with their probabilities."""

    CSS_PATH = "scores.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,down,pagedown,l,j", "turn(1)", "next image", key_display="→", id="top.next_image",
                tooltip="the next image"),
        Binding("left,up,pageup,h,k", "turn(-1)", "image before", key_display="←", id="top.image_before",
                tooltip="the image before"),
        Binding("escape", "back", "images", id="top.back", tooltip="back"),
    ]  # fmt: skip

    def __init__(self, found: Predictions, rows: Sequence[int], start: int, picture: Callable[[int], Picture]) -> None:
        """Show the image at place `start` of `rows` first.

        Args:
            found: predictions that have the most probable classes.
            rows: rows of the predictions, in the order in which they are gone through.
            start: place in `rows`.
            picture: returns the picture of a row.
        """
        super().__init__()
        self._found, self._rows, self._picture, self._page_start = found, rows, picture, start

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield TooSmall()
        with Vertical(id="body"):
            yield ChangedStatic(id="top")
            yield ChangedStatic(id="sorting")
            with Horizontal(id="gallery"):
                gallery = self.new_gallery()
                gallery.wanted = 1
                yield gallery
                yield Static(id="classes")
            yield KeyBar()

    def _per_page(self) -> int:
        return 1

    def _num_pictures(self) -> int:
        return len(self._rows)

    def _show(self) -> None:
        row = self._rows[self._page_start]
        place = f"image {self._page_start + 1:,} of {len(self._rows):,}"
        name = self._found.names[row] if self._found.names else f"image {row} of the data"
        self.query_one("#top", ChangedStatic).set_text(
            Text.assemble(("Most probable classes", f"bold {TEXT}"), (f"   {place}", MUTED))
        )
        self.query_one("#sorting", ChangedStatic).set_text(Text(name, MUTED))
        self.query_one("#images", Gallery).show([self._picture(row)])
        self.query_one("#classes", Static).update(top_classes(self._found, row))


def top_classes(found: Predictions, row: int) -> Text:
    """Return the most probable classes of an image, two lines each; its true class is marked, and named if it is none.

    Args:
        found: predictions that have the most probable classes.
        row: of the image.
    """
    text, true = Text(), None if found.true is None else found.true[row]
    for index, probability in zip(found.top[row], found.top_probability[row], strict=True):
        color = TRAIN if true is None else TONES["good" if index == true else "bad"]
        mark = "  true class" if index == true else ""
        text.append(f"{fmt.cut(found.class_names[index], _NAME_WIDTH)}{mark}\n", color if index == true else TEXT)
        text.append_text(bar(probability, _BAR_WIDTH, color)).append(f" {fmt.percent(probability):>7}\n", TEXT)
    rest = max(0.0, 1.0 - sum(found.top_probability[row]))
    num_others = len(found.class_names) - len(found.top[row])
    if num_others:
        text.append(f"\n{'others':<{_BAR_WIDTH}} {fmt.percent(rest):>7}\n", MUTED)
    if true is not None and true not in found.top[row]:
        text.append(f"\nIts class is {found.class_names[true]}, which is among the others.", TONES["bad"])
    return text
