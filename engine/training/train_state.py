"""What learns, and what a checkpoint holds of it: weights and their average, optimizer, schedule, place. No files."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from torch import nn
from torch.amp import GradScaler

from engine.training import checkpoint_files
from engine.training.checkpoint_manager import check_format
from engine.training.ema import Ema
from engine.training.input_pipeline import Freezable
from engine.training.optimizers import StageOptimizer
from engine.training.progress import Progress, num_batches
from engine.training.setup import Setup
from presets.errors import CifartuiError
from presets.plan import PlannedStage


class TrainState:
    """The network in the stage under way.

    Attributes:
        plan: all stages.
        steps_per_epoch: batches of an epoch.
        progress: where training is.
        ema: the average of the weights, where the preset wants one.
        stage_optimizer: moves the weights in this stage.
    """

    def __init__(self, setup: Setup, plan: Sequence[PlannedStage]) -> None:
        """Begin the first stage of `plan` with the network of `setup` as it is."""
        self._setup = setup
        self.plan = plan
        self.steps_per_epoch = num_batches(len(setup.data.train.labels), setup.info.preset.train.batch_size)
        self.progress = Progress()
        decay = setup.info.preset.train.ema_decay
        self.ema = Ema(setup.network, decay) if decay else None
        self._scaler = GradScaler(setup.device.type, enabled=setup.precision == "fp16")
        self.enter_stage(0)

    @property
    def evaluated(self) -> nn.Module:
        """The network whose accuracy counts: with averaged weights where there are any."""
        return self._setup.network if self.ema is None else self.ema.network

    def enter_stage(self, number: int) -> None:
        """Make the optimizer and schedule of a stage; its number is not written into `progress`."""
        network, stage = self._setup.network, self.plan[number]
        if isinstance(network, Freezable):
            network.freeze(stage.frozen)
        self.stage_optimizer = StageOptimizer(
            stage, network.parameters(), self._setup.device, self._scaler, self.steps_per_epoch
        )

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
    ) -> None:
        """Go on from a checkpoint, whose stage may since have been given other numbers.

        Args:
            state: what `state_dict` returned, and its format.
            stage_of: tells, of the state, the plan and a stage's number, how that stage was planned then.

        Raises:
            CifartuiError: the state belongs to another network or another version.
        """
        check_format(state)
        try:
            self.progress = progress = msgspec.convert(state["progress"], Progress)
            progress.stage = min(progress.stage, len(self.plan) - 1)  # a completed run may have been given more epochs
            self.enter_stage(progress.stage)
            self._setup.network.load_state_dict(state["network"])
            if self.ema is not None:
                self.ema.network.load_state_dict(checkpoint_files.evaluated(state))
            epochs = progress.epoch - progress.stage_first_epoch
            steps = epochs * self.steps_per_epoch + progress.step
            self.stage_optimizer.restore(state, stage_of(state, self.plan, progress.stage), steps=steps, epochs=epochs)
        except (KeyError, ValueError, RuntimeError, msgspec.ValidationError) as error:
            raise CifartuiError(f"last.pt does not fit this run's preset: {error}") from error
