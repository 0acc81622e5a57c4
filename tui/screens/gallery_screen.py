"""Base of the screens that show images page by page: Predictions, images of one's own, the preview."""

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Static

from tui.terminal.capabilities import image_widget
from tui.widgets.basic import ChangedStatic, TooSmall
from tui.widgets.gallery import Gallery
from tui.widgets.key_bar import KeyBar

if TYPE_CHECKING:
    from tui.app import CifartuiApp


class GalleryScreen(Screen[None]):
    """A screen with a gallery, `images`, whose pages turn and fit the window."""

    CSS_PATH = "predictions.tcss"
    app: "CifartuiApp"

    def __init__(self) -> None:
        """Begin with the first page."""
        super().__init__()
        self._page_start = 0

    def compose(self) -> ComposeResult:
        """Lay the screen out: a title, what the page shows, and the gallery, or what is said in its place."""
        yield TooSmall()
        with Vertical(id="body"):
            yield ChangedStatic(id="top")
            yield ChangedStatic(id="sorting")
            yield Static(id="making")
            with Horizontal(id="gallery"):
                yield self.new_gallery()
            yield KeyBar()

    def new_gallery(self) -> Gallery:
        """Return the gallery that the terminal can show: real images, or half blocks."""
        widget = image_widget() if self.app.has_colors and self.app.plot_style != "ascii" else None
        if widget is None:
            return Gallery(id="images")
        from tui.widgets.photo_gallery import Photos

        return Photos(widget, id="images")

    def action_back(self) -> None:
        """Leave the screen."""
        self.dismiss()

    def action_turn(self, pages: int) -> None:
        """Turn pages, and stop at the ends."""
        start = self._page_start + pages * self._per_page()
        if 0 <= start < self._num_pictures():
            self._page_start = start
            self._show()

    def on_resize(self) -> None:
        """Show as many images as fit now."""
        self.call_after_refresh(self._show)

    def on_gallery_sized(self) -> None:
        """Show as many images as fit, now that it is known."""
        self._show()

    def _per_page(self) -> int:
        """Return the number of images that a page holds."""
        return self.query_one("#images", Gallery).capacity

    def _num_pictures(self) -> int:
        """Return the number of images on all pages."""
        raise NotImplementedError

    def _show(self) -> None:
        """Show the page, and what is said around it."""
        raise NotImplementedError
