"""Both palettes can be read, and the curves told apart by every eye."""

import itertools
import math

import pytest

from tui import theme as palette
from tui.display import Display
from tui.terminal.fallback import shown_colors, triplet
from tui.theme import LIGHT, SIXTEEN

GROUNDS = (palette.BACKGROUND, palette.SURFACE)
TEXTS = (palette.TEXT, palette.TRAIN, palette.VAL, palette.REFERENCE, palette.GOOD, palette.WARN, palette.BAD)
SIGHT = {
    "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    "deuteranopia": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    "tritanopia": ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)),
}
"""What of red, green and blue light is seen (Machado, Oliveira and Fernandes 2009, severity 1)."""


def shade(color: str, theme: str) -> str:
    return color if theme == "dark" else LIGHT[color]


def light_of(color: str) -> list[float]:
    parts = [part / 255 for part in bytes.fromhex(color[1:])]
    return [part / 12.92 if part <= 0.04 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def contrast(one: str, other: str) -> float:
    """Return the contrast of WCAG 2, from 1 to 21."""
    low, high = sorted(
        sum(part * weight for part, weight in zip(light_of(color), (0.2126, 0.7152, 0.0722), strict=True))
        for color in (one, other)
    )
    return (high + 0.05) / (low + 0.05)


def lab(light: list[float]) -> tuple[float, float, float]:
    """Return a colour in CIE Lab, where about 2 is the least difference seen."""
    red, green, blue = (min(1.0, max(0.0, part)) for part in light)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.0888
    x, y, z = (part ** (1 / 3) if part > 0.0089 else 7.787 * part + 16 / 116 for part in (x, y, z))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_text_can_be_read(theme: str) -> None:
    for ground in GROUNDS:
        for color in TEXTS:
            assert contrast(shade(color, theme), shade(ground, theme)) >= 4.5
        assert contrast(shade(palette.MUTED, theme), shade(ground, theme)) >= 4.5
    for ground in (palette.RAISED, palette.CURSOR):  # the row under a cursor
        for color in (*TEXTS, palette.MUTED):
            assert contrast(shade(color, theme), shade(ground, theme)) >= 3
    assert contrast(shade(palette.CURSOR_TEXT, theme), shade(palette.CURSOR, theme)) >= 7


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_curves_and_the_reports_level_stay_apart(theme: str, sight: str) -> None:
    def seen(color: str) -> tuple[float, float, float]:
        light = light_of(shade(color, theme))
        return lab([sum(part * weight for part, weight in zip(light, row, strict=True)) for row in SIGHT[sight]])

    for one, other in itertools.combinations((palette.TRAIN, palette.VAL, palette.REFERENCE), 2):
        assert math.dist(seen(one), seen(other)) > 15


def test_what_is_light_already_stays_light() -> None:
    assert not set(LIGHT) & set(LIGHT.values())


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("colors", ["16", "256"])
def test_meanings_stay_apart_with_few_colours(theme: str, colors: str) -> None:
    shown = shown_colors(Display(theme=theme, colors=colors))  # type: ignore[arg-type]
    numbers = {color: shown[triplet(color)].number for color in (*LIGHT,)}
    meanings = [numbers[color] for color in (*TEXTS, palette.MUTED)]
    assert len(set(meanings)) == len(meanings)
    assert not set(meanings) & {numbers[ground] for ground in GROUNDS}
    assert numbers[palette.CURSOR] != numbers[palette.BACKGROUND]
    assert shown[triplet(LIGHT[palette.VAL])].number == numbers[palette.VAL]  # style sheets say the light one


def test_the_darkest_colours_stay_grey_with_256() -> None:
    shown = shown_colors(Display(colors="256"))
    for color in (palette.BACKGROUND, palette.SURFACE, palette.RAISED, palette.CURSOR, palette.FAINT):
        number = shown[triplet(color)].number
        assert number is not None
        assert number >= 232


def test_every_colour_has_its_sixteenth() -> None:
    assert set(SIXTEEN["dark"]) == set(SIXTEEN["light"]) == set(LIGHT)
