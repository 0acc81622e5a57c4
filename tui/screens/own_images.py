"""Screens that predict images of one's own by a run's weights: a browser for the path, then a gallery of them."""

import os
import threading
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, ClassVar

from rich.console import Group
from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Static

from engine import files
from engine.runs.image_predictions import Answer, Loaded, Noticed, Predicted, Request, Row, Unpacking
from engine.runs.run_dir import RunDir, RunInfo
from engine.shared.image_archives import is_archive
from engine.shared.image_scan import shown, suffix_of, why_not_read
from presets.errors import CifartuiError
from presets.problems import printable
from tui import format as fmt
from tui.data import image_predictor
from tui.screens.gallery_screen import GalleryScreen
from tui.screens.open_folder import Folders, OpenFolder
from tui.text import run_text
from tui.text.run_name import title_of
from tui.theme import MUTED, TEXT, TONES
from tui.widgets.basic import ChangedStatic
from tui.widgets.gallery import Gallery, Picture

_TICK_S = 0.5


class _ImageFolders(Folders):
    """Tree of folders, archives and images."""

    def filter_paths(self, paths: Iterable[Path]) -> Iterable[Path]:
        """Keep what may hold an image, or is named like one, and is not hidden. Runs in a thread of the tree's."""
        return [path for path in paths if not path.name.startswith(".") and self._may_be_chosen(path)]

    def _may_be_chosen(self, path: Path) -> bool:
        is_image = bool(suffix_of(path.name)) and not why_not_read(suffix_of(path.name))
        return is_image or self._safe_is_dir(path) or is_archive(path)


class OpenImages(OpenFolder):
    """Asks for an image, a folder or an archive: a path to be typed, recent folders, a tree. Then predicts it."""

    ASKS: ClassVar[tuple[str, str]] = (
        "Open an image or a folder of your own",
        "Enter predicts it with this run's best weights",
    )

    def __init__(self, run: RunDir, info: RunInfo, start: Path | None = None) -> None:
        """Ask what to predict with the best weights of `run`; the tree begins at `start`."""
        super().__init__((), start)
        self._run, self._info = run, info

    def new_tree(self, start: Path) -> Folders:
        """Return a tree that shows images too."""
        return _ImageFolders(start)

    def _open(self, path: str) -> None:
        self.app.push_screen(OwnImages(self._run, self._info, path))


class Answered(Message):
    """An answer of the helper process, or in `problem` why it ended without one; None and "" at its end."""

    def __init__(self, answer: Answer | None, problem: str = "") -> None:
        self.answer, self.problem = answer, problem
        super().__init__()


class OwnImages(GalleryScreen):
    """A gallery: each image with its most probable class, as the helper process predicts them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,down,pagedown,l,j", "turn(1)", "next page", key_display="→", id="images.next_page",
                tooltip="the next page"),
        Binding("left,up,pageup,h,k", "turn(-1)", "page before", key_display="←", id="images.page_before",
                tooltip="the page before"),
        Binding("escape", "back", "back", id="images.back", tooltip="back to the folders; ends the prediction"),
    ]  # fmt: skip

    def __init__(self, run: RunDir, info: RunInfo, path: str) -> None:
        """Predict the images at `path` with the best weights of `run`."""
        super().__init__()
        self._run, self._info, self._path = run, info, path
        self._pixels: IO[bytes] = TemporaryFile()  # noqa: SIM115 (closed when the screen is left)
        self._left = threading.Event()
        self._started_at = 0.0
        self._side = 1
        self._doing = "Loading the network…"
        self._said: list[str] = []
        self.rows: list[Row] = []
        self.is_over = False
        self.problem = ""

    def on_mount(self) -> None:
        """Predict in a process of its own, which a thread reads."""
        self._started_at = self.app.environment.now()
        self._show()
        self._predict()
        self.set_interval(_TICK_S, self._tick)

    def on_unmount(self) -> None:
        """End the process."""
        self._left.set()

    @work(thread=True, group="own images")
    def _predict(self) -> None:
        """Post the answers of the helper. Runs in a thread that may outlast the screen."""
        with self._pixels:
            request = Request(
                run=str(self._run.path.absolute()),
                folder=str(files.working_folder()),
                pixels_fd=self._pixels.fileno(),
            )
            problem = ""
            try:
                named = os.path.expanduser(self._path)  # noqa: PTH111 (a Path would take the "/" at its end away)
                with closing(image_predictor.answers(request, [named], self._left)) as answers:
                    for answer in answers:
                        self.post_message(Answered(answer))
            except CifartuiError as error:
                problem = str(error)
            if not self._left.is_set():
                self.post_message(Answered(None, problem))
                self._left.wait()  # the images are read from the file as long as they are shown

    def on_answered(self, event: Answered) -> None:
        """Show what was predicted, or how far it is."""
        match event.answer:
            case Loaded(side=side):
                self._side = side
                self._said.append(event.answer.sentence())
                self._doing = "Predicting…"
            case Noticed(text=text):
                self._said.append(text)
            case Unpacking(done=done, total=total):
                self._doing = f"Unpacking: {fmt.memory(done)} of {fmt.memory(total)}"
            case Predicted():
                self.rows.extend(event.answer.rows)
                total_text = f" of {event.answer.known:,}" if event.answer.is_all else ""
                self._doing = f"Predicting: {event.answer.done:,}{total_text}"
            case None:
                self.is_over, self.problem = True, event.problem
        self._show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer pages where there are images."""
        return bool(self.rows) or action != "turn"

    def _num_pictures(self) -> int:
        return len(self.rows)

    def _tick(self) -> None:
        if not self.is_over:
            self._show()

    def _show(self) -> None:
        self.refresh_bindings()
        title = Text.assemble((title_of(self._info), f"bold {TEXT}"), (f"   {printable(self._path)}   ", MUTED))
        if self.problem:
            title.append(self.problem, TONES["bad"])
        elif not self.is_over:
            title.append(f"{self._doing} {self._elapsed()}   Esc ends that", TONES["busy"])
        self.query_one("#top", ChangedStatic).set_text(title)
        making, gallery = self.query_one("#making", Static), self.query_one("#gallery")
        gallery.display, making.display = bool(self.rows), not self.rows
        if not self.rows:
            self.query_one("#sorting", ChangedStatic).set_text(Text(""))
            making.update(self._instructions())
            return
        images = self.query_one("#images", Gallery)
        last = min(len(self.rows), self._page_start + images.capacity)
        images.show([self._picture(number) for number in range(self._page_start, last)])
        failed = sum(bool(row.problem) for row in self.rows)
        text = f"in order: {self._page_start + 1:,} to {last:,} of {len(self.rows):,}"
        text += f", {failed:,} without a prediction" if failed else ""
        self.query_one("#sorting", ChangedStatic).set_text(Text(f"{text}   {' '.join(self._said)}", MUTED))

    def _elapsed(self) -> str:
        return fmt.duration(self.app.environment.now() - self._started_at)

    def _instructions(self) -> Group:
        lines = [Text(text, MUTED) for text in self._said]
        if self.problem:
            lines.append(Text(self.problem, TONES["bad"]))
        elif self.is_over:
            lines.append(Text("Esc goes back, to choose an image, or a folder or an archive with images.", TEXT))
        else:
            lines.append(Text(f"{self._doing} {self._elapsed()}", TONES["busy"]))
            lines.append(Text(f"{run_text.sentence(run_text.LOADING)}. Esc ends that.", MUTED))
        return Group(*lines)

    def _picture(self, number: int) -> Picture:
        row, num_bytes = self.rows[number], 3 * self._side**2
        pixels = os.pread(self._pixels.fileno(), num_bytes, number * num_bytes).ljust(num_bytes, b"\0")
        if row.problem:
            below = (row.problem, TONES["bad"])
        else:
            below = (f"{row.top[0].class_name} {fmt.percent(row.top[0].confidence, 0)}", TEXT)
        return Picture(pixels, self._side, ((shown(row.file).rpartition("/")[2], MUTED), below))
