"""Files of exported models: written in each format with their record inside, and loaded again as other programs do.

What is loaded here was written a moment before. A stranger's .pt2 is unpickled and evaluated by torch.export.load, and
a stranger's TorchScript is a program: `engine.training.exported_network` loads neither.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from engine.runs.export_record import FILE, INPUT, KEY, OUTPUT, ExportRecord, Format, text_of
from presets.errors import CifartuiError
from presets.problems import printable

ONNX_ADVICE = "install it into this Python with: pip install 'cifartui[onnx]'"
_MOST_ONNX_BYTES = 2**31 - 2**25
"""A file of protobuf has at most 2 GiB, of which the graph takes some megabytes."""
_LONGEST_REASON = 200

Runner = Callable[[Tensor], Tensor]
"""From a batch of inputs on the CPU to logits float32 [B, C]."""


def write(
    kind: Format, module: nn.Module, example: Tensor, free: tuple[int, ...], record: ExportRecord, path: Path
) -> None:
    """Write `module` as a graph, in any format but safetensors.

    Args:
        kind: the format.
        module: in eval mode on the CPU, without gradients.
        example: an input of more than one image.
        free: dimensions of the input that may have another length in every batch.
        record: goes into the file.
        path: of the file.

    Raises:
        CifartuiError: the format cannot hold the network, or a library is missing.
        OSError: the file cannot be written.
    """
    writer = {"onnx": _write_onnx, "pt2": _write_pt2, "torchscript": _write_torchscript}[kind]
    try:
        with torch.no_grad(), _quiet():
            writer(module, example, free, text_of(record), path)
    except (CifartuiError, OSError):
        raise
    except Exception as error:  # of tracers and converters: each has its own kinds
        reason = _reason_of(error)
        others = "safetensors holds every network" if kind == "torchscript" else "torchscript and safetensors may"
        raise CifartuiError(
            f"The network of run {record.run} cannot be written as {kind} ({reason}): choose another --format; "
            f"{others}."
        ) from error


def _reason_of(error: BaseException) -> str:
    """Return the text of the error at the beginning of a chain, on one line: exporters wrap it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return printable(" ".join(str(error).split()) or type(error).__name__, _LONGEST_REASON)


def write_tensors(tensors: Mapping[str, Tensor], record: ExportRecord, path: Path) -> None:
    """Write a state dict as safetensors, on the CPU and each tensor on its own."""
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    path.write_bytes(save(own, {KEY: text_of(record), "format": "pt"}))  # its own writer says no number of an error


def reload(kind: Format, path: Path, fresh: Callable[[Mapping[str, Tensor]], nn.Module]) -> Runner:
    """Load a file that was written here, with the library that others load it with.

    Args:
        kind: the format.
        path: of the file.
        fresh: makes a network of the tensors in a safetensors file.
    """
    with _quiet():
        if kind == "onnx":
            return onnx_runner(onnx_session(path))
        if kind == "safetensors":
            network: Any = fresh(load_file(path))
        elif kind == "pt2":
            network = torch.export.load(path).module()
        else:
            network = _jit().load(path)

    def run(images: Tensor) -> Tensor:
        logits: Tensor = network(images)
        return logits

    return run


def onnx_library() -> Any:
    """Return the module onnxruntime; raise CifartuiError if it, or what writes ONNX, is not installed."""
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ImportError as error:
        raise CifartuiError(f"ONNX needs the library {error.name}: {ONNX_ADVICE}") from error
    del onnx, onnxscript
    return onnxruntime


def onnx_session(model: Path | bytes) -> Any:
    """Return an onnxruntime session on the processor, for a file or for its content."""
    library = onnx_library()
    options = library.SessionOptions()
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    return library.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def onnx_runner(session: Any) -> Runner:
    """Return a function that runs an onnxruntime session."""

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run([OUTPUT], {INPUT: images.cpu().contiguous().numpy()})
        return torch.from_numpy(logits)

    return run


def _write_torchscript(module: nn.Module, example: Tensor, _free: tuple[int, ...], text: str, path: Path) -> None:
    traced = _jit().trace(module, example, check_trace=False)  # it is checked with images afterwards
    content = io.BytesIO()  # torch's writer does not say what failed
    _jit().save(traced, content, _extra_files={FILE: text})
    path.write_bytes(content.getbuffer())


def _jit() -> Any:
    """Return torch.jit, whose functions carry no types."""
    return torch.jit


def _exported(module: nn.Module, example: Tensor, free: tuple[int, ...]) -> Any:
    names = {0: "batch", 2: "height", 3: "width"}
    dimensions = {place: torch.export.Dim(names[place], min=1) for place in free}
    return torch.export.export(module, (example,), dynamic_shapes=(dimensions,))


def _write_pt2(module: nn.Module, example: Tensor, free: tuple[int, ...], text: str, path: Path) -> None:
    content = io.BytesIO()  # as above
    torch.export.save(_exported(module, example, free), content, extra_files={FILE: text})
    path.write_bytes(content.getbuffer())


def _write_onnx(module: nn.Module, example: Tensor, free: tuple[int, ...], text: str, path: Path) -> None:
    onnx_library()
    tensors = [*module.parameters(), *module.buffers()]
    num_bytes = sum(each.numel() * each.element_size() for each in tensors)
    if num_bytes > _MOST_ONNX_BYTES:
        raise CifartuiError(
            f"The network has {num_bytes / 2**30:.1f} GiB, and an ONNX file holds 2 GiB at most: choose --format pt2, "
            "torchscript or safetensors."
        )
    program: Any = torch.onnx.export(
        _exported(module, example, free), dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False
    )
    program.model.metadata_props[KEY] = text
    program.save(path, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch's converters print, and their warnings of deprecation, from whoever reads an answer."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
