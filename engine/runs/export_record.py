"""Record inside an exported model's file: classes, preprocessing, preset, accuracy, fingerprint of the data. No torch.

It is one JSON text, under the name that `KEY` or `FILE` says. A file may be a stranger's: it is decoded into typed
Structs.
"""

import hashlib
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from engine.files import DAMAGED
from engine.journal.data_record import DataRecord, same_name
from presets.errors import CifartuiError
from presets.problems import printable
from presets.schema import Preset

Format: TypeAlias = Literal["onnx", "pt2", "torchscript", "safetensors"]
SUFFIXES: dict[str, str] = {
    "onnx": ".onnx",
    "pt2": ".pt2",
    "torchscript": ".torchscript",
    "safetensors": ".safetensors",
}
"""Ending of a file of each format."""
KEY = "cifartui"
"""Name of the record in ONNX's metadata_props and in safetensors' __metadata__."""
FILE = "cifartui.json"
"""Name of the record among the extra files of TorchScript and of torch.export."""
INPUT, OUTPUT = "images", "logits"
"""Names of an ONNX graph's input and output."""
VERSION = 1
_Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
_Share: TypeAlias = Annotated[float, Meta(ge=0.0, le=1.0)] | None


class InputRecord(Struct, frozen=True, kw_only=True):
    """Input of an exported network, a batch of any size: [N, 3, H, W], red, green, blue.

    Attributes:
        dtype: float32 if images are normalised before, uint8 (0 to 255) if the file does that.
        side: H and W in pixels; None if they are any.
    """

    dtype: Literal["float32", "uint8"]
    side: Annotated[int, Meta(ge=1, le=2**16)] | None


class PreprocessingRecord(Struct, frozen=True, kw_only=True):
    """Way of a validation image to the network: in this order.

    Attributes:
        stored_size: the shorter side is resized to so many pixels, antialiased bilinear, rounded to whole levels, and
            the middle square cut out.
        evaluate: operations after that, as the preset writes them; then a resize to `image_size`.
        image_size: side in pixels of the network's input.
        mean: subtracted from values in [0, 1].
        std: divided by.
        flip_average: the logits that evaluation goes by are the mean over the image and its mirror image.
        in_graph: the file does all of this itself.
    """

    stored_size: Annotated[int, Meta(ge=1, le=2**16)]
    evaluate: tuple[str, ...]
    image_size: Annotated[int, Meta(ge=1, le=2**16)]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    flip_average: bool
    in_graph: bool


class MetricsRecord(Struct, frozen=True, kw_only=True):
    """Measurements of the exported weights in training; None: not measured. Accuracies are from 0 to 1."""

    val_top1: _Share = None
    val_balanced: _Share = None
    val_loss: float | None = None
    test_top1: _Share = None
    test_balanced: _Share = None
    test_loss: float | None = None


class DataFingerprint(Struct, frozen=True, kw_only=True):
    """Data that the weights were trained on: its name, its numbers of images, and a SHA-256 over names and classes."""

    dataset: str
    num_images: dict[str, _Count]
    """By split: train, val, test."""
    fingerprint: str


class LibraryRecord(Struct, frozen=True, kw_only=True):
    """Network of a library under whose names the tensors of a safetensors file are.

    `options` are what the library's function is given besides the name and the number of classes.
    """

    source: Literal["torchvision", "timm"]
    name: str
    options: dict[str, Any] = {}


class ExportRecord(Struct, frozen=True, kw_only=True):
    """All that a user of an exported model needs to know of it.

    Attributes:
        version: of this record.
        run: id.
        preset_name: of the run.
        checkpoint: the weights, best or last.
        epoch: of the weights.
        global_step: of the weights.
        is_average: true if the weights are a moving average.
        classes: names, in the order of the logits.
        input: what the file takes.
        preprocessing: what happens to an image before it.
        preset: settings that the run was trained with; of paths only the last part.
        metrics: accuracy and loss.
        data: what it was trained on; None of runs of a version without records.
        library: whose names a safetensors file has; None if they are cifartui's.
        versions: of cifartui, torch and the like, when the file was written.
        trained_with: versions that the run's last worker recorded; a library that is not among them was not recorded.
    """

    version: Annotated[int, Meta(ge=1, le=VERSION)] = VERSION
    run: str
    preset_name: str
    checkpoint: Literal["best", "last"]
    epoch: _Count
    global_step: _Count
    is_average: bool
    classes: Annotated[tuple[str, ...], Meta(min_length=1)]
    input: InputRecord
    preprocessing: PreprocessingRecord
    preset: Preset
    metrics: MetricsRecord
    data: DataFingerprint | None = None
    library: LibraryRecord | None = None
    versions: dict[str, str] = {}
    trained_with: dict[str, str] = {}


def fingerprint_of(record: DataRecord) -> DataFingerprint:
    """Return the fingerprint of a run's data."""
    splits = sorted(record.splits.items())
    lines = [*map(same_name, record.class_names), *(f"{name} {each.num_images} {each.digest}" for name, each in splits)]
    return DataFingerprint(
        dataset=record.dataset,
        num_images={name: split.num_images for name, split in splits},
        fingerprint=hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest(),
    )


def without_paths(preset: Preset) -> Preset:
    """Return a preset whose paths, of data, labels and weights, are cut to their last part: files go to others."""

    def cut(named: str | None) -> str | None:
        return PurePath(named).name or None if named else named

    data = msgspec.structs.replace(preset.data, path=cut(preset.data.path), labels=cut(preset.data.labels))
    model = preset.model
    if (weights := getattr(model, "weights", None)) is not None:
        model = msgspec.structs.replace(model, weights=cut(weights))
    return msgspec.structs.replace(preset, data=data, model=model)


def text_of(record: ExportRecord) -> str:
    """Return a record as JSON."""
    return msgspec.json.encode(record).decode()


def read_record(text: str | bytes | None, path: Path) -> ExportRecord:
    """Return the record in the file `path`.

    Raises:
        CifartuiError: there is none, or it is damaged or of a newer version.
    """
    where = printable(str(path))
    if text is None:
        raise CifartuiError(
            f"{where} was not exported by cifartui: it does not say its classes and how images are prepared. Export "
            "the run again with cifartui export."
        )
    try:
        record = msgspec.json.decode(text, type=ExportRecord)
    except DAMAGED as error:
        raise CifartuiError(
            f"What {where} says of itself cannot be read ({printable(str(error))}): it is damaged, or of a newer "
            "version of cifartui; export the run again."
        ) from error
    return record
