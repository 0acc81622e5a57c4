"""Locations of data sets, by names of files and folders only. No torch, no numpy, no pooch.

`engine.data.load` reads them.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import platformdirs
from msgspec import Struct, structs

from engine import files
from engine.shared.published_sets import PUBLISHED
from presets.errors import CifartuiError
from presets.schema import Data

CIFAR100_ARCHIVE = PUBLISHED["cifar100"].files[0].name
CIFAR10_ARCHIVE = PUBLISHED["cifar10"].files[0].name
CIFAR10_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
MEMBER_MD5: dict[str, str] = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
    "train_cs543": "49eee854445c1e2ebe796cd93c20bb0f",
    "test_cs543": "d3fe9f6a9251bd443f428f896d27384f",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
"""Published md5s of the files inside the archives, by file name; `_cs543` is the course's packaging."""
COURSE_ARCHIVE = "cifar100.tar.gz"
COURSE_MD5 = "e68a4c763591787a0b39fe2209371f32"
COURSE_SUFFIX = "_cs543"
CUB_2010_ARCHIVES = ("images.tgz", "lists.tgz")
CUB_2011_TABLES = ("images.txt", "image_class_labels.txt", "train_test_split.txt")

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
"""The folder of Debian's package dataset-fashion-mnist."""

Kind: TypeAlias = Literal[
    "generated", "archive", "folder", "course-archive", "course-folder", "class-folders", "cub-2010-folder",
    "cub-2010-archives", "cub-2011-folder", "idx-folder", "flowers-folder", "flowers-archive", "pets-folder",
    "pets-archives", "absent",
]  # fmt: skip


class Location(Struct, frozen=True, kw_only=True):
    """Location of a data set, or advice how to get it."""

    dataset: str
    kind: Kind
    path: str | None = None
    """The archive or folder; None if there is none (generated, absent)."""
    text: str
    """One line for people: the finding and its path."""
    advice: str = ""
    """Advice if it is absent."""
    num_classes: int | None = None
    """Number of classes of a folder of images; None for an archive that is not unpacked yet."""

    @property
    def sentences(self) -> str:
        """The finding and, if it is absent, the advice."""
        return f"{self.text.rstrip('.')}. {self.advice}" if self.advice else self.text


class Incomplete(NamedTuple):
    """A folder that has some of the files of a data set, and not all."""

    folder: Path
    title: str
    """Of the data set."""
    missing: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The finding, as an error says it."""
        are = "is" if len(self.missing) == 1 else "are"
        return f"{self.folder} looks like {self.title}, but {' and '.join(self.missing)} {are} missing; fetch it again."


class _Pieces(NamedTuple):
    """Files by which a data set is known, and all that it needs; a bar parts names of which one is enough."""

    title: str
    known_by: tuple[str, ...]
    needed: tuple[str, ...]


_FLOWERS = ("imagelabels.mat", "setid.mat")
_FIRST_FLOWER = "jpg/image_00001.jpg"
_PETS = ("annotations/trainval.txt", "annotations/test.txt")
_BIRDS = ("lists/train.txt", "lists/test.txt")
_IDX = tuple(
    "|".join(f"{part}{dot}idx{number}-ubyte{end}" for dot in "-." for end in ("", ".gz"))
    for part, number in (("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1))
)
_PIECES: dict[str, tuple[_Pieces, ...]] = {
    "cifar100": (
        _Pieces("CIFAR-100", ("meta",), ("train", "test")),
        _Pieces("CIFAR-100 of the course", *(("train_cs543", "test_cs543"),) * 2),
    ),
    "cifar10": (_Pieces("CIFAR-10", (*CIFAR10_BATCHES, "batches.meta"), CIFAR10_BATCHES),),
    "mnist": (_Pieces("MNIST", _IDX, _IDX),),
    "fashion-mnist": (_Pieces("Fashion-MNIST", _IDX, _IDX),),
    "flowers102": (_Pieces("Oxford 102 Flowers", (*_FLOWERS, _FIRST_FLOWER), (*_FLOWERS, "102flowers.tgz|jpg")),),
    "oxford-pets": (
        _Pieces("Oxford-IIIT Pets", _PETS, _PETS),
        _Pieces("Oxford-IIIT Pets", ("annotations.tar.gz",), ("images.tar.gz", "annotations.tar.gz")),
    ),
    "cub200": (
        _Pieces("CUB-200-2011", CUB_2011_TABLES[1:], CUB_2011_TABLES),
        _Pieces("CUB-200-2010", _BIRDS, _BIRDS),
        _Pieces("CUB-200-2010", ("lists.tgz",), CUB_2010_ARCHIVES),
    ),
}
_FOLDERS: dict[str, tuple[str, ...]] = {
    "cifar100": ("cifar-100-python", "cifar100", "cifar-100-cs543-python"),
    "cifar10": ("cifar-10-batches-py",),
    "mnist": ("MNIST/raw", "MNIST", "mnist", "raw"),
    "fashion-mnist": ("FashionMNIST/raw", "FashionMNIST", "fashion-mnist", "raw"),
    "flowers102": ("flowers-102",),
    "oxford-pets": ("oxford-iiit-pet",),
    "cub200": ("CUB_200_2011", "CUB-200-2010", "CUB_200_2010"),
}
"""Folders below the one that is named in which a data set may lie."""


def incomplete(dataset: str, base: Path) -> Incomplete | None:
    """Return which files of a data set are missing at a path where `locate` has not found it; None if none is there."""
    for folder in (base, *(base / name for name in _FOLDERS.get(dataset, ()))):
        for pieces in _PIECES.get(dataset, ()):
            missing = tuple(names.partition("|")[0] for names in pieces.needed if not _has(folder, names))
            if missing and any(_has(folder, names) for names in pieces.known_by):
                return Incomplete(folder, pieces.title, missing)
    return None


def incomplete_birds(base: Path) -> Incomplete | None:
    """Return an edition of CUB-200 whose class folders are there, and not the files that say how it is divided."""
    found = incomplete("cub200", base) if _find_cub200(base) is None else None
    return found if found is not None and _is_there(found.folder / "images") else None


def _has(folder: Path, names: str) -> bool:
    return any(_is_there(folder / name) for name in names.split("|"))


def search_folders(data_dir: str | None) -> list[Path]:
    """Return the data folders, in the order in which they are searched.

    `data_dir` (from --data-dir) goes before the environment's CIFARTUI_DATA and the user data folder.
    """
    named = [folder for folder in (data_dir, os.environ.get("CIFARTUI_DATA")) if folder]
    folders = [files.expanded(folder) for folder in named]
    return list(dict.fromkeys([*folders, platformdirs.user_data_path("cifartui")]))


def locate(data: Data, data_dir: str | None) -> Location:
    """Return the location of the data set of `data`.

    `data.path`, if given, is the only candidate; a relative one is searched in every data folder.
    """
    if data.dataset == "shapes100":
        return Location(dataset=data.dataset, kind="generated", text="generated at start, nothing to download")
    if data.dataset == "class-folders" and data.path is None:
        return _absent(data, data_dir, [])
    paths = _searched_paths(data, data_dir)
    find_birds = _find_cub200 if data.path is None else _find_named_birds
    is_named = data.path is not None
    find = {
        "cifar100": _find_cifar100,
        "cifar10": _find_cifar10,
        "mnist": lambda base: _find_idx("mnist", base, is_named),
        "fashion-mnist": lambda base: _find_idx("fashion-mnist", base, is_named),
        "flowers102": _find_flowers102,
        "oxford-pets": _find_oxford_pets,
        "cub200": find_birds,
    }.get(data.dataset, partial(_find_class_folders, labels=data.labels))
    if data.dataset == "fashion-mnist" and not is_named:
        paths.append(DEBIAN_FASHION)
    for base in paths:
        found = find(base)
        if found is not None:
            return found
    return _absent(data, data_dir, paths)


def is_fetched(data: Data) -> bool:
    """Return true for a published data set that a run downloads if it is absent."""
    return data.path is None and data.dataset in PUBLISHED


def check_located(location: Location, data: Data) -> None:
    """Raise CifartuiError if the data of a preset is absent, and is not downloaded either."""
    if location.kind == "absent" and not is_fetched(data):
        raise CifartuiError(f"{location.text[0].upper()}{location.text[1:]}. {location.advice}".rstrip())


def _searched_paths(data: Data, data_dir: str | None) -> list[Path]:
    folders = search_folders(data_dir)
    if data.path is None:
        return folders
    path = files.expanded(data.path)
    return list(dict.fromkeys(folder / path for folder in folders))  # an absolute path stays what it is


def _find_cifar100(base: Path) -> Location | None:
    for kind, path in _cifar100_candidates(base):
        is_course = kind.startswith("course")
        suffix = COURSE_SUFFIX if is_course else ""
        is_there = (
            _is_file(path)
            if kind.endswith("archive")
            else _is_file(path / f"train{suffix}") and _is_file(path / f"test{suffix}")
        )
        if is_there:
            packaging = " (the course's packaging)" if is_course else ""
            form = "archive" if kind.endswith("archive") else "folder"
            return Location(
                dataset="cifar100", kind=kind, path=str(path), text=f"CIFAR-100 {form}{packaging}: {path}"
            )  # fmt: skip
    return None


def _cifar100_candidates(base: Path) -> Iterator[tuple[Kind, Path]]:
    if base.name.endswith((".tar.gz", ".tgz")):
        yield ("course-archive" if base.name == COURSE_ARCHIVE else "archive"), base
        return
    yield "folder", base / "cifar-100-python"  # before the archive: it needs no unpacking
    yield "folder", base
    yield "archive", base / CIFAR100_ARCHIVE
    yield "course-folder", base / "cifar100"
    yield "course-folder", base / "cifar-100-cs543-python"
    yield "course-folder", base
    yield "course-archive", base / COURSE_ARCHIVE


def _find_cifar10(base: Path) -> Location | None:
    if base.name.endswith((".tar.gz", ".tgz")):
        return _found("cifar10", "archive", base) if _is_file(base) else None
    for folder in (base / "cifar-10-batches-py", base):  # before the archive: it needs no unpacking
        if all(_is_file(folder / name) for name in CIFAR10_BATCHES):
            return _found("cifar10", "folder", folder)
    return _found("cifar10", "archive", base / CIFAR10_ARCHIVE) if _is_file(base / CIFAR10_ARCHIVE) else None


def idx_files(folder: Path) -> dict[str, Path]:
    """Return MNIST's files in a folder by train-images, train-labels, t10k-images and t10k-labels; perhaps not all."""
    names = {f"{part}-{what}": number for part in ("train", "t10k") for what, number in (("images", 3), ("labels", 1))}
    found = {}
    for name, number in names.items():
        for path in (folder / f"{name}{dot}idx{number}-ubyte{end}" for dot in "-." for end in ("", ".gz")):
            if name not in found and _is_file(path):
                found[name] = path
    return found


def _find_idx(dataset: str, base: Path, is_named: bool) -> Location | None:
    """Find MNIST or Fashion-MNIST, whose files have the same names: only a folder tells which of them it is."""
    published = PUBLISHED[dataset]
    folders = [base / published.folder, base / published.folder.partition("/")[0], base / dataset]
    if is_named or base == DEBIAN_FASHION:
        folders += [base, base / "raw"]
    return next((_found(dataset, "idx-folder", folder) for folder in folders if len(idx_files(folder)) == 4), None)


def _find_flowers102(base: Path) -> Location | None:
    archive, *tables = PUBLISHED["flowers102"].files
    for folder in (base / PUBLISHED["flowers102"].folder, base):
        if all(_is_file(folder / table.name) for table in tables):
            if _num_children(folder / "jpg"):
                return _found("flowers102", "flowers-folder", folder)
            if _is_file(folder / archive.name):
                return _found("flowers102", "flowers-archive", folder)
    return None


def _find_oxford_pets(base: Path) -> Location | None:
    for folder in (base / PUBLISHED["oxford-pets"].folder, base):
        if all(_is_file(folder / "annotations" / name) for name in ("trainval.txt", "test.txt")):
            return _found("oxford-pets", "pets-folder", folder)
        if all(_is_file(folder / file.name) for file in PUBLISHED["oxford-pets"].files):
            return _found("oxford-pets", "pets-archives", folder)
    return None


def _found(dataset: str, kind: Kind, path: Path) -> Location:
    form = kind.rpartition("-")[2]
    return Location(dataset=dataset, kind=kind, path=str(path), text=f"{PUBLISHED[dataset].title} {form}: {path}")


def _find_class_folders(base: Path, labels: str | None = None) -> Location | None:
    if not _is_there(base):
        return None
    try:
        from engine.shared.image_listing import num_classes  # with all layouts and archives: slow to import

        number = num_classes(base, labels)
    except CifartuiError as error:
        return Location(dataset="class-folders", kind="absent", text=str(error).rstrip("."))
    return Location(
        dataset="class-folders",
        kind="class-folders",
        path=str(base),
        text=f"images by class: {base}",
        num_classes=number,
    )


def published_in(base: Path) -> list[Location]:
    """Return the published data sets in a folder that is named, each once. Files of MNIST may be Fashion-MNIST's."""
    found = [
        _find_cifar100(base),
        _find_cifar10(base),
        _find_idx("mnist", base, is_named=True),
        _find_idx("fashion-mnist", base, is_named=True),
        _find_flowers102(base),
        _find_oxford_pets(base),
    ]
    birds = {each.kind.split("-")[1]: each for each in reversed(list(_all_birds(base)))}  # one of each edition
    once: dict[tuple[Kind, str | None], Location] = {}
    for each in (*found, *birds.values()):
        if each is not None:
            once.setdefault((each.kind, each.path), each)
    return list(once.values())


def _find_cub200(base: Path) -> Location | None:
    return next(_all_birds(base), None)


def _all_birds(base: Path) -> Iterator[Location]:
    """Yield the birds: in each folder that of 2011, of 2010, or the archives of 2010, in this order."""
    for folder in (base / "CUB_200_2011", base / "CUB-200-2010", base / "CUB_200_2010", base):
        if all(_is_file(folder / name) for name in CUB_2011_TABLES):
            yield _birds("cub-2011-folder", folder, "CUB-200-2011")
        if all(_is_file(folder / "lists" / name) for name in ("train.txt", "test.txt")):
            yield _birds("cub-2010-folder", folder, "CUB-200-2010")
        if all(_is_file(folder / name) for name in CUB_2010_ARCHIVES):
            yield _birds("cub-2010-archives", folder, "CUB-200-2010, archives")


def _find_named_birds(base: Path) -> Location | None:
    """Find the birds under `data.path`, which may be class folders too."""
    birds = _find_cub200(base)
    folders = _find_class_folders(base) if birds is None and incomplete_birds(base) is None else None
    return birds if folders is None else structs.replace(folders, dataset="cub200")


def _birds(kind: Kind, folder: Path, name: str) -> Location:
    return Location(dataset="cub200", kind=kind, path=str(folder), text=f"{name}: {folder}")


def _absent(data: Data, data_dir: str | None, paths: list[Path]) -> Location:
    searched = " or ".join(str(base) for base in paths)
    if data.path is not None:
        found = next(filter(None, (incomplete(data.dataset, base) for base in paths)), None)
        if found is not None:
            return Location(dataset=data.dataset, kind="absent", text=found.sentence.rstrip("."))
    if data.dataset == "class-folders":
        return Location(
            dataset=data.dataset,
            kind="absent",
            text=f"there is no {searched}" if searched else "no folder of images is named",
            advice="Name one that holds a folder of images for each class with --data (data.path in a preset).",
        )
    if data.dataset == "cub200":
        return Location(
            dataset=data.dataset,
            kind="absent",
            text=f"Caltech-UCSD Birds 200 is not in {searched}",
            advice=f"Put images.tgz and lists.tgz of the 2010 edition, as they are, or the unpacked CUB_200_2011 "
            f"folder, into {search_folders(data_dir)[0]}; or name a folder with train/<class>/ and test/<class>/ "
            "with: --set data.path=/that/folder",
        )
    published = PUBLISHED[data.dataset]
    where = search_folders(data_dir)[0] / published.folder
    first, *others = published.files
    if not others:
        what, it = f"{first.url} ({published.size}, md5 {first.md5}), as it is,", "it"
    else:
        rest = ", ".join(file.name for file in others)
        what = f"{first.url} and, from the same place, {rest} ({published.size}), as they are,"
        it = "them"
    return Location(
        dataset=data.dataset,
        kind="absent",
        text=f"{published.title} is not in {searched}",
        advice=f"Put {what} into {where}, or name the folder that holds {it} with --data-dir. "
        "`cifartui train demo` needs no data.",
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder above it that we may not enter
        return False


def _num_children(path: Path) -> int:
    try:
        return sum(1 for _ in path.iterdir())
    except OSError:
        return 0


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder above it that we may not enter
        return False
