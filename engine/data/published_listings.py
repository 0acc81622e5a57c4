"""Listings of Oxford's flowers and pets by their own tables. No decoding, nothing unpickled.

File names are relative to the listing's root.
"""

import re
from pathlib import Path

import numpy as np

from engine.data.mat_file import read_mat
from engine.shared.image_parts import Files, Listing
from presets.errors import CifartuiError

_PET = re.compile(r"([A-Za-z0-9_]{1,80})_\d{1,6}")

_FLOWERS = """
    pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily, moon orchid,
    bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king protea, spear thistle, yellow iris,
    globe-flower, purple coneflower, peruvian lily, balloon flower, giant white arum lily, fire lily, pincushion flower,
    fritillary, red ginger, grape hyacinth, corn poppy, prince of wales feathers, stemless gentian, artichoke,
    sweet william, carnation, garden phlox, love in the mist, mexican aster, alpine sea holly, ruby-lipped cattleya,
    cape flower, great masterwort, siam tulip, lenten rose, barbeton daisy, daffodil, sword lily, poinsettia,
    bolero deep blue, wallflower, marigold, buttercup, oxeye daisy, common dandelion, petunia, wild pansy, primula,
    sunflower, pelargonium, bishop of llandaff, gaura, geranium, orange dahlia, pink-yellow dahlia, cautleya spicata,
    japanese anemone, black-eyed susan, silverbush, californian poppy, osteospermum, spring crocus, bearded iris,
    windflower, tree poppy, gazania, azalea, water lily, rose, thorn apple, morning glory, passion flower, lotus,
    toad lily, anthurium, frangipani, clematis, hibiscus, columbine, desert-rose, tree mallow, magnolia, cyclamen,
    watercress, canna lily, hippeastrum, bee balm, ball moss, foxglove, bougainvillea, camellia, mallow,
    mexican petunia, bromelia, blanket flower, trumpet creeper, blackberry lily
"""
FLOWER_NAMES: tuple[str, ...] = tuple(name.strip() for name in _FLOWERS.split(","))
"""Published names in label order; the files have numbers only."""


def list_flowers102(tables: Path, root: Path) -> Listing:
    """List Oxford 102 Flowers, by `imagelabels.mat` (a class from 1 for each image) and `setid.mat` (image numbers).

    Args:
        tables: folder of the two.
        root: folder that holds `jpg/`.

    Raises:
        CifartuiError: a table is damaged, or they do not fit each other.
    """
    labels = read_mat(tables / "imagelabels.mat").get("labels", np.zeros(0)).astype(np.int64)
    sets = read_mat(tables / "setid.mat")
    rows = [sets.get(name, np.zeros(0)).astype(np.int64) for name in ("trnid", "valid", "tstid")]
    fits = len(labels) and labels.min() >= 1 and labels.max() <= len(FLOWER_NAMES)
    if not fits or not all(len(part) and part.min() >= 1 and part.max() <= len(labels) for part in rows):
        raise CifartuiError(
            f"imagelabels.mat and setid.mat in {tables} do not name flowers of 102 classes and the images of three "
            "sets; fetch them again."
        )
    train, val, test = (
        Files(tuple(f"jpg/image_{row:05d}.jpg" for row in part), tuple(int(labels[row - 1]) - 1 for row in part))
        for part in (part.tolist() for part in rows)
    )
    return Listing(name="flowers102", root=root, class_names=FLOWER_NAMES, train=train, val=val, test=test)


def list_oxford_pets(root: Path) -> Listing:
    """List Oxford-IIIT Pets, by lines "name class species breed" of `annotations/trainval.txt` and `test.txt`.

    Raises:
        CifartuiError: a table cannot be read, is of another form, or names a class twice.
    """
    parts: dict[str, tuple[list[str], list[int]]] = {}
    names: dict[int, str] = {}
    for part in ("trainval", "test"):
        path = root / "annotations" / f"{part}.txt"
        files, labels = [], []
        for line in _lines(path):
            name, number, *_ = [*line.split(), "", ""]
            match = _PET.fullmatch(name)
            if match is None or not number.isdigit() or names.setdefault(int(number), match[1]) != match[1]:
                raise CifartuiError(f'{path} has a line that is not "breed_1 class species breed"; fetch it again.')
            files.append(f"images/{name}.jpg")
            labels.append(int(number))
        parts[part] = files, labels
    if sorted(names) != [*range(1, len(names) + 1)]:
        raise CifartuiError(f"The classes in {root / 'annotations'} are not numbered from 1; fetch them again.")
    train, test = (Files(tuple(files), tuple(label - 1 for label in labels)) for files, labels in parts.values())
    words = tuple(names[number].replace("_", " ").title() for number in sorted(names))
    return Listing(name="oxford-pets", root=root, class_names=words, train=train, test=test)


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CifartuiError(f"{path} could not be read ({error}); fetch it again.") from error
    return [line for line in lines if line.strip() and not line.startswith("#")]
