"""One instance of every member of a schema's unions: what "every augmentation", "every command" … are in tests.

A member that has no instance here fails every test that imports this module, with its name.
"""

from collections.abc import Sequence
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from engine.journal import commands, events
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
        schema.Backbone(name="mobilenet_v3_small"),
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

LOSSES: tuple[schema.Loss, ...] = of_fields(
    (schema.Loss(), schema.Loss(label_smoothing=0.1), schema.Loss(label_smoothing=0.1, class_weights="balanced"))
)

MIXES: tuple[schema.Mix, ...] = of_fields(
    (schema.Mix(mixup=1.0), schema.Mix(cutmix=1.0), schema.Mix(mixup=0.2, cutmix=1.0, p=0.7, off_epochs=1))
)

COMMANDS: tuple[commands.AnyCommand, ...] = of_union(
    commands.AnyCommand,
    (
        commands.Stop(id="1", after="epoch"),
        commands.Stop(id="2"),
        commands.NextStage(id="3"),
        commands.Pause(id="4"),
        commands.Continue(id="5"),
        commands.SaveCheckpoint(id="6"),
        commands.Validate(id="7"),
        commands.ScaleLearningRate(id="8", factor=0.5),
        commands.Abort(id="9"),
    ),
)

EVENTS: tuple[events.AnyEvent, ...] = of_union(
    events.AnyEvent,
    (
        events.RunStarted(
            pid=1, host="h", device="cpu", device_name="CPU", precision="fp32", num_threads=2, versions={}
        ),
        *(
            events.DataProgressed(phase=phase, done=1, total=2, unit="B", what="CIFAR-100")
            for phase in get_args(get_type_hints(events.DataProgressed)["phase"])
        ),
        events.DataReady(
            dataset="CIFAR-100", source="x", generated=False, num_train=100, num_val=10, num_test=10, num_classes=100,
            image_size=32,
        ),
        events.BestMeasured(epoch=1, global_step=10, val_loss=1.0, val_top1=0.3),
        events.ModelBuilt(network="vgg", layers=(), num_parameters=3, num_trainable=3),
        events.StageStarted(stage=0, num_stages=1, name="train", first_epoch=1, epochs=4, steps_per_epoch=10),
        events.StageStarted(stage=0, num_stages=2, name="first", first_epoch=1, epochs=4, steps_per_epoch=10),
        events.StepsTrained(
            epoch=1, step=5, global_step=5, num_steps=5, num_images=50, loss=1.0, top1=0.5, lr=0.1, images_per_s=100.0
        ),
        events.Validated(epoch=1, step=5, global_step=5, loss=1.0, top1=0.4, seconds=1.0),
        events.EvaluationProgressed(split="val", done=5, total=10),
        events.EvaluationProgressed(split="test", done=5, total=10),
        events.EpochCompleted(
            epoch=1, global_step=10, train_loss=1.0, train_top1=0.5, val_loss=1.0, val_top1=0.4, lr=0.1, seconds=2.0,
            is_best=True,
        ),
        events.CheckpointSaved(
            kind="last", path="checkpoints/last.pt", epoch=1, global_step=10, num_bytes=1000, seconds=0.1
        ),
        events.DeviceSampled(
            host=events.HostSample(memory_used_bytes=1, memory_total_bytes=2, process_rss_bytes=1), worker_s=1.0
        ),
        *(
            events.CommandApplied(
                command_id=f"{number}-{accepted}", command=type(asked).__name__, accepted=accepted, effect="done",
                epoch=1, global_step=5,
            )
            for number, asked in enumerate(COMMANDS)
            for accepted in (True, False)
        ),
        *(
            events.Alerted(severity=severity, kind="x", text="The disk is full.", advice="Delete something.")
            for severity in get_args(get_type_hints(events.Alerted)["severity"])
        ),
        events.Paused(global_step=5),
        events.Continued(global_step=5),
        *(
            events.RunFinished(outcome=outcome, reason="why", epoch=1, global_step=10)
            for outcome in get_args(events.Outcome)
        ),
    ),
)  # fmt: skip
