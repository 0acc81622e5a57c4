"""The layer table of a preset's network, in the report's form, for `cifartui presets NAME --layers`."""

import click
import msgspec
from msgspec import Struct

from engine.locate import locate
from engine.runs.events import Layer
from presets.plan import plan
from presets.schema import Preset
from tui import format as fmt
from tui.commandline.torch_process import ask

_NUM_CLASSES = {"cifar100": 100, "shapes100": 100, "cub200": 200}


class _Memory(Struct, frozen=True):
    parameters: int
    gradients: int
    optimizer_state: int
    activations: int
    working: int


class Description(Struct, frozen=True):
    """What `engine.models.describe` says of a network."""

    layers: tuple[Layer, ...]
    num_parameters: int
    num_trainable: int
    flops_per_image: int
    memory: _Memory
    total_bytes: int


def describe(preset: Preset, data_dir: str | None) -> tuple[Description, int]:
    """Return the description of a preset's network, and the number of classes it is for.

    Raises:
        CifartuiError: the network cannot be built for these images.
    """
    num_classes = _num_classes(preset, data_dir)
    question = msgspec.json.encode([{"preset": preset, "num_classes": num_classes}])
    return msgspec.json.decode(ask("engine.models.describe", stdin=question), type=list[Description])[0], num_classes


def _num_classes(preset: Preset, data_dir: str | None) -> int:
    """Return the data set's number of classes; of class folders, the folders there are, or 100 where none are."""
    return locate(preset.data, data_dir).num_classes or _NUM_CLASSES.get(preset.data.dataset, 100)


def print_table(preset: Preset, found: Description, num_classes: int) -> None:
    """Print the table and what it adds up to."""
    click.echo(f"{preset.title}: {preset.data.image_size} px, {num_classes} classes\n")
    click.echo(f"{'no.':>4}  {'layer':<22}{'kernel':>7}{'size':>12}{'channels':>16}{'parameters':>14}")
    for layer in found.layers:
        click.echo(_row(layer).rstrip())
    memory, batch_size = found.memory, preset.train.batch_size
    trained = "" if found.num_trainable == found.num_parameters else f" ({fmt.count(found.num_trainable)} trained)"
    click.echo(f"\nparameters  {fmt.count(found.num_parameters)}{trained}")
    click.echo(f"forward     {found.flops_per_image / 1e9:,.2f} GFLOP an image (2 × multiply-add)")
    click.echo(
        f"memory      {fmt.memory(found.total_bytes)} estimated for a step of batch {batch_size} in "
        f"{_precision(preset)}: weights {fmt.memory(memory.parameters)}, gradients {fmt.memory(memory.gradients)},\n"
        f"            {plan(preset)[0].optimizer.__struct_config__.tag} {fmt.memory(memory.optimizer_state)}, "
        f"activations {fmt.memory(memory.activations)}; without data set and CUDA context"
    )


def _precision(preset: Preset) -> str:
    return "fp32" if preset.train.precision == "auto" else preset.train.precision


def _row(layer: Layer) -> str:
    size = _change(layer.in_size, layer.out_size)
    channels = _change(layer.in_channels, layer.out_channels)
    parameters = fmt.count(layer.num_parameters) if layer.num_parameters else ""
    return f"{layer.number:>4}  {layer.kind:<22}{layer.kernel or '':>7}{size:>12}{channels:>16}{parameters:>14}"


def _change(before: int | None, after: int | None) -> str:
    """Return "32→16"; empty for vectors."""
    return f"{before}→{after or 1}" if before else f"{after}" if after else ""
