"""One instance of every member of a schema's unions: what "every augmentation", "every command" … are in tests.

A member that has no instance here fails every test that imports this module, with its name.
"""

from collections.abc import Sequence
from typing import Any, TypeVar, get_args

import msgspec

from engine.runs import commands
from presets import schema

_T = TypeVar("_T")


def of_union(union: Any, instances: Sequence[_T]) -> tuple[_T, ...]:
    """Return `instances`, of which there may be several for a member of `union`.

    Raises:
        LookupError: a member has none.
    """
    absent = set(get_args(union)) - {type(each) for each in instances}
    if absent:
        raise LookupError(f"tests/every.py has no instance of {', '.join(sorted(kind.__name__ for kind in absent))}")
    return tuple(instances)


def of_fields(instances: Sequence[_T]) -> tuple[_T, ...]:
    """Return `instances` of one table.

    Raises:
        LookupError: a field of the table has its default in all of them.
    """
    fields = msgspec.structs.fields(instances[0])
    absent = [field.name for field in fields if all(getattr(each, field.name) == field.default for each in instances)]
    if absent:
        raise LookupError(f"tests/every.py has only defaults of {type(instances[0]).__name__}.{', '.join(absent)}")
    return tuple(instances)


# In an order in which images of 32 px can go through all of them.
AUGMENTATIONS: tuple[schema.Augmentation, ...] = of_union(
    schema.Augmentation,
    (
        schema.HorizontalFlip(),
        schema.RandomCrop(padding=4),
        schema.Resize(scale=1.25),
        schema.RandomCrop(padding=2, fill="reflect"),
        schema.VerticalFlip(),
        schema.Rotation(degrees=20),
        schema.Rotation(degrees=180, interpolation="bilinear"),
        schema.ColorJitter(brightness=0.2, contrast=0.2),
        schema.Gamma(),
        schema.Grayscale(p=0.5),
        schema.RandomResizedCrop(size=30),
        schema.CenterCrop(size=24),
        schema.Cutout(size=8, p=0.5),
        schema.TrivialAugment(),
    ),
)

# The smallest of their kind, for images of 32 px.
NETWORKS: tuple[schema.Model, ...] = of_union(
    schema.Model,
    (
        schema.BaseNet(),
        schema.Vgg(blocks=((4,), (6,)), pools=("max", "avg"), head=(8,), dropout=0.2),
        schema.Vgg(blocks=((4,), (6,)), pools=("max", "avg"), shortcuts="concat", head=(8,), head_batch_norm=True),
        schema.Resnet9(width=4),
        schema.Resnet18(stem="small"),
        schema.Resnet50(),
        schema.Resnet50(frozen=True),
        schema.Googlenet(),
        schema.ResnetV2(stem="small"),
    ),
)

OPTIMIZERS: tuple[schema.Optimizer, ...] = of_union(
    schema.Optimizer,
    (schema.Sgd(lr=0.01, momentum=0.9), schema.AdamW(lr=0.01), schema.Muon(lr=0.01, other_lr=0.02)),
)

SCHEDULES: tuple[schema.Schedule, ...] = of_union(
    schema.Schedule,
    (
        schema.Constant(),
        schema.Plateau(patience=0),
        schema.Step(every=1, factor=0.5),
        schema.Cosine(warmup_epochs=1),
        schema.Linear(),
        schema.OneCycle(),
        schema.RangeTest(first_lr=1e-6, steps=20),
    ),
)
TRAINING_SCHEDULES = tuple(each for each in SCHEDULES if not isinstance(each, schema.RangeTest))

LOSSES: tuple[schema.Loss, ...] = of_fields((schema.Loss(), schema.Loss(label_smoothing=0.1)))

MIXES: tuple[schema.Mix, ...] = of_fields(
    (schema.Mix(mixup=1.0), schema.Mix(cutmix=1.0), schema.Mix(mixup=0.2, cutmix=1.0, p=0.7, off_epochs=1))
)

COMMANDS: tuple[commands.AnyCommand, ...] = of_union(
    commands.AnyCommand,
    (
        commands.Stop(after="epoch"),
        commands.Stop(),
        commands.NextStage(),
        commands.Pause(),
        commands.Continue(),
        commands.SaveCheckpoint(),
        commands.Validate(),
        commands.ScaleLearningRate(factor=0.5),
        commands.Abort(),
    ),
)
