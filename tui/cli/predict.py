"""Command `predict`: classes of images of one's own by a run's network, a line an image, in a child process."""

import csv
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import click
from msgspec import Struct

from engine.runs.find_run import find_model
from engine.runs.image_predictions import (
    MOST_GUESSES,
    Answer,
    Guess,
    Loaded,
    Noticed,
    Predicted,
    Request,
    Row,
    Unpacking,
)
from engine.runs.run_dir import RunDir
from engine.shared.image_scan import shown
from presets.errors import CifartuiError
from tui import format as fmt
from tui.cli.interrupts import INTERRUPTED, NOBODY_READS, TERMINATED
from tui.cli.live_line import LiveLine
from tui.cli.options import device_option, places, with_places
from tui.cli.output import say, say_json
from tui.data.image_predictor import answers
from tui.data.output_file import new_file

_DIGITS = 4
"""Decimals of a probability in files, as in those of `evaluate`."""
_WIDEST_NAME = 60
_SAY_EVERY_S = 30.0
"""Between two lines of progress where there is no terminal to draw on."""


@click.command()
@click.argument("name", metavar="RUN")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option(
    "--top",
    type=click.IntRange(1, MOST_GUESSES),
    default=2,
    show_default=True,
    help="Print so many classes of each image, the most probable first.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Name no class of an image whose most probable one has less than P (0 to 1): it is unsure.",
)
@click.option(
    "--csv", "csv_file", metavar="FILE", help="Write the lines to FILE as CSV, and print none; - prints them as CSV."
)
@click.option("--force", is_flag=True, help="Write over FILE if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print an object of JSON a line.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), metavar="N", help="Images at once (default: as many as in validation)."
)
@click.option(
    "--checkpoint", type=click.Choice(["best", "last"]), default="best", help="Which weights (default: best)."
)
@device_option
@with_places
@click.pass_context
def predict(
    ctx: click.Context,
    name: str,
    paths: tuple[str, ...],
    top: int,
    threshold: float | None,
    csv_file: str | None,
    force: bool,
    as_json: bool,
    batch_size: int | None,
    checkpoint: Literal["best", "last"],
    device: str,
) -> None:
    """Say what a run's weights take images for: file, class, confidence, runner-up, a line an image.

    RUN is a run, the path of a run's folder, or an exported model's file (.onnx, .safetensors). PATH is an image, a
    folder (with all below it), an archive (zip, tar), or - for names on standard input. An image goes the way of the
    validation images: size, crop, colours, mirrored mean. Lines are in the order of PATH, a folder's sorted by name. A
    file that cannot be read keeps its line, with the reason, and the exit code is then 1.
    """
    if csv_file == "-" and as_json:
        raise CifartuiError("Only one of --json and --csv - can be printed; name a file for the other.")
    found_model = find_model(places(ctx).runs_dir, name)
    if isinstance(found_model, RunDir):
        found_model.read_info()  # a sentence at once, before torch is imported
    request = Request(
        run=str(found_model.path.absolute() if isinstance(found_model, RunDir) else found_model),
        checkpoint=checkpoint,
        device=device,
        batch_size=batch_size,
        top=top,
        folder=str(Path.cwd()),
    )
    tally = Tally()
    try:
        with ExitStack() as stack:
            stack.enter_context(_ended_by_sigterm())
            put: Callable[[bytes], object] | None = _say_csv if csv_file == "-" else None
            if csv_file not in {None, "-"}:
                put = stack.enter_context(new_file(Path(str(csv_file)), force=force)).write
            progress = stack.enter_context(_progress())
            found = stack.enter_context(closing(answers(request, paths)))
            write = _writer(put, as_json, top, threshold)
            for answer in found:
                _take(answer, tally, progress, write)
            if not tally.done:
                raise CifartuiError("There is no image to predict; name files, folders or archives of images.")
    except (KeyboardInterrupt, BrokenPipeError, _Terminated) as error:
        code = _CODES[type(error)]
        _say_unfinished(tally, csv_file, code)
        ctx.exit(code)
    if csv_file not in {None, "-"}:
        say(f"{fmt.plural(tally.done, 'prediction')} {'is' if tally.done == 1 else 'are'} in {csv_file}.", err=True)
    if tally.failed:
        say(f"There is no prediction for {tally.failed:,} of {fmt.plural(tally.done, 'image')}.", err=True)
    ctx.exit(1 if tally.failed else 0)


class Tally(Struct):
    """Images done so far, and those of them without a prediction. Mutable."""

    done: int = 0
    failed: int = 0


class _Terminated(BaseException):
    """SIGTERM came."""


_CODES: dict[type[BaseException], int] = {
    KeyboardInterrupt: INTERRUPTED,
    BrokenPipeError: NOBODY_READS,
    _Terminated: TERMINATED,
}


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say_unfinished(tally: Tally, csv_file: str | None, code: int) -> None:
    """Print what was done before the command was ended."""
    if code == NOBODY_READS:
        _drop_output()
        return
    why = "Interrupted" if code == INTERRUPTED else "Terminated"
    unwritten = f"; {csv_file} was not written" if csv_file not in {None, "-"} else ""
    say(f"{why} after {fmt.plural(tally.done, 'image')}{unwritten}.", err=True)


def _drop_output() -> None:
    """Let what is still to be printed go nowhere, or Python would complain of it at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class _Progress:
    """Line of progress on standard error: drawn in place on a terminal, else printed now and then."""

    def __init__(self, line: LiveLine | None) -> None:
        self._line = line
        self._began = self._said_at = time.monotonic()

    def show(self, text: str) -> None:
        """Show how far it is."""
        if self._line is not None:
            self._line.show(lambda columns: fmt.cut(text, columns))
        elif time.monotonic() - self._said_at >= _SAY_EVERY_S:
            self._said_at = time.monotonic()
            say(text, err=True)

    def begin(self) -> None:
        """Count the time from now on."""
        self._began = time.monotonic()

    def show_done(self, answer: Predicted) -> None:
        """Show how many images are done, of how many, and how quickly."""
        seconds = max(time.monotonic() - self._began, 1e-3)
        total = f" of {answer.known:,}" if answer.is_all else ""
        self.show(f"{answer.done:,}{total} images, {answer.done / seconds:,.0f} images/s")

    def say(self, text: str) -> None:
        """Print a line on standard error that stays."""
        self.clear()
        say(text, err=True)

    def clear(self) -> None:
        """Take the line away, for others to be printed."""
        if self._line is not None:
            self._line.clear()


@contextmanager
def _progress() -> Iterator[_Progress]:
    if not sys.stderr.isatty():
        yield _Progress(None)
        return
    with LiveLine(sys.stderr, lambda: None) as line:
        progress = _Progress(line)
        progress.show("Loading the network…")
        yield progress


def _take(answer: Answer, tally: Tally, progress: _Progress, write: Callable[[Sequence[Row]], object]) -> None:
    match answer:
        case Loaded():
            progress.say(answer.sentence())
            progress.begin()
        case Noticed():
            progress.say(answer.text)
        case Unpacking():
            progress.show(f"unpacking {answer.what}: {fmt.memory(answer.done)} of {fmt.memory(answer.total)}")
        case Predicted():
            progress.clear()
            write(answer.rows)
            tally.done = answer.done
            tally.failed += sum(bool(row.problem) for row in answer.rows)
            progress.show_done(answer)


def _say_csv(lines: bytes) -> None:
    say(lines.decode().removesuffix("\n"))


def _writer(
    put: Callable[[bytes], object] | None, as_json: bool, top: int, threshold: float | None
) -> Callable[[Sequence[Row]], object]:
    """Return a function that prints rows, or gives them to `put` as CSV, or both."""

    def named(row: Row) -> str:
        is_sure = row.top and (threshold is None or row.top[0].confidence >= threshold)
        return row.top[0].class_name if is_sure else ""

    def write(rows: Sequence[Row]) -> None:
        if put is not None and rows:
            put(_csv([_cells(row, named(row), top) for row in rows]))
        if as_json:
            for row in rows:
                say_json(_record(row, named(row)), indent=0)
        elif put is None and rows:
            _print([_columns(row, named(row)) for row in rows])

    if put is not None:
        further = [f"{field}_{rank}" for rank in range(2, top + 1) for field in ("class", "confidence")]
        put(_csv([["file", "class", "confidence", *further, "problem"]]))
    return write


def _rounded(guess: Guess) -> float:
    return round(guess.confidence, _DIGITS)


def _record(row: Row, class_name: str) -> dict[str, Any]:
    """Return a row as JSON: `class` is null if there is none, or if it is unsure; `top` has all that were asked for."""
    return {
        "file": row.file,
        "class": class_name or None,
        "confidence": _rounded(row.top[0]) if row.top else None,
        "top": [{"class": guess.class_name, "confidence": _rounded(guess)} for guess in row.top],
        "problem": row.problem or None,
    }


def _cells(row: Row, class_name: str, top: int) -> list[object]:
    guesses: list[object] = [_rounded(row.top[0])] if row.top else [""]
    for guess in row.top[1:]:
        guesses += [guess.class_name, _rounded(guess)]
    return [shown(row.file), class_name, *guesses, *[""] * (2 * top - 1 - len(guesses)), row.problem]


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _columns(row: Row, class_name: str) -> list[str]:
    if row.problem:
        return [shown(row.file), f"no prediction: {row.problem}"]
    first, *others = row.top
    confidence = fmt.percent(first.confidence, 2)
    known = [class_name, confidence] if class_name else ["unsure", f"{first.class_name} {confidence}"]
    return [shown(row.file), *known, *(f"{guess.class_name} {fmt.percent(guess.confidence, 2)}" for guess in others)]


def _print(lines: Sequence[Sequence[str]]) -> None:
    """Print lines of columns: under each other on a terminal, else separated by tabs."""
    if not sys.stdout.isatty():
        say("\n".join("\t".join(line) for line in lines))
        return
    of_files = min(_WIDEST_NAME, max(len(line[0]) for line in lines))
    of_classes = max((len(line[1]) for line in lines if len(line) > 2), default=0)
    for name, known, *others in lines:
        say("  ".join([f"{name:<{of_files}}", f"{known:<{of_classes}}", *others]).rstrip())
