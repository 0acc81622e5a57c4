"""Screen that asks for a folder of images: a path to be typed, recent folders, a tree. Opens its summary."""

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text, TextType
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Key, Paste
from textual.screen import Screen
from textual.suggester import Suggester
from textual.widgets import DirectoryTree, Input, OptionList, Static
from textual.widgets.option_list import Option

from engine import files
from engine.shared.image_archives import is_archive
from presets.problems import printable
from tui.data.recent_folders import completion
from tui.screens.folder import Chosen, FolderScreen
from tui.theme import MUTED, TEXT
from tui.widgets.basic import TextField, TooSmall
from tui.widgets.key_bar import KeyBar
from tui.widgets.lists import Pickable

if TYPE_CHECKING:
    from presets.catalog import Listed
    from tui.app import CifartuiApp

_MOST_RECENT = 5
"""Recent folders that are shown."""
_BEGINNINGS = ("/", "~", ".")
"""First characters of a path that does not go on behind a slash typed before it."""


class Folders(DirectoryTree):
    """Tree of folders, and of archives, which may hold images. Enter chooses, space and the arrows unfold."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "look into it", key_display="enter", id="open.look",
                tooltip="look into the folder: classes, sizes, a preset"),
        Binding("right", "unfold(True)", "unfold", id="open.unfold", tooltip="unfold the folder; so does space"),
        Binding("left", "unfold(False)", "fold", show=False, id="open.fold",
                tooltip="fold the folder, or go to the one above"),
        Binding("j", "cursor_down", "Down", show=False),
        Binding("k", "cursor_up", "Up", show=False),
    ]  # fmt: skip
    ICON_NODE, ICON_NODE_EXPANDED, ICON_FILE = "▶ ", "▼ ", "  "  # Textual's are as wide as the terminal's font decides

    def __init__(self, path: Path) -> None:
        super().__init__(path, id="folders")
        self.auto_expand, self.show_guides, self.guide_depth = False, False, 2

    def process_label(self, label: TextType) -> Text:
        """Return a name as it is: Textual would take a str for markup."""
        return Text(printable(label)) if isinstance(label, str) else label

    def filter_paths(self, paths: Iterable[Path]) -> Iterable[Path]:
        """Keep folders and archives that are not hidden. Runs in a thread of the tree's."""
        return [
            path for path in paths if not path.name.startswith(".") and (self._safe_is_dir(path) or is_archive(path))
        ]

    def action_unfold(self, unfold: bool) -> None:
        """Unfold the folder under the cursor; or fold it, or go to the one above if it is folded already."""
        node = self.cursor_node
        if node is None:
            return
        if unfold:
            node.expand()
        elif node.is_expanded and node.allow_expand:
            node.collapse()
        elif node.parent is not None:
            self.move_cursor(node.parent)


class _Completed(Suggester):
    """Suggester of folders' names. A relative path is one below the folder that `beside` returns."""

    def __init__(self, beside: Callable[[], Path]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._beside = beside

    async def get_suggestion(self, value: str) -> str | None:
        """Return the path completed, as a thread finds it that nobody waits for."""
        import asyncio

        loop = asyncio.get_running_loop()
        found: asyncio.Future[str | None] = loop.create_future()

        def answer(text: str | None) -> None:
            if not found.done():
                found.set_result(text)

        beside = self._beside()

        def work() -> None:
            text = completion(value, beside)
            if not loop.is_closed():
                loop.call_soon_threadsafe(answer, text)

        threading.Thread(target=work, name="completion", daemon=True).start()
        return await found


class _PathField(TextField):
    """Field for a path. One that begins with /, ~ or . takes the place of a slash alone, typed or pasted."""

    async def _on_key(self, event: Key) -> None:
        if event.character in _BEGINNINGS:
            self._begin_anew()  # the field's own handler comes next, as it does below

    def _on_paste(self, event: Paste) -> None:
        if event.text.lstrip().startswith(_BEGINNINGS):
            self._begin_anew()

    def _begin_anew(self) -> None:
        if self.value == "/" and self.cursor_at_end:
            self.value = ""


class OpenFolder(Screen[Chosen | None]):
    """Asks for a folder of images: a path to be typed, recent folders, a tree. Then shows its summary."""

    CSS_PATH = "folder.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "type", "type a path", key_display="/", id="open.type",
                tooltip="type a path from the root, or after ~ from home, after . from the tree's folder"),
        Binding("u", "up", "folder above", id="open.up", tooltip="let the tree begin one folder higher"),
        Binding("tab,down", "app.focus_next", "next", show=False, id="open.next",
                tooltip="from the path to the recent folders, and to the tree"),
        Binding("escape", "back", "Home", show=False, id="open.back", tooltip="back to Home"),
    ]  # fmt: skip
    ASKS: ClassVar[tuple[str, str]] = ("Open a folder of images", "Enter says what is in it")
    app: "CifartuiApp"

    def __init__(self, listed: "Sequence[Listed]", start: Path | None = None) -> None:
        """Ask for a folder to train one of the presets `listed` on; the tree begins at `start`."""
        super().__init__()
        self._listed, self._start = listed, start or files.working_folder()
        self._recent: tuple[str, ...] = ()

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        self._recent = self.app.environment.recent_folders()[:_MOST_RECENT]
        tree = self.new_tree(self._start)
        yield TooSmall()
        with Vertical(id="body"):
            title = ((self.ASKS[0], f"bold {TEXT}"), (f"   {self.ASKS[1]}", MUTED))
            yield Static(Text.assemble(*title), id="top")
            yield _PathField(
                placeholder="type a path from /, ~ or the folder of the tree; → completes it",
                id="path",
                suggester=_Completed(lambda: Path(tree.path)),
                select_on_focus=False,
            )
            if self._recent:
                lines = [Text(printable(folder), TEXT, no_wrap=True) for folder in self._recent]
                yield Pickable(
                    *(Option(line, id=str(row)) for row, line in enumerate(lines)), id="recents", compact=True
                )
            yield tree
            yield KeyBar()

    def new_tree(self, start: Path) -> Folders:
        """Return the tree of what can be chosen."""
        return Folders(start)

    def on_mount(self) -> None:
        """Begin with the recent folders if there are any."""
        for name, title in (("#recents", "recent folders"), ("#folders", "folders")):
            for pane in self.query(name):
                pane.border_title = title
        self.query_one("#recents" if self._recent else "#folders").focus()
        self.call_after_refresh(self._begin_at_the_root)

    def _begin_at_the_root(self) -> None:
        tree = self.query_one(Folders)
        tree.move_cursor(tree.root)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Look into the folder typed. What is typed on coming back takes the place of all of it."""
        if typed := event.value.strip():
            event.input.select_all()
            self._open(typed if typed.startswith("~") else str(self._tree_folder() / typed))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Look into a recent folder."""
        self._open(self._recent[int(event.option.id or 0)])

    def on_directory_tree_directory_selected(self, event: DirectoryTree.DirectorySelected) -> None:
        """Look into a folder of the tree."""
        self._open(str(event.path))

    def on_directory_tree_file_selected(self, event: DirectoryTree.FileSelected) -> None:
        """Look into an archive of the tree."""
        self._open(str(event.path))

    def action_type(self) -> None:
        """Begin a new path in its field; the key `/` is then the first character of an absolute one."""
        self._type("/" if self.app.key_of("open.type", "/") in {"/", "slash"} else "")

    def on_paste(self, event: Paste) -> None:
        """Take what is pasted while a list or the tree has the focus."""
        event.stop()
        if line := next(iter(event.text.splitlines()), "").strip():
            self._type(line)

    def take_text(self, text: str) -> bool:
        """Take a path that came at once, pasted where the terminal does not mark it, or typed by a program."""
        if "/" not in text and not text.startswith("~"):
            return False
        self._type(text.strip())
        return True

    def _type(self, path: str) -> None:
        field = self.query_one("#path", _PathField)
        field.focus()
        field.value, field.cursor_position = path, len(path)

    def action_up(self) -> None:
        """Let the tree begin with the folder above."""
        self.query_one(Folders).path = self._tree_folder().parent

    def _tree_folder(self) -> Path:
        return Path(self.query_one(Folders).path)

    def action_back(self) -> None:
        """Leave without a folder."""
        self.dismiss(None)

    def _open(self, path: str) -> None:
        def chosen(found: Chosen | None) -> None:
            if found is not None:
                self.dismiss(found)

        self.app.push_screen(FolderScreen(path, self._listed), chosen)
