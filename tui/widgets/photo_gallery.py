"""The gallery with real images, for terminals that can show them: textual-image draws, the gallery writes below."""

from collections.abc import Sequence
from typing import Any, ClassVar

from PIL import Image
from textual.strip import Strip

from tui.widgets.gallery import Gallery, Picture


class Photos(Gallery):
    """Pictures at their own resolution, in the same places as in a Gallery."""

    SIDES: ClassVar[tuple[int, ...]] = (32, 24, 16)

    def __init__(self, widget: Any, *, id: str | None = None) -> None:
        """Show pictures with `widget`, a class of textual-image's."""
        super().__init__(id=id)
        self._widget = widget
        self._frames: list[Any] = []

    def draw(self, pictures: Sequence[Picture], side: int, columns: int) -> list[Strip]:
        """Place the images over rows left empty, and return those rows with captions below."""
        while len(self._frames) < len(pictures):
            frame = self._widget()
            frame.styles.position = "absolute"
            self._frames.append(frame)
            self.mount(frame)
        for number, frame in enumerate(self._frames):
            frame.display = number < len(pictures)
            if frame.display:
                picture = pictures[number]
                frame.styles.width, frame.styles.height = side, side // 2
                frame.styles.offset = self.place(number, side, columns)
                frame.image = Image.frombytes("RGB", (picture.side, picture.side), picture.pixels)
        return super().draw(pictures, side, columns)

    def cells(self, picture: Picture, side: int) -> list[Strip]:
        """Return empty rows: the image lies over them."""
        return [Strip.blank(side) for _ in range(side // 2)]
