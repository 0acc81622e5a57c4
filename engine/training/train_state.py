"""State of training that a checkpoint holds: weights, their average, optimizer, schedule, progress. No files."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from engine.journal.events import Flops
from engine.models.build import build_on_meta
from engine.training import checkpoint_checks as checks
from engine.training import checkpoint_files
from engine.training.ema import Ema
from engine.training.input_pipeline import Freezable
from engine.training.optimizers import StageOptimizer, build_optimizer
from engine.training.parallel import Parallel
from engine.training.progress import Progress, num_batches
from engine.training.setup import Setup
from presets.errors import CifartuiError
from presets.plan import PlannedStage, plan
from presets.schema import Preset


class TrainState:
    """The network in the stage under way.

    Attributes:
        plan: all stages.
        best_by: the accuracy that decides which weights are best.
        steps_per_epoch: batches of an epoch.
        progress: where training is.
        ema: the average of the weights, where the preset wants one.
        stage_optimizer: moves the weights in this stage.
    """

    def __init__(self, setup: Setup, plan: Sequence[PlannedStage], parallel: Parallel | None = None) -> None:
        """Begin the first stage of `plan` with the network of `setup` as it is, in this one of the ranks."""
        self._setup, self._parallel = setup, parallel
        self.plan, self.best_by = plan, setup.info.preset.train.best_by
        self.steps_per_epoch = num_batches(len(setup.data.train.labels), setup.info.preset.train.batch_size)
        self.progress = Progress(flops=Flops() if setup.flops else None)
        decay = setup.info.preset.train.ema_decay
        self.ema = Ema(setup.network, decay) if decay else None
        self._scaler = GradScaler(setup.device.type, enabled=setup.precision == "fp16")
        self.enter_stage(0)

    @property
    def evaluated(self) -> nn.Module:
        """The network whose accuracy counts: with averaged weights where there are any."""
        return self._setup.network if self.ema is None else self.ema.network

    @property
    def next_begins_with_best(self) -> bool:
        """True if the stage after the one under way begins with the best weights of this one."""
        return any(stage.from_best for stage in self.plan[self.progress.stage + 1 :][:1])

    def enter_stage(self, number: int) -> None:
        """Make the optimizer and schedule of a stage; its number is not written into `progress`."""
        network, stage = self._setup.network, self.plan[number]
        if isinstance(network, Freezable):
            network.freeze(stage.frozen)
        self.stage_optimizer = StageOptimizer(
            stage,
            network.parameters(),
            self._setup.device,
            self._scaler,
            self.steps_per_epoch,
            self._parallel,
            self._setup.info.preset.train.clip_norm,
        )

    def begin_stage(self, load_best: Callable[[nn.Module, str], object]) -> None:
        """Begin the stage that `progress` names, with the best weights of the stage before if it is planned so.

        Args:
            load_best: fills a network with those weights; told what to say if they are lost.
        """
        progress = self.progress
        before, stage = self.plan[progress.stage - 1 : progress.stage + 1]
        if stage.from_best:
            instead = f"The stage {stage.name} begins with the last weights of the stage before."
            load_best(self._setup.network, instead)
        is_freezing = stage.frozen and not before.frozen  # the head to come is one for the backbone as it is now
        if self.ema is not None and (stage.from_best or is_freezing):
            self.ema.restart()
        progress.stage_first_epoch = progress.epoch
        progress.forget_best("stage-best")
        self.enter_stage(progress.stage)

    def state_dict(self) -> dict[str, Any]:
        """Return what last.pt holds: tensors, which go on changing, and plain values."""
        return {
            "network": self._setup.network.state_dict(),
            **({"ema": self.ema.network.state_dict()} if self.ema is not None else {}),
            **self.stage_optimizer.state_dict(),
            "progress": msgspec.to_builtins(self.progress),
        }

    def restore(
        self,
        state: dict[str, Any],
        stage_of: Callable[[dict[str, Any], Sequence[PlannedStage], int], PlannedStage],
        num_train: int | None = None,
    ) -> None:
        """Go on from a checkpoint, whose stage may since have been given other numbers.

        Args:
            state: what `state_dict` returned, and its format.
            stage_of: tells, of the state, the plan and a stage's number, how that stage was planned then.
            num_train: training images at that time; None if there are as many now. The place in the epoch, and that
                of the schedule, is then the same fraction of an epoch.

        Raises:
            CifartuiError: the state belongs to another network or another version.
        """
        checks.check_format(state)
        try:
            checks.data_of(state)
            batch_size = self._setup.info.preset.train.batch_size
            before = self.steps_per_epoch if num_train is None else num_batches(num_train, batch_size)
            self.progress = progress = checks.progress_of(state, self.plan, batch_size, before)
            progress.scale_epoch(self.steps_per_epoch, before, batch_size)
            if not self._setup.flops:
                progress.flops = None  # of what is trained from here on nobody knows
            progress.stage = min(progress.stage, len(self.plan) - 1)  # a completed run may have been given more epochs
            self.enter_stage(progress.stage)
            self.fill(state)
            epochs = progress.epoch - progress.stage_first_epoch
            steps = epochs * self.steps_per_epoch + progress.step
            planned, is_resized = stage_of(state, self.plan, progress.stage), before != self.steps_per_epoch
            self.stage_optimizer.restore(state, planned, steps=steps, epochs=epochs, is_resized=is_resized)
        except (KeyError, ValueError, RuntimeError, msgspec.ValidationError) as error:
            raise _misfit(error) from error

    def fill(self, state: dict[str, Any]) -> None:
        """Fill the network, and the average of its weights, from a checkpoint.

        Raises:
            KeyError, ValueError: they are not there, or of another network.
        """
        _fill(self._setup.network, state["network"])
        if self.ema is not None:
            _fill(self.ema.network, checkpoint_files.evaluated(state))


def _fill(network: nn.Module, weights: dict[str, Tensor]) -> None:
    checks.check_weights(weights, network)
    network.load_state_dict(weights)


def check_state(state: dict[str, Any], preset: Preset) -> None:
    """Check a last.pt before the data of its run is read: with a network on the meta device.

    Raises:
        OtherVersionError: it is of another version.
        CifartuiError: it does not belong to a run of `preset`, or holds no usable numbers.
    """
    checks.check_format(state)
    stages = plan(preset)
    try:
        place = checks.progress_of(state, stages, preset.train.batch_size)
        network = build_on_meta(preset.model, _num_classes(state), preset.data.image_size)
        checks.check_weights(state["network"], network)
        if preset.train.ema_decay:
            checks.check_weights(checkpoint_files.evaluated(state), network)
        checks.lr_scale_of(state)
        checks.data_of(state)
        now = stages[min(place.stage, len(stages) - 1)]
        before = msgspec.convert(state["stage"], PlannedStage) if "stage" in state else now
        if isinstance(network, Freezable):
            network.freeze(now.frozen)
        optimizer = build_optimizer(now.optimizer, network.parameters(), torch.device("meta"))
        is_same_kind = type(before.optimizer) is type(now.optimizer)
        is_parted_alike = checks.are_parted_alike(state["optimizer"], optimizer)
        if before.optimizer == now.optimizer or (is_same_kind and is_parted_alike):
            checks.optimizer_state(state["optimizer"], optimizer)
    except (KeyError, ValueError, RuntimeError, msgspec.ValidationError) as error:
        raise _misfit(error) from error


def _num_classes(state: dict[str, Any]) -> int:
    """Return the number of classes in a checkpoint's weights: rows of the last one, which is the last layer's."""
    weights = state.get("network")
    last = next(reversed(weights.values()), None) if isinstance(weights, dict) else None
    if not isinstance(last, Tensor) or not last.ndim or not len(last):
        raise ValueError("it has no weights")
    return len(last)


def _misfit(error: Exception) -> CifartuiError:
    why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    return CifartuiError(f"last.pt does not fit this run's preset: {why.rstrip('.')}.")
