"""Content of a report: what it says of every run, as plain data. Reads runs; no torch, no markup but SVG."""

import base64
import io
import mmap
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from engine.journal.events import DataReady
from engine.journal.state import RunState
from engine.runs import predictions, scores
from engine.runs.export_record import fingerprint_of
from engine.runs.newer_info import read_shown
from engine.runs.predictions import Predictions
from engine.runs.run_dir import RunDir, RunInfo
from engine.runs.scores import ClassScore, Confusion, Scores
from presets.errors import CifartuiError
from tui import format as fmt
from tui.data.range_test import Verdict, in_words
from tui.data.run_detail import RunDetail, detail_and_state
from tui.plots.confusion import matrix_of, matrix_svg
from tui.plots.export import metrics_svg, range_test_svg
from tui.plots.reliability import reliability_svg
from tui.report.evaluated import SPLIT_NAMES, SplitScores, read_evaluated, scores_of
from tui.text import preset_text, run_text

_RECORDED = {"train": "training", "val": "validation"}
MOST_CLASSES = 40
"""Rows of the table of classes; the others are counted."""
_MOST_PHOTOS, _MOST_MISTAKES, _MOST_CONFUSIONS = 24, 16, 10
_DIGEST_CHARACTERS = 16
_PHOTOGRAPH_FROM = 48
"""Side in pixels from which on an image is kept as JPEG, of a fifth of the bytes of PNG."""


@dataclass(frozen=True)
class Photo:
    """An image of the data: a data URI, and lines under it."""

    uri: str
    side: int
    title: str
    note: str = ""


@dataclass(frozen=True)
class Detail:
    """Everything that predictions of one split add up to."""

    split: str
    summed: Scores
    classes: list[ClassScore]
    """By harm, at most `MOST_CLASSES`."""
    num_more_classes: int
    confusions: list[Confusion]
    matrix_svg: str
    is_ordered: bool
    reliability_svg: str
    mistakes: list[Photo]


@dataclass(frozen=True)
class RunReport:
    """All that a report says of a run. Fractions are from 0 to 1."""

    name: str
    id: str
    title: str
    summary: str
    status: str
    tone: str
    ended: str
    alerts: list[str]
    facts: list[tuple[str, str]]
    settings: list[tuple[str, str]]
    changes: tuple[str, ...]
    words: tuple[str, ...]
    """Settings that are not the preset's, in short words."""
    curves_svg: str
    """Curves by epoch; of a range test, the loss over the learning rate. Empty if no batch was trained."""
    verdict: tuple[str, ...] | None
    """Of a range test, which keeps no weights: what it suggests, and the command that trains so. None of others."""
    has_test: bool
    """False if it is known that the data has no test part."""
    splits: list[SplitScores]
    detail: Detail | None
    samples: list[Photo]
    missing: list[str]
    """Sentences about what the page cannot show, and how to get it."""
    command: str
    seed: int
    num_parameters: int | None
    duration_s: float | None
    pflop: float | None
    group: tuple[str, ...]
    """Preset, changes and data: runs of one group differ in their seeds alone."""
    images: dict[str, str]
    """Digests of its training, validation and test images, by which they differ from others; empty if not known."""

    def of(self, split: str) -> SplitScores | None:
        """Return the scores of a split, if they are known."""
        return next((each for each in self.splits if each.name == split), None)


def read_report(run: RunDir, now: float) -> RunReport:
    """Read a run and what its weights say of its images.

    Args:
        run: the run.
        now: Unix seconds.

    Raises:
        CifartuiError: run.json cannot be read.
    """
    info = read_shown(run)
    record, state = detail_and_state(run, now)
    evaluated = read_evaluated(run, record, state)
    stored, missing = evaluated.found, list(evaluated.missing)
    detail, samples = None, []
    chosen = next((each for each in stored[::-1] if each.true), None)
    if chosen is not None:
        try:
            with closing(predictions.open_pixels(run, chosen)) as pixels:
                samples = _samples(chosen, pixels)
                detail = _detail(chosen, pixels)
        except CifartuiError as error:
            missing.append(str(error))
            detail = _detail(chosen, None)
    summary = record.summary
    return RunReport(
        name=fmt.short_id(run.id),
        id=run.id,
        title=summary.title,
        summary=info.preset.summary,
        status=summary.status,
        tone=run_text.tone(summary.status),
        ended=_ended(record),
        alerts=[run_text.warning(alert) for alert in record.alerts],
        facts=[row for row in _facts(record) if row[1]],
        settings=[row for row in _settings(info) if row[1]],
        changes=summary.overrides,
        words=summary.words,
        curves_svg=_curves(record, state),
        verdict=None if record.range_test is None else _verdict(record.range_test),
        has_test=summary.has_test,
        splits=scores_of(stored, record, state),
        detail=detail,
        samples=samples,
        missing=missing,
        command=record.start_command,
        seed=summary.seed,
        num_parameters=record.model.num_parameters if record.model is not None else None,
        duration_s=summary.duration_s,
        pflop=summary.pflop,
        group=(summary.preset_name, *summary.overrides, *_all_images(record.data)),
        images=_images(record.data),
    )


def _curves(record: RunDetail, state: RunState) -> str:
    if not state.steps and not state.epochs:
        return ""
    if record.range_test is not None:
        return range_test_svg(record.range_test)
    return metrics_svg(state, record.report)


def _verdict(found: Verdict) -> tuple[str, ...]:
    sentence = in_words(found.suggestion)
    return (sentence, found.train_with) if found.train_with else (sentence,)


def _images(data: DataReady | None) -> dict[str, str]:
    """Return the digest of each split of the data, by name; its number of images if there is no digest."""
    if data is None:
        return {}
    counts = {"training": data.num_train, "validation": data.num_val, "test": data.num_test}
    splits = data.record.splits if data.record is not None else {}
    digests = {_RECORDED.get(name, name): split.digest for name, split in splits.items()}
    return {name: digests.get(name, f"{count} of {data.dataset}") for name, count in counts.items() if count}


def _all_images(data: DataReady | None) -> tuple[str, ...]:
    """Return what the data of runs has in common that differ in their seeds, by which validation may be split off."""
    if data is None:
        return ()
    classes = data.record.class_names if data.record is not None else ()
    return (data.dataset, f"{data.num_train + data.num_val}", _images(data).get("test", ""), *classes)


def _detail(found: Predictions, pixels: mmap.mmap | None) -> Detail | None:
    summed = scores.overall(found)
    if summed is None:
        return None
    classes, matrix = scores.by_harm(found), matrix_of(found)
    wrong = scores.matching(found, "wrong")[:_MOST_MISTAKES]
    return Detail(
        split=SPLIT_NAMES[found.split],
        summed=summed,
        classes=classes[:MOST_CLASSES],
        num_more_classes=max(0, len(classes) - MOST_CLASSES),
        confusions=scores.confusions(found, _MOST_CONFUSIONS),
        matrix_svg=matrix_svg(matrix),
        is_ordered=list(matrix.classes) != sorted(matrix.classes),
        reliability_svg=reliability_svg(summed.calibration),
        mistakes=[] if pixels is None else [_mistake(found, row, pixels) for row in wrong],
    )


def _mistake(found: Predictions, row: int, pixels: mmap.mmap) -> Photo:
    assert found.true is not None, "a mistake has a label"
    confidence = fmt.percent(found.confidence[row]).replace(" ", "\u00a0")  # its sign in the line of its number
    taken = f"taken for {found.class_names[found.predicted[row]]}, {confidence}"
    return _photo(found, row, pixels, found.class_names[found.true[row]], taken)


def _samples(found: Predictions, pixels: mmap.mmap) -> list[Photo]:
    """Return the first image of every class, of classes spread over all of them if there are many."""
    assert found.true is not None, "samples are by class"
    first: dict[int, int] = {}
    for row, label in enumerate(found.true):
        first.setdefault(label, row)
    labels = sorted(first)
    most = min(_MOST_PHOTOS, len(labels))
    chosen = [labels[number * len(labels) // most] for number in range(most)]
    return [_photo(found, first[label], pixels, found.class_names[label]) for label in chosen]


def _photo(found: Predictions, row: int, pixels: mmap.mmap, title: str, note: str = "") -> Photo:
    from PIL import Image

    side = found.image_size
    num_bytes = 3 * side**2
    picture = Image.frombytes("RGB", (side, side), pixels[row * num_bytes : (row + 1) * num_bytes])
    kind, options = ("jpeg", {"quality": 90}) if side >= _PHOTOGRAPH_FROM else ("png", {})
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return Photo(f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}", side, title, note)


def _ended(record: RunDetail) -> str:
    """Return how a run ended, how far it came unless it was trained to its end, and why."""
    summary = record.summary
    is_whole = summary.status == "completed" and bool(summary.reason)
    trained = "" if is_whole else f", {len(record.epochs)} of {fmt.plural(summary.epochs, 'epoch')} trained"
    reason = f": {summary.reason.rstrip('.')}" if summary.reason else ""
    return f"{summary.status}{trained}{reason}"


def _settings(info: RunInfo) -> Iterator[tuple[str, str]]:
    """Yield the preset's fields that decide what is trained, in words."""
    preset = info.preset
    yield "preset", info.preset_name
    yield "changed", " ".join(info.overrides)
    yield "network", preset_text.network(preset.model)
    yield "data", preset_text.data(preset.data)
    yield "training", preset_text.training(preset)
    yield "optimizer", preset_text.optimizer(preset.optimizer)
    yield "schedule", preset_text.schedule(preset.schedule)
    yield "augmentation", preset_text.augmentation(preset.train.augment)
    yield from preset_text.stages(preset)
    yield "seed", str(info.seed)


def _facts(record: RunDetail) -> Iterator[tuple[str, str]]:
    """Yield what the run was trained on, with what, and for how long."""
    data, model, started, summary = record.data, record.model, record.started, record.summary
    if data is not None:
        hidden = ", test labels hidden" if data.test_labels_hidden else ""
        yield (
            "data",
            f"{preset_text.dataset(data.dataset)}: {run_text.counts(data)}, {data.num_classes} classes{hidden}",
        )
        yield "source", data.source
        if data.record is not None:
            whole = fingerprint_of(data.record).fingerprint[:_DIGEST_CHARACTERS]
            digests = (f"{name} {split.digest[:_DIGEST_CHARACTERS]}" for name, split in data.record.splits.items())
            yield "fingerprint", f"{whole}, of {', '.join(digests)} (SHA-256 of names and classes)"
    if model is not None:
        yield "network", run_text.network(model)
    yield "begun", time.strftime("%Y-%m-%d %H:%M", time.localtime(record.first_started_time or summary.created))
    yield "how it ended", _ended(record)
    yield "time", f"{fmt.duration(summary.duration_s)}, {fmt.duration(summary.seconds_per_epoch)} an epoch"
    yield "spent", run_text.spent(summary.flops)
    if record.images_per_s is not None:
        yield "speed", f"{fmt.count(record.images_per_s)} images/s"
    if started is not None:
        yield "machine", run_text.device_in_full(started)
        yield "versions", run_text.versions(started)
    published = (("val", record.report.val_top1), ("test", record.report.test_top1))
    known = ", ".join(f"{name} {fmt.percent(value, 1)}" for name, value in published if value is not None)
    yield "reference", f"{record.report.source}: {known}" if known else ""
