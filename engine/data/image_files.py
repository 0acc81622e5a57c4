"""Data sets of image files as tensors: listed, decoded once into a cache, divided into splits."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from engine.data.archives import unpack_cub_2010
from engine.data.image_cache import ImageCache
from engine.data.image_formats import Fault
from engine.data.image_pixels import WHITE, Colour
from engine.data.listings import Listing, list_class_folders, list_cub_2010, list_cub_2011
from engine.data.progress import Report
from engine.data.sets import DataSet, ImageSplit, split_rows
from engine.shared.data_locations import Location
from presets.errors import CifartuiError
from presets.schema import Data

_BROKEN_ALLOWED = 10
_BROKEN_FRACTION = 0.01
_BROKEN_NAMED = 10
_COLOURS: dict[str, Colour] = {"white": WHITE, "gray": (128, 128, 128), "black": (0, 0, 0)}


def load_image_files(location: Location, data: Data, seed: int, report: Report) -> DataSet:
    """Read a data set of image files.

    Images become squares of `data.cache_size` (else `data.image_size`) pixels: shorter side resized
    (antialiased bilinear), centre cropped. They are memory-mapped where a split's are next to each other in
    the cache, which they are for `validation = "every-tenth"` and for data sets with a val part; else copied.

    Args:
        location: of class folders or of a form of CUB-200.
        data: sizes, and how to divide the training images where there is no val part.
        seed: see `split_rows`.
        report: is told of every image; what it raises ends the reading, and what is decoded by then stays.

    Raises:
        CifartuiError: files are missing, a class is unknown, or too many images cannot be read.
    """
    listing = _list(location, report)
    order, labels, names = _in_cache_order(listing)
    rows = _divide(listing, order, data, seed)
    background = _COLOURS[data.background] if isinstance(data.background, str) else data.background
    cache = ImageCache(listing.root, names, data.cache_size or data.image_size, background)
    needed = np.concatenate([*rows.values()])
    cache.decode(np.unique(needed), report)
    broken = cache.faults(needed)
    notices = _notices(listing.root, broken, len(needed))
    pixels = cache.pixels()
    splits = {part: _split(pixels, labels, chosen[~cache.is_broken(chosen)]) for part, chosen in rows.items()}
    if not all(len(split) for split in splits.values()):
        raise CifartuiError(
            f"No image of a whole split can be read in {listing.root}, {_named(broken, 1)} first; mend or remove them."
        )
    return DataSet(
        name=listing.name,
        source=str(listing.root),
        generated=False,
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        class_names=listing.class_names,
        notices=notices,
    )


def _list(location: Location, report: Report) -> Listing:
    assert location.path is not None
    root = Path(location.path)
    match location.kind:
        case "cub-2011-folder":
            return list_cub_2011(root)
        case "cub-2010-folder":
            return list_cub_2010(root)
        case "cub-2010-archives":
            return list_cub_2010(unpack_cub_2010(root, report))
        case _:
            return list_class_folders(root, location.dataset)


def _in_cache_order(listing: Listing) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], tuple[str, ...]]:
    """Return where each training row lies in the cache, and the labels and names of all files in cache order.

    Every tenth training file comes after the others, so that the usual validation images are next to each other.
    """
    train = np.arange(len(listing.train))
    cached = np.concatenate([train[train % 10 != 0], train[train % 10 == 0]])
    place = np.empty_like(cached)
    place[cached] = train
    names = [listing.train.names[row] for row in cached]
    labels = [listing.train.labels[row] for row in cached]
    names += [*listing.val.names, *listing.test.names]
    labels += [*listing.val.labels, *listing.test.labels]
    return place, np.asarray(labels, dtype=np.int64), tuple(names)


def _divide(listing: Listing, place: npt.NDArray[np.int64], data: Data, seed: int) -> dict[str, npt.NDArray[np.int64]]:
    """Return the cache rows of every split. A limit takes them from all classes, the same ones in every run."""
    num_train, num_val = len(listing.train), len(listing.val)
    train, val = np.arange(num_train), np.arange(num_train, num_train + num_val)
    if not num_val:
        train_rows, val_rows = split_rows(num_train, data, seed)
        train, val = place[train_rows.numpy()], place[val_rows.numpy()]
    else:
        train = place
    if data.train_limit is not None:
        mixed = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).numpy()
        train = train[np.sort(mixed[: data.train_limit])]
    test = np.arange(num_train + num_val, num_train + num_val + len(listing.test))
    return {"train": train, "val": val, "test": test}


def _split(pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> ImageSplit:
    is_range = len(rows) > 0 and bool((np.diff(rows) == 1).all())
    images = pixels[rows[0] : rows[-1] + 1] if is_range else np.asarray(pixels[rows])
    return ImageSplit(torch.from_numpy(images), torch.from_numpy(labels[rows]))


def _notices(root: Path, broken: dict[str, Fault], num_images: int) -> tuple[str, ...]:
    """Return what to say of images that cannot be read.

    Raises:
        CifartuiError: they are too many to go on without.
    """
    if not broken:
        return ()
    if len(broken) > max(_BROKEN_ALLOWED, _BROKEN_FRACTION * num_images) or len(broken) == num_images:
        raise CifartuiError(
            f"{len(broken):,} of {num_images:,} images in {root} cannot be read, {_named(broken, 1)} first; "
            "mend or remove them."
        )  # fmt: skip
    rest = " …" if len(broken) > _BROKEN_NAMED else ""
    named = _named(broken, _BROKEN_NAMED)
    return (f"{len(broken)} of {num_images:,} images cannot be read and are left out: {named}{rest}.",)


def _named(broken: dict[str, Fault], num: int) -> str:
    """Return the first names with their reasons."""
    return ", ".join(f"{name} ({fault.text})" for name, fault in [*broken.items()][:num])
