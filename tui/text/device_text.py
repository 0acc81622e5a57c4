"""Text of GPUs and memory: for Home (now) and for the Monitor (of the run)."""

from typing import TYPE_CHECKING

from rich.text import Text

from engine.journal.peaks import gpus_of_run
from engine.shared.device_names import NO_ANSWER
from presets.problems import printable
from tui import format as fmt
from tui.text.layout import bar, in_a_row, labelled
from tui.theme import MUTED, TEXT, TONES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.journal.events import GpuSample, TorchMemory
    from engine.journal.state import RunState

_BAR_WIDTH, _SHORT_BAR_WIDTH = 12, 6
_CELL_WIDTH, _GAP = 19, 2
"""Columns of a GPU among many, without its bar, and between two of them."""
_UNUSABLE = "Training will use the CPU: torch could use no GPU in the last run here. See cifartui doctor."
_UNKNOWN = "Whether torch can use them is not known before a first run here."


def gpus_now(
    gpus: "Sequence[GpuSample]",
    missing: str,
    num_cores: int,
    width: int,
    max_rows: int,
    torch_gpus: int | None = 1,
    host_free_bytes: int | None = None,
) -> Text:
    """Return a row for every GPU, or several a row if they are many; if there is none, the reason and what that means.

    Args:
        gpus: of this machine.
        missing: the reason.
        num_cores: of this machine.
        width: columns.
        max_rows: rows.
        torch_gpus: how many GPUs torch saw when it was asked last; None if it never was.
        host_free_bytes: memory of the machine that is free, for GPUs that have none of their own.
    """
    if not gpus:
        cores = fmt.plural(num_cores, "core")
        reason = missing.rstrip(".")
        if reason.startswith(NO_ANSWER):
            return Text.assemble(
                (f"T{reason[1:]}.", TONES["bad"]), " Training may hang too; --device cpu does without it."
            )
        text = f"No NVIDIA GPU: {reason}. " if reason else "No NVIDIA GPU. "
        return Text.assemble(text, (f"Training will use the CPU ({cores}).", TEXT))
    notes = [] if torch_gpus else [Text(_UNUSABLE, TONES["warn"]) if torch_gpus == 0 else Text(_UNKNOWN, MUTED)]
    max_rows = max(1, max_rows - len(notes))
    rows = _grid(gpus, width, max_rows) if len(gpus) > max_rows else [_gpu(gpu, width, host_free_bytes) for gpu in gpus]
    return Text("\n").join([*notes, *rows])


def title_of_gpus(gpus: "Sequence[GpuSample]", max_rows: int) -> str:
    """Return the heading of `gpus_now`: with their names and memory where these are too many to stand in the rows."""
    kinds = dict.fromkeys(gpu.name.removeprefix("NVIDIA ") for gpu in gpus)
    if len(gpus) <= max_rows:
        return "GPUs now"
    return f"GPUs now: {len(gpus)} × {printable(next(iter(kinds)), 40)}{' and others' if len(kinds) > 1 else ''}"


def _gpu(gpu: "GpuSample", width: int, host_free_bytes: int | None = None) -> Text:
    fields = _gpu_memory(gpu)
    if gpu.memory_total_bytes is None and host_free_bytes is not None:  # as NVML has it where both share one memory
        fields.append(labelled("machine", f"{fmt.memory(host_free_bytes)} free"))
    return in_a_row([*fields, *_condition_of(gpu)], width, gap=2)


def _grid(gpus: "Sequence[GpuSample]", width: int, max_rows: int) -> list[Text]:
    """Return several GPUs a row, by number; where not all have room, those with the most memory free come first."""
    shown, bar_width = list(gpus), _SHORT_BAR_WIDTH
    in_row = max(1, (width + _GAP) // (_CELL_WIDTH + bar_width + 1 + _GAP))
    if in_row * max_rows < len(gpus):
        bar_width, in_row = 0, max(1, (width + _GAP) // (_CELL_WIDTH + _GAP))
    if in_row * max_rows < len(gpus):
        shown = sorted(gpus, key=_free_bytes, reverse=True)[: in_row * max_rows - 1]
    cells = [_cell(gpu, bar_width) for gpu in shown]
    if len(shown) < len(gpus):
        cells.append(Text(f"{len(gpus) - len(shown)} with less free", MUTED))
    rows = [cells[start : start + in_row] for start in range(0, len(cells), in_row)]
    return [Text(" " * _GAP, no_wrap=True).join(row) for row in rows]


def _free_bytes(gpu: "GpuSample") -> int:
    if gpu.memory_total_bytes is None or gpu.memory_used_bytes is None:
        return 0
    return gpu.memory_total_bytes - gpu.memory_used_bytes


def _cell(gpu: "GpuSample", bar_width: int) -> Text:
    used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
    is_known = used is not None and total is not None
    memory = f"{used / 1e9:.0f}/{total / 1e9:.0f} GB" if is_known else "n/a"  # type: ignore[operator]
    drawn = bar(used / total if is_known and total else 0.0, bar_width) if bar_width else Text()  # type: ignore[operator]
    return Text.assemble(
        (f"{gpu.index:>2} ", MUTED), drawn, " " if bar_width else "", (f"{memory:>10}", TEXT),
        (f"{fmt.percent(gpu.utilization, 0):>6}", MUTED),
    )  # fmt: skip


def _gpu_memory(gpu: "GpuSample") -> list[Text]:
    used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
    fraction = used / total if used is not None and total else 0.0
    name = gpu.name.removeprefix("NVIDIA ")
    return [
        Text.assemble((f"{gpu.index} ", MUTED), (fmt.column(name, 20), TEXT)),
        Text.assemble(bar(fraction, _BAR_WIDTH), (f" {_memory(gpu):>14}", TEXT)),
    ]


def _memory(gpu: "GpuSample") -> str:
    used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
    if used is None or total is None:
        return "memory n/a"
    return f"{used / 1e9:.1f} / {fmt.memory(total)}"


def memory_panel(state: "RunState", width: int, max_rows: int) -> Text:
    """Return the memory of the run: GPU, torch's allocator, other GPUs; the host's if there is no GPU."""
    sample = state.device
    if sample is None:
        return Text("memory: no reading yet", MUTED)
    gpu = run_gpu(state)
    if gpu is None:
        host = sample.host
        used = f"{host.memory_used_bytes / 1e9:.1f} of {fmt.memory(host.memory_total_bytes)}"
        why = sample.gpus_missing if sample.gpus_missing.startswith(NO_ANSWER) else "no NVIDIA GPU"
        if sample.gpus:
            why = "on the CPU" if state.started is not None else "no device yet"
        fields = [Text(f"{why}: host memory", MUTED), Text(used, TEXT)]
        fields.append(labelled("worker", fmt.memory(host.process_rss_bytes)))
        if host.cpu_utilization is not None:
            fields.append(labelled("CPU busy", fmt.percent(host.cpu_utilization, 0)))
        return in_a_row(fields, width)
    memory, condition = _memory_of(gpu, sample.torch_memory), _condition_of(gpu)
    if max_rows == 1:
        return in_a_row([labelled(f"GPU {gpu.index}", _memory(gpu)), *memory, *condition], width)
    rows = [in_a_row(_gpu_memory(gpu), width, gap=2), in_a_row(memory, width), in_a_row(condition, width)]
    rows = [row for row in rows if row.plain][:max_rows]
    others = [_gpu(other, width) for other in sample.gpus if other.index != gpu.index]
    if (hidden := len(others) - (max_rows - len(rows))) > 0:
        others = others[: max(0, max_rows - len(rows) - 1)]
        others += [Text(f"and {hidden + 1} more GPUs", MUTED)] if len(rows) < max_rows else []
    return Text("\n", no_wrap=True).join([*rows, *others])


def _memory_of(gpu: "GpuSample", torch: "TorchMemory | None") -> list[Text]:
    fields = []
    if gpu.process_memory_bytes is not None:
        fields.append(labelled("this run", fmt.memory(gpu.process_memory_bytes)))
    if torch is not None:
        held = f"{torch.allocated_bytes / 1e9:.1f} of {fmt.memory(torch.reserved_bytes)}"
        fields += [labelled("torch", f"{held} reserved"), labelled("peak", fmt.memory(torch.peak_bytes))]
    return fields


def _condition_of(gpu: "GpuSample") -> list[Text]:
    fields = [labelled("busy", fmt.percent(gpu.utilization, 0).rjust(5))]
    fields += [labelled("", f"{gpu.temperature_c:.0f} °C")] if gpu.temperature_c is not None else []
    fields += [labelled("", f"{gpu.power_w:.0f} W")] if gpu.power_w is not None else []
    fields += [Text("; ".join(sorted(set(gpu.missing.values()))), MUTED)] if gpu.missing else []
    return fields


def run_gpu(state: "RunState") -> "GpuSample | None":
    """Return the GPU that the run uses by the readings: the one it has most memory on; None if it uses none."""
    if state.device is None:
        return None
    return max(gpus_of_run(state.device, state.started), key=lambda gpu: gpu.process_memory_bytes or 0, default=None)
