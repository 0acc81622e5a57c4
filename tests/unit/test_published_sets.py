"""Published data sets by name: small files in the true format, found, read, downloaded, and refused where damaged."""

import gzip
import hashlib
import io
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from msgspec import structs
from PIL import Image

from engine.data import download
from engine.data.load import load
from engine.data.mat_file import read_mat
from engine.data.published_listings import FLOWER_NAMES
from engine.data.sets import DataSet
from engine.journal.events import DataProgressed
from engine.shared import data_locations, data_path
from engine.shared.data_locations import locate
from engine.shared.published_sets import PUBLISHED, PublishedFile, unlike_published
from presets.errors import CifartuiError
from presets.schema import DATASETS, Data
from tests import bird_files, http_server
from tests.cifar_files import pickled, write_archive, write_folder
from tests.http_server import Answer
from tui.data.folder_summary import summarize

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIFARTUI_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user-data"))
    monkeypatch.setattr(data_locations, "DEBIAN_FASHION", tmp_path / "usr/share/datasets/fashion-mnist")


def load_set(dataset: str, data_dir: Path, report: Callable[[DataProgressed], None] = lambda event: None) -> DataSet:
    return load(Data(dataset=dataset, image_size=8), str(data_dir), 0, report)  # type: ignore[arg-type]


# --- CIFAR-10 ---------------------------------------------------------------------------------------


def cifar10_files() -> dict[str, bytes]:
    """Return five files of eight images and one of six; image i has all bytes i, and label i % 10."""
    files = {}
    for number, name in enumerate((*(f"data_batch_{each}" for each in range(1, 6)), "test_batch")):
        rows = np.arange(8 * number, 8 * number + (8 if number < 5 else 6))
        files[name] = pickled(
            {
                b"batch_label": b"a batch",
                b"labels": [int(row % 10) for row in rows],
                b"data": np.repeat(rows.astype(np.uint8)[:, None], 3072, axis=1),
                b"filenames": [b"x.png"] * len(rows),
            }
        )
    names = [name.encode() for name in CIFAR10]
    files["batches.meta"] = pickled({b"num_cases_per_batch": 8, b"label_names": names, b"num_vis": 3072})
    return files


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_cifar10_is_read_in_the_order_of_its_batches(form: str, tmp_path: Path) -> None:
    files = dict(reversed(cifar10_files().items()))  # in an archive they lie in any order
    if form == "archive":
        write_archive(tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py", files)
    else:
        write_folder(tmp_path / "cifar-10-batches-py", files)
    for _ in range(2):  # from the files, then from the cache
        data = load_set("cifar10", tmp_path)
        assert (data.name, data.class_names) == ("cifar10", CIFAR10)
        assert (len(data.train), len(data.val), len(data.test or ())) == (36, 4, 6)
        rows = [row for row in range(40) if row % 10]
        assert data.train.images[:, 0, 0, 0].tolist() == rows
        assert data.train.labels.tolist() == [row % 10 for row in rows]
        assert data.train.images.shape == (36, 3, 32, 32)
        assert "CIFAR-10 differ from the published md5" in data.notices[0]


def test_cifar10_without_a_batch_is_refused(tmp_path: Path) -> None:
    files = cifar10_files()
    del files["data_batch_3"]
    write_archive(tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py", files)
    with pytest.raises(CifartuiError, match=r"has no file data_batch_3 inside, so it is not CIFAR-10"):
        load_set("cifar10", tmp_path)


def test_a_label_that_cifar10_does_not_have_is_refused(tmp_path: Path) -> None:
    files = cifar10_files()
    files["test_batch"] = pickled({b"labels": [10], b"data": np.zeros((1, 3072), np.uint8)})
    write_folder(tmp_path / "cifar-10-batches-py", files)
    with pytest.raises(CifartuiError, match="no labels from 0 to 9 under labels"):
        load_set("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("folder", "named", "there", "said"),
    [
        ("cifar-10-batches-py", "", sorted({*cifar10_files()} - {"data_batch_2"}), "CIFAR-10, but data_batch_2 is"),
        (
            "c", "c", sorted({*cifar10_files()} - {"data_batch_2", "test_batch"}),
            "CIFAR-10, but data_batch_2 and test_batch are",
        ),
        ("cifar-100-python", "", ["train", "meta"], "CIFAR-100, but test is"),
        ("c", "c", ["train_cs543"], "CIFAR-100 of the course, but test_cs543 is"),
        (
            "MNIST/raw", "MNIST",
            ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"],
            "MNIST, but t10k-labels-idx1-ubyte is",
        ),
        (
            "FashionMNIST/raw", "FashionMNIST",
            ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte.gz"],
            "Fashion-MNIST, but t10k-images-idx3-ubyte is",
        ),
        ("flowers-102", "", ["setid.mat", "102flowers.tgz"], "Oxford 102 Flowers, but imagelabels.mat is"),
        ("flowers-102", "flowers-102", ["setid.mat", "imagelabels.mat"], "Flowers, but 102flowers.tgz is"),
        ("f", "f", ["jpg/image_00001.jpg"], "Oxford 102 Flowers, but imagelabels.mat and setid.mat are"),
        ("p", "p", ["annotations/test.txt"], "Oxford-IIIT Pets, but annotations/trainval.txt is"),
        ("p", "p", ["annotations.tar.gz"], "Oxford-IIIT Pets, but images.tar.gz is"),
        ("b", "b", ["images.txt", "train_test_split.txt"], "CUB-200-2011, but image_class_labels.txt is"),
        ("b", "b", ["lists.tgz"], "CUB-200-2010, but images.tgz is"),
    ],
)  # fmt: skip
def test_a_set_without_one_of_its_files_is_named_and_the_file_too(
    folder: str, named: str, there: list[str], said: str, tmp_path: Path
) -> None:
    base = tmp_path / "data"
    for name in there:
        (base / folder / name).parent.mkdir(parents=True, exist_ok=True)
        (base / folder / name).write_bytes(b"x")
    for look in (data_path.data_at, summarize):
        with pytest.raises(CifartuiError) as raised:
            look(str(base / named))
        assert said in str(raised.value)
        assert str(raised.value).startswith(f"{base / folder} looks like ")
        assert str(raised.value).endswith(" missing; fetch it again.")


@pytest.mark.parametrize("named", ["CUB_200_2011", ""])
@pytest.mark.parametrize("table", ["train_test_split", "image_class_labels"])
def test_birds_without_their_split_are_no_class_folders(table: str, named: str, tmp_path: Path) -> None:
    folder = bird_files.write_2011(tmp_path)
    (folder / f"{table}.txt").unlink()
    said = f"{folder} looks like CUB-200-2011, but {table}.txt is missing; fetch it again"
    for look in (data_path.data_at, summarize):
        with pytest.raises(CifartuiError) as raised:
            look(str(tmp_path / named))
        assert str(raised.value) == f"{said}, or name {folder}/images, whose class folders are then divided anew."
    assert data_path.data_at(str(folder / "images")).dataset == "class-folders"
    found = locate(Data(dataset="cub200", path=str(tmp_path / named)), None)
    assert (found.kind, found.text) == ("absent", said.removesuffix("."))


def test_class_folders_beside_a_list_of_their_own_are_no_birds(tmp_path: Path) -> None:
    for name in ("cat/1.jpg", "dog/1.jpg"):
        bird_files.save(tmp_path / name, (1, 2, 3))
    write_folder(tmp_path / "lists", {"train.txt": b"cat/1.jpg"})
    assert data_path.data_at(str(tmp_path)).dataset == "class-folders"


def test_a_named_set_without_one_of_its_files_names_the_file(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "x", idx_bytes(), zipped=False)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(
        CifartuiError, match=rf"^{folder} looks like MNIST, but t10k-labels-idx1-ubyte is missing; fetch it again\.$"
    ):
        load(Data(dataset="mnist", path=str(folder)), None, 0, lambda _event: None)


# --- MNIST and Fashion-MNIST ------------------------------------------------------------------------


def idx(values: npt.NDArray[np.uint8]) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def idx_bytes(first_labels: tuple[int, ...] = (7, 2, 1, 0, 4, 1, 4, 9, 5, 9)) -> dict[str, bytes]:
    """Return MNIST's files: training image i has all bytes i."""
    train = np.repeat(np.arange(20, dtype=np.uint8), 28 * 28).reshape(20, 28, 28)
    return {
        "train-images-idx3-ubyte": idx(train),
        "train-labels-idx1-ubyte": idx(np.arange(20, dtype=np.uint8) % 10),
        "t10k-images-idx3-ubyte": idx(train[:10]),
        "t10k-labels-idx1-ubyte": idx(np.array(first_labels, np.uint8)),
    }


def write_idx(folder: Path, files: dict[str, bytes], *, zipped: bool = True, dot: str = "-") -> Path:
    named = {name.replace("-idx", f"{dot}idx"): content for name, content in files.items()}
    if zipped:
        named = {f"{name}.gz": gzip.compress(content) for name, content in named.items()}
    return write_folder(folder, named)


FASHION = (9, 2, 1, 1, 6, 1, 4, 6, 5, 7)


@pytest.mark.parametrize(
    ("dataset", "folder", "zipped", "dot"),
    [
        ("mnist", "MNIST/raw", True, "-"),
        ("mnist", "mnist", False, "-"),
        ("mnist", "MNIST", False, "."),
        ("fashion-mnist", "FashionMNIST/raw", False, "-"),
        ("fashion-mnist", "fashion-mnist", True, "-"),
        ("fashion-mnist", "usr/share/datasets/fashion-mnist", True, "-"),
    ],
)
def test_idx_files_become_three_equal_channels(
    dataset: str, folder: str, zipped: bool, dot: str, tmp_path: Path
) -> None:
    write_idx(tmp_path / folder, idx_bytes(), zipped=zipped, dot=dot)
    data = load_set(dataset, tmp_path)
    assert (data.name, len(data.train), len(data.val), len(data.test or ())) == (dataset, 18, 2, 10)
    rows = [row for row in range(20) if row % 10]
    assert data.train.images.shape == (18, 3, 28, 28)
    assert data.train.images.is_contiguous()
    assert data.train.images[:, :, 5, 5].tolist() == [[row] * 3 for row in rows]
    assert data.train.labels.tolist() == [row % 10 for row in rows]
    assert data.train.labels.dtype == torch.int64
    assert data.class_names[9] == ("nine" if dataset == "mnist" else "ankle boot")
    title = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}[dataset]
    assert data.notices == (f"This {title} has 20 training and 10 test images, where 60,000 and 10,000 are published.",)


@pytest.mark.parametrize("dataset", [*PUBLISHED])
def test_nothing_is_said_of_the_published_numbers(dataset: str) -> None:
    numbers = dict(PUBLISHED[dataset].num_images)
    parts = (numbers["training"], numbers.get("validation", 0), numbers["test"])
    assert unlike_published(dataset, "", *parts, PUBLISHED[dataset].num_classes) == ()
    assert len(unlike_published(dataset, "", parts[0] - 1, *parts[1:], PUBLISHED[dataset].num_classes)) == 1


def test_a_summary_claims_nothing_of_images_that_nobody_has_counted(tmp_path: Path) -> None:
    found = summarize(str(write_idx(tmp_path / "mnist", idx_bytes())))
    assert "published" not in found.split
    assert "a run reads and counts them, which is not done here" in found.split


def test_mnist_is_not_taken_for_fashion_mnist(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST/raw", idx_bytes())
    write_idx(tmp_path / "other", idx_bytes(FASHION))
    assert locate(Data(dataset="fashion-mnist"), str(tmp_path)).kind == "absent"
    assert locate(Data(dataset="fashion-mnist", path=str(tmp_path / "other")), None).kind == "idx-folder"
    assert data_path.known_data(tmp_path / "MNIST/raw") == data_path.NamedData("mnist", str(tmp_path / "MNIST/raw"))
    assert data_path.known_data(tmp_path / "other") == data_path.NamedData("fashion-mnist", str(tmp_path / "other"))


OTHER = (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)


@pytest.mark.parametrize(
    ("folder", "named", "labels", "dataset"),
    [
        ("FashionMNIST/raw", "FashionMNIST", OTHER, "fashion-mnist"),
        ("FashionMNIST/raw", "FashionMNIST/raw", OTHER, "fashion-mnist"),
        ("FashionMNIST/raw", "", OTHER, "fashion-mnist"),
        ("Fashion_Mnist", "Fashion_Mnist", OTHER, "fashion-mnist"),
        ("fashion-mnist/data/raw", "fashion-mnist/data", OTHER, "fashion-mnist"),
        ("MNIST/raw", "MNIST", FASHION, "fashion-mnist"),
        ("FashionMNIST/raw", "FashionMNIST", (7, 2, 1, 0, 4, 1, 4, 9, 5, 9), "mnist"),
        ("MNIST/raw", "MNIST", OTHER, "mnist"),
    ],
)
def test_first_labels_and_then_the_names_of_folders_tell_fashion_mnist_from_mnist(
    folder: str, named: str, labels: tuple[int, ...], dataset: str, tmp_path: Path
) -> None:
    write_idx(tmp_path / "d" / folder, idx_bytes(labels))
    known = data_path.known_data(tmp_path / "d" / named)
    assert known is not None
    assert known.dataset == dataset
    data = load(Data(dataset=known.dataset, path=known.path), None, 0, lambda _event: None)
    assert data.class_names[9] == ("nine" if dataset == "mnist" else "ankle boot")
    assert not any("Neither" in said for said in (*data.notices, *summarize(known.path).notices))


def test_where_nothing_tells_it_is_read_as_mnist_and_that_is_said(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "other", idx_bytes(OTHER))
    known = data_path.known_data(folder)
    assert known == data_path.NamedData("mnist", str(folder))
    data = load(Data(dataset="mnist", path=str(folder)), None, 0, lambda _event: None)
    for notices in (data.notices, summarize(str(folder)).notices):
        (said,) = (each for each in notices if "Neither" in each)
        assert f"{folder} and the folders above it" in said
        assert "it is read as MNIST; if it is the other, add --set data.dataset=fashion-mnist." in said
    other = Data(dataset="fashion-mnist", path=str(folder))
    assert not any("Neither" in said for said in load(other, None, 0, lambda _event: None).notices)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:-1], "no idx file of bytes in 3 dimensions, or not whole"),
        (lambda content: b"\0\0\x0d\3" + content[4:], "no idx file of bytes in 3 dimensions"),
        (lambda content: b"", "no idx file"),
        (lambda content: idx(np.zeros((3, 28, 28), np.uint8)), "has 3 images but .* 20 labels"),
    ],
)
def test_damaged_idx_files_are_refused(damage: Callable[[bytes], bytes], said: str, tmp_path: Path) -> None:
    files = idx_bytes()
    files["train-images-idx3-ubyte"] = damage(files["train-images-idx3-ubyte"])
    write_idx(tmp_path / "mnist", files, zipped=False)
    with pytest.raises(CifartuiError, match=said):
        load_set("mnist", tmp_path)


def test_a_gzip_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "mnist", idx_bytes())
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CifartuiError, match=r"is damaged or incomplete .* delete it and fetch it again"):
        load_set("mnist", tmp_path)


# --- flowers and pets -------------------------------------------------------------------------------


def element(kind: int, content: bytes) -> bytes:
    if len(content) <= 4:
        return struct.pack("<HH", kind, len(content)) + content.ljust(4, b"\0")
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def mat(arrays: dict[str, npt.NDArray[np.generic]], *, compressed: bool = True) -> bytes:
    """Return a file of MATLAB 5 with row vectors."""
    kinds = {"uint8": (9, 2), "uint16": (11, 4), "float64": (6, 9)}
    content = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    for name, values in arrays.items():
        array_class, kind = kinds[values.dtype.name]
        body = element(6, struct.pack("<II", array_class, 0)) + element(5, struct.pack("<ii", 1, len(values)))
        body += element(1, name.encode()) + element(kind, values.tobytes())
        packed = zlib.compress(element(14, body))
        content += struct.pack("<II", 15, len(packed)) + packed if compressed else element(14, body)
    return content


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
def test_vectors_of_matlab_are_read(compressed: bool, dtype: str, tmp_path: Path) -> None:
    vectors = {"a": np.arange(3).astype(dtype), "longer_name": np.arange(100).astype(dtype)}
    (tmp_path / "x.mat").write_bytes(mat(vectors, compressed=compressed))  # type: ignore[arg-type]
    found = read_mat(tmp_path / "x.mat")
    assert {name: values.tolist() for name, values in found.items()} == {"a": [0, 1, 2], "longer_name": [*range(100)]}


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0", mat({"a": np.arange(99.0)})[:-9], b"\x89HDF" + bytes(200)])
def test_damaged_files_of_matlab_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.mat").write_bytes(content)
    with pytest.raises(CifartuiError, match=r"x\.mat is damaged, or no file of MATLAB 5"):
        read_mat(tmp_path / "x.mat")


def image(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 10), (level, level, level)).save(file, "JPEG", quality=100)
    return file.getvalue()


def flowers(num: int = 9) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the tables, and the images by name: image i (from 1) is of class i, and grey of level 10 i."""
    tables = {
        "imagelabels.mat": mat({"labels": np.arange(1, num + 1, dtype=np.uint8)}),
        "setid.mat": mat(
            {"trnid": np.array([6, 2, 1], np.uint16), "valid": np.array([3, 7], np.uint16),
             "tstid": np.array([4, 5, 8, 9], np.uint16)}
        ),
    }  # fmt: skip
    return tables, {f"image_{row:05d}.jpg": image(10 * row) for row in range(1, num + 1)}


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_flowers_have_the_parts_of_their_tables(form: str, tmp_path: Path) -> None:
    tables, images = flowers()
    root = write_folder(tmp_path / "flowers-102", tables)
    if form == "folder":
        write_folder(root / "jpg", images)
    else:
        write_archive(root / "102flowers.tgz", "jpg", images)
    data = load_set("flowers102", tmp_path)
    assert (data.train.labels.tolist(), data.val.labels.tolist()) == ([5, 1, 0], [2, 6])
    assert data.test is not None
    assert data.test.labels.tolist() == [3, 4, 7, 8]
    assert data.test.images[:, 0, 4, 4].tolist() == [40, 50, 80, 90]
    assert (len(data.class_names), data.class_names[0], data.class_names[101]) == (
        102,
        "pink primrose",
        "blackberry lily",
    )
    assert data_path.known_data(root) == data_path.NamedData("flowers102", str(root))
    assert data.notices[0] == (
        "This Oxford 102 Flowers has 3 training, 2 validation and 4 test images, where 1,020, 1,020 and 6,149 are "
        "published."
    )


def test_flower_names_are_torchvisions() -> None:
    from torchvision.datasets import Flowers102

    theirs = getattr(Flowers102, "classes", None)
    if theirs is None:
        pytest.skip("this torchvision has no names of flowers")
    assert [name.rstrip("?") for name in theirs] == [*FLOWER_NAMES]


def test_flowers_whose_tables_do_not_fit_are_refused(tmp_path: Path) -> None:
    tables, images = flowers()
    tables["setid.mat"] = mat({"trnid": np.array([1.0]), "valid": np.array([2.0]), "tstid": np.array([10.0])})
    write_folder(tmp_path / "flowers-102/jpg", images)
    write_folder(tmp_path / "flowers-102", tables)
    with pytest.raises(CifartuiError, match="do not name flowers of 102 classes"):
        load_set("flowers102", tmp_path)


TRAINVAL = "".join(
    f"{breed}_{number} {label} 1 1\n"
    for label, breed in enumerate(("Abyssinian", "american_bulldog"), start=1)
    for number in range(1, 11)
)
TEST = "Abyssinian_100 1 1 1\namerican_bulldog_100 2 2 1\n"


def pets() -> tuple[dict[str, bytes], dict[str, bytes]]:
    names = [line.split()[0] for line in (TRAINVAL + TEST).splitlines()]
    images = {f"{name}.jpg": image(200 if name.startswith("Abyssinian") else 50) for name in names}
    return {"trainval.txt": TRAINVAL.encode(), "test.txt": f"# a comment\n{TEST}".encode()}, images


@pytest.mark.parametrize("form", ["folder", "archives"])
def test_pets_have_the_breeds_of_their_tables(form: str, tmp_path: Path) -> None:
    tables, images = pets()
    root = tmp_path / "oxford-iiit-pet"
    if form == "folder":
        write_folder(root / "annotations", tables)
        write_folder(root / "images", images)
    else:
        write_archive(root / "annotations.tar.gz", "annotations", tables)
        write_archive(root / "images.tar.gz", "images", images)
    data = load_set("oxford-pets", tmp_path)
    assert data.class_names == ("Abyssinian", "American Bulldog")
    assert data.test is not None
    assert (len(data.train) + len(data.val), data.test.labels.tolist()) == (20, [0, 1])
    for split in (data.train, data.val, data.test):
        assert split.images[:, 0, 4, 4].tolist() == [(200, 50)[label] for label in split.labels.tolist()]
    assert data_path.known_data(root) == data_path.NamedData("oxford-pets", str(root))
    assert data.notices[0] == (
        "This Oxford-IIIT Pets has 20 training and 2 test images of 2 classes, where 3,680 and 3,669 of 37 classes are "
        "published."
    )


@pytest.mark.parametrize(
    "line",
    ["../../etc/passwd_1 1 1 1", "Abyssinian_1", "Abyssinian_1 x 1 1", "Siamese_4 1 1 1", "Siamese_4 9 1 1"],
)
def test_other_tables_of_pets_are_refused(line: str, tmp_path: Path) -> None:
    tables, images = pets()
    tables["test.txt"] += f"{line}\n".encode()
    write_folder(tmp_path / "oxford-iiit-pet/annotations", tables)
    write_folder(tmp_path / "oxford-iiit-pet/images", images)
    with pytest.raises(CifartuiError, match=r"fetch (it|them) again"):
        load_set("oxford-pets", tmp_path)


# --- download ---------------------------------------------------------------------------------------


@pytest.fixture
def serve() -> Iterator[Callable[[dict[str, bytes]], str]]:
    """Serve files by name; returns the address of their folder."""
    servers = []

    def start(files: dict[str, bytes]) -> str:
        server = http_server.serve(lambda path: Answer(200 if path in files else 404, files.get(path, b"")))
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def tgz(folder: str, files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, each in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(each)
            archive.addfile(entry, io.BytesIO(each))
    return content.getvalue()


def published_bytes(dataset: str) -> dict[str, bytes]:
    match dataset:
        case "cifar10":
            return {"cifar-10-python.tar.gz": tgz("cifar-10-batches-py", cifar10_files())}
        case "mnist" | "fashion-mnist":
            return {f"{name}.gz": gzip.compress(content) for name, content in idx_bytes().items()}
        case "flowers102":
            tables, images = flowers()
            return {"102flowers.tgz": tgz("jpg", images), **tables}
    tables, images = pets()
    return {"images.tar.gz": tgz("images", images), "annotations.tar.gz": tgz("annotations", tables)}


NAMED = [name for name in DATASETS if name in PUBLISHED and name != "cifar100"]


def publish(dataset: str, address: str, content: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    assert [file.name for file in PUBLISHED[dataset].files] == [*content]
    files = tuple(
        PublishedFile(address + name, hashlib.md5(each, usedforsecurity=False).hexdigest())
        for name, each in content.items()
    )
    monkeypatch.setitem(download.PUBLISHED, dataset, structs.replace(PUBLISHED[dataset], files=files))


@pytest.mark.parametrize("dataset", NAMED)
def test_what_is_absent_is_downloaded_with_progress_and_found_again(
    dataset: str, serve: Callable[[dict[str, bytes]], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = published_bytes(dataset)
    publish(dataset, serve(content), content, monkeypatch)
    events: list[DataProgressed] = []
    first = load_set(dataset, tmp_path / "data", events.append)
    fetched = [event for event in events if event.phase == "download" and event.total and event.done == event.total]
    assert {event.what.rpartition("/")[2] for event in fetched} == {*content}
    there = {path.name for path in (tmp_path / "data" / PUBLISHED[dataset].folder).iterdir()}
    assert there == {*content}
    events.clear()
    again = load_set(dataset, tmp_path / "data", events.append)
    assert not [event for event in events if event.phase == "download"]
    assert torch.equal(first.train.images, again.train.images)


def test_a_download_that_broke_off_goes_on_with_the_next_file(
    serve: Callable[[dict[str, bytes]], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = published_bytes("flowers102")
    there = {name: each for name, each in content.items() if name != "setid.mat"}
    publish("flowers102", serve(there), content, monkeypatch)
    with pytest.raises(
        CifartuiError, match=r"Oxford 102 Flowers is not in .* 404 Not Found\)\. Put http.* with --data-dir"
    ):
        load_set("flowers102", tmp_path)
    assert {path.name for path in (tmp_path / "flowers-102").iterdir()} == {*there}
    publish("flowers102", serve({"setid.mat": content["setid.mat"]}), content, monkeypatch)
    assert len(load_set("flowers102", tmp_path).train) == 3


@pytest.mark.parametrize("dataset", NAMED)
def test_absence_names_the_files_and_where_to_put_them(dataset: str, tmp_path: Path) -> None:
    found = locate(Data(dataset=dataset), str(tmp_path))  # type: ignore[arg-type]
    assert (found.kind, found.path) == ("absent", None)
    assert str(tmp_path / PUBLISHED[dataset].folder) in found.advice
    assert all(file.name in found.advice for file in PUBLISHED[dataset].files)
    assert "\n" not in found.advice
