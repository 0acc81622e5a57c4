"""What a training step needs of memory: worked out by `engine.models.memory`, shown by the dashboard. No torch."""

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
    """At the peak, beyond what is above: results on their way. Negative where not all gradients are there yet."""

    @property
    def total(self) -> int:
        """The peak."""
        return self.parameters + self.gradients + self.optimizer_state + self.activations + self.working
