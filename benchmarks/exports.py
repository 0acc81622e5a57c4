"""Every network in every export format: largest difference and agreement on 256 images, as a table in Markdown.

python -m benchmarks.exports [WORD...] [--images 256] [--formats onnx,pt2,torchscript,safetensors] [--output FILE]

Networks of the shipped presets, a row for each [model] table, at the size of their images; of the libraries'
backbones those whose names hold a WORD, at the smallest size that they take of 64, 96 and 224 px. A network that cannot
be had has a row with the reason. Weights are random, BatchNorm has statistics of the images, which are blurred noise. A
second row of a preset, "uint8", is `--with-preprocessing`. Each file is checked as `cifartui export` checks it. Takes
seconds to minutes a network. Rows are added to FILE as they are measured, and those that it has are not measured again.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import cast, get_args

import msgspec
import torch
from torch import Tensor, nn

from engine.data.augment import mean_and_std, plain_transform
from engine.data.geometry import resize
from engine.data.load import stored_size
from engine.models.build import build_unfilled, without_weights
from engine.runs.export_record import (
    SUFFIXES,
    ExportRecord,
    Format,
    InputRecord,
    MetricsRecord,
    PreprocessingRecord,
)
from engine.runs.run_dir import RunInfo
from engine.training.export_checks import Checked
from engine.training.export_model import plain, write_and_check
from engine.training.trained_network import TrainedNetwork
from presets import backbones, catalog
from presets.errors import CifartuiError
from presets.schema import Backbone, Data, Model, Preset, Sgd, Train

_NUM_CLASSES = 100
_LARGEST_LOGIT = 10
"""About that of a trained network."""
_SIZES = (64, 96, 224)
_USUAL_SIZE = 224
"""Side in pixels for a library's network that refuses a smaller one: MaxViT divides its maps by seven."""
_REFUSALS = (CifartuiError, RuntimeError, ValueError, AssertionError)
"""Errors of a network that is built for, or given, images of a size that it does not take."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--formats", default=",".join(get_args(Format)))
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    kinds = asked.formats.split(",")
    known = asked.output.read_text(encoding="utf-8") if asked.output is not None and asked.output.exists() else ""
    print("| network | px | " + " | ".join(kinds) + " |")
    print("|---|---|" + "---|" * len(kinds), flush=True)
    for name, preset in [*_of_presets(asked.words), *_of_libraries(asked.words)]:
        for in_graph in (False,) if isinstance(preset.model, Backbone) else (False, True):
            row = _row(name, preset, kinds, asked.images, known, in_graph=in_graph)
            if row is None:
                continue
            print(row, flush=True)
            if asked.output is not None:
                with asked.output.open("a", encoding="utf-8") as file:
                    file.write(f"{row}\n")


def _row(
    name: str, preset: Preset, kinds: list[str], num_images: int, known: str, *, in_graph: bool = False
) -> str | None:
    """Return the row of a network, with the reason where there is none; None if `known` has it."""
    heads = [f"| {name}{', uint8' if in_graph else ''} | {size} | " for size in (preset.data.image_size, _USUAL_SIZE)]
    if heads[0] in known:
        return None
    try:
        head, network = heads[0], random_network(preset)
    except _REFUSALS as error:
        if heads[1] in known:
            return None
        why = error
        try:
            if not isinstance(preset.model, Backbone):
                raise
            preset = _preset(preset.model, _USUAL_SIZE)
            head, network = heads[1], random_network(preset)
        except _REFUSALS:
            reason = " ".join(str(why).split()).replace("|", "\\|")
            return heads[0] + " | ".join([reason] * len(kinds)) + " |"
    cells = [_cell(cast("Format", kind), preset, network, num_images, in_graph=in_graph) for kind in kinds]
    return head + " | ".join(cells) + " |"


def _of_presets(words: list[str]) -> Iterator[tuple[str, Preset]]:
    """Yield the shipped presets' networks; those that differ in pretrained weights or a frozen part only are one."""
    seen = set()
    for listed in catalog.list_presets():
        if words and not any(word in listed.name for word in words):
            continue
        preset = catalog.load(listed.name)
        model = without_weights(preset.model)
        if hasattr(model, "frozen"):
            model = msgspec.structs.replace(model, frozen=False)
        key = msgspec.json.encode((model, preset.data.image_size))
        if key not in seen:
            seen.add(key)
            yield listed.name, msgspec.structs.replace(preset, model=model)


def _of_libraries(words: list[str]) -> Iterator[tuple[str, Preset]]:
    names = [("torchvision", name) for name in backbones.torchvision()]
    names += [("timm", word.removeprefix("timm:")) for word in words if word.startswith("timm:")]
    for source, name in names:
        if source == "timm" or any(word in name for word in words):
            size = next(size for size in _SIZES if source == "timm" or size >= backbones.torchvision()[name].min_size)
            size = backbones.input_of("timm", name, None).size if source == "timm" else size  # type: ignore[union-attr]
            yield f"{source} {name}", _preset(Backbone(name=name, source=source), size)  # type: ignore[arg-type]


def _preset(model: Model, size: int) -> Preset:
    return Preset(
        title="t", data=Data(dataset="class-folders", image_size=size, normalize="imagenet"), model=model,
        train=Train(epochs=1, batch_size=8), optimizer=Sgd(lr=0.1),
    )  # fmt: skip


def _images(num: int, size: int) -> Tensor:
    """Return blurred noise, uint8 [num, 3, size, size]."""
    coarse = torch.randint(0, 256, (num, 3, 12, 12), generator=torch.Generator().manual_seed(0))
    return resize(coarse.float(), size, size).round().byte()


def random_network(preset: Preset, num_images: int = 64) -> nn.Module:
    """Return a network with random weights, whose BatchNorm layers know the statistics of so many images."""
    torch.manual_seed(0)
    network = build_unfilled(preset.model, _NUM_CLASSES, preset.data.image_size).train()
    with torch.no_grad():
        for batch in _images(num_images, stored_size(preset.data)).split(16):  # type: ignore[no-untyped-call]
            network(plain_transform(preset.data)(batch))
        last = [each for each in network.modules() if isinstance(each, nn.Linear | nn.Conv2d)][-1]
        if not last.weight.any():  # as a ViT begins
            nn.init.normal_(last.weight)
        network.eval()
        last.weight *= _LARGEST_LOGIT / network(plain_transform(preset.data)(batch)).abs().max()
    return plain(network)


def checked_export(kind: Format, preset: Preset, network: nn.Module, num_images: int, *, in_graph: bool) -> Checked:
    """Return how the file of a preset's network, as `random_network` returns it, was checked.

    Raises:
        CifartuiError: the format cannot hold the network, or the file differs.
    """
    data = preset.data
    mean, std = mean_and_std(data)
    classes = tuple(f"class {number}" for number in range(_NUM_CLASSES))
    record = ExportRecord(
        run="benchmark", preset_name="benchmark", checkpoint="best", epoch=0, global_step=0, is_average=False,
        classes=classes, preset=preset, metrics=MetricsRecord(),
        input=InputRecord(dtype="uint8" if in_graph else "float32", side=None if in_graph else data.image_size),
        preprocessing=PreprocessingRecord(
            stored_size=stored_size(data), evaluate=(), image_size=data.image_size,
            mean=cast("tuple[float, float, float]", mean), std=cast("tuple[float, float, float]", std),
            flip_average=preset.train.flip_average, in_graph=in_graph,
        ),
    )  # fmt: skip
    info = RunInfo(id="b", preset_name="b", preset=preset, seed=0, device="cpu", created=0.0, host="")
    trained = TrainedNetwork(
        info=info, checkpoint="best", epoch=0, global_step=0, is_average=False, class_names=classes, network=network,
        device=torch.device("cpu"), precision="fp32", autocast=nullcontext, transform=plain_transform(data),
        stored_size=stored_size(data), background=(0, 0, 0), flip_average=preset.train.flip_average, name="",
    )  # fmt: skip
    images = _images(num_images, stored_size(data))
    with tempfile.TemporaryDirectory() as folder:
        return write_and_check(kind, network, trained, record, images, Path(folder) / f"model{SUFFIXES[kind]}")


def _cell(kind: Format, preset: Preset, network: nn.Module, num_images: int, *, in_graph: bool) -> str:
    if kind == "safetensors" and in_graph:
        return ""
    try:
        checked = checked_export(kind, preset, network, num_images, in_graph=in_graph)
    except CifartuiError as error:
        return str(error)
    difference = f"{checked.largest_difference:.0e}" if checked.largest_difference else "0"
    return f"{difference} of {checked.largest_logit:.2g}, {checked.num_agreeing}"


if __name__ == "__main__":
    main()
