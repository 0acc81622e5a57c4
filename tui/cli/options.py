"""Options that several commands share: preset fields, seed and device; theme, plots and colours."""

import os
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import click
from msgspec import Struct
from msgspec.structs import replace

from engine import files
from engine.runs import run_dir
from engine.runs.run_options import SEED_BELOW, RunOptions
from engine.runs.seed_groups import parse_seeds
from engine.shared.device_names import MOST_DEVICES
from presets.errors import CifartuiError
from presets.problems import nearest, printable
from tui.config import read_config
from tui.display import ColorDepth, PlotStyle, Theme

COMPLETE = "_CIFARTUI_COMPLETE"
"""Environment variable by which a shell asks for completions; click makes its name of the program's."""


class Places(Struct, frozen=True):
    """Runs folder, and the folder searched first for data (None: CIFARTUI_DATA, then the user's folder)."""

    runs_dir: Path
    data_dir: str | None


def as_set(options: RunOptions, where: Places) -> RunOptions:
    """Return the options with --data-dir and who is told, as configured."""
    return replace(options, data_dir=where.data_dir, notify=read_config().beside)


def device_option(command: Any) -> Any:
    """Give a command --device."""
    text = "auto (the GPU with the most free memory, else the processor), cpu, cuda, cuda:N or mps."
    return click.option("--device", default="auto", metavar="DEVICE", help=text)(command)


def devices_option(command: Any) -> Any:
    """Give a command --devices; its argument is None where that is not used."""
    text = "Train on N of this machine's GPUs (or processes on its processor) together."
    return click.option("--devices", type=click.IntRange(1, MOST_DEVICES), metavar="N", help=text)(command)


def seed_option(command: Any) -> Any:
    """Give a command --seed."""
    text = "Seed of all randomness (default 0)."
    return click.option("--seed", type=click.IntRange(0, SEED_BELOW - 1), default=0, help=text)(command)


def seeds_option(command: Any) -> Any:
    """Give a command --seed and --seeds, which it gets as `seed` and, parsed, as `seeds`: empty where not used."""

    @wraps(command)
    def seeded(*, seed: int, seeds: str | None, **others: Any) -> Any:
        return command(seed=seed, seeds=_parsed_seeds(seeds, seed) if seeds is not None else (), **others)

    text = "Train N runs with seeds from --seed on, or one with each of these seeds; they form a group."
    return seed_option(click.option("--seeds", metavar="N|S,S,...", help=text)(seeded))


def data_option(command: Any) -> Any:
    """Give a command --data; its argument `data` is None where that is not used."""
    text = "The data: a folder, an archive or a table of images, CIFAR-100 or CUB-200. It replaces the preset's."
    return click.option("--data", metavar="PATH", help=text)(command)


def overrides_option(command: Any) -> Any:
    """Give a command --data and --set, which it gets together as `overrides`."""

    @wraps(command)
    def overridden(*, data: str | None, overrides: tuple[str, ...], **others: Any) -> Any:
        ctx = click.get_current_context(silent=True)
        if data is not None and ctx is not None and (host := ctx.params.get("host")):
            raise CifartuiError(f"--data looks on this machine; for {host} write --set data.path=PATH instead.")
        from engine.shared.data_path import with_data  # what finds data takes a tenth of a second to import

        return command(overrides=with_data(data, overrides), **others)

    text = "Override a preset field: optimizer.lr=0.1"
    return data_option(click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help=text)(overridden))


def with_order(command: Any) -> Any:
    """Give a command --data, --set, --epochs, --seeds and all that a run is started with, together as `options`."""

    @wraps(command)
    def ordered(
        *,
        overrides: tuple[str, ...],
        epochs: int | None,
        epochs_scale: float | None,
        device: str,
        devices: int | None,
        seed: int,
        seeds: tuple[int, ...],
        **others: Any,
    ) -> Any:
        overrides += (f"train.epochs={epochs}",) if epochs is not None else ()
        overrides += (f"train.epochs_scale={epochs_scale}",) if epochs_scale is not None else ()
        options = RunOptions(overrides=overrides, seed=seed, device=device, devices=devices or 1, seeds=seeds)
        return command(options=options, **others)

    scale = click.FloatRange(min=0, min_open=True)
    options: list[Any] = [
        overrides_option,
        click.option("--epochs", type=click.IntRange(min=1), help="Short for --set train.epochs=N."),
        click.option("--epochs-scale", type=scale, help="Short for train.epochs_scale=F."),
        device_option,
        devices_option,
        seeds_option,
    ]
    with_options: Any = ordered
    for option in reversed(options):
        with_options = option(with_options)
    return with_options


def _parsed_seeds(text: str, first: int) -> tuple[int, ...]:
    try:
        return parse_seeds(text, first)
    except CifartuiError as error:
        raise CifartuiError(f"--{error}") from error


class CommandGroup(click.Group):
    """A click group that answers a command it does not have by the one that may be meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the name, the command and its arguments; raise CifartuiError where there is no such command."""
        name = args[0]
        if not (ctx.resilient_parsing or name.startswith("-")) and self.get_command(ctx, name) is None:
            called = " ".join([*ctx.command_path.split()[1:], name])
            hint = nearest(name, self.list_commands(ctx)) or f"; {ctx.command_path} --help lists them."
            raise CifartuiError(f'There is no command "{printable(called)}"{hint}')
        return super().resolve_command(ctx, args)


_OPTIONS = "display"


def _keep(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value is not None and param.name is not None:
        ctx.meta.setdefault(_OPTIONS, {})[param.name] = value


def with_display(command: Any) -> Any:
    """Give a command that opens the dashboard --theme, --plots, --colors and --low-bandwidth."""
    for name, allowed, text in (
        ("--theme", get_args(Theme), "Colours for a dark or a light room."),
        ("--plots", ("auto", *get_args(PlotStyle)), "What curves are drawn with; ascii is for everything."),
        ("--colors", ("auto", *get_args(ColorDepth)), "How many colours are sent."),
    ):
        command = click.option(
            name, type=click.Choice(allowed), callback=_keep, expose_value=False, default=None, help=text
        )(command)
    return click.option(
        "--low-bandwidth/--no-low-bandwidth", default=None, callback=_keep, expose_value=False,
        help="Paint less often, for a slow line.",
    )(command)  # fmt: skip


def given_display_options(ctx: click.Context) -> dict[str, Any]:
    """Return the options given, by the names of the configuration's fields."""
    options: dict[str, Any] = ctx.meta.get(_OPTIONS, {})
    return options


def with_hosts(command: Any) -> Any:
    """Give a command --hosts, which may also stand before the command's name; see `tui.cli.hosts.hosts_of`."""
    return click.option(
        "--hosts", metavar="HOSTS", callback=_keep_hosts, expose_value=False,
        help="Other machines that ssh reaches, or all of the configuration: docs/hosts.md.",
    )(command)  # fmt: skip


def _keep_hosts(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta["hosts"] = value


def _set_runs_dir(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta["runs_dir"] = value


def _set_data_dir(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta["data_dir"] = value


def with_places(command: Any) -> Any:
    """Give a command --runs-dir and --data-dir, which may also stand before the command's name."""
    for name, callback, text in (
        ("--runs-dir", _set_runs_dir, "Where runs are kept (else CIFARTUI_RUNS, else your state folder)."),
        ("--data-dir", _set_data_dir, "Where data is looked for first (then CIFARTUI_DATA, then your data folder)."),
    ):
        command = click.option(name, metavar="DIR", callback=callback, expose_value=False, help=text)(command)
    return command


def as_json_option(command: Any) -> Any:
    """Give a command --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def places(ctx: click.Context) -> Places:
    """Return the folders that the options, or else the environment, name."""
    named_runs, named_data = ctx.meta.get("runs_dir"), ctx.meta.get("data_dir")
    runs_dir = files.expanded(named_runs) if named_runs else run_dir.default_runs_dir()
    data_dir = str(files.expanded(named_data).absolute()) if named_data else None
    if data_dir is not None and not os.path.isdir(data_dir):  # noqa: PTH112 (Path.is_dir raises for long names)
        raise CifartuiError(f"--data-dir {named_data} is not a folder; name the one that holds the data.")
    return Places(runs_dir.absolute(), data_dir)
