"""Memory of training and evaluation in bytes, as `engine.models.memory` estimates it. No torch."""

from msgspec import Struct

EVAL_BATCH_FACTOR = 4
"""Images that evaluation takes at once, as a multiple of the training batch: no gradients are kept."""


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
