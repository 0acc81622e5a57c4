"""The layer table of a preset's network, in the report's form, for `cifartui presets NAME --layers`."""

import click
import msgspec
from msgspec import Struct

from engine.locate import locate
from engine.runs.events import Layer
from presets.errors import CifartuiError
from presets.plan import plan
from presets.schema import Preset
from tui import format as fmt
from tui.commandline.torch_process import ask

_NUM_CLASSES = {"cifar100": 100, "shapes100": 100, "cub200": 200}
_ASSUMED_NUM_CLASSES = 100


class _Memory(Struct, frozen=True):
    parameters: int
    gradients: int
    optimizer_state: int
    activations: int
    working: int


class Description(Struct, frozen=True):
    """What `engine.models.describe` says of a network."""

    network: str
    num_classes: int
    layers: tuple[Layer, ...]
    num_parameters: int
    num_trainable: int
    flops_per_image: int
    memory: _Memory
    total_bytes: int


class _Answer(Struct, frozen=True):
    description: Description | None
    problem: str


def describe(preset: Preset, data_dir: str | None) -> tuple[Description, str]:
    """Return the description of a preset's network, and a note where its number of classes is assumed.

    Raises:
        CifartuiError: the network cannot be built for these images, or not be trained on them.
    """
    num_classes, note = _num_classes(preset, data_dir)
    question = msgspec.json.encode([{"preset": preset, "num_classes": num_classes}])
    (answer,) = msgspec.json.decode(ask("engine.models.describe", stdin=question), type=list[_Answer])
    if answer.description is None:
        raise CifartuiError(answer.problem)
    return answer.description, note


def _num_classes(preset: Preset, data_dir: str | None) -> tuple[int, str]:
    """Return the data set's number of classes; of class folders, as many as are found, else a number and a note."""
    known = _NUM_CLASSES.get(preset.data.dataset) or locate(preset.data, data_dir).num_classes
    if known:
        return known, ""
    return _ASSUMED_NUM_CLASSES, "an assumption: the folders of images are not found"


def print_table(preset: Preset, found: Description, note: str) -> None:
    """Print the table and what it adds up to."""
    note = f" ({note})" if note else ""
    click.echo(f"{preset.title}: {preset.data.image_size} px, {found.num_classes} classes{note}\n")
    click.echo(f"{'no.':>4}  {'layer':<22}{'kernel':>7}{'size':>12}{'channels':>16}{'parameters':>14}")
    for layer in found.layers:
        click.echo(_row(layer).rstrip())
    trained = "" if found.num_trainable == found.num_parameters else f" ({fmt.count(found.num_trainable)} trained)"
    click.echo(f"\nparameters  {fmt.count(found.num_parameters)}{trained}")
    click.echo(f"forward     {found.flops_per_image / 1e9:,.2f} GFLOP an image (2 × multiply-add)")
    click.echo(
        f"memory      {fmt.memory(found.total_bytes)} estimated for a step of batch {preset.train.batch_size} in "
        f"{_precision(preset)}, without data set and CUDA context:\n            {_parts(preset, found.memory)}"
    )


def _parts(preset: Preset, memory: _Memory) -> str:
    """Return the parts of the estimate; the last is negative where the others are never there all at once."""
    optimizer = plan(preset)[0].optimizer.__struct_config__.tag
    text = (
        f"weights {fmt.memory(memory.parameters)}, gradients {fmt.memory(memory.gradients)}, "
        f"{optimizer} {fmt.memory(memory.optimizer_state)}, activations {fmt.memory(memory.activations)}"
    )
    if memory.working < 0:
        return f"{text}, less {fmt.memory(-memory.working)} gone before the last gradients come"
    return f"{text}, results on their way {fmt.memory(memory.working)}"


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
