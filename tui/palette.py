"""The dashboard's colours, by meaning. Knows no widgets.

Blue and orange (Okabe and Ito) stay apart for every kind of colour vision; green, yellow and red appear
only where they say how a run is doing, and always beside the words that say it.
"""

from typing import Literal, TypeAlias

from textual.theme import Theme

Tone: TypeAlias = Literal["good", "calm", "busy", "warn", "bad"]
"""How a fact is to be taken: fine, neutral, under way, worth a look, wrong."""

TRAIN = "#56b4e9"
TRAIN_RANGE = "#2f5f7f"
"""What the training curve is smoothed from."""
VAL = "#e69f00"
REFERENCE = "#b79fd4"
GOOD = "#6cc3a0"
WARN = "#e8cc6a"
BAD = "#f07b62"
TEXT = "#d5d9e0"
MUTED = "#8791a0"
FAINT = "#4a5362"
BACKGROUND = "#12151b"
SURFACE = "#181c24"
RAISED = "#222834"

TONES: dict[Tone, str] = {"good": GOOD, "calm": TEXT, "busy": TRAIN, "warn": WARN, "bad": BAD}


def theme() -> Theme:
    """Return cifartui's Textual theme."""
    return Theme(
        name="cifartui",
        primary=TRAIN,
        secondary=VAL,
        accent=TRAIN,
        success=GOOD,
        warning=WARN,
        error=BAD,
        foreground=TEXT,
        background=BACKGROUND,
        surface=SURFACE,
        panel=RAISED,
        variables={
            "muted": MUTED,
            "faint": FAINT,
            "block-cursor-background": "#2c3a4d",
            "block-cursor-foreground": "#ffffff",
            "block-cursor-text-style": "none",
            "block-cursor-blurred-background": RAISED,
            "block-cursor-blurred-foreground": TEXT,
            "border": FAINT,
            "border-blurred": FAINT,
            "footer-background": SURFACE,
            "footer-key-foreground": TRAIN,
            "footer-description-foreground": MUTED,
            "scrollbar": FAINT,
            "scrollbar-background": BACKGROUND,
            "scrollbar-background-hover": BACKGROUND,
            "scrollbar-background-active": BACKGROUND,
            "scrollbar-corner-color": BACKGROUND,
        },
    )
