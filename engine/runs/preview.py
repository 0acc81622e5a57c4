"""Preview of a preset's training images: the question to `engine.training.preview`, and its answer. No torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from engine.runs.predictions import MAX_SIDE
from presets.schema import Preset

if TYPE_CHECKING:
    from engine.shared.image_archives import OnBytes

MOST_EPOCHS = 12
MOST_IMAGES = 64


class Question(Struct, frozen=True, kw_only=True):
    """A run as it would be started, and what is wanted of it."""

    preset: Preset
    seed: int = 0
    device: str = "auto"
    data_dir: str | None = None
    num_epochs: Annotated[int, Meta(ge=1, le=MOST_EPOCHS)] = 4
    """The first so many of the run; fewer if it has fewer."""
    num_images: Annotated[int, Meta(ge=1, le=MOST_IMAGES)] = 8
    """The first so many that the run trains on; fewer if there are fewer."""
    wants_png: bool = False


class Tile(Struct, frozen=True, kw_only=True):
    """One image, and what stands below it. `pixels` are rows of RGB bytes, `side` pixels a row."""

    pixels: bytes
    side: Annotated[int, Meta(ge=1, le=MAX_SIDE)]
    caption: str


class Row(Struct, frozen=True, kw_only=True):
    """A training image: through the validation transform, and as the network is given it in each epoch."""

    number: int
    """Row of the training images, from 0."""
    label: str
    plain: Tile
    epochs: tuple[Tile | None, ...]
    """None where the image is not trained on in that epoch."""


class Preview(Struct, frozen=True, kw_only=True):
    """Rows of images, no larger than a terminal shows, and all of them as a PNG file in full size if it was wanted."""

    device: str
    """As torch names it; another kind of device draws other random numbers."""
    rows: tuple[Row, ...]
    notices: tuple[str, ...] = ()
    """Sentences about the data, as training has them: of images that cannot be read, for example."""
    png: bytes = b""


def unpack_first(question: Question, on_bytes: "OnBytes") -> None:
    """Unpack the archive that the images are in, if they are in one; `on_bytes` is told how far that is.

    Raises:
        CifartuiError: it cannot be unpacked.
    """
    from engine.shared import data_locations, image_archives  # slow to import, and seldom needed

    data = question.preset.data
    if data.dataset != "class-folders":
        return
    found = data_locations.locate(data, question.data_dir).path
    if found is not None and image_archives.is_archive(Path(found)):
        image_archives.unpack(Path(found), on_bytes)
