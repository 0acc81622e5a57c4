"""Folders that hold a published data set and other data: the sentence with which they are refused. No torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from engine.shared.data_locations import Location
from engine.shared.image_parts import PARTS, listed, short
from engine.shared.image_scan import Poll, Scanner, is_junk, shown
from engine.shared.label_table import SUFFIXES as TABLES
from engine.shared.label_table import has_columns
from engine.shared.published_sets import in_a_row, title_of


class _Found(NamedTuple):
    """Data in a folder."""

    title: str
    place: str
    """Names for people, relative to the folder; "" for a published data set whose files lie in the folder itself."""
    named: Path | None
    """The path that names it alone; None if none does."""


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
        found += _others(path, {each.place.split("/")[0] for each in found}, poll)
    if len(found) < 2:
        return ""
    what = in_a_row([f"{each.title} ({each.place or 'its own files'})" for each in found])
    named = [each for each in found if each.named is not None]
    unnamed = [each.title for each in found if each.named is None]
    if not named:
        advice = "move all but one elsewhere"
    elif unnamed:
        others = in_a_row([each.title for each in named])
        advice = f"name {_shown(named[0])} for {named[0].title}; to read {unnamed[0]}, move {others} elsewhere"
    else:
        advice = f"name one of them, for instance {_shown(named[0])}"
    return f"{shown(str(path))} holds {what}: {advice}."


def _shown(found: _Found) -> str:
    return shown(str(found.named))


def _published(path: Path, found: Location) -> _Found:
    place = Path(found.path or path)
    title = title_of(found.dataset, found.kind)
    if place == path:
        return _Found(title, "", None)
    return _Found(title, shown(str(place.relative_to(path))), place)


def _others(path: Path, taken: set[str], poll: Poll) -> list[_Found]:
    """Return folders with images and tables of labels beside the published data sets.

    A single folder with images and no folders inside is no data to tell classes apart in, and is passed over.
    """
    scan = Scanner(path, poll)
    here = scan.contents()
    folders = [folder for folder in here.all_folders if shown(folder) not in taken and scan.has_image(folder)]
    if (folders or here.images) and (table := _table(path)) is not None:
        return [_Found("images and a table", short(table.name), table)]
    is_nested = [not scan.contents(folder).images for folder in folders]
    if len(folders) < 2 and not any(is_nested):
        return []
    if all(is_nested) and not any(folder.lower() in PARTS for folder in folders):
        title = "a folder of images" if len(folders) == 1 else "folders of images"
        return [_Found(title, listed(folders), path / folders[0])]
    return [_Found("class folders", listed(folders), None)]


def _table(path: Path) -> Path | None:
    """Return the first table of files and labels in a folder; of others, such as a log of epochs, none."""
    tables = sorted(each for each in path.iterdir() if each.suffix.lower() in TABLES and not is_junk(each.name))
    return next(filter(has_columns, tables), None)
