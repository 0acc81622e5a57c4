"""The memory estimate against what torch's allocator holds at most in a real training step on the CPU."""

from typing import Any

import msgspec
import pytest
import torch
from torch import nn
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

from engine.models.build import build
from engine.models.memory import estimate
from engine.shared.step_memory import EVAL_BATCH_FACTOR, StepMemory
from engine.training.optimizers import build_optimizer
from presets import schema
from tests import every

VGG = schema.Vgg(
    blocks=((64, 64), (128, 128), (256, 256), (512, 512)), pools=("max", "max", "max", "avg"), head=(4096,)
)
SGD = schema.Sgd(lr=0.01, momentum=0.9)


def preset(
    model: schema.Model, image_size: int = 32, batch_size: int = 16, optimizer: schema.Optimizer = SGD
) -> schema.Preset:
    return schema.Preset(
        title="Test",
        data=schema.Data(dataset="cifar100", image_size=image_size),
        model=model,
        train=schema.Train(epochs=1, batch_size=batch_size),
        optimizer=optimizer,
    )


def allocated_at_most(asked: schema.Preset) -> int:
    """Return the bytes that the allocator held at most during the second step, weights and momentum included."""
    size, batch_size = asked.data.image_size, asked.train.batch_size
    network = build(asked.model, 100, size).to(memory_format=torch.channels_last).train()
    optimizer = build_optimizer(asked.optimizer, network.parameters(), torch.device("cpu"))
    criterion = nn.CrossEntropyLoss()

    def step() -> None:
        images = torch.randn(batch_size, 3, size, size).contiguous(memory_format=torch.channels_last)
        torch.autograd.backward(criterion(network(images), torch.zeros(batch_size, dtype=torch.int64)))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    held = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    for state in optimizer.state.values():
        held += sum(value.nbytes for value in state.values() if isinstance(value, torch.Tensor))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        step()
    totals: list[int] = []

    def walk(events: Any) -> None:
        for event in events:
            if event.tag == _EventType.Allocation:
                totals.append(event.extra_fields.total_allocated)
            walk(event.children)

    walk(watched.profiler.kineto_results.experimental_event_tree())
    return held + max(totals)


def peak_of_evaluation(asked: schema.Preset) -> int:
    """Return the bytes that the allocator held at most in evaluation, without what it held before."""
    size, num_images = asked.data.image_size, asked.train.batch_size * EVAL_BATCH_FACTOR
    network = build(asked.model, 100, size).to(memory_format=torch.channels_last).eval()
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        network(torch.randn(num_images, 3, size, size).contiguous(memory_format=torch.channels_last))
    held, peak = 0, 0
    for event in sorted(watched.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        held += event.nbytes() if event.name() == "[memory]" else 0
        peak = max(peak, held)
    return peak


@pytest.mark.slow
@pytest.mark.parametrize("model", [schema.BaseNet(), VGG, schema.Resnet18(stem="small"), schema.Resnet50(frozen=True)])
def test_evaluation_is_estimated_with_as_many_images_as_it_takes(model: schema.Model) -> None:
    asked = preset(model, image_size=32 if isinstance(model, schema.BaseNet) else 64)
    assert 0.8 < estimate(asked, 100).evaluation / peak_of_evaluation(asked) < 1.05


@pytest.mark.slow
def test_a_run_needs_what_evaluation_takes_where_little_is_trained() -> None:
    found = estimate(preset(schema.Resnet50(frozen=True), image_size=64), 100)
    assert found.step < found.total == found.parameters + found.optimizer_state + found.evaluation


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        preset(schema.BaseNet(), batch_size=128),
        preset(VGG),
        preset(schema.Resnet18(stem="small"), batch_size=8),
        preset(schema.Resnet50(frozen=True), image_size=64, batch_size=32),
        preset(schema.ResnetV2(), image_size=64, batch_size=4, optimizer=schema.AdamW()),
        *(preset(model) for model in every.NETWORKS if not isinstance(model, schema.Backbone)),
        *(preset(VGG, optimizer=optimizer) for optimizer in every.OPTIMIZERS),
    ],
    ids=lambda asked: f"{type(asked.model).__name__}-{type(asked.optimizer).__name__}",
)
def test_the_estimate_is_within_a_fifth_of_what_a_step_takes(asked: schema.Preset) -> None:
    share = estimate(asked, 100).step / allocated_at_most(asked)
    assert 0.8 < share < 1.05  # an operation's scratch is not seen; nothing is counted twice


def parts(asked: schema.Preset, precision: str = "fp32") -> StepMemory:
    return estimate(asked, 100, precision)


def test_parts_by_hand() -> None:
    found = parts(preset(schema.BaseNet(), batch_size=1))
    assert found.parameters == found.gradients == found.optimizer_state == 28_022 * 4
    assert parts(preset(schema.BaseNet(), optimizer=schema.Sgd(lr=0.1))).optimizer_state == 0
    assert parts(preset(schema.BaseNet(), optimizer=schema.AdamW())).optimizer_state == 2 * 28_022 * 4
    staged = msgspec.structs.replace(
        preset(schema.BaseNet()), stages=(schema.Stage(name="a", epochs=1, optimizer=schema.AdamW()),)
    )
    assert parts(staged).optimizer_state == 2 * 28_022 * 4
    frozen = parts(preset(schema.Resnet18(frozen=True)))
    assert frozen.gradients == 513 * 100 * 4
    assert frozen.activations < 16 * 3 * 32 * 32 * 4 + 16 * 2_000 * 4  # the images, and what the last layer keeps


def test_activations_grow_with_the_batch_and_shrink_with_the_precision() -> None:
    small, large = parts(preset(VGG, batch_size=8)), parts(preset(VGG, batch_size=16))
    assert large.activations == pytest.approx(2 * small.activations, rel=0.05)
    whole, halved = (parts(preset(VGG, batch_size=128), precision) for precision in ("fp32", "bf16"))
    assert halved.activations < 0.7 * whole.activations


def test_a_network_larger_than_memory_is_estimated_without_allocating_it() -> None:
    huge = schema.Vgg(blocks=((512,),), pools=("none",), head=(65_536,))
    num_weights = 512 * 128 * 128 * 65_536  # and as many gradients and momenta, of 4 bytes each
    assert parts(preset(huge, image_size=128)).total == pytest.approx(3 * 4 * num_weights, rel=0.01)
