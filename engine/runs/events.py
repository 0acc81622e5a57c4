"""Everything that can happen to a run, as typed facts in the past tense: one a line in events.jsonl.

Knows nothing of files (`engine.runs.journal`) or of how facts add up (`engine.runs.state`).
Epochs are counted from 1 through the whole run; `global_step` is the number of batches trained so far;
accuracies are fractions; times are seconds; memory is bytes. A reading that could not be had is None.
"""

from typing import Literal, TypeAlias

from msgspec import Struct

Outcome: TypeAlias = Literal["completed", "stopped", "aborted", "failed"]


class Event(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """One fact. The journal stamps `seq` (1, 2, 3 … within a run) and `time` (Unix seconds) as it writes."""

    seq: int = 0
    time: float = 0.0


class RunStarted(Event, frozen=True, kw_only=True, tag=True):
    """A worker took the run: the first event, and again at every resume (`global_step` > 0)."""

    pid: int
    host: str
    device: str
    """As torch names it: cpu, cuda:0, mps."""
    device_name: str
    precision: str
    """What "auto" came to: fp32, bf16 or fp16."""
    num_threads: int
    versions: dict[str, str]
    global_step: int = 0
    changes: tuple[str, ...] = ()
    """What a resume changed of the preset, as `key.path=value`."""
    import_s: float = 0.0
    """Since the worker's process began: the interpreter, torch, and the device chosen."""


class DataProgressed(Event, frozen=True, kw_only=True, tag=True):
    """The data set is being fetched or read. `total` is 0 where it is not known."""

    phase: Literal["download", "verify", "unpack", "decode", "generate", "features"]
    done: int
    total: int
    unit: Literal["B", "images"]
    what: str


class DataReady(Event, frozen=True, kw_only=True, tag=True):
    """The data set is resident. `notices` are sentences about it that the user should see."""

    dataset: str
    source: str
    generated: bool
    num_train: int
    num_val: int
    num_test: int
    num_classes: int
    image_size: int
    """Side in pixels as stored, before any resize."""
    test_labels_hidden: bool = False
    notices: tuple[str, ...] = ()
    seconds: float = 0.0


class Layer(Struct, frozen=True, kw_only=True):
    """A row of the layer table in the report's form."""

    number: int
    kind: str
    kernel: int | None = None
    in_size: int | None = None
    out_size: int | None = None
    in_channels: int
    out_channels: int
    num_parameters: int = 0


class ModelBuilt(Event, frozen=True, kw_only=True, tag=True):
    """The network exists on the device. FLOP = 2 × MAC, forward, one image."""

    network: str
    layers: tuple[Layer, ...]
    num_parameters: int
    num_trainable: int
    flops_per_image: int | None = None
    memory_bytes: int | None = None
    """Estimate of what training at the preset's batch size needs at its peak (`engine.models.memory`)."""
    seconds: float = 0.0
    """Since DataReady: built, counted, and its memory estimated."""


class StageStarted(Event, frozen=True, kw_only=True, tag=True):
    """A part of the training plan began; a run without stages has one."""

    stage: int
    """From 0."""
    num_stages: int
    name: str
    first_epoch: int
    epochs: int
    steps_per_epoch: int
    total_epochs: int = 0
    """The last epoch of the whole run, as planned from here on; 0 in journals of before there were stages."""


class StepTiming(Struct, frozen=True, kw_only=True, gc=False):
    """Mean seconds of a step: taking and transforming the batch, forward/backward/optimizer, journal and commands."""

    data_s: float
    compute_s: float
    report_s: float


class StepsTrained(Event, frozen=True, kw_only=True, tag=True, gc=False):
    """Means over the batches since the event before (at most ten such events a second)."""

    epoch: int
    step: int
    """Batches trained in this epoch."""
    global_step: int
    num_steps: int
    num_images: int
    loss: float
    top1: float
    lr: float
    images_per_s: float
    timing: StepTiming | None = None
    """Now and then, where it can be had without making the device wait."""


class Validated(Event, frozen=True, kw_only=True, tag=True):
    """The validation set was measured within an epoch because somebody asked; changes nothing in training."""

    epoch: int
    step: int
    """Batches trained in this epoch."""
    global_step: int
    loss: float
    top1: float
    seconds: float


class EvaluationProgressed(Event, frozen=True, kw_only=True, tag=True):
    """Images of a split evaluated so far (at most ten such events a second)."""

    split: Literal["val", "test"]
    done: int
    total: int


class EpochCompleted(Event, frozen=True, kw_only=True, tag=True):
    """An epoch was trained and validated. After a stop within an epoch, `partial` is true."""

    epoch: int
    stage: int = 0
    global_step: int
    train_loss: float
    train_top1: float
    val_loss: float
    val_top1: float
    lr: float
    seconds: float
    """Training and validation together."""
    is_best: bool
    partial: bool = False


class CheckpointSaved(Event, frozen=True, kw_only=True, tag=True):
    """A checkpoint is complete on disk."""

    kind: Literal["last", "best", "stage-best"]
    path: str
    """Relative to the run directory."""
    epoch: int
    global_step: int
    num_bytes: int
    seconds: float
    """The write took, beside training."""
    pause_seconds: float = 0.0
    """Training stood still for it: the state was copied. Best weights share the copy of the last.pt after them."""
    val_top1: float | None = None


class GpuSample(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One GPU now. `missing` says for each absent reading why it is absent."""

    index: int
    name: str
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    process_memory_bytes: int | None = None
    utilization: float | None = None
    """Fraction."""
    temperature_c: float | None = None
    power_w: float | None = None
    missing: dict[str, str] = {}


class HostSample(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The machine and the sampled process now."""

    memory_used_bytes: int
    memory_total_bytes: int
    process_rss_bytes: int
    cpu_utilization: float | None = None
    """Of all cores, as a fraction."""


class TorchMemory(Struct, frozen=True, kw_only=True):
    """torch's CUDA allocator."""

    allocated_bytes: int
    reserved_bytes: int
    peak_bytes: int


class DeviceSampled(Event, frozen=True, kw_only=True, tag=True):
    """Telemetry, every two seconds for as long as the worker lives: also the worker's heartbeat."""

    host: HostSample
    gpus: tuple[GpuSample, ...] = ()
    gpus_missing: str = ""
    """Why there is no GPU reading at all, in words; empty where there is one."""
    torch_memory: TorchMemory | None = None


class CommandApplied(Event, frozen=True, kw_only=True, tag=True):
    """A command was obeyed, or refused (`accepted` false), at the step given."""

    command_id: str
    command: str
    accepted: bool
    effect: str
    epoch: int
    global_step: int


class Alerted(Event, frozen=True, kw_only=True, tag=True):
    """Something the user should know, and what can be done about it."""

    severity: Literal["notice", "warning", "error"]
    kind: str
    text: str
    advice: str = ""
    changes: tuple[str, ...] = ()
    """What a resume may change against it, as `key.path=value`."""


class Paused(Event, frozen=True, kw_only=True, tag=True):
    """Training stands still, at the user's wish."""

    global_step: int


class Continued(Event, frozen=True, kw_only=True, tag=True):
    """Training goes on after a pause."""

    global_step: int


class RunFinished(Event, frozen=True, kw_only=True, tag=True):
    """The last event of a run, unless it is resumed."""

    outcome: Outcome
    reason: str
    epoch: int
    global_step: int
    best_epoch: int | None = None
    best_val_top1: float | None = None
    test_loss: float | None = None
    test_top1: float | None = None
    seconds: float = 0.0
    """Since the worker started."""


AnyEvent: TypeAlias = (
    RunStarted
    | DataProgressed
    | DataReady
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
