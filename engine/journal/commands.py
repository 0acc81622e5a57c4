"""Everything people can ask of a run, as typed wishes: one a line in commands.jsonl.

Knows nothing of files (`engine.journal.jsonl`) or of how a worker obeys (`engine.training.controls`).
"""

import os
from typing import Literal, TypeAlias

from msgspec import Struct, field

LARGEST_FACTOR = 100.0
"""Of ScaleLearningRate: more in one go is a slip of the finger."""


def new_command_id() -> str:
    """Return eight random hex digits: enough to tell the commands of one run apart."""
    return os.urandom(4).hex()


class Command(Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    """One wish. `id` comes back in the CommandApplied event; `time` is Unix seconds."""

    id: str = field(default_factory=new_command_id)
    time: float = 0.0


class Stop(Command, frozen=True, kw_only=True, tag=True):
    """End training early: validate, keep the best weights, test them, and finish as "stopped"."""

    after: Literal["batch", "epoch"] = "batch"


class NextStage(Command, frozen=True, kw_only=True, tag=True):
    """End the stage under way after this batch: validate, keep the best weights, and begin the next stage."""


class Pause(Command, frozen=True, kw_only=True, tag=True):
    """Stand still, keeping everything in memory, until Continue, Stop or Abort."""


class Continue(Command, frozen=True, kw_only=True, tag=True):
    """Go on after Pause; also takes back a Stop after this epoch."""


class SaveCheckpoint(Command, frozen=True, kw_only=True, tag=True):
    """Write last.pt now."""


class Validate(Command, frozen=True, kw_only=True, tag=True):
    """Measure the validation set now, without changing what is trained."""


class ScaleLearningRate(Command, frozen=True, kw_only=True, tag=True):
    """Multiply the learning rate, and what the schedule makes of it from now on, by `factor` (above 0, at most 100)."""

    factor: float


class Abort(Command, frozen=True, kw_only=True, tag=True):
    """End at once: no validation, no test; the checkpoints written so far stay."""


AnyCommand: TypeAlias = Stop | NextStage | Pause | Continue | SaveCheckpoint | Validate | ScaleLearningRate | Abort
