"""Comparison of runs as CSV and as a Markdown table. Writes no files."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from tui.data.compare import Row, named, percent, pflop, points, spread_or_percent, step_name
from tui.report.markdown import table


def comparison_csv(rows: Sequence[Row]) -> str:
    """Return a line for every row with all that `compare --json` says of it; accuracies are fractions.

    What is not known is empty, parts of a field have a column each (`field.part`), and several values a space between.
    """
    flat = [dict(_flat("", msgspec.to_builtins(row))) for row in rows]
    parts = {name for row in flat for name in row if "." in name}
    whole = {name.partition(".")[0] for name in parts}
    fields = list(dict.fromkeys(name for row in flat for name in row if name not in whole))
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(f"{name}.{key}" if name else key, part)
    elif isinstance(value, (list, tuple)):
        yield name, " ".join(map(str, value))
    elif value is None:
        yield name, ""
    else:
        yield name, f"{value:.6f}" if isinstance(value, float) else str(value)


def comparison_markdown(rows: Sequence[Row]) -> str:
    """Return the printed table as Markdown: accuracies in %, differences in points; * as printed.

    A group of seeds has mean ± std, and how many runs they are over in place of a run.
    """
    is_uneven = any(row.measured_balanced is not None for row in rows)
    heads = ["step", "change", "report", "diff", "val", "diff", "test", "run"]
    is_counted = any(row.pflop is not None for row in rows)
    if is_counted:
        heads[-1:-1] = ["spent"]
    if is_uneven:
        heads[6:6] = ["balanced"]
        heads[8:8] = ["balanced"]
    cells = (_cells(row, is_uneven=is_uneven, is_counted=is_counted) for row in rows)
    return "\n".join([*table(heads, cells), ""])


def _cells(row: Row, *, is_uneven: bool, is_counted: bool) -> list[str]:
    mark = "*" if row.is_partial else ""
    state = "" if row.status in {"", "completed"} else f" ({row.status}, {row.epoch}/{row.epochs})"
    val = [spread_or_percent(row.val_spread, row.measured), points(row.measured_difference, mark)]
    test = [row.no_test or spread_or_percent(row.test_spread, row.test)]
    if is_uneven:
        val.append(percent(row.measured_balanced))
        test.append(percent(row.test_balanced))
    spent = [pflop(row)] if is_counted else []
    report = [percent(row.report), points(row.report_difference)]
    run = named(row) + (f" (n = {row.val_spread.n})" if row.val_spread is not None else "")
    return [step_name(row), row.change, *report, *val, *test, *spent, f"{run}{state}" if run else "not run yet"]
