"""Memory of training and evaluation in bytes, as `engine.models.memory` estimates it. No torch."""

from msgspec import Struct

from presets.schema import Train

EVAL_BATCH_FACTOR = 4
"""Images that evaluation takes at once, as a multiple of the training batch: no gradients are kept."""

_BUSY_FLOPS = 1e12
"""A step of more FLOPs keeps a GPU busy for longer than the host takes to launch it, by the model of
`benchmarks.roofline`: 3 ms at 300 TFLOP/s, in which eager PyTorch launches 500 kernels. Not measured on any GPU."""
_WEIGHTS_COMPARED = 4
"""Copies of the trained weights that are held while a recording is compared with eager steps."""


def may_record(train: Train, flops_per_image: int) -> bool:
    """Return true if a preset's steps are recorded on one CUDA device, unless something there prevents it.

    Args:
        train: the preset's table.
        flops_per_image: of the forward pass.
    """
    if train.cuda_graphs == "auto":  # where the GPU may be done before the host has launched the next step
        makes_graphs = train.compile in {"reduce-overhead", "max-autotune"}
        return not makes_graphs and 3 * flops_per_image * train.batch_size < _BUSY_FLOPS
    return train.cuda_graphs


class StepMemory(Struct, frozen=True, kw_only=True):
    """Bytes of one training step, and of evaluation between steps."""

    parameters: int
    """Parameters and buffers."""
    gradients: int
    optimizer_state: int
    activations: int
    """Saved in the forward pass for the backward pass, the batch of images included."""
    working: int
    """At the peak, beyond what is above: results on their way. Negative if not all gradients are there yet."""

    evaluation: int = 0
    """At the peak of evaluation, beyond parameters and optimizer state: a batch, and results on their way."""

    @property
    def total(self) -> int:
        """The peak of a run: that of a step or that of evaluation, which is never under way at the same time."""
        return max(self.step, self.parameters + self.optimizer_state + self.evaluation)

    @property
    def step(self) -> int:
        """The peak of a training step."""
        return self.parameters + self.gradients + self.optimizer_state + self.activations + self.working

    @property
    def recorded(self) -> int:
        """The peak of a run whose steps are recorded as a CUDA graph, by a rule.

        The graph keeps what a step takes beside weights and optimizer for itself, while it is not replayed too. An
        eager step, of the smaller last batch or to compare the recording with, and evaluation need theirs beside it.
        """
        pool = self.gradients + self.activations + self.working
        compared = _WEIGHTS_COMPARED * self.gradients + self.optimizer_state
        return self.parameters + self.optimizer_state + pool + max(pool + compared, self.evaluation)
