"""Display settings: theme, plot style, colour depth and keys, all resolved. Plain data.

tui/main.py makes them of the configuration (tui/config.py) and of the terminal (tui/terminal/capabilities.py).
Apart from both, because every layer down to the theme uses these types and none of the rest.
"""

from typing import Literal, TypeAlias

from msgspec import Struct, field

from engine.runs.notify_settings import NOBODY, Notify

Theme: TypeAlias = Literal["dark", "light"]
PlotStyle: TypeAlias = Literal["braille", "blocks", "ascii"]
"""Characters that curves are drawn with. "ascii" holds for everything else on the screen too."""
ColorDepth: TypeAlias = Literal["truecolor", "256", "16", "none"]


class HostEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A host as the configuration has it, `[hosts.NAME]`."""

    ssh: str = ""
    """Destination as ssh takes it; else the name."""
    command: str = "cifartui"
    """Command line of cifartui there, as that host's shell takes it."""
    runs_dir: str = ""
    """Folder of its runs; else as it is configured there."""
    data_dir: str = ""
    """Folder that is searched first for data; likewise."""


class Display(Struct, frozen=True, kw_only=True):
    """Resolved display settings. The defaults are those of a modern terminal."""

    theme: Theme = "dark"
    plots: PlotStyle = "braille"
    colors: ColorDepth = "truecolor"
    narrow: bool = False
    """Signs of ambiguous width are shown in ASCII: in East Asian locales many terminals give them two columns."""
    low_bandwidth: bool = False
    bell: bool = True
    """Ring the terminal's bell when a run ends."""
    keys: dict[str, str] = field(default_factory=dict)
    """Keys other than the usual ones, by the id of their binding: {"monitor.stop": "ctrl+s"}."""
    notify: Notify = NOBODY
    """Whom the watcher of a run started here tells of it."""

    @property
    def is_as_drawn(self) -> bool:
        """True if the widgets' own colours and characters are shown as they are, without a fallback."""
        return self.theme == "dark" and self.colors == "truecolor" and self.plots != "ascii" and not self.narrow
