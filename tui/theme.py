"""Colours of the dashboard, by meaning. No widgets.

Blue and orange (Okabe and Ito) stay apart for every kind of colour vision, and the report's rose from both; green,
yellow and red appear only where they say how a run is doing, and always beside the words that say it.
Widgets draw with the dark colours; tui/terminal/fallback.py turns them into others if the display asks for it.
"""

from typing import TYPE_CHECKING, Literal, TypeAlias

from tui import display

if TYPE_CHECKING:  # commands print in these colours, and need no Textual for it
    from textual.theme import Theme

Tone: TypeAlias = Literal["good", "calm", "busy", "warn", "bad"]
"""Meaning of a fact: fine, neutral, under way, a warning, an error."""

TRAIN = "#56b4e9"
TRAIN_RANGE = "#2f5f7f"
"""The unsmoothed training curve."""
VAL = "#e69f00"
REFERENCE = "#dba6c0"
GOOD = "#6cc3a0"
WARN = "#e8cc6a"
BAD = "#f07b62"
TEXT = "#d5d9e0"
MUTED = "#8791a0"
FAINT = "#4a5362"
BACKGROUND = "#12151b"
SURFACE = "#181c24"
RAISED = "#222834"
CURSOR = "#2c3a4d"
CURSOR_TEXT = "#ffffff"

TONES: dict[Tone, str] = {"good": GOOD, "calm": TEXT, "busy": TRAIN, "warn": WARN, "bad": BAD}

LIGHT = {
    TRAIN: "#0a6aa6",
    VAL: "#9c5200",
    REFERENCE: "#802f6a",
    GOOD: "#147252",
    WARN: "#7d6300",
    BAD: "#b52a1d",
    TEXT: "#20262f",
    MUTED: "#586272",
    FAINT: "#b3bbc7",
    BACKGROUND: "#f8f9fb",
    SURFACE: "#eef1f5",
    RAISED: "#e2e7ee",
    CURSOR: "#d9e7f6",
    CURSOR_TEXT: "#0c0f14",
}
"""The light theme's colour for every dark one. None is also a dark one: what is light already stays as it is."""

SIXTEEN: dict[display.Theme, dict[str, int]] = {
    "dark": {
        TRAIN: 14, VAL: 11, REFERENCE: 13, GOOD: 10, WARN: 3, BAD: 9, TEXT: 15, MUTED: 7, FAINT: 8,
        BACKGROUND: 0, SURFACE: 0, RAISED: 8, CURSOR: 4, CURSOR_TEXT: 15,
    },
    "light": {
        TRAIN: 4, VAL: 5, REFERENCE: 6, GOOD: 2, WARN: 3, BAD: 1, TEXT: 0, MUTED: 8, FAINT: 7,
        BACKGROUND: 15, SURFACE: 15, RAISED: 7, CURSOR: 14, CURSOR_TEXT: 0,
    },
}  # fmt: skip
"""The colours of the oldest terminals, by their numbers, chosen by hand: the nearest would make greys vanish."""


def theme(name: display.Theme = "dark") -> "Theme":
    """Return cifartui's Textual theme, dark or light."""
    from textual.theme import Theme

    def shade(color: str) -> str:
        return color if name == "dark" else LIGHT[color]

    return Theme(
        name=f"cifartui-{name}",
        dark=name == "dark",
        primary=shade(TRAIN),
        secondary=shade(VAL),
        accent=shade(TRAIN),
        success=shade(GOOD),
        warning=shade(WARN),
        error=shade(BAD),
        foreground=shade(TEXT),
        background=shade(BACKGROUND),
        surface=shade(SURFACE),
        panel=shade(RAISED),
        variables={
            "muted": shade(MUTED),
            "faint": shade(FAINT),
            "block-cursor-background": shade(CURSOR),
            "block-cursor-foreground": shade(CURSOR_TEXT),
            "block-cursor-text-style": "none",
            "block-cursor-blurred-background": shade(RAISED),
            "block-cursor-blurred-foreground": shade(TEXT),
            "border": shade(FAINT),
            "border-blurred": shade(FAINT),
            "scrollbar": shade(FAINT),
            "scrollbar-background": shade(BACKGROUND),
            "scrollbar-background-hover": shade(BACKGROUND),
            "scrollbar-background-active": shade(BACKGROUND),
            "scrollbar-corner-color": shade(BACKGROUND),
        },
    )
