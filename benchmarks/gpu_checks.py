"""Rows of the page of `make gpu` that train in their own process: steps, recordings, memory, checkpoints, kernels."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from msgspec.structs import replace
from torch import Tensor

from engine.journal.events import Alerted
from engine.journal.jsonl import read_events
from engine.models.build import build, without_weights
from engine.models.memory import estimate
from engine.shared.step_memory import may_record
from engine.training import benchmark, checkpoint_files
from engine.training.device import choose_precision
from engine.training.input_pipeline import of_epoch
from engine.training.setup import flops_of
from engine.training.trainer import Trainer
from presets import catalog, schema
from tests import every
from tests.pretended_gpu import BakedTape, Waits, taped
from tests.tiny_trainer import PRESET, make

_NUM_IMAGES, _CLASSES = 160, 100
_NETWORK = schema.Vgg(blocks=((8,), (16,)), pools=("max", "avg"), head=(16,), dropout=0.2)
_LARGE = schema.Vgg(blocks=((64,), (128,)), pools=("max", "avg"), head=(256,))
_SCHEDULES = (schema.Linear(), schema.OneCycle())
_CLOSE = 0.02
"""Relative difference of losses: kernels sum in another order, and training makes more of it with every step."""
_ESTIMATED = ("basenet", "vgg-custom", "networks/resnet18", "resnet50-finetune", "recipes/vgg-custom-fast")
_COUNTED = (
    "basenet", "vgg-custom", "recipes/vgg-custom-fast", "recipes/speedrun-75", "networks/resnet18",
    "networks/resnetv2-50x1",
)  # fmt: skip


class Asked(NamedTuple):
    """Device to check, whether little will do, an empty folder, and the seconds after which the row is ended."""

    device: torch.device
    is_short: bool
    folder: Path
    within_s: float


class LeftOut(Exception):
    """Reason why a check makes no sense here."""


def table(heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    shown = [[f"{cell:,.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    lines = [heading, ["---"] * len(heading), *shown]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# --- steps ------------------------------------------------------------------------------------------


@contextmanager
def nothing_waits(device: torch.device) -> Iterator[None]:
    """Raise if the host waits for the device within the context: by CUDA's word, or by the operations on a CPU."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return
    with Waits() as waits:
        yield
    if waits.reads or waits.copies:
        raise RuntimeError(f"the host would wait for {sorted({*waits.reads, *waits.copies})}")


def steps(asked: Asked) -> str:
    """Take 30 steps with every augmentation × optimizer × moving average × mixing, in fp32 and bf16."""
    singly = () if asked.is_short else ((), *((each,) for each in every.AUGMENTATIONS))
    mixes = (schema.Mix(), *every.MIXES)
    failures, number = [], 0
    whole, other = _step_precisions(asked.device)
    in_precisions = (*product((*singly, every.AUGMENTATIONS), (whole,)), (every.AUGMENTATIONS, other))
    for (augment, precision), optimizer, decay, mix in product(in_precisions, every.OPTIMIZERS, (0.0, 0.9), mixes):
        number += 1
        train = replace(PRESET.train, epochs=20, augment=tuple(augment), ema_decay=decay)
        preset = replace(PRESET, model=_NETWORK, train=train, optimizer=optimizer, mix=mix)
        trainer, _ = make(asked.folder / str(number), preset, _NUM_IMAGES, asked.device, precision)
        try:
            batches = _batches(trainer)
            next(batches)  # brings constants to the device, once
            with nothing_waits(asked.device):
                for _ in range(3 if asked.is_short else 29):
                    next(batches)
        except Exception as error:
            names = "+".join(type(each).__name__ for each in augment) or "no augmentation"
            failures.append(f"{names}, {type(optimizer).__name__}, average {decay}, {mix}, {precision}: {error}")
    if failures:
        raise RuntimeError("\n".join((f"{len(failures)} of {number} combinations:", *failures[:20])))
    about = "augmentation, optimizer, moving average and mixing"
    return f"{number} combinations of {about}, in {whole}, {other} with all augmentations: the host waited in none"


def _step_precisions(device: torch.device) -> tuple[str, str]:
    """Return the precision of all combinations, and that of fewer: first the one that is trained in by default.

    Never fp16: its gradient scaler reads from the device in every step whether a gradient was infinite.
    """
    return ("bf16", "fp32") if choose_precision("auto", device, lambda: 0) == "bf16" else ("fp32", "bf16")


def _batches(trainer: Trainer) -> Iterator[Tensor]:
    """Take a step for every yield of its mean loss, on the device."""
    stage = trainer._plan[0]
    inputs = trainer._pipeline.train(stage, 0, lambda _event: None)
    inputs = of_epoch(inputs, trainer._setup.info.preset, stage, 1, 0)
    trainer._setup.network.train()
    order = torch.arange(len(inputs.split), device=inputs.split.images.device)
    batch_size = trainer._batch_size
    while True:
        for start in range(0, len(order), batch_size):
            before = trainer._meter._loss.clone()
            trainer._train_batch(inputs, order[start : start + batch_size])
            trainer.progress.global_step += 1
            yield (trainer._meter._loss - before) / batch_size


def losses(trainer: Trainer, number: int) -> list[float]:
    """Return the mean losses of so many steps."""
    return _taken(_batches(trainer), number)


def _taken(batches: Iterator[Tensor], number: int) -> list[float]:
    return torch.stack([next(batches) for _ in range(number)]).tolist()  # type: ignore[no-any-return]


def recorded(asked: Asked) -> str:
    """Compare recorded steps with plain ones; on a CPU by a recorder that keeps numbers as a graph does."""
    number, rows = (12 if asked.is_short else 200), []
    device = asked.device
    if device.type == "cuda":
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    for optimizer, schedule, mix in product(every.OPTIMIZERS, _SCHEDULES, (schema.Mix(), every.MIXES[-1])):
        train = replace(PRESET.train, epochs=20, alternating_flip=mix.is_on)
        preset = replace(PRESET, optimizer=optimizer, schedule=schedule, train=train, mix=mix)
        graphs = replace(preset, train=replace(preset.train, cuda_graphs=True))
        found = []
        for attempt, is_recorded in enumerate((False, False, True)):  # twice alike: what no recording explains
            table_of = graphs if is_recorded else preset
            trainer, folder = make(asked.folder / f"{len(rows)}-{attempt}", table_of, _NUM_IMAGES, device)
            if is_recorded and device.type != "cuda":
                trainer._stepper._recorded = taped(trainer, BakedTape())
            if (trainer._stepper._recorded is not None) != is_recorded:
                raise RuntimeError("steps are not recorded")
            found.append(losses(trainer, number))
            if said := [event.text for event in read_events(folder.events) if isinstance(event, Alerted)]:
                raise RuntimeError(f"{type(optimizer).__name__}, {type(schedule).__name__}: {' '.join(said)}")
        again, furthest = (_furthest(found[0], other) for other in found[1:])
        mixed = "mixed, mirrored" if mix.is_on else ""
        rows.append((type(optimizer).__name__, type(schedule).__name__, mixed, f"{furthest:.1e}", f"{again:.1e}"))
        if not furthest < max(_CLOSE, 3 * again):
            raise RuntimeError("\n".join(("recorded steps train otherwise:", table(_RECORDED, rows))))
    allowed = f"ok below {_CLOSE:.1e}, or three times what eager steps differ by when they are taken again"
    return f"{number} losses of each; {allowed}:\n\n" + table(_RECORDED, rows)


def _furthest(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the largest relative difference of losses; infinite if one is no number."""
    differences = [abs(a - b) / abs(a) for a, b in zip(one, other, strict=True)]
    return max(differences) if all(map(math.isfinite, differences)) else math.inf


_RECORDED = ("optimizer", "schedule", "images", "largest relative difference", "of eager steps, taken again")


def compiled(asked: Asked) -> str:
    """Compare compiled steps with plain ones."""
    if asked.is_short:
        raise LeftOut("compiling takes a minute; the tests have it: tests/unit/test_step.py")
    preset = replace(PRESET, train=replace(PRESET.train, compile="default"))
    plain = losses(make(asked.folder / "plain", PRESET, _NUM_IMAGES, asked.device)[0], 20)
    trainer, _ = make(asked.folder / "compiled", preset, _NUM_IMAGES, asked.device)
    batches, began = _batches(trainer), time.monotonic()
    found = _taken(batches, 1)
    seconds = time.monotonic() - began
    found += _taken(batches, 19)
    furthest = _furthest(plain, found)
    if not furthest < _CLOSE:
        raise RuntimeError(f"20 losses differ from uncompiled ones by up to {furthest:.1e}")
    last = f"the last is {found[-1]:.3f}, {plain[-1]:.3f} uncompiled"
    return f"first step {seconds:.1f} s; 20 losses differ by up to {furthest:.1e} (ok below {_CLOSE:.1e}); {last}"


# --- memory -----------------------------------------------------------------------------------------


def halving(asked: Asked) -> str:
    """Let memory run out: half as many images have to go through at once, plainly, compiled and recorded."""
    said, failures = [], []
    for name, options in (("plain", {}), ("compiled", {"compile": "default"}), ("recorded", {"cuda_graphs": True})):
        if name == "compiled" and asked.is_short:
            continue
        if name == "recorded" and asked.device.type != "cuda":
            continue
        batch = 16 if asked.device.type != "cuda" else 512
        train = replace(PRESET.train, batch_size=batch, **options)
        preset = replace(PRESET, model=_LARGE if batch > 16 else _NETWORK, train=train)
        trainer, folder = make(asked.folder / name, preset, 2 * batch, asked.device)
        with _room_for_half(asked.device, trainer, preset):
            final = losses(trainer, 6)[-1]
        alerts = [event.text for event in read_events(folder.events) if isinstance(event, Alerted)]
        at_once = trainer._stepper.at_once.num_images
        told = f"{name}: {at_once} of {batch} images at once, loss {final:.3f}. {' '.join(alerts)}"
        if at_once == batch and name == "compiled":  # which keeps less than the estimate of eager steps
            said.append(f"{name}: not tried: the memory left was enough for {batch} images at once.")
        elif at_once == batch or not math.isfinite(final):
            failures.append(told)
        else:
            said.append(told)
    if failures:
        raise RuntimeError("\n\n".join((*failures, *said)))
    return "\n\n".join(said)


@contextmanager
def _room_for_half(device: torch.device, trainer: Trainer, preset: schema.Preset) -> Iterator[None]:
    """Leave memory for about three quarters of a batch: of the allocator's on CUDA, simulated elsewhere."""
    if device.type != "cuda":
        network, batch = trainer._setup.network, preset.train.batch_size
        with mock.patch.object(network, "forward", _limited(network.forward, batch // 2)):
            yield
        return
    step = estimate(preset, _CLASSES, "fp32")
    held = torch.cuda.memory_allocated(device)
    room = held + step.parameters * 3 + 3 * (step.activations + step.working) // 4
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(device).total_memory, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def _limited(forward: Callable[[Tensor], Tensor], most: int) -> Callable[[Tensor], Tensor]:
    def limited(images: Tensor) -> Tensor:
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory: simulated")
        return forward(images)

    return limited


def memory(asked: Asked) -> str:
    """Compare the estimate of a step's memory with what the allocator held at most."""
    if asked.device.type != "cuda":
        raise LeftOut("only CUDA's allocator counts what it holds")
    precision, rows = choose_precision("auto", asked.device, lambda: 0), []
    for name, graphs in product(_ESTIMATED, (False, True)):
        preset = catalog.load(name)
        if graphs and (precision == "fp16" or not may_record(preset.train, flops_of(preset))):
            continue
        torch.cuda.empty_cache()
        held = torch.cuda.memory_allocated(asked.device)
        torch.cuda.reset_peak_memory_stats(asked.device)
        step, batches, alerts = _step_of(preset, precision, asked.device, graphs=graphs)
        for _ in range(8 if graphs else 3):
            step()
        peak = torch.cuda.max_memory_allocated(asked.device) - held - batches
        found = estimate(preset, _CLASSES, precision)
        expected = found.recorded if graphs else found.total
        rows.append((_shown(name, alerts, graphs=graphs), expected / 1e6, peak / 1e6, peak / expected))
        del step
    measured = f"measured, no limit; the estimate is of training and evaluation, held is a step; in {precision}:\n\n"
    return measured + table(("preset", "estimated MB", "held MB", "held / estimated"), rows)


def _shown(name: str, alerts: benchmark.Alerts, *, graphs: bool) -> str:
    """Return a preset's name, with what became of its recording."""
    if not graphs:
        return name
    return f"{name}, not recorded: {' '.join(alerts.texts)}" if alerts.texts else f"{name}, recorded"


def _step_of(
    preset: schema.Preset, precision: str, device: torch.device, *, graphs: bool = False
) -> tuple[Callable[[], object], int, benchmark.Alerts]:
    """Return what takes a step of a preset on random images, the bytes of these, and what is said of a recording."""
    torch.manual_seed(0)
    preset = replace(preset, train=replace(preset.train, cuda_graphs=graphs))
    network = build(without_weights(preset.model), _CLASSES, preset.data.image_size)
    setup = benchmark.random_setup(device, preset, precision, network)
    alerts = benchmark.Alerts()
    return benchmark.stepping(setup, alerts), setup.data.train.images.nbytes, alerts


def checkpoint(asked: Asked) -> str:
    """Save on the device, go on with it on the CPU, save there, and go on with that on the device."""
    cpu, folder = torch.device("cpu"), asked.folder / "run"
    first, run = make(folder, device=asked.device)
    losses(first, 3)
    _save(first)
    on_cpu, _ = make(folder, device=cpu)
    on_cpu.restore(checkpoint_files.load(run.last))
    for name, tensor in first._setup.network.state_dict().items():
        if not torch.equal(tensor.cpu(), on_cpu._setup.network.state_dict()[name]):
            raise RuntimeError(f"{name} is another one on the CPU")
    loss = losses(on_cpu, 1)[0]
    _save(on_cpu)
    back, _ = make(folder, device=asked.device)
    back.restore(checkpoint_files.load(run.last))
    return f"the same weights; loss {loss:.4f} on the CPU, then {losses(back, 1)[0]:.4f} on {asked.device.type}"


def _save(trainer: Trainer) -> None:
    trainer.progress.step = trainer.progress.global_step
    trainer._save_last()
    trainer._checkpoints.drain()


# --- kernels ----------------------------------------------------------------------------------------


def kernels(asked: Asked) -> str:
    """Count the kernels of a step and how long the device does nothing between them; on a CPU, operations."""
    from torch.profiler import DeviceType, ProfilerActivity, profile

    is_gpu, num_steps = asked.device.type == "cuda", 1 if asked.is_short else 5
    precision = choose_precision("auto", asked.device, lambda: 0)
    rows = []
    names = _COUNTED if is_gpu and not asked.is_short else _COUNTED[:1]
    for name, graphs in product(names, (False, True) if is_gpu and precision != "fp16" else (False,)):
        step, _, alerts = _step_of(catalog.load(name), precision, asked.device, graphs=graphs)
        for _ in range(8 if is_gpu else 1):
            step()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_gpu else [])]
        with profile(activities=activities) as profiled:
            for _ in range(num_steps):
                step()
            if is_gpu:
                torch.cuda.synchronize(asked.device)
        wanted = DeviceType.CUDA if is_gpu else DeviceType.CPU
        events = [event for event in profiled.events() if event.device_type == wanted and not _is_note(event)]
        if not is_gpu:
            events = [event for event in events if event.cpu_parent is None]
        if not events:
            raise LeftOut("the profiler saw nothing of the device")
        busy = sum(event.time_range.elapsed_us() for event in events)
        began, ended = min(event.time_range.start for event in events), max(event.time_range.end for event in events)
        ms = (ended - began) / num_steps / 1e3
        shown = _shown(name, alerts, graphs=graphs)
        rows.append((shown, len(events) // num_steps, ms, f"{busy / (ended - began):.0%}"))
    what = "kernels and copies" if is_gpu else "operations"
    about = f"measured, no limit; in {precision}, batch and image size are the preset's; busy is the time in {what}:"
    return f"{about}\n\n" + table(("preset", f"{what} a step", "ms a step", "busy"), rows)


def _is_note(event: Any) -> bool:
    """Return whether an event is a name that torch puts around others, as around each step of an optimizer."""
    return bool(getattr(event, "is_user_annotation", False))
