"""How the weights move in the stage under way: optimizer, schedule and gradient scaler as one.

Knows what a checkpoint keeps of them, and how they go on where a resume changed their numbers. No files.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.nn import Parameter

from engine.training.optim import Schedule, build_optimizer
from presets.plan import PlannedStage
from presets.schema import Cosine, Linear, OneCycle, Plateau


class Descent:
    """Takes the steps of one stage, and forgets momentum and rates with it."""

    def __init__(
        self,
        stage: PlannedStage,
        parameters: Iterable[Parameter],
        device: torch.device,
        scaler: GradScaler,
        steps_per_epoch: int,
    ) -> None:
        self._stage = stage
        self._scaler = scaler
        self.optimizer = build_optimizer(stage.optimizer, parameters, device, is_scaled=scaler.is_enabled())
        self._schedule = Schedule(stage.schedule, self.optimizer, steps_per_epoch=steps_per_epoch, epochs=stage.epochs)
        self.lr_scale = 1.0
        """What the rates were multiplied by on command, all in all."""

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def add_gradients(self, loss: Tensor) -> None:
        """Add the gradient of `loss`, a scalar on the device, to that of the step to come."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def forget_gradients(self) -> None:
        """Take back what was added since the last step."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Move the weights against the gradient added up."""
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.forget_gradients()

    def advance(self, budget_spent: float = 0.0) -> None:
        """Note that a step was taken, for schedules that go by steps.

        Args:
            budget_spent: share of the time that training may take; the schedule does not lag behind it.
        """
        self._schedule.step_done(budget_spent)

    @contextmanager
    def rate_in(self, lr: Tensor) -> Iterator[None]:
        """Let what is recorded meanwhile take its learning rate from `lr`, a scalar on the device, at every replay."""
        groups = self.optimizer.param_groups
        before = [dict(group) for group in groups]
        for group in groups:
            group.update(lr=lr, capturable=True)
        try:
            yield
        finally:
            for group, was in zip(groups, before, strict=True):
                group.clear()
                group.update(was)

    def epoch_done(self, val_top1: float) -> None:
        """Move schedules that go by epochs or by validation accuracy."""
        self._schedule.epoch_done(val_top1)

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

    def restore(self, state: dict[str, Any], before: PlannedStage, *, steps: int, epochs: int) -> None:
        """Go on from what `state_dict` returned.

        What did not change goes on to the bit. Where the optimizer's or schedule's table, or the epochs that
        a schedule spans, are others than before, momentum stays and the rate becomes what the new tables have
        at this place; only a plateau, which goes by what happened, keeps its rate unless `optimizer.lr` changed.

        Args:
            state: of a checkpoint of this stage.
            before: the stage as it was when the checkpoint was written.
            steps: batches trained in the stage.
            epochs: whole epochs trained in the stage.

        Raises:
            KeyError, ValueError, RuntimeError: the state belongs to something else.
        """
        now = self._stage
        if self._scaler.is_enabled() and state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        spans_epochs = isinstance(now.schedule, Cosine | Linear | OneCycle)
        is_same = (before.optimizer, before.schedule) == (now.optimizer, now.schedule)
        if is_same and (before.epochs == now.epochs or not spans_epochs):
            self.optimizer.load_state_dict(state["optimizer"])
            self._schedule.load_state_dict(state["schedule"])
            self.lr_scale = float(state.get("lr_scale", 1.0))
        else:
            self._restore_changed(state, before, steps, epochs)

    def _restore_changed(self, state: dict[str, Any], before: PlannedStage, steps: int, epochs: int) -> None:
        now, saved = self._stage, state["optimizer"]
        fresh = self.optimizer.state_dict()["param_groups"]
        if type(before.optimizer) is type(now.optimizer) and _parted_alike(fresh, saved["param_groups"]):
            self.optimizer.load_state_dict({"state": saved["state"], "param_groups": fresh})
        keeps_lr = before.optimizer.lr == now.optimizer.lr
        if keeps_lr:
            self.scale_lr(float(state.get("lr_scale", 1.0)))
        self._schedule.go_to(steps, epochs)
        if isinstance(now.schedule, Plateau) and isinstance(before.schedule, Plateau):
            self._schedule.take_over(state["schedule"], patience_anew=not keeps_lr)
            if keeps_lr:
                for group, was in zip(self.optimizer.param_groups, cycle(saved["param_groups"]), strict=False):
                    group["lr"] = was["lr"]


def _parted_alike(groups: list[dict[str, Any]], others: list[dict[str, Any]]) -> bool:
    """Return whether two optimizers have the same parameters in the same groups, so that their states fit."""
    return [group["params"] for group in groups] == [group["params"] for group in others]
