"""Process `python -m engine.training.benchmark`: peak rates of this machine's device, and speeds of training on it.

Prints one JSON object a line as soon as it is measured (`engine.shared.benchmark_lines`): the device, the limits
of its hardware, then images/s of some presets with one option after another, through the engine's own step on random
images. Every number is a median of this machine; nothing is looked up. `cifartui doctor --benchmark` makes a table.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import torch
from msgspec.structs import replace
from torch import nn
from torch.amp import GradScaler

from engine.data.augment import plain_transform
from engine.data.sets import DataSet, ImageSplit, record_of
from engine.journal.events import Alerted, AnyEvent
from engine.journal.jsonl import EventWriter
from engine.models.build import build, on_device, without_weights
from engine.models.layer_table import flops_per_image
from engine.runs.run_dir import RunInfo
from engine.shared.benchmark_lines import Device, Limit, Line, Speed
from engine.training.device import autocast, choose_device, choose_precision, cpu_has_bf16, device_name, prepare_backend
from engine.training.input_pipeline import InputPipeline
from engine.training.metrics import Meter
from engine.training.microbatch import free_memory, is_out_of_memory
from engine.training.optimizers import StageOptimizer
from engine.training.setup import Setup
from engine.training.step import Stepper
from engine.training.step_timer import StepTimer
from presets import catalog
from presets.checks import STORED_SIZE
from presets.errors import CifartuiError
from presets.plan import plan
from presets.schema import Preset

_PRESETS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "cuda": (("basenet", ()), ("vgg-custom", ()), ("networks/resnet18", ()), ("resnet50-finetune", ())),
    "cpu": (("basenet", ()), ("demo", ()), ("vgg-custom", ("data.image_size=32",))),
}
"""Measured presets, with overrides; on a CPU those that take no more than a minute altogether."""
_MATRIX_SIDE = {"cuda": 8192, "cpu": 1024}
_CONVOLUTION = {"cuda": (256, 512), "cpu": (64, 256)}
"""Batch and channels of the 3×3 convolution that is measured, on images of 16×16."""
_BUFFER_BYTES = {"cuda": 1 << 30, "cpu": 1 << 28}
_NUM_CLASSES = 100
_NUM_ROUNDS = 7
_NO_MEMORY = "The device ran out of memory."
_WARM_UPS = {"cuda": 8, "cpu": 1}
"""Steps before those that count: compiling, recording, choosing algorithms."""


class Alerts(EventWriter):
    """Journal of alerts in memory, for a step that runs out of memory."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def write(self, event: AnyEvent) -> AnyEvent:
        """Store the text of an alert."""
        if isinstance(event, Alerted):
            self.texts.append(event.text)
        return event


def measure(device: torch.device, seconds: float) -> Iterator[Line]:
    """Yield the results on `device` as they are measured, each speed for about so many seconds."""
    kind = "cuda" if device.type == "cuda" else "cpu"
    name, version = device_name(device), str(torch.__version__)
    yield Device(device=str(device), name=name, torch=version, num_threads=torch.get_num_threads())
    for precision in ("fp32", "tf32", "bf16") if kind == "cuda" else ("fp32", "bf16"):
        yield from _if_there_is_room(_arithmetic(device, precision, _MATRIX_SIDE[kind], *_CONVOLUTION[kind]))
    yield from _if_there_is_room(_transfers(device, _BUFFER_BYTES[kind]))
    for name, overrides in _PRESETS[kind]:
        for precision, options in _variants(device):
            yield _speed(device, name, catalog.load(name, overrides), precision, options, seconds)


# --- what the hardware gives ------------------------------------------------------------------------


def _if_there_is_room(limits: Iterator[Limit]) -> Iterator[Limit]:
    """Yield the limits until memory runs out: what is not measured is not shown."""
    try:
        yield from limits
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    free_memory()


def _arithmetic(device: torch.device, precision: str, side: int, batch_size: int, channels: int) -> Iterator[Limit]:
    prepare_backend(device, tf32=precision == "tf32")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.randn(side, side, device=device).to(dtype)
    seconds = _median_s(lambda: matrix @ matrix, device)
    yield Limit(what="matmul", precision=precision, per_s=2 * side**3 / seconds)
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(device, dtype)
    layer = layer.to(memory_format=torch.channels_last)
    images = torch.randn(batch_size, channels, 16, 16, device=device).to(dtype, memory_format=torch.channels_last)
    with torch.no_grad():
        seconds = _median_s(lambda: layer(images), device)
    yield Limit(what="convolution", precision=precision, per_s=2 * images.numel() * channels * 9 / seconds)


def _transfers(device: torch.device, num_bytes: int) -> Iterator[Limit]:
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = _median_s(lambda: target.copy_(source), device)
    yield Limit(what="memory", per_s=2 * num_bytes / seconds)  # every byte is read, and written
    if device.type == "cuda":
        pinned = torch.zeros(num_bytes // 4, dtype=torch.uint8, pin_memory=True)
        seconds = _median_s(lambda: target[: len(pinned)].copy_(pinned, non_blocking=True), device)
        yield Limit(what="host-to-device", per_s=pinned.nbytes / seconds)


def _median_s(work: Callable[[], object], device: torch.device) -> float:
    """Return the median seconds of `work`, after it was done twice."""
    times = [_timed(work, device) for _ in range(_NUM_ROUNDS + 2)]
    return statistics.median(times[2:])


def _timed(work: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


# --- how fast presets train -------------------------------------------------------------------------


def _variants(device: torch.device) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield precisions, and options of `train` that make training faster, one after another."""
    if device.type != "cuda":
        yield "fp32", {}
        if device.type == "cpu" and cpu_has_bf16():
            yield "bf16", {}
        return
    half = choose_precision("auto", device, lambda: 0)
    yield "fp32", {"tf32": False}
    yield "fp32", {}
    yield half, {}
    yield half, {"compile": "default"}
    if half == "bf16":
        yield half, {"cuda_graphs": True}
        yield half, {"compile": "default", "cuda_graphs": True}


def _speed(
    device: torch.device, name: str, preset: Preset, precision: str, options: dict[str, Any], seconds: float
) -> Speed:
    preset = replace(preset, train=replace(preset.train, **{"cuda_graphs": False, **options}))
    size = preset.data.image_size
    torch.manual_seed(0)
    network = build(without_weights(preset.model), _NUM_CLASSES, size)
    speed = Speed(
        preset=name,
        image_size=size,
        batch_size=preset.train.batch_size,
        precision="tf32" if device.type == "cuda" and precision == "fp32" and preset.train.tf32 else precision,
        options=tuple(key for key in options if key != "tf32"),
        flops_per_image=3 * flops_per_image(network, size),
    )
    alerts = Alerts()
    rate, trouble = None, _NO_MEMORY
    try:
        rate = _images_per_s(random_setup(device, preset, precision, network), alerts, seconds)
    except CifartuiError as error:
        trouble = str(error)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    free_memory()  # out here, where the error is gone, and with it what its traceback held
    if rate is None:
        return replace(speed, trouble=trouble)
    return replace(speed, images_per_s=rate, trouble=" ".join(alerts.texts))


def random_setup(device: torch.device, preset: Preset, precision: str, network: nn.Module) -> Setup:
    """Return the setup of a run of `preset` on random images; `network` is moved to `device`."""
    prepare_backend(device, tf32=preset.train.tf32)
    side = STORED_SIZE.get(preset.data.dataset, preset.data.image_size)
    images = torch.randint(256, (4 * preset.train.batch_size, 3, side, side), dtype=torch.uint8).to(device)
    split = ImageSplit(images, torch.randint(_NUM_CLASSES, (len(images),)).to(device))
    names = tuple(map(str, range(_NUM_CLASSES)))
    data = DataSet(name="random", source="", generated=True, train=split, val=split, test=split, class_names=names)
    return Setup(
        info=RunInfo(id="", preset_name="", preset=preset, seed=0, device=str(device), created=0.0, host=""),
        device=device,
        precision=precision,
        data=data,
        network=on_device(network, device),
        criterion=nn.CrossEntropyLoss(label_smoothing=preset.loss.label_smoothing),
        plain_transform=plain_transform(preset.data),
        autocast=autocast(device, precision),
        data_record=record_of(data),
    )


def stepping(setup: Setup, alerts: EventWriter) -> Callable[[], None]:
    """Return what takes a training step of the first stage, always on the same images; `alerts` is told of memory."""
    stage, batch_size = plan(setup.info.preset)[0], setup.info.preset.train.batch_size
    scaler = GradScaler(setup.device.type, enabled=setup.precision == "fp16")
    stage_optimizer = StageOptimizer(stage, setup.network.parameters(), setup.device, scaler, 1_000_000)
    inputs = InputPipeline(setup, setup.network, alerts.write).train(stage, 0, lambda _event: None)
    stepper, meter = Stepper(setup, alerts, StepTimer(setup.device), None), Meter(setup.device)
    stepper.begin_stage()
    rows = torch.randperm(len(inputs.split))[:batch_size].to(setup.device)
    setup.network.train()

    return lambda: stepper.step(inputs, rows, 0, stage_optimizer, meter)


def _images_per_s(setup: Setup, alerts: Alerts, seconds: float) -> float:
    """Return the images per second of training steps after the first few."""
    step, batch_size = stepping(setup, alerts), setup.info.preset.train.batch_size

    def steps(number: int) -> None:
        for _ in range(number):
            step()

    steps(_WARM_UPS.get(setup.device.type, 1))
    at_once = max(1, int(seconds / _NUM_ROUNDS / _timed(lambda: steps(1), setup.device)))
    times = [_timed(lambda: steps(at_once), setup.device) for _ in range(_NUM_ROUNDS if at_once > 1 else 3)]
    return at_once * batch_size / statistics.median(times)


def main(argv: list[str] | None = None) -> int:
    """Measure, and print; return 2 if the device is absent."""
    parser = argparse.ArgumentParser(prog="engine.training.benchmark")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=1.5, help="for each preset and option")
    asked = parser.parse_args(argv)
    try:
        for line in measure(choose_device(asked.device), asked.seconds):
            print(msgspec.json.encode(line).decode(), flush=True)
    except CifartuiError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
