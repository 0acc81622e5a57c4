"""Preview screen: a preset's training images as its network is given them, in its first epochs. Asks torch once."""

import threading
import time
from collections.abc import Sequence
from typing import ClassVar

import msgspec
from rich.console import Group
from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Static

from engine.runs.preview import Preview, Question, unpack_first
from presets.errors import CifartuiError
from tui.data.folder_summary import unpacking
from tui.data.torch_process import run_module
from tui.screens.gallery_screen import GalleryScreen
from tui.text import run_text
from tui.theme import MUTED, TEXT, TONES
from tui.widgets.basic import ChangedStatic
from tui.widgets.gallery import Gallery, Picture

_TELL_EVERY_S = 0.2
_MOST_NOTICES = 3
"""Rows that they take from the images."""


class PreviewRead(Message):
    """The images are there, or the reason why not."""

    def __init__(self, found: Preview | None, problem: str = "") -> None:
        self.found, self.problem = found, problem
        super().__init__()


class Unpacked(Message):
    """Progress of the unpacking of an archive with the images, in words; empty when that is done."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__()


class _LeftError(Exception):
    """The screen is gone."""


class PreviewScreen(GalleryScreen):
    """A gallery: each image by the validation transform, then as it is trained on in each epoch."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,down,pagedown,l,j", "turn(1)", "next page", key_display="→", id="preview.next_page",
                tooltip="the next page"),
        Binding("left,up,pageup,h,k", "turn(-1)", "page before", key_display="←", id="preview.page_before",
                tooltip="the page before"),
        Binding("escape", "back", "back", id="preview.back", tooltip="back"),
    ]  # fmt: skip

    def __init__(self, title: str, question: Question) -> None:
        """Show the images of a run of the preset called `title`, started as `question` says."""
        super().__init__()
        self._title, self._question = title, question
        self.found: Preview | None = None
        self._pictures: list[Picture] = []
        self._problem = self._progress = ""
        self._left = threading.Event()

    def on_mount(self) -> None:
        """Ask for the images, in a thread."""
        self._show()
        self._ask()

    def on_unmount(self) -> None:
        """End the process that nobody waits for any more."""
        self._left.set()

    @work(thread=True, group="preview")
    def _ask(self) -> None:
        found, problem, told_at = None, "", 0.0

        def on_bytes(done: int, total: int) -> None:
            nonlocal told_at
            if self._left.is_set():
                raise _LeftError
            if time.monotonic() - told_at > _TELL_EVERY_S:
                told_at = time.monotonic()
                self.post_message(Unpacked(unpacking(done, total)))

        try:
            unpack_first(self._question, on_bytes)
            self.post_message(Unpacked(""))
            answer = run_module("engine.training.preview", stdin=msgspec.json.encode(self._question), stop=self._left)
            found = msgspec.json.decode(answer, type=Preview)
        except _LeftError:
            return
        except CifartuiError as error:
            problem = str(error)
        if not self._left.is_set():
            self.post_message(PreviewRead(found, problem))

    def on_unpacked(self, event: Unpacked) -> None:
        """Say how far the archive is unpacked."""
        self._progress = event.text
        if self.found is None:
            self.query_one("#making", Static).update(self._waiting())

    def on_preview_read(self, event: PreviewRead) -> None:
        """Show the images, or why there are none."""
        self.found, self._problem = event.found, event.problem
        if self.found is not None:
            self._pictures = pictures(self.found)
            self.query_one("#images", Gallery).group = self._num_each
        self._show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer pages where there are images."""
        return self.found is not None or action != "turn"

    def _num_pictures(self) -> int:
        return len(self._pictures)

    def _per_page(self) -> int:
        """Return the tiles of a page: of as many whole images as fit, or as many tiles as fit of a single one."""
        capacity = self.query_one("#images", Gallery).capacity
        return capacity // self._num_each * self._num_each or capacity

    @property
    def _num_each(self) -> int:
        """The number of tiles of an image."""
        return 1 + max((len(row.epochs) for row in self.found.rows), default=0) if self.found is not None else 1

    def _show(self) -> None:
        self.refresh_bindings()
        title = Text.assemble((self._title, f"bold {TEXT}"), ("   training images as the network is given them", MUTED))
        self.query_one("#top", ChangedStatic).set_text(title)
        making, frame = self.query_one("#making", Static), self.query_one("#gallery")
        frame.display, making.display = self.found is not None, self.found is None
        if self.found is None:
            making.update(self._waiting())
            return
        self._page_start = min(self._page_start, max(0, len(self._pictures) - 1))
        shown = self._pictures[self._page_start :][: self._per_page()]
        self.query_one("#images", Gallery).show(shown)
        first, last = (place // self._num_each + 1 for place in (self._page_start, self._page_start + len(shown) - 1))
        text = f"seed {self._question.seed}, on {self.found.device}"
        which = f"image {first}" if first == last else f"images {first} to {last}"
        place = f"{which} of {len(self.found.rows)}" if shown else "no image"
        said = [Text(f"{text}: {place}", MUTED), *(Text(each, TONES["warn"]) for each in noted(self.found.notices))]
        self.query_one("#sorting", ChangedStatic).set_text(Text("\n", no_wrap=True, overflow="ellipsis").join(said))

    def _waiting(self) -> Group | Text:
        if self._problem:
            return Text(self._problem, TONES["bad"])
        doing = self._progress or "Reading the data, and drawing the first batches as a run does"
        text = Text(f"{doing}…", TONES["busy"])
        return Group(text, Text(f"{run_text.sentence(run_text.LOADING)}. Esc leaves.", MUTED))


def noted(notices: Sequence[str]) -> list[str]:
    """Return the rows about the data that there is room for: images that cannot be read first, and how many others."""
    ordered = sorted(notices, key=lambda notice: "cannot be read" not in notice)
    if len(ordered) <= _MOST_NOTICES:
        return ordered
    others = len(ordered) - _MOST_NOTICES + 1
    return [*ordered[: _MOST_NOTICES - 1], f"… and {others} more notices, which cifartui preview prints"]


def pictures(found: Preview) -> list[Picture]:
    """Return the tiles of a preview, image by image: the validation transform, then each epoch, seen in it or not."""
    shown = []
    for row in found.rows:
        for place, tile in enumerate((row.plain, *row.epochs)):
            where = (f"epoch {place}" if place else "validation", MUTED)
            if tile is None:
                shown.append(Picture(_NOTHING, 1, (("not trained on", MUTED), where)))
            else:
                shown.append(Picture(tile.pixels, tile.side, ((tile.caption, TEXT), where)))
    return shown


_NOTHING = bytes((0x18, 0x1C, 0x24))
"""A pixel of the colour of panes."""
