"""Kills workers at random moments, resumes them, and asks whether anything shows in the result: not a bit may.

    python -m benchmarks.torture --moments 50 --seed 0

Real worker processes and SIGKILL, on small random images in CIFAR-100's files. A run is killed several times on
its way; then weights, optimizer, schedule, best weights and the metrics of its journal are compared with those
of the same run left alone. CPU only: a GPU does not sum in the same order twice.
"""

import argparse
import hashlib
import os
import pickle
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from torch import Tensor

from engine.journal import commands
from engine.journal.events import (
    AnyEvent,
    CheckpointSaved,
    CommandApplied,
    DataReady,
    EpochCompleted,
    RunFinished,
    RunStarted,
    StageStarted,
    StepsTrained,
)
from engine.journal.jsonl import append_command, event_reader, read_events
from engine.runs import run_dir
from engine.runs.run_dir import RunDir
from engine.runs.start import start_worker
from engine.training import checkpoint_files
from presets import schema
from tests import every

PATIENCE_S = 120.0
KILLS_A_RUN = 4
_NUM_TRAIN, _NUM_TEST = 720, 160
_STEPS_PER_EPOCH = 21  # of 648 images, the others being the validation set

_CROP = (schema.RandomCrop(padding=4),)
_BASENET = schema.Preset(
    title="Torture",
    data=schema.Data(dataset="cifar100", normalize="half"),
    model=schema.BaseNet(),
    train=schema.Train(epochs=8, batch_size=32, augment=every.AUGMENTATIONS),
    optimizer=schema.Sgd(lr=0.02, momentum=0.9),
    schedule=schema.Plateau(patience=0),
)
_DROPOUT = replace(
    _BASENET,
    model=schema.Vgg(blocks=((8,), (16,)), pools=("max", "avg"), head=(32,), dropout=0.3),
    optimizer=schema.AdamW(lr=0.01),
    schedule=schema.OneCycle(),
)
_STAGES = replace(
    _DROPOUT,
    train=schema.Train(batch_size=32),
    stages=(
        schema.Stage(name="crop", epochs=3, augment=_CROP, schedule=schema.Plateau(patience=0)),
        schema.Stage(name="all", epochs=3, augment=every.AUGMENTATIONS, start_from="best"),
        schema.Stage(name="plain", epochs=2, start_from="best", lr=0.001, schedule=schema.Cosine(warmup_epochs=0.5)),
    ),
)
_RECIPE = replace(
    _DROPOUT,
    train=schema.Train(
        epochs=8, batch_size=32, augment=_CROP, alternating_flip=True, image_sizes=((0.4, 24),), ema_decay=0.95
    ),
    mix=schema.Mix(mixup=0.3, cutmix=1.0, p=0.8, off_epochs=2),
    optimizer=schema.Muon(weight_decay=0.01),
)
CASES = {
    "basenet, plateau": _BASENET,
    "dropout, one-cycle": _DROPOUT,
    "stages from the best": _STAGES,
    "EMA, mixing, Muon": _RECIPE,
}


# --- moments ---------------------------------------------------------------------------------------


def _news(run: RunDir, since: int) -> Iterator[AnyEvent]:
    """Yield what happens after byte `since` of the journal, as it happens, until the worker is gone."""
    reader, deadline = event_reader(run.events), time.monotonic() + PATIENCE_S
    reader.skip_to(since)
    while True:
        lives = run.worker_lives()
        yield from reader.read()
        if not lives:
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"{run.path} does not come to its end; see its worker.log")
        time.sleep(0.0005)  # between looks; nothing depends on its length


def _is_last_step(event: AnyEvent) -> bool:
    return isinstance(event, StepsTrained) and event.step == _STEPS_PER_EPOCH


def _nth(
    is_it: Callable[[AnyEvent], bool], at_most: int, delay_s: float = 0.0
) -> Callable[[RunDir, int, random.Random], bool]:
    """Return a wait for one of the next `at_most` such events and a random delay; False where the run ends before."""

    def wait(run: RunDir, since: int, draw: random.Random) -> bool:
        left = draw.randint(1, at_most)
        for event in _news(run, since):
            left -= is_it(event)
            if left == 0:
                time.sleep(draw.uniform(0.0, delay_s))  # a kill at any time is the point
                return True
        return False

    return wait


def _is(*kinds: type[AnyEvent]) -> Callable[[AnyEvent], bool]:
    return lambda event: isinstance(event, kinds)


def _in_a_write(run: RunDir, since: int, draw: random.Random) -> bool:
    names = [str(run.checkpoints / f".{name}.pt.writing") for name in ("last", "best", "stage-best")]
    if not _nth(_is(StepsTrained), at_most=3)(run, since, draw):
        return False
    while not any(map(os.path.exists, names)):  # looked for without a rest: a small one is written in a millisecond
        if not run.worker_lives():
            return False
    return True


def _asked(command: commands.AnyCommand, delay_s: float = 0.0) -> Callable[[RunDir, int, random.Random], bool]:
    """Return a wait for the answer to a command given at some step, and a random delay."""

    def wait(run: RunDir, since: int, draw: random.Random) -> bool:
        if not _nth(_is(StepsTrained), at_most=4)(run, since, draw):
            return False
        since = run.events.stat().st_size
        append_command(run.commands, command)
        return _nth(_is(CommandApplied), 1, delay_s)(run, since, draw)

    return wait


def _saved_while_paused(run: RunDir, since: int, draw: random.Random) -> bool:
    if not _asked(commands.Pause())(run, since, draw):
        return False
    since = run.events.stat().st_size
    append_command(run.commands, commands.SaveCheckpoint())
    return _nth(_is(CommandApplied), at_most=1)(run, since, draw)


MOMENTS: dict[str, Callable[[RunDir, int, random.Random], bool]] = {
    "in training": _nth(_is(StepsTrained), at_most=5, delay_s=0.2),
    "in an evaluation": _nth(_is_last_step, at_most=2, delay_s=0.01),
    "an epoch told, not saved": _nth(_is(EpochCompleted), at_most=2),
    "in a checkpoint's write": _in_a_write,
    "a checkpoint written": _nth(_is(CheckpointSaved), at_most=3),
    "a stage begins": _nth(_is(StageStarted), at_most=2),
    "paused": _asked(commands.Pause()),
    "saved while paused": _saved_while_paused,
    "after a save asked for": _asked(commands.SaveCheckpoint(), delay_s=0.1),
    "after a validation asked for": _asked(commands.Validate(), delay_s=0.05),
    "the data read": _nth(_is(DataReady), at_most=1, delay_s=0.05),
}


# --- results ---------------------------------------------------------------------------------------


def digest(value: Any) -> str:
    """Return a hash of tensors and plain values, the same only where every bit is."""
    found = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, Tensor):
            found.update(f"{part.dtype}{tuple(part.shape)}".encode() + part.contiguous().numpy().tobytes())
        elif isinstance(part, dict):
            for key in sorted(part, key=str):
                found.update(f"{key}:".encode())
                add(part[key])
        elif isinstance(part, list | tuple):
            found.update(b"[")
            for each in part:
                add(each)
            found.update(b"]")
        else:
            found.update(repr(part).encode())

    add(value)
    return found.hexdigest()[:16]


def result(run: RunDir) -> dict[str, str]:
    """Return what a run came to, as hashes; times are left out."""
    last, best, state = checkpoint_files.load(run.last), checkpoint_files.load(run.best), run.read_state()
    place = {key: value for key, value in last["progress"].items() if not key.endswith("_seconds")}
    spent = place.pop("flops")  # of evaluation too, which a validation that a moment asks for adds to
    end = state.finished
    assert end is not None
    epochs = [(p.epoch, p.global_step, p.train_loss, p.train_top1, p.val_loss, p.val_top1, p.lr) for p in state.epochs]
    return {
        "outcome": f"{end.outcome}: {end.reason}",
        "weights": digest([last["network"], last.get("ema")]),
        "optimizer": digest(last["optimizer"]),
        "schedule": digest([last["schedule"], last["scaler"], last["lr_scale"], last["stage"]]),
        "place": digest(place),
        "spent": digest([spent["train"], spent["optimizer"]]),
        "best weights": digest(best),
        "epochs": digest(epochs),
        "test": digest([end.best_epoch, end.best_val_top1, end.test_loss, end.test_top1, end.global_step]),
        "images told of": str(sorted(_images_told_of(read_events(run.events)).items())),
    }


def _images_told_of(events: Sequence[AnyEvent]) -> Counter[int]:
    """Return how many images of every epoch the reports come to, without those that a resume did again."""
    told: list[StepsTrained] = []
    for event in events:
        if isinstance(event, RunStarted):
            told = [each for each in told if each.global_step <= event.global_step]
        elif isinstance(event, StepsTrained):
            told.append(event)
    num_images: Counter[int] = Counter()
    for each in told:
        num_images[each.epoch] += each.num_images
    return num_images


# --- runs ------------------------------------------------------------------------------------------


class Kill(NamedTuple):
    """A worker that was killed, and where the next one went on."""

    moment: str
    last_word: str
    killed_at: int
    """The last step in the journal."""
    resumed_at: int


def write_images(where: Path) -> Path:
    """Write random images as CIFAR-100's files."""
    where.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for name, number in (("train", _NUM_TRAIN), ("test", _NUM_TEST)):
        content = {
            b"data": draw.integers(0, 256, (number, 3072), dtype=np.uint8),
            b"fine_labels": draw.integers(0, 100, number).tolist(),
        }
        (where / name).write_bytes(pickle.dumps(content, protocol=2))
    return where


def start(runs_dir: Path, images: Path, preset: schema.Preset) -> RunDir:
    """Start a run of a case."""
    preset = replace(preset, data=replace(preset.data, path=str(images)))
    run = run_dir.create(runs_dir, "torture", preset=preset, seed=1, device="cpu")
    start_worker(run)
    return run


def finish(run: RunDir) -> dict[str, str]:
    """Wait for the end of a run, and return its result."""
    for _event in _news(run, 0):
        pass
    end = run.read_state().finished
    if end is None or end.outcome != "completed":
        raise SystemExit(f"{run.path} did not complete: {end}\n{run.log.read_text()}")
    return result(run)


def kill_and_resume(run: RunDir, moment: str, draw: random.Random, since: int) -> tuple[Kill, int] | None:
    """Kill the worker at a moment after byte `since` of its journal, and start the next one.

    Returns:
        what happened, and the byte at which the next worker's journal begins; None where the run ended before.
    """
    if not MOMENTS[moment](run, since, draw):
        return None
    mark = run.read_mark()
    assert mark is not None
    os.kill(mark.pid, signal.SIGKILL)
    while run.worker_lives():
        time.sleep(0.001)
    reader = event_reader(run.events)
    told = reader.read()
    if isinstance(told[-1], RunFinished):
        return None
    start_worker(run, resume=True)
    for event in _news(run, reader.offset):
        if isinstance(event, RunStarted):
            steps = [each.global_step for each in told if isinstance(each, StepsTrained)]
            kill = Kill(moment, type(told[-1]).__name__, steps[-1] if steps else 0, event.global_step)
            return kill, reader.offset
    raise SystemExit(f"{run.path} was not resumed:\n{run.log.read_text()}")


def torture(
    runs_dir: Path, images: Path, preset: schema.Preset, moments: Sequence[str], draw: random.Random
) -> tuple[list[Kill], dict[str, str]]:
    """Train a case to its end, killed at those of the moments, in this order, that come before it."""
    run, kills, since = start(runs_dir, images, preset), [], 0
    for moment in moments:
        found = kill_and_resume(run, moment, draw, since)
        if found is None:
            break
        kills.append(found[0])
        since = found[1]
    return kills, finish(run)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="of the runs, those whose name holds this")
    asked = parser.parse_args()
    draw, done, num_different = random.Random(asked.seed), 0, 0
    moments = [name for _ in range(asked.moments) for name in draw.sample(list(MOMENTS), len(MOMENTS))]
    with tempfile.TemporaryDirectory(prefix="cifartui-torture-") as place:
        runs_dir, images = Path(place) / "runs", write_images(Path(place) / "images")
        whole = {case: finish(start(runs_dir, images, CASES[case])) for case in CASES if asked.only in case}
        print(f"{'':>4} {'run':<22} {'killed':<28} {'last word':<16} {'at step':>7} {'resumed':>7}  identical")
        while done < asked.moments:
            case = draw.choice(list(whole))
            wanted = moments[done : min(done + KILLS_A_RUN, asked.moments)]
            kills, found = torture(runs_dir, images, CASES[case], wanted, draw)
            differing = [what for what in found if found[what] != whole[case][what]]
            num_different += bool(differing)
            for number, kill in enumerate(kills, start=done + 1):
                verdict = f"no: {', '.join(differing)}" if differing else "yes"
                print(
                    f"{number:>4} {case:<22} {kill.moment:<28} {kill.last_word:<16} "
                    f"{kill.killed_at:>7} {kill.resumed_at:>7}  {verdict}",
                    flush=True,
                )
            done += len(kills)
            if not kills:  # the run was over before the moment came: another moment first
                draw.shuffle(moments)
    print(f"{done} kills, {num_different} runs with another result than the run left alone")
    return 1 if num_different else 0


if __name__ == "__main__":
    sys.exit(main())
