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
        changes_size = text.plain.count("\n") != self.text.plain.count("\n") or not self.text.plain
        widest = max((line.cell_len for line in text.split("\n")), default=0)
        may_wrap = self.styles.is_auto_height and widest > self.content_size.width
        self.text = text
        self.update(text, layout=changes_size or may_wrap)  # a new layout paints the whole screen
