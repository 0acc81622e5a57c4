"""Optimizers, learning-rate schedules, and the optimizer of the current stage with its schedule and gradient scaler."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR

from engine.training import checkpoint_checks as checks
from engine.training.checkpoint_checks import schedule_state
from engine.training.metrics import GradientNorm
from engine.training.muon import Muon
from engine.training.parallel import Parallel
from presets import schema
from presets.plan import PlannedStage
from presets.range_test import rate_at
from presets.schema import Cosine, Linear, OneCycle, Plateau

_FILTER_DIMENSIONS = 4
_MOST_EPOCHS = 10**9
_RATES = {"lr", "initial_lr", "max_lr", "min_lr"}
"""Keys of parameter groups in which torch's schedules store learning rates."""


def build_optimizer(
    table: schema.Optimizer,
    parameters: Iterable[Parameter],
    device: torch.device,
    *,
    is_scaled: bool = False,
    parallel: Parallel | None = None,
) -> Optimizer:
    """Return the optimizer over those `parameters` that want gradients, fused if torch has that.

    Except SGD under a gradient scaler (`is_scaled`): in a step that the scaler skips, the fused one still updates
    momentum from uninitialised memory or infinite gradients, and the weights follow in the next step. Ranks
    (`parallel`) share the work of Muon.
    """
    groups = _groups(table, [parameter for parameter in parameters if parameter.requires_grad])
    fused = True if device.type in {"cpu", "cuda"} else None
    if isinstance(table, schema.Muon):
        return Muon(groups, parallel)
    if isinstance(table, schema.AdamW):
        return torch.optim.AdamW(groups, lr=table.lr, betas=table.betas, weight_decay=table.weight_decay, fused=fused)
    return torch.optim.SGD(
        groups,
        lr=table.lr,
        momentum=table.momentum,
        nesterov=table.nesterov,
        weight_decay=table.weight_decay,
        fused=None if is_scaled else fused,
    )


def _groups(table: schema.Optimizer, trained: list[Parameter]) -> list[dict[str, Any]]:
    """Return the parameter groups; biases and norms are the parameters of one dimension."""
    plain = [parameter for parameter in trained if parameter.ndim < 2]
    weights = [parameter for parameter in trained if parameter.ndim >= 2]
    if isinstance(table, schema.Muon):
        other = {"lr": table.other_lr, "momentum": table.other_momentum}
        filters = [parameter for parameter in weights if parameter.ndim == _FILTER_DIMENSIONS]
        matrices = [parameter for parameter in weights if parameter.ndim != _FILTER_DIMENSIONS]
        groups: list[dict[str, Any]] = [
            {
                "params": filters,
                "lr": table.lr,
                "momentum": table.momentum,
                "weight_decay": table.weight_decay,
                "orthogonal": True,
            },
            {"params": matrices, "weight_decay": table.other_weight_decay, **other},
            {"params": plain, **other},
        ]
    elif table.weight_decay and table.weight_decay_on == "weights":
        groups = [{"params": weights}, {"params": plain, "weight_decay": 0.0}]
    else:
        groups = [{"params": trained}]
    return [group for group in groups if group["params"]]


class Schedule:
    """Learning-rate schedule: updated at every step and every epoch, of which it uses one."""

    def __init__(self, table: schema.Schedule, optimizer: Optimizer, *, steps_per_epoch: int, epochs: int) -> None:
        self._optimizer = optimizer
        self._by_step: LRScheduler | None = None
        self._by_epoch: LRScheduler | None = None
        self._by_accuracy: ReduceLROnPlateau | None = None
        self._total_steps = total_steps = steps_per_epoch * epochs
        if isinstance(table, schema.OneCycle):
            max_lr, share = [group["lr"] for group in optimizer.param_groups], table.warmup_fraction
            # momentum stays the optimizer's: torch would cycle it, as a number that a recorded step keeps as it was
            self._by_step = OneCycleLR(optimizer, max_lr, total_steps, pct_start=share, cycle_momentum=False)
        elif isinstance(table, schema.Cosine):
            peak = optimizer.param_groups[0]["lr"]
            warmup_steps = round(table.warmup_epochs * steps_per_epoch)
            floor = table.final_lr / peak
            self._by_step = LambdaLR(optimizer, lambda step: _cosine(step, total_steps, warmup_steps, floor))
        elif isinstance(table, schema.Linear):
            warmup_steps = round(table.warmup_fraction * total_steps)
            floor = table.final_lr / optimizer.param_groups[0]["lr"]
            self._by_step = LambdaLR(optimizer, lambda step: _linear(step, total_steps, warmup_steps, floor))
        elif isinstance(table, schema.RangeTest):
            last = optimizer.param_groups[0]["lr"]
            self._by_step = LambdaLR(optimizer, lambda step: rate_at(table, last, step) / last)
        elif isinstance(table, schema.Step):
            self._by_epoch = StepLR(optimizer, table.every, table.factor)
        elif isinstance(table, schema.Plateau):
            self._by_accuracy = ReduceLROnPlateau(optimizer, "max", table.factor, table.patience)

    def step_done(self, at_least: float = 0.0) -> None:
        """Move schedules that go by batches: on by one, or to the share `at_least` of all, if that is further."""
        if self._by_step is not None:
            place = min(int(at_least * self._total_steps), self._total_steps - 1)
            if place > self._by_step.last_epoch + 1:
                self._by_step.last_epoch = place - 1  # its rates are a function of the place
            self._by_step.step()

    def epoch_done(self, val_score: float) -> None:
        """Move schedules that go by epochs or by validation accuracy, `val_score`."""
        if self._by_epoch is not None:
            self._by_epoch.step()
        if self._by_accuracy is not None:
            self._by_accuracy.step(val_score)

    def scale(self, factor: float) -> None:
        """Multiply the learning rate now, and everything that the rates to come are computed from."""
        for group in self._optimizer.param_groups:
            for key in _RATES & group.keys():
                group[key] *= factor
        schedule = self._by_step or self._by_epoch
        if schedule is not None:
            schedule.base_lrs = [rate * factor for rate in schedule.base_lrs]

    def go_to(self, steps: int, epochs: int) -> None:
        """Advance a fresh schedule by so many steps or whole epochs, whichever it depends on."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch misses the optimizer's steps: an earlier worker's
            if self._by_step is not None and steps > 0:
                self._by_step.last_epoch = steps - 1  # its rates are a function of the place, so one step will do
                self._by_step.step()
            for _ in range(epochs if self._by_epoch is not None else 0):
                self._by_epoch.step()  # type: ignore[union-attr]

    def take_over(self, state: dict[str, Any], *, patience_anew: bool) -> None:
        """Let a plateau go on with the best accuracy of another one's `state_dict`, and with its patience so far."""
        if self._by_accuracy is not None and "num_bad_epochs" in state:
            checked = schedule_state(state, self._by_accuracy.state_dict(), _MOST_EPOCHS)
            self._by_accuracy.best = checked["best"]
            self._by_accuracy.num_bad_epochs = 0 if patience_anew else checked["num_bad_epochs"]

    def set_best(self, score: float | None) -> None:
        """Let a plateau compare with another best accuracy; None: the next one is the best."""
        if self._by_accuracy is not None:
            self._by_accuracy.best = -math.inf if score is None else score

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on: plain values only."""
        schedule = self._by_step or self._by_epoch or self._by_accuracy
        return {} if schedule is None else dict(schedule.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; raise ValueError where that is not the state of such a schedule."""
        schedule = self._by_step or self._by_epoch or self._by_accuracy
        if schedule is not None:
            most = self._total_steps if self._by_step is not None else _MOST_EPOCHS
            schedule.load_state_dict(schedule_state(state, dict(schedule.state_dict()), most))


def _cosine(step: int, total_steps: int, warmup_steps: int, floor: float) -> float:
    """Return the share of the peak rate at `step`: linear up, half a cosine down to `floor`."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def _linear(step: int, total_steps: int, warmup_steps: int, floor: float) -> float:
    """Return the share of the peak rate at `step`: linear up, linear down to `floor` behind the last step."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    left = max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))
    return floor + (1 - floor) * left


class StageOptimizer:
    """Optimizer, schedule and gradient scaler of the current stage. The next stage has new ones."""

    def __init__(
        self,
        stage: PlannedStage,
        parameters: Iterable[Parameter],
        device: torch.device,
        scaler: GradScaler,
        steps_per_epoch: int,
        parallel: Parallel | None = None,
        clip_norm: float = 0.0,
    ) -> None:
        self._stage = stage
        self._scaler = scaler
        self._clip_norm = clip_norm
        self.optimizer = build_optimizer(
            stage.optimizer, parameters, device, is_scaled=scaler.is_enabled(), parallel=parallel
        )
        self._schedule = Schedule(stage.schedule, self.optimizer, steps_per_epoch=steps_per_epoch, epochs=stage.epochs)
        self.lr_scale = 1.0
        """Product of all factors by which commands multiplied the rates."""

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def rates(self) -> list[float]:
        """The learning rates of the next step, one for each group of parameters."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def add_gradients(self, loss: Tensor) -> None:
        """Add the gradient of `loss`, a scalar on the device, to that of the step to come."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def forget_gradients(self) -> None:
        """Drop the gradients added since the last step."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> GradientNorm:
        """Update the weights with the accumulated gradient, clipped if that is wanted; return its norm before."""
        self._scaler.unscale_(self.optimizer)
        norm = self._clip()
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.forget_gradients()
        return norm

    @torch.no_grad()
    def _clip(self) -> GradientNorm:
        groups = self.optimizer.param_groups
        gradients = [weight.grad for group in groups for weight in group["params"] if weight.grad is not None]
        # torch.nn.utils.clip_grad_norm_ would read and write every gradient once more where nothing is clipped
        value = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        is_clipped = is_skipped = None
        if self._clip_norm:
            torch._foreach_mul_(gradients, (self._clip_norm / value).clamp(max=1.0))
            is_clipped = value > self._clip_norm
        if self._scaler.is_enabled():
            is_skipped = ~value.isfinite()
            value = value.masked_fill(is_skipped, 0.0)
            is_clipped = None if is_clipped is None else is_clipped & ~is_skipped
        return GradientNorm(value, is_clipped, is_skipped)

    def advance(self, budget_spent: float = 0.0) -> None:
        """Note that a step was taken, for schedules that go by steps.

        Args:
            budget_spent: share of the time that training may take; the schedule does not lag behind it.
        """
        self._schedule.step_done(budget_spent)

    @contextmanager
    def rates_in(self, rates: Sequence[Tensor] | Sequence[float]) -> Iterator[None]:
        """Within it, take steps at `rates`, and leave those of the schedule, which moves nothing else, as they are.

        Args:
            rates: one for each group of parameters; scalars on the device are read at every replay of a recording.
        """
        groups = self.optimizer.param_groups
        before = [dict(group) for group in groups]
        for group, lr in zip(groups, rates, strict=True):
            group.update({"lr": lr, "capturable": True} if isinstance(lr, Tensor) else {"lr": lr})
        try:
            yield
        finally:
            for group, was in zip(groups, before, strict=True):
                group.clear()
                group.update(was)

    def state_tensors(self) -> list[Tensor]:
        """Return what the optimizer keeps beside the weights, such as momentum: the tensors themselves."""
        states = self.optimizer.state.values()
        return [value for state in states for value in state.values() if isinstance(value, Tensor)]

    def epoch_done(self, val_score: float) -> None:
        """Move schedules that go by epochs or by validation accuracy, `val_score`."""
        self._schedule.epoch_done(val_score)

    def set_best(self, score: float | None) -> None:
        """Let a plateau compare with another best accuracy, for validation images that have changed."""
        self._schedule.set_best(score)

    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rate, and what the schedule makes of it from now on, until the stage ends."""
        self._schedule.scale(factor)
        self.lr_scale *= factor

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: tensors and plain values."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "lr_scale": self.lr_scale,
            "stage": msgspec.to_builtins(self._stage),
        }

    def restore(
        self, state: dict[str, Any], before: PlannedStage, *, steps: int, epochs: int, is_resized: bool = False
    ) -> None:
        """Go on from what `state_dict` returned.

        What did not change goes on to the bit. If the optimizer's or schedule's table, or the epochs that
        a schedule spans, differ from before, momentum stays and the rate becomes that of the new tables at this
        step; only a plateau, which depends on past accuracies, keeps its rate unless `optimizer.lr` changed.

        Args:
            state: of a checkpoint of this stage.
            before: the stage as it was when the checkpoint was written.
            steps: batches trained in the stage, in epochs as long as they are now.
            epochs: whole epochs trained in the stage.
            is_resized: true if epochs have another number of batches than before.

        Raises:
            KeyError, ValueError, RuntimeError: the state belongs to something else.
        """
        now = self._stage
        if self._scaler.is_enabled() and state["scaler"]:
            self._scaler.load_state_dict(checks.scaler_state(state["scaler"], self._scaler.state_dict()))
        spans_epochs = isinstance(now.schedule, Cosine | Linear | OneCycle)
        is_same = (before.optimizer, before.schedule) == (now.optimizer, now.schedule)
        if is_same and not is_resized and (before.epochs == now.epochs or not spans_epochs):
            self.optimizer.load_state_dict(checks.optimizer_state(state["optimizer"], self.optimizer))
            self._schedule.load_state_dict(state["schedule"])
            self.lr_scale = checks.lr_scale_of(state)
        else:
            self._restore_changed(state, before, steps, epochs)

    def _restore_changed(self, state: dict[str, Any], before: PlannedStage, steps: int, epochs: int) -> None:
        now, saved = self._stage, state["optimizer"]
        fresh = self.optimizer.state_dict()["param_groups"]
        is_parted_alike = checks.are_parted_alike(saved, self.optimizer)
        if type(before.optimizer) is type(now.optimizer) and is_parted_alike:
            kept = checks.optimizer_state(saved, self.optimizer)["state"]
            self.optimizer.load_state_dict({"state": kept, "param_groups": fresh})
        keeps_lr = before.optimizer.lr == now.optimizer.lr
        if keeps_lr:
            self.scale_lr(checks.lr_scale_of(state))
        self._schedule.go_to(steps, epochs)
        if isinstance(now.schedule, Plateau) and isinstance(before.schedule, Plateau):
            self._schedule.take_over(state["schedule"], patience_anew=not keeps_lr)
            if keeps_lr:
                for group, lr in zip(self.optimizer.param_groups, cycle(checks.rates_of(saved)), strict=False):
                    group["lr"] = lr
