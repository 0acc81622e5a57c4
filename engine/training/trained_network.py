"""Trained network of a run: the weights of a checkpoint, and the path of an image through them, without the run's data.

An image takes the way that validation images take: decoded to the same size, the same transform, precision and mirrored
mean (`logits_of` in `engine.training.validation`).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from engine.data.augment import plain_transform
from engine.data.image_pixels import Colour, background_of
from engine.data.load import stored_size
from engine.models.build import build_on_meta, build_unfilled, on_device
from engine.runs.export_record import MetricsRecord
from engine.runs.run_dir import RunDir, RunInfo
from engine.shared.step_memory import EVAL_BATCH_FACTOR
from engine.training import checkpoint_files
from engine.training.checkpoint_checks import check_weights, class_names_of, place_of
from engine.training.device import autocast, choose_device, choose_precision
from engine.training.microbatch import MicroBatch
from engine.training.setup import flops_of
from engine.training.validation import logits_of
from presets.errors import CifartuiError
from presets.range_test import table_of

Which = Literal["best", "last"]


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with the weights of a checkpoint, and what an image needs on its way through it.

    Attributes:
        info: the run's settings.
        checkpoint: the file of the weights, best or last.
        epoch: of the weights.
        global_step: of the weights, counted through all stages.
        is_average: true if the weights are the moving average that the run evaluates.
        class_names: one a logit, in order.
        network: in eval mode, on `device`, from float [B, 3, S, S] to logits [B, C].
        device: of the network.
        precision: fp32, bf16 or fp16, of the forward pass.
        autocast: context of the forward pass in that precision.
        transform: from uint8 [B, 3, H, H] to the network's input, H being `stored_size`.
        stored_size: side in pixels of the squares that image files become first.
        background: what shows through transparent pixels.
        flip_average: the logits are the mean over an image and its mirror image.
        name: of the file of the weights, for people.
    """

    info: RunInfo
    checkpoint: Which
    epoch: int
    global_step: int
    is_average: bool
    class_names: tuple[str, ...]
    network: nn.Module
    device: torch.device
    precision: str
    autocast: Callable[[], AbstractContextManager[object]]
    transform: Callable[[Tensor], Tensor]
    stored_size: int
    background: Colour
    flip_average: bool
    name: str

    @property
    def eval_batch_size(self) -> int:
        """Images that validation runs at once."""
        return self.info.preset.train.batch_size * EVAL_BATCH_FACTOR

    def probabilities(self, images: Tensor, at_once: MicroBatch) -> Tensor:
        """Return the softmax probabilities, float32 [B, C] on the CPU, of images uint8 [B, 3, H, H] on any device.

        Raises:
            CifartuiError: memory runs out even with one image at once.
        """
        parts, done = [], 0
        flip_average = self.flip_average

        def forward(num_rows: int) -> Tensor:
            some = images[done : done + num_rows].to(self.device)
            return logits_of(self.network, some, self.transform, self.autocast, flip_average=flip_average)

        with torch.inference_mode():
            while done < len(images):
                logits = at_once.run(forward, len(images) - done)
                parts.append(logits.float().softmax(1).cpu())
                done += len(logits)
            return torch.cat(parts) if parts else torch.empty(0, len(self.class_names))


def read_weights(folder: RunDir, info: RunInfo, which: str) -> tuple[Path, dict[str, Any]]:
    """Return path and content of a run's checkpoint, best or last, which is not checked against its preset yet.

    Raises:
        CifartuiError: the run has none, or it is damaged, a link or another user's.
    """
    if table_of(info.preset) is not None:
        raise CifartuiError(f"Run {folder.id} is a range test, which keeps no weights: there is nothing to evaluate.")
    path = folder.best if which == "best" else folder.last
    if not path.exists():
        raise CifartuiError(f"Run {folder.id} has no {which}.pt yet; it is written after the first epoch.")
    return path, checkpoint_files.load(path)


def check_evaluated(path: Path, state: dict[str, Any], network: nn.Module) -> tuple[int, int]:
    """Return epoch and global step of the weights in a checkpoint that the run evaluates, if they fit `network`.

    Raises:
        CifartuiError: there are none, or they are those of another network.
    """
    try:
        check_weights(checkpoint_files.evaluated(state), network)
        return place_of(state)
    except KeyError:
        raise CifartuiError(f"{path} holds no weights.") from None
    except ValueError as error:
        raise CifartuiError(f"{path} does not fit this run's preset: {error}.") from error


def load_trained(
    folder: RunDir,
    which: Which,
    device_asked: str,
    prepare: Callable[[torch.device, RunInfo], object] = lambda _device, _info: None,
) -> TrainedNetwork:
    """Load the network of a run. Neither its data nor pretrained weights are read, and no random state changes.

    Args:
        folder: of the run.
        which: the checkpoint.
        device_asked: auto, cpu, cuda, cuda:N or mps.
        prepare: called with the device before the network is there, to set up torch's backends.

    Raises:
        CifartuiError: there is no such checkpoint or device, or the weights do not fit the run's preset.
    """
    info = folder.read_info()
    path, state = read_weights(folder, info, which)
    try:
        class_names = class_names_of(state)
    except ValueError as error:
        raise CifartuiError(f"{path} cannot be used: {error}.") from error
    if not class_names:
        raise CifartuiError(f"{path} is of a version that kept no class names; resume the run, or train it again.")
    preset = info.preset
    epoch, global_step = check_evaluated(
        path, state, build_on_meta(preset.model, len(class_names), preset.data.image_size)
    )
    device = choose_device(device_asked)
    prepare(device, info)
    with torch.random.fork_rng(devices=[]):
        network = build_unfilled(preset.model, len(class_names), preset.data.image_size)
    network.load_state_dict(checkpoint_files.evaluated(state))
    precision = choose_precision(preset.train.precision, device, lambda: flops_of(preset))
    return TrainedNetwork(
        info=info,
        checkpoint=which,
        epoch=epoch,
        global_step=global_step,
        is_average=preset.train.ema_decay > 0,
        class_names=class_names,
        network=on_device(network, device).eval().requires_grad_(False),
        device=device,
        precision=precision,
        autocast=autocast(device, precision),
        transform=plain_transform(preset.data),
        stored_size=stored_size(preset.data),
        background=background_of(preset.data),
        flip_average=preset.train.flip_average,
        name=path.name,
    )


def metrics_of(folder: RunDir, trained: TrainedNetwork) -> MetricsRecord:
    """Return what a run's journal says of the loaded weights."""
    state = folder.read_state()
    points = [point for point in state.epochs if point.global_step == trained.global_step]
    test = state.test if state.test is not None and state.test.tested == trained.checkpoint else None
    return MetricsRecord(
        val_top1=points[-1].val_top1 if points else None,
        val_balanced=points[-1].val_balanced if points else None,
        val_loss=points[-1].val_loss if points else None,
        test_top1=test.test_top1 if test is not None else None,
        test_balanced=test.test_balanced if test is not None else None,
        test_loss=test.test_loss if test is not None else None,
    )
