"""Learning rates that `lr-find` finds, quickly and thoroughly, held against a sweep; prints a row in Markdown.

python -m benchmarks.lr_find basenet --epochs 5 --runs-dir DIR [--images N] [--budget 20m] [--data PATH] [--set K=V]

The sweep trains rates a factor of 1.5 apart about the preset's own, each through the preset's whole schedule in so many
epochs, and goes on beyond its edge for as long as the best rate lies there. The rates that were found are trained as
long, so that their accuracies compare: best validation accuracy, one seed. Whatever is in DIR is not trained again:
interrupted, the same command goes on. The problems that docs/recipes.md reports:

    basenet --epochs 5                                        networks/resnet18 --epochs 1 --images 10000
    vgg-custom --set data.image_size=32 --epochs 1            photos/finetune --data ants-bees.tar --epochs 10
    demo --epochs 6
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from engine.runs.lr_trials import trial_of
from engine.runs.named_runs import find_named
from engine.runs.run_dir import RunDir, stem_of
from engine.shared.data_path import with_data
from presets import catalog
from presets.plan import plan
from presets.short_run import Length, short_run

_STEP = 1.5
_EITHER_SIDE = 4
_MOST_BEYOND = 12


class _Problem:
    """A preset with its settings, and the runs of its sweep by rate."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.overrides = with_data(asked.data, tuple(asked.overrides))
        self.preset = catalog.load(asked.preset, self.overrides)
        self.middle = plan(self.preset)[0].optimizer.lr
        self.length = Length(asked.epochs, asked.images or 1)

    def cifartui(self, *words: str) -> str:
        """Run a command on this problem, and return what it prints."""
        asked = self.asked
        command = [sys.executable, "-m", "cifartui", "--runs-dir", str(asked.runs_dir)]
        command += ["--data-dir", asked.data_dir] if asked.data_dir else []
        settings = [part for override in self.overrides for part in ("--set", override)]
        command += [words[0], asked.preset, *settings, "--seed", str(asked.seed), "--device", asked.device, *words[1:]]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode not in {0, 1}:  # 1: a run whose loss is no number
            raise SystemExit(done.returncode)
        return done.stdout

    def accuracy(self, lr: float) -> float | None:
        """Return what a rate comes to in the length of the sweep, trained if it was not yet; None if it diverges."""
        name = f"sweep-{stem_of(self.asked.preset)}-s{self.asked.seed}-e{self.length.epochs}-{lr:g}"
        trial = None if (run := find_named(self.asked.runs_dir, name)) is None else trial_of(run, lr, self.length)
        if trial is None:
            changes = short_run(self.preset, lr, self.length, self.length.num_images + bool(self.asked.images))
            settings = [part for change in changes for part in ("--set", change)]
            self.cifartui("train", "--name", name, "--output", "quiet", *settings)
            run = find_named(self.asked.runs_dir, name)
            trial = None if run is None else trial_of(run, lr, self.length)
            if trial is None:
                raise SystemExit(f"Run {name} did not come to its end; the same command goes on with it.")
            print(f"lr {lr:g}: {_percent(trial.accuracy)}", file=sys.stderr, flush=True)
        return trial.accuracy

    def rate(self, place: int) -> float:
        """Return the rate of the sweep so many steps from the preset's own."""
        return float(f"{self.middle * _STEP**place:.3g}")

    def sweep(self) -> dict[float, float]:
        """Return the accuracy of every rate of the sweep; 0 of those that diverge."""
        low, high = -_EITHER_SIDE, _EITHER_SIDE
        while True:
            reached = {place: self.accuracy(self.rate(place)) or 0.0 for place in range(low, high + 1)}
            best = max(reached, key=lambda place: reached[place])
            if best not in {low, high} or high - low > 2 * _EITHER_SIDE + _MOST_BEYOND:
                return {self.rate(place): accuracy for place, accuracy in reached.items()}
            low, high = (low - 1, high) if best == low else (low, high + 1)

    def thorough(self) -> dict[str, Any]:
        """Return what the thorough search found."""
        printed = self.cifartui("lr-find", "--thorough", "--budget", self.asked.budget, "--output", "json")
        lines = [json.loads(line) for line in printed.splitlines()]
        found: dict[str, Any] = lines[-1]
        found["seconds"] = sum(line["seconds"] for line in lines if line["type"] == "trial")
        return found

    def quick(self) -> dict[str, Any]:
        """Return what the range test suggests, run if it was not yet."""
        stem = stem_of(f"lr-find {self.asked.preset}")
        paths = sorted(self.asked.runs_dir.glob(f"*-{stem}-????"))
        over = [path for path in paths if RunDir(path).read_state().phase == "completed"]
        if not over:
            self.cifartui("lr-find", "--output", "quiet")
            over = sorted(self.asked.runs_dir.glob(f"*-{stem}-????"))
        command = [sys.executable, "-m", "cifartui", "--runs-dir", str(self.asked.runs_dir), "show", over[-1].name]
        shown = json.loads(subprocess.run([*command, "--json"], stdout=subprocess.PIPE, check=True).stdout)
        suggestion: dict[str, Any] = shown["range_test"]["suggestion"]
        return suggestion


def _percent(accuracy: float | None) -> str:
    return "diverged" if not accuracy else f"{100 * accuracy:.2f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset")
    parser.add_argument("--epochs", type=int, required=True, help="of every run of the sweep")
    parser.add_argument("--images", type=int, help="training images of every run of the sweep; all without it")
    parser.add_argument("--runs-dir", type=Path, required=True, help="keep the runs here, those of one problem")
    parser.add_argument("--budget", default="20m", help="of the thorough search")
    parser.add_argument("--data")
    parser.add_argument("--data-dir")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    problem = _Problem(parser.parse_args())
    quick, thorough, sweep = problem.quick(), problem.thorough(), problem.sweep()
    best = max(sweep, key=lambda lr: sweep[lr])
    asked = problem.asked
    images = f" of {asked.images:,} images" if asked.images else ""
    cells = [
        " ".join([f"`{asked.preset}`", *(f"`{override}`" for override in asked.overrides)]),
        f"{len(sweep)} rates, {asked.epochs} epochs{images}: {best:g}, {_percent(sweep[best])}",
        _beside(problem, thorough["lr"], best, sweep[best]),
        f"{thorough['seconds'] / 60:.0f} min",
        _beside(problem, quick["lr"], best, sweep[best]),
    ]
    print(f"thorough: {thorough['reason']}\nquick: {quick['reason']}\n", file=sys.stderr)
    print("| preset | best of the sweep, val | `--thorough`: rate, factor off, val | time | quick look |")
    print("|---|---|---|---|---|")
    print(f"| {' | '.join(cells)} |")


def _beside(problem: _Problem, lr: float | None, best: float, accuracy: float) -> str:
    """Return a rate that was found, how far it is from the best of the sweep, and what it comes to beside it."""
    if lr is None:
        return "none suggested"
    points = 100 * ((problem.accuracy(lr) or 0.0) - accuracy)
    return f"{lr:g}, × {max(lr / best, best / lr):.2f}, {points:+.2f} points"


if __name__ == "__main__":
    main()
