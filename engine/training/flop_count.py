"""FLOPs that a run spends: of training, of its optimizer, of evaluation. By formula, from shapes and numbers of images.

A multiplication and an addition are two operations. Convolutions and matrix products are counted, forward and backward
(`engine.models.layer_table.pass_flops`), and Muon's iterations. Left out, because it is small: all that is done element
by element (normalisation, activations, loss, augmentation, averages of weights, the rest of every optimizer).

Counted is what the weights that there are have cost, whatever the number of devices. What a worker did after its last
checkpoint and another one did again counts once, as its epochs do, and so do the features of a frozen backbone that a
resumed worker computes again. A batch begun anew because memory ran out, and an evaluation that was broken off, do not
count.
"""

from functools import cache
from typing import Literal

from engine.models.layer_table import feature_flops, pass_flops
from engine.training.input_pipeline import InputPipeline, num_views
from engine.training.muon import flops_of_step
from engine.training.optimizers import StageOptimizer
from engine.training.progress import Progress
from engine.training.setup import Setup
from presets.plan import PlannedStage


class FlopCount:
    """Adds to a run's progress what its steps and evaluations cost."""

    def __init__(self, setup: Setup, pipeline: InputPipeline, num_ranks: int = 1) -> None:
        """Count for the network of `setup`, whose inputs `pipeline` makes in each of so many ranks."""
        self._setup, self._pipeline, self._num_ranks = setup, pipeline, num_ranks
        self._size = setup.info.preset.data.image_size

    def begin_stage(self, stage: PlannedStage, stage_optimizer: StageOptimizer) -> None:
        """Count from here on what is trained in `stage`: once the network is frozen, or not, as it says."""
        network = self._setup.network
        self._of_pass = cache(lambda size: pass_flops(network, size))
        self._of_features = cache(lambda: feature_flops(network, self._size) if stage.frozen else 0)
        self._of_step = flops_of_step(stage_optimizer.optimizer)
        self._num_views = num_views(self._setup.info.preset, stage)

    def trained(self, progress: Progress, num_images: int, size: int | None) -> None:
        """Add a step.

        Args:
            progress: of the run, which does not count the step itself yet.
            num_images: of the whole batch, in all ranks.
            size: side in pixels, where it changes from epoch to epoch; else None.
        """
        features = self._of_features()
        if features and progress.epoch == progress.stage_first_epoch and progress.step == 0:
            # here, and not where they are computed, which a resumed worker does again
            data, once = self._setup.data, features * self._num_ranks  # of which each computes all
            of_training = once * (self._num_views or 0) * len(data.train.labels)
            progress.spend(train=of_training, evaluation=once * len(data.val.labels))
        forward, backward = self._of_pass(size or self._size)
        if self._num_views is not None:  # else a frozen backbone sees every image anew
            forward -= features
        progress.spend(train=num_images * (forward + backward), optimizer=self._of_step)

    def evaluated(self, progress: Progress, split: Literal["val", "test"]) -> None:
        """Add an evaluation of all images of a split, which the ranks share."""
        data = self._setup.data
        labels = data.test.labels if split == "test" and data.test is not None else data.val.labels
        forward = self._of_pass(self._size).forward
        if self._pipeline.is_frozen:  # of the validation images the features are counted; of the test's not yet
            features = self._of_features()
            forward += features * (self._num_ranks - 1) if split == "test" else -features
        elif self._setup.info.preset.train.flip_average:
            forward *= 2
        progress.spend(evaluation=len(labels) * forward)
