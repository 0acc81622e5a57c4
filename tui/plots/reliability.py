"""Reliability diagram as SVG: accuracy by confidence, the distance to the diagonal, and where the images lie."""

from collections.abc import Sequence

from engine.runs.scores import Bin
from tui import format as fmt

_LEFT, _TOP, _SIDE, _BELOW, _GAP = 52, 14, 280, 64, 16
_INK, _GREY, _GRID, _RIGHT, _GAP_COLOR = "#222222", "#888888", "#dddddd", "#0072b2", "#d55e00"
_LINE = 3
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def reliability_svg(bins: Sequence[Bin]) -> str:
    """Return the diagram; every bin has a title that says it in words."""
    width, bottom = _LEFT + _SIDE + 14, _TOP + _SIDE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + _GAP + _BELOW + 40}" role="img" '
        f'aria-label="Reliability diagram" font-family="sans-serif" font-size="12" fill="{_INK}">'
    ]
    for tick in _TICKS:
        x, y = _LEFT + tick * _SIDE, bottom - tick * _SIDE
        parts.append(f'<path d="M{_LEFT} {y:g}H{_LEFT + _SIDE}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:g}" text-anchor="end">{100 * tick:.0f}</text>')
        end = bottom + _GAP + _BELOW
        parts.append(f'<text x="{x:g}" y="{end + 15}" text-anchor="middle">{100 * tick:.0f}</text>')
    most = max((each.num_images for each in bins), default=0) or 1
    for each in bins:
        parts += _bin(each, most)
    middle, lowest = _LEFT + _SIDE / 2, bottom + _GAP + _BELOW
    parts += [
        f'<path d="M{_LEFT} {bottom}L{_LEFT + _SIDE} {_TOP}" stroke="{_GREY}" stroke-dasharray="4 4"/>',
        f'<path d="M{_LEFT} {bottom}H{_LEFT + _SIDE}M{_LEFT} {lowest}H{_LEFT + _SIDE}" stroke="{_GREY}"/>',
        f'<text x="{middle:g}" y="{lowest + 32}" text-anchor="middle">confidence %</text>',
        _upright("accuracy %", _TOP + _SIDE / 2),
        _upright("images", lowest - _BELOW / 2),
    ]
    return "\n".join([*parts, "</svg>\n"])


def _bin(each: Bin, most: int) -> list[str]:
    """Return a bin's bars: as far as accuracy and mean confidence reach, their distance, the accuracy, its images."""
    if each.accuracy is None or each.mean_confidence is None:
        return []
    left, width, bottom = _LEFT + each.low * _SIDE + 1, (each.high - each.low) * _SIDE - 2, _TOP + _SIDE
    low, high = sorted((each.accuracy, each.mean_confidence))
    count = each.num_images / most * _BELOW
    words = (
        f"confidence {100 * each.low:.0f} to {100 * each.high:.0f} %: {fmt.plural(each.num_images, 'image')}, "
        f"{fmt.percent(each.accuracy)} right, mean confidence {fmt.percent(each.mean_confidence)}"
    )
    bars = (
        (bottom - low * _SIDE, low * _SIDE, f'fill="{_RIGHT}" fill-opacity="0.45"'),
        (bottom - high * _SIDE, (high - low) * _SIDE, f'fill="{_GAP_COLOR}" fill-opacity="0.45"'),
        (bottom - each.accuracy * _SIDE - _LINE / 2, _LINE, f'fill="{_RIGHT}"'),
        (bottom + _GAP + _BELOW - count, count, f'fill="{_GREY}"'),
    )
    rects = "".join(
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" {style}/>'
        for top, height, style in bars
    )
    return [f"<g><title>{words}</title>{rects}</g>"]


def _upright(text: str, y: float) -> str:
    return f'<text x="14" y="{y:g}" text-anchor="middle" transform="rotate(-90 14 {y:g})">{text}</text>'
