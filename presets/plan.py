"""Training plan of a preset: its stages in order, each with all defaults filled in. Pure functions.

Everything that counts epochs uses it, never `train.epochs`.
"""

from msgspec import Struct
from msgspec.structs import replace

from presets.schema import Augmentation, CenterCrop, FreezableModel, Optimizer, Preset, Resize, Schedule, Stage


class PlannedStage(Struct, frozen=True, kw_only=True):
    """A stage with every default filled in."""

    name: str
    epochs: int
    augment: tuple[Augmentation, ...]
    frozen: bool = False
    """Train the last layer only."""
    from_best: bool
    """Begin with the best weights of the stage before, not its last."""
    optimizer: Optimizer
    schedule: Schedule

    @property
    def is_augmented(self) -> bool:
        """True if an image is augmented differently every time it is trained on."""
        return not all(isinstance(operation, Resize | CenterCrop) for operation in self.augment)


def plan(preset: Preset) -> tuple[PlannedStage, ...]:
    """Return the stages of a checked preset; one called "train" if it has none."""
    whole = Stage(name="train", epochs=preset.train.epochs or 1, augment=preset.train.augment)
    return tuple(_planned(stage, preset) for stage in preset.stages or (whole,))


def total_epochs(preset: Preset) -> int:
    """Return the epochs of all stages together."""
    return sum(stage.epochs for stage in plan(preset))


def _planned(stage: Stage, preset: Preset) -> PlannedStage:
    optimizer = stage.optimizer or preset.optimizer
    preset_frozen = isinstance(preset.model, FreezableModel) and preset.model.frozen
    return PlannedStage(
        name=stage.name,
        epochs=max(1, round(stage.epochs * preset.train.epochs_scale)),
        augment=stage.augment,
        frozen=preset_frozen if stage.frozen is None else stage.frozen,
        from_best=stage.start_from == "best",
        optimizer=optimizer if stage.lr is None else replace(optimizer, lr=stage.lr),
        schedule=stage.schedule or preset.schedule,
    )
