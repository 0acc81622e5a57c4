"""Process `python -m engine.training.export_model RUN_FOLDER FILE --format F`: writes a run's network for others.

Writes FILE, loads it again, and compares it with the network on validation images. Prints `Doing`s in JSON, a line
each, and then an `Exported`; a sentence on stderr, exit 2 and no FILE if it cannot, or if they differ. On the
processor, in float32. Writes nothing else.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import cast

import msgspec
import torch
from torch import Tensor, nn

from engine.data.augment import mean_and_std
from engine.data.load import load_some_of_val
from engine.journal.events import DataProgressed
from engine.models.build import build_unfilled
from engine.models.library_names import installed, library_call, named, unnamed
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
from engine.training.checkpoint_checks import data_of
from engine.training.export_checks import Checked, compare, with_resized
from engine.training.export_formats import onnx_library, reload, write, write_tensors
from engine.training.preprocessing import Preprocessed
from engine.training.trained_network import TrainedNetwork, load_trained, metrics_of, read_weights
from engine.training.validation import logits_of
from presets.errors import CifartuiError
from presets.schema import Preset

NUM_CHECKED = 256
_BATCHES = (1, 15)
"""Images of the first batch that is compared, and of the others: few, for GoogLeNet at 128 px takes 0.1 GB an image."""
_NUM_RESIZED = 32


class Doing(msgspec.Struct, frozen=True):
    """Progress of this process, in a few words."""

    doing: str


Tell = Callable[[str], object]
"""Takes a text of progress."""


def _say_nothing(_text: str) -> None:
    """Take a text of progress."""


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
    tell: Tell = _say_nothing,
) -> Exported:
    """Write a run's network to `path` and check it, telling progress. The file is removed if it is not as it should be.

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
    tell("loading the network")
    trained = load_trained(folder, "last" if which == "last" else "best", "cpu")
    trained = replace(trained, precision="fp32", autocast=nullcontext)  # as a file computes, also of a run in bf16
    torch.manual_seed(0)
    network = plain(trained.network)
    record = record_of(folder, trained, kind, with_preprocessing=with_preprocessing)
    images, why_random = images_to_check(trained.info, data_dir, trained.stored_size, tell)
    try:
        checked = write_and_check(kind, network, trained, record, images, path, tell)
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
    data, started = data_of(state), folder.read_state().started
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
        versions=installed("cifartui", "torch", "torchvision", "timm", "onnx", "onnxscript"),
        trained_with=started.versions if started is not None else {},
    )


def _library_of(preset: Preset) -> LibraryRecord | None:
    called = library_call(preset.model, preset.data.image_size)
    if called is None:
        return None
    source, name, options = called
    return LibraryRecord(source="timm" if source == "timm" else "torchvision", name=name, options=options)


def images_to_check(info: RunInfo, data_dir: str | None, size: int, tell: Tell) -> tuple[Tensor, str]:
    """Return validation images uint8 [N, 3, size, size], from all over the split; or noise, and a clause why."""

    def report(event: DataProgressed) -> None:
        tell(f"reading validation images: {event.phase} {event.done / (event.total or event.done or 1):.0%}")

    try:
        data = info.preset.data
        return load_some_of_val(data, data_dir or info.data_dir, info.seed, NUM_CHECKED, report), ""
    except CifartuiError as error:
        noise = torch.randint(0, 256, (NUM_CHECKED, 3, size, size), dtype=torch.uint8)
        return noise, str(error).rstrip(".")


def write_and_check(
    kind: Format,
    network: nn.Module,
    trained: TrainedNetwork,
    record: ExportRecord,
    images: Tensor,
    path: Path,
    tell: Tell = _say_nothing,
) -> Checked:
    """Write a file, load it again, and compare it with the network.

    Args:
        kind: the format.
        network: in eval mode on the CPU, without gradients.
        trained: what images go through on their way to it.
        record: goes into the file.
        images: uint8 [N, 3, S, S], S being `trained.stored_size`.
        path: of the file.
        tell: is told of progress.

    Raises:
        CifartuiError: the format cannot hold it, or they differ by more than rounding.
    """
    tell(f"writing {kind}")
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
        expected: list[Tensor] = []
        found: list[Tensor] = []
        for batch in _batches(images):
            tell(f"comparing: {sum(len(each) for each in found):,} of {len(images):,} images")
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
            checked = with_resized(checked, module, trained, run, images[:_NUM_RESIZED])
    return checked


def _input(record: ExportRecord) -> tuple[int, int, int, int]:
    assert record.input.side is not None
    return 2, 3, record.input.side, record.input.side


def _batches(images: Tensor) -> list[Tensor]:
    """Return images in batches of several sizes: a graph that holds that of its example fails with another."""
    first, usual = _BATCHES
    rest = images[first:]
    return [images[:first], *(rest[at : at + usual] for at in range(0, len(rest), usual))]


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

    def tell(text: str) -> None:
        print(msgspec.json.encode(Doing(text)).decode(), flush=True)

    try:
        exported = export(
            RunDir(asked.folder), asked.file, asked.format,
            which=asked.checkpoint, data_dir=asked.data_dir, with_preprocessing=asked.with_preprocessing, tell=tell,
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
