"""Small data sets of image files in the forms that are published: class folders, CUB-200-2010, CUB-200-2011."""

import tarfile
from pathlib import Path

from PIL import Image

NAMES = ("001.Crow", "002.Gull", "003.Wren")
TRAIN, TEST = 10, 2


def save(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def images(root: Path) -> dict[str, list[str]]:
    """Write images of ten training and two test birds a species; return their names, as published lists have them."""
    listed: dict[str, list[str]] = {"train": [], "test": []}
    for index, name in enumerate(NAMES):
        for number in range(TRAIN + TEST):
            listed["train" if number < TRAIN else "test"].append(f"{name}/{number:02}.jpg")
            save(root / "images" / name / f"{number:02}.jpg", (index * 80, number * 10, 50))
    return listed


def write_2010(root: Path) -> Path:
    folder = root / "CUB-200-2010"
    listed = images(folder)
    (folder / "lists").mkdir()
    for part, names in listed.items():
        (folder / "lists" / f"{part}.txt").write_text("\n".join(names) + "\n")
    return folder


def write_2010_archives(root: Path) -> Path:
    folder = write_2010(root / "unpacked")
    for name in ("images", "lists"):
        with tarfile.open(root / f"{name}.tgz", "w:gz") as tar:
            tar.add(folder / name, arcname=name)
    return root


def write_2011(root: Path) -> Path:
    folder = root / "CUB_200_2011"
    listed = images(folder)
    names = sorted(listed["train"] + listed["test"])
    rows: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": []}
    for number, name in enumerate(names, start=1):
        rows["images"].append(f"{number} {name}")
        rows["image_class_labels"].append(f"{number} {NAMES.index(name.split('/')[0]) + 1}")
        rows["train_test_split"].append(f"{number} {int(name in listed['train'])}")
    for table, lines in rows.items():
        (folder / f"{table}.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_class_folders(root: Path) -> Path:
    folder = root / "birds"
    for part, names in images(folder).items():
        for name in names:
            (folder / part / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "images" / name).rename(folder / part / name)
    return folder
