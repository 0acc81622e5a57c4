"""A run's journal, read on from where it was logged last, for a service that keeps curves. No torch."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from engine import files
from engine.files import DAMAGED
from engine.journal.events import AnyEvent, Outcome, RunFinished, RunStarted
from engine.journal.jsonl import LineReader, end_of, event_reader
from engine.runs import predictions
from engine.runs.notify_settings import LogService
from engine.runs.predictions import Predictions
from engine.runs.run_dir import RunDir, write_atomically
from engine.trackers.points import Logged, point_of, settings_of
from engine.trackers.services import Asked, Picture, Service, open_service, target_of
from presets.errors import CifartuiError
from presets.problems import printable

_LOOK_EVERY_S = 1.0
_FLUSHED_EVERY_S = 5.0
_MOST_PICTURES = 16


class InUseError(CifartuiError):
    """Another process logs the run to this service."""


class _Place(Struct, kw_only=True):
    """A run at one target: the service's id of it, and how far it is logged."""

    id: str
    logged: Logged


class Result(Struct, frozen=True, kw_only=True):
    """Result of one call."""

    seen_with: str
    """Command that shows the run, or its address; empty if nothing was new."""
    num_points: int
    num_pictures: int
    outcome: Outcome | None
    """Of the run; None if it had not ended."""
    is_lost: bool
    """The run has no worker, and no end."""
    has_pictures: bool
    """Sample predictions are logged, now or before."""


def log_run(
    run: RunDir,
    name: LogService,
    output: str | None,
    *,
    follow: bool,
    stop: threading.Event,
    started: Callable[[str], object] = lambda _target: None,
) -> Result:
    """Log what a run has told since it was logged last, with `follow` until it ends or `stop` is set.

    Args:
        run: the run; its folder keeps how far it is logged, in `logged-NAME.json`.
        name: the service.
        output: where, as `services.target_of` has it.
        follow: wait for what is told later.
        stop: ends the waiting.
        started: called with the target, once the service takes the run.

    Raises:
        CifartuiError: the service's library is not there or refuses the run, another process logs it there, or the
            run's folder cannot be written.
    """
    info, target = run.read_info(), target_of(name, run.path, output)
    with _alone(run, name):
        places = _read_places(run, name)
        place = places.setdefault(target, _Place(id="", logged=Logged()))
        logged = place.logged
        is_new = not place.id
        if not is_new and not follow and (known := _nothing_new(run, logged)):
            return known
        asked = Asked(
            run_id=run.id, settings=settings_of(info), started=info.created, target=target, known_id=place.id,
            next_step=0 if is_new else logged.last_step + 1,
        )  # fmt: skip
        try:
            service = open_service(name, asked)
            started(target)
            place.id = service.id

            def keep() -> None:
                service.flush()
                _write_places(run, name, places)

            return _log(run, service, logged, keep, follow=follow, stop=stop)
        except CifartuiError:
            raise
        except Exception as error:  # of any of four libraries, or of the server behind one
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise CifartuiError(f"{name} does not take run {run.id}: {printable(why)}") from error


def write_whole(run: RunDir, name: LogService, target: Path) -> None:
    """Write all that a run has told for a service into a new place; the run's folder keeps no note of it.

    Raises:
        CifartuiError: the service's library is not there, or the disk refuses.
        OSError: the disk refuses later.
    """
    info = run.read_info()
    asked = Asked(
        run_id=run.id, settings=settings_of(info), started=info.created, target=str(target), known_id="", next_step=0
    )
    service = open_service(name, asked)
    _log(run, service, Logged(), service.flush, follow=False, stop=threading.Event())


def _nothing_new(run: RunDir, logged: Logged) -> Result | None:
    """Return what is to be said if a run has told nothing since it was logged, so that no service need be asked."""
    outcome = logged.outcome
    if end_of(run.events) > logged.offset or (outcome is not None and not logged.has_pictures and _pictures_of(run)):
        return None
    return Result(
        seen_with="", num_points=0, num_pictures=0, outcome=outcome,
        is_lost=outcome is None and run.worker_lives() is False, has_pictures=logged.has_pictures,
    )  # fmt: skip


def _log(
    run: RunDir,
    service: Service,
    logged: Logged,
    keep: Callable[[], None],
    *,
    follow: bool,
    stop: threading.Event,
) -> Result:
    outcome: Outcome | None = None
    pictures: list[Picture] = []
    try:
        keep()
        outcome, num_points, is_lost = _log_events(run, service, logged, keep, follow=follow, stop=stop)
        if outcome is not None and not logged.has_pictures and (pictures := _pictures_of(run)):
            service.show(logged.last_step, pictures)
            logged.has_pictures = True
        keep()
    finally:
        service.close(outcome)
    return Result(
        seen_with=service.seen_with, num_points=num_points, num_pictures=len(pictures), outcome=outcome,
        is_lost=is_lost, has_pictures=logged.has_pictures,
    )  # fmt: skip


def _log_events(
    run: RunDir, service: Service, logged: Logged, keep: Callable[[], None], *, follow: bool, stop: threading.Event
) -> tuple[Outcome | None, int, bool]:
    """Return how the run ended (None: not yet), how many points were logged, and whether its worker is lost."""
    reader = event_reader(run.events)
    reader.skip_to(logged.offset)
    num_points, kept_at = 0, time.monotonic()
    while True:
        lives = run.worker_lives()  # before reading: what a dying worker wrote last is not missed
        for batch in _batches(reader):
            for event in batch:
                if isinstance(event, RunFinished):
                    logged.outcome = event.outcome
                elif isinstance(event, RunStarted):
                    logged.outcome = None
                point = point_of(event, logged)
                if point is not None:
                    service.log(point)
                    num_points += 1
            logged.offset = reader.offset
            if stop.is_set():
                return None, num_points, False
        if logged.outcome is not None and not lives:
            return logged.outcome, num_points, False
        is_lost = lives is False or (lives is None and run.events.exists() and not run.spoke_lately())
        if not follow or is_lost or stop.is_set():
            return None, num_points, is_lost
        if time.monotonic() - kept_at > _FLUSHED_EVERY_S:
            keep()
            kept_at = time.monotonic()
        stop.wait(_LOOK_EVERY_S)


def _batches(reader: LineReader[AnyEvent]) -> Iterator[list[AnyEvent]]:
    """Yield what is new, none while a shared disk is away."""
    with suppress(OSError):
        yield from reader.batches()


def _pictures_of(run: RunDir) -> list[Picture]:
    """Return the first images of the test set, else of the validation set, if predictions of them are kept."""
    from PIL import Image

    for split in ("test", "val"):
        try:
            found = predictions.read(run, split)
            if found is None:
                continue
            with predictions.open_pixels(run, found) as pixels:
                size, num_bytes = (found.image_size, found.image_size), 3 * found.image_size**2
                return [
                    Picture(
                        Image.frombytes("RGB", size, pixels[number * num_bytes : (number + 1) * num_bytes]),
                        _caption(found, number),
                    )
                    for number in range(min(_MOST_PICTURES, len(found.predicted)))
                ]
        except CifartuiError:  # damaged ones are no reason to log nothing
            continue
    return []


def _caption(found: Predictions, number: int) -> str:
    predicted = printable(found.class_names[found.predicted[number]], 40)
    said = f"{predicted} {100 * found.confidence[number]:.0f} %"
    if found.true is None or found.true[number] == found.predicted[number]:
        return said
    return f"{said}, is {printable(found.class_names[found.true[number]], 40)}"


@contextmanager
def _alone(run: RunDir, name: LogService) -> Iterator[None]:
    """Hold the lock of the one process that logs a run to a service."""
    run.check_ours()
    path = run.path / f"logged-{name}.lock"
    try:
        fd = files.open_file(path, os.O_RDWR)
    except OSError as error:
        raise CifartuiError(
            f"{path} cannot be written ({error.strerror}); it keeps how far a run is logged."
        ) from error
    with os.fdopen(fd):
        try:
            files.try_flock(fd, fcntl.LOCK_EX)  # where a disk refuses locks there is none
        except BlockingIOError:
            raise InUseError(f"Run {run.id} is being logged to {name} by another process.") from None
        yield


def _path(run: RunDir, name: LogService) -> Path:
    return run.path / f"logged-{name}.json"


def _read_places(run: RunDir, name: LogService) -> dict[str, _Place]:
    """Return how far the run is logged, by target."""
    path = _path(run, name)
    try:
        return msgspec.json.decode(files.read_ours(path), type=dict[str, _Place])
    except FileNotFoundError:
        return {}
    except (OSError, *DAMAGED):
        raise CifartuiError(
            f"{path} cannot be read, so nobody knows what is logged; delete it, and the run is logged from its start."
        ) from None


def _write_places(run: RunDir, name: LogService, places: dict[str, _Place]) -> None:
    try:
        write_atomically(_path(run, name), msgspec.json.encode(places))
    except OSError as error:
        raise CifartuiError(f"{_path(run, name)} cannot be written ({error.strerror}).") from error
