"""Loader: choose the reader for a preset's data table and return the data set as tensors."""

import torch

from engine.data import image_files
from engine.data.cifar import load_cifar
from engine.data.download import download_published
from engine.data.idx import load_idx
from engine.data.image_files import load_image_files
from engine.data.progress import Report
from engine.data.sets import DataSet
from engine.data.shapes import make_shapes100
from engine.shared.data_locations import Location, check_located, locate
from presets.errors import CifartuiError
from presets.schema import Data

_STORED = {"cifar10": 32, "cifar100": 32, "shapes100": 32, "mnist": 28, "fashion-mnist": 28}
"""Side in pixels of data sets whose images are no files."""


def stored_size(data: Data) -> int:
    """Return the side in pixels of the images that `load` returns, before any transform."""
    return _STORED.get(data.dataset) or data.cache_size or data.image_size


def load(data: Data, data_dir: str | None, seed: int, report: Report) -> DataSet:
    """Read the data set of a preset into memory; fetch or generate it if needed.

    Args:
        data: the preset's data table.
        data_dir: the folder named with --data-dir, if any.
        seed: the run's seed; decides which images a validation fraction takes, and nothing else.
        report: called with every phase, ten times a second at most. Its exceptions propagate, and
            nothing half-written is left.

    Returns:
        The data set on the CPU; see `DataSet` for shapes and types.

    Raises:
        CifartuiError: absent and not to be fetched, damaged, or of another shape.
    """
    location = locate(data, data_dir)
    check_located(location, data)
    if location.kind == "absent":
        download_published(location, data_dir, report)
        location = locate(data, data_dir)
    if location.kind == "generated":
        return make_shapes100(data, seed, report)
    if _is_of_files(location):
        return load_image_files(location, data, seed, report)
    if location.kind == "idx-folder":
        return load_idx(location, data, seed, report)
    return load_cifar(location, data, seed, report)


def load_some_of_val(data: Data, data_dir: str | None, seed: int, num_images: int, report: Report) -> torch.Tensor:
    """Read images from all over the validation split of a preset, at most `num_images`; of files, only these.

    Args:
        data: the preset's data table.
        data_dir: the folder named with --data-dir, if any.
        seed: the run's seed.
        num_images: at most so many.
        report: called with every phase, as by `load`.

    Returns:
        uint8 [N, 3, S, S] on the CPU, S being `stored_size`.

    Raises:
        CifartuiError: as for `load`; nothing is fetched.
    """
    location = locate(data, data_dir)
    if location.kind == "absent":
        raise CifartuiError(location.text)
    if _is_of_files(location):
        return image_files.load_some_of_val(location, data, seed, num_images, report)
    images = load(data, data_dir, seed, report).val.images
    return images[torch.linspace(0, len(images) - 1, min(num_images, len(images))).long()].contiguous()


def _is_of_files(location: Location) -> bool:
    return location.kind.startswith(("class-", "cub-", "flowers-", "pets-"))
