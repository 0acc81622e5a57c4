"""A Static that paints only when what it shows is something else than before."""

from rich.text import Text
from textual.widgets import Static


class Quiet(Static):
    """Shows text. Telling it twice the same thing costs nothing on the line."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.text = Text()

    def tell(self, text: Text) -> None:
        """Show `text`, unless it is shown already."""
        if text == self.text and text.spans == self.text.spans:
            return
        lines = text.split("\n", allow_blank=True)
        fits = max(line.cell_len for line in lines) <= self.content_size.width
        self.text = text
        # A new layout paints the whole screen: only where the height is not the right one, or wrapping decides it.
        self.update(text, layout=self.styles.is_auto_height and not (fits and self.content_size.height == len(lines)))
