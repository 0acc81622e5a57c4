"""What the loop goes through: a split's images and the network; or, behind a frozen backbone, features and a head.

A frozen backbone gives the same features for the same image every time, so where its input is not augmented
they are computed once a split and reused, and only the last layer is run. With `train.feature_views = K` the
same is done for K augmented views of every training image, of which each epoch draws one an image.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from engine.data.augment import train_transform
from engine.data.geometry import flip
from engine.data.progress import Progress, Report
from engine.data.sets import ImageSplit
from engine.runs.events import Alerted
from engine.training.compiling import Compiled
from engine.training.host_images import HostImages
from engine.training.options import compile_mode
from engine.training.out_of_memory import AtOnce
from engine.training.randomness import reseed, seed_at
from engine.training.setup import Setup
from presets.plan import PlannedStage
from presets.schema import Mix


class Inputs(NamedTuple):
    """A split as the part of the network sees it that is computed every time.

    Attributes:
        network: to logits [B, C]: the whole network, or only its last layer.
        split: labels, and images uint8 [N, 3, H, W] or in their place features float [N, F] or [N, K, F].
        transform: from a batch of `split.images` to what `network` takes; may draw random numbers.
        mix: how the images of a batch are mixed with each other; None where they are not.
        host: hands out the images where they stay with the host; None where they are with the labels.
        mirror_epoch: the epoch under way, where every image is mirrored in every other one; else None.
    """

    network: nn.Module
    split: ImageSplit
    transform: Callable[[Tensor], Tensor]
    mix: Mix | None = None
    host: HostImages | None = None
    mirror_epoch: int | None = None

    def expect(self, rows: Tensor) -> None:
        """Say that the images at `rows` are taken after those expected before; may be left out."""
        if self.host is not None:
            self.host.expect(rows)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images (or features) and labels at `rows` (int64 [B], where the images are), on the labels' device."""
        images, labels = self.split.images, self.split.labels
        if self.host is None:
            batch = images.index_select(0, rows)
        else:
            batch, rows = self.host.take(rows), rows.to(labels.device, non_blocking=True)
        if self.mirror_epoch is not None:
            batch = flip(batch, (_coin(rows) + self.mirror_epoch) % 2 == 1)
        return batch, labels.index_select(0, rows)


def _coin(rows: Tensor) -> Tensor:
    """Return 0 or 1 for every one of `rows` (int64 [B]), always the same, as if by chance."""
    return (rows * 2654435761 >> 15) & 1


@runtime_checkable
class Freezable(Protocol):
    """A network whose backbone can be left as it is while its last layer, `fc`, trains."""

    fc: nn.Module

    def features(self, images: Tensor) -> Tensor:
        """Return what `fc` is given."""

    def freeze(self, is_frozen: bool) -> None:
        """Leave the backbone as it is, or train it too."""


class Feed:
    """Hands out the inputs of a run's splits, computing features where that is done once."""

    def __init__(self, setup: Setup, evaluated: nn.Module, say: Callable[[Alerted], object]) -> None:
        """Make the inputs of a run; `say` is told where memory runs out for features.

        Trained is the network of `setup`, evaluated `evaluated`: the same, or the average of its weights.
        """
        self._setup = setup
        self._evaluated = evaluated
        self._at_once = AtOnce(setup.eval_batch_size, setup.device, say, "features")
        self._is_frozen = False
        """Whether that is so in the stage under way."""
        self._held_out: dict[str, Inputs] = {}
        self._compiled: Compiled | None = None
        images = setup.data.train.images
        self._host = HostImages(images, setup.device) if images.device.type != setup.device.type else None

    def train(self, stage: PlannedStage, number: int, report: Report) -> Inputs:
        """Return the inputs of a stage's epochs.

        Args:
            stage: with its augmentation.
            number: the stage's, from 0; decides the random views.
            report: is told of progress with features; what it raises comes through.
        """
        setup = self._setup
        self._is_frozen = stage.frozen
        self._held_out.clear()  # nothing made for one stage outlives it: the next one may train what this one leaves
        self._compiled = None
        views = setup.info.preset.train.feature_views if stage.is_augmented else 1
        transform = train_transform(stage.augment, setup.info.preset.data)
        if not self._is_frozen or views is None:
            return Inputs(self._trained(), setup.data.train, transform, host=self._host)
        return self._of_features(setup.network, setup.data.train, transform, views, f"train/{number}", report)

    def _trained(self) -> nn.Module:
        """Return the network as it is trained: compiled, if that is asked for."""
        setup, mode = self._setup, compile_mode(self._setup)
        if mode is None:
            return setup.network
        if self._compiled is None:
            self._compiled = Compiled(setup.network, mode, setup.info.preset.train.batch_size)
        return self._compiled

    def held_out(self, name: str, report: Report) -> Inputs:
        """Return the inputs of the split `name`, val or test; see `train`."""
        setup = self._setup
        split = setup.data.val if name == "val" else setup.data.test
        if not self._is_frozen:
            return Inputs(self._evaluated, split, setup.plain_transform)
        if name not in self._held_out:
            self._held_out[name] = self._of_features(self._evaluated, split, setup.plain_transform, 1, name, report)
        return self._held_out[name]

    def _of_features(
        self,
        whole: nn.Module,
        split: ImageSplit,
        transform: Callable[[Tensor], Tensor],
        views: int,
        name: str,
        report: Report,
    ) -> Inputs:
        network = cast(Freezable, whole)
        progress = Progress(report, "features", "images", f"{name.split('/')[0]} images", views * len(split))
        seen = [self._one_view(network, split, transform, (name, view), progress) for view in range(views)]
        progress.finish()
        if views == 1:
            return Inputs(network.fc, ImageSplit(seen[0], split.labels), _as_it_is)
        return Inputs(network.fc, ImageSplit(torch.stack(seen, dim=1), split.labels), _any_view)

    def _one_view(
        self,
        network: Freezable,
        split: ImageSplit,
        transform: Callable[[Tensor], Tensor],
        place: tuple[str, int],
        progress: Progress,
    ) -> Tensor:
        """Return the features of every image once: [N, F] on the device, in the dtype of the forward pass."""
        size = self._setup.eval_batch_size
        features = []
        for start in range(0, len(split), size):
            forward = partial(self._features, network, split, transform, place, start)
            features.append(self._at_once.run(forward, min(size, len(split) - start)))
            progress.advance(len(features[-1]))
        return torch.cat(features)

    def _features(
        self,
        network: Freezable,
        split: ImageSplit,
        transform: Callable[[Tensor], Tensor],
        place: tuple[str, int],
        start: int,
        at_once: int,
    ) -> Tensor:
        """Return the features of a batch that begins at `start`, augmented as a whole and computed in parts."""
        setup = self._setup
        reseed(setup.device, seed_at(setup.info.seed, "features", *place, start))
        images = transform(split.images[start : start + setup.eval_batch_size].to(setup.device))
        with torch.no_grad(), setup.autocast():
            return torch.cat([network.features(some) for some in torch.split(images, at_once)])


def _as_it_is(features: Tensor) -> Tensor:
    return features


def _any_view(features: Tensor) -> Tensor:
    """Return one view drawn for every image: [B, F] of [B, K, F]."""
    batch, views = features.shape[:2]
    drawn = torch.randint(views, (batch,), device=features.device)
    return features[torch.arange(batch, device=features.device), drawn]
