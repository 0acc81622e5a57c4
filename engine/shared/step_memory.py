"""Memory of a training step in bytes, as `engine.models.memory` estimates it. No torch."""

from msgspec import Struct


class StepMemory(Struct, frozen=True, kw_only=True):
    """Bytes of one training step."""

    parameters: int
    """Parameters and buffers."""
    gradients: int
    optimizer_state: int
    activations: int
    """Saved in the forward pass for the backward pass, the batch of images included."""
    working: int
    """At the peak, beyond what is above: results on their way. Negative if not all gradients are there yet."""

    @property
    def total(self) -> int:
        """The peak."""
        return self.parameters + self.gradients + self.optimizer_state + self.activations + self.working
