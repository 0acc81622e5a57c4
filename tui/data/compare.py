"""Comparison of runs: their results beside the report's, and the settings in which they differ."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import fields, replace

from engine.journal.events import RunStarted
from engine.runs.newer_info import not_understood
from engine.runs.run_dir import RunInfo
from engine.runs.seed_groups import Spread, is_search
from presets.catalog import Listed
from presets.plan import total_epochs
from presets.reference import reference_for
from presets.schema import Report
from tui import format as fmt
from tui.data.seed_group import Listed as ListedRun
from tui.data.seed_group import SeedGroup, with_groups
from tui.data.summary import Summary
from tui.terminal.streams import one_line
from tui.text import seed_text

GROUP = "ablation"


class Row(Struct, frozen=True, kw_only=True):
    """A preset, and a run of it if there is one, or a group of seeds. Differences are to the preset that it extends."""

    preset_name: str
    step: str
    """Name of the row: "12" of "Step 12: images resized"; else the preset's name."""
    change: str
    """The change that it makes: the title behind "Step 12: "; else the whole title."""
    report_before: float | None
    report: float | None
    measured: float | None
    """Best validation accuracy; of a group the mean, as `test`."""
    test: float | None
    measured_balanced: float | None = None
    """Balanced accuracy in the best epoch; None where classes are even."""
    test_balanced: float | None = None
    no_test: str
    """"no part" if the run's data has no test part, and so no test accuracy; else empty."""
    pflop: float | None = None
    """FLOPs that the run has spent, in PFLOP; of a group the mean; None if they were not counted."""
    base: str
    """The preset that it extends; empty if that is not compared."""
    report_difference: float | None
    measured_difference: float | None
    run: str
    """The run's id; empty if there is none."""
    status: str
    epoch: int
    epochs: int
    is_partial: bool
    """True if the run, or the one it is compared with, was not trained to its end or for all its epochs."""
    settings: tuple[str, ...] = ()
    """Settings of the run that are not its preset's, in short words."""
    seeds: tuple[int, ...] = ()
    """The seed of the run, or those of its group that are counted; empty if there is no run."""
    group: str = ""
    """Id of the group that the run belongs to; empty if it stands alone."""
    val_spread: Spread | None = None
    """Best validation accuracy over the runs of the group; None for a run that stands alone, as `test_spread`."""
    test_spread: Spread | None = None


def newest_by_preset(summaries: Sequence[Summary]) -> dict[str, ListedRun]:
    """Return the run or group of seeds that stands for each preset: the newest completed one, else the newest.

    Short runs of a learning-rate search stand for nothing.
    """
    chosen: dict[str, ListedRun] = {}
    whole = [run for run in summaries if not is_search(run.group)]
    for row in sorted(with_groups(whole), key=lambda row: (_shown(row).status == "completed", row.created)):
        chosen[row.preset_name] = row
    return chosen


def _shown(row: ListedRun) -> Summary:
    return row.shown if isinstance(row, SeedGroup) else row


def ablation_presets(listed: Sequence[Listed]) -> list[str]:
    """Return the names of the ablation's steps, in order."""
    return [entry.name for entry in listed if entry.preset is not None and entry.preset.group == GROUP]


def compare(names: Sequence[str], runs: Mapping[str, ListedRun], listed: Sequence[Listed]) -> list[Row]:
    """Return a row for every preset in `names`, with its run out of `runs` (by preset name) where there is one."""
    known = {entry.name: entry for entry in listed}
    return [_row(name, runs, known) for name in names]


def compare_runs(summaries: Sequence[ListedRun], listed: Sequence[Listed]) -> list[Row]:
    """Return a row for every run or group, in that order, each compared with the given one of the preset it extends."""
    known = {entry.name: entry for entry in listed}
    by_preset = {summary.preset_name: summary for summary in summaries}
    return [_row(summary.preset_name, {**by_preset, summary.preset_name: summary}, known) for summary in summaries]


def each_run(summaries: Sequence[Summary], listed: Sequence[Listed]) -> list[Row]:
    """Return `compare_runs` of runs by themselves, with the spread of its group, as far as it is given, in each row."""
    seeds = with_groups(summaries, searches=False)
    groups = {run.id: row for row in seeds if isinstance(row, SeedGroup) for run in row.members}
    return [
        replace(row, val_spread=groups[row.run].val, test_spread=groups[row.run].test) if row.run in groups else row
        for row in compare_runs(summaries, listed)
    ]


def _row(name: str, runs: Mapping[str, ListedRun], known: Mapping[str, Listed]) -> Row:
    entry = known.get(name)
    preset = entry.preset if entry is not None else None
    base = _base_of(entry, known)
    run, base_run = runs.get(name), runs.get(base)
    shown = _shown(run) if run is not None else None
    group = run if isinstance(run, SeedGroup) else None
    title = preset.title if preset is not None else shown.title if shown is not None else name
    heading, _, change = title.partition(": ")
    is_step = heading.startswith("Step ") and bool(change)
    report = preset.report if preset is not None else Report()
    if preset is not None and shown is not None:
        report = reference_for(report, preset.data, shown.overrides)
    partial = [each for each in (run, base_run) if each is not None and _is_partial(each, known)]
    return Row(
        preset_name=name,
        step=heading.removeprefix("Step ") if is_step else name,
        change=change if is_step else title,
        report_before=report.val_top1_before,
        report=report.val_top1,
        measured=run.best_val_top1 if run is not None else None,
        test=run.test_top1 if run is not None else None,
        measured_balanced=run.best_val_balanced if run is not None else None,
        test_balanced=run.test_balanced if run is not None else None,
        no_test=run.no_test if run is not None else "",
        pflop=run.pflop if run is not None else None,
        base=base,
        report_difference=_difference(report.val_top1, _published(known.get(base))),
        measured_difference=_difference(
            run.best_val_top1 if run is not None else None, base_run.best_val_top1 if base_run is not None else None
        ),
        run=shown.id if shown is not None else "",
        status=shown.status if shown is not None else "",
        epoch=shown.epoch if shown is not None else 0,
        epochs=shown.epochs if shown is not None else total_epochs(preset) if preset is not None else 0,
        is_partial=bool(partial),
        settings=run.words if run is not None else (),
        seeds=tuple(each.seed for each in group.counted) if group is not None else (shown.seed,) if shown else (),
        group=shown.group if shown is not None else "",
        val_spread=group.val if group is not None else None,
        test_spread=group.test if group is not None else None,
    )


def _base_of(entry: Listed | None, known: Mapping[str, Listed]) -> str:
    """Return the preset that `entry` extends, where that is one of the same group: a step before it, not its origin."""
    base = known.get(entry.extends) if entry is not None else None
    if entry is None or base is None or entry.preset is None or base.preset is None:
        return ""
    return base.name if base.preset.group == entry.preset.group else ""


def _published(entry: Listed | None) -> float | None:
    return entry.preset.report.val_top1 if entry is not None and entry.preset is not None else None


def _difference(value: float | None, before: float | None) -> float | None:
    return None if value is None or before is None else value - before


def _is_partial(run: ListedRun, known: Mapping[str, Listed]) -> bool:
    if isinstance(run, SeedGroup):
        return any(_is_partial(each, known) for each in run.counted)
    entry = known.get(run.preset_name)
    planned = total_epochs(entry.preset) if entry is not None and entry.preset is not None else run.epochs
    return run.status != "completed" or run.epochs < planned


def points(difference: float | None, mark: str = "") -> str:
    """Return a difference of fractions in percentage points with its sign, such as "+1.6"."""
    return "" if difference is None else f"{100 * difference:+.1f}{mark}"


def comparison_table(rows: Sequence[Row]) -> list[str]:
    """Return the rows as aligned lines of text, a heading first and a footnote last where one is needed."""
    if not rows:
        return []
    step, change = (max(len(text) for text in column) for column in _columns(rows))
    has_groups = any(row.val_spread is not None for row in rows)
    width, counted = (
        (max(7, *(len(spread_or_percent(row.val_spread, None)) for row in rows)), f"  {'N':>3}")
        if has_groups
        else (7, "")
    )
    is_uneven = any(row.measured_balanced is not None for row in rows)
    balanced = f"  {'BALANCED':>8}" if is_uneven else ""
    is_counted = any(row.pflop is not None for row in rows)
    spent = f"  {'SPENT':>11}" if is_counted else ""
    lines = [
        f"{'STEP':<{step}}  {'CHANGE':<{change}}  {'REPORT':>7}  {'DIFF':>6}  {'VAL':>{width}}  {'DIFF':>7}{balanced}"
        f"  {'TEST':>{width}}{balanced}{spent}{counted}  RUN"
    ]
    for row in rows:
        val = spread_or_percent(row.val_spread, row.measured)
        mark = "*" if row.is_partial and row.measured_difference is not None else " "
        state = row.status if row.status in {"", "completed"} else f"{row.status}, {row.epoch}/{row.epochs}"
        state = f"{named(row)} ({state})" if row.run else "not run yet"
        val_balanced, test_balanced = (
            f"  {percent(value):>8}" if is_uneven else "" for value in (row.measured_balanced, row.test_balanced)
        )
        test = row.no_test or spread_or_percent(row.test_spread, row.test)
        flop = f"  {pflop(row):>11}" if is_counted else ""
        n = f"  {row.val_spread.n if row.val_spread is not None else len(row.seeds) or '':>3}" if has_groups else ""
        lines.append(
            f"{step_name(row):<{step}}  {row.change:<{change}}  "
            f"{percent(row.report):>7}  {points(row.report_difference):>6}  "
            f"{val:>{width}}  {points(row.measured_difference, mark):>7}{val_balanced}  "
            f"{test:>{width}}{test_balanced}{flop}{n}  {state}"
        )
    lines.append("")
    lines.append("REPORT and VAL: best validation accuracy. DIFF: percentage points to the step that it builds on.")
    if is_counted:
        lines.append(f"SPENT: {SPENT}{', the mean over a group of seeds' if has_groups else ''}.")
    if has_groups:
        lines.append("±: sample standard deviation over N runs of several seeds, of which VAL and TEST are the means.")
    if is_uneven:
        lines.append("BALANCED: the mean of the classes' recalls, where the classes of the data are uneven.")
    if any(row.is_partial and row.measured_difference is not None for row in rows):
        lines.append("* one of the two runs was not trained to its end, or for fewer epochs than its preset plans")
    return lines


def _columns(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    return [*(step_name(row) for row in rows), "STEP"], [*(row.change for row in rows), "CHANGE"]


def step_name(row: Row) -> str:
    """Return the step, or the preset's name, with the settings of its run."""
    return " ".join((row.step, *row.settings))


def named(row: Row) -> str:
    """Return the id of the run, or the seeds of a group."""
    return f"seeds {', '.join(map(str, row.seeds))}" if row.val_spread is not None else row.run


def spread_or_percent(spread: Spread | None, value: float | None) -> str:
    """Return mean and deviation of a group of seeds, or the value of a run; empty if there is neither."""
    return seed_text.spread(spread) if spread is not None else percent(value)


SPENT = "multiplications and additions of a run in training, optimizer and evaluation; a PFLOP is 10^15"


def pflop(row: Row) -> str:
    """Return what the run has spent, such as "0.92 PFLOP"; empty if it is not known."""
    return fmt.pflop(row.pflop) if row.pflop is not None else ""


def percent(fraction: float | None) -> str:
    """Return "25.2 %"; empty if it is not known."""
    return fmt.percent(fraction) if fraction is not None else ""


_NOT_TRAINED = {"title", "summary", "group", "report"}
"""Fields of a preset that describe it and do not change training."""
_TRANSFORMS = {"augment", "evaluate"}
_BESIDES = ("changed on resume", "seed", "device", "precision")
"""Fields outside the preset, listed after it; so are versions."""


class RunSide(Struct, frozen=True):
    """A run to be compared; `started` is None if no worker has begun."""

    info: RunInfo
    started: RunStarted | None


class Difference(Struct, frozen=True):
    """A field and what it is in every run, in their order; None where a run has no such field."""

    field: str
    values: tuple[str | None, ...]


def differences(sides: Sequence[RunSide]) -> list[Difference]:
    """Return the fields in which the runs are not all the same, in the order of a preset; seed and machine last."""
    tables = [dict(_fields(side)) for side in sides]
    names = list(dict.fromkeys(name for difference_table in tables for name in difference_table))
    found = [
        Difference(name, tuple(difference_table.get(name) for difference_table in tables))
        for name in sorted(names, key=_rank)
    ]
    return [difference for difference in found if len(set(difference.values)) > 1]


def sentence(found: Sequence[Difference], num_runs: int) -> str:
    """Return in one sentence in how much `num_runs` runs differ."""
    if num_runs < 2:
        return "There is only one run here: nothing to compare it with."
    these, names = f"These {num_runs} runs", [difference.field for difference in found]
    if not names:
        return f"{these} differ in nothing that is recorded: preset, seed, device and versions are the same."
    if set(names) <= set(_BESIDES):
        *others, last = names
        return f"{these} differ in nothing but {' and '.join([', '.join(others), last] if others else [last])}."
    return f"{these} differ in {fmt.plural(len(names), 'field')}; equal ones are left out."


def difference_table(found: Sequence[Difference], headings: Sequence[str], most: int = 40) -> list[str]:
    """Return the differences as aligned lines, a column a run; values longer than `most` characters are wrapped."""
    rows = [("", *headings)] + [(each.field, *(value or "–" for value in each.values)) for each in found]
    cells = [[wrap(one_line(text), most) or [""] for text in row] for row in rows]
    widths = [max(len(line) for row in cells for line in row[column]) for column in range(len(headings) + 1)]
    lines = []
    for row in cells:
        for number in range(max(map(len, row))):
            parts = [
                f"{cell[number] if number < len(cell) else '':<{width}}"
                for cell, width in zip(row, widths, strict=True)
            ]
            lines.append("  ".join(parts).rstrip())
    return lines


def _rank(name: str) -> int:
    """Return where a field's group stands: the preset's own first, versions last; within one, order is kept."""
    if name in _BESIDES:
        return 1 + _BESIDES.index(name)
    return 1 + len(_BESIDES) if name.startswith("versions.") else 0


def _is_below(key: str, above: str) -> bool:
    return key == above or key.startswith((f"{above}.", f"{above}["))


def _fields(side: RunSide) -> Iterator[tuple[str, str]]:
    info, started = side.info, side.started
    yield "preset", info.preset_name
    unknown = {key.removeprefix("preset."): text for key, text in not_understood(info).items()}
    for name in info.preset.__struct_fields__:
        if name not in _NOT_TRAINED:
            flat = _flat(name, getattr(info.preset, name))  # of what is not understood it has a stand-in
            yield from ((key, text) for key, text in flat if not any(_is_below(key, each) for each in unknown))
    yield from unknown.items()
    if started is not None and started.changes:
        yield "changed on resume", " ".join(started.changes)
    yield "seed", str(info.seed)
    if started is None:
        yield "device", info.device
        return
    yield "device", started.device if started.device_name in {"", started.device} else started.device_name
    yield "precision", started.precision
    for name, version in started.versions.items():
        yield f"versions.{name}", version


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the fields below `value` under dotted names, as they would be written in a preset."""
    if isinstance(value, Struct):
        config = value.__struct_config__
        if config.tag_field is not None:
            yield f"{name}.{config.tag_field}", str(config.tag)
        for field in value.__struct_fields__:
            if getattr(value, field) is not None:
                yield from _flat(f"{name}.{field}", getattr(value, field))
    elif isinstance(value, tuple) and name.rpartition(".")[2] in _TRANSFORMS:
        yield name, ", ".join(_transform(step) for step in value) or "none"
    elif isinstance(value, tuple) and value and isinstance(value[0], Struct):
        for number, part in enumerate(value, start=1):
            yield from _flat(f"{name}[{number}]", part)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(f"{name}.{key}", part)
    else:
        yield name, _text(value)


def _transform(step: Struct) -> str:
    """Return an augmentation as "random-crop padding 4": its name, and every value that is not the usual one."""
    usual = {field.name: field.default for field in fields(step)}
    values = [f" {name} {_text(getattr(step, name))}" for name in usual if getattr(step, name) != usual[name]]
    return f"{step.__struct_config__.tag}{''.join(values)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
