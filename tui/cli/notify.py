"""Command group `notify`: a test of the targets that are told of runs. The watcher of a run does the telling."""

import time

import click

from engine.runs.messages import of_test
from engine.runs.notify import Sending
from presets.errors import CifartuiError
from presets.problems import printable
from tui.cli.output import say
from tui.config import config_path, read_config


@click.group()
def notify() -> None:
    """Word of your runs while you are away: who is told is in the configuration, under [notify]."""


@notify.command()
@click.pass_context
def test(ctx: click.Context) -> None:
    """Send a message to every target at once, and say what came of each; exit 1 if one could not be told."""
    settings = read_config().beside
    if not settings.targets:
        raise CifartuiError(
            f"Nobody is told of your runs; name a target under [notify] in {printable(str(config_path()))}, "
            'such as ntfy = ["https://ntfy.sh/my-topic"].'
        )
    message = of_test(time.time())
    sendings = [(target, Sending(target, message)) for target in settings.targets]
    is_told = True
    for target, sending in sendings:
        why = sending.result(wait=True)
        is_told = is_told and not why
        say(f"{target.name}: {f'not told: {why}' if why else 'told'}")
    if settings.on:
        say(f"Messages are sent on: {', '.join(settings.on)}.")
    else:
        say("No message is sent of runs: notify.on is empty.")
    ctx.exit(0 if is_told else 1)
