"""`cifartui presets` and `cifartui data`: what can be trained, and on what."""

import click
import msgspec

from engine.locate import locate
from presets import catalog
from presets.schema import Data, Preset
from tui import format as fmt
from tui.commandline.group import places, with_places

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command("presets")
@click.argument("name", metavar="[PRESET]", required=False)
@_AS_JSON
def presets_(name: str | None, as_json: bool) -> None:
    """List the presets, or print one in full."""
    if name is not None:
        _print_one(catalog.load(name), as_json)
        return
    listed = catalog.list_presets()
    if as_json:
        rows = [{"name": entry.name, "preset": entry.preset, "problem": entry.problem} for entry in listed]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return
    width = max(len(entry.name) for entry in listed)
    group = None
    for entry in listed:
        if entry.preset is not None and entry.preset.group != group:
            group = entry.preset.group
            click.echo(f"{group}:")
        text = entry.preset.summary if entry.preset is not None else f"cannot be read: {entry.problem}"
        click.echo(f"  {entry.name:<{width}}  {text}")


def _print_one(preset: Preset, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(preset), indent=2).decode())
        return
    click.echo(f"{preset.title}\n{preset.summary}\n")
    for table in ("data", "model", "train", "optimizer", "schedule", "loss"):
        click.echo(f"[{table}]")
        for key, value in msgspec.to_builtins(getattr(preset, table)).items():
            if value is not None:
                click.echo(f"  {key} = {msgspec.json.encode(value).decode()}")
    reported = [
        f"{label} {fmt.percent(value)}"
        for label, value in (("val", preset.report.val_top1), ("test", preset.report.test_top1))
        if value is not None
    ]
    if reported:
        click.echo(f"\nthe report: {', '.join(reported)}")


@click.command()
@_AS_JSON
@with_places
@click.pass_context
def data(ctx: click.Context, as_json: bool) -> None:
    """Say what data is found, where, and how to get the rest."""
    where = places(ctx)
    found = [locate(Data(dataset=name), where.data_dir) for name in ("shapes100", "cifar100")]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    for location in found:
        click.echo(f"{location.dataset:<10} {location.text}")
        if location.kind == "absent":
            click.echo(f"{'':<10} {location.advice}")
