from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from engine.training.metrics import GradientNorm, Meter, Sums
from tests.pretended_gpu import Copies

CPU = torch.device("cpu")


def batch(seed: int, size: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, 10, generator=generator)
    labels = torch.randint(10, (size,), generator=generator)
    return cross_entropy(logits, labels), logits, labels


def test_sums_are_over_images_not_batches() -> None:
    meter = Meter(CPU)
    batches = [batch(1, 16), batch(2, 3)]
    for one in batches:
        meter.add(*one)
    sums = meter.read()
    logits, labels = torch.cat([b[1] for b in batches]), torch.cat([b[2] for b in batches])
    assert sums.num_images == 19
    assert sums.mean_loss() == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-6)
    assert sums.top1() == pytest.approx(float((logits.argmax(1) == labels).float().mean()))


def test_a_reading_is_of_the_moment_it_was_asked_for() -> None:
    meter = Meter(CPU)
    meter.add(*batch(1))
    meter.request()
    asked = meter.read()
    meter.add(*batch(2))
    assert meter.arrived() == asked
    assert meter.arrived() is None


def test_a_meter_goes_on_from_saved_sums() -> None:
    whole, first = Meter(CPU), Meter(CPU)
    whole.add(*batch(1))
    whole.add(*batch(2))
    first.add(*batch(1))
    second = Meter(CPU, start=first.read())
    second.add(*batch(2))
    assert second.read() == whole.read()


def norm(value: float, *, clipped: bool = False, skipped: bool = False) -> GradientNorm:
    return GradientNorm(torch.tensor(value), torch.tensor(clipped), torch.tensor(skipped))


def test_norms_are_means_over_the_steps_that_moved_the_weights() -> None:
    meter = Meter(CPU)
    assert meter.read().mean_norm() is None
    for each in (norm(1.0), norm(6.0, clipped=True), norm(0.0, skipped=True), norm(2.0)):
        meter.add_norm(each)
    meter.request()
    sums = meter.arrived()
    assert sums == meter.read()
    assert sums is not None
    assert (sums.mean_norm(), sums.share_clipped()) == (3.0, pytest.approx(1 / 3))
    resumed = Meter(CPU, start=sums)
    resumed.add_norm(GradientNorm(torch.tensor(7.0), None, None))
    assert resumed.read().mean_norm() == 4.0
    assert resumed.read().since(sums).mean_norm() == 7.0


def test_norms_that_are_no_number_are_not_told() -> None:
    meter = Meter(CPU)
    meter.add_norm(GradientNorm(torch.tensor(float("inf")), None, None))
    assert meter.read().mean_norm() is None


def test_what_was_added_since() -> None:
    assert Sums(5.0, 3, 10).since(Sums(2.0, 1, 4)) == Sums(3.0, 2, 6)


def test_adding_reads_nothing_back() -> None:
    class Count(TorchDispatchMode):
        reads = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.reads += "_local_scalar_dense" in str(func)
            return func(*args, **(kwargs or {}))

    meter, one = Meter(CPU), batch(1)
    with Count() as count:
        meter.add(*one)
        assert count.reads == 0
        one[0].item()
        assert count.reads == 1  # the counter sees what it should


def test_sums_on_mps_are_read_in_their_own_format_and_waited_for() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), Copies() as copies:
        meter = Meter(torch.device("mps"))
        logits, labels = torch.empty(8, 10, device="mps"), torch.zeros(8, dtype=torch.int64, device="mps")
        meter.add(torch.zeros((), device="mps"), logits, labels)
        copies.dtypes.clear()
        meter.request()
    assert copies.dtypes == {torch.float32}  # MPS has no float64
    assert {"mps", "cpu"} in copies.devices
    assert not any(copies.goes_on)  # there is no event to wait for, so what was read then would be stale
