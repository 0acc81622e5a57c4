"""The range test of a preset: what it is made of, how its rate rises, and where it may not stand."""

from itertools import pairwise

import pytest
import torch
from msgspec.structs import replace
from torch import nn

from engine.training.optimizers import Schedule, build_optimizer
from presets import catalog, schema
from presets.checks import check
from presets.errors import CifartuiError
from presets.plan import plan
from presets.range_test import default_range, range_test, rate_at, table_of

NAMES = [entry.name for entry in catalog.list_presets() if entry.preset is not None]


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_preset_has_a_range_test(name: str) -> None:
    preset = catalog.load(name)
    test = range_test(preset, 1e-5, 10.0, 300)
    assert test.data == preset.data
    (stage,) = plan(test)
    first = plan(preset)[0]
    assert (stage.epochs, stage.augment, stage.frozen) == (1, first.augment, first.frozen)
    assert type(stage.optimizer) is type(first.optimizer)
    assert stage.optimizer.lr == 10.0
    assert "range test" in test.title
    assert replace(test.train, augment=()) == replace(
        schema.Train(epochs=1, batch_size=preset.train.batch_size, cuda_graphs=False),
        precision=preset.train.precision,
        tf32=preset.train.tf32,
        alternating_flip=preset.train.alternating_flip,
        sync_batch_norm=preset.train.sync_batch_norm,
    )


def test_the_stages_own_optimizer_is_tested() -> None:
    stage = schema.Stage(name="a", epochs=3, optimizer=schema.AdamW(lr=1e-4))
    preset = catalog.load("basenet")
    staged = replace(preset, train=schema.Train(batch_size=8), stages=(stage,))
    assert range_test(staged, 1e-7, 1.0, 100).optimizer == schema.AdamW(lr=1.0)


def test_a_long_title_is_cut() -> None:
    preset = replace(catalog.load("basenet"), title="a" * 80)
    title = range_test(preset, 1e-5, 1.0, 100).title
    assert len(title) == 80
    assert title.endswith("range test")


def test_mixing_goes_on_and_does_not_wait_for_the_last_epochs() -> None:
    preset = replace(catalog.load("basenet"), mix=schema.Mix(mixup=0.2, off_epochs=3))
    assert range_test(preset, 1e-5, 1.0, 100).mix == schema.Mix(mixup=0.2, off_epochs=0)


def test_the_rate_rises_by_the_same_factor_from_end_to_end() -> None:
    table = schema.RangeTest(first_lr=1e-4, steps=21)
    optimizer = build_optimizer(schema.Sgd(lr=1.0), [nn.Parameter(torch.zeros(1))], torch.device("cpu"))
    schedule = Schedule(table, optimizer, steps_per_epoch=21, epochs=1)
    used = []
    for _ in range(21):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step_done()
    assert used[0] == pytest.approx(1e-4)
    assert used[-1] == pytest.approx(1.0)
    assert [after / before for before, after in pairwise(used)] == pytest.approx([10**0.2] * 20)
    assert used == pytest.approx([rate_at(table, 1.0, step) for step in range(21)])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1.0)  # and stays there


def test_muons_two_rates_rise_together() -> None:
    preset = replace(catalog.load("basenet"), optimizer=schema.Muon(lr=0.02, other_lr=0.1))
    test = range_test(preset, 1e-4, 2.0, 20)
    assert test.optimizer == schema.Muon(lr=2.0, other_lr=10.0)
    parameters = [nn.Parameter(torch.zeros(2, 2, 3, 3)), nn.Parameter(torch.zeros(2, 2))]
    optimizer = build_optimizer(test.optimizer, parameters, torch.device("cpu"))
    table = table_of(test)
    assert table is not None
    schedule = Schedule(table, optimizer, steps_per_epoch=20, epochs=1)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    for _ in range(20):
        filters, others = (group["lr"] for group in optimizer.param_groups)
        assert others / filters == pytest.approx(5.0)
        optimizer.step()
        schedule.step_done()


def test_the_usual_range_goes_by_the_optimizer() -> None:
    assert default_range(schema.AdamW()) == (1e-7, 1.0)
    assert default_range(schema.Sgd(lr=0.1)) == (1e-5, 10.0)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"schedule": schema.RangeTest(first_lr=0.01)}, "schedule.first_lr must be below optimizer.lr"),
        ({"optimizer": schema.Sgd(lr=1e7)}, "optimizer.lr must be at most 1e+06"),
        ({"train": schema.Train(epochs=1, batch_size=8, max_minutes=1.0)}, "train.max_minutes does not go"),
        (
            {"train": schema.Train(batch_size=8), "stages": (schema.Stage(name="a", epochs=1),)},
            'stages[0] cannot have the schedule "range-test"',
        ),
    ],
)
def test_a_preset_that_is_no_range_test_is_refused(changes: dict[str, object], part: str) -> None:
    preset = replace(catalog.load("basenet"), optimizer=schema.Sgd(lr=0.01), schedule=schema.RangeTest(first_lr=1e-4))
    check(preset)
    with pytest.raises(CifartuiError) as caught:
        check(replace(preset, **changes))
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
