"""The options that say how a preset is to be trained, shared by all commands that start runs or queue them."""

from functools import wraps
from typing import Any

import click
from msgspec.structs import replace

from engine.runs.run_options import SEED_BELOW, Order
from engine.shared.device_names import MOST_DEVICES
from tui.cli.main import Places
from tui.config import read_config


def as_set(order: Order, where: Places) -> Order:
    """Return an order with what --data-dir and the configuration say."""
    return replace(order, data_dir=where.data_dir, notify=read_config().notify)


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


def with_order(command: Any) -> Any:
    """Give a command --set, --epochs, --epochs-scale, --device, --devices and --seed; it gets them as `order`."""

    @wraps(command)
    def ordered(
        *,
        overrides: tuple[str, ...],
        epochs: int | None,
        epochs_scale: float | None,
        device: str,
        devices: int | None,
        seed: int,
        **others: Any,
    ) -> Any:
        overrides += (f"train.epochs={epochs}",) if epochs is not None else ()
        overrides += (f"train.epochs_scale={epochs_scale}",) if epochs_scale is not None else ()
        order = Order(overrides=overrides, seed=seed, device=device, devices=devices or 1)
        return command(order=order, **others)

    scale = click.FloatRange(min=0, min_open=True)
    options = [
        click.option(
            "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a preset field: optimizer.lr=0.1"
        ),
        click.option("--epochs", type=click.IntRange(min=1), help="Short for --set train.epochs=N."),
        click.option("--epochs-scale", type=scale, help="Short for train.epochs_scale=F."),
        device_option,
        devices_option,
        seed_option,
    ]
    with_options: Any = ordered
    for option in reversed(options):
        with_options = option(with_options)
    return with_options
