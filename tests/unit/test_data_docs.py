"""Rows of docs/data.md: every layout is written as the row has it, and read and spoken of as the row says."""

import io
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from engine.shared.image_listing import list_images
from engine.shared.image_scan import OPTIONAL_SUFFIXES, SUFFIXES, why_not_read
from presets.errors import CifartuiError

GUIDE = Path(__file__).parents[2] / "docs" / "data.md"


def rows(heading: str) -> list[list[str]]:
    """Return the rows of the table whose first cell is `heading`."""
    lines = GUIDE.read_text("utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


def write(root: Path, cell: str) -> Path:
    """Make what a cell names in backticks, and return what is to be listed."""
    root.mkdir()
    named = root
    for entry in re.findall(r"`([^`]+)`", cell):
        name, _, content = entry.partition(": ")
        path = root / name.partition(" -> ")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        if " -> " in entry:
            path.symlink_to(name.partition(" -> ")[2])
        elif name.endswith("/"):
            path.mkdir()
        elif name.endswith((".zip", ".tar.gz")):
            named = write_archive(path, content.split())
        else:
            path.write_text("\n".join(content.split(" / ")))
            named = path if name.endswith(".csv") else named
    return named


def write_archive(path: Path, members: list[str]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for member in members:
                archive.writestr(member, "")
    else:
        with tarfile.open(path, "w:gz") as tar:
            for member in members:
                tar.addfile(tarfile.TarInfo(member), io.BytesIO())
    return path


@pytest.fixture(autouse=True)
def _without_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    why_not_read.cache_clear()
    monkeypatch.setattr("engine.shared.image_scan.find_spec", lambda _module: None)


def test_every_extension_that_is_read_is_named() -> None:
    text = next(line for line in GUIDE.read_text("utf-8").splitlines() if line.startswith("Read are "))
    named = set(re.findall(r"\w+", text))
    assert {suffix.removeprefix(".") for suffix in (*SUFFIXES, *OPTIONAL_SUFFIXES)} <= named


@pytest.mark.parametrize(("cell", "images", "said"), rows("in the folder | images"), ids=lambda value: value[:60])
def test_a_layout_is_read_as_the_guide_says(tmp_path: Path, cell: str, images: str, said: str) -> None:
    found = list_images(write(tmp_path / "data", cell))
    counts = {
        "train": len(found.train), "val": len(found.val), "test": len(found.test),
        "without labels": len(found.unlabelled),
    }  # fmt: skip
    assert ", ".join(f"{count} {part}" for part, count in counts.items() if count) == images
    assert found.layout.removeprefix(f"{tmp_path}/data/labels.csv: ") == said
    assert found.class_names in {("cat", "dog"), ("corgi", "pug")}
    assert not [notice for notice in found.notices if "labels.csv is read" not in notice and "has no" not in notice]


@pytest.mark.parametrize(
    ("cell", "said"), rows("in the folder, beside `cat/1.jpg` and `dog/1.jpg`"), ids=lambda value: value[:60]
)
def test_what_is_left_out_is_said_as_the_guide_says(tmp_path: Path, cell: str, said: str) -> None:
    found = list_images(write(tmp_path / "data", f"`cat/1.jpg` `dog/1.jpg` {cell}"))
    assert found.train.names == ("cat/1.jpg", "dog/1.jpg")
    assert found.notices == (() if said.startswith("nothing: junk") else (said,))


@pytest.mark.parametrize(("cell", "said"), rows("in the folder | refused with"), ids=lambda value: value[:60])
def test_what_is_refused_is_refused_as_the_guide_says(tmp_path: Path, cell: str, said: str) -> None:
    with pytest.raises(CifartuiError) as caught:
        list_images(write(tmp_path / "data", cell))
    assert str(caught.value).replace(f"{tmp_path}/", "").removeprefix("data/labels.csv ") == said
