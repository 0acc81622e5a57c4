"""Network of a run for Python: classes, transform, predictions. The types behind `cifartui.load`; imports torch."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from msgspec.structs import asdict
from PIL import Image as pillow  # noqa: N813
from torch import Tensor, nn

from engine.data.image_decoders import map_in_order, usable_cpus
from engine.data.image_pixels import read_square, square_of
from engine.runs.find_run import find_model
from engine.runs.run_dir import RunDir, default_runs_dir
from engine.shared.image_formats import fault_of
from engine.shared.image_scan import shown
from engine.training.exported_network import load_exported
from engine.training.microbatch import MicroBatch
from engine.training.trained_network import TrainedNetwork, Which, load_trained, metrics_of
from presets.errors import CifartuiError
from presets.schema import Preset

Image: TypeAlias = "str | os.PathLike[str] | pillow.Image | npt.NDArray[Any] | Tensor"
"""One image: path of a file, PIL image, array [H, W, 3] (also [H, W], [H, W, 1] or [H, W, 4]), tensor [3, H, W] (also
[1, H, W]). Arrays and tensors hold red, green, blue: uint8 from 0 to 255, or floating point from 0 to 1."""

_CHANNELS = (1, 3, 4)
_ROUNDING = 1e-3
"""Values above 1 by no more than this are what arithmetic made of 1."""


@dataclass(frozen=True)
class ClassScore:
    """A class, and its softmax probability from 0 to 1."""

    class_name: str
    confidence: float


@dataclass(frozen=True)
class Prediction:
    """Classes of one image, the most probable first; those after the first `top` are left out."""

    top: tuple[ClassScore, ...]

    @property
    def class_name(self) -> str:
        """The most probable class."""
        return self.top[0].class_name

    @property
    def confidence(self) -> float:
        """Its softmax probability, from 0 to 1."""
        return self.top[0].confidence


@dataclass(frozen=True)
class Metrics:
    """Measurements of the loaded weights in training. Accuracies are from 0 to 1; None: not measured.

    Attributes:
        epoch: number of epochs that the weights were trained for.
        val_top1: accuracy on the validation images.
        val_balanced: mean recall of the classes on them, where classes are uneven.
        val_loss: mean loss on them.
        test_top1: accuracy on the test images, measured once, at the end.
        test_balanced: likewise.
        test_loss: likewise.
    """

    epoch: int
    val_top1: float | None = None
    val_balanced: float | None = None
    val_loss: float | None = None
    test_top1: float | None = None
    test_balanced: float | None = None
    test_loss: float | None = None


class Model:
    """A trained network. Made by `cifartui.load`.

    Attributes:
        network: in eval mode on `device`; maps float32 [N, 3, S, S], as `transform` returns it, to logits [N, C].
        classes: C class names, in the order of the logits.
        preset: settings that the run was trained with.
        metrics: accuracy and loss of these weights in training.
        device: of the network.
        run: id of the run.
        checkpoint: the weights, "best" or "last".
    """

    def __init__(self, trained: TrainedNetwork, metrics: Metrics) -> None:
        """Take a loaded network; not part of the stable API."""
        self._trained = trained
        self.network: nn.Module = trained.network
        self.classes: tuple[str, ...] = trained.class_names
        self.preset: Preset = trained.info.preset
        self.metrics = metrics
        self.device: torch.device = trained.device
        self.run: str = trained.info.id
        self.checkpoint: Literal["best", "last"] = trained.checkpoint

    def __repr__(self) -> str:
        """Return the run, the weights, the number of classes and the device."""
        return f"<cifartui.Model {self.run} {self._trained.name}, {len(self.classes)} classes, on {self.device}>"

    def transform(self, images: "Image | Iterable[Image]") -> Tensor:
        """Return the network's input for images, as validation images are transformed.

        Args:
            images: one image, several, or a batch as one array [N, H, W, 3] or tensor [N, 3, H, W].

        Returns:
            float32 [N, 3, S, S] on `device`, N being 1 for one image: resized, cropped and normalised.

        Raises:
            CifartuiError: a file cannot be read, or an array is no image.
        """
        squares = [torch.from_numpy(self._square(image)) for image in _each(images)]
        if not squares:
            size = self.preset.data.image_size
            return torch.empty(0, 3, size, size, device=self.device)
        return self._trained.transform(torch.stack(squares).to(self.device))

    def predict(
        self, images: "Image | Iterable[Image]", *, top: int = 5, batch_size: int | None = None
    ) -> list[Prediction]:
        """Return predictions for images, in order, as the run's evaluation makes them: in its precision, mirrored too.

        Files are decoded by threads while the network works. Of an iterator only a few batches are held at once.

        Args:
            images: as in `transform`.
            top: classes of each prediction, at least 1.
            batch_size: images at once through the network; by default as many as in validation.

        Raises:
            CifartuiError: as in `transform`, or memory runs out even with one image at once.
            ValueError: `top` or `batch_size` is below 1.
        """
        if top < 1:
            raise ValueError(f"top is {top}, and is at least 1")
        predictions = []
        for batch in self._batches(images, batch_size):
            confidences, classes = batch.topk(min(top, len(self.classes)))
            for values, indices in zip(confidences.tolist(), classes.tolist(), strict=True):
                scores = zip(indices, values, strict=True)
                predictions.append(Prediction(tuple(ClassScore(self.classes[index], value) for index, value in scores)))
        return predictions

    def probabilities(self, images: "Image | Iterable[Image]", *, batch_size: int | None = None) -> Tensor:
        """Return softmax probabilities, float32 [N, C] on the CPU, of images; see `predict`."""
        batches = list(self._batches(images, batch_size))
        return torch.cat(batches) if batches else torch.empty(0, len(self.classes))

    def _batches(self, images: "Image | Iterable[Image]", batch_size: int | None) -> Iterator[Tensor]:
        """Yield probabilities float32 [B, C] on the CPU of batch after batch."""
        size = self._trained.eval_batch_size if batch_size is None else batch_size
        if size < 1:
            raise ValueError(f"batch_size is {size}, and is at least 1")
        at_once = MicroBatch(size, self.device, lambda _alert: None)
        num_threads = max(4, usable_cpus())
        with (
            ThreadPoolExecutor(num_threads) as pool,
            closing(map_in_order(pool, self._square, _each(images), max(size, 2 * num_threads))) as squares,
        ):
            while batch := list(islice(squares, size)):
                yield self._trained.probabilities(torch.from_numpy(np.stack(batch)), at_once)

    def _square(self, image: "Image") -> npt.NDArray[np.uint8]:
        """Return an image as validation images are stored: uint8 [3, H, H]."""
        size, background = self._trained.stored_size, self._trained.background
        if isinstance(image, str | os.PathLike):
            path = Path(image)
            try:
                square = read_square(path, size, background)
            except Exception as error:
                raise CifartuiError(f"{shown(str(path))} cannot be read: {fault_of(error, path).text}.") from error
        else:
            pixels = image if isinstance(image, pillow.Image) else _as_pillow(_channels_last(image))
            square = square_of(pixels, size, background)
        return np.ascontiguousarray(np.moveaxis(square, 2, 0))


def _each(images: "Image | Iterable[Image]") -> "Iterable[Image]":
    """Return one image as a sequence of one, and several as they are."""
    is_one = isinstance(images, str | os.PathLike | pillow.Image)
    is_array = isinstance(images, np.ndarray | Tensor)
    if is_one or (is_array and images.ndim < 4):  # type: ignore[union-attr]
        return [images]  # type: ignore[list-item]
    return images  # type: ignore[return-value]


def _channels_last(image: "npt.NDArray[Any] | Tensor") -> npt.NDArray[Any]:
    """Return an array as it is, a tensor [C, H, W] as an array [H, W, C]."""
    if not isinstance(image, Tensor):
        return np.asarray(image)
    pixels = image.detach().cpu()
    return (pixels.permute(1, 2, 0) if pixels.ndim == 3 else pixels).numpy()


def _as_pillow(pixels: npt.NDArray[Any]) -> pillow.Image:
    """Return an array as a PIL image.

    Raises:
        CifartuiError: it has another shape, type or range than an image.
    """
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in _CHANNELS)
    if not is_image or not pixels.size:
        raise CifartuiError(
            f"An array of shape {pixels.shape} is no image; arrays are [H, W, 3] or [H, W], tensors [3, H, W]."
        )
    if pixels.dtype.kind == "f":
        if not (pixels.min() >= 0 and pixels.max() <= 1 + _ROUNDING):
            raise CifartuiError("Images of floating-point numbers hold values from 0 to 1; give others as uint8.")
        pixels = np.rint(np.minimum(pixels, 1) * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise CifartuiError(f"An array of {pixels.dtype} is no image; give uint8 (0 to 255) or floats (0 to 1).")
    return pillow.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


def load_model(
    run: "str | os.PathLike[str]",
    *,
    checkpoint: Which = "best",
    device: str = "auto",
    runs_dir: "str | os.PathLike[str] | None" = None,
) -> Model:
    """Load the network of a run; see `cifartui.load`."""
    if checkpoint not in ("best", "last"):
        raise CifartuiError(f'checkpoint is {checkpoint!r}; it is "best" or "last".')
    found = find_model(default_runs_dir() if runs_dir is None else Path(runs_dir), os.fspath(run))
    if isinstance(found, RunDir):
        trained = load_trained(found, checkpoint, device)
        metrics = metrics_of(found, trained)
    else:
        trained, metrics = load_exported(found, device)
    return Model(trained, Metrics(epoch=trained.epoch, **asdict(metrics)))
