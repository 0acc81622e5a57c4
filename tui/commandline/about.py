"""`cifartui presets` and `cifartui data`: what can be trained, and on what."""

from typing import Literal

import click
import msgspec

from engine.shared.data_locations import locate
from presets import catalog
from presets.errors import CifartuiError
from presets.schema import Data, Preset
from tui import format as fmt
from tui.cli.main import as_json_option, places, with_places
from tui.cli.output import say, say_json
from tui.commandline import layers as layer_tables


@click.command("presets")
@click.argument("name", metavar="[PRESET]", required=False)
@click.option("--layers", is_flag=True, help="Print the network's layer table, FLOPs and memory estimate.")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="As for train: data.image_size=64")
@as_json_option
@with_places
@click.pass_context
def presets_(ctx: click.Context, name: str | None, layers: bool, overrides: tuple[str, ...], as_json: bool) -> None:
    """List the presets, or print one in full."""
    if name is not None:
        preset = catalog.load(name, overrides)
        if layers:
            _print_layers(preset, places(ctx).data_dir, as_json)
        else:
            _print_one(preset, as_json)
        return
    if layers or overrides:
        raise CifartuiError("--layers and --set are about one preset; name it: cifartui presets vgg-custom --layers")
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


def _print_layers(preset: Preset, data_dir: str | None, as_json: bool) -> None:
    found, note = layer_tables.describe(preset, data_dir)
    if as_json:
        said = {**layer_tables.layers_as_json(preset, found), "note": note}
        say_json(said)
    else:
        layer_tables.print_table(preset, found, note)


def _print_one(preset: Preset, as_json: bool) -> None:
    if as_json:
        say_json(preset)
        return
    say(f"{preset.title}\n{preset.summary}\n")
    for table in ("data", "model", "train", "optimizer", "schedule", "loss"):
        _print_table(f"[{table}]", getattr(preset, table))
    for stage in preset.stages:
        _print_table("[[stages]]", stage)
    reported = [
        f"{label} {fmt.percent(value)}"
        for label, value in (("val", preset.report.val_top1), ("test", preset.report.test_top1))
        if value is not None
    ]
    if reported:
        say(f"\n{preset.report.source}: {', '.join(reported)}")


def _print_table(heading: str, table: object) -> None:
    say(heading)
    for key, value in msgspec.to_builtins(table).items():
        if value is not None:
            say(f"  {key} = {msgspec.json.encode(value).decode()}")


@click.command()
@as_json_option
@with_places
@click.pass_context
def data(ctx: click.Context, as_json: bool) -> None:
    """Say what data is found, where, and how to get the rest."""
    where = places(ctx)
    datasets: tuple[Literal["shapes100", "cifar100", "cub200"], ...] = ("shapes100", "cifar100", "cub200")
    found = [locate(Data(dataset=name), where.data_dir) for name in datasets]
    if as_json:
        say_json(found)
        return
    for location in found:
        say(f"{location.dataset:<10} {location.text}")
        if location.kind == "absent":
            say(f"{'':<10} {location.advice}")
