import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from engine.training.optimizers import Schedule, StageOptimizer, build_optimizer
from presets import schema
from presets.plan import PlannedStage
from tests import every

CPU = torch.device("cpu")
EPOCHS, STEPS = 6, 5


def rates(table: schema.Schedule, *, lr: float = 0.1, accuracies: list[float] | None = None) -> list[float]:
    """Return the learning rate of every step of a run."""
    optimizer = build_optimizer(schema.Sgd(lr=lr, momentum=0.9), [nn.Parameter(torch.zeros(1))], CPU)
    schedule = Schedule(table, optimizer, steps_per_epoch=STEPS, epochs=EPOCHS)
    used = []
    for epoch in range(EPOCHS):
        for _ in range(STEPS):
            used.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step_done()
        schedule.epoch_done(accuracies[epoch] if accuracies else 0.5)
    return used


def test_constant_stays() -> None:
    assert set(rates(schema.Constant())) == {0.1}


def test_step_falls_every_so_many_epochs() -> None:
    used = rates(schema.Step(every=2, factor=0.5))
    assert used[:: STEPS * 2] == pytest.approx([0.1, 0.05, 0.025])
    assert used[: STEPS * 2] == [0.1] * STEPS * 2


def test_plateau_falls_after_patience_epochs_without_better() -> None:
    used = rates(schema.Plateau(factor=0.1, patience=1), accuracies=[0.1, 0.2, 0.2, 0.2, 0.3, 0.3])
    assert used[::STEPS] == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_warms_up_and_ends_at_the_final_rate() -> None:
    used = rates(schema.Cosine(warmup_epochs=1, final_lr=0.01))
    assert used[:STEPS] == sorted(used[:STEPS])
    assert used[STEPS] == pytest.approx(0.1)
    assert used[STEPS:] == sorted(used[STEPS:], reverse=True)
    assert 0.01 < used[-1] < 0.012


def test_one_cycle_peaks_at_the_optimizers_rate() -> None:
    used = rates(schema.OneCycle(warmup_fraction=0.3))
    assert max(used) == pytest.approx(0.1, rel=0.05)
    assert used.index(max(used)) == pytest.approx(0.3 * EPOCHS * STEPS, abs=1)
    assert used[-1] < 1e-3


@pytest.mark.parametrize("table", every.SCHEDULES, ids=lambda table: type(table).__name__)
def test_a_schedule_goes_on_where_its_state_was_saved(table: schema.Schedule) -> None:
    whole = rates(table)
    optimizer = build_optimizer(schema.Sgd(lr=0.1, momentum=0.9), [nn.Parameter(torch.zeros(1))], CPU)
    schedule = Schedule(table, optimizer, steps_per_epoch=STEPS, epochs=EPOCHS)
    used = []
    for epoch in range(EPOCHS):
        if epoch == 3:
            saved = (optimizer.state_dict(), schedule.state_dict())
            optimizer = build_optimizer(schema.Sgd(lr=0.1, momentum=0.9), [nn.Parameter(torch.zeros(1))], CPU)
            schedule = Schedule(table, optimizer, steps_per_epoch=STEPS, epochs=EPOCHS)
            optimizer.load_state_dict(saved[0])
            schedule.load_state_dict(saved[1])
        for _ in range(STEPS):
            used.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step_done()
        schedule.epoch_done(0.5)
    assert used == whole


def test_sgd_and_adamw_are_torchs_with_the_presets_numbers() -> None:
    parameters = [nn.Parameter(torch.zeros(1))]
    sgd = build_optimizer(schema.Sgd(lr=0.2, momentum=0.8, nesterov=True, weight_decay=0.1), parameters, CPU)
    assert isinstance(sgd, torch.optim.SGD)
    assert {key: sgd.defaults[key] for key in ("lr", "momentum", "nesterov", "weight_decay")} == {
        "lr": 0.2, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1,
    }  # fmt: skip
    adamw = build_optimizer(schema.AdamW(lr=0.3, betas=(0.8, 0.9), weight_decay=0.2), parameters, CPU)
    assert isinstance(adamw, torch.optim.AdamW)
    assert (adamw.defaults["lr"], adamw.defaults["betas"], adamw.defaults["weight_decay"]) == (0.3, (0.8, 0.9), 0.2)


def test_parameters_without_gradients_are_left_out() -> None:
    frozen, trained = nn.Parameter(torch.zeros(1), requires_grad=False), nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer(schema.Sgd(lr=0.1), [frozen, trained], CPU)
    assert optimizer.param_groups[0]["params"] == [trained]


def two_weights() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]


def stage_optimizer(weights: list[nn.Parameter], *, clip_norm: float = 0.0, scaled: bool = False) -> StageOptimizer:
    stage = PlannedStage(
        name="", epochs=1, optimizer=schema.Sgd(lr=1.0), schedule=schema.Constant(), augment=(), frozen=False,
        from_best=False,
    )  # fmt: skip
    scaler = GradScaler("cpu", enabled=scaled, init_scale=4.0)
    return StageOptimizer(stage, weights, CPU, scaler, STEPS, clip_norm=clip_norm)


def loss_of(weights: list[nn.Parameter], factor: float = 1.0) -> Tensor:
    """Return a loss whose gradient is 6 for three weights and -4 for four: of norm sqrt(172), times `factor`."""
    return factor * (6 * weights[0].sum() - 4 * weights[1].sum())


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "fp16"])
def test_a_step_measures_the_gradient_and_leaves_it_as_it_is(scaled: bool) -> None:
    weights = two_weights()
    optimizer = stage_optimizer(weights, scaled=scaled)
    optimizer.add_gradients(loss_of(weights))
    norm = optimizer.step()
    assert float(norm.value) == pytest.approx(172**0.5, rel=1e-6)
    assert norm.is_clipped is None
    assert (None if norm.is_skipped is None else bool(norm.is_skipped)) is (False if scaled else None)
    assert weights[0].tolist() == [-6.0] * 3
    assert weights[1].tolist() == [[4.0] * 2] * 2


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "fp16"])
@pytest.mark.parametrize("clip_norm", [1.0, 13.0, 14.0])
def test_a_gradient_is_clipped_as_torch_does_it(clip_norm: float, scaled: bool) -> None:
    weights, expected = two_weights(), two_weights()
    optimizer = stage_optimizer(weights, clip_norm=clip_norm, scaled=scaled)
    optimizer.add_gradients(loss_of(weights))
    norm = optimizer.step()
    loss_of(expected).backward()
    before = nn.utils.clip_grad_norm_(expected, clip_norm)
    assert float(norm.value) == pytest.approx(float(before), rel=1e-6)
    assert norm.is_clipped is not None
    assert bool(norm.is_clipped) is (clip_norm < 172**0.5)
    for weight, other in zip(weights, expected, strict=True):
        assert other.grad is not None
        torch.testing.assert_close(weight.detach(), -other.grad, rtol=1e-5, atol=0.0)


def test_a_step_that_fp16_leaves_out_has_no_norm_and_is_not_clipped() -> None:
    weights = two_weights()
    optimizer = stage_optimizer(weights, clip_norm=1.0, scaled=True)
    optimizer.add_gradients(loss_of(weights, 1e38))
    norm = optimizer.step()
    assert norm.is_skipped is not None
    assert norm.is_clipped is not None
    assert (bool(norm.is_skipped), bool(norm.is_clipped), float(norm.value)) == (True, False, 0.0)
    assert weights[0].tolist() == [0.0] * 3
