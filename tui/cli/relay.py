"""Command `relay`: the far side of a dashboard on another host, on standard input and output."""

import os
import sys

import click

from presets.errors import CifartuiError
from tui.cli.interrupts import Interrupts
from tui.cli.options import places, with_places
from tui.config import read_config
from tui.hosts.relay import Relay, serve


@click.command()
@with_places
@click.pass_context
def relay(ctx: click.Context) -> None:
    """Answer a cifartui on another host, which starts this by ssh: lines of JSON on standard input and output."""
    if sys.stdin.isatty() or sys.stdout.isatty():
        raise CifartuiError("relay speaks with a cifartui on another host, which starts it; see docs/hosts.md.")
    where = places(ctx)
    sink = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    with Interrupts() as interrupts:  # a run that is being started is finished first
        serve(
            lambda write: Relay(where.runs_dir, where.data_dir, lambda: read_config().beside, write),
            sys.stdin.fileno(),
            sink,
            interrupts.wake.is_set,
        )
