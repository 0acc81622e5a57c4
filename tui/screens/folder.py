"""Screen with the summary of a folder of images, as `cifartui data PATH` prints it, and the presets for it."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from msgspec import Struct
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.screen import Screen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.runs.run_options import RunOptions
from presets.errors import CifartuiError
from presets.problems import printable
from tui import format as fmt
from tui.data import folder_summary
from tui.data.folder_summary import FolderSummary
from tui.text.layout import table
from tui.theme import MUTED, TEXT, TONES, TRAIN
from tui.widgets.basic import ChangedStatic, TooSmall
from tui.widgets.key_bar import KeyBar
from tui.widgets.lists import Pickable

if TYPE_CHECKING:
    from presets.catalog import Listed
    from tui.app import CifartuiApp

_TELL_EVERY_S = 0.2


class Chosen(Struct, frozen=True):
    """A preset to be started, and its options, which name the folder."""

    preset: str
    options: RunOptions


class Progressed(Message):
    """Part of the work that is done, as a clause."""

    def __init__(self, done: str) -> None:
        self.done = done
        super().__init__()


class Summarized(Message):
    """The summary of a folder, or why there is none."""

    def __init__(self, summary: FolderSummary | None, problem: str = "") -> None:
        self.summary, self.problem = summary, problem
        super().__init__()


class _LeftError(Exception):
    """Nobody waits for the summary any more."""


class _Choices(Pickable):
    """Presets that can be trained on a folder. The page keys scroll its summary."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pagedown", "screen.page(1)", "more", key_display="pgdn", id="folder.page_down",
                tooltip="scroll the summary"),
        Binding("pageup", "screen.page(-1)", "summary up", show=False, id="folder.page_up",
                tooltip="scroll the summary up"),
    ]  # fmt: skip


class FolderScreen(Screen[Chosen | None]):
    """Summary of a folder, as `cifartui data PATH` prints it, and the presets that can be trained on it."""

    CSS_PATH = "folder.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "classes", "all classes", id="folder.classes", tooltip="every class, or the largest and smallest"),
        Binding("escape", "back", "back", id="folder.back", tooltip="back to the folders; ends the listing"),
    ]
    app: "CifartuiApp"

    def __init__(self, path: str, listed: "Sequence[Listed]") -> None:
        """Look into `path`, and offer those of the presets `listed` whose data set it is."""
        super().__init__()
        self._path, self._listed = path, listed
        self._left = threading.Event()
        self._has_all = False
        self.summary: FolderSummary | None = None

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield TooSmall()
        with Vertical(id="body"):
            yield Static(
                Text.assemble(("Folder of images   ", f"bold {TEXT}"), (printable(self._path), TRAIN)), id="top"
            )
            with VerticalScroll(id="summary", can_focus=False):
                yield ChangedStatic(id="found")
                yield Static(id="facts")
                yield ChangedStatic(id="classes")
            yield _Choices(id="choices", compact=True)
            yield KeyBar()

    def on_mount(self) -> None:
        """List the folder in a thread, which nobody waits for: it may be on a disk that does not answer."""
        choices = self.query_one("#choices")
        choices.border_title = "presets for it: Enter asks what to change, and starts"
        choices.display = False
        self.query_one("#found", ChangedStatic).set_text(Text("looking into it …   Esc ends that", MUTED))
        threading.Thread(target=self._summarize, name="folder", daemon=True).start()

    def on_unmount(self) -> None:
        """End the listing."""
        self._left.set()

    def _summarize(self) -> None:
        environment = self.app.environment
        number, told_at = 0, time.monotonic()

        def tell(done: Callable[[], str]) -> None:
            nonlocal told_at
            if self._left.is_set():
                raise _LeftError
            if time.monotonic() - told_at > _TELL_EVERY_S:
                told_at = time.monotonic()
                self.post_message(Progressed(done()))

        def poll() -> None:
            nonlocal number
            number += 1
            tell(lambda: f"looking into it: {fmt.count(number)} folders and images")

        def on_bytes(done: int, total: int) -> None:
            tell(lambda: folder_summary.unpacking(done, total))

        try:
            summary = environment.summarize(self._path, poll, on_bytes)
            environment.remember_folder(summary.path)
            message = Summarized(summary)
        except _LeftError:
            return
        except CifartuiError as error:
            message = Summarized(None, str(error))
        if not self._left.is_set():
            self.post_message(message)

    def on_progressed(self, event: Progressed) -> None:
        """Show how far the work is."""
        if self.summary is None:
            self.query_one("#found", ChangedStatic).set_text(Text(f"{event.done} …   Esc ends that", MUTED))

    def on_summarized(self, event: Summarized) -> None:
        """Show the summary and the presets, or why the folder cannot be used."""
        found = self.query_one("#found", ChangedStatic)
        if event.summary is None:
            found.set_text(Text(event.problem, TONES["bad"]))
            return
        self.summary = event.summary
        found.display = False
        self.query_one("#facts", Static).update(table(folder_summary.rows(event.summary)))
        self._show_classes()
        self.refresh_bindings()
        choices = self.query_one(_Choices)
        choices.display = True
        choices.fill([self._option(each, event.summary) for each in self._presets(event.summary)])
        choices.focus()

    def _show_classes(self) -> None:
        if self.summary is None:
            return
        most = None if self._has_all else folder_summary.MOST_CLASSES
        lines = folder_summary.class_rows(self.summary, most)
        text = Text("\n", no_wrap=True).join(
            [Text(line, TEXT if number else MUTED) for number, line in enumerate(lines)]
        )
        self.query_one("#classes", ChangedStatic).set_text(text)

    def _presets(self, summary: FolderSummary) -> "list[Listed]":
        """Return the usable presets for this data set: the advised one first, then those for photographs."""
        fitting = [
            each for each in self._listed if each.preset is not None and each.preset.data.dataset == summary.dataset
        ]
        return sorted(fitting, key=lambda each: (each.name != summary.preset, not each.name.startswith("photos/")))

    def _option(self, listed: "Listed", summary: FolderSummary) -> Option:
        advised = "  advised" if listed.name == summary.preset else ""
        title = listed.preset.title if listed.preset is not None else ""
        text = Text.assemble((f"{listed.name:<18} ", TEXT), (title, MUTED), (advised, TRAIN), no_wrap=True)
        return Option(text, id=listed.name)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Ask as before every start, with this folder filled in."""
        from tui.screens.start_dialog import StartPanel

        name, summary = event.option.id, self.summary
        if name is None or summary is None or self.app.screen is not self:
            return

        def answered(options: RunOptions | None) -> None:
            if options is not None:
                self.dismiss(Chosen(name, options))

        panel = StartPanel([name], self.app.readings, data=summary.path, changes=folder_summary.changes(summary))
        self.app.push_screen(panel, answered)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer the pages of a summary, and all classes where some are left out."""
        if action == "classes":
            return self.summary is not None and len(self.summary.classes) > folder_summary.MOST_CLASSES
        return action != "page" or self.summary is not None

    def action_classes(self) -> None:
        """Show every class, or the largest and the smallest again."""
        self._has_all = not self._has_all
        self._show_classes()

    def action_page(self, direction: int) -> None:
        """Scroll the summary."""
        pane = self.query_one("#summary", VerticalScroll)
        pane.scroll_relative(y=direction * max(1, pane.size.height - 1), animate=False)

    def action_back(self) -> None:
        """Go back to the folders."""
        self.dismiss(None)
