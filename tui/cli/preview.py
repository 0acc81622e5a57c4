"""Command `preview`: a preset's training images as its network is given them, in several epochs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from engine.runs.preview import MOST_EPOCHS, MOST_IMAGES, Preview, Question, unpack_first
from engine.shared.device_names import check_devices
from presets import catalog
from presets.errors import CifartuiError
from tui import format as fmt
from tui.cli.data import shown_progress
from tui.cli.options import device_option, overrides_option, places, seed_option, with_places
from tui.cli.output import say
from tui.cli.show import say_rows
from tui.data.output_file import check_new, write_new
from tui.data.torch_process import run_module
from tui.text.run_text import LOADING, sentence
from tui.theme import MUTED

if TYPE_CHECKING:
    from rich.text import Text

    from engine.runs.preview import Tile

_GAP = 2
_SMALLEST, _LARGEST = 12, 48
"""Columns that an image takes in the terminal."""


@click.command()
@click.argument("name", metavar="PRESET")
@overrides_option
@click.option(
    "--epochs",
    "num_epochs",
    type=click.IntRange(1, MOST_EPOCHS),
    default=4,
    show_default=True,
    help="Show each image in the first so many epochs.",
)
@click.option(
    "--images",
    "num_images",
    type=click.IntRange(1, MOST_IMAGES),
    default=8,
    show_default=True,
    help="Show the first so many images that the run trains on.",
)
@click.option("--output", metavar="FILE.png", help="Write the images there, in full size.")
@click.option("--force", is_flag=True, help="Write over FILE.png if it is there.")
@device_option
@seed_option
@with_places
@click.pass_context
def preview(
    ctx: click.Context,
    name: str,
    overrides: tuple[str, ...],
    num_epochs: int,
    num_images: int,
    output: str | None,
    force: bool,
    device: str,
    seed: int,
) -> None:
    """Show training images as PRESET's network is given them, beside the same images as it is validated on them.

    They are those that a run with this seed trains on, in its first epochs, on a device of this kind.
    """
    if output is not None:
        check_new(Path(output), force=force)
    if output is None and not sys.stdout.isatty():
        raise CifartuiError("preview draws on a terminal; to keep the images, name a file: --output FILE.png")
    check_devices(device, 1)
    question = Question(
        preset=catalog.load(name, overrides), seed=seed, device=device, data_dir=places(ctx).data_dir,
        num_epochs=num_epochs, num_images=num_images, wants_png=output is not None,
    )  # fmt: skip
    with shown_progress() as (_, on_bytes):
        unpack_first(question, on_bytes)
    if sys.stderr.isatty():
        say(f"{sentence(LOADING)} …", err=True)
    answer = run_module("engine.training.preview", stdin=msgspec.json.encode(question))
    found = msgspec.json.decode(answer, type=Preview)
    for notice in found.notices:
        say(notice, err=True)
    if sys.stdout.isatty():
        say_rows(lambda width, coloured: preview_rows(found, width, coloured=coloured))
    if output is not None:
        write_new(Path(output), found.png, force=force)
        say(f"{fmt.plural(len(found.rows), 'image')} in {fmt.plural(_num_epochs(found), 'epoch')} are in {output}.")


def _num_epochs(found: Preview) -> int:
    return max((len(row.epochs) for row in found.rows), default=0)


def preview_rows(found: Preview, width: int, *, coloured: bool = True) -> "list[Text]":
    """Return the images as rows of half blocks with their labels below, no row wider than `width`.

    The last epochs are left out if they do not fit; without colours there are the labels alone.
    """
    from rich.text import Text

    columns = min(1 + _num_epochs(found), max(1, (width + _GAP) // (_SMALLEST + _GAP)))
    side = min(_LARGEST, max(_SMALLEST, (width + _GAP) // columns - _GAP)) // 2 * 2
    headings = ["validation", *(f"epoch {epoch}" for epoch in range(1, columns))]
    rows = [_beside([Text(fmt.column(heading, side), MUTED) for heading in headings])]
    for row in found.rows:
        tiles = [row.plain, *row.epochs][:columns]
        if coloured:
            drawn = [_drawn(tile, side) for tile in tiles]
            rows += [_beside(list(line)) for line in zip(*drawn, strict=True)]
        captions = [tile.caption if tile is not None else "not in this epoch" for tile in tiles]
        rows += [_beside([Text(fmt.column(caption, side)) for caption in captions]), Text("")]
    if columns <= _num_epochs(found):
        rows.append(Text(f"{fmt.plural(columns - 1, 'epoch')} of {_num_epochs(found)}: a wider terminal shows more"))
    return rows


def _beside(parts: "list[Text]") -> "Text":
    from rich.text import Text

    return Text(" " * _GAP, no_wrap=True).join(parts)


def _drawn(tile: "Tile | None", side: int) -> "list[Text]":
    from rich.text import Text

    from tui.widgets.gallery import Picture, half_blocks

    if tile is None:
        return [Text(" " * side)] * (side // 2)
    strips = half_blocks(Picture(tile.pixels, tile.side, (("", ""), ("", ""))), side)
    return [Text.assemble(*((part.text, part.style or "") for part in strip)) for strip in strips]
