"""Network that prepares its images itself: uint8 of any size to logits, in operations that every export format has.

It does what validation does: Pillow's resize of the shorter side, the middle square, `data.evaluate`, the resize to
`data.image_size`, normalisation, the mean over the mirrored image. tests/unit/test_preprocessing.py says how near it
is to Pillow. No control flow depends on a size, so that batch, height and width stay free in an exported graph.
"""

import torch
from torch import Tensor, nn

from engine.data.augment import mean_and_std
from engine.data.geometry import resize_weights
from engine.data.load import stored_size
from presets.schema import CenterCrop, Data


class Preprocessed(nn.Module):
    """A network behind the preparation of its images."""

    def __init__(self, network: nn.Module, data: Data, *, flip_average: bool) -> None:
        """Wrap `network`, in eval mode; `data` is the preset's table, and `flip_average` as in `train`."""
        super().__init__()
        self.network = network
        self._size = stored_size(data)
        self._flip_average = flip_average
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in mean_and_std(data))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)
        self.register_buffer("weights", _plain_weights(data, self._size))
        self.register_buffer("centers", (torch.arange(self._size, dtype=torch.float64) + 0.5) / self._size)

    def squares(self, images: Tensor) -> Tensor:
        """Return uint8 [B, 3, H, W] as whole numbers from 0 to 255, float32 [B, 3, S, S], S being `stored_size`.

        As Pillow does it: the columns first, rounded to whole levels, then the rows.
        """
        rows, columns = _places(images, 2), _places(images, 3)
        height, width = rows.amax(0) + 0.5, columns.amax(0) + 0.5
        side = torch.minimum(height, width)
        narrow = images.float() @ self._pillow_weights(columns, width, side).t()
        narrow = (narrow + 0.5).floor().clamp(0, 255)
        square = self._pillow_weights(rows, height, side) @ narrow
        return (square + 0.5).floor().clamp(0, 255)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, C] of images uint8 [B, 3, H, W]."""
        squares = self.squares(images)
        if self.weights is not None:
            squares = self.weights @ squares @ self.weights.t()  # type: ignore[operator]
        inputs = squares * self.scale + self.shift  # type: ignore[operator]
        logits: Tensor = self.network(inputs)
        if self._flip_average:
            logits = (logits + self.network(inputs.flip(3))) / 2
        return logits

    def _pillow_weights(self, places: Tensor, length: Tensor, side: Tensor) -> Tensor:
        """Return float32 [S, L]: the weights of the L pixels at `places` in those of the middle `side` of them.

        Pillow's triangle filter, which reaches beyond the box that is cut out (src/libImaging/Resample.c).
        """
        centers = (length - side) / 2 + self.centers * side  # type: ignore[operator]
        distance = (places[None] - centers[:, None]).abs() / (side / self._size).clamp(min=1)
        weights = (1 - distance).clamp(min=0)
        return (weights / weights.sum(1, keepdim=True)).float()


def _places(images: Tensor, dimension: int) -> Tensor:
    """Return the middles of the pixels along a side, 0.5, 1.5, …: float64, in which those of large images are exact."""
    return torch.arange(images.shape[dimension], dtype=torch.float64, device=images.device) + 0.5


def _plain_weights(data: Data, size: int) -> Tensor | None:
    """Return `data.evaluate` and the last resize as one matrix, float32 [image_size, size]; None if it changes nothing.

    All of them are linear, and the same for rows and columns of a square.
    """
    combined = torch.eye(size, dtype=torch.float64)
    for operation in data.evaluate:
        if isinstance(operation, CenterCrop):
            side = operation.size or data.image_size
            first = round((len(combined) - side) / 2)
            combined = combined[first : first + side]
        else:
            side = operation.size or max(1, round(data.image_size * operation.scale))
            combined = _resized(combined, side)
    combined = _resized(combined, data.image_size)
    return None if combined.shape == (size, size) and bool((combined == torch.eye(size)).all()) else combined.float()


def _resized(combined: Tensor, side: int) -> Tensor:
    if len(combined) == side:
        return combined
    start, length = torch.zeros(1, dtype=torch.float64), torch.tensor([len(combined)], dtype=torch.float64)
    return resize_weights(start, length, len(combined), side)[0].double() @ combined
