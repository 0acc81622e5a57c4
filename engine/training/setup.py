"""Everything a run trains with, made from its preset: device, resident data, network, transforms, loss.

Used by the training worker and by `engine.training.evaluate_checkpoint`, so that both see the same thing.
"""

import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from engine.data.augment import plain_transform
from engine.data.load import load
from engine.data.sets import DataSet, ImageSplit
from engine.journal.events import AnyEvent, DataProgressed, DataReady, ModelBuilt
from engine.models.build import build, sketch
from engine.models.layer_table import flops_per_image, layer_table, num_parameters, num_trainable
from engine.models.memory import estimate
from engine.runs.run_dir import RunInfo
from engine.training.device import autocast, choose_device, choose_precision, keep_freed_memory, prepare_backend
from engine.training.seeds import seed_at
from presets.schema import Preset

_EVAL_BATCH_FACTOR = 4
"""Without saved activations several training batches fit at once."""
_RESIDENT_SHARE = 0.4
"""Of a GPU's free memory that one split's images may take; larger ones stay with the host, batch by batch."""


@dataclass(frozen=True)
class Setup:
    """What training and evaluation share. Tensors and network are on `device`."""

    info: RunInfo
    device: torch.device
    precision: str
    data: DataSet
    network: nn.Module
    criterion: nn.Module
    plain_transform: Callable[[Tensor], Tensor]
    autocast: Callable[[], AbstractContextManager[object]]
    num_ranks: int = 1
    """How many processes train the run together."""

    @property
    def eval_batch_size(self) -> int:
        """Images at once in evaluation."""
        return self.info.preset.train.batch_size * _EVAL_BATCH_FACTOR


def choose_hardware(info: RunInfo, taken: Callable[[], Collection[str]] = frozenset) -> tuple[torch.device, str]:
    """Return the device and the precision that a run asked for, prepared for use; `taken` as in `choose_device`."""
    device = choose_device(info.device, taken)
    prepare_backend(device, tf32=info.preset.train.tf32)
    return device, choose_precision(info.preset.train.precision, device, lambda: _flops(info.preset))


def _flops(preset: Preset) -> int:
    """Return those of one image's forward pass, but for the last layer, whose classes are not known yet."""
    return flops_per_image(sketch(preset.model, 1, preset.data.image_size), preset.data.image_size)


def set_up(
    info: RunInfo,
    device: torch.device,
    precision: str,
    *,
    write: Callable[[AnyEvent], object],
    report: Callable[[DataProgressed], None],
) -> Setup:
    """Load the data and build the network of a run.

    Args:
        info: the run.
        device: where everything goes.
        precision: fp32, bf16 or fp16.
        write: given the facts DataReady and ModelBuilt.
        report: told of progress with the data; may raise to give up.

    Raises:
        CifartuiError: data or weights are absent or not as they should be.
    """
    preset = info.preset
    started = time.monotonic()
    data = load(preset.data, info.data_dir, info.seed, report)
    data = replace(data, train=_to(data.train, device), val=_to(data.val, device), test=_to(data.test, device))
    write(_data_ready(data, time.monotonic() - started))

    started = time.monotonic()
    torch.manual_seed(seed_at(info.seed, "weights"))
    network = build(preset.model, len(data.class_names), preset.data.image_size)
    write(
        ModelBuilt(
            network=_network_name(info),
            layers=layer_table(network, preset.data.image_size),
            num_parameters=num_parameters(network),
            num_trainable=num_trainable(network),
            flops_per_image=flops_per_image(network, preset.data.image_size),
            memory_bytes=estimate(preset, len(data.class_names), precision).total,
            seconds=time.monotonic() - started,
        )
    )
    if device.type == "cpu":
        keep_freed_memory()  # only now: what reading the data took goes back to the system
    return Setup(
        info=info,
        device=device,
        precision=precision,
        data=data,
        network=network.to(device).to(memory_format=torch.channels_last),
        criterion=nn.CrossEntropyLoss(label_smoothing=preset.loss.label_smoothing),
        plain_transform=plain_transform(preset.data),
        autocast=autocast(device, precision),
    )


def _to(split: ImageSplit, device: torch.device) -> ImageSplit:
    """Return the split with its labels on the device, and its images too where they leave room to train in."""
    images, labels = split.images, split.labels.to(device)
    if device.type == "cuda" and images.nbytes > _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return ImageSplit(images, labels)
    return ImageSplit(images.to(device), labels)


def _network_name(info: RunInfo) -> str:
    return str(info.preset.model.__struct_config__.tag)


def _data_ready(data: DataSet, seconds: float) -> DataReady:
    return DataReady(
        dataset=data.name,
        source=data.source,
        generated=data.generated,
        num_train=len(data.train.labels),
        num_val=len(data.val.labels),
        num_test=len(data.test.labels),
        num_classes=len(data.class_names),
        image_size=data.train.images.shape[-1],
        test_labels_hidden=data.test_labels_hidden,
        notices=data.notices,
        seconds=seconds,
    )
