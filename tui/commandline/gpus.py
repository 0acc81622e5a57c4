"""`cifartui gpus`: the GPUs of this machine now, as Home shows them."""

import shutil
import sys

import click
from msgspec.structs import replace

from tui.cli.main import as_json_option, places, with_places
from tui.commandline.say import say, say_json

_PIPE_COLUMNS = 80


@click.command()
@as_json_option
@with_places
@click.pass_context
def gpus(ctx: click.Context, as_json: bool) -> None:
    """Say what the GPUs of this machine do now, or why none is seen."""
    from tui.data.environment import Surroundings

    surroundings = Surroundings()
    readings = surroundings.gpu_reader()()
    if as_json:
        say_json(replace(readings, taken=surroundings.taken(places(ctx).runs_dir)))
        return
    from tui.terminal.streams import ascii_only, in_ascii
    from tui.text.device_text import gpus_now

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_COLUMNS
    text = gpus_now(readings, width, max_rows=max(1, len(readings.gpus))).plain
    say(in_ascii(text) if ascii_only(sys.stdout) else text)
