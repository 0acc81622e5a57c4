"""`python -m engine.models.describe`: networks described, in a process that may import torch.

Reads a JSON list of `Question`s on stdin and prints a JSON list of `Answer`s, in their order. Nothing is trained,
downloaded or read: networks are traced without memory.
"""

import sys

import msgspec
from msgspec import Struct

from engine.journal.events import LayerRow
from engine.models.build import build_on_meta
from engine.models.layer_table import flops_per_image, layer_table, num_parameters, num_trainable
from engine.models.memory import estimate
from engine.shared.step_memory import StepMemory
from presets.errors import CifartuiError
from presets.schema import Preset


class Question(Struct, frozen=True, kw_only=True):
    """A preset to describe, for a data set of so many classes."""

    name: str = ""
    """Whatever the asker calls it; comes back with the answer."""
    preset: Preset
    num_classes: int


class Description(Struct, frozen=True, kw_only=True):
    """What a preset's network is; FLOP = 2 × MAC, forward, one image; `total_bytes` is the sum of `memory`."""

    network: str
    num_classes: int
    layers: tuple[LayerRow, ...]
    num_parameters: int
    num_trainable: int
    flops_per_image: int
    memory: StepMemory
    total_bytes: int


class Answer(Struct, frozen=True, kw_only=True):
    """A description, or the sentence that says why there is none."""

    name: str
    description: Description | None = None
    problem: str = ""


def describe(preset: Preset, num_classes: int) -> Description:
    """Return the description of one preset's network.

    Raises:
        CifartuiError: the network cannot be built for these images, or not be trained on them.
    """
    network = build_on_meta(preset.model, num_classes, preset.data.image_size)
    memory = estimate(preset, num_classes, preset.train.precision)
    return Description(
        network=str(preset.model.__struct_config__.tag),
        num_classes=num_classes,
        layers=layer_table(network, preset.data.image_size),
        num_parameters=num_parameters(network),
        num_trainable=num_trainable(network),
        flops_per_image=flops_per_image(network, preset.data.image_size),
        memory=memory,
        total_bytes=memory.total,
    )


def answer(question: Question) -> Answer:
    """Return the answer to one question; a network that cannot be built is one too."""
    try:
        return Answer(name=question.name, description=describe(question.preset, question.num_classes))
    except CifartuiError as error:
        return Answer(name=question.name, problem=str(error))


def main() -> int:
    """Answer the questions on stdin; return the exit code."""
    questions = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Question])
    sys.stdout.buffer.write(msgspec.json.encode([answer(question) for question in questions]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
