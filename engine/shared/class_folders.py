"""Layouts of class folders: classes, parts, and the files of each. No torch, nothing decoded."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from engine.shared.image_archives import SUFFIXES as ARCHIVES
from engine.shared.image_parts import (
    PARTS,
    Files,
    Listing,
    Part,
    alike,
    listed,
    shown_names,
    unread_notices,
    without_images,
)
from engine.shared.image_scan import Poll, Scanner, base_of, folder_of, is_junk, shown
from engine.shared.label_table import SUFFIXES as TABLES
from presets.errors import CifartuiError

_UNLABELLED = frozenset({"test", "images", "unknown", "unlabelled", "unlabeled", "all"})
"""Names of the only folder in a test part that hold images without labels, unless there is such a class."""
_LABEL_TABLE, _OTHER_TABLE = re.compile("train|label"), re.compile("sample|submission|^test")
"""Parts of the names of tables that have labels, and of those that have not."""
_NO_TABLE = "FILE.csv"
"""Stands for a table in advice where none was found."""
_NAME_IT, _NAME_THE_ARCHIVE = "name that folder", "name the archive"
_AS_DATA, _AS_DATA_OR = "name it as the data", "as the data, or as data.labels="
"""Parts of advice that hold for folders, and not for what is inside an archive."""
_MOST_WRAPPERS = 8
"""Folders with nothing but one folder inside that are entered, one in the other."""


def list_class_folders(path: Path, name: str = "class-folders", poll: Poll = lambda: None) -> Listing:
    """List class folders, with or without parts.

    Args:
        path: the folder.
        name: of the data set.
        poll: called before each folder is read; its exceptions end the listing.

    Raises:
        CifartuiError: it cannot be read, has no layout of these or looks like two, or has fewer than two classes.
    """
    scan = _enter(path, poll)
    folders = scan.contents().all_folders
    parts = _parts(scan, folders)
    if "train" in parts:
        taken = {folder.split("/")[0] for folder in parts.values()}
        return _list_parts(scan, name, parts, [folder for folder in folders if folder not in taken])
    if parts:
        raise _no_train(scan, parts)
    return _list_flat(scan, name, folders)


def in_archive(advice: str) -> str:
    """Return what is said of a folder as it holds inside an archive, where nothing can be named as the data."""
    advice = re.sub(
        rf"if (.+) names files and labels, {_AS_DATA}",
        r"if \1 names files and labels, add --set data.labels=\1",
        advice,
    )
    advice = re.sub(rf"{_NAME_THE_ARCHIVE} (.+) itself", r"unpack it and name \1", advice)
    return advice.replace(_AS_DATA_OR, "with --set data.labels=").replace(_NAME_IT, "pack it alone")


def count_classes(path: Path) -> int:
    """Return the number of classes of a folder, quickly: of each class the first image found is enough.

    Raises:
        CifartuiError: as `list_class_folders`, of the training part only.
    """
    scan = _enter(path, lambda: None)
    folders = scan.contents().all_folders
    parts = _parts(scan, folders)
    if parts and "train" not in parts:
        raise _no_train(scan, parts)
    by_name = {_name_of(folder): folder for folder in scan.each_once(parts.get("train", "")) if scan.has_image(folder)}
    if not by_name:
        raise _no_images(scan, parts.get("train", ""))
    if len(by_name) == 1:
        raise _one_class(scan, *by_name.values())
    return len(by_name)


def _enter(path: Path, poll: Poll) -> Scanner:
    """Return a scanner of `path`, or of the folder inside that holds everything."""
    scan = Scanner(path, poll)
    for _ in range(_MOST_WRAPPERS):
        here = scan.contents()
        if here.images or len(here.all_folders) != 1:
            break
        inner = Scanner(scan.root / here.all_folders[0], poll)
        is_wrapper = here.all_folders[0].lower() not in PARTS or _is_divided(inner)
        if not (is_wrapper and inner.contents().all_folders):
            break
        scan = inner
    scan.named = path
    return scan


def _is_divided(scan: Scanner, folder: str = "") -> bool:
    """Return true if a folder has a training part and another one inside, as a data set has."""
    inside = scan.contents(folder)
    parts = {PARTS.get(base_of(name).lower()) for name in inside.all_folders}
    return "train" in parts and bool(parts & {"val", "test"}) and not inside.images


def _parts(scan: Scanner, folders: list[str]) -> dict[Part, str]:
    """Return the folder of each part that is there."""
    parts: dict[Part, str] = {}
    for folder in folders:
        part = PARTS.get(folder.lower())
        if part is None:
            continue
        if part in parts:
            raise CifartuiError(
                f"{_where(scan)} has both {parts[part]}/ and {folder}/, and only one can be the {_words(part)}; "
                "rename or remove the other."
            )
        parts[part] = folder
    return {part: _unwrapped(scan, folder, part) for part, folder in parts.items()}


def _unwrapped(scan: Scanner, folder: str, part: Part) -> str:
    """Return a part's folder, or the only one inside if it is named for the part again, as unpacking often gives."""
    inside = scan.contents(folder)
    if inside.images or len(inside.all_folders) != 1:
        return folder
    return inside.all_folders[0] if PARTS.get(base_of(inside.all_folders[0]).lower()) == part else folder


# --- layouts ---------------------------------------------------------------------------------------


def _list_flat(scan: Scanner, name: str, folders: list[str]) -> Listing:
    here = scan.contents()
    classes = _Classes(scan, folders)
    train = classes.files()
    if not train:
        raise _no_images(scan, "")
    classes.check_number()
    if whole := next((folder for folder in classes.folders() if _is_divided(scan, folder)), None):
        parts = listed(map(base_of, scan.contents(whole).all_folders))
        raise CifartuiError(
            f"{_where(scan, whole)} has parts of its own inside ({parts}):"
            f" if it is the data set, {_NAME_IT}; if it is a class, put the parts first, as in train/{shown(whole)}."
        )
    _leave_loose_out(scan, here.images, "")
    return Listing(
        name=name,
        root=scan.root,
        layout=f"Class folders without parts{classes.nested}: no validation part, no test part.",
        class_names=classes.shown_names(),
        train=train,
        unread=scan.unread,
        notices=(*classes.notices, *unread_notices(scan.unread)),
    )


def _list_parts(scan: Scanner, name: str, parts: dict[Part, str], others: list[str]) -> Listing:
    folder = parts["train"]
    inside = scan.contents(folder)
    classes = _Classes(scan, inside.all_folders)
    train = classes.files()
    if not train:
        raise _no_images(scan, folder, others)
    if others and len(parts) == 1 and any(scan.contents(other).images for other in others):
        raise CifartuiError(
            f"{_where(scan)} looks like two layouts: {folder}/ has class folders inside, and images lie in "
            f"{listed(others)} beside it; put all classes into one folder, or the others elsewhere."
        )
    classes.check_number()
    _leave_loose_out(scan, inside.images, folder)
    notices = list(classes.notices)
    if others := [other for other in others if scan.has_image(other)]:
        notices.append(f"Beside {folder}/ there is {listed(others)}, which is not read.")
    val = _labelled_part(scan, parts.get("val"), classes, notices)
    test, unlabelled = Files(), tuple[str, ...]()
    if "test" in parts:
        unlabelled = _without_labels(scan, parts["test"], classes)
        test = Files() if unlabelled else _labelled_part(scan, parts["test"], classes, notices)
    notices += _same_folder(scan, parts)
    there = [f"{parts[part].split('/')[0]}/" for part in ("train", "val", "test") if part in parts]
    missing = [] if val else ["no validation part"]
    missing += [] if test else ["a test part without labels" if unlabelled else "no test part"]
    tail = f": {', '.join(missing)}" if missing else ""
    return Listing(
        name=name,
        root=scan.root,
        layout=f"Class folders in {listed(there)}{classes.nested}{tail}.",
        class_names=classes.shown_names(),
        train=train,
        val=val,
        test=test,
        unlabelled=unlabelled,
        unlabelled_unread=_unread_below(scan, parts["test"]) if unlabelled else (),
        unread=scan.unread,
        notices=(*notices, *_missing_classes(classes, {"val": val, "test": test}), *unread_notices(scan.unread)),
        train_folder=folder,
    )


class _Classes:
    """Classes of the training part, and the files of each part that belong to them."""

    def __init__(self, scan: Scanner, folders: list[str]) -> None:
        """Find the folders that have an image inside; the others are no classes, and a notice names them."""
        self._scan = scan
        self.notices: list[str] = []
        by_name = self._by_name(folders)
        names = sorted(by_name)
        self._folders = by_name
        found = scan.below((label, folder) for label, name in enumerate(names) for folder in by_name[name])
        counts = Counter(label for label, _ in found)
        self.names = [name for label, name in enumerate(names) if counts[label]]
        empty = [name for label, name in enumerate(names) if not counts[label]]
        if empty and self.names:
            folder = folder_of(by_name[empty[0]][0])
            has, classes = ("has", "is no class") if len(empty) == 1 else ("have", "are no classes")
            self.notices.append(
                f"{listed(f'{name}/' for name in empty)} in {shown(folder or scan.root.name)} {has} no image that is "
                f"read, and {classes}."
            )
        self.notices += alike(self.names, shown(folder_of(folders[0]) or scan.root.name) if folders else "")
        place = {label: index for index, label in enumerate(label for label in range(len(names)) if counts[label])}
        self._files = Files(tuple(file for _, file in found), tuple(place[label] for label, _ in found))
        is_nested = not {folder_of(file) for file in self._files.names}.issubset(folders)
        self.nested = ", with folders below a class" if is_nested else ""

    def files(self) -> Files:
        """Return those of the training part."""
        return self._files

    def folders(self) -> list[str]:
        """Return the folders of the classes."""
        return [folder for name in self.names for folder in self._folders[name]]

    def files_of(self, folders: list[str], part_folder: str) -> Files:
        """Return the files of another part.

        Raises:
            CifartuiError: it has a class that the training part does not have.
        """
        by_name = self._by_name(folders)
        place = {name: index for index, name in enumerate(self.names)}
        found = self._scan.below((place.get(name, -1), folder) for name in by_name for folder in by_name[name])
        unknown = sorted({self._class_folder(file, part_folder) for label, file in found if label < 0})
        if unknown:
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            wanted = _name_of(unknown[0]).casefold()
            same = next((name for name in self.names if name.casefold() == wanted), None)
            advice = (
                "add it there or remove it here" if same is None else f"there it is {shown(same)}: give both one name"
            )
            if empty := self._folders.get(_name_of(unknown[0])):
                advice = f"{shown(empty[0])}/ has no image that is read: put some there, or remove it here"
            raise CifartuiError(
                f"{shown(str(self._scan.root / unknown[0]))} is a class that the training part does not have{more}; "
                f"{advice}."
            )
        return Files(tuple(file for _, file in found), tuple(label for label, _ in found))

    def check_number(self) -> None:
        """Raise CifartuiError if there are too few classes to tell apart."""
        if len(self.names) < 2:
            raise _one_class(self._scan, self._folders[self.names[0]][0])

    def shown_names(self) -> tuple[str, ...]:
        """Return the names in label order, printable."""
        return shown_names(self.names)

    def _by_name(self, folders: list[str]) -> dict[str, list[str]]:
        """Return class folders by their composed names (NFC), and say where two are one class."""
        by_name: dict[str, list[str]] = {}
        for folder in folders:
            by_name.setdefault(_name_of(folder), []).append(folder)
        for name, same in by_name.items():
            if len(same) > 1:
                self.notices.append(
                    f"{len(same)} folders in {shown(folder_of(same[0]) or self._scan.root.name)} are "
                    f"named {shown(name)}, in different Unicode forms; they are one class."
                )
        return by_name

    @staticmethod
    def _class_folder(file: str, part_folder: str) -> str:
        return f"{part_folder}/{file[len(part_folder) + 1 :].split('/')[0]}"


def _labelled_part(scan: Scanner, folder: str | None, classes: _Classes, notices: list[str]) -> Files:
    if folder is None:
        return Files()
    inside = scan.contents(folder)
    before = len(classes.notices)
    found = classes.files_of(inside.all_folders, folder)
    notices += classes.notices[before:]
    if found:
        _leave_loose_out(scan, inside.images, folder)
    elif inside.images:
        images = "an image" if len(inside.images) == 1 else f"{len(inside.images):,} images"
        raise CifartuiError(
            f"{_where(scan, folder)} has {images} but no class folders, so classes are not known; put images into a "
            "folder for each class, or remove it."
        )
    else:
        notices.append(f"{folder}/ has no image that is read, and is no part.")
    return found


def _without_labels(scan: Scanner, folder: str, classes: _Classes) -> tuple[str, ...]:
    """Return the images of a test part that has no class folders; none if it has."""
    inside = scan.contents(folder)
    folders = inside.all_folders
    if len(folders) == 1 and not inside.images:
        name = base_of(folders[0])
        if name.lower() in _UNLABELLED and name not in classes.names:
            return tuple(file for _, file in scan.below([(0, folders[0])]))
    return () if any(True for _ in scan.below((0, inner) for inner in folders)) else tuple(inside.images)


def _unread_below(scan: Scanner, folder: str) -> tuple[str, ...]:
    return tuple(sorted(name for name in scan.unread_images if name.startswith(f"{folder}/")))


def _leave_loose_out(scan: Scanner, images: list[str], folder: str) -> None:
    for image in images:
        scan.leave_out(folder, base_of(image), "beside class folders, so of no class")


def _no_images(scan: Scanner, folder: str, others: Iterable[str] = ()) -> CifartuiError:
    """Return the error for a training part without class folders that have images."""
    loose = scan.contents(folder).images
    where = _where(scan, folder)
    if loose and any(scan.contents(other).images for other in others):
        return CifartuiError(
            f"{_where(scan)} looks like two layouts: images lie loose in {folder}/ and in {listed(others)}; if "
            f"{folder} is a class too, put all of them into another train/, else put its images into class folders."
        )
    if loose:
        is_one = len(loose) == 1
        lie = f"The only image in {where} lies" if is_one else f"The {len(loose):,} images in {where} lie"
        return CifartuiError(
            f"{lie} loose, so {'its class is' if is_one else 'their classes are'} not known; put images into a folder "
            "for each class, or name a table of file names and labels "
            f"{_AS_DATA_OR}{shown(_likely_table(scan))}."
        )
    unread = scan.unread
    packed = next((each.first for each in unread if not each.folder and each.first.lower().endswith(ARCHIVES)), None)
    if packed is not None:
        return CifartuiError(f"{where} has no class folders with images; {_NAME_THE_ARCHIVE} {shown(packed)} itself.")
    why = f" ({unread[0].sentence().rstrip('.')})" if unread else ""
    return CifartuiError(f"{where} has no class folders with images{why}; put some there or name another folder.")


def _likely_table(scan: Scanner) -> str:
    """Return the table that most likely has the labels of loose images, as `data.labels` wants it; else FILE.csv.

    Sample submissions and tables of a test part are passed over: their labels are made up, or of other images.
    """
    folders = {scan.root / each.folder for each in scan.unread if each.reason.startswith((".csv", ".tsv"))}
    folders |= {each for each in scan.root.parents if each.is_relative_to(scan.named)}
    found = []
    for folder in folders:
        with suppress(OSError):  # it is gone meanwhile
            tables = [path for path in folder.iterdir() if path.suffix.lower() in TABLES and not is_junk(path.name)]
            found += [
                str(path.relative_to(scan.named)) for path in tables if not _OTHER_TABLE.search(path.name.lower())
            ]
    return min(found, key=lambda name: (not _LABEL_TABLE.search(base_of(name).lower()), name), default=_NO_TABLE)


def _no_train(scan: Scanner, parts: dict[Part, str]) -> CifartuiError:
    part, folder = next(iter(parts.items()))
    return CifartuiError(
        f"{_where(scan)} has a folder {folder}/ but no train/: if it is the {_words(part)}, put the class folders "
        "into train/ beside it; if it is a class, put all classes into train/."
    )


def _one_class(scan: Scanner, folder: str) -> CifartuiError:
    text = f"{_where(scan)} has images of one class only, {shown(_name_of(folder))}; a classifier needs two: "
    inner = [name for name in scan.contents(folder).all_folders if scan.has_image(name)]
    if len(inner) < 2:
        table = _likely_table(scan)
        if table != _NO_TABLE:
            text += f"if {shown(table)} names files and labels, {_AS_DATA}; else "
        siblings = scan.contents(folder_of(folder)).all_folders
        if empty := [f"{name}/" for name in siblings if name != folder and not scan.has_image(name)]:
            has = "has" if len(empty) == 1 else "have"
            return CifartuiError(
                f"{text}{listed(empty)} {has} no image that is read; put images of another class there."
            )
        return CifartuiError(f"{text}put the images of each class into a folder of its own.")
    where = f"{_where(scan, folder)}, with {listed(map(base_of, inner))} inside,"
    if folder_of(folder):
        return CifartuiError(f"{text}if {where} holds the classes, move them one folder up.")
    return CifartuiError(f"{text}if {where} is the data set, {_NAME_IT}.")


def _name_of(folder: str) -> str:
    """Return the name of a class folder in composed form (NFC), in which names are compared."""
    return unicodedata.normalize("NFC", base_of(folder))


# --- what is said ----------------------------------------------------------------------------------


def _missing_classes(classes: _Classes, parts: dict[str, Files]) -> list[str]:
    return [
        said
        for part, files in parts.items()
        if files and (said := without_images(files.labels, classes.shown_names(), part))
    ]


def _same_folder(scan: Scanner, parts: dict[Part, str]) -> list[str]:
    return [
        f"{folder}/ and {parts['train']}/ are the same folder: accuracy there is that of training images."
        for part, folder in parts.items()
        if part != "train" and scan.is_same(folder, parts["train"])
    ]


def _where(scan: Scanner, folder: str = "") -> str:
    return shown(str(scan.root / folder))


def _words(part: Part) -> str:
    return {"train": "training part", "val": "validation part", "test": "test part"}[part]
