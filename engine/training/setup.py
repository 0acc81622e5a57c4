"""Setup of a run from its preset: device, resident data, network, transforms, loss, torch.compile, speed options."""

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from engine.data.augment import plain_transform
from engine.data.load import load
from engine.data.sets import OF_TEST, DataSet, ImageSplit, record_of, with_classes
from engine.journal.data_record import DataRecord, without_sizes
from engine.journal.events import Alerted, AnyEvent, DataProgressed, DataReady, ModelBuilt
from engine.models.build import build, build_on_meta, build_unfilled, on_device
from engine.models.layer_table import StageFlops, flops_per_image, layer_table, num_parameters, num_trainable
from engine.models.memory import estimate
from engine.runs.run_dir import RunInfo
from engine.shared.cache_folder import cache_folder, make_cache_folder
from engine.shared.step_memory import EVAL_BATCH_FACTOR, may_record
from engine.training.class_balance import cross_entropy, measures_balanced
from engine.training.device import autocast, choose_device, choose_precision, keep_freed_memory, prepare_backend
from engine.training.microbatch import is_out_of_memory
from engine.training.seeds import seed_at
from presets.backbones import network_name
from presets.errors import CifartuiError
from presets.plan import plan
from presets.range_test import table_of
from presets.schema import Preset

_COMPILERS = ("torch._dynamo", "torch._inductor", "torch._functorch", "triton")
"""Modules whose errors are those of torch.compile."""
_RESIDENT_SHARE = 0.4
"""Fraction of a GPU's free memory for one split's images; larger splits stay on the host."""


@dataclass(frozen=True)
class Setup:
    """Objects that training and evaluation share. Tensors and network are on `device`."""

    info: RunInfo
    device: torch.device
    precision: str
    data: DataSet
    network: nn.Module
    criterion: nn.Module
    plain_transform: Callable[[Tensor], Tensor]
    autocast: Callable[[], AbstractContextManager[object]]
    data_record: DataRecord
    measures_balanced: bool = False
    """True if balanced accuracy is measured beside top-1."""
    num_ranks: int = 1
    """Number of processes that train the run together."""
    flops_per_image: int = 0
    """Of the forward pass; 0 where nobody has counted them."""
    flops: tuple[StageFlops, ...] = ()
    """Of one image in each stage; empty where nobody has counted them, and the run then has no FLOPs either."""

    @property
    def eval_batch_size(self) -> int:
        """Images at once in evaluation."""
        return self.info.preset.train.batch_size * EVAL_BATCH_FACTOR


def choose_hardware(info: RunInfo, taken: Callable[[], Collection[str]] = frozenset) -> tuple[torch.device, str]:
    """Return the device and the precision that a run asked for, prepared for use; `taken` as in `choose_device`."""
    device = choose_device(info.device, taken)
    prepare_backend(device, tf32=info.preset.train.tf32)
    return device, choose_precision(info.preset.train.precision, device, lambda: flops_of(info.preset))


def flops_of(preset: Preset) -> int:
    """Return those of one image's forward pass, but for the last layer, whose classes are not known yet."""
    return flops_per_image(build_on_meta(preset.model, 1, preset.data.image_size), preset.data.image_size)


def set_up(
    info: RunInfo,
    device: torch.device,
    precision: str,
    *,
    write: Callable[[AnyEvent], object],
    report: Callable[[DataProgressed], None],
    class_names: Sequence[str] = (),
    is_filled_later: bool = False,
) -> Setup:
    """Load the data and build the network of a run.

    Args:
        info: the run.
        device: where everything goes.
        precision: fp32, bf16 or fp16.
        write: called with DataReady, ModelBuilt, and notices about pretrained weights.
        report: called with progress of the data; may raise to give up.
        class_names: of weights that will be loaded, in order; the data's classes are matched with them by name.
        is_filled_later: the caller loads all weights from a checkpoint, so that pretrained ones are neither looked for
            nor read: their file may be gone by now.

    Raises:
        CifartuiError: data or weights are absent or not as they should be, or the data has other classes.
    """
    preset = info.preset
    started = time.monotonic()
    data = load(preset.data, info.data_dir, info.seed, report)
    if table_of(preset) is not None:
        data = replace(data, notices=tuple(notice for notice in data.notices if notice not in OF_TEST))
    if class_names:
        data = with_classes(data, class_names)
    record = record_of(data)
    train_labels, is_balanced_asked = data.train.labels, measures_balanced(preset.train, data)
    test = None if data.test is None else _to(data.test, device)
    data = replace(data, train=_to(data.train, device), val=_to(data.val, device), test=test)
    write(_data_ready(data, record, time.monotonic() - started))

    started = time.monotonic()
    torch.manual_seed(seed_at(info.seed, "weights"))
    said: list[str] = []
    num_classes, size = len(data.class_names), preset.data.image_size
    if is_filled_later:
        network = build_unfilled(preset.model, num_classes, size)
    else:
        network = build(preset.model, num_classes, size, said.append, data.class_names)
    setup = Setup(
        info=info,
        device=device,
        precision=precision,
        data=data,
        network=network,
        criterion=cross_entropy(preset.loss, train_labels, data.class_names).to(device),
        measures_balanced=is_balanced_asked,
        plain_transform=plain_transform(preset.data),
        autocast=autocast(device, precision),
        data_record=record,
        flops_per_image=flops_per_image(network, size),
    )
    memory = estimate(preset, num_classes, precision)
    write(
        ModelBuilt(
            network=_network_name(info),
            layers=layer_table(network, size),
            num_parameters=num_parameters(network),
            num_trainable=num_trainable(network),
            flops_per_image=setup.flops_per_image,
            memory_bytes=memory.recorded if records_steps(setup) else memory.total,
            seconds=time.monotonic() - started,
        )
    )
    for text in said:
        write(Alerted(severity="notice", kind="weights", text=text))
    if device.type == "cpu":
        keep_freed_memory()  # only now: what reading the data took goes back to the system
    return replace(setup, network=on_device(network, device))


def _to(split: ImageSplit, device: torch.device) -> ImageSplit:
    """Return the split with its labels on the device, and its images too if they leave enough memory to train."""
    images, labels = split.images, split.labels.to(device)
    if device.type == "cuda" and images.nbytes > _RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return replace(split, labels=labels)
    return replace(split, images=images.to(device), labels=labels)


def _network_name(info: RunInfo) -> str:
    return network_name(info.preset.model)


def _data_ready(data: DataSet, record: DataRecord, seconds: float) -> DataReady:
    return DataReady(
        dataset=data.name,
        source=data.source,
        generated=data.generated,
        num_train=len(data.train.labels),
        num_val=len(data.val.labels),
        num_test=0 if data.test is None else len(data.test.labels),
        num_classes=len(data.class_names),
        image_size=data.train.images.shape[-1],
        test_labels_hidden=data.test_labels_hidden,
        notices=data.notices,
        record=without_sizes(record),
        seconds=seconds,
    )


class Compiled(nn.Module):
    """A network as torch.compile makes it for batches of one size; others go through it as it is.

    The parameters are the same ones. The first call compiles, which takes from seconds to minutes; what comes of it is
    kept in the cache folder, where the next run finds it.
    """

    def __init__(self, network: nn.Module, mode: str, batch_size: int) -> None:
        """Prepare; `mode` is torch.compile's: default, reduce-overhead or max-autotune."""
        super().__init__()
        if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
            folder = cache_folder() / "inductor"
            make_cache_folder(folder)  # what torch finds there it runs
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
        self.network = network
        self._compiled: Any = torch.compile(network, mode=mode, dynamic=False)
        self._batch_size = batch_size

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, C] of images [B, 3, H, W].

        Raises:
            CifartuiError: the network cannot be compiled here.
        """
        if len(images) != self._batch_size:
            logits: Tensor = self.network(images)
            return logits
        with compile_errors_explained():
            compiled: Tensor = self._compiled(images)
            return compiled


@contextmanager
def compile_errors_explained() -> Iterator[None]:
    """Raise what the compiler fails with as a sentence; it compiles the backward pass when that is first run.

    Raises:
        CifartuiError: the network cannot be compiled here.
    """
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error) or not type(error).__module__.startswith(_COMPILERS):
            raise
        text = (str(error).strip().splitlines() or ["no message"])[0]
        raise CifartuiError(
            f"The network could not be compiled ({text}); torch.compile needs a C++ compiler, and on a GPU Triton. "
            'Train with train.compile = "off".'
        ) from error


def unsupported_speedups(setup: Setup) -> dict[str, str]:
    """Return a sentence for every option of the preset that has no effect in this run, by its key."""
    train = setup.info.preset.train
    whys = {}
    if train.compile != "off":
        if setup.device.type not in {"cuda", "cpu"}:
            whys["train.compile"] = "it is for CUDA and for CPUs"
        elif all(stage.frozen for stage in plan(setup.info.preset)):
            whys["train.compile"] = "behind a frozen backbone there is little to compile"
        elif setup.num_ranks > 1:
            whys["train.compile"] = "it is for one device"
    is_asked = train.cuda_graphs is True or setup.device.type == "cuda"
    if is_asked and may_record(train, setup.flops_per_image) and (why := _why_not_recorded(setup)):
        whys["train.cuda_graphs"] = why
    return {key: f"{key} has no effect here: {why}." for key, why in whys.items()}


def surprising(setup: Setup) -> list[str]:
    """Return a sentence for everything that the preset does with the images and that nobody may have meant."""
    preset, num_images = setup.info.preset, len(setup.data.train.labels)
    said = []
    batch_size = preset.train.batch_size
    if num_images > batch_size and num_images % batch_size == 1:
        said.append(
            f"Each epoch leaves out one of the {num_images:,} training images, another one each time: in a last batch "
            f"of one there is nothing to normalise by. Another train.batch_size than {batch_size} trains on all."
        )
    if preset.data.sampler == "balanced" and preset.loss.class_weights is not None:
        said.append(
            'Uneven classes are evened out twice, by data.sampler = "balanced" and by loss.class_weights: one of them '
            "is enough."
        )
    return said


def compile_mode(setup: Setup) -> str | None:
    """Return the mode of torch.compile to train in, if any."""
    mode = setup.info.preset.train.compile
    return None if mode == "off" or "train.compile" in unsupported_speedups(setup) else mode


def _why_not_recorded(setup: Setup) -> str:
    """Return why no step of the run can be recorded as a CUDA graph; nothing if it can."""
    if setup.device.type != "cuda":
        return "only CUDA has graphs"
    if max(setup.num_ranks, setup.info.devices) > 1:
        return "they are for one device"
    if setup.precision == "fp16":
        return "in fp16 the loss scaler decides after every step"
    if setup.data.train.images.device != setup.device:
        return "the images do not fit the GPU, and a graph cannot fetch them"
    return ""


def records_steps(setup: Setup) -> bool:
    """Return true if steps are recorded as CUDA graphs."""
    return may_record(setup.info.preset.train, setup.flops_per_image) and not _why_not_recorded(setup)
