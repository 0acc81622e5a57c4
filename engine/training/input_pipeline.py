"""Input pipeline: the images of a split, or the features behind a frozen backbone, in shuffled batches.

Per-epoch settings (image size, mirroring, mixing) and images that stay in host memory are decided here too.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from engine.data.augment import train_transform
from engine.data.geometry import flip
from engine.data.progress import LoadProgress, Report
from engine.data.sets import ImageSplit
from engine.journal.events import Alerted
from engine.training.device import copy_to, use_device
from engine.training.microbatch import MicroBatch
from engine.training.seeds import balanced_draws, permutation, reseed, seed_at
from engine.training.setup import Compiled, Setup, compile_mode
from presets.plan import PlannedStage
from presets.schema import Mix, Preset


class HostImages:
    """Takes batches of images that stay with the host, perhaps in a mapped file, to the device.

    Reading a mapped file waits for the disk and gathering takes a core, so a thread does both ahead of the loop.
    On CUDA its copies go from pinned memory over a stream of their own, beside the kernels of the step under way.
    """

    def __init__(self, images: Tensor, device: torch.device) -> None:
        """Take from `images` (uint8 [N, ...], on the host) to `device`."""
        self._images = images
        self._device = device
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._thread = ThreadPoolExecutor(1, "images", use_device, (device,))
        self._ahead: deque[tuple[Tensor, Future[tuple[Tensor, Any]]]] = deque()

    def expect(self, rows: Tensor) -> None:
        """Begin to gather the images at `rows` (int64 [B], on the host), to be taken behind those expected before."""
        self._ahead.append((rows, self._thread.submit(self._gather, rows)))

    def take(self, rows: Tensor) -> Tensor:
        """Return the images at `rows` (int64 [B], on the host) on the device; nothing waits for their copy but kernels.

        Raises:
            OSError, RuntimeError: they cannot be read.
        """
        if self._ahead and torch.equal(self._ahead[0][0], rows):
            batch, copied = self._ahead.popleft()[1].result()
        else:  # the first of an epoch, or others than expected: after a stop, or once more with fewer at once
            self._ahead.clear()
            batch, copied = self._gather(rows)
        if copied is not None:
            now = torch.cuda.current_stream(self._device)
            now.wait_event(copied)
            batch.record_stream(now)  # its memory must not go to the next copy while this step reads it
        return batch

    def _gather(self, rows: Tensor) -> tuple[Tensor, Any]:
        """Return the images on the device, and the CUDA event behind their copy (None without CUDA)."""
        if self._stream is None:
            return self._images.index_select(0, rows).to(self._device), None
        pinned = torch.empty(len(rows), *self._images.shape[1:], dtype=self._images.dtype, pin_memory=True)
        torch.index_select(self._images, 0, rows, out=pinned)
        with torch.cuda.stream(self._stream):
            batch = pinned.to(self._device, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self._stream)
        return batch, copied


class SplitInputs(NamedTuple):
    """A split as the part of the network sees it that is computed every time.

    Attributes:
        network: to logits [B, C]: the whole network, or only its last layer.
        split: labels, and images uint8 [N, 3, H, W] or in their place features float [N, F] or [N, K, F].
        transform: from a batch of `split.images` to what `network` takes; may draw random numbers.
        mix: how the images of a batch are mixed with each other; None where they are not.
        host: hands out the images where they stay with the host; None where they are with the labels.
        mirror_epoch: the epoch under way, where every image is mirrored in every other one; else None. A scalar int64
            tensor on the device in a recorded step, which reads it at every replay.
        size: side in pixels of the images of the epoch under way, where it grows; else None.
    """

    network: nn.Module
    split: ImageSplit
    transform: Callable[[Tensor], Tensor]
    mix: Mix | None = None
    host: HostImages | None = None
    mirror_epoch: int | Tensor | None = None
    size: int | None = None

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
            batch, rows = self.host.take(rows), copy_to(rows, labels.device)
        if self.mirror_epoch is not None:
            batch = flip(batch, (_coin(rows) + self.mirror_epoch) % 2 == 1)
        return batch, labels.index_select(0, rows)

    def labels(self, rows: Tensor) -> Tensor:
        """Return the labels at `rows` (int64 [B], where the images are), on their device."""
        labels = self.split.labels
        return labels.index_select(0, copy_to(rows, labels.device))


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


class InputPipeline:
    """Hands out the inputs of a run's splits, computing features where that is done once."""

    def __init__(self, setup: Setup, evaluated: nn.Module, say: Callable[[Alerted], object]) -> None:
        """Make the inputs of a run; `say` is told where memory runs out for features.

        Trained is the network of `setup`, evaluated `evaluated`: the same, or the average of its weights.
        """
        self._setup = setup
        self._evaluated = evaluated
        self._at_once = MicroBatch(setup.eval_batch_size, setup.device, say, "features")
        self.is_frozen = False
        """True if the backbone is frozen in the current stage, and each image's features are computed once."""
        self._eval_inputs: dict[str, SplitInputs] = {}
        self._compiled: Compiled | None = None
        images = setup.data.train.images
        self._host = HostImages(images, setup.device) if images.device.type != setup.device.type else None

    def train(self, stage: PlannedStage, number: int, report: Report) -> SplitInputs:
        """Return the inputs of a stage's epochs.

        Args:
            stage: with its augmentation.
            number: the stage's, from 0; decides the random views.
            report: is told of progress with features; what it raises comes through.
        """
        setup = self._setup
        self.is_frozen = stage.frozen
        self._eval_inputs.clear()  # nothing made for one stage outlives it: the next one may train what this one leaves
        self._compiled = None
        views = num_views(setup.info.preset, stage)
        transform = train_transform(stage.augment, setup.info.preset.data)
        if views is None:
            return SplitInputs(self._trained(), setup.data.train, transform, host=self._host)
        return self._of_features(setup.network, setup.data.train, transform, views, f"train/{number}", report)

    def _trained(self) -> nn.Module:
        """Return the network as it is trained: compiled, if that is asked for."""
        setup, mode = self._setup, compile_mode(self._setup)
        if mode is None:
            return setup.network
        if self._compiled is None:
            self._compiled = Compiled(setup.network, mode, setup.info.preset.train.batch_size)
        return self._compiled

    def eval_inputs(self, name: str, report: Report) -> SplitInputs:
        """Return the inputs of the split `name`, val or test; see `train`."""
        setup = self._setup
        split = setup.data.val if name == "val" else setup.data.test
        assert split is not None, "nobody asks for the test part unless there is one"
        if not self.is_frozen:
            return SplitInputs(self._evaluated, split, setup.plain_transform)
        if name not in self._eval_inputs:
            self._eval_inputs[name] = self._of_features(self._evaluated, split, setup.plain_transform, 1, name, report)
        return self._eval_inputs[name]

    def _of_features(
        self,
        whole: nn.Module,
        split: ImageSplit,
        transform: Callable[[Tensor], Tensor],
        views: int,
        name: str,
        report: Report,
    ) -> SplitInputs:
        network = cast(Freezable, whole)
        progress = LoadProgress(report, "features", "images", f"{name.split('/')[0]} images", views * len(split))
        seen = [self._one_view(network, split, transform, (name, view), progress) for view in range(views)]
        progress.finish()
        if views == 1:
            return SplitInputs(network.fc, ImageSplit(seen[0], split.labels), _as_it_is)
        return SplitInputs(network.fc, ImageSplit(torch.stack(seen, dim=1), split.labels), _any_view)

    def _one_view(
        self,
        network: Freezable,
        split: ImageSplit,
        transform: Callable[[Tensor], Tensor],
        place: tuple[str, int],
        progress: LoadProgress,
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
        images = one_view(setup, split.images, transform, place, start)
        with torch.no_grad(), setup.autocast():
            return torch.cat([network.features(some) for some in torch.split(images, at_once)])


def num_views(preset: Preset, stage: PlannedStage) -> int | None:
    """Return how often every training image is augmented, once, for its features; None if in every step anew."""
    if not stage.frozen:
        return None
    return preset.train.feature_views if stage.is_augmented else 1


def one_view(
    setup: Setup, images: Tensor, transform: Callable[[Tensor], Tensor], place: tuple[str, int], start: int
) -> Tensor:
    """Return the batch of `images` that begins at `start`, transformed with the random numbers of its place.

    Args:
        setup: of the run.
        images: uint8 [N, 3, H, W], of a split.
        transform: augmentation and normalisation.
        place: name of the split and number of the view.
        start: a multiple of `setup.eval_batch_size`.
    """
    reseed(setup.device, seed_at(setup.info.seed, "features", *place, start))
    return transform(images[start : start + setup.eval_batch_size].to(setup.device))


def draw_views(num_rows: int, num_views: int, device: torch.device) -> Tensor:
    """Draw the view that a step takes of each of its images: int64 [num_rows]."""
    return torch.randint(num_views, (num_rows,), device=device)


def _as_it_is(features: Tensor) -> Tensor:
    return features


def _any_view(features: Tensor) -> Tensor:
    """Return one view drawn for every image: [B, F] of [B, K, F]."""
    batch, views = features.shape[:2]
    drawn = draw_views(batch, views, features.device)
    return features[torch.arange(batch, device=features.device), drawn]


def of_epoch(inputs: SplitInputs, preset: Preset, stage: PlannedStage, epoch: int, stage_epoch: int) -> SplitInputs:
    """Return a stage's inputs as one of its epochs sees them.

    Args:
        inputs: of the stage.
        preset: of the run.
        stage: under way.
        epoch: counted through all stages, from 1.
        stage_epoch: counted in the stage, from 0.
    """
    train, mix = preset.train, preset.mix
    if train.image_sizes:
        size = image_size(preset, stage_epoch / stage.epochs)
        inputs = inputs._replace(transform=train_transform(stage.augment, preset.data, size), size=size)
    mixes = mix.is_on and stage_epoch < stage.epochs - mix.off_epochs
    return inputs._replace(mix=mix if mixes else None, mirror_epoch=epoch if train.alternating_flip else None)


def epoch_order(setup: Setup, epoch: int) -> Tensor:
    """Return the rows of the training images in the order of an epoch: int64 [N], on the images' device.

    A function of the run's seed and `epoch` (counted through all stages, from 1), the same in every rank.
    """
    train, seed = setup.data.train, setup.info.seed
    if setup.info.preset.data.sampler == "balanced":
        rows = balanced_draws(train.labels.cpu(), seed, epoch)
    else:
        rows = permutation(len(train), seed, epoch)
    return rows.to(train.images.device)


def image_size(preset: Preset, share: float) -> int:
    """Return the side in pixels of training images once `share` (0 to 1) of a stage's epochs is trained."""
    sizes = (size for until, size in preset.train.image_sizes if share < until)
    return next(sizes, preset.data.image_size)
