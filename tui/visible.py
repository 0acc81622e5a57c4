"""The dashboard's guard: no painted row holds a character that the terminal would obey, wherever its text is from.

Textual takes bells and backspaces out of text and lets escapes pass. One filter over every row is what no widget
can forget. Rows of printable text, nearly all of them, come back as they are.
"""

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from presets.safe_text import visible_in_a_row


class Visible(LineFilter):
    """Puts signs for control characters, and cuts the row, which these signs make longer, to its width."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments of a row without anything that a terminal would obey."""
        for text, _, control in segments:
            if not (control or text.isprintable()):
                return _cleaned(segments)
        return segments


def _cleaned(segments: list[Segment]) -> list[Segment]:
    width = Segment.get_line_length(segments)
    cleaned = [
        segment if segment.control else Segment(visible_in_a_row(segment.text), segment.style) for segment in segments
    ]
    return Segment.adjust_line_length(cleaned, width)
