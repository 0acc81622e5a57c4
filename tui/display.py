"""How the dashboard is to look and behave here, all decided: plain data, handed to the app when it is made.

The file that asks for it is tui/config.py, the terminal's say tui/terminal/capabilities.py. Knows neither.
"""

from typing import Literal, TypeAlias

from msgspec import Struct, field

Theme: TypeAlias = Literal["dark", "light"]
PlotStyle: TypeAlias = Literal["braille", "blocks", "ascii"]
"""What curves are drawn with. "ascii" goes for everything else on the screen too."""
ColorDepth: TypeAlias = Literal["truecolor", "256", "16", "none"]


class Display(Struct, frozen=True, kw_only=True):
    """What the user and the terminal ask for. The defaults are those of a modern terminal."""

    theme: Theme = "dark"
    plots: PlotStyle = "braille"
    colors: ColorDepth = "truecolor"
    low_bandwidth: bool = False
    bell: bool = True
    """Ring the terminal's bell when a run ends."""
    keys: dict[str, str] = field(default_factory=dict)
    """Keys other than the usual ones, by the id of their binding: {"monitor.stop": "ctrl+s"}."""
    notify: str = ""
    """A shell command that the worker of a run started here runs when the run ends; empty: none."""

    @property
    def is_as_drawn(self) -> bool:
        """Whether the widgets' own colours and signs are what is wanted: nothing is painted over then."""
        return self.theme == "dark" and self.colors == "truecolor" and self.plots != "ascii"
