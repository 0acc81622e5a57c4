"""Published data sets that are found by name: files, md5s, addresses, and the folders that they unpack to. No torch.

`engine.shared.data_locations` looks for them, `engine.data.download` fetches them.
"""

from typing import NamedTuple

from msgspec import Struct


class PublishedFile(Struct, frozen=True):
    """A file as its publisher sends it."""

    url: str
    md5: str

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.url.rpartition("/")[2]


class PublishedSet(Struct, frozen=True, kw_only=True):
    """A data set that is downloaded where it is absent."""

    title: str
    """For people."""
    num_classes: int
    size: str
    """Of all files together, for people."""
    files: tuple[PublishedFile, ...]
    folder: str = ""
    """Folder of the files within a data folder, as torchvision names it; "" if they lie in the data folder itself."""
    num_images: tuple[tuple[str, int], ...]
    """Published images of each part, by its name for people."""


class Numbers(NamedTuple):
    """Images of each part, by its name for people, and classes."""

    parts: tuple[tuple[str, int], ...]
    num_classes: int


_TRAIN, _VAL, _TEST = "training", "validation", "test"
_BIRDS = {
    "cub-2010": ("CUB-200-2010", Numbers(((_TRAIN, 3_000), (_TEST, 3_033)), 200)),
    "cub-2011": ("CUB-200-2011", Numbers(((_TRAIN, 5_994), (_TEST, 5_794)), 200)),
}
"""Titles and numbers of the editions of CUB-200, by the beginning of the kind of their location."""


def title_of(dataset: str, kind: str) -> str:
    """Return the title of a data set for people, given the kind of its location; of CUB-200 it names the edition."""
    return _BIRDS[_edition(kind)][0] if dataset == "cub200" else PUBLISHED[dataset].title


def _edition(kind: str) -> str:
    return "-".join(kind.split("-")[:2])


def unlike_published(
    dataset: str, kind: str, num_train: int, num_val: int, num_test: int, num_classes: int
) -> tuple[str, ...]:
    """Return what to say of a data set whose numbers of images or classes are not the published ones.

    Args:
        dataset: as presets write it; of another than the published ones nothing is said.
        kind: of its location.
        num_train: images of the training part, before any are held back.
        num_val: images of a validation part.
        num_test: images of the test part.
        num_classes: classes that it has.
    """
    parts = tuple(
        (part, number) for part, number in ((_TRAIN, num_train), (_VAL, num_val), (_TEST, num_test)) if number
    )
    found = Numbers(parts, num_classes)
    if kind.startswith(tuple(_BIRDS)):
        title, numbers = _BIRDS[_edition(kind)]
        return _differences(title, numbers, found)
    if (published := PUBLISHED.get(dataset)) is None:
        return ()
    return _differences(published.title, Numbers(published.num_images, published.num_classes), found)


def _differences(title: str, published: Numbers, found: Numbers) -> tuple[str, ...]:
    """Return a sentence where the numbers of images or classes found are not the published ones; else nothing."""
    if found == published:
        return ()
    says_classes = found.num_classes != published.num_classes
    of, of_published = (f" of {numbers.num_classes} classes" if says_classes else "" for numbers in (found, published))
    said = in_a_row([f"{number:,} {part}" for part, number in found.parts])
    wanted = in_a_row([f"{number:,}" for _, number in published.parts])
    return (f"This {title} has {said} images{of}, where {wanted}{of_published} are published.",)


def in_a_row(words: list[str]) -> str:
    """Return words with commas, and "and" before the last."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _idx(base: str, *md5s: str) -> tuple[PublishedFile, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(PublishedFile(f"{base}{name}-ubyte.gz", md5) for name, md5 in zip(names, md5s, strict=True))


_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/"

PUBLISHED: dict[str, PublishedSet] = {
    "cifar100": PublishedSet(
        title="CIFAR-100",
        num_classes=100,
        num_images=((_TRAIN, 50_000), (_TEST, 10_000)),
        size="169 MB",
        files=(PublishedFile(f"{_TORONTO}cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),),
    ),
    "cifar10": PublishedSet(
        title="CIFAR-10",
        num_classes=10,
        num_images=((_TRAIN, 50_000), (_TEST, 10_000)),
        size="170 MB",
        files=(PublishedFile(f"{_TORONTO}cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),),
    ),
    "mnist": PublishedSet(
        title="MNIST",
        num_classes=10,
        num_images=((_TRAIN, 60_000), (_TEST, 10_000)),
        size="12 MB",
        folder="MNIST/raw",
        files=_idx(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
    "fashion-mnist": PublishedSet(
        title="Fashion-MNIST",
        num_classes=10,
        num_images=((_TRAIN, 60_000), (_TEST, 10_000)),
        size="31 MB",
        folder="FashionMNIST/raw",
        files=_idx(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    "flowers102": PublishedSet(
        title="Oxford 102 Flowers",
        num_classes=102,
        num_images=((_TRAIN, 1_020), (_VAL, 1_020), (_TEST, 6_149)),
        size="345 MB",
        folder="flowers-102",
        files=(
            PublishedFile(f"{_OXFORD}flowers/102/102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"),
            PublishedFile(f"{_OXFORD}flowers/102/imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
            PublishedFile(f"{_OXFORD}flowers/102/setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"),
        ),
    ),
    "oxford-pets": PublishedSet(
        title="Oxford-IIIT Pets",
        num_classes=37,
        num_images=((_TRAIN, 3_680), (_TEST, 3_669)),
        size="811 MB",
        folder="oxford-iiit-pet",
        files=(
            PublishedFile(f"{_OXFORD}pets/data/images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            PublishedFile(f"{_OXFORD}pets/data/annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f"),
        ),
    ),
}
"""By the names that presets write."""


def reason_of(error: OSError) -> str:
    """Return the reason of a failed download, in words."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}".rstrip()
    if isinstance(error, requests.Timeout) or "timed out" in str(error):  # the latter in mid-file
        return "the server sent nothing for too long"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        return "the server cannot be reached"
    return error.strerror or type(error).__name__
