"""What an epoch does to its training images that another one does not: their size, their mirror, their mixture.

Knows which epoch of a stage does what; draws nothing, and sees no images.
"""

from engine.data.augment import train_transform
from engine.training.inputs import Inputs
from presets.plan import PlannedStage
from presets.schema import Preset


def of_epoch(inputs: Inputs, preset: Preset, stage: PlannedStage, epoch: int, stage_epoch: int) -> Inputs:
    """Return a stage's inputs as one of its epochs sees them.

    Args:
        inputs: of the stage.
        preset: of the run.
        stage: under way.
        epoch: counted through all stages, from 1.
        stage_epoch: counted in the stage, from 0.
    """
    train, mix = preset.train, preset.mix
    if train.image_sizes:
        transform = train_transform(stage.augment, preset.data, image_size(preset, stage_epoch / stage.epochs))
        inputs = inputs._replace(transform=transform)
    mixes = mix.is_on and stage_epoch < stage.epochs - mix.off_epochs
    return inputs._replace(mix=mix if mixes else None, mirror_epoch=epoch if train.alternating_flip else None)


def image_size(preset: Preset, share: float) -> int:
    """Return the side in pixels of training images once `share` (0 to 1) of a stage's epochs is trained."""
    sizes = (size for until, size in preset.train.image_sizes if share < until)
    return next(sizes, preset.data.image_size)
