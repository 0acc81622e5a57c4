"""Layout of labels and values in rows and columns, as Rich text.

Apart from the texts of this folder, because widgets and screens lay out their own values with it.
"""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from tui import format as fmt
from tui.theme import FAINT, MUTED, TEXT, TRAIN


def labelled(label: str, value: str, color: str = TEXT) -> Text:
    """Return a muted label and its value; no label, no space."""
    return Text.assemble((f"{label} " if label else "", MUTED), (value, color))


def bar(fraction: float, columns: int, color: str = TRAIN) -> Text:
    """Return a progress bar of so many columns, of which `fraction` (0 to 1) is done."""
    done, rest = fmt.bar(fraction, columns)
    return Text.assemble((done, color), (rest, FAINT))


def in_a_row(fields: Sequence[Text], width: int, gap: int = 3) -> Text:
    """Return as many fields as fit into `width`, first come first served."""
    row = Text(no_wrap=True)
    for field in fields:
        space = gap if row.plain else 0
        if row.cell_len + space + field.cell_len <= width:
            row.append(" " * space).append_text(field)
    return row


def left_and_right(left: Text, right: Text, width: int) -> Text:
    """Return a row with `right` at its end; `left` is cut short where both do not fit."""
    room = max(0, width - right.cell_len - 1)
    left = left.copy()
    left.truncate(room, overflow="ellipsis")
    return Text.assemble(left, " " * max(1, width - left.cell_len - right.cell_len), right, no_wrap=True)


def table(rows: Sequence[tuple[str, Text | str]]) -> Table:
    """Return labels in one aligned column and values, wrapped, in another."""
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(style=MUTED, no_wrap=True)
    grid.add_column(ratio=1)
    for label, value in rows:
        grid.add_row(Text(label), value if isinstance(value, Text) else Text(value))  # a str would be markup
    return grid
