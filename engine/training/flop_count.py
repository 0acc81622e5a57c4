"""FLOPs that a run spends: of training, of its optimizer, of evaluation. By formula, from shapes and numbers of images.

A multiplication and an addition are two operations. Convolutions and matrix products are counted, forward and backward
(`engine.models.layer_table.pass_flops`), and Muon's iterations. Left out, as it is small: all that is done element by
element (normalisation, activations, loss, augmentation, averages of weights, the rest of every optimizer).

Counted is what the weights that there are have cost, whatever the number of devices. What a worker did after its last
checkpoint and another one did again counts once, as its epochs do, and so do the features of a frozen backbone that a
resumed worker computes again. A batch begun anew because memory ran out, and an evaluation that was broken off, do not
count.
"""

from typing import Any, Literal

from engine.models.build import build_on_meta
from engine.models.layer_table import StageFlops, pass_flops
from engine.training.input_pipeline import Freezable, InputPipeline, num_views
from engine.training.muon import flops_of_step
from engine.training.optimizers import StageOptimizer
from engine.training.progress import Progress
from engine.training.setup import Setup
from presets.plan import plan
from presets.schema import Preset


def flops_of_stages(preset: Preset, num_classes: int) -> tuple[StageFlops, ...]:
    """Return what one image costs in each stage of a run; nothing if its network cannot be counted.

    Counted is a network of shapes, made for this: the one that is trained stays as it is, and is not called.
    """
    try:
        size, stages = preset.data.image_size, plan(preset)
        sizes = {size, *(small for _, small in preset.train.image_sizes)}
        network = build_on_meta(preset.model, num_classes, size).eval()
        found = {frozen: _of_stage(network, size, sizes, frozen=frozen) for frozen in {each.frozen for each in stages}}
    except Exception:  # of any operation that knows no shapes, in networks of others: the run can be trained without
        return ()
    return tuple(found[stage.frozen] for stage in stages)


def _of_stage(network: Any, size: int, sizes: set[int], *, frozen: bool) -> StageFlops:
    if isinstance(network, Freezable):
        network.freeze(frozen)
    passes = {each: pass_flops(network, each) for each in sizes}
    return StageFlops(passes, pass_flops(network.features, size).forward if frozen else 0)


class FlopCount:
    """Adds to a run's progress what its steps and evaluations cost, if the setup has what one image costs."""

    def __init__(self, setup: Setup, pipeline: InputPipeline, num_ranks: int = 1) -> None:
        """Count for the network of `setup`, whose inputs `pipeline` makes in each of so many ranks."""
        self._setup, self._pipeline, self._num_ranks = setup, pipeline, num_ranks
        self._size = setup.info.preset.data.image_size

    def begin_stage(self, number: int, stage_optimizer: StageOptimizer) -> None:
        """Count from here on what is trained in the stage `number`, from 0."""
        preset = self._setup.info.preset
        self._of_image = self._setup.flops[number] if self._setup.flops else None
        self._of_optimizer = flops_of_step(stage_optimizer.optimizer)
        self._num_views = num_views(preset, plan(preset)[number])

    def trained(self, progress: Progress, num_images: int, size: int | None) -> None:
        """Add a step.

        Args:
            progress: of the run, which does not count the step itself yet.
            num_images: of the whole batch, in all ranks.
            size: side in pixels, where it changes from epoch to epoch; else None.
        """
        if self._of_image is None:
            return
        data, (passes, features) = self._setup.data, self._of_image
        if features and progress.epoch == progress.stage_first_epoch and progress.step == 0:
            # here, and not where they are computed, which a resumed worker does again
            once = features * self._num_ranks  # of which each computes all
            of_training = once * (self._num_views or 0) * len(data.train.labels)
            progress.spend(train=of_training, evaluation=once * len(data.val.labels))
        forward, backward = passes[size or self._size]
        if self._num_views is not None:  # else a frozen backbone sees every image anew
            forward -= features
        progress.spend(train=num_images * (forward + backward), optimizer=self._of_optimizer)

    def evaluated(self, progress: Progress, split: Literal["val", "test"]) -> None:
        """Add an evaluation of all images of a split, which the ranks share."""
        if self._of_image is None:
            return
        data, (passes, features) = self._setup.data, self._of_image
        labels = data.test.labels if split == "test" and data.test is not None else data.val.labels
        forward = passes[self._size].forward
        if self._pipeline.is_frozen:  # of the validation images the features are counted; of the test's not yet
            forward += features * (self._num_ranks - 1) if split == "test" else -features
        elif self._setup.info.preset.train.flip_average:
            forward *= 2
        progress.spend(evaluation=len(labels) * forward)
