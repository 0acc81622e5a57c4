"""GPUs and memory in rows of text: for Home (now) and for the Monitor (the run's)."""

from rich.text import Text

from engine.runs.events import GpuSample
from engine.runs.state import RunState
from tui import format as fmt
from tui.palette import FAINT, MUTED, TEXT, TRAIN
from tui.surroundings import GpuReadings
from tui.widgets.charts import run_gpu
from tui.widgets.fields import in_a_row, labelled

_BAR_WIDTH = 12


def gpus_now(readings: GpuReadings | None, width: int, max_rows: int) -> Text:
    """Return a row for every GPU, or the reason why there is none and what that means."""
    if readings is None:
        return Text("reading the GPUs …", MUTED)
    if not readings.gpus:
        cores = f"{readings.num_cores} core{'s' if readings.num_cores != 1 else ''}"
        reason = readings.missing.rstrip(".")
        said = f"No NVIDIA GPU: {reason}. " if reason else "No NVIDIA GPU. "
        return Text.assemble(said, (f"Training will use the CPU ({cores}).", TEXT))
    rows = [_gpu(gpu, width) for gpu in readings.gpus[:max_rows]]
    if len(readings.gpus) > max_rows:
        rows[-1] = Text(f"and {len(readings.gpus) - max_rows + 1} more GPUs", MUTED)
    return Text("\n").join(rows)


def _gpu(gpu: GpuSample, width: int) -> Text:
    used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
    full = round(_BAR_WIDTH * used / total) if used is not None and total else 0
    bar = Text.assemble(("━" * full, TRAIN), ("━" * (_BAR_WIDTH - full), FAINT))
    name = gpu.name.removeprefix("NVIDIA ")
    name = name if len(name) <= 20 else name[:19] + "…"
    fields = [
        Text.assemble((f"{gpu.index} ", MUTED), (f"{name:<20}", TEXT)),
        Text.assemble(bar, (f" {_memory(gpu):>14}", TEXT)),
        labelled("busy", fmt.percent(gpu.utilization, 0).rjust(5)),
        *([labelled("", f"{gpu.temperature_c:.0f} °C")] if gpu.temperature_c is not None else []),
        *([labelled("", f"{gpu.power_w:.0f} W")] if gpu.power_w is not None else []),
        *([Text("; ".join(sorted(set(gpu.missing.values()))), MUTED)] if gpu.missing else []),
    ]
    return in_a_row(fields, width, gap=2)


def _memory(gpu: GpuSample) -> str:
    used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
    if used is None or total is None:
        return "memory n/a"
    return f"{used / 1e9:.1f} / {fmt.memory(total)}"


def run_memory(state: RunState, width: int) -> Text:
    """Return the memory of a run in one row: its GPU's, or the machine's where there is none."""
    sample = state.device
    if sample is None:
        return Text("memory: no reading yet", MUTED)
    gpu = run_gpu(state)
    if gpu is None:
        host = sample.host
        used = f"{host.memory_used_bytes / 1e9:.1f} of {fmt.memory(host.memory_total_bytes)}"
        fields = [Text("no NVIDIA GPU: host memory", MUTED), Text(used, TEXT)]
        fields.append(labelled("worker", fmt.memory(host.process_rss_bytes)))
        if host.cpu_utilization is not None:
            fields.append(labelled("CPU busy", fmt.percent(host.cpu_utilization, 0)))
        return in_a_row(fields, width)
    fields = [labelled(f"GPU {gpu.index}", _memory(gpu))]
    if gpu.process_memory_bytes is not None:
        fields.append(labelled("this run", fmt.memory(gpu.process_memory_bytes)))
    if sample.torch_memory is not None:
        torch = sample.torch_memory
        held = f"{torch.allocated_bytes / 1e9:.1f} of {fmt.memory(torch.reserved_bytes)}"
        fields.append(labelled("torch", f"{held} reserved"))
    fields.append(labelled("busy", fmt.percent(gpu.utilization, 0)))
    if gpu.missing:
        fields.append(Text("; ".join(sorted(set(gpu.missing.values()))), MUTED))
    return in_a_row(fields, width)
