"""Network of an exported file, ONNX or safetensors: its weights, and the path of an image through it.

A file may be a stranger's. Of safetensors only numbers are read, for a network that is built from the preset in it.
ONNX is a graph that onnxruntime interprets; data in other files, which such a graph may name, is not read. .pt2 and
TorchScript are never loaded: torch.export.load unpickles without limits and evaluates expressions, and a TorchScript
program may write files.
"""

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from engine import files
from engine.data.augment import plain_transform
from engine.data.image_pixels import background_of
from engine.data.load import stored_size
from engine.models.build import build_on_meta, build_unfilled
from engine.models.library_names import unnamed
from engine.runs.export_record import INPUT, KEY, OUTPUT, ExportRecord, MetricsRecord, read_record
from engine.runs.run_dir import RunInfo
from engine.training.checkpoint_checks import check_weights
from engine.training.device import autocast, choose_device, choose_precision
from engine.training.export_formats import onnx_library, onnx_runner, onnx_session
from engine.training.setup import flops_of
from engine.training.trained_network import TrainedNetwork
from presets.errors import CifartuiError
from presets.problems import printable

Prepare = Callable[[torch.device, RunInfo], object]


class OnnxNetwork(nn.Module):
    """An ONNX graph as a module: from images as its file takes them to logits float32 [B, C], on the CPU."""

    def __init__(self, session: Any, path: Path, num_classes: int) -> None:
        """Run the graph of `session`, from the file `path`, which has so many classes."""
        super().__init__()
        self._run = onnx_runner(session)
        self._path, self._num_classes = path, num_classes

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of a batch.

        Raises:
            CifartuiError: the graph fails, or gives something else.
        """
        try:
            logits = self._run(images)
        except Exception as error:  # of onnxruntime, which has many kinds
            raise CifartuiError(
                f"{printable(str(self._path))} cannot be run ({printable(' '.join(str(error).split()), 200)}): "
                "export the run again."
            ) from error
        if logits.shape != (len(images), self._num_classes):
            raise _other_than_said(self._path)
        return logits


def load_exported(
    path: Path, device_asked: str, prepare: Prepare = lambda _device, _info: None
) -> tuple[TrainedNetwork, MetricsRecord]:
    """Load the network of an exported file, with what training measured of it; see `load_trained`.

    Raises:
        CifartuiError: the file is damaged, not one of cifartui's, or there is no such device.
    """
    if path.suffix == ".onnx":
        return _load_onnx(path, device_asked)
    return _load_safetensors(path, device_asked, prepare)


def _load_safetensors(path: Path, device_asked: str, prepare: Prepare) -> tuple[TrainedNetwork, MetricsRecord]:
    try:
        os.close(files.open_to_read(path))  # a pipe is no file
        with safe_open(path, framework="pt") as opened:
            text = (opened.metadata() or {}).get(KEY)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dict
    except Exception as error:  # of a damaged header, of the disk
        raise _damaged(path, error) from error
    record = read_record(text, path)
    preset, num_classes = record.preset, len(record.classes)
    try:
        shapes = build_on_meta(preset.model, num_classes, preset.data.image_size)
        weights = unnamed(shapes, tensors)
        check_weights(weights, shapes)
    except ValueError as error:
        raise CifartuiError(f"{printable(str(path))} does not fit its own preset: {error}.") from error
    info = _info(record)
    device = choose_device(device_asked)
    prepare(device, info)
    with torch.random.fork_rng(devices=[]):
        network = build_unfilled(preset.model, num_classes, preset.data.image_size)
    network.load_state_dict(weights)
    precision = choose_precision(preset.train.precision, device, lambda: flops_of(preset))
    network = network.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return _trained(path, record, info, network, device, precision), record.metrics


def _load_onnx(path: Path, device_asked: str) -> tuple[TrainedNetwork, MetricsRecord]:
    onnx_library()
    if device_asked not in ("auto", "cpu"):
        raise CifartuiError(
            f"An ONNX file runs on the processor here: take --device cpu, not {printable(device_asked)}."
        )
    try:
        with os.fdopen(files.open_to_read(path), "rb") as file:
            content = file.read()
        _check_alone(content)
        session = onnx_session(content)
        text = session.get_modelmeta().custom_metadata_map.get(KEY)
        (given,), (returned,) = session.get_inputs(), session.get_outputs()
    except CifartuiError as error:
        raise CifartuiError(f"{printable(str(path))} {error}") from None
    except Exception as error:  # of a damaged graph, of the disk
        raise _damaged(path, error) from error
    record = read_record(text, path)
    kind = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}[record.input.dtype]
    sides = [record.input.side] * 2 if record.input.side is not None else given.shape[2:]
    fits = (
        (given.name, given.type, given.shape[1:]) == (INPUT, kind, [3, *sides])
        and (returned.name, returned.type, returned.shape[1:]) == (OUTPUT, "tensor(float)", [len(record.classes)])
        and record.preprocessing.in_graph == (record.input.dtype == "uint8")
    )
    if not fits:
        raise _other_than_said(path)
    device, network = torch.device("cpu"), OnnxNetwork(session, path, len(record.classes)).eval()
    return _trained(path, record, _info(record), network, device, "fp32"), record.metrics


def _other_than_said(path: Path) -> CifartuiError:
    return CifartuiError(f"{printable(str(path))} takes or gives something else than it says: export the run again.")


def _check_alone(content: bytes) -> None:
    """Raise CifartuiError, with a clause, if a graph takes numbers from another file."""
    import onnx
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    if any(map(uses_external_data, _get_all_tensors(onnx.load_from_string(content)))):
        raise CifartuiError("takes numbers from another file, which is not read: export the run again.")


def _damaged(path: Path, error: Exception) -> CifartuiError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged or of another kind"
    return CifartuiError(f"{printable(str(path))} cannot be loaded ({reason}): export the run again.")


def _info(record: ExportRecord) -> RunInfo:
    return RunInfo(
        id=record.run, preset_name=record.preset_name, preset=record.preset, seed=0, device="auto", created=0.0, host=""
    )


def _trained(
    path: Path, record: ExportRecord, info: RunInfo, network: nn.Module, device: torch.device, precision: str
) -> TrainedNetwork:
    data, in_graph = record.preset.data, record.preprocessing.in_graph
    return TrainedNetwork(
        info=info,
        checkpoint=record.checkpoint,
        epoch=record.epoch,
        global_step=record.global_step,
        is_average=record.is_average,
        class_names=record.classes,
        network=network,
        device=device,
        precision=precision,
        autocast=nullcontext if in_graph else autocast(device, precision),
        transform=_unchanged if in_graph else plain_transform(data),
        stored_size=stored_size(data),
        background=background_of(data),
        flip_average=record.preset.train.flip_average and not in_graph,
        name=path.name,
    )


def _unchanged(images: Tensor) -> Tensor:
    return images
