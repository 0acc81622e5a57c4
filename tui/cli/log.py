"""Command `log`: a run's curves for TensorBoard, W&B, MLflow or Trackio, once or while it trains."""

from pathlib import Path

import click

from engine.runs.find_run import find_run
from engine.runs.notify_settings import LOG_SERVICES, LogService
from engine.shared import child_process
from presets.errors import CifartuiError
from tui.cli.interrupts import Interrupts
from tui.cli.options import places, with_places

_LOOK_EVERY_S = 0.2


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
    run = find_run(places(ctx).runs_dir, name)
    run.read_info()  # a sentence at once
    arguments = [str(run.path.absolute()), f"--to={service}", *(["--follow"] if follow else [])]
    if output is not None:
        arguments.append(f"--output={output if '://' in output else Path(output).absolute()}")
    with Interrupts() as interrupts:
        try:
            process = child_process.start("engine.trackers.log_process", arguments, start_new_session=True)
        except OSError as error:
            raise CifartuiError(f"No process can be started ({error.strerror}).") from error
        is_asked = False
        while process.poll() is None:
            if interrupts.wake.wait(_LOOK_EVERY_S):
                if is_asked:
                    process.kill()
                else:
                    process.terminate()  # it hands over what it has read
                is_asked = True
                interrupts.wake.clear()
    ctx.exit(interrupts.code or process.returncode)
