"""Commands to a run, as typed Structs: one a line in commands.jsonl. No files.

`engine.journal.jsonl` writes and reads them, `engine.training.controls` obeys them.
"""

import os
from typing import ClassVar, Literal, TypeAlias, get_args

from msgspec import Struct, field

LARGEST_FACTOR = 100.0
"""Largest factor of one ScaleLearningRate: a larger one is a typing error."""


def new_command_id() -> str:
    """Return eight random hex digits, which identify a command within its run."""
    return os.urandom(4).hex()


class Command(Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    """One command. `id` comes back in the CommandApplied event; `time` is Unix seconds."""

    marks_curve: ClassVar[bool] = False
    """Changes how training goes on, so that curves are marked at the step at which it took effect."""
    in_range_test: ClassVar[bool] = True
    """Has a use in a range test, which keeps no weights and moves its learning rate itself."""

    id: str = field(default_factory=new_command_id)
    time: float = 0.0


class Stop(Command, frozen=True, kw_only=True, tag=True):
    """End training early: validate, keep the best weights, test them, and finish as "stopped"."""

    marks_curve: ClassVar[bool] = True

    after: Literal["batch", "epoch"] = "batch"


class NextStage(Command, frozen=True, kw_only=True, tag=True):
    """End the stage under way after this batch: validate, keep the best weights, and begin the next stage."""

    marks_curve: ClassVar[bool] = True


class Pause(Command, frozen=True, kw_only=True, tag=True):
    """Interrupt training, with everything kept in memory, until Continue, Stop or Abort."""

    marks_curve: ClassVar[bool] = True


class Continue(Command, frozen=True, kw_only=True, tag=True):
    """Go on after Pause; also takes back a Stop after this epoch."""

    marks_curve: ClassVar[bool] = True


class SaveCheckpoint(Command, frozen=True, kw_only=True, tag=True):
    """Write last.pt now."""

    in_range_test: ClassVar[bool] = False


class Validate(Command, frozen=True, kw_only=True, tag=True):
    """Measure the validation set now, without changing what is trained."""

    in_range_test: ClassVar[bool] = False


class ScaleLearningRate(Command, frozen=True, kw_only=True, tag=True):
    """Multiply the learning rate, and what the schedule makes of it from now on, by `factor` (above 0, at most 100)."""

    marks_curve: ClassVar[bool] = True
    in_range_test: ClassVar[bool] = False

    factor: float


class Abort(Command, frozen=True, kw_only=True, tag=True):
    """End at once: no validation, no test; the checkpoints written so far stay."""


AnyCommand: TypeAlias = Stop | NextStage | Pause | Continue | SaveCheckpoint | Validate | ScaleLearningRate | Abort
_KINDS: dict[str, type[Command]] = {kind.__struct_config__.tag: kind for kind in get_args(AnyCommand)}


def kind_of(name: str) -> type[Command] | None:
    """Return the class of a command by its `type` in JSON, as CommandApplied names it; None: a newer version's."""
    return _KINDS.get(name)
