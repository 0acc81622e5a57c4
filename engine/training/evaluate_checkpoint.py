"""Process `python -m engine.training.evaluate_checkpoint RUN_FOLDER`: evaluates a checkpoint of a run.

Prints one JSON object on stdout; a sentence on stderr and exit 2 if it cannot. Stores the predictions in the run's
folder (`engine.runs.predictions`), and changes nothing else there.
"""

import argparse
import os
import sys
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from engine.data.geometry import resize
from engine.journal.data_record import differences
from engine.journal.events import DataProgressed
from engine.runs import predictions
from engine.runs.predictions import DIGITS, MAX_SIDE, MOST_TOP, Predictions
from engine.runs.run_dir import RunDir
from engine.shared.data_path import data_at
from engine.shared.image_scan import shown
from engine.training import checkpoint_files
from engine.training.checkpoint_checks import class_names_of, data_of
from engine.training.microbatch import MicroBatch
from engine.training.setup import choose_hardware, set_up
from engine.training.trained_network import check_evaluated, read_weights
from engine.training.validation import evaluate
from presets import catalog
from presets.errors import CifartuiError

_SHRINK_BATCH = 256


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Result of an evaluation: weights, split, number of images, loss and accuracy."""

    run: str
    checkpoint: str
    epoch: int
    split: str
    num_images: int
    loss: float | None
    top1: float | None
    balanced: float | None
    """Balanced accuracy, the mean of the classes' recalls; None where classes are even."""
    labels_hidden: bool
    device: str
    has_test: bool = True
    """False if the data has no test part."""
    notices: tuple[str, ...] = ()
    """Sentences about the data: those that training has, and how it differs from what the weights were trained on."""


def measure(
    folder: RunDir,
    which: str,
    split: str | None,
    device_asked: str,
    data_dir: str | None,
    data: str | None = None,
    *,
    same_data: bool = False,
) -> Evaluation:
    """Return loss and accuracy of checkpoint `which` (best or last) on `split` (val or test).

    Without `split` it is test, or val if the data has no test part. `data` is the path of other data than the run's;
    with `same_data` it must be the run's own in another place.

    Raises:
        CifartuiError: no such checkpoint or split, or it does not fit, or the data is absent or not the run's own.
    """
    info = folder.read_info()
    path, state = read_weights(folder, info, which)
    preset = info.preset
    if data is not None:
        own = preset.data
        preset = catalog.amend(preset, data_at(data, labels=own.labels, dataset=own.dataset).overrides)
    info = msgspec.structs.replace(info, preset=preset, device=device_asked, data_dir=data_dir or info.data_dir)
    device, precision = choose_hardware(info)
    try:
        record, class_names = data_of(state), class_names_of(state)
    except ValueError as error:
        raise CifartuiError(f"{path} cannot be used: {error}.") from error
    setup = set_up(
        info, device, precision, write=_ignore, report=_ignore, class_names=class_names, is_filled_later=True
    )
    changed = differences(record, setup.data_record) if record is not None else ""
    if same_data and (record is None or changed):
        why = changed or "it was trained by a version that kept no record of its data"
        raise CifartuiError(f"The data in {setup.data.source} cannot stand for that of run {folder.id}: {why}.")
    epoch, global_step = check_evaluated(path, state, setup.network)
    setup.network.load_state_dict(checkpoint_files.evaluated(state))
    has_test = setup.data.test is not None
    split = split or ("test" if has_test else "val")
    images = setup.data.val if split == "val" else setup.data.test
    if images is None:
        raise CifartuiError(
            f"The data of run {folder.id} has no test part ({setup.data.source}); measure its validation images with "
            "--split val."
        )
    hidden = split == "test" and setup.data.test_labels_hidden
    best = _Top()
    sums = evaluate(
        setup.network,
        images,
        setup.plain_transform,
        setup.criterion,
        batch_size=setup.eval_batch_size,
        at_once=MicroBatch(setup.eval_batch_size, device, _ignore),
        autocast=setup.autocast,
        progress=_ignore,
        on_logits=best.on_logits,
        flip_average=info.preset.train.flip_average,
        num_classes=len(setup.data.class_names) if setup.measures_balanced else 0,
    )
    top, probabilities = best.read(path)
    pixels = _small_enough(images.images)
    found = Predictions(
        run=folder.id,
        split="val" if split == "val" else "test",
        checkpoint="best" if which == "best" else "last",
        epoch=epoch,
        global_step=global_step,
        class_names=setup.data.class_names,
        image_size=pixels.shape[-2],
        true=None if hidden else tuple(images.labels.tolist()),
        predicted=tuple(classes[0] for classes in top),
        confidence=tuple(values[0] for values in probabilities),
        top=top,
        top_probability=probabilities,
        names=tuple(map(shown, images.names)),
        unreadable=tuple(map(shown, images.unreadable)),
        most_frequent=int(setup.data.train.labels.bincount().argmax()),
        data=None if data is None or (record is not None and not changed) else preset.data.path,
    )
    try:
        predictions.write(folder, found, pixels.numpy().tobytes())
    except OSError as error:
        raise CifartuiError(f"The predictions cannot be stored in {folder.path} ({error.strerror}).") from error
    return Evaluation(
        run=folder.id,
        checkpoint=which,
        epoch=epoch,
        split=split,
        num_images=sums.num_images,
        loss=None if hidden else sums.mean_loss(),
        top1=None if hidden else sums.top1(),
        balanced=None if hidden else sums.balanced,
        labels_hidden=hidden,
        device=str(device),
        has_test=has_test,
        notices=(*setup.data.notices, *_notices(setup.data.source, changed)),
    )


def _notices(source: str, changed: str) -> tuple[str, ...]:
    return (f"The data in {source} is not what the weights were trained with: {changed}.",) if changed else ()


class _Top:
    """The most probable classes of every image seen, with their probabilities."""

    def __init__(self) -> None:
        self._classes: list[Tensor] = []
        self._probabilities: list[Tensor] = []

    def on_logits(self, logits: Tensor) -> None:
        predicted = logits.argmax(1, keepdim=True)  # as a Meter counts hits: of equal ones the first, and it leads here
        probabilities = logits.softmax(1)
        classes = probabilities.scatter(1, predicted, 2.0).topk(min(MOST_TOP, logits.shape[1])).indices
        self._classes.append(classes.cpu())
        self._probabilities.append(probabilities.gather(1, classes).cpu())

    def read(self, path: Path) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[float, ...], ...]]:
        """Return classes and rounded probabilities, the most probable first.

        Raises:
            CifartuiError: the weights of `path` say no number of an image.
        """
        probabilities = torch.cat(self._probabilities)
        num_without = int((~probabilities.isfinite().all(1)).sum())
        if num_without:
            raise CifartuiError(
                f"The weights in {path} give no number (NaN) for {num_without:,} of {len(probabilities):,} images, so "
                "there is no accuracy to measure; evaluate the other checkpoint (--checkpoint best or last), or train "
                "again at a smaller learning rate."
            )
        rounded = tuple(tuple(round(value, DIGITS) for value in row) for row in probabilities.tolist())
        return tuple(map(tuple, torch.cat(self._classes).tolist())), rounded


def _small_enough(images: Tensor) -> Tensor:
    """Return uint8 [N, 3, H, W] as uint8 [N, S, S, 3] on the CPU, scaled down to what a screen shows."""
    if images.shape[-1] > MAX_SIDE:
        parts = [resize(part, MAX_SIDE, MAX_SIDE).round().byte().cpu() for part in images.split(_SHRINK_BATCH)]  # type: ignore[no-untyped-call]
        images = torch.cat(parts)
    return images.cpu().permute(0, 2, 3, 1).contiguous()


def _ignore(_fact: DataProgressed | object) -> None:
    """Ignore progress: nobody follows an evaluation."""


def main() -> int:
    """Evaluate as the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(prog="engine.training.evaluate_checkpoint")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoint", choices=["best", "last"], default="best")
    parser.add_argument("--split", choices=["val", "test"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-dir")
    parser.add_argument("--data")
    parser.add_argument("--same-data", action="store_true")
    asked = parser.parse_args()
    os.umask(0o077)
    try:
        result = measure(
            RunDir(asked.folder), asked.checkpoint, asked.split, asked.device, asked.data_dir, asked.data,
            same_data=asked.same_data,
        )  # fmt: skip
    except CifartuiError as error:
        print(error, file=sys.stderr)
        return 2
    print(msgspec.json.encode(result).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
