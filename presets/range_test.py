"""A preset's learning-rate range test: the same network, data and optimizer, with a rate that rises every batch.

Smith, "Cyclical Learning Rates for Training Neural Networks" (2017). No training.
"""

from msgspec import Struct
from msgspec.structs import replace

from presets.checks import check
from presets.plan import plan
from presets.schema import (
    RANGE_TEST_STEPS,
    AdamW,
    FreezableModel,
    Model,
    Muon,
    Optimizer,
    Preset,
    RangeTest,
    Report,
)

_LONGEST_TITLE = 80
_SUFFIX = ", range test"
_NAMED = "lr-find "
_RANGE = (1e-5, 10.0)
_RANGE_OF_ADAMW = (1e-7, 1.0)


class Sweep(Struct, frozen=True, kw_only=True):
    """Rates of a range test, and its number of batches. A rate of None is the one that suits the optimizer."""

    first_lr: float | None = None
    last_lr: float | None = None
    steps: int = RANGE_TEST_STEPS

    def rates(self, optimizer: Optimizer) -> tuple[float, float]:
        """Return the first and the last rate for an optimizer."""
        first, last = default_range(optimizer)
        return (
            first if self.first_lr is None else self.first_lr,
            last if self.last_lr is None else self.last_lr,
        )


DEFAULT_SWEEP = Sweep()


def default_range(optimizer: Optimizer) -> tuple[float, float]:
    """Return the default first and last rate of a test."""
    return _RANGE_OF_ADAMW if isinstance(optimizer, AdamW) else _RANGE


def tested_optimizer(preset: Preset) -> Optimizer:
    """Return the optimizer whose rate a range test of `preset` is about: that of its first stage."""
    return plan(preset)[0].optimizer


def range_test(preset: Preset, first_lr: float, last_lr: float, steps: int) -> Preset:
    """Return the preset of a range test of `preset`: its first stage.

    What belongs to validation, to a long training, or to speed that takes minutes to prepare is left out. Images have
    their full size throughout, and are mixed if the preset mixes them. Muon's two rates rise together.

    Args:
        preset: checked.
        first_lr: of the first batch.
        last_lr: of the last batch.
        steps: batches.

    Raises:
        CifartuiError: the numbers do not go together.
    """
    stage = plan(preset)[0]
    test = replace(
        preset,
        title=preset.title[: _LONGEST_TITLE - len(_SUFFIX)] + _SUFFIX,
        summary="",
        report=Report(),
        model=_as_in_stage(preset.model, is_frozen=stage.frozen),
        train=replace(
            preset.train,
            epochs=1,
            epochs_scale=1.0,
            augment=stage.augment,
            image_sizes=(),
            ema_decay=0.0,
            flip_average=False,
            max_minutes=None,
            patience=None,
            feature_views=None,
            compile="off",
            cuda_graphs=False,
        ),
        optimizer=with_lr(stage.optimizer, last_lr),
        schedule=RangeTest(first_lr=first_lr, steps=steps),
        stages=(),
        mix=replace(preset.mix, off_epochs=0),
    )
    check(test)
    return test


def range_test_name(preset_name: str) -> str:
    """Return the name under which the range tests of a preset are kept: apart from its runs, which they are not."""
    return f"{_NAMED}{preset_name}"


def is_range_test_name(preset_name: str) -> bool:
    """Return true if a run under this name is a range test that was started as one."""
    return preset_name.startswith(_NAMED)


def tested_name(name: str) -> str:
    """Return the preset that a test of that name is of."""
    return name.removeprefix(_NAMED)


def with_lr(optimizer: Optimizer, lr: float) -> Optimizer:
    """Return an optimizer at another rate; Muon's second one keeps its proportion to the first."""
    if isinstance(optimizer, Muon):
        return replace(optimizer, lr=lr, other_lr=optimizer.other_lr * lr / optimizer.lr)
    return replace(optimizer, lr=lr)


def table_of(preset: Preset) -> RangeTest | None:
    """Return the schedule of a preset that is a range test; None of any other."""
    return preset.schedule if isinstance(preset.schedule, RangeTest) else None


def sweep_of(test: Preset) -> Sweep:
    """Return the rates and the number of batches that a preset from `range_test` was made with."""
    table = table_of(test)
    if table is None:
        return DEFAULT_SWEEP
    first, last = default_range(test.optimizer)
    return Sweep(
        first_lr=None if table.first_lr == first else table.first_lr,
        last_lr=None if test.optimizer.lr == last else test.optimizer.lr,
        steps=table.steps,
    )


def rate_at(table: RangeTest, last_lr: float, step: float) -> float:
    """Return the rate of a step, counted from 0; it stays at `last_lr` behind the last one."""
    share = min(1.0, step / (table.steps - 1))
    return float(table.first_lr * (last_lr / table.first_lr) ** share)


def _as_in_stage(model: Model, *, is_frozen: bool) -> Model:
    return replace(model, frozen=is_frozen) if isinstance(model, FreezableModel) else model
