"""Predictions for images of one's own: the request to the helper process, its answers, and the files below a path.

The process is `engine.training.predict_images`. No torch.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeAlias

from msgspec import Meta, Struct
from msgspec.structs import replace

from engine.shared.image_archives import OnBytes, is_archive, say_nothing, unpack
from engine.shared.image_scan import Scanner, Unread, in_json
from presets.errors import CifartuiError

MOST_GUESSES = 1000


class Request(Struct, frozen=True, kw_only=True):
    """First line of the helper's standard input. The names of files follow, each ended by a zero byte."""

    run: str
    """Path of the run's folder, or of an exported model's file."""
    checkpoint: Literal["best", "last"] = "best"
    device: str = "auto"
    batch_size: Annotated[int, Meta(ge=1)] | None = None
    """Images at once; by default as many as in validation."""
    top: Annotated[int, Meta(ge=1, le=MOST_GUESSES)] = 2
    """Classes of each image, the most probable first."""
    folder: str
    """The start of relative names, absolute."""
    num_names: int | None = None
    """The number of names that follow; None if it is not known."""
    pixels_fd: int | None = None
    """Open file that takes the images, uint8 [rows, side, side, 3], side being `Loaded.side`; absent ones are black."""


class Guess(Struct, frozen=True):
    """A class, and its softmax probability."""

    class_name: str
    confidence: float


class Row(Struct, frozen=True):
    """Prediction for one image: classes, the most probable first, or in `problem` a clause why there are none."""

    file: str
    """As it was named, or below the folder or archive that was; it may have control characters (`image_scan.in_json`).
    """
    top: tuple[Guess, ...] = ()
    problem: str = ""


class Loaded(Struct, frozen=True, kw_only=True, tag=True):
    """The network is ready."""

    run: str
    checkpoint: str
    file: str = ""
    """Name of the file of the weights."""
    epoch: int
    is_average: bool
    """True if the weights are a moving average."""
    device: str
    precision: str
    class_names: tuple[str, ...]
    image_size: int
    """Side in pixels of the network's input."""
    side: int
    """Side in pixels of the images in the file of `Request.pixels_fd`."""

    def sentence(self) -> str:
        """Return what is said of the weights."""
        weights = "the moving average of the weights" if self.is_average else "the weights"
        file = self.file or f"{self.checkpoint}.pt"
        return (
            f"{file} (epoch {self.epoch}) of run {self.run}: {weights}, {len(self.class_names):,} classes, "
            f"{self.image_size} px, on {self.device} in {self.precision}."
        )


class Noticed(Struct, frozen=True, tag=True):
    """A sentence that the user should see."""

    text: str


class Unpacking(Struct, frozen=True, tag=True):
    """Bytes of an archive that are unpacked, and all of them."""

    what: str
    done: int
    total: int


class Predicted(Struct, frozen=True, kw_only=True, tag=True):
    """Rows in order, and how far it is: images done with these, and images known so far."""

    rows: tuple[Row, ...]
    done: int
    known: int
    is_all: bool
    """True if no more images will become known."""


Answer: TypeAlias = Loaded | Noticed | Unpacking | Predicted
"""One line of the helper's standard output."""


class Found(NamedTuple):
    """A file that is to be predicted, or a clause why it is not."""

    name: str
    path: Path | None
    problem: str = ""


def images_at(
    named: str,
    folder: Path,
    on_bytes: OnBytes = say_nothing,
    poll: Callable[[], object] = lambda: None,
    on_unread: Callable[[tuple[Unread, ...]], object] = lambda _unread: None,
) -> Iterator[Found]:
    """Yield the images at a path: a file, whatever it is called; all below a folder, sorted; those of an archive.

    Args:
        named: path, perhaps relative to `folder`.
        folder: absolute.
        on_bytes: told of progress where an archive is unpacked.
        poll: called before each folder is read; its exceptions end the listing.
        on_unread: told of the files of a folder or an archive that are not yielded.
    """
    path = folder / named
    left_out: tuple[Unread, ...] = ()
    try:
        if is_archive(path):
            root, left_out = unpack(path, on_bytes)
        elif path.is_dir():
            root = path
        else:
            yield Found(in_json(named), path)
            return
        scanner = Scanner(root, poll)
        names = [name for _, name in scanner.below([(0, "")])]
    except (CifartuiError, ValueError) as error:  # ValueError: a zero byte
        yield Found(in_json(named), None, str(error).rstrip("."))
        return
    except OSError as error:  # of the path itself, as a name that is too long
        yield Found(in_json(named), None, f"it cannot be read ({error.strerror})")
        return
    prefix = "" if named in (".", "./") else f"{named.rstrip('/') or '/'}/".replace("//", "/")
    if left_out := (*scanner.unread_others, *left_out):
        on_unread(tuple(replace(unread, folder=f"{prefix}{unread.folder}".rstrip("/")) for unread in left_out))
    for name in sorted({*names, *scanner.unread_images}):
        yield Found(in_json(prefix + name), root / name)
