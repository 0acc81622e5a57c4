"""The layer table of a network, in the report's form, as one column of text. Takes facts and draws."""

from rich.text import Text

from engine.journal.events import Layer
from tui import format as fmt
from tui.data.network_facts import Facts
from tui.theme import MUTED, TEXT

_BESIDE_KIND = 40
"""Columns of all other columns, and of a scroll bar."""


def heading(found: Facts, width: int) -> Text:
    """Return what the table adds up to, and the names of its columns."""
    kind = max(8, width - _BESIDE_KIND)
    total = f"{len(found.layers)} layers, {fmt.count(found.num_parameters)} parameters"
    columns = f"{'no.':>3} {'layer':<{kind}}{'k':>3}{'size':>9}{'channels':>11}{'parameters':>12}"
    return Text.assemble((total, TEXT), "\n", (columns, MUTED), no_wrap=True)


def table(found: Facts, width: int) -> Text:
    """Return a row for every layer."""
    kind = max(8, width - _BESIDE_KIND)
    rows = [_row(layer, kind) for layer in found.layer_table()]
    return Text("\n", no_wrap=True).join(rows)


def _row(layer: Layer, kind_width: int) -> Text:
    return Text.assemble(
        (f"{layer.number:>3} ", MUTED),
        (fmt.column(layer.kind, kind_width), TEXT if layer.num_parameters else MUTED),
        (f"{layer.kernel or '':>3}{fmt.change(layer.in_size, layer.out_size):>9}", MUTED),
        (f"{fmt.change(layer.in_channels, layer.out_channels):>11}", MUTED),
        (f"{fmt.count(layer.num_parameters) if layer.num_parameters else '':>12}", TEXT),
        no_wrap=True,
    )
