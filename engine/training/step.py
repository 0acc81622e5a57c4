"""One optimizer step on one batch, run eagerly or replayed from a CUDA graph.

Images, augmentation, forward, backward, weights, sums; no epochs.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from engine.data.mixup import mix_batch
from engine.journal.events import Alerted
from engine.journal.jsonl import EventWriter
from engine.training.class_balance import of_batch
from engine.training.ema import Ema
from engine.training.input_pipeline import SplitInputs
from engine.training.metrics import Meter
from engine.training.microbatch import (
    MicroBatch,
    capital_device,
    free_memory,
    is_out_of_memory,
    parts,
    smallest_part,
)
from engine.training.optimizers import StageOptimizer
from engine.training.parallel import Parallel
from engine.training.seeds import reseed, seed_at
from engine.training.setup import Setup, compile_errors_explained, records_steps
from engine.training.step_timer import StepTimer
from presets.errors import CifartuiError

Taken: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Result of a step to add to the sums, on the device: mean loss, logits [B, C], labels int64 [B]."""

_NUM_WARM_UPS = 3
"""Steps before the recording: they make the optimizer's state, and let cuDNN choose its algorithms."""


class Recorder(Protocol):
    """Recorder of a step, which can replay it: CUDA's, or a stand-in in tests."""

    def warm_up(self, work: Callable[[], Taken]) -> Taken:
        """Do the work, where it will be recorded."""

    def record(self, work: Callable[[], Taken]) -> Taken:
        """Record the work without doing it, and return where a replay leaves its results."""

    def replay(self) -> None:
        """Do the recorded work."""


class CudaRecorder:
    """Records with torch.cuda.CUDAGraph, on a stream of its own as torch asks for."""

    def __init__(self, device: torch.device) -> None:
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph: Any = torch.cuda.CUDAGraph()

    def warm_up(self, work: Callable[[], Taken]) -> Taken:
        """See `Recorder`."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            taken = work()
        torch.cuda.current_stream().wait_stream(self._stream)
        return taken

    def record(self, work: Callable[[], Taken]) -> Taken:
        """See `Recorder`."""
        # thread_local: the telemetry and saving threads may speak to CUDA meanwhile
        with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
            return work()

    def replay(self) -> None:
        """See `Recorder`."""
        self._graph.replay()


class RecordedStep:
    """The steps of one stage: the first few as they come, then a recording of one.

    Epochs whose images are mixed, or of a size, in another way than those before begin anew.
    """

    def __init__(
        self,
        batch_size: int,
        device: torch.device,
        say: Callable[[Alerted], object],
        recorder: Callable[[torch.device], Recorder] = CudaRecorder,
    ) -> None:
        """Record steps of `batch_size` images; `say` is given an alert if that fails."""
        self._say = say
        self._make_recorder = recorder
        self._is_given_up = False
        self._epochs: object = None
        """Mixing and size of the images for which a step is recorded."""
        self._mirror_epoch = torch.zeros((), dtype=torch.int64, device=device)
        self._device = device
        self._rows = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self._rates: list[Tensor] = []
        """Learning rates of the recorded step, which replays read: a scalar for each group of parameters."""
        self._recorder: Recorder | None = None
        self._warm_ups_left = 0
        self._taken: Taken | None = None
        self._compute: object = None

    def take(
        self,
        inputs: SplitInputs,
        rows: Tensor,
        stage_optimizer: StageOptimizer,
        plain: Callable[[], Taken],
        compute: Callable[[SplitInputs, Tensor], Taken],
    ) -> Taken:
        """Move the weights.

        Args:
            inputs: of the epoch.
            rows: of the batch, int64 [B] on the device.
            stage_optimizer: what the stage moves its weights with.
            plain: takes the step at `rows` operation by operation.
            compute: the same, for inputs and rows that it is given, without a look at what the device has computed.
        """
        if len(rows) != len(self._rows) or self._is_given_up:
            return plain()
        if self._recorder is None or self._epochs != (inputs.mix, inputs.size):
            self._taken = self._recorder = None  # and with it the memory of the recording before
            self._recorder, self._warm_ups_left = self._make_recorder(self._device), _NUM_WARM_UPS
            self._epochs = inputs.mix, inputs.size
        if self._warm_ups_left:
            self._warm_ups_left -= 1
            return self._recorder.warm_up(plain)
        self._rows.copy_(rows)
        if isinstance(inputs.mirror_epoch, int):
            self._mirror_epoch.fill_(inputs.mirror_epoch)
            inputs = inputs._replace(mirror_epoch=self._mirror_epoch)
        if self._taken is None and not self._record(self._recorder, stage_optimizer, partial(compute, inputs)):
            return plain()
        for place, rate in zip(self._rates, stage_optimizer.rates, strict=True):
            place.fill_(rate)
        self._recorder.replay()
        assert self._taken is not None
        return self._taken

    def _record(self, recorder: Recorder, stage_optimizer: StageOptimizer, compute: Callable[[Tensor], Taken]) -> bool:
        """Record the step; return False, say why, and record no more, if that fails."""
        self._rates = [torch.full((), rate, device=self._device) for rate in stage_optimizer.rates]
        self._compute = compute  # whose transform has constants in memory that replays read
        try:
            with stage_optimizer.rates_in(self._rates):
                self._taken = recorder.record(lambda: compute(self._rows))
            return True
        except RuntimeError as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            has_room = not is_out_of_memory(error)
        self._recorder, self._is_given_up = None, True
        stage_optimizer.forget_gradients()
        free_memory()
        text = (
            f"A step cannot be recorded ({said})" if has_room else f"{capital_device(self._device)} ran out of memory"
        )
        text += ": steps are taken as they come." if has_room else " for a recorded step: they are taken as they come."
        advice = "Training takes longer. train.cuda_graphs = false does without recordings from the start."
        kind = "option" if has_room else "out-of-memory"
        self._say(Alerted(severity="warning", kind=kind, text=text, advice=advice))
        return False


class Stepper:
    """Takes steps, with as many images at once as memory has room for. Nothing in a step waits for the device.

    With several ranks each takes a step on its own part of the batch, and the run ends if memory runs out.
    """

    def __init__(
        self,
        setup: Setup,
        journal: EventWriter,
        step_timer: StepTimer,
        ema: Ema | None,
        parallel: Parallel | None = None,
    ) -> None:
        self._setup = setup
        self._ema = ema
        self._parallel = parallel or Parallel()
        self._step_timer = step_timer
        self._batch_size = setup.info.preset.train.batch_size
        self._say = journal.write
        self.at_once = MicroBatch(
            self._batch_size, setup.device, journal.write, "training", smallest_part(setup.network)
        )
        self._recorded: RecordedStep | None = None

    def begin_stage(self) -> None:
        """Forget what was recorded with the inputs and the optimizer of another stage."""
        is_wanted = records_steps(self._setup)
        self._recorded = RecordedStep(self._batch_size, self._setup.device, self._say) if is_wanted else None

    def expect(self, inputs: SplitInputs, rows: Tensor) -> None:
        """Say which images (`rows`, as for `step`) the step takes that comes after those expected before."""
        inputs.expect(self._parallel.shard(len(rows)).of(rows))

    def step(
        self,
        inputs: SplitInputs,
        rows: Tensor,
        global_step: int,
        stage_optimizer: StageOptimizer,
        meter: Meter,
        budget_spent: float = 0.0,
    ) -> None:
        """Train on the images at `rows` (int64 [B], where the images are), and add what they came to to `meter`.

        Args:
            inputs: of the stage.
            rows: of the batch, the same in every rank.
            global_step: how many steps were taken before; decides everything that is drawn.
            stage_optimizer: moves the weights.
            meter: of the epoch.
            budget_spent: share of the time that training may take, where that is limited.

        Raises:
            CifartuiError: memory runs out even with the smallest part of a batch.
        """
        self._step_timer.step_begins()
        seed = seed_at(self._setup.info.seed, "step", global_step)
        if self._recorded is None:
            taken = self._take(inputs, rows, seed, stage_optimizer)
        else:
            reseed(self._setup.device, seed)
            self._step_timer.has_data()  # a recording cannot be looked into
            taken = self._recorded.take(
                inputs,
                rows,
                stage_optimizer,
                plain=lambda: self._take(inputs, rows, seed, stage_optimizer),
                compute=lambda seen, kept: self._compute(
                    seen, kept, seed, stage_optimizer, self.at_once.num_images, _nothing
                ),
            )
        stage_optimizer.advance(budget_spent)
        if self._ema is not None:
            self._ema.update(global_step + 1)
        meter.add(*taken, len(rows))
        self._step_timer.step_ends()

    def _take(self, inputs: SplitInputs, rows: Tensor, seed: int, stage_optimizer: StageOptimizer) -> Taken:
        """Move the weights, with fewer images at once where memory runs out."""

        def attempt(num_images: int) -> Taken:
            reseed(self._setup.device, seed)
            return self._add_gradients(inputs, rows, seed, stage_optimizer, num_images, self._step_timer.has_data)

        if self._parallel.num_ranks == 1:
            taken = self.at_once.run(attempt, len(rows), undo=stage_optimizer.forget_gradients)
        else:  # a rank that began its step anew would be out of step with the others
            taken = attempt(len(rows))
        self._move_weights(stage_optimizer)
        return taken

    def _move_weights(self, stage_optimizer: StageOptimizer) -> None:
        """Update the weights; the first time the optimizer allocates its state, beside weights and gradients.

        Raises:
            CifartuiError: memory runs out, which fewer images at once would not change: none are held any more.
        """
        try:
            stage_optimizer.step()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise CifartuiError(
                f"{capital_device(self._setup.device)} ran out of memory in the optimizer's step, whatever the batch: "
                "free memory on it (nvidia-smi shows who holds it), or train again with a smaller network, or "
                'with optimizer.name = "sgd", which keeps the least beside the weights.'
            ) from error

    def _compute(
        self,
        inputs: SplitInputs,
        rows: Tensor,
        seed: int,
        stage_optimizer: StageOptimizer,
        num_images: int,
        has_data: Callable[[], None],
    ) -> Taken:
        """Do all that the device does in a step."""
        taken = self._add_gradients(inputs, rows, seed, stage_optimizer, num_images, has_data)
        stage_optimizer.step()
        return taken

    def _add_gradients(
        self,
        inputs: SplitInputs,
        rows: Tensor,
        seed: int,
        stage_optimizer: StageOptimizer,
        num_images: int,
        has_data: Callable[[], None],
    ) -> Taken:
        """Add up the gradients of the batch's mean loss, `num_images` at a time; return loss, logits and labels.

        The whole batch is augmented at once, so that what is drawn for it does not depend on its parts.
        """
        setup, shard = self._setup, self._parallel.shard(len(rows))
        images, labels, targets = network_input(inputs, rows, seed, len(setup.data.class_names), self._parallel)
        has_data()
        criterion = of_batch(setup.criterion, lambda: inputs.labels(rows))
        losses, logits = [], []
        for some, theirs, share in parts(images, targets, num_images):
            with setup.autocast():
                output = inputs.network(some)
                loss = shard.mean_loss(criterion, output, theirs)
            if share < 1:
                loss = loss * share
            with compile_errors_explained():
                stage_optimizer.add_gradients(loss if shard.weight == 1 else loss * shard.weight)
            losses.append(loss.detach())
            logits.append(output.detach())
        if len(losses) == 1:
            return losses[0], shard.own(logits[0]), shard.own(labels)
        return torch.stack(losses).sum(), torch.cat(logits), labels


def network_input(
    inputs: SplitInputs, rows: Tensor, seed: int, num_classes: int, parallel: Parallel
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a rank's network is given in a step: images, augmented and mixed, labels and targets of its shard.

    Args:
        inputs: of the epoch.
        rows: of the whole batch, int64 [B], where the images are.
        seed: of the step; the generators have just been set to it.
        num_classes: C.
        parallel: the ranks.

    Returns:
        Images float [N, 3, S, S] (or features), labels int64 [N], and targets: the labels, or float [N, C] if mixed.
    """
    shard = parallel.shard(len(rows))
    images, labels = inputs.take(shard.of(rows))
    with parallel.draws(shard, seed):
        images = inputs.transform(images)
    if inputs.mix is None:
        return images, labels, labels
    images, targets = mix_batch(images, labels, inputs.mix, num_classes)
    return images, labels, targets


def _nothing() -> None:
    pass
