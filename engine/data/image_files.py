"""Data sets of image files as tensors: listed, decoded once into a cache, divided into splits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from engine.data.archives import unpack
from engine.data.cub_listings import list_cub_2010, list_cub_2011
from engine.data.image_cache import ImageCache
from engine.data.image_pixels import background_of
from engine.data.progress import LoadProgress, Report
from engine.data.published_listings import list_flowers102, list_oxford_pets
from engine.data.sets import NO_TEST, UNLABELLED_TEST, DataSet, ImageSplit, UnreadableImagesError, split_rows
from engine.shared.data_locations import Location
from engine.shared.image_archives import OnBytes
from engine.shared.image_formats import Fault
from engine.shared.image_listing import list_images
from engine.shared.image_parts import (
    Listing,
    are_too_many,
    check_validation,
    split_by_name,
    without_drawn,
    without_images,
)
from engine.shared.image_scan import shown
from engine.shared.published_sets import unlike_published
from presets.errors import CifartuiError
from presets.schema import Data

_BROKEN_NAMED = 10


def load_image_files(location: Location, data: Data, seed: int, report: Report) -> DataSet:
    """Read a data set of image files.

    Images become squares of `data.cache_size` (else `data.image_size`) pixels: shorter side resized
    (antialiased bilinear), centre cropped. They are memory-mapped where a split's are next to each other in
    the cache, which they are for `validation = "every-tenth"` and for data sets with a val part; else copied.
    Without a val part, CUB-200's training images are divided by rows (`split_rows`), all others by the hash of their
    names (`split_by_name`). A test part without labels has label 0 throughout, and counts as hidden.

    Args:
        location: of a folder of images, or of a form of CUB-200, of Oxford's flowers or of its pets.
        data: sizes, and how to divide the training images where there is no val part.
        seed: of a validation fraction.
        report: is told of every image; what it raises ends the reading, and what is decoded by then stays.

    Raises:
        CifartuiError: files are missing, or a class is unknown.
        UnreadableImagesError: too many images cannot be read.
    """
    listing = _list(location, data.labels, report)
    where = _where(listing, location)
    order, labels, names = _in_cache_order(listing)
    rows = _divide(listing, order, data, seed, where)
    cache = ImageCache(listing.root, names, data.cache_size or data.image_size, background_of(data))
    needed = np.concatenate([*rows.values()])
    cache.decode(np.unique(needed), report)
    unlabelled = len(names) - len(listing.unlabelled)
    notices = _notices(where, _broken(cache, needed[needed < unlabelled]), int((needed < unlabelled).sum()))
    if broken := _broken(cache, needed[needed >= unlabelled]):
        notices += (_untested(broken, len(listing.unlabelled)),)
    if scaled := cache.by_own_range(needed):
        notices += (_scaled(scaled, len(needed)),)
    pixels = cache.pixels()
    known_as = tuple([listing.known_as.get(name, name) for name in names]) if listing.known_as else ()
    splits = {
        part: _split(pixels, labels, (names, known_as), chosen, cache) for part, chosen in rows.items() if len(chosen)
    }
    for part, split in splits.items():
        if not len(split) and not (part == "test" and listing.unlabelled):
            broken = _broken(cache, rows[part])
            raise UnreadableImagesError(
                f"No image of a whole split can be read in {where}, {_named(broken, 1)} first; mend or remove them.",
                _reasons(_broken(cache, needed)),
            )
    if (test := splits.get("test")) is not None:
        splits["test"] = replace(test, unreadable=(*test.unreadable, *listing.unlabelled_unread))
    if not len(splits.get("test", ())):
        splits.pop("test", None)
    return DataSet(
        name=listing.name,
        source=shown(str(location.path)),
        generated=False,
        train=splits["train"],
        val=splits["val"],
        test=splits.get("test"),
        class_names=listing.class_names,
        test_labels_hidden=bool(listing.unlabelled),
        notices=(*listing.notices, *_unlike_published(listing, location), *notices, *_missing(listing, splits, seed)),
        unreadable=_reasons(_broken(cache, needed)),
    )


def load_some_of_val(location: Location, data: Data, seed: int, num_images: int, report: Report) -> torch.Tensor:
    """Return images from all over the validation split of a data set of image files; no other is decoded.

    Args:
        location: as for `load_image_files`.
        data: as for `load_image_files`.
        seed: of a validation fraction.
        num_images: at most so many; those that cannot be read are left out.
        report: is told of every image; what it raises ends the reading.

    Returns:
        uint8 [N, 3, S, S], on the CPU; S as for `load_image_files`.

    Raises:
        CifartuiError: files are missing, or none of these images can be read.
    """
    listing = _list(location, data.labels, report)
    where = _where(listing, location)
    order, _, names = _in_cache_order(listing)
    val = _divide(listing, order, data, seed, where)["val"]
    rows = np.unique(val[np.linspace(0, len(val) - 1, min(num_images, len(val))).astype(np.int64)])
    cache = ImageCache(listing.root, names, data.cache_size or data.image_size, background_of(data))
    cache.decode(rows, report)
    readable = rows[~cache.is_broken(rows)]
    if not len(readable):
        raise CifartuiError(f"No validation image can be read in {where}; mend or remove them.")
    return torch.from_numpy(np.asarray(cache.pixels()[readable]))


def _list(location: Location, labels: str | None, report: Report) -> Listing:
    assert location.path is not None
    root = Path(location.path)
    match location.kind:
        case "cub-2011-folder":
            return list_cub_2011(root)
        case "cub-2010-folder":
            return list_cub_2010(root)
        case "cub-2010-archives":
            return list_cub_2010(unpack("cub-200-2010", [root / "lists.tgz", root / "images.tgz"], report))
        case "flowers-folder":
            return list_flowers102(root, root)
        case "flowers-archive":
            return list_flowers102(root, unpack("flowers-102", [root / "102flowers.tgz"], report))
        case "pets-folder":
            return list_oxford_pets(root)
        case "pets-archives":
            archives = [root / "annotations.tar.gz", root / "images.tar.gz"]
            return list_oxford_pets(unpack("oxford-iiit-pet", archives, report))
        case _:
            progress = LoadProgress(report, "verify", "images", f"the folders of {shown(str(root))}")
            return list_images(
                root,
                labels,
                name=location.dataset,
                poll=lambda: progress.advance(0),
                on_bytes=_unpacking(location, report),
            )


def _where(listing: Listing, location: Location) -> str:
    """Return the folder of the images, for people; for those of an archive, what the user has named."""
    named = str(location.path)
    return shown(str(listing.root) if listing.root.is_relative_to(named) else named)


def _unlike_published(listing: Listing, location: Location) -> tuple[str, ...]:
    """Return what to say of a published data set with other numbers of images or classes."""
    if location.kind == "class-folders":
        return ()
    train, val, test = (len(part) for part in (listing.train, listing.val, listing.test))
    return unlike_published(listing.name, location.kind, train, val, test, len(listing.class_names))


def _unpacking(location: Location, report: Report) -> OnBytes:
    """Return a function that reports the bytes of an archive that are unpacked."""
    progress: list[LoadProgress] = []

    def on_bytes(done: int, total: int) -> None:
        if not progress:
            progress.append(LoadProgress(report, "unpack", "B", shown(str(location.path)), total))
        progress[0].move_to(done)

    return on_bytes


def _in_cache_order(listing: Listing) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], tuple[str, ...]]:
    """Return where each training row lies in the cache, and the labels and names of all files in cache order.

    A tenth of the training files comes after the others, so that the usual validation images are next to each other.
    """
    cached = np.arange(len(listing.train))
    if listing.name == "cub200":
        cached = np.concatenate([cached[cached % 10 != 0], cached[cached % 10 == 0]])
    elif not listing.val:
        cached = np.concatenate([np.asarray(rows, np.int64) for rows in split_by_name(listing, "every-tenth", 0)])
    place = np.empty_like(cached)
    place[cached] = np.arange(len(cached))
    names = [listing.train.names[row] for row in cached]
    labels = [listing.train.labels[row] for row in cached]
    names += [*listing.val.names, *listing.test.names, *listing.unlabelled]
    labels += [*listing.val.labels, *listing.test.labels, *(0 for _ in listing.unlabelled)]
    return place, np.asarray(labels, dtype=np.int64), tuple(names)


def _train_and_val(
    listing: Listing, data: Data, seed: int, where: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows of the training files to train on, and to validate with."""
    if listing.name == "cub200":  # whose published accuracies are for these rows
        train, val = split_rows(len(listing.train), data, seed)
        return train.numpy(), val.numpy()
    rows = split_by_name(listing, data.validation, seed)
    if not rows.val:
        check_validation(listing, data.validation, (seed,), where)
    return np.asarray(rows.train, dtype=np.int64), np.asarray(rows.val, dtype=np.int64)


def _divide(
    listing: Listing, place: npt.NDArray[np.int64], data: Data, seed: int, where: str
) -> dict[str, npt.NDArray[np.int64]]:
    """Return the cache rows of every split. A limit takes them from all classes, the same ones in every run."""
    num_train, num_val = len(listing.train), len(listing.val)
    train, val = place, np.arange(num_train, num_train + num_val)
    if not num_val:
        train_rows, val_rows = _train_and_val(listing, data, seed, where)
        train, val = place[train_rows], place[val_rows]
    if data.train_limit is not None:
        mixed = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).numpy()
        train = train[np.sort(mixed[: data.train_limit])]
    test = np.arange(num_train + num_val, num_train + num_val + len(listing.test) + len(listing.unlabelled))
    return {"train": train, "val": val, "test": test}


def _split(
    pixels: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    all_names: tuple[tuple[str, ...], tuple[str, ...]],
    chosen: npt.NDArray[np.int64],
    cache: ImageCache,
) -> ImageSplit:
    """Return the images at cache rows without the broken ones; names are the files' and, if there is one, a table's."""
    names, known_as = all_names
    is_broken = cache.is_broken(chosen)
    rows = chosen[~is_broken]
    is_range = len(rows) > 0 and bool((np.diff(rows) == 1).all())
    images = pixels[rows[0] : rows[-1] + 1] if is_range else np.asarray(pixels[rows])
    return ImageSplit(
        torch.from_numpy(images),
        torch.from_numpy(labels[rows]),
        names=tuple(names[row] for row in rows),
        unreadable=tuple(names[row] for row in chosen[is_broken]),
        sizes=tuple(cache.sizes[rows].tolist()),
        known_as=tuple([known_as[row] for row in rows]) if known_as else (),
    )


def _missing(listing: Listing, splits: dict[str, ImageSplit], seed: int) -> list[str]:
    """Return what to say of parts that the data does not have, and of classes that a part has no image of."""
    if listing.name == "cub200" and listing.test:
        return []
    drawn = splits["val"].labels.tolist()
    if listing.val:
        said = []
    elif listing.name == "cub200":  # every tenth row is held back, whatever its name
        said = [without_images(drawn, listing.class_names, "val")]
    else:
        said = [without_drawn(listing, drawn, seed)]
    said.append(without_images(splits["train"].labels.tolist(), listing.class_names, "training"))
    if listing.unlabelled:
        said.append(UNLABELLED_TEST)
    elif not listing.test:
        said.append(NO_TEST)
    return list(filter(None, said))


def _broken(cache: ImageCache, rows: npt.NDArray[np.int64]) -> dict[str, Fault]:
    """Return the printable names of those of the cache's rows that cannot be read, with the reason."""
    return {shown(name): fault for name, fault in cache.faults(rows).items()}


def _untested(broken: dict[str, Fault], num_images: int) -> str:
    """Return what to say of test images without labels that cannot be read: training does not need them."""
    if len(broken) == num_images:
        return f"No test image can be read, so there is none to predict: {_named(broken, 1)} is the first."
    rest = " …" if len(broken) > _BROKEN_NAMED else ""
    return (
        f"{len(broken):,} of {num_images:,} test images without labels cannot be read; a submission has a row for "
        f"them, with the most frequent class: {_named(broken, _BROKEN_NAMED)}{rest}."
    )


def _notices(where: str, broken: dict[str, Fault], num_images: int) -> tuple[str, ...]:
    """Return what to say of images that cannot be read.

    Raises:
        UnreadableImagesError: they are too many to go on without.
    """
    if not broken:
        return ()
    if are_too_many(len(broken), num_images):
        raise UnreadableImagesError(
            f"{len(broken):,} of {num_images:,} images in {where} cannot be read, {_named(broken, 1)} first; "
            "mend or remove them.",
            _reasons(broken),
        )
    rest = " …" if len(broken) > _BROKEN_NAMED else ""
    named = _named(broken, _BROKEN_NAMED)
    return (f"{len(broken)} of {num_images:,} images cannot be read and are left out: {named}{rest}.",)


def _scaled(names: list[str], num_images: int) -> str:
    """Return what to say of images whose white is a guess."""
    return (
        f"{len(names):,} of {num_images:,} images have samples of more than 8 bits that fill only 8 or 12, and were "
        f"scaled by that, each by its own samples: {shown(names[0])} is the first."
    )


def _reasons(broken: dict[str, Fault]) -> dict[str, str]:
    """Return why each image cannot be read, in words."""
    return {name: fault.text for name, fault in broken.items()}


def _named(broken: dict[str, Fault], num: int) -> str:
    """Return the first names with their reasons."""
    return ", ".join(f"{name} ({fault.text})" for name, fault in [*broken.items()][:num])
