"""Summary of the data at a path: layout, classes, sizes, what is not read, the split, a preset for it. No torch.

Folders are listed by names alone; of a sample of the images, or of all, the headers are read. No image is decoded.
"""

import json
import random
import shlex
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import Struct
from rich.cells import cell_len

from engine.shared.data_locations import locate
from engine.shared.data_path import known_data, listing_at, resolved, taken_for_mnist
from engine.shared.image_archives import OnBytes, is_archive, say_nothing
from engine.shared.image_parts import (
    Listing,
    are_too_many,
    check_validation,
    fraction_with_images,
    split_by_name,
    unread_notices,
    without_drawn,
)
from engine.shared.image_scan import Unread, in_json, shown
from engine.shared.mixed_data import passed_over
from presets.errors import CifartuiError
from presets.safe_text import visible_in_a_row
from presets.schema import Data
from tui import format as fmt

if TYPE_CHECKING:  # it imports Pillow
    from engine.shared.image_formats import Fault

Poll: TypeAlias = Callable[[], object]
"""Called before each folder and each image; raises to end the work."""
Part: TypeAlias = Literal["train", "val", "test", "unlabelled"]

_MOST_HEADERS = 400
_FEWEST_HEADERS = 50
"""Read however long it takes, so that a small folder is looked at whole."""
_HEADERS_S = 0.4
"""Time for the rest of the sample: a summary of 100,000 files takes about a second."""
_TURNED = frozenset({5, 6, 7, 8})
"""Values of the EXIF orientation with which a viewer shows height as width."""
_EXIF_ORIENTATION = 0x0112
MOST_CLASSES = 20
"""Classes that a table shows unless all are asked for."""
_WIDEST_NAME = 40
MOST_SENTENCES = 8
"""About what is not read, unless all is asked for."""
_UNEVEN = 3
"""Largest class over smallest from which that is called uneven."""
_ABOUT_EVEN = 1.05
"""The same ratio below which two digits would show 1."""
_FEW_A_CLASS = 10
"""Training images a class, on average, below which a frozen backbone is advised however many there are."""
_FEW_IMAGES, _MANY_IMAGES = 1_000, 50_000
"""Training images below which a frozen backbone is advised, and from which a network without pretrained weights is."""
_ADVISED: dict[str, tuple[str, str]] = {
    "cifar100": ("recipes/resnet18-fast", "a recipe for CIFAR-100 that a GPU trains in minutes"),
    "cifar10": ("recipes/resnet18-fast", "a recipe for images of CIFAR's size that a GPU trains in minutes"),
    "mnist": ("recipes/resnet18-fast", "a recipe for small images that a GPU trains in minutes"),
    "fashion-mnist": ("recipes/resnet18-fast", "a recipe for small images that a GPU trains in minutes"),
    "flowers102": ("photos/finetune", "for photographs: all of a pretrained network is fine-tuned"),
    "oxford-pets": ("photos/finetune", "for photographs: all of a pretrained network is fine-tuned"),
    "cub200": ("birds/resnet50-finetune", "the one for these birds"),
}


_COUNTED = "as its own files divide them; a run reads and counts them, which is not done here"
_PUBLISHED_SPLIT = f"Training and test images, {_COUNTED}. A tenth of the training images is held back to validate."
_PUBLISHED_PARTS = f"Training, validation and test images, {_COUNTED}."


class ClassCount(Struct, frozen=True):
    """Images of one class by part, as a run divides them."""

    name: str
    train: int
    val: int
    test: int


class ImageFile(Struct, frozen=True):
    """An image file, relative to the folder, and where a run puts it; no class if it has no label.

    Its name may have control characters (`image_scan.in_json`).
    """

    file: str
    part: Part
    class_name: str | None


class SampledImages(Struct, frozen=True, kw_only=True):
    """Sizes and modes of a sample of the images, as their headers state them."""

    looked_at: int
    """Number of images."""
    smallest: tuple[int, int] | None = None
    """Width and height in pixels of the image with the fewest pixels; those of EXIF's orientation."""
    median: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None
    modes: dict[str, int] = {}
    """Number of images by Pillow's name of their mode (RGB, L, RGBA …)."""
    unreadable: int = 0
    """Images whose header could not be read."""
    first_unreadable: str | None = None
    reasons: dict[str, int] = {}
    """Number of those by the reason, a clause."""
    all_unreadable: dict[str, str] = {}
    """Reason by the name of each of them, relative to the folder, as `ImageFile.file`."""


class FolderSummary(Struct, frozen=True, kw_only=True):
    """All that is known of the data at a path without decoding it."""

    path: str
    labels: str | None = None
    """Table of files and labels that was named beside the path."""
    dataset: str
    layout: str
    """One sentence."""
    num_train: int = 0
    """Images that would be trained on; likewise below."""
    num_val: int = 0
    num_test: int = 0
    num_unlabelled: int = 0
    """Test images without labels."""
    is_val_drawn: bool = False
    """The validation images are drawn from the training part, which has them in `num_train` no more."""
    classes: tuple[ClassCount, ...] = ()
    """In label order; empty if the data set's files are not class folders."""
    imbalance: float | None = None
    """Images of the largest class over those of the smallest, both of the training part as it is on the disk."""
    images: SampledImages | None = None
    unread: tuple[Unread, ...] = ()
    notices: tuple[str, ...] = ()
    split: str = ""
    """One sentence on which images are trained on, validated with and tested with."""
    problem: str = ""
    """One sentence on why no run starts, and what to do: no image to validate with, or many unreadable; else empty."""
    validation: float | None = None
    """A fraction for data.validation with which a run starts in spite of the problem; None if there is none."""
    preset: str
    why: str
    """A clause about that preset."""


def summarize(
    named: str,
    poll: Poll = lambda: None,
    on_bytes: OnBytes = say_nothing,
    labels: str | None = None,
    *,
    every_header: bool = False,
) -> FolderSummary:
    """Return the summary of the data at a path, which may begin with ~ or be relative to the current folder.

    Args:
        named: the path.
        poll: called before each folder and each image; its exceptions end the work.
        on_bytes: told of progress while an archive is unpacked; likewise, and nothing half unpacked is left.
        labels: a table of files and labels, relative to the folder or in the archive (`data.labels`).
        every_header: read those of all images, not of a sample.

    Raises:
        CifartuiError: see `engine.shared.data_path.data_at`.
    """
    path = resolved(named)
    known = known_data(path, poll) if labels is None else None
    if known is not None:
        preset, why = _ADVISED[known.dataset]
        found = locate(Data(dataset=known.dataset, path=known.path), None)
        notices = passed_over(path, found, poll) if path.is_dir() else ()
        if known.dataset == "mnist" and found.path is not None:
            notices = (*taken_for_mnist(Path(found.path)), *notices)
        return FolderSummary(
            path=known.path, dataset=known.dataset, layout=f"{found.text}.", preset=preset, why=why, notices=notices,
            split=_PUBLISHED_PARTS if known.dataset == "flowers102" else _PUBLISHED_SPLIT,
        )  # fmt: skip
    listing = listing_at(path, labels, poll=poll, on_bytes=on_bytes)
    return _of_listing(str(path), listing, poll, labels, every_header=every_header)


def files_of(
    named: str, poll: Poll = lambda: None, on_bytes: OnBytes = say_nothing, labels: str | None = None
) -> list[ImageFile]:
    """Return every image of a folder and the part that it is in, as a run with seed 0 divides them.

    Raises:
        CifartuiError: see `summarize`.
    """
    path = resolved(named)
    if labels is None and (known := known_data(path, poll)) is not None:
        raise CifartuiError(
            f"{visible_in_a_row(known.path)} is the published data set {known.dataset}, whose files are not listed; "
            "leave --files out."
        )
    listing = listing_at(path, labels, poll=poll, on_bytes=on_bytes)
    parts, _ = _parts(listing)
    rows = [
        ImageFile(in_json(name), part, listing.class_names[label])
        for part, of_part in parts.items()
        for name, label in zip(*of_part, strict=True)
    ]
    return [*rows, *(ImageFile(in_json(name), "unlabelled", None) for name in listing.unlabelled)]


def _of_listing(path: str, listing: Listing, poll: Poll, labels: str | None, *, every_header: bool) -> FolderSummary:
    parts, is_drawn = _parts(listing)
    counts = {part: Counter(labels) for part, (_, labels) in parts.items()}
    on_disk = Counter(listing.train.labels)
    largest, smallest = max(on_disk.values()), min(on_disk.values())
    numbers = {part: len(labels) for part, (_, labels) in parts.items()}
    images = _sample(listing, poll, every_header=every_header)
    problem = "" if numbers["val"] else _problem(path, listing)
    if not problem and are_too_many(images.unreadable, sum(numbers.values())):
        problem = (
            f"{images.unreadable:,} of {images.looked_at:,} images cannot be read, so no run starts; mend or remove "
            "them: cifartui data --all names them."
        )
    no_val = without_drawn(listing, parts["val"][1], 0) if is_drawn and not problem else ""
    preset, why = _advice(tuple(counts["train"][label] for label in range(len(listing.class_names))))
    return FolderSummary(
        path=path,
        labels=labels,
        dataset=listing.name,
        layout=listing.layout,
        num_train=numbers["train"],
        num_val=numbers["val"],
        num_test=numbers["test"],
        num_unlabelled=len(listing.unlabelled),
        is_val_drawn=is_drawn,
        classes=tuple(
            ClassCount(name, *(counts[part][label] for part in ("train", "val", "test")))
            for label, name in enumerate(listing.class_names)
        ),
        imbalance=largest / smallest,
        images=images,
        unread=listing.unread,
        notices=(*listing.notices, *([no_val] if no_val else [])),
        split=_split_sentence(listing, numbers, is_drawn=is_drawn),
        problem=problem,
        validation=None if numbers["val"] else fraction_with_images(listing, (0,)),
        preset=preset,
        why=why,
    )


_Rows: TypeAlias = tuple[tuple[str, ...], tuple[int, ...]]
"""Names and labels."""


def _parts(listing: Listing) -> tuple[dict[Literal["train", "val", "test"], _Rows], bool]:
    """Return names and labels of each part, and whether the validation images are drawn from the training part."""
    train, val, test = ((part.names, part.labels) for part in (listing.train, listing.val, listing.test))
    if val[0]:
        return {"train": train, "val": val, "test": test}, False
    rows = split_by_name(listing, "every-tenth", 0)
    drawn = [
        (tuple(train[0][row] for row in chosen), tuple(train[1][row] for row in chosen))
        for chosen in (rows.train, rows.val)
    ]
    return {"train": drawn[0], "val": drawn[1], "test": test}, True


def _problem(path: str, listing: Listing) -> str:
    """Return why a run with seed 0 has no image to validate with, and what to do."""
    try:
        check_validation(listing, "every-tenth", (0,), path if is_archive(Path(path)) else None)
    except CifartuiError as error:
        return str(error)
    return ""


def _split_sentence(listing: Listing, numbers: dict[Literal["train", "val", "test"], int], *, is_drawn: bool) -> str:
    train = f"{numbers['train']:,} to train on"
    source = ", a tenth of the training part by the hash of each file's name" if is_drawn else ""
    val = f"{numbers['val']:,} to validate with{source}" if numbers["val"] else "none to validate with"
    if numbers["test"]:
        return f"{train}; {val}; {numbers['test']:,} to test with."
    if listing.unlabelled:
        return f"{train}; {val}; {len(listing.unlabelled):,} without labels, to be predicted for a submission."
    judged = ", so a run is judged by the validation images" if numbers["val"] else ""
    return f"{train}; {val}; no test part{judged}."


def _advice(in_class: tuple[int, ...]) -> tuple[str, str]:
    """Return the preset for so many training images of each class, and why."""
    num_train, num_classes, least, most = sum(in_class), len(in_class), min(in_class), max(in_class)
    about = f"about {max(1, round(num_train / num_classes)):,}"
    each = f"{num_train:,} training images, {f'{least:,} to {most:,}' if most >= _UNEVEN * least else about} a class"
    if num_train < max(_FEW_IMAGES, _FEW_A_CLASS * num_classes):
        return "photos/frozen", f"{each}: few, so only a new last layer is trained on pretrained features"
    if num_train < _MANY_IMAGES:
        return "photos/finetune", f"{each}: enough to fine-tune all of a pretrained network"
    return (
        "photos/scratch",
        f"{each}: so many that pretrained weights are not needed; of photographs, photos/finetune is there sooner",
    )


# --- words -----------------------------------------------------------------------------------------


def unpacking(done: int, total: int) -> str:
    """Return how far the unpacking of an archive is, in bytes of the archive."""
    return f"unpacking: {fmt.memory(done)} of {fmt.memory(total)}"


def rows(summary: FolderSummary, most: int | None = MOST_SENTENCES) -> list[tuple[str, str]]:
    """Return labels and sentences: all of a summary but its classes one by one.

    Of what is not read there are at most so many sentences, and one that says how many more there are; None: one for
    each folder and reason.
    """
    found = [("folder", visible_in_a_row(summary.path)), ("layout", summary.layout)]
    if summary.classes:
        found += [("classes", _classes(summary)), ("images", _images(summary.images))]
    found += [("split", summary.split)]
    if summary.problem:
        found.append(("problem", summary.problem))
    said, others = _not_read(summary, each=most is None)
    num_said = len(said) if most is None or len(said) == most + 1 else most
    found += [("not read" if not number else "", sentence) for number, sentence in enumerate(said[:num_said])]
    if len(said) > num_said:
        found.append(("", f"… and {len(said) - num_said:,} more sentences like these: cifartui data --all prints them"))
    found += [("note" if not number else "", notice) for number, notice in enumerate(others)]
    return [*found, ("preset", f"{summary.preset}: {summary.why}")]


def _not_read(summary: FolderSummary, *, each: bool) -> tuple[list[str], list[str]]:
    """Return what is not read and why, a sentence for each reason, or `each` folder too; and the other notices."""
    told = set(unread_notices(summary.unread))
    others = [notice for notice in summary.notices if notice not in told]
    if each:
        unreadable = summary.images.all_unreadable if summary.images is not None else {}
        broken = [f"{shown(name)} cannot be read ({reason})." for name, reason in unreadable.items()]
        return [*(unread.sentence() for unread in summary.unread), *broken], others
    grouped = unread_notices(summary.unread, most=None)
    alone = [
        unread.sentence()
        for unread in summary.unread
        if not any(f"({unread.reason})" in sentence for sentence in grouped)
    ]
    return [*grouped, *alone], others


def changes(summary: FolderSummary) -> tuple[str, ...]:
    """Return the overrides with which the advised preset starts on this data."""
    labels = () if summary.labels is None else (f"data.labels={json.dumps(summary.labels, ensure_ascii=False)}",)
    return labels if summary.validation is None else (*labels, f"data.validation={summary.validation}")


def command(summary: FolderSummary, named: str) -> str | None:
    """Return the command that trains the advised preset on the data at `named`; None if no run would start."""
    if summary.problem and summary.validation is None:
        return None
    order = ["cifartui", "train", summary.preset, "--data", named]
    return shlex.join([*order, *(part for change in changes(summary) for part in ("--set", change))])


def class_rows(summary: FolderSummary, most: int | None = MOST_CLASSES) -> list[str]:
    """Return a table of the classes, the largest first; of more than `most`, the largest and the smallest."""
    if not summary.classes:
        return []
    ordered = sorted(summary.classes, key=lambda each: -each.train - each.val * summary.is_val_drawn)
    shown_ones: list[ClassCount | None] = [*ordered]
    if most is not None and len(ordered) > most:
        shown_ones = [*ordered[: most // 2], None, *ordered[len(ordered) - (most - most // 2) :]]
    width = min(_WIDEST_NAME, max(len("class"), *(cell_len(each.name) for each in summary.classes)))
    lines = [f"{'class':<{width}}{'train':>9}{'val':>8}{'test':>8}"]
    for each in shown_ones:
        if each is None:
            lines.append(f"… {len(ordered) - (most or 0):,} others")
        else:
            lines.append(f"{fmt.column(each.name, width)}{each.train:>9,}{each.val:>8,}{each.test:>8,}")
    return lines


def _classes(summary: FolderSummary) -> str:
    text = f"{len(summary.classes):,}"
    if summary.imbalance is None or summary.imbalance == 1:
        return f"{text}, all of the same size"
    if summary.imbalance < _ABOUT_EVEN:
        return f"{text}, nearly of the same size"
    if summary.imbalance < _UNEVEN:
        return f"{text}; the largest has {summary.imbalance:.2g} times the images of the smallest"
    return f"{text}, uneven: the largest has {summary.imbalance:,.3g} times the images of the smallest"


def _images(images: SampledImages | None) -> str:
    if images is None or images.smallest is None or images.median is None or images.largest is None:
        if images is None or not images.unreadable:
            return "none"
        return f"no header of the {images.looked_at:,} that were tried can be read ({_why_not(images)})"
    sizes = _pixels(images.smallest)
    if images.smallest != images.largest:
        sizes = f"{sizes} to {_pixels(images.largest)}, median {_pixels(images.median)}"
    modes = ", ".join(f"{mode} {number:,}" if len(images.modes) > 1 else mode for mode, number in images.modes.items())
    text = f"{sizes} px, {modes} (the headers of {images.looked_at:,} were read)"
    if any(mode == "F" or mode.startswith("I") for mode in images.modes):
        text += "; I and F have more than 8 bits, and one that fills only 8 or 12 is scaled by its own samples"
    if images.unreadable:
        text += f"; {images.unreadable:,} of these cannot be read ({_why_not(images)})"
    return text


def _why_not(images: SampledImages) -> str:
    reasons = ", ".join(
        f"{reason} {num:,}" if len(images.reasons) > 1 else reason for reason, num in images.reasons.items()
    )
    others = " and others, which cifartui data --all names" if images.unreadable > 1 else ""
    return f"{reasons}: {images.first_unreadable}{others}"


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


# --- headers ---------------------------------------------------------------------------------------


def _sample(listing: Listing, poll: Poll, *, every_header: bool) -> SampledImages:
    """Read the headers of some images, drawn from all parts, the same ones every time as far as time allows.

    With `every_header` those of all images, in the order of their names.
    """
    from engine.shared.image_formats import Fault, formats

    names = (*listing.train.names, *listing.val.names, *listing.test.names, *listing.unlabelled)
    chosen = random.Random(0).sample(range(len(names)), min(len(names), _MOST_HEADERS))
    if every_header:
        chosen = sorted(range(len(names)), key=names.__getitem__)
    sizes: list[tuple[int, int]] = []
    modes: Counter[str] = Counter()
    unreadable: dict[str, str] = {}
    formats()  # imports what reads images, which on a busy machine takes longer than all headers
    ends_at = time.monotonic() + _HEADERS_S
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of large images and odd EXIF
        for number, row in enumerate(chosen):
            if not every_header and number >= _FEWEST_HEADERS and time.monotonic() > ends_at:
                break
            poll()
            header = _header(listing.root / names[row])
            if isinstance(header, Fault):
                unreadable[in_json(names[row])] = header.text
                continue
            sizes.append(header[0])
            modes[header[1]] += 1
    sizes.sort(key=lambda size: (size[0] * size[1], size))
    return SampledImages(
        looked_at=len(sizes) + len(unreadable),
        smallest=sizes[0] if sizes else None,
        median=sizes[len(sizes) // 2] if sizes else None,
        largest=sizes[-1] if sizes else None,
        modes=dict(modes.most_common()),
        unreadable=len(unreadable),
        first_unreadable=shown(next(iter(unreadable))) if unreadable else None,
        reasons=dict(Counter(unreadable.values()).most_common()),
        all_unreadable=unreadable,
    )


def _header(path: Path) -> "tuple[tuple[int, int], str] | Fault":
    """Return width, height and mode of an image as a viewer shows it, or why its header is not read."""
    from engine.shared.image_formats import fault_of, open_image

    try:
        with open_image(path) as image:
            size, mode = image.size, image.mode
            return (size[::-1] if image.getexif().get(_EXIF_ORIENTATION) in _TURNED else size), mode
    except Exception as error:  # what Pillow's many readers raise on damaged bytes is open-ended
        return fault_of(error, path)
