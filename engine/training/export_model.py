"""Process `python -m engine.training.export_model RUN_FOLDER FILE --format F`: writes a run's network for others.

Writes FILE, loads it again, and compares it with the network on validation images. Prints one JSON object; a sentence
on stderr, exit 2 and no FILE if it cannot, or if they differ. On the processor, in float32. Writes nothing else.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from engine.data.augment import mean_and_std
from engine.data.image_pixels import square_of
from engine.data.load import load
from engine.journal.events import DataProgressed
from engine.models.build import build_unfilled
from engine.models.library_names import library_call, named, unnamed
from engine.runs.export_record import (
    SUFFIXES,
    ExportRecord,
    Format,
    InputRecord,
    LibraryRecord,
    PreprocessingRecord,
    fingerprint_of,
    without_paths,
)
from engine.runs.run_dir import RunDir, RunInfo
from engine.shared.data_locations import locate
from engine.training.checkpoint_checks import data_of
from engine.training.export_formats import Runner, onnx_library, reload, write, write_tensors
from engine.training.preprocessing import Preprocessed
from engine.training.trained_network import TrainedNetwork, load_trained, metrics_of, read_weights
from engine.training.validation import logits_of
from presets.errors import CifartuiError
from presets.schema import Preset

NUM_CHECKED = 256
ROUNDING = 1e-4
"""Of the largest logit, if that is above 1: float32 sums in another order differ by less (docs/export.md)."""
_BATCHES = (1, 63)
"""Images of the first batches that are compared; the others have as many as the last of these."""
_SIDES = ((1.3, 1.7), (0.8, 0.6))
"""Height and width of the images with which the preparation in a graph is checked, by the stored size."""
_NUM_RESIZED = 32


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """Comparison of a file with the network that it was made of.

    Attributes:
        num_images: compared, those of other sizes not counted.
        is_random: they are noise, because the run's data is not here; `why_random` says why.
        largest_difference: of two logits.
        largest_logit: of the network, by absolute value.
        num_agreeing: images with the same top class.
        largest_level: by which a resized image differs from Pillow's, of 255; None if the file resizes none.
        share_of_levels: of the values of resized images that differ.
        resized_difference: of two logits, with images that the file and Pillow resize.
        resized_agreeing: of `num_resized` images, those with the same top class.
        num_resized: images of other sizes than the stored one.
    """

    num_images: int
    is_random: bool
    why_random: str = ""
    largest_difference: float
    largest_logit: float
    num_agreeing: int
    largest_level: int | None = None
    share_of_levels: float | None = None
    resized_difference: float | None = None
    resized_agreeing: int | None = None
    num_resized: int = 0


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of this process: the record in the file, its size in bytes, and how it was checked."""

    record: ExportRecord
    num_bytes: int
    checked: Checked


def export(
    folder: RunDir,
    path: Path,
    kind: Format,
    *,
    which: str = "best",
    data_dir: str | None = None,
    with_preprocessing: bool = False,
) -> Exported:
    """Write a run's network to `path` and check it. The file is removed if it is not as it should be.

    Raises:
        CifartuiError: there are no weights, the format cannot hold the network, or the file differs from it.
    """
    if kind == "safetensors" and with_preprocessing:
        raise CifartuiError(
            "A safetensors file holds tensors and no operations: leave --with-preprocessing out, or choose --format "
            "onnx, pt2 or torchscript."
        )
    if kind == "onnx":
        onnx_library()
    trained = load_trained(folder, "last" if which == "last" else "best", "cpu")
    torch.manual_seed(0)
    network = plain(trained.network)
    record = record_of(folder, trained, kind, with_preprocessing=with_preprocessing)
    images, why_random = images_to_check(trained.info, data_dir, trained.stored_size)
    try:
        checked = write_and_check(kind, network, trained, record, images, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    checked = msgspec.structs.replace(checked, is_random=bool(why_random), why_random=why_random)
    return Exported(record=record, num_bytes=path.stat().st_size, checked=checked)


def plain(network: nn.Module) -> nn.Module:
    """Return a network as a graph is made of it: no gradients, no frozen part, tensors in their usual order."""
    if (freeze := getattr(network, "freeze", None)) is not None:
        freeze(False)
    return network.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)


def record_of(folder: RunDir, trained: TrainedNetwork, kind: Format, *, with_preprocessing: bool) -> ExportRecord:
    """Return what a file says of itself."""
    info, preset = trained.info, trained.info.preset
    _, state = read_weights(folder, info, trained.checkpoint)
    data = data_of(state)
    mean, std = mean_and_std(preset.data)
    return ExportRecord(
        run=info.id,
        preset_name=info.preset_name,
        checkpoint=trained.checkpoint,
        epoch=trained.epoch,
        global_step=trained.global_step,
        is_average=trained.is_average,
        classes=trained.class_names,
        input=InputRecord(
            dtype="uint8" if with_preprocessing else "float32",
            side=None if with_preprocessing else preset.data.image_size,
        ),
        preprocessing=PreprocessingRecord(
            stored_size=trained.stored_size,
            evaluate=tuple(msgspec.json.encode(operation).decode() for operation in preset.data.evaluate),
            image_size=preset.data.image_size,
            mean=cast("tuple[float, float, float]", mean),
            std=cast("tuple[float, float, float]", std),
            flip_average=preset.train.flip_average,
            in_graph=with_preprocessing,
        ),
        preset=without_paths(preset),
        metrics=metrics_of(folder, trained),
        data=None if data is None else fingerprint_of(data),
        library=_library_of(preset) if kind == "safetensors" else None,
        versions=_versions(),
    )


def _library_of(preset: Preset) -> LibraryRecord | None:
    called = library_call(preset.model, preset.data.image_size)
    if called is None:
        return None
    source, name, options = called
    return LibraryRecord(source="timm" if source == "timm" else "torchvision", name=name, options=options)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("cifartui", "torch", "torchvision", "timm", "onnx", "onnxscript"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def images_to_check(info: RunInfo, data_dir: str | None, size: int) -> tuple[Tensor, str]:
    """Return validation images uint8 [N, 3, size, size], from all over the split; or noise, and a clause why."""
    try:
        location = locate(info.preset.data, data_dir or info.data_dir)
        if location.kind == "absent":
            raise CifartuiError(location.text)
        val = load(info.preset.data, data_dir or info.data_dir, info.seed, _ignore).val.images
        rows = torch.linspace(0, len(val) - 1, min(NUM_CHECKED, len(val))).long()
        return val[rows].contiguous(), ""
    except CifartuiError as error:
        noise = torch.randint(0, 256, (NUM_CHECKED, 3, size, size), dtype=torch.uint8)
        return noise, str(error).rstrip(".")


def _ignore(_event: DataProgressed) -> None:
    """Ignore progress: the data was read when the run was trained."""


def write_and_check(
    kind: Format, network: nn.Module, trained: TrainedNetwork, record: ExportRecord, images: Tensor, path: Path
) -> Checked:
    """Write a file, load it again, and compare it with the network.

    Args:
        kind: the format.
        network: in eval mode on the CPU, without gradients.
        trained: what images go through on their way to it.
        record: goes into the file.
        images: uint8 [N, 3, S, S], S being `trained.stored_size`.
        path: of the file.

    Raises:
        CifartuiError: the format cannot hold it, or they differ by more than rounding.
    """
    preset, in_graph = trained.info.preset, record.preprocessing.in_graph
    module = Preprocessed(network, preset.data, flip_average=preset.train.flip_average).eval() if in_graph else network
    if kind == "safetensors":
        write_tensors(named(network), record, path)
    else:
        size = trained.stored_size
        example = torch.zeros(2, 3, size + 3, size + 5, dtype=torch.uint8) if in_graph else torch.zeros(_input(record))
        write(kind, module, example, (0, 2, 3) if in_graph else (0,), record, path)

    def fresh(tensors: Mapping[str, Tensor]) -> nn.Module:
        again = build_unfilled(preset.model, len(record.classes), preset.data.image_size)
        again.load_state_dict(unnamed(again, tensors))
        return again.eval()

    run = reload(kind, path, fresh)
    with torch.inference_mode():
        expected, found = [], []
        for batch in _batches(images):
            inputs = batch if in_graph else trained.transform(batch)
            expected.append(
                logits_of(network, batch, trained.transform, trained.autocast, flip_average=preset.train.flip_average)
                if in_graph
                else network(inputs)
            )
            found.append(run(inputs))
        checked = compare(torch.cat(expected), torch.cat(found))
        if in_graph:
            assert isinstance(module, Preprocessed)
            checked = _with_resized(checked, module, trained, run, images[:_NUM_RESIZED])
    return checked


def _input(record: ExportRecord) -> tuple[int, int, int, int]:
    assert record.input.side is not None
    return 2, 3, record.input.side, record.input.side


def _batches(images: Tensor) -> list[Tensor]:
    """Return images in batches of several sizes: a graph that holds that of its example fails with another."""
    first, usual = _BATCHES
    rest = images[first:]
    return [images[:first], *(rest[at : at + usual] for at in range(0, len(rest), usual))]


def compare(expected: Tensor, found: Tensor) -> Checked:
    """Return how logits of a file, [N, C], differ from those expected.

    Raises:
        CifartuiError: by more than float32 numbers that are added in another order.
    """
    if found.shape != expected.shape:
        raise CifartuiError(
            f"The file was not kept: it gives {tuple(found.shape)} logits, not {tuple(expected.shape)}; choose another "
            "--format."
        )
    expected, found = expected.double(), found.double()
    difference, largest = float((expected - found).abs().max()), float(expected.abs().max())
    num_agreeing = int((expected.argmax(1) == found.argmax(1)).sum())
    if not difference <= ROUNDING * max(1.0, largest):  # also if one of them is no number
        raise CifartuiError(
            f"The file was not kept: loaded again, its logits differ from the network's by up to {difference:.2g} on "
            f"{len(expected)} images, and rounding explains {ROUNDING * max(1.0, largest):.2g}; choose another "
            "--format."
        )
    return Checked(
        num_images=len(expected),
        is_random=False,
        largest_difference=difference,
        largest_logit=largest,
        num_agreeing=num_agreeing,
    )


@dataclass
class _Resized:
    """Comparison with Pillow so far."""

    largest_level: float = 0.0
    num_values: int = 0
    num_differing: int = 0
    difference: float = 0.0
    num_agreeing: int = 0
    num_images: int = 0


def _with_resized(
    checked: Checked, module: Preprocessed, trained: TrainedNetwork, run: Runner, images: Tensor
) -> Checked:
    """Return the comparison with that of images of other sizes, which the file resizes itself and Pillow resizes.

    Raises:
        CifartuiError: the file differs from the same operations in torch.
    """
    found, size = _Resized(), trained.stored_size
    for tall, wide in _SIDES:
        sides = max(1, round(wide * size)), max(1, round(tall * size))
        pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()).resize(sides) for image in images]
        pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)
        pixels = pixels.contiguous()
        squares = torch.from_numpy(np.stack([square_of(picture, size) for picture in pictures])).permute(0, 3, 1, 2)
        levels = (module.squares(pixels) - squares.float()).abs()
        flip_average = trained.info.preset.train.flip_average
        by_pillow = logits_of(
            trained.network, squares.contiguous(), trained.transform, trained.autocast, flip_average=flip_average
        )
        by_file = run(pixels)
        compare(module(pixels), by_file)
        found.largest_level = max(found.largest_level, float(levels.max()))
        found.num_values += levels.numel()
        found.num_differing += int((levels > 0).sum())
        found.difference = max(found.difference, float((by_pillow - by_file).abs().max()))
        found.num_agreeing += int((by_pillow.argmax(1) == by_file.argmax(1)).sum())
        found.num_images += len(images)
    return msgspec.structs.replace(
        checked,
        largest_level=round(found.largest_level),
        share_of_levels=found.num_differing / found.num_values,
        resized_difference=found.difference,
        resized_agreeing=found.num_agreeing,
        num_resized=found.num_images,
    )


def main() -> int:
    """Export as the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(prog="engine.training.export_model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--format", choices=sorted(SUFFIXES), required=True)
    parser.add_argument("--checkpoint", choices=["best", "last"], default="best")
    parser.add_argument("--data-dir")
    parser.add_argument("--with-preprocessing", action="store_true")
    asked = parser.parse_args()
    try:
        exported = export(
            RunDir(asked.folder), asked.file, asked.format,
            which=asked.checkpoint, data_dir=asked.data_dir, with_preprocessing=asked.with_preprocessing,
        )  # fmt: skip
    except CifartuiError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"The file cannot be written ({error.strerror or error}); name one in a folder of yours.", file=sys.stderr
        )
        return 2
    print(msgspec.json.encode(exported).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
