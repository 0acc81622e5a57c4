"""Command `presets`: presets, and the layers of their networks."""

import shlex

import click
import msgspec

from engine.journal.events import LayerRow
from engine.shared.step_memory import EVAL_BATCH_FACTOR, StepMemory
from presets import backbones, catalog
from presets.errors import CifartuiError
from presets.plan import plan
from presets.problems import nearest, printable
from presets.reference import reference_of
from presets.schema import Data, Preset
from tui import format as fmt
from tui.cli.options import as_json_option, overrides_option, places, with_places
from tui.cli.output import say, say_json
from tui.data import network_facts
from tui.data.network_facts import NetworkFacts
from tui.text import preset_text


@click.command("presets")
@click.argument("name", metavar="[PRESET]", required=False)
@click.option("--layers", is_flag=True, help="Print the network's layer table, FLOPs and memory estimate.")
@overrides_option
@click.option(
    "--backbones",
    "word",
    metavar="[WORD]",
    is_flag=False,
    flag_value="",
    help='List the classifiers for model.network = "backbone", those with WORD in their names.',
)
@as_json_option
@with_places
@click.pass_context
def presets_(
    ctx: click.Context, name: str | None, layers: bool, overrides: tuple[str, ...], word: str | None, as_json: bool
) -> None:
    """List the presets, or print one in full."""
    if word is not None:
        if name is not None or layers or overrides:
            raise CifartuiError("--backbones lists networks, not presets; leave the other arguments out.")
        _list_backbones(word, as_json)
        return
    if name is not None:
        preset = catalog.load(name, overrides)
        if layers:
            _print_layers(preset, places(ctx).data_dir, as_json)
        else:
            _print_one(preset, catalog.load(name).data, as_json)
        return
    if layers or overrides:
        raise CifartuiError(
            "--layers, --set and --data are about one preset; name it: cifartui presets vgg-custom --layers"
        )
    listed = catalog.list_presets()
    if as_json:
        rows = [
            {
                "name": entry.name,
                "path": str(entry.path),
                "extends": entry.extends,
                "preset": entry.preset,
                "problem": entry.problem,
            }
            for entry in listed
        ]
        say_json(rows)
        return
    width = max(len(entry.name) for entry in listed)
    group = None
    for entry in listed:
        its_group = entry.preset.group if entry.preset is not None else "yours"
        if its_group != group:
            group = its_group
            say(f"{group}:")
        text = entry.preset.summary if entry.preset is not None else f"cannot be read: {entry.problem}"
        say(f"  {entry.name:<{width}}  {text}")


def _list_backbones(word: str, as_json: bool) -> None:
    """Print torchvision's classifiers and, if timm is installed, its networks, each with its parameters."""
    classifiers = {name: each for name, each in backbones.torchvision().items() if word.lower() in name}
    if as_json:
        others, why = _timm_networks(word)
        say_json({"torchvision": classifiers, "timm": others, "note": why})
        return
    if not classifiers and word:
        say(f"torchvision: no name holds {printable(word, 80)}{nearest(word.lower(), backbones.torchvision())}")
    else:
        say(f"torchvision: {len(classifiers)} classifiers, with the ImageNet top-1 that it publishes")
    for name, each in classifiers.items():
        best = each.weights[0]
        say(
            f"  {name:<22}{fmt.count(each.num_parameters):>13}  {best.size:>4} px  {fmt.percent(best.top1, 1):>6}  "
            f"{best.num_bytes / 1e6:>7,.1f} MB"
        )
    others, why = _timm_networks(word)  # takes seconds
    if why:
        say(f"timm: {why}")
        return
    say(f'timm: {fmt.plural(len(others), "network")} (source = "timm")')
    for name, number in others.items():
        say(f"  {name}" if number is None else f"  {name:<46}{fmt.count(number):>13}")
    if len(others) > 0 and not any(others.values()):
        say("Their parameters are counted if WORD leaves at most 40 of them.")


def _timm_networks(word: str) -> tuple[dict[str, int | None], str]:
    """Return timm's networks, asked of a process that may import it, or why there are none."""
    from tui.data.torch_process import run_module

    try:
        return msgspec.json.decode(run_module("engine.models.timm_networks", [word]), type=dict[str, int | None]), ""
    except CifartuiError as error:
        return {}, str(error)


def _print_layers(preset: Preset, data_dir: str | None, as_json: bool) -> None:
    found, note = describe(preset, data_dir)
    if as_json:
        say_json({**layers_as_json(preset, found), "note": note})
    else:
        print_table(preset, found, note)


def _print_one(preset: Preset, own: Data, as_json: bool) -> None:
    """Print a preset, and which data took the place of `own`, that of its file, if it did."""
    if as_json:
        say_json(preset)
        return
    say(f"{preset.title}\n{preset.summary}\n")
    if replaced := preset_text.replaced_data(preset.data, own):
        say(f"{replaced[0].upper()}{replaced[1:]}.\n")
    for table in ("data", "model", "train", "optimizer", "schedule", "loss"):
        _print_table(f"[{table}]", getattr(preset, table))
    for stage in preset.stages:
        _print_table("[[stages]]", stage)
    report = reference_of(preset.report, own, preset.data)
    reported = [
        f"{label} {fmt.percent(value)}"
        for label, value in (("val", report.val_top1), ("test", report.test_top1))
        if value is not None
    ]
    if reported:
        say(f"\n{report.source}: {', '.join(reported)}")


def _print_table(heading: str, table: object) -> None:
    say(heading)
    for key, value in msgspec.to_builtins(table).items():
        if value is not None:
            say(f"  {key} = {msgspec.json.encode(value).decode()}")


def describe(preset: Preset, data_dir: str | None) -> tuple[NetworkFacts, str]:
    """Return the facts of a preset's network, and a note where its number of classes is assumed.

    Raises:
        CifartuiError: the network cannot be built for these images, or not be trained on them.
    """
    _, is_assumed = network_facts.num_classes(preset, data_dir)
    found = network_facts.known(preset, data_dir) or network_facts.compute(preset, data_dir)
    return found, _note(preset.data) if is_assumed else ""


def _note(data: Data) -> str:
    """Return why the number of classes is assumed."""
    from engine.shared.image_archives import SUFFIXES

    if data.path is not None and data.path.lower().endswith(SUFFIXES):
        command = shlex.join(("cifartui", "data", data.path))
        return f"an assumption: {printable(command, 200)} unpacks the archive and counts its classes"
    return "an assumption: the folders of images are not found"


def layers_as_json(preset: Preset, found: NetworkFacts) -> dict[str, object]:
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


def print_table(preset: Preset, found: NetworkFacts, note: str) -> None:
    """Print the table and what it adds up to."""
    note = f" ({note})" if note else ""
    say(f"{preset.title}: {preset.data.image_size} px, {found.num_classes} classes{note}\n")
    say(f"{'no.':>4}  {'layer':<22}{'kernel':>7}{'size':>12}{'channels':>16}{'parameters':>14}")
    for layer in found.layer_table():
        say(_row(layer).rstrip())
    trained = fmt.trained(found.num_trainable, found.num_parameters)
    say(f"\nparameters  {fmt.count(found.num_parameters)}{trained}")
    say(f"forward     {fmt.flop(found.flops_per_image)} an image (2 × multiply-add)")
    memory = _memory(preset, found)
    say(
        f"memory      {fmt.memory(memory.step)} estimated for a step of batch {preset.train.batch_size} in "
        f"{_precision(preset)}, without data set and CUDA context:\n            {_parts(preset, memory)}"
    )
    evaluation = memory.parameters + memory.optimizer_state + memory.evaluation
    num_images = preset.train.batch_size * EVAL_BATCH_FACTOR
    say(f"            {fmt.memory(evaluation)} in evaluation, of {num_images:,} images at once, weights included")


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


def _memory(preset: Preset, found: NetworkFacts) -> StepMemory:
    return found.step_memory(preset.train.precision, on_gpu=False)


def _precision(preset: Preset) -> str:
    return "fp32" if preset.train.precision == "auto" else preset.train.precision


def _row(layer: LayerRow) -> str:
    size = fmt.change(layer.in_size, layer.out_size)
    channels = fmt.change(layer.in_channels, layer.out_channels)
    parameters = fmt.count(layer.num_parameters) if layer.num_parameters else ""
    return f"{layer.number:>4}  {layer.kind:<22}{layer.kernel or '':>7}{size:>12}{channels:>16}{parameters:>14}"
