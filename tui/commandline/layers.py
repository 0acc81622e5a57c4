"""The layer table of a preset's network, in the report's form, for `cifartui presets NAME --layers`."""

from engine.journal.events import Layer
from engine.shared.step_memory import StepMemory
from presets.plan import plan
from presets.schema import Preset
from tui import format as fmt
from tui.cli.output import say
from tui.data import network_facts
from tui.data.network_facts import Facts


def describe(preset: Preset, data_dir: str | None) -> tuple[Facts, str]:
    """Return the facts of a preset's network, and a note where its number of classes is assumed.

    Raises:
        CifartuiError: the network cannot be built for these images, or not be trained on them.
    """
    _, is_assumed = network_facts.num_classes(preset, data_dir)
    found = network_facts.known(preset, data_dir) or network_facts.compute(preset, data_dir)
    return found, "an assumption: the folders of images are not found" if is_assumed else ""


def layers_as_json(preset: Preset, found: Facts) -> dict[str, object]:
    """Return what `--json` prints: the table, and the memory of a step in the preset's precision."""
    memory = _memory(preset, found)
    return {
        "network": found.network,
        "num_classes": found.num_classes,
        "layers": found.layer_table(),
        "num_parameters": found.num_parameters,
        "num_trainable": found.num_trainable,
        "flops_per_image": found.flops_per_image,
        "memory": memory,
        "total_bytes": memory.total,
        "image_size": preset.data.image_size,
        "batch_size": preset.train.batch_size,
    }


def print_table(preset: Preset, found: Facts, note: str) -> None:
    """Print the table and what it adds up to."""
    note = f" ({note})" if note else ""
    say(f"{preset.title}: {preset.data.image_size} px, {found.num_classes} classes{note}\n")
    say(f"{'no.':>4}  {'layer':<22}{'kernel':>7}{'size':>12}{'channels':>16}{'parameters':>14}")
    for layer in found.layer_table():
        say(_row(layer).rstrip())
    trained = "" if found.num_trainable == found.num_parameters else f" ({fmt.count(found.num_trainable)} trained)"
    say(f"\nparameters  {fmt.count(found.num_parameters)}{trained}")
    say(f"forward     {found.flops_per_image / 1e9:,.2f} GFLOP an image (2 × multiply-add)")
    memory = _memory(preset, found)
    say(
        f"memory      {fmt.memory(memory.total)} estimated for a step of batch {preset.train.batch_size} in "
        f"{_precision(preset)}, without data set and CUDA context:\n            {_parts(preset, memory)}"
    )


def _parts(preset: Preset, memory: StepMemory) -> str:
    """Return the parts of the estimate; the last is negative where the others are never there all at once."""
    optimizer = plan(preset)[0].optimizer.__struct_config__.tag
    text = (
        f"weights {fmt.memory(memory.parameters)}, gradients {fmt.memory(memory.gradients)}, "
        f"{optimizer} {fmt.memory(memory.optimizer_state)}, activations {fmt.memory(memory.activations)}"
    )
    if memory.working < 0:
        return f"{text}, less {fmt.memory(-memory.working)} gone before the last gradients come"
    return f"{text}, results on their way {fmt.memory(memory.working)}"


def _memory(preset: Preset, found: Facts) -> StepMemory:
    return found.step_memory(preset.train.precision, on_gpu=False)


def _precision(preset: Preset) -> str:
    return "fp32" if preset.train.precision == "auto" else preset.train.precision


def _row(layer: Layer) -> str:
    size = fmt.change(layer.in_size, layer.out_size)
    channels = fmt.change(layer.in_channels, layer.out_channels)
    parameters = fmt.count(layer.num_parameters) if layer.num_parameters else ""
    return f"{layer.number:>4}  {layer.kind:<22}{layer.kernel or '':>7}{size:>12}{channels:>16}{parameters:>14}"
