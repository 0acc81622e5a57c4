"""A training step recorded as a CUDA graph and replayed, checked against steps taken operation by operation.

A graph keeps addresses and Python numbers as they were when it was recorded. What changes from step to step is
therefore read from tensors of its own: rows, learning rates, the epoch that mirrors; random numbers go by the
generator's seed. Before a recording trains, and once more in the next epoch, it is replayed from the weights as they
are with other rows, another seed, another rate and the other mirroring, and compared with the same steps taken eagerly.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from engine.journal.events import Alerted
from engine.training.input_pipeline import SplitInputs
from engine.training.metrics import GradientNorm
from engine.training.microbatch import capital_device, free_memory, is_out_of_memory
from engine.training.optimizers import StageOptimizer

_NUM_WARM_UPS = 3
"""Steps before the recording: they make the optimizer's state, and let cuDNN choose its algorithms."""
_FAR = 0.3
"""Largest difference of a replay from the eager step, as a part of that step: kernels that sum in another order, in
bf16 and through Muon, which enlarges what is small, stay well below it; a step lost or taken twice does not."""
_FARTHER = 0.5
"""The same, as a part of what a change of rows, seed, rate or mirroring makes: 1 where the replay does not see it."""
_SEEN = 1e-3
"""Changes that make less than this part of a step are not looked for."""
_LOSS = 0.02
"""Largest relative difference of losses."""


class Taken(NamedTuple):
    """Result of a step to add to the sums, on the device.

    Attributes:
        loss: mean over this rank's images that count, a scalar.
        hits: number of correct predictions among them, an int64 scalar.
        num_images: their number.
        norm: of the gradient over the whole batch.
    """

    loss: Tensor
    hits: Tensor
    num_images: int
    norm: GradientNorm


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


class Moving(NamedTuple):
    """Settings of a step that differ from those of the next one.

    Attributes:
        rows: of the batch, int64 [B] on the device.
        seed: of the generators.
        rates: learning rates, one for each group of parameters.
        mirror_epoch: see `SplitInputs`; 0 where images are not mirrored in turn.
    """

    rows: Tensor
    seed: int
    rates: Sequence[float]
    mirror_epoch: int = 0


class RecordedStep:
    """The steps of one stage: the first few as they come, then a recording of one.

    Epochs whose images are mixed, or of a size, in another way than those before begin anew.
    """

    def __init__(
        self,
        batch_size: int,
        network: nn.Module,
        device: torch.device,
        say: Callable[[Alerted], object],
        reseed: Callable[[int], object],
        recorder: Callable[[torch.device], Recorder] = CudaRecorder,
    ) -> None:
        """Prepare.

        Args:
            batch_size: images of the steps that are recorded.
            network: whose weights and buffers a step changes.
            device: of the steps.
            say: is given an alert where steps cannot be recorded.
            reseed: sets the generators to a step's seed.
            recorder: makes a recorder.
        """
        self._network = network
        self._say = say
        self._reseed = reseed
        self._make_recorder = recorder
        self.is_given_up = False
        """True if no step is recorded any more."""
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
        self._checked: list[SplitInputs] = []
        """Inputs of the epochs in which the recording was checked."""

    def take(
        self,
        inputs: SplitInputs,
        rows: Tensor,
        seed: int,
        stage_optimizer: StageOptimizer,
        plain: Callable[[], Taken],
        compute: Callable[[SplitInputs, Tensor], Taken],
    ) -> Taken:
        """Move the weights.

        Args:
            inputs: of the epoch.
            rows: of the batch, int64 [B] on the device.
            seed: of the step; the generators are set to it.
            stage_optimizer: what the stage moves its weights with.
            plain: takes the step at `rows` operation by operation.
            compute: the same, for inputs and rows that it is given, without a look at what the device has computed.
        """
        if len(rows) != len(self._rows) or self.is_given_up:
            return plain()
        if self._recorder is None or self._epochs != (inputs.mix, inputs.size):
            self._taken = self._recorder = None  # and with it the memory of the recording before
            self._recorder, self._warm_ups_left = self._make_recorder(self._device), _NUM_WARM_UPS
            self._epochs = inputs.mix, inputs.size
            self._checked.clear()
        if self._warm_ups_left:
            self._warm_ups_left -= 1
            return self._recorder.warm_up(plain)
        is_mirrored = isinstance(inputs.mirror_epoch, int)
        now = Moving(rows, seed, stage_optimizer.rates, inputs.mirror_epoch if is_mirrored else 0)  # type: ignore[arg-type]
        read = inputs._replace(mirror_epoch=self._mirror_epoch) if is_mirrored else inputs
        if not self._is_good(inputs, read, now, stage_optimizer, compute):
            self._reseed(seed)
            return plain()
        return self._replay(now)

    def _replay(self, now: Moving) -> Taken:
        self._rows.copy_(now.rows)
        self._mirror_epoch.fill_(now.mirror_epoch)
        for place, rate in zip(self._rates, now.rates, strict=True):
            place.fill_(rate)
        assert self._recorder is not None
        assert self._taken is not None
        self._recorder.replay()
        return self._taken

    def _is_good(
        self,
        inputs: SplitInputs,
        read: SplitInputs,
        now: Moving,
        stage_optimizer: StageOptimizer,
        compute: Callable[[SplitInputs, Tensor], Taken],
    ) -> bool:
        """Return true if there is a recording that trains as eager steps do; else say why, and record no more."""
        is_new = self._taken is None
        if not is_new and (len(self._checked) > 1 or any(inputs is each for each in self._checked)):
            return True
        try:
            if is_new:
                self._rates = [torch.full((), rate, device=self._device) for rate in now.rates]
                self._compute = partial(compute, read)  # whose transform has constants in memory that replays read
                with stage_optimizer.rates_in(self._rates):
                    self._taken = self._recorder.record(lambda: compute(read, self._rows))  # type: ignore[union-attr]
            fault = self._fault(inputs, now, stage_optimizer, compute)
        except RuntimeError as error:
            self._give_up(stage_optimizer, error)
            return False
        if fault:
            self._give_up(stage_optimizer, fault)
            return False
        self._checked.append(inputs)
        self._reseed(now.seed)
        return True

    def _fault(
        self,
        inputs: SplitInputs,
        now: Moving,
        stage_optimizer: StageOptimizer,
        compute: Callable[[SplitInputs, Tensor], Taken],
    ) -> str:
        """Return in which way replays train otherwise than eager steps, or nothing; weights stay as they are."""
        trained = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
        buffers = list(self._network.buffers())
        before = _Memory([*trained, *buffers, *stage_optimizer.state_tensors()])
        floats = [buffer for buffer in buffers if buffer.is_floating_point()]
        compared: list[list[Tensor]] = [[parameter.detach() for parameter in trained], floats]

        def eager(moving: Moving) -> Taken:
            seen = inputs if inputs.mirror_epoch is None else inputs._replace(mirror_epoch=moving.mirror_epoch)
            with stage_optimizer.rates_in(moving.rates):
                return compute(seen, moving.rows)

        def outcome(step: Callable[[Moving], Taken], moving: Moving) -> _Outcome:
            self._reseed(moving.seed)
            taken = step(moving)
            found = _Outcome(float(taken.loss), int(taken.hits), [[each.clone() for each in part] for part in compared])
            before.restore()
            return found

        start = [[each.clone() for each in part] for part in compared]
        try:
            plain = outcome(eager, now)
            again = outcome(self._replay, now)
            if fault := again.otherwise(plain):
                return fault
            noise = again.distance(plain)
            steps = plain.distance(_Outcome(plain.loss, plain.hits, start))
            for off, step in zip(noise, steps, strict=True):
                if not off <= _FAR * step:
                    return f"its step is {_share(off, step)} off"
            for name, changed in _changes(now, len(inputs.split), is_mirrored=inputs.mirror_epoch is not None):
                expected = outcome(eager, changed)
                found = outcome(self._replay, changed)
                if fault := found.otherwise(expected):
                    return f"{fault} with {name}"
                signals, offs = expected.distance(plain), found.distance(expected)
                for off, signal, least, step in zip(offs, signals, noise, steps, strict=True):
                    if signal > max(2 * least, _SEEN * step) and not off <= _FARTHER * signal:
                        return f"it does not follow {name}"
        finally:
            before.restore()
        return ""

    def _give_up(self, stage_optimizer: StageOptimizer, why: RuntimeError | str) -> None:
        """Say why no step is recorded any more, and free what recordings hold."""
        self._recorder = self._taken = self._compute = None
        self.is_given_up = True
        stage_optimizer.forget_gradients()
        free_memory()
        kind = "option"
        advice = "Training takes longer. train.cuda_graphs = false does without recordings from the start."
        if isinstance(why, str):
            text = f"A recorded step trains otherwise than a plain one ({why}): steps are taken as they come."
            advice = f"Nothing was trained with it. {advice}"
        elif is_out_of_memory(why):
            kind, device = "out-of-memory", capital_device(self._device)
            text = f"{device} ran out of memory for a recorded step: they are taken as they come."
        else:
            said = (str(why).strip().splitlines() or [type(why).__name__])[0]
            text = f"A step cannot be recorded ({said}): steps are taken as they come."
        self._say(Alerted(severity="warning", kind=kind, text=text, advice=advice))


class _Memory:
    """Copy of tensors, to fill them with again."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = [tensor.detach() for tensor in tensors]
        self._copies = [tensor.clone() for tensor in self._tensors]

    def restore(self) -> None:
        for tensor, copy in zip(self._tensors, self._copies, strict=True):
            tensor.copy_(copy)


class _Outcome(NamedTuple):
    """Outcome of a step: mean loss, hits, and the weights and the buffers behind it."""

    loss: float
    hits: int
    parts: list[list[Tensor]]

    def otherwise(self, other: "_Outcome") -> str:
        """Return in which way loss or hits are others; nothing if they are not."""
        if not abs(self.loss - other.loss) <= _LOSS * abs(other.loss):
            return f"its loss is {self.loss:.4g} in place of {other.loss:.4g}"
        if abs(self.hits - other.hits) > 1 + other.hits // 10:  # two classes may be as probable
            return f"it counts {self.hits} correct predictions in place of {other.hits}"
        return ""

    def distance(self, other: "_Outcome") -> list[float]:
        """Return the Euclidean distance of the weights, and of the buffers."""
        return [_norm(ours, theirs) for ours, theirs in zip(self.parts, other.parts, strict=True)]


def _norm(ours: list[Tensor], theirs: list[Tensor]) -> float:
    if not ours:
        return 0.0
    return float(torch.stack(torch._foreach_norm(torch._foreach_sub(ours, theirs))).norm())


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else "infinitely far"


def _changes(now: Moving, num_images: int, *, is_mirrored: bool) -> list[tuple[str, Moving]]:
    """Return steps that differ from `now` in one thing each, with its name."""
    changes = [
        ("other images", now._replace(rows=(now.rows + num_images // 2 + 1) % num_images)),
        ("another seed", now._replace(seed=now.seed ^ 1)),
        ("another learning rate", now._replace(rates=[rate / 2 for rate in now.rates])),
    ]
    return [*changes, ("mirrored images", now._replace(mirror_epoch=now.mirror_epoch + 1))][: 4 if is_mirrored else 3]
