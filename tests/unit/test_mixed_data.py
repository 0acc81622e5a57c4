"""Folders with a published data set and other data: refused where no data set is asked for by name, else as before."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.runs.resume import Asked, _worker_options
from engine.runs.run_dir import create
from engine.shared.data_locations import locate
from engine.shared.data_path import NamedData, data_at, listing_at, with_data
from presets import catalog
from presets.errors import CifartuiError
from presets.schema import Data, DatasetName
from tests import bird_files
from tui.data.folder_summary import files_of, summarize

MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def put(root: Path, *names: str) -> Path:
    """Write an image for each name that ends like one, a table of labels for labels.csv, else an empty file."""
    for name in names:
        if name.endswith((".jpg", ".png")):
            bird_files.save(root / name, (1, 2, 3))
        elif name.endswith("labels.csv"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("file,label\n1.jpg,a\n2.jpg,b\n")
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
    return root


def put_mnist(root: Path, folder: str = "MNIST/raw/") -> Path:
    return put(root, *(f"{folder}{name}" for name in MNIST))


def refusal(root: Path) -> str:
    """Return what each way of naming data without a data set answers, the path left out."""
    said = set()
    ways: tuple[Callable[[str], object], ...] = (data_at, summarize, files_of, lambda named: with_data(named, ()))
    for way in ways:
        with pytest.raises(CifartuiError) as raised:
            way(str(root))
        said.add(str(raised.value).replace(str(root), "F"))
    (one,) = said
    return one


FLOWERS = ("imagelabels.mat", "setid.mat", "102flowers.tgz")
SEGMENTED = ("segmim/1.jpg", "segmentations/1.png")
FLAT = ("cat/1.jpg", "dog/1.jpg", "owl/1.jpg")
TO_MOVE = (
    "name F/MNIST/raw for MNIST; to read class folders, move MNIST elsewhere, or train with "
    "--set data.dataset=class-folders."
)


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        (FLAT, f"F holds MNIST (MNIST/raw) and class folders (cat, dog and owl): {TO_MOVE}"),
        (
            ("train/ants/1.jpg", "train/bees/1.jpg", "val/ants/2.jpg"),
            f"F holds MNIST (MNIST/raw) and class folders (train and val): {TO_MOVE}",
        ),
        (
            ("mine/cat/1.jpg", "mine/dog/1.jpg"),
            "F holds MNIST (MNIST/raw) and a folder of images (mine): name one of them, for instance F/MNIST/raw.",
        ),
        (
            ("1.jpg", "2.jpg", "labels.csv"),
            "F holds MNIST (MNIST/raw) and images and a table (labels.csv): name one of them, for instance "
            "F/MNIST/raw.",
        ),
        (
            ("cifar-100-python.tar.gz",),
            "F holds CIFAR-100 (cifar-100-python.tar.gz) and MNIST (MNIST/raw): name one of them, for instance "
            "F/cifar-100-python.tar.gz.",
        ),
    ],
)
def test_a_published_set_beside_other_data_is_not_taken_for_all(
    beside: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    assert refusal(put_mnist(put(tmp_path / "f", *beside))) == said


def test_a_linked_archive_beside_class_folders(tmp_path: Path) -> None:
    root = put(tmp_path / "f", *FLAT)
    (root / "cifar-100-python.tar.gz").symlink_to(put(tmp_path, "elsewhere.tar.gz") / "elsewhere.tar.gz")
    assert refusal(root) == (
        "F holds CIFAR-100 (cifar-100-python.tar.gz) and class folders (cat, dog and owl): name "
        "F/cifar-100-python.tar.gz for CIFAR-100; to read class folders, move CIFAR-100 elsewhere, or train "
        "with --set data.dataset=class-folders."
    )
    assert data_at(str(root / "cifar-100-python.tar.gz")).dataset == "cifar100"


def test_each_of_several_sets_is_named_and_found_under_the_name_that_is_said(tmp_path: Path) -> None:
    root = put_mnist(put_mnist(tmp_path / "f"), "FashionMNIST/raw/")
    put(root, "mine/cat/1.jpg", "mine/dog/1.jpg", "oxford-iiit-pet/images/a_1.jpg")
    put(root, "oxford-iiit-pet/annotations/trainval.txt", "oxford-iiit-pet/annotations/test.txt")
    bird_files.write_2011(root)
    bird_files.write_2010(root)
    said = refusal(root)
    for place, dataset in (
        ("MNIST/raw", "mnist"), ("FashionMNIST/raw", "fashion-mnist"), ("oxford-iiit-pet", "oxford-pets"),
        ("CUB_200_2011", "cub200"), ("CUB-200-2010", "cub200"), ("mine", "class-folders"),
    ):  # fmt: skip
        assert f"({place})" in said
        assert data_at(str(root / place)).dataset == dataset


@pytest.mark.parametrize(
    "beside", [(), ("notes/1.jpg",), ("notes/a.txt", "labels.csv"), ("picture.jpg",), (".x/a/1.jpg",)]
)
def test_a_published_set_that_is_all_the_data_stays_what_it_was(beside: tuple[str, ...], tmp_path: Path) -> None:
    root = put_mnist(put(tmp_path / "f", *beside))
    assert data_at(str(root)) == NamedData("mnist", str(root))


@pytest.mark.parametrize(
    ("table", "columns"), [("notes.csv", "a,b"), ("results.csv", "epoch,acc"), ("empty.tsv", ""), ("odd.csv", "\0")]
)
def test_a_table_without_labels_is_no_data(table: str, columns: str, tmp_path: Path) -> None:
    root = put_mnist(put(tmp_path / "f", "logo.png", "notes/1.jpg"))
    (root / table).write_text(f"{columns}\n1,2\n")
    assert data_at(str(root)).dataset == "mnist"
    put(root, "z_labels.csv")
    assert "images and a table (z_labels.csv)" in refusal(root)


@pytest.mark.parametrize(
    "beside",
    [
        ("plots/1.png", "figures/1.png"),
        ("Results/1.png", "runs/a/1.png", "runs/b/1.png"),
        ("docs/images/1.png", "cat/1.jpg"),
        ("plots/1.png", "z_labels.csv"),
    ],
)
def test_folders_that_are_for_other_things_are_no_data(beside: tuple[str, ...], tmp_path: Path) -> None:
    root = put_mnist(put(tmp_path / "f", *beside))
    assert data_at(str(root)).dataset == "mnist"
    put(root, "owl/1.jpg", "ape/1.jpg")
    assert "MNIST (MNIST/raw) and" in refusal(root)


def test_what_a_publisher_unpacks_beside_its_own_set_belongs_to_it(tmp_path: Path) -> None:
    birds = put(tmp_path / "birds", "segmentations/a/1.png", "segmentations/b/1.png")
    bird_files.write_2011(birds)
    assert data_at(str(birds)).dataset == "cub200"
    pets = put(tmp_path / "pets", "oxford-iiit-pet/images/a_1.jpg", "annotations/trimaps/1.png", "trimaps/1.png")
    put(pets, "oxford-iiit-pet/annotations/trainval.txt", "oxford-iiit-pet/annotations/test.txt")
    assert data_at(str(pets)).dataset == "oxford-pets"
    flowers = put(tmp_path / "flowers", *(f"flowers-102/{name}" for name in FLOWERS), "segmim/1.jpg", "jpg/1.jpg")
    assert data_at(str(flowers)).dataset == "flowers102"
    assert "class folders (segmentations and segmim)" in refusal(put_mnist(put(tmp_path / "mixed", *SEGMENTED)))


def test_files_of_a_set_in_the_folder_itself_stay_what_they_were(tmp_path: Path) -> None:
    root = put_mnist(put(tmp_path / "f", *FLAT), "")
    assert data_at(str(root)) == NamedData("mnist", str(root))
    put(root, "cifar-100-python.tar.gz")
    assert refusal(root) == (
        "F holds CIFAR-100 (cifar-100-python.tar.gz) and MNIST (its own files): name F/cifar-100-python.tar.gz for "
        "CIFAR-100; to read MNIST, move CIFAR-100 elsewhere, or train with --set data.dataset=mnist."
    )


def notices(root: Path) -> list[str]:
    """Return what a summary says of what is not read, the path left out."""
    return [said.replace(str(root), "F") for said in summarize(str(root)).notices if said.startswith("Not ")]


def test_archives_beside_a_set_are_named(tmp_path: Path) -> None:
    root = put(tmp_path / "f", "cifar-100-python.tar.gz", "ants-bees.tar", "cifar-10-jpeg.tar.gz", ".x.zip", "a.txt")
    assert notices(root) == [
        "Not looked into: ants-bees.tar and cifar-10-jpeg.tar.gz; name one of them to read it."
    ]  # fmt: skip
    assert notices(put_mnist(put(tmp_path / "g", "a.zip"))) == ["Not looked into: a.zip; name it to read it."]
    assert summarize(str(root / "cifar-100-python.tar.gz")).notices == ()


def test_archives_of_the_set_itself_are_not_named(tmp_path: Path) -> None:
    birds = put(tmp_path / "birds", "CUB_200_2011.tgz", "segmentations.tgz")
    bird_files.write_2011(birds)
    flowers = put(tmp_path / "flowers", *FLOWERS, "102segmentations.tgz", "jpg/1.jpg", "segmim/1.jpg")
    cifar = put(tmp_path / "cifar", "cifar-100-python.tar.gz", "cifar-100-python/train", "cifar-100-python/test")
    for root in (birds, birds / "CUB_200_2011", flowers, cifar, put_mnist(tmp_path / "mnist")):
        assert notices(root) == []


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        (FLAT, ["Not read: class folders (cat, dog and owl) beside the files of MNIST; {}"]),
        (("train/a/1.jpg", "val/a/1.jpg"), ["Not read: class folders (train and val) beside the files of MNIST; {}"]),
        (("mine/a/1.jpg",), ["Not read: a folder of images (mine) beside the files of MNIST; name F/mine to read it."]),
        (("1.jpg", "labels.csv"),
         ["Not read: images and a table (labels.csv) beside the files of MNIST; name F/labels.csv to read it."]),
        ((*FLAT, "plots/1.png"), ["Not read: class folders (cat, dog and owl) beside the files of MNIST."]),
        (("plots/1.png", "figures/1.png"), []),
        (("notes/1.jpg",), []),
    ],
)  # fmt: skip
def test_class_folders_beside_the_files_of_a_set_are_named(
    beside: tuple[str, ...], said: list[str], tmp_path: Path
) -> None:
    root = put_mnist(put(tmp_path / "f", *beside), "")
    to_ask = "to train on them, add --set data.dataset=class-folders."
    assert notices(root) == [each.format(to_ask) for each in said]


def test_a_set_that_is_asked_for_by_name_is_found_among_many(tmp_path: Path) -> None:
    root = put(put_mnist(put_mnist(tmp_path / "f"), "FashionMNIST/raw/"), *FLAT, "cifar-100-python.tar.gz")
    names: tuple[DatasetName, ...] = ("mnist", "fashion-mnist", "cifar100", "class-folders")
    for name in names:
        assert locate(Data(dataset=name, path=str(root)), None).kind != "absent"
        assert data_at(str(root), dataset=name) == NamedData(name, str(root))
        assert with_data(str(root), (f"data.dataset={name}",))[0] == f"data.dataset={name}"
        if name != "class-folders":
            assert locate(Data(dataset=name), str(root)).kind != "absent"


def test_the_override_that_a_refusal_says_is_obeyed(tmp_path: Path) -> None:
    root = put_mnist(put(tmp_path / "f", "train/ants/1.jpg", "train/bees/1.jpg", "val/ants/2.jpg"))
    override = refusal(root).rstrip(".").rpartition("--set ")[2]
    dataset, path = with_data(str(root), (override,))[:2]
    assert dataset == override == "data.dataset=class-folders"
    assert path == f'data.path="{root}"'
    assert listing_at(root).class_names == ("ants", "bees")


def test_class_folders_beside_other_pictures_are_not_asked_for_by_name(tmp_path: Path) -> None:
    root = put(tmp_path / "f", *FLAT)
    bird_files.write_2011(root)
    assert "CUB_200_2011" in listing_at(root).class_names
    assert refusal(root).endswith("; to read class folders, move CUB-200-2011 elsewhere.")
    root = put_mnist(put(tmp_path / "g", *FLAT, "plots/1.png"))
    assert "plots" in listing_at(root).class_names
    assert refusal(root).endswith("; to read class folders, move MNIST elsewhere.")


def test_a_resumed_run_finds_its_own_set_among_many(tmp_path: Path) -> None:
    root = put(put_mnist(tmp_path / "f"), *FLAT, "cifar-100-python.tar.gz")
    run = create(tmp_path / "runs", "x", preset=catalog.load("basenet", ("data.dataset=mnist",)), seed=0, device="cpu")
    assert _worker_options(run, Asked((), False, str(root))) == [f"--data-path={root}"]
