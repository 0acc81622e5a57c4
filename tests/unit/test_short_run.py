"""Short runs of every shipped preset: checked presets, as short as asked for, with the schedule in proportion."""

from pathlib import Path

import msgspec
import pytest

from presets import catalog, schema
from presets.plan import plan
from presets.short_run import Length, _toml, probe, short_run


@pytest.mark.parametrize("name", [each.name for each in catalog.list_presets()])
def test_every_shipped_preset_has_short_runs(name: str) -> None:
    preset = catalog.load(name)
    stage = plan(preset)[0]
    changes = short_run(preset, 0.003, Length(2, 1000), 45_000)
    (short,) = plan(short_preset := catalog.load(name, changes))
    assert (short.epochs, short.optimizer.lr, short_preset.data.train_limit) == (2, 0.003, 1000)
    assert (short.frozen, short.augment, type(short.schedule)) == (stage.frozen, stage.augment, type(stage.schedule))
    assert short_preset.train.max_minutes is None
    (measured,) = plan(probe_preset := catalog.load(name, probe(preset, 0.003, 0.2)))
    assert (measured.epochs, probe_preset.train.max_minutes, probe_preset.data.train_limit) == (
        1, 0.2, preset.data.train_limit,
    )  # fmt: skip


def test_a_run_of_the_whole_length_is_the_preset_at_another_rate() -> None:
    preset = catalog.load("basenet")
    assert short_run(preset, 0.02, Length(15, 45_000), 45_000) == ("optimizer.lr=0.02", "train.epochs=15")


def test_muon_keeps_its_two_rates_in_proportion() -> None:
    overrides = ('optimizer={name="muon", lr=0.05, other_lr=0.1}',)
    assert short_run(catalog.load("basenet", overrides), 0.0125, Length(1, 9), 9) == (
        "optimizer.lr=0.0125", "optimizer.other_lr=0.025", "train.epochs=1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "shortened"),
    [
        (schema.Cosine(warmup_epochs=5.0, final_lr=1e-4), schema.Cosine(warmup_epochs=1.0, final_lr=1e-4)),
        (schema.Step(every=10, factor=0.2), schema.Step(every=2, factor=0.2)),
        (schema.Step(every=1), schema.Step(every=1)),
        (schema.Plateau(patience=5), schema.Plateau(patience=1)),
        (schema.OneCycle(warmup_fraction=0.2), schema.OneCycle(warmup_fraction=0.2)),
        (schema.Linear(), schema.Linear()),
        (schema.Constant(), schema.Constant()),
    ],
)
def test_what_a_schedule_counts_in_epochs_is_shortened(schedule: schema.Schedule, shortened: schema.Schedule) -> None:
    overrides = (
        "train.epochs=20",
        f"schedule={_toml(msgspec.to_builtins(schedule))}",
        "mix.mixup=0.2",
        "mix.off_epochs=5",
    )
    preset = catalog.load("basenet", overrides)
    assert preset.schedule == schedule
    short = catalog.load("basenet", (*overrides, *short_run(preset, 0.01, Length(4, 45_000), 45_000)))
    assert (short.schedule, short.mix.off_epochs, short.train.epochs) == (shortened, 1, 4)


def test_the_first_stage_is_trained_alone_with_its_own_optimizer() -> None:
    preset = catalog.load("photos/finetune")
    short = catalog.load("photos/finetune", short_run(preset, 0.004, Length(3, 200), 244))
    (stage,) = plan(short)
    assert (short.stages, stage.frozen, stage.epochs, stage.optimizer.lr) == ((), True, 3, 0.004)
    assert stage.augment == plan(preset)[0].augment != ()
    assert isinstance(stage.optimizer, schema.AdamW)
    assert stage.optimizer.weight_decay_on == "weights"
    assert stage.schedule == schema.Cosine(warmup_epochs=0.3)


def test_a_stage_with_its_own_optimizer_and_schedule_keeps_them(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        """extends = "recipes/resnet50-lpft"
[[stages]]
name = "mine"
epochs = 10
optimizer = { name = "muon", lr = 0.02, other_lr = 0.06, other_weight_decay = 0.001 }
schedule = { name = "cosine", warmup_epochs = 2 }
"""
    )
    preset = catalog.load(str(file))
    (stage,) = plan(catalog.load(str(file), short_run(preset, 0.01, Length(5, 100), 200)))
    assert stage.optimizer == schema.Muon(lr=0.01, other_lr=0.03, other_weight_decay=0.001)
    assert stage.schedule == schema.Cosine(warmup_epochs=1.0)


def test_features_are_computed_for_no_more_views_than_there_are_epochs() -> None:
    preset = catalog.load("photos/frozen")
    assert preset.train.feature_views == 4
    assert "train.feature_views=2" in short_run(preset, 0.01, Length(2, 244), 244)
    assert not any("feature_views" in change for change in short_run(preset, 0.01, Length(8, 244), 244))


def test_text_of_a_stage_is_written_as_toml_has_it() -> None:
    assert _toml({"a": 'say "no"\\', "b": None, "c": [1, 0.5, True], "d": {"e": "ü"}}) == (
        r'{a = "say \"no\"\\", c = [1, 0.5, true], d = {e = "ü"}}'
    )
