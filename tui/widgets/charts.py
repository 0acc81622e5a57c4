"""From a run's state to its three charts: loss, accuracy and memory. Draws nothing itself."""

from collections.abc import Sequence

from engine.runs.events import DeviceSampled, GpuSample
from engine.runs.state import EpochPoint, RunState
from presets.schema import Report
from tui import format as fmt
from tui.palette import MUTED, REFERENCE, TEXT, TRAIN, VAL
from tui.widgets.axes import ValueAxis, epoch_axis, minute_axis
from tui.widgets.plot import Chart, Line, Plot, Reference
from tui.widgets.trace import Trace

_GB = 1e9


class MetricChart:
    """Loss or accuracy over epochs, from batches (train) and whole epochs (val)."""

    def __init__(self, metric: str, report: Report) -> None:
        """Make the chart of `metric`: "loss", or "top1" shown in percent."""
        self._is_loss = metric == "loss"
        self._scale = 1.0 if self._is_loss else 100.0
        self._report = report
        self._train = Trace(lambda point: point.epoch, lambda point: getattr(point, metric) * self._scale)
        self._val = Trace(lambda point: point.epoch, lambda point: getattr(point, f"val_{metric}") * self._scale)
        self._y = ValueAxis()

    def chart(self, state: RunState, plot: Plot) -> Chart:
        """Return the chart of `state` at the resolution of `plot`."""
        last = max(state.steps[-1].epoch if state.steps else 0.0, state.epochs[-1].epoch if state.epochs else 0.0)
        x = epoch_axis(last, state.total_epochs, plot.max_ticks)
        train = self._train.follow(state.steps, x, plot.num_columns)
        val = self._val.follow(state.epochs, x, plot.num_columns)
        reference = self._reference()
        levels = [*train[1], *val[1], *([reference.y] if reference else [])]
        lower = min(levels, default=0.0) if self._is_loss else 0.0
        y = self._y.holding(lower, max(levels, default=1.0), plot.num_rows)
        lines = [Line(*train, TRAIN), Line(*val, VAL)]
        if len(state.epochs) <= plot.num_columns // 6:
            lines.append(Line(*val, VAL, marker="•"))
        if state.best is not None:
            lines.append(Line([state.best.epoch], [self._val_of(state.best)], TEXT, marker="◆"))
        title = "loss" if self._is_loss else "top-1 %"
        stages = tuple(float(stage.first_epoch - 1) for stage in state.stages[1:])
        empty = "no batch trained yet"
        return Chart(title, x, y, "epochs", tuple(lines), self._legend(state), reference, empty, stages)

    def _val_of(self, point: EpochPoint) -> float:
        return point.val_loss if self._is_loss else 100 * point.val_top1

    def _reference(self) -> Reference | None:
        if self._is_loss or self._report.val_top1 is None:
            return None
        return Reference(100 * self._report.val_top1, f"report {fmt.percent(self._report.val_top1, 0)}", REFERENCE)

    def _legend(self, state: RunState) -> tuple[tuple[str, str], ...]:
        show = _two_digits if self._is_loss else _bare_percent
        legend = []
        if state.steps:
            last = state.steps[-1]
            legend.append((f"━ train {show(last.loss if self._is_loss else last.top1)}", TRAIN))
        if state.epochs:
            point = state.epochs[-1]
            legend.append((f"• val {show(point.val_loss if self._is_loss else point.val_top1)}", VAL))
        if state.best is not None:
            legend.append(("◆ best", TEXT))
        return tuple(legend)


def _two_digits(loss: float) -> str:
    return f"{loss:.2f}"


def _bare_percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


class MemoryChart:
    """Memory over minutes: of the run's GPU, or of the machine where there is none."""

    def __init__(self) -> None:
        self._y = ValueAxis()

    def chart(self, state: RunState, plot: Plot) -> Chart:
        """Return the chart of `state` at the resolution of `plot`."""
        samples = list(state.device_history)
        start = state.first_started_time or (samples[0].time if samples else 0.0)
        minutes = [(sample.time - start) / 60 for sample in samples]
        x = minute_axis(minutes[0] if minutes else 0.0, minutes[-1] if minutes else 1.0, plot.max_ticks)
        gpu = run_gpu(state)
        series = _host_series(samples) if gpu is None else _gpu_series(samples, gpu.index)
        lines, legend, top = [], [], 0.0
        for name, color, values in series:
            pairs = [(at, value / _GB) for at, value in zip(minutes, values, strict=True) if value is not None]
            if not pairs:
                continue
            trace = Trace(lambda pair: pair[0], lambda pair: pair[1]).follow(pairs, x, plot.num_columns)
            top = max([top, *trace[1]])
            lines.append(Line(*trace, color))
            legend.append((f"━ {name} {pairs[-1][1]:.1f}", color))
        total = None
        if gpu is not None and gpu.memory_total_bytes:
            size = gpu.memory_total_bytes / _GB
            total, top = Reference(size, f"all of GPU {gpu.index}: {size:.1f}", MUTED), max(top, size)
        y = self._y.holding(0.0, max(top * 1.02, 0.1), plot.num_rows)
        return Chart("GB", x, y, "min", tuple(lines), tuple(legend), total, "no reading yet")


def run_gpu(state: RunState) -> GpuSample | None:
    """Return the GPU that the run uses, as far as the readings tell: the one it has most memory on."""
    if state.device is None or not state.device.gpus:
        return None
    gpus = state.device.gpus
    named = state.started.device.partition(":")[2] if state.started else ""
    default = next((gpu for gpu in gpus if str(gpu.index) == named), gpus[0])
    most = max(gpus, key=lambda gpu: gpu.process_memory_bytes or 0)
    return most if most.process_memory_bytes else default


_Series = list[tuple[str, str, list[float | None]]]


def _host_series(samples: Sequence[DeviceSampled]) -> _Series:
    return [
        ("machine", TEXT, [float(sample.host.memory_used_bytes) for sample in samples]),
        ("worker", TRAIN, [float(sample.host.process_rss_bytes) for sample in samples]),
    ]


def _gpu_series(samples: Sequence[DeviceSampled], index: int) -> _Series:
    def of(field: str) -> list[float | None]:
        chosen = [next((gpu for gpu in sample.gpus if gpu.index == index), None) for sample in samples]
        return [getattr(gpu, field) if gpu is not None else None for gpu in chosen]

    def torch(field: str) -> list[float | None]:
        return [getattr(sample.torch_memory, field) if sample.torch_memory else None for sample in samples]

    return [
        ("used", TEXT, of("memory_used_bytes")),
        ("run", REFERENCE, of("process_memory_bytes")),
        ("reserved", VAL, torch("reserved_bytes")),
        ("allocated", TRAIN, torch("allocated_bytes")),
    ]
