"""Command `evaluate`: accuracy of a checkpoint, measured in a child process with torch."""

import csv
import io
import os
from pathlib import Path
from typing import Any

import click
import msgspec

from engine.runs import predictions, scores
from engine.runs.find_run import find_run
from engine.runs.predictions import Predictions, Split
from engine.shared import cifar100_superclasses
from presets.errors import CifartuiError
from tui import format as fmt
from tui.cli.options import as_json_option, data_option, device_option, places, with_places
from tui.cli.output import say, say_json
from tui.data.output_file import check_new, write_new
from tui.data.torch_process import run_module
from tui.text import score_text

_LABEL_WIDTH = 17
_FEW_CLASSES = 20
"""So many are printed unasked."""


@click.command()
@click.argument("name", metavar="RUN")
@click.option(
    "--split", type=click.Choice(["val", "test"]), help="Which images (default: test; val if there is no test part)."
)
@click.option(
    "--checkpoint", type=click.Choice(["best", "last"]), default="best", help="Which weights (default: best)."
)
@device_option
@data_option
@click.option("--submission", metavar="FILE.csv", help="Write the test predictions as Kaggle wants them.")
@click.option(
    "--csv", "table", metavar="FILE", help="Write precision, recall and F1 of every class; - prints that alone."
)
@click.option("--png", "picture", metavar="FILE", help="Write the confusion matrix as a picture.")
@click.option("--force", is_flag=True, help="Write over a FILE that is there.")
@click.option("--per-class", is_flag=True, help="Print every class, the lowest recall first, however many.")
@as_json_option
@with_places
@click.pass_context
def evaluate(
    ctx: click.Context,
    name: str,
    split: Split | None,
    checkpoint: str,
    device: str,
    data: str | None,
    submission: str | None,
    table: str | None,
    picture: str | None,
    force: bool,
    per_class: bool,
    as_json: bool,
) -> None:
    """Measure a run's best (or last) weights: accuracy, by class and superclass, and what is confused."""
    where = places(ctx)
    run = find_run(where.runs_dir, name)
    run.read_info()  # a sentence at once, before torch is imported
    if submission is not None and split == "val":
        raise CifartuiError("--submission is for the test images; leave --split val out.")
    if table == "-" and as_json:
        raise CifartuiError("Only one of --json and --csv - can be printed; name a file for the other.")
    for path in (submission, table if table != "-" else None, picture):
        if path is not None:
            check_new(Path(path), force=force)
    split = "test" if submission is not None else split
    arguments = [str(run.path), "--checkpoint", checkpoint, "--device", device]
    arguments += ["--split", split] if split is not None else []
    arguments += ["--data-dir", where.data_dir] if where.data_dir else []
    if data is not None:
        from engine.shared.data_path import data_at  # slow to import, and seldom needed

        own = run.read_info().preset.data
        arguments += ["--data", data_at(data, labels=own.labels, dataset=own.dataset).path]
    result = msgspec.json.decode(run_module("engine.training.evaluate_checkpoint", arguments))
    found = predictions.read(run, result["split"])
    assert found is not None
    if submission is not None:
        write_new(Path(submission), submission_text(found).encode(), force=force)
    _write_scores(found, table, picture, force=force)
    if as_json:
        say_json({**result, **_scores(found)}, indent=0)
        return
    if table != "-":
        _print(result, found, per_class=per_class)
    if table not in {None, "-"}:
        say(f"Precision, recall and F1 of the classes are in {table}.")
    is_alone = table == "-"
    if picture is not None:
        say(f"The confusion matrix is in {picture}.", err=is_alone)
    if submission is not None:
        say(
            f"{len(found.predicted) + len(found.unreadable):,} predictions are in {submission}.{_guessed(found)}",
            err=is_alone,
        )


def submission_text(found: Predictions) -> str:
    """Return a Kaggle submission, every field quoted.

    Data of image files has a row for each file, in the order of their names, below the folder that holds all of them;
    classes are names. A file that cannot be read is given the class of the most training images. Other data has its
    images numbered from 0 in test order, and classes by index.
    """
    if found.names or found.unreadable:
        by_name = {name: found.class_names[index] for name, index in zip(found.names, found.predicted, strict=True)}
        by_name |= dict.fromkeys(found.unreadable, found.class_names[found.most_frequent])
        folder = os.path.commonpath([name.rpartition("/")[0] for name in by_name])
        start = len(folder) + 1 if folder else 0
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([("file", "label"), *((name[start:], by_name[name]) for name in sorted(by_name))])
        return text.getvalue()
    rows = [f'"{number}","{predicted}"\n' for number, predicted in enumerate(found.predicted)]
    return "".join(['"Id","Prediction1"\n', *rows])


def _guessed(found: Predictions) -> str:
    """Return a sentence about the files that cannot be read, if there are any."""
    if not found.unreadable:
        return ""
    label = found.class_names[found.most_frequent]
    files = f"{len(found.unreadable):,} files cannot be read and stand"
    if len(found.unreadable) == 1:
        files = f"{found.unreadable[0]} cannot be read and stands"
    return f" {files} as {label}, the class of the most training images."


def _write_scores(found: Predictions, table: str | None, picture: str | None, *, force: bool) -> None:
    """Write the table of the classes and the picture of the confusion matrix, those of them that have a path."""
    if found.true is None and (table or picture):
        raise CifartuiError(
            "The test labels of this data are hidden, so there is no table and no confusion matrix; measure the "
            "validation images with --split val."
        )
    if table == "-":
        say(classes_csv(found).removesuffix("\n"))
    elif table is not None:
        write_new(Path(table), classes_csv(found).encode(), force=force)
    if picture is not None:
        from tui.plots.confusion import matrix_of, matrix_png

        write_new(Path(picture), matrix_png(matrix_of(found)), force=force)


def classes_csv(found: Predictions) -> str:
    """Return a line for every class that has images, the lowest recall first; fractions have six decimals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("class", "images", "predicted", "right", "precision", "recall", "recall_low", "recall_high", "f1"))
    for score in scores.by_class(found):
        values = (score.precision, score.recall, *score.recall_interval, score.f1)
        shares = ("" if value is None else f"{value:.6f}" for value in values)
        writer.writerow((score.name, score.num_images, score.num_predicted, score.hits, *shares))
    return text.getvalue()


def _scores(found: Predictions) -> dict[str, Any]:
    return {
        "scores": scores.overall(found),
        "classes": scores.by_class(found),
        "superclasses": scores.by_group(found, cifar100_superclasses.CIFAR100),
        "confusions": scores.confusions(found),
    }


def _print(result: dict[str, Any], found: Predictions, *, per_class: bool) -> None:
    for notice in result["notices"]:
        say(notice)
    weights = f"{result['checkpoint']}.pt (epoch {result['epoch']})"
    if result["labels_hidden"]:
        say(f"{weights}: the test labels of this data are hidden, so there is no accuracy to measure.")
        return
    say(
        f"{weights} on {result['num_images']:,} {result['split']} images:"
        f" top-1 {fmt.accuracy(result['top1'], result['balanced'], 2)}, loss {fmt.loss(result['loss'])}"
    )
    summed = scores.overall(found)
    if summed is not None:
        say("\n" + "\n".join(f"{label:<{_LABEL_WIDTH}}  {value}" for label, value in score_text.overall(summed)))
    groups = scores.by_group(found, cifar100_superclasses.CIFAR100)
    if groups:
        width = max(len(score.name) for score in groups)
        say(f"\n{'superclass':<{width}}  {'images':>7}  {'class right':>11}  {'superclass right':>16}")
        for score in groups:
            group_top1 = fmt.percent((score.group_hits or 0) / score.num_images)
            say(f"{score.name:<{width}}  {score.num_images:>7,}  {fmt.percent(score.top1):>11}  {group_top1:>16}")
    classes = scores.by_class(found)
    if per_class or len(classes) <= _FEW_CLASSES:
        width = max(len(score.name) for score in classes)
        say(f"\n{'class':<{width}}  {'images':>7}  {'precision':>9}  {'recall':>8}  {'F1':>8}")
        for score in classes:
            values = f"{fmt.percent(score.precision):>9}  {fmt.percent(score.recall):>8}  {fmt.percent(score.f1):>8}"
            say(f"{score.name:<{width}}  {score.num_images:>7,}  {values}")
    wrong = scores.confusions(found)
    if wrong:
        width = max(len(confusion.true) for confusion in wrong)
        say("\nmost often confused")
        for confusion in wrong:
            say(f"{confusion.true:<{width}}  taken for {confusion.predicted}, {confusion.num_images} times")
