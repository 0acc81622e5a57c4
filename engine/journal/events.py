"""Events of a run, as typed facts in the past tense: one a line in events.jsonl. No files.

`engine.journal.jsonl` writes and reads them, `engine.journal.state` folds them into a state.
Epochs are counted from 1 through the whole run; `global_step` is the number of batches trained so far;
accuracies are fractions; times are seconds; memory is bytes. A reading that could not be had is None.
"""

from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta, Struct

from engine.journal.data_record import DataRecord

Outcome: TypeAlias = Literal["completed", "stopped", "aborted", "failed"]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Epoch: TypeAlias = Annotated[int, Meta(ge=0, le=10_000_000)]
Number: TypeAlias = Annotated[float, Meta(ge=-1e39, le=1e39)]
"""As large as fp32 goes. A line with anything larger is damaged, and would overflow what draws it."""
Amount: TypeAlias = Annotated[float, Meta(ge=0.0, le=1e39)]
"""A number that may be larger than what JSON keeps exactly as an integer."""
Moment: TypeAlias = Annotated[float, Meta(ge=0.0, le=1e11)]
"""Unix seconds, until the year 5138."""


class Event(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """One fact. The journal stamps `seq` (1, 2, 3 … within a run) and `time` (Unix seconds) as it writes."""

    sync: ClassVar[bool] = False
    """Written to the disk (fsync) before training goes on, because people act on it."""
    frequent: ClassVar[bool] = False
    """One of very many, of which the latest says enough: kept neither in `RunState.log` nor in an outline."""
    logged: ClassVar[bool] = True
    """A line of the logs on the screen and in plain output; `tui.text.run_text.event` has its sentence."""

    seq: Count = 0
    time: Moment = 0.0


class Flops(Struct, frozen=True, kw_only=True):
    """FLOPs that a run has spent, 2 for each multiply-add (`engine.training.flop_count`)."""

    train: Amount = 0.0
    """Forward and backward passes of training, and the features behind a frozen backbone."""
    optimizer: Amount = 0.0
    """Matrix products of the optimizer: Muon's iterations."""
    evaluation: Amount = 0.0
    """Validation, also on command, and the test at the end."""

    @property
    def total(self) -> float:
        """All of them together."""
        return self.train + self.optimizer + self.evaluation

    @property
    def pflop(self) -> float:
        """All of them together in PFLOP, of 10¹⁵."""
        return self.total / 1e15


class RankPlace(Struct, frozen=True, kw_only=True):
    """One of several processes that train a run together: rank, host, process, device."""

    rank: int
    host: str
    pid: int
    device: str


class RunStarted(Event, frozen=True, kw_only=True, tag=True):
    """A worker took the run: the first event, and again at every resume (`global_step` > 0)."""

    pid: Count
    host: str
    device: str
    """As torch names it: cpu, cuda:0, mps."""
    device_name: str
    precision: str
    """fp32, bf16 or fp16; "auto" is resolved."""
    num_threads: Count
    versions: dict[str, str]
    global_step: Count = 0
    changes: tuple[str, ...] = ()
    """Changes of the preset by a resume, as `key.path=value`."""
    import_s: float = 0.0
    """Seconds to import torch, look at a checkpoint and choose the device."""
    ranks: tuple[RankPlace, ...] = ()
    """All ranks, with several devices; `pid`, `host` and `device_name` are those of rank 0."""
    num_gpus: Count | None = None
    """GPUs that torch sees; None if it was not asked, or CUDA_VISIBLE_DEVICES chooses among them."""


class DataProgressed(Event, frozen=True, kw_only=True, tag=True):
    """The data set is being fetched or read. `total` is 0 if unknown."""

    frequent: ClassVar[bool] = True
    logged: ClassVar[bool] = False

    phase: Literal["download", "verify", "unpack", "decode", "generate", "features"]
    done: Count
    total: Count
    unit: Literal["B", "images"]
    what: str


class DataReady(Event, frozen=True, kw_only=True, tag=True):
    """The data set is resident. `notices` are sentences about it that the user should see."""

    dataset: str
    source: str
    generated: bool
    num_train: Count
    num_val: Count
    num_test: Count
    num_classes: Count
    image_size: Count
    """Side in pixels as stored, before any resize."""
    test_labels_hidden: bool = False
    notices: tuple[str, ...] = ()
    record: DataRecord | None = None
    """Classes, counts and digests; None in journals of before there were records."""
    seconds: Number = 0.0


class BestMeasured(Event, frozen=True, kw_only=True, tag=True):
    """The best weights so far were validated again, because the validation images have changed."""

    epoch: Epoch
    """Of the weights."""
    global_step: Count
    val_loss: Number
    val_top1: Number
    val_balanced: Number | None = None
    """Mean recall of the classes, if it is measured."""


class LayerRow(Struct, frozen=True, kw_only=True):
    """A row of the layer table in the report's form."""

    number: Count
    kind: str
    kernel: Count | None = None
    in_size: Count | None = None
    out_size: Count | None = None
    in_channels: Count
    out_channels: Count
    num_parameters: Count = 0


class ModelBuilt(Event, frozen=True, kw_only=True, tag=True):
    """The network exists on the device. FLOP = 2 × MAC, forward, one image."""

    network: str
    layers: tuple[LayerRow, ...]
    num_parameters: Count
    num_trainable: Count
    flops_per_image: Count | None = None
    memory_bytes: Count | None = None
    """Estimated peak memory of training at the preset's batch size (`engine.models.memory`)."""
    seconds: float = 0.0
    """Seconds since DataReady: to build, count and estimate the memory."""


class StageStarted(Event, frozen=True, kw_only=True, tag=True):
    """A part of the training plan began; a run without stages has one."""

    stage: Epoch
    """From 0."""
    num_stages: Epoch
    name: str
    first_epoch: Epoch
    epochs: Epoch
    steps_per_epoch: Count
    total_epochs: Epoch = 0
    """The last epoch of the whole run, as planned from here on; 0 in journals of before there were stages."""
    seconds_left: float | None = None
    """Seconds left of `train.max_minutes`; None without that limit."""


class StepTiming(Struct, frozen=True, kw_only=True, gc=False):
    """Mean seconds of a step: taking and transforming the batch, forward/backward/optimizer, journal and commands."""

    data_s: Number
    compute_s: Number
    report_s: Number


class StepsTrained(Event, frozen=True, kw_only=True, tag=True, gc=False):
    """Means over the batches since the event before (at most ten such events a second)."""

    frequent: ClassVar[bool] = True
    logged: ClassVar[bool] = False

    epoch: Epoch
    step: Count
    """Batches trained in this epoch."""
    global_step: Count
    num_steps: Count
    num_images: Count
    loss: Number
    top1: Number
    lr: Number
    images_per_s: Number
    timing: StepTiming | None = None
    """Present now and then, if it can be had without making the device wait."""
    grad_norm: Number | None = None
    """Norm of the gradient before it is clipped; None if a version before wrote this, or it was no finite number."""
    clipped: Number = 0.0
    """Fraction of the batches whose gradients were clipped (`train.clip_norm`)."""


class Validated(Event, frozen=True, kw_only=True, tag=True):
    """The validation set was measured within an epoch on command; changes nothing in training."""

    epoch: Epoch
    step: Count
    """Batches trained in this epoch."""
    global_step: Count
    loss: Number
    top1: Number
    seconds: Number
    balanced: Number | None = None
    """Balanced accuracy, the mean of the classes' recalls; None where classes are even."""


class EvaluationProgressed(Event, frozen=True, kw_only=True, tag=True):
    """Images of a split evaluated so far (at most ten such events a second)."""

    frequent: ClassVar[bool] = True
    logged: ClassVar[bool] = False

    split: Literal["val", "test"]
    done: Count
    total: Count


class EpochCompleted(Event, frozen=True, kw_only=True, tag=True):
    """An epoch was trained and validated. After a stop within an epoch, `partial` is true."""

    sync: ClassVar[bool] = True

    epoch: Epoch
    stage: Epoch = 0
    global_step: Count
    train_loss: Number
    train_top1: Number
    val_loss: Number
    val_top1: Number
    lr: Number
    seconds: Number
    """Training and validation together."""
    is_best: bool
    partial: bool = False
    val_balanced: Number | None = None
    """Balanced accuracy, the mean of the classes' recalls; None where classes are even."""
    best_by: Literal["val_top1", "val_balanced"] = "val_top1"
    """The accuracy that decides which epoch is the best."""
    flops: Flops | None = None
    """Spent by the run so far, this validation included; None in older journals, and in runs begun in one."""

    @property
    def score(self) -> float:
        """Accuracy that `best_by` names."""
        if self.best_by == "val_balanced" and self.val_balanced is not None:
            return self.val_balanced
        return self.val_top1


class CheckpointSaved(Event, frozen=True, kw_only=True, tag=True):
    """A checkpoint is complete on disk."""

    sync: ClassVar[bool] = True
    logged: ClassVar[bool] = False

    kind: Literal["last", "best", "stage-best"]
    path: str
    """Relative to the run directory."""
    epoch: Epoch
    global_step: Count
    num_bytes: Count
    seconds: Number
    """Seconds of the write, beside training."""
    pause_seconds: Number = 0.0
    """Seconds that training paused to copy the state. Best weights share the copy of the last.pt after them."""
    val_top1: Number | None = None
    val_balanced: Number | None = None


class MigSample(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One MIG device, a part of a GPU with memory of its own, now."""

    uuid: str
    memory_used_bytes: Count | None = None
    memory_total_bytes: Count | None = None


class GpuSample(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One GPU now. `missing` has the reason for each absent reading."""

    index: Count
    name: str
    uuid: str = ""
    """Empty if NVML does not say; not journalled."""
    migs: tuple[MigSample, ...] = ()
    """Its parts if it is in MIG mode; not journalled."""
    memory_used_bytes: Count | None = None
    memory_total_bytes: Count | None = None
    process_memory_bytes: Count | None = None
    utilization: Number | None = None
    """Fraction."""
    temperature_c: Number | None = None
    power_w: Number | None = None
    missing: dict[str, str] = {}


class HostSample(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The machine and the sampled process now."""

    memory_used_bytes: Count
    memory_total_bytes: Count
    process_rss_bytes: Count
    cpu_utilization: Number | None = None
    """Of all cores, as a fraction."""


class TorchMemory(Struct, frozen=True, kw_only=True):
    """torch's CUDA allocator."""

    allocated_bytes: Count
    reserved_bytes: Count
    peak_bytes: Count


class DeviceSampled(Event, frozen=True, kw_only=True, tag=True):
    """Telemetry, every two seconds while the worker runs: also the worker's heartbeat."""

    frequent: ClassVar[bool] = True
    logged: ClassVar[bool] = False

    host: HostSample
    gpus: tuple[GpuSample, ...] = ()
    gpus_missing: str = ""
    """Reason in words if there is no GPU reading at all; else empty."""
    torch_memory: TorchMemory | None = None
    worker_s: float | None = None
    """Uptime of this worker in seconds, by a monotonic clock; None in older journals."""


class CommandApplied(Event, frozen=True, kw_only=True, tag=True):
    """A command was obeyed, or refused (`accepted` false), at the step given."""

    sync: ClassVar[bool] = True

    command_id: str
    command: str
    accepted: bool
    effect: str
    epoch: Epoch
    global_step: Count


class Alerted(Event, frozen=True, kw_only=True, tag=True):
    """Something the user should know, and what can be done about it."""

    severity: Literal["notice", "warning", "error"]
    kind: str
    text: str
    advice: str = ""
    changes: tuple[str, ...] = ()
    """Changes with which a resume may avoid it, as `key.path=value`."""


class Paused(Event, frozen=True, kw_only=True, tag=True):
    """Training was interrupted by the user."""

    logged: ClassVar[bool] = False  # CommandApplied has said so

    global_step: Count


class Continued(Event, frozen=True, kw_only=True, tag=True):
    """Training goes on after a pause."""

    logged: ClassVar[bool] = False  # CommandApplied has said so

    global_step: Count


class RunFinished(Event, frozen=True, kw_only=True, tag=True):
    """The last event of a run, unless it is resumed."""

    sync: ClassVar[bool] = True

    outcome: Outcome
    reason: str
    epoch: Epoch
    global_step: Count
    best_epoch: Epoch | None = None
    best_val_top1: Number | None = None
    test_loss: Number | None = None
    test_top1: Number | None = None
    tested: Literal["best", "last"] = "best"
    """The weights of the test accuracy: the last ones if the best are lost."""
    best_val_balanced: Number | None = None
    test_balanced: Number | None = None
    seconds: Number = 0.0
    """Since the worker started."""
    flops: Flops | None = None
    """Spent by the whole run, the test included; None if it did not come to its end."""


AnyEvent: TypeAlias = (
    RunStarted
    | DataProgressed
    | DataReady
    | BestMeasured
    | ModelBuilt
    | StageStarted
    | StepsTrained
    | Validated
    | EvaluationProgressed
    | EpochCompleted
    | CheckpointSaved
    | DeviceSampled
    | CommandApplied
    | Alerted
    | Paused
    | Continued
    | RunFinished
)
