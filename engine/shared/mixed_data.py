"""Folders that hold a published data set and other data: the sentences that refuse them, or say so. No torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from engine.shared.data_locations import COURSE_ARCHIVE, CUB_2010_ARCHIVES, Location
from engine.shared.image_archives import is_archive
from engine.shared.image_parts import PARTS, listed, short
from engine.shared.image_scan import Poll, Scanner, is_junk, shown
from engine.shared.label_table import SUFFIXES as TABLES
from engine.shared.label_table import has_columns
from engine.shared.published_sets import PUBLISHED, in_a_row, title_of

_OTHER_THINGS = frozenset({
    "plots", "plot", "figures", "figs", "charts", "graphs", "screenshots", "docs", "doc", "assets", "static", "media",
    "results", "outputs", "output", "reports", "report", "samples", "examples", "predictions", "visualizations",
    "logs", "log", "runs", "wandb", "mlruns", "tensorboard", "lightning_logs", "checkpoints", "weights",
    "notebooks", "venv", "env", "node_modules", "site-packages",
})  # fmt: skip
"""Folders, in lower case, in which projects keep pictures that are no data: charts of a run, pages, programs.

Beside a published data set they are not looked at; where they are classes of one's own, the others still tell.
"""
_OWN: dict[str, frozenset[str]] = {
    "cub200": frozenset({"segmentations", "attributes", "annotations-mat", "lists", "parts", "images"}),
    "oxford-pets": frozenset({"annotations", "trimaps", "images"}),
    "flowers102": frozenset({"segmim", "jpg"}),
}
"""Folders, in lower case, that archives of a data set's publisher unpack to, so that they may lie beside it."""
_OWN_ARCHIVES: dict[str, tuple[str, ...]] = {
    "cifar100": (COURSE_ARCHIVE,),
    "cub200": ("CUB_200_2011.tgz", "segmentations.tgz", "attributes.tgz", "annotations.tgz", *CUB_2010_ARCHIVES),
    "flowers102": ("102segmentations.tgz",),
}
"""Archives of a data set's publisher, besides those that `PUBLISHED` names."""


class _Found(NamedTuple):
    """Data in a folder."""

    title: str
    place: str
    """Names for people, relative to the folder; "" for a published data set whose files lie in the folder itself."""
    named: Path | None
    """The path that names it alone; None if none does."""
    asked: str
    """The name of the data set by which a run may ask for it; "" if that would be read with others."""


def mixed_data(path: Path, sets: Sequence[Location], poll: Poll) -> str:
    """Return a sentence if a folder holds a published data set and other data, by which each is named; else nothing.

    Folders beside a data set whose files lie in the folder itself are taken for its own.

    Args:
        path: the folder.
        sets: the published data sets in it, one at least.
        poll: called before each folder is read.
    """
    found = [_published(path, each) for each in sets]
    if all(each.place for each in found):
        scan = Scanner(path, poll)
        taken = {each.place.split("/")[0] for each in found}
        beside = [folder for folder in _beside(scan, sets) if shown(folder) not in taken]
        found += _others(scan, beside)
    if len(found) < 2:
        return ""
    what = in_a_row([f"{each.title} ({each.place or 'its own files'})" for each in found])
    named = [each for each in found if each.named is not None]
    unnamed = [each for each in found if each.named is None]
    if not named:
        advice = "move all but one elsewhere"
    elif unnamed:
        to_move = in_a_row([each.title for each in named])
        advice = f"name {_shown(named[0])} for {named[0].title}; to read {unnamed[0].title}, move {to_move} elsewhere"
        if unnamed[0].asked:
            advice = f"{advice}, or train with --set data.dataset={unnamed[0].asked}"
    else:
        advice = f"name one of them, for instance {_shown(named[0])}"
    return f"{shown(str(path))} holds {what}: {advice}."


def passed_over(path: Path, found: Location, poll: Poll) -> tuple[str, ...]:
    """Return sentences about what lies beside a published data set and is not read: archives, class folders.

    Args:
        path: the folder that was named.
        found: the data set in it, whose files lie there or below.
        poll: called before each folder is read.
    """
    said = []
    own = {Path(found.path or "").name, *_OWN_ARCHIVES.get(found.dataset, ())}
    if found.dataset in PUBLISHED:
        own.update(each.name for each in PUBLISHED[found.dataset].files)
    archives = sorted(each.name for each in path.iterdir() if is_archive(each) and not is_junk(each.name))
    if others := [name for name in archives if name not in own]:
        said.append(
            f"Not looked into: {listed(others)}; name {'it' if len(others) == 1 else 'one of them'} to read it."
        )
    if found.path == str(path):
        scan = Scanner(path, poll)
        for each in _others(scan, _beside(scan, [found])):
            advice = f"; name {_shown(each)} to read it" if each.named is not None else ""
            if each.asked:
                advice = f"; to train on them, add --set data.dataset={each.asked}"
            said.append(
                f"Not read: {each.title} ({each.place}) beside the files of {title_of(found.dataset, found.kind)}"
                f"{advice}."
            )
    return tuple(said)


def _shown(found: _Found) -> str:
    return shown(str(found.named))


def _published(path: Path, found: Location) -> _Found:
    place = Path(found.path or path)
    dataset = found.dataset
    title = title_of(dataset, found.kind)
    if place == path:
        return _Found(title, "", None, dataset)
    return _Found(title, shown(str(place.relative_to(path))), place, dataset)


def _beside(scan: Scanner, sets: Sequence[Location]) -> list[str]:
    """Return the folders with images, without those that belong to a set by their names or are for other things."""
    left_out = _OTHER_THINGS.union(*(_OWN.get(each.dataset, ()) for each in sets))
    return [each for each in scan.contents().all_folders if each.lower() not in left_out and scan.has_image(each)]


def _others(scan: Scanner, folders: list[str]) -> list[_Found]:
    """Return what data there is beside the published data sets: class folders, or images and a table of labels.

    A single folder with images and no folders inside is no data to tell classes apart in, and is passed over.

    Args:
        scan: of the folder.
        folders: those with images beside the sets.
    """
    path = scan.root
    if (folders or scan.contents().images) and (table := _table(path)) is not None:
        return [_Found("images and a table", short(table.name), table, "")]
    is_nested = [not scan.contents(folder).images for folder in folders]
    if len(folders) < 2 and not any(is_nested):
        return []
    if all(is_nested) and not any(folder.lower() in PARTS for folder in folders):
        title = "a folder of images" if len(folders) == 1 else "folders of images"
        return [_Found(title, listed(folders), path / folders[0], "")]
    others = set(scan.contents().all_folders).difference(folders)
    asked = "" if any(map(scan.has_image, others)) else "class-folders"  # each of the others would be a class
    return [_Found("class folders", listed(folders), None, asked)]


def _table(path: Path) -> Path | None:
    """Return the first table of files and labels in a folder; of others, such as a log of epochs, none."""
    tables = sorted(each for each in path.iterdir() if each.suffix.lower() in TABLES and not is_junk(each.name))
    return next(filter(has_columns, tables), None)
