"""TensorBoard, W&B, MLflow and Trackio behind one interface; each library is imported when it is asked for."""

import io
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from engine.journal.events import Outcome
from engine.runs.notify_settings import LogService
from engine.trackers.points import Point
from presets.errors import CifartuiError

if TYPE_CHECKING:
    from PIL.Image import Image

_PROJECT = "cifartui"
_MOST_METRICS, _MOST_PARAMETERS = 1000, 100
"""MLflow takes no more in one call."""
_LONGEST_PARAMETER = 6000
"""Characters; MLflow refuses longer ones."""
_TRACKIO_WRITES_WITHIN_S = 1.5


class Picture(NamedTuple):
    """An image of the validation or test set, and what the network said of it."""

    image: "Image"
    caption: str


class Asked(NamedTuple):
    """A run to be logged."""

    run_id: str
    settings: dict[str, str | float]
    started: float
    """Unix seconds."""
    target: str
    """Folder, or URI, where the service keeps it."""
    known_id: str
    """The service's id of the run, if it was logged there before; else empty."""
    next_step: int
    """Steps before are logged."""


class Service(Protocol):
    """One that keeps curves."""

    id: str
    """By which it is asked for the same run again."""
    seen_with: str
    """Command that shows the run, or its address."""

    def log(self, point: Point) -> None:
        """Add numbers."""

    def show(self, step: int, pictures: Sequence[Picture]) -> None:
        """Add images with predictions."""

    def flush(self) -> None:
        """Hand over what is not handed over yet: a crash of this process then loses none of it."""

    def close(self, outcome: Outcome | None) -> None:
        """Hand over the rest. `outcome` is that of the run; None if it trains on."""


class TensorBoard:
    """Event files in a folder: `tensorboard --logdir FOLDER`."""

    def __init__(self, asked: Asked) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self.id, self.seen_with = asked.run_id, f"tensorboard --logdir {shlex.quote(asked.target)}"
        self._last = (0, 0.0)
        self._writer = EventFileWriter(asked.target)
        if asked.next_step:  # what a killed logger wrote behind what it had noted is not shown
            restart = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(wall_time=asked.started, step=asked.next_step, session_log=restart))
        else:
            settings = hparams_pb(asked.settings, trial_id=asked.run_id, start_time_secs=asked.started)
            self._writer.add_event(Event(wall_time=asked.started, summary=settings))

    def log(self, point: Point) -> None:
        """Add numbers."""
        values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in point.values.items()]
        self._add(point.step, point.time, values)

    def show(self, step: int, pictures: Sequence[Picture]) -> None:
        """Add images with predictions; the tag of each is its caption."""
        values = []
        for number, (image, caption) in enumerate(pictures, 1):
            png = io.BytesIO()
            image.save(png, "PNG")
            content = self._summary.Image(
                width=image.width, height=image.height, colorspace=3, encoded_image_string=png.getvalue()
            )
            values.append(self._summary.Value(tag=f"predictions/{number:02} {caption}", image=content))
        self._add(step, self._last[1], values)

    def flush(self) -> None:
        """Hand over what is not handed over yet."""
        self._writer.flush()

    def close(self, outcome: Outcome | None) -> None:
        """Hand over the rest."""
        self._writer.close()

    def _add(self, step: int, time: float, values: list[Any]) -> None:
        self._last = (step, time)
        self._writer.add_event(self._event(wall_time=time, step=step, summary=self._summary(value=values)))


class Wandb:
    """A run of Weights & Biases: sent, or with WANDB_MODE=offline kept in a folder for `wandb sync`."""

    def __init__(self, asked: Asked) -> None:
        import wandb

        if os.environ.get("WANDB_MODE") not in {"offline", "disabled"} and not wandb.api.api_key:
            raise CifartuiError(
                "W&B does not know you: log in with wandb login, or set WANDB_MODE=offline and send the run later, "
                "with wandb sync."
            )
        Path(asked.target).mkdir(parents=True, exist_ok=True)  # else it falls back to a temporary folder
        self._wandb, self.id = wandb, asked.run_id
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=self.id, name=asked.run_id, resume="allow", dir=asked.target, config=asked.settings,
            settings=wandb.Settings(
                console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True,
            ),
        )  # fmt: skip
        kept = shlex.quote(str(Path(self._run.dir).parent))
        self.seen_with = f"wandb sync {kept}" if self._run.offline else str(self._run.url)

    def log(self, point: Point) -> None:
        """Add numbers."""
        self._run.log({**point.values, "unix_time": point.time}, step=point.step)

    def show(self, step: int, pictures: Sequence[Picture]) -> None:
        """Add images with predictions."""
        self._run.log({"predictions": [self._wandb.Image(each.image, caption=each.caption) for each in pictures]}, step)

    def flush(self) -> None:
        """Do nothing: what is logged is with a process of W&B's own, which outlives this one."""

    def close(self, outcome: Outcome | None) -> None:
        """Hand over the rest."""
        self._run.finish(exit_code=0 if outcome in {"completed", "stopped"} else 1 if outcome is not None else None)


class Mlflow:
    """A run in a tracking store of MLflow: an SQLite file, or a server."""

    def __init__(self, asked: Asked) -> None:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # seven take minutes
        self._metric = Metric
        self._waiting: list[Metric] = []
        self.seen_with = f"mlflow ui --backend-store-uri {shlex.quote(asked.target)}"
        self._client = MlflowClient(tracking_uri=asked.target)
        if asked.known_id and self._is_there(asked.known_id, MlflowException):
            self.id = asked.known_id
            self._client.update_run(self.id, status="RUNNING")
            return
        run = self._client.create_run(
            self._experiment(asked.target), start_time=int(1000 * asked.started), run_name=asked.run_id
        )
        self.id = run.info.run_id
        texts = {key: str(value)[:_LONGEST_PARAMETER] for key, value in asked.settings.items()}
        parameters = [Param(key, text) for key, text in texts.items() if text]
        self._client.log_batch(self.id, tags=[RunTag("cifartui.run", asked.run_id)])
        for start in range(0, len(parameters), _MOST_PARAMETERS):
            self._client.log_batch(self.id, params=parameters[start : start + _MOST_PARAMETERS])

    def _is_there(self, known_id: str, missing: type[Exception]) -> bool:
        try:
            return bool(self._client.get_run(known_id).info.lifecycle_stage == "active")
        except missing:
            return False

    def _experiment(self, target: str) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        known = self._client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        is_file = target.startswith("sqlite:///")
        images = f"{Path(target.removeprefix('sqlite:///')).with_suffix('')}-artifacts" if is_file else None
        return str(self._client.create_experiment(name, artifact_location=images))

    def log(self, point: Point) -> None:
        """Add numbers."""
        milliseconds = int(1000 * point.time)
        self._waiting += [self._metric(tag, value, milliseconds, point.step) for tag, value in point.values.items()]
        if len(self._waiting) >= _MOST_METRICS:
            self.flush()

    def show(self, step: int, pictures: Sequence[Picture]) -> None:
        """Add images with predictions, as artifacts named by their captions."""
        for number, (image, caption) in enumerate(pictures, 1):
            name = "".join(mark if mark.isalnum() or mark in " -_.%" else "_" for mark in caption)
            self._client.log_image(self.id, image, artifact_file=f"predictions/{step}/{number:02} {name}.png")

    def flush(self) -> None:
        """Hand over what is not handed over yet; the store keeps equal numbers once."""
        while self._waiting:
            self._client.log_batch(self.id, metrics=self._waiting[:_MOST_METRICS])
            del self._waiting[:_MOST_METRICS]

    def close(self, outcome: Outcome | None) -> None:
        """Hand over the rest."""
        self.flush()
        if outcome is not None:
            status = {"completed": "FINISHED", "stopped": "FINISHED", "failed": "FAILED", "aborted": "KILLED"}[outcome]
            self._client.set_terminated(self.id, status)


class Trackio:
    """A run of Trackio: an SQLite file in a folder, or what TRACKIO_SPACE_ID and TRACKIO_SERVER_URL name."""

    def __init__(self, asked: Asked) -> None:
        os.environ.setdefault("TRACKIO_DIR", asked.target)  # read when it is imported
        import trackio

        self._trackio, self.id, self._has_waiting = trackio, asked.run_id, False
        self.seen_with = f"TRACKIO_DIR={shlex.quote(asked.target)} trackio show"
        with redirect_stdout(sys.stderr if sys.stderr.isatty() else io.StringIO()):
            self._run = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", _PROJECT), name=asked.run_id, config=asked.settings,
                resume="allow" if asked.next_step else "never", embed=False, auto_log_gpu=False, auto_log_cpu=False,
            )  # fmt: skip

    def log(self, point: Point) -> None:
        """Add numbers."""
        self._has_waiting = True
        self._trackio.log({**point.values, "unix_time": point.time}, step=point.step)

    def show(self, step: int, pictures: Sequence[Picture]) -> None:
        """Add images with predictions."""
        shown = {
            f"predictions/{number:02}": self._trackio.Image(each.image, caption=each.caption)
            for number, each in enumerate(pictures, 1)
        }
        self._has_waiting = True
        self._trackio.log(shown, step=step)

    def flush(self) -> None:
        """Wait until a thread of Trackio's has written what was logged."""
        if self._has_waiting:
            time.sleep(_TRACKIO_WRITES_WITHIN_S)
            self._has_waiting = False

    def close(self, outcome: Outcome | None) -> None:
        """Hand over the rest."""
        with redirect_stdout(io.StringIO()):
            self._trackio.finish()


_CLASSES: dict[LogService, Callable[[Asked], Service]] = {
    "tensorboard": TensorBoard, "wandb": Wandb, "mlflow": Mlflow, "trackio": Trackio,
}  # fmt: skip


def target_of(name: LogService, run: Path, output: str | None) -> str:
    """Return where a service keeps a run: what the user names, what the service's own variable says, or beside it.

    Args:
        name: the service.
        run: the run's folder.
        output: a folder; for MLflow a URI or the path of an SQLite file.
    """
    if name == "mlflow":
        named = output or os.environ.get("MLFLOW_TRACKING_URI") or str(run.parent / "mlflow.db")
        return named if "://" in named else f"sqlite:///{Path(named).absolute()}"
    if name == "trackio":
        return str(Path(output or os.environ.get("TRACKIO_DIR") or run.parent / "trackio").absolute())
    return str(Path(output or (run if name == "wandb" else run / name)).absolute())  # wandb makes a folder of its own


def open_service(name: LogService, asked: Asked) -> Service:
    """Return the service, ready to take a run.

    Raises:
        CifartuiError: its library is not installed, or it refuses the run.
    """
    try:
        return _CLASSES[name](asked)
    except ImportError as error:
        raise CifartuiError(
            f"The package for {name} is not installed ({error.name or error}); add it with: "
            f"pip install 'cifartui[{name}]'"
        ) from None
    except OSError as error:
        raise CifartuiError(
            f"{asked.target} cannot be written ({error.strerror}); name a place with --output."
        ) from error
