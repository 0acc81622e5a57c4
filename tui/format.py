"""Formatting of numbers as text, the same on every screen and in every printed line. Pure functions."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

MISSING = "n/a"


def percent(fraction: float | None, digits: int = 1) -> str:
    """Return 0.2513 as "25.1 %"."""
    return MISSING if fraction is None else f"{fraction * 100:.{digits}f} %"


def accuracy(top1: float | None, balanced: float | None, digits: int = 1) -> str:
    """Return "83.1 %", or "83.1 % (balanced 71.0 %)" if the balanced accuracy was measured too."""
    text = percent(top1, digits)
    return text if balanced is None else f"{text} (balanced {percent(balanced, digits)})"


def duration(seconds: float | None) -> str:
    """Return seconds as "42 s", "3 min 05 s", "2 h 07 min" or "3 d 04 h"."""
    if seconds is None:
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def seconds(value: float | None) -> str:
    """Return a duration as `duration` does, but "0.4 s" and "8.2 s" below ten seconds."""
    return f"{value:.1f} s" if value is not None and value < 9.95 else duration(value)


def memory(num_bytes: float | None) -> str:
    """Return bytes as "812 B", "14.2 MB" or "3.1 GB" (powers of 1000, as disks and data sets are sold)."""
    if num_bytes is None:
        return MISSING
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes:.0f} B"


def count(number: float | None) -> str:
    """Return 28022 as "28,022"."""
    return MISSING if number is None else f"{number:,.0f}"


def lr(rate: float | None) -> str:
    """Return a learning rate in the shortest exact-looking form: 0.1, 0.005, 1e-05."""
    return MISSING if rate is None else f"{rate:.4g}"


def loss(value: float | None) -> str:
    """Return a loss with three decimals."""
    return MISSING if value is None else f"{value:.3f}"


def ago(seconds: float) -> str:
    """Return an age as "just now", "4 min ago", "3 h ago", "2 d ago"."""
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 86_400:
        return f"{seconds // 3600:.0f} h ago"
    return f"{seconds // 86_400:.0f} d ago"


def short_id(run_id: str) -> str:
    """Return a run's id without its timestamp: what people type after `cifartui attach`."""
    own = run_id.rpartition(":")[2]  # without the host that it is on
    return own.partition("-")[2] or own


def short_ids(run_ids: Sequence[str]) -> list[str]:
    """Return ids without their timestamps, but whole where two would be the same."""
    short = [short_id(run_id) for run_id in run_ids]
    return [short[index] if short.count(short[index]) == 1 else run_id for index, run_id in enumerate(run_ids)]


def batches(number: int) -> str:
    """Return 1 as "1 batch", 1407 as "1,407 batches"."""
    return "1 batch" if number == 1 else f"{number:,} batches"


def change(before: int | None, after: int | None) -> str:
    """Return what a layer makes of a size or a number of channels: "32→16", or "16" where there was none before."""
    return f"{before}→{after or 1}" if before else f"{after}" if after else ""


def trained(num_trainable: int, num_parameters: int) -> str:
    """Return " (409,800 trained)", to follow a number of parameters of which not all are trained; else nothing."""
    return "" if num_trainable == num_parameters else f" ({count(num_trainable)} trained)"


def flop(number: float) -> str:
    """Return floating-point operations as "6.71 GFLOP", "0.00131 GFLOP" or "1,234 GFLOP"."""
    billions = number / 1e9
    return f"{billions:,.0f} GFLOP" if billions >= 999.5 else f"{billions:.3g} GFLOP"


def pflop(number: float | None) -> str:
    """Return what a run has spent, in PFLOP of 10¹⁵, as "0.92 PFLOP" or "632 PFLOP", below 0.1 as "13 TFLOP"."""
    if number is None:
        return MISSING
    for unit, size in (("PFLOP", 1.0), ("TFLOP", 1e-3), ("GFLOP", 1e-6)):
        if number >= size / 10 or unit == "GFLOP":
            break
    count = number / size
    return f"{count:,.0f} {unit}" if count >= 999.5 else f"{count:.3g} {unit}"


def bar(fraction: float, columns: int, signs: str = "━━") -> tuple[str, str]:
    """Return both parts of a progress bar, each of its sign: `fraction` (0 to 1) of the columns, and the rest."""
    full = round(min(1.0, max(0.0, fraction)) * columns)
    return signs[0] * full, signs[1] * (columns - full)


def cut(text: str, width: int, keep_end: bool = False) -> str:
    """Return `text` in at most `width` columns; "…" stands for the end that is cut off, or for the beginning."""
    if cell_len(text) <= width:
        return text
    if keep_end:
        return "…" + set_cell_size(text[::-1], width - 1)[::-1]
    return set_cell_size(text, width - 1) + "…"


def cut_middle(text: str, width: int) -> str:
    """Return `text` in at most `width` columns; "…" stands for what is cut out of its middle."""
    if cell_len(text) <= width:
        return text
    end = (width - 1) // 2
    return set_cell_size(text, width - 1 - end) + "…" + set_cell_size(text[::-1], end)[::-1]


def column(text: str, width: int, keep_end: bool = False) -> str:
    """Return `text` in exactly `width` columns, cut or filled up."""
    return set_cell_size(cut(text, width, keep_end), width)


def plural(number: int, noun: str) -> str:
    """Return 1 as "1 run", 1407 as "1,407 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
