"""The chart of memory over time: of the run's GPU, or of the machine where there is none. Draws nothing itself."""

from collections.abc import Sequence

from engine.journal.events import DeviceSampled
from engine.journal.state import RunState
from tui.text.device_text import run_gpu
from tui.theme import MUTED, REFERENCE, TEXT, TRAIN, VAL
from tui.widgets.axes import ValueAxis, minute_axis
from tui.widgets.plot import Chart, Line, Plot, Reference
from tui.widgets.trace import Trace

_GB = 1e9


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
        axis = self._y if lines else ValueAxis()  # what was drawn before the first reading is not to be kept
        y = axis.holding(0.0, max(top * 1.02, 0.1), plot.num_rows)
        return Chart("GB", x, y, "min", tuple(lines), tuple(legend), total, "no reading yet")


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
