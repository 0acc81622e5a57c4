"""Command `log`: a run's curves for TensorBoard, W&B, MLflow or Trackio, once or while it trains."""

import sys

import click

from engine.runs.find_run import find_run
from engine.runs.notify_settings import LOG_SERVICES, LogService
from presets.problems import printable
from tui import format as fmt
from tui.cli.interrupts import Interrupts
from tui.cli.options import places, with_places
from tui.cli.output import say


@click.command()
@click.argument("name", metavar="RUN")
@click.option(
    "--to", "service", type=click.Choice(LOG_SERVICES), required=True, help="What keeps the curves, by its own library."
)
@click.option("--follow", is_flag=True, help="Go on while the run trains, until it ends.")
@click.option(
    "--output",
    metavar="PLACE",
    help="Where: a folder; for mlflow an SQLite file or a URI (default: with the run, for mlflow and trackio with the "
    "runs).",
)
@with_places
@click.pass_context
def log(ctx: click.Context, name: str, service: LogService, follow: bool, output: str | None) -> None:
    """Write a run's curves, settings and sample predictions to TensorBoard, W&B, MLflow or Trackio.

    Called again it goes on where it ended: nothing is logged twice, also after a resume. Training knows nothing of it.
    """
    from engine.trackers.log_run import log_run, say_pictures

    run = find_run(places(ctx).runs_dir, name)

    def started(target: str) -> None:
        say(f"Run {run.id} is logged to {service}: {printable(target)}", err=True)

    with Interrupts() as interrupts:
        result = log_run(run, service, output, follow=follow, stop=interrupts.wake, started=started)
        is_interrupted = bool(interrupts.code)
    if result.seen_with:
        logged = f"{result.num_points:,} {'point' if result.num_points == 1 else 'points'}"
        logged += f" and {fmt.plural(result.num_pictures, 'image')} with predictions" if result.num_pictures else ""
        say(f"{logged} logged. See them with: {printable(result.seen_with)}")
    else:
        say(f"Run {run.id} has told nothing new since it was logged to {service}.")
    for sentence in say_pictures(result, run):
        say(sentence)
    if result.is_lost:
        say(f"Run {run.id} has no worker; after cifartui resume {run.id}, log it again.", err=True)
    elif result.outcome is None and not is_interrupted and not follow:
        say("It trains on; log it again later, or with --follow.", err=True)
    sys.stdout.flush()
    ctx.exit(interrupts.code)
