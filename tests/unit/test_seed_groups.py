"""Seeds as they are asked for, the groups that their runs form, and mean ± std over them."""

import math
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from engine.journal.state import EpochPoint
from engine.queue import queue_file
from engine.runs.find_run import find_runs
from engine.runs.run_dir import RunInfo
from engine.runs.run_options import RunOptions
from engine.runs.seed_groups import Spread, each_seed, grouped, parse_seeds, spread_of
from engine.runs.start import start_run
from presets.errors import CifartuiError
from presets.schema import Report
from tui.data.compare import each_run, newest_by_preset
from tui.data.seed_group import SeedGroup, mean_curves, run_ids, table_rows, with_groups
from tui.data.summaries import summarise
from tui.data.summary import RunCurves, earlier
from tui.plots.overlay import COLORS, overlaid
from tui.text import seed_text
from tui.widgets.run_columns import _COLUMNS
from tui.widgets.run_table import hint


@pytest.mark.parametrize(
    ("text", "first", "seeds"),
    [
        ("3", 0, (0, 1, 2)),
        ("3", 7, (7, 8, 9)),
        ("1", 0, (0,)),
        ("1,2,5", 0, (1, 2, 5)),
        (" 5 , 1", 0, (5, 1)),
        ("100", 0, tuple(range(100))),
    ],
)
def test_seeds_are_a_number_of_them_or_a_list(text: str, first: int, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text, first) == seeds


@pytest.mark.parametrize(
    ("text", "first", "said"),
    [
        ("", 0, "cannot be ''; write how many, such as 3, or which, such as 1,2,5."),
        ("three", 0, "cannot be 'three'"),
        ("1,", 0, "cannot be '1,'"),
        ("-1,2", 0, "cannot be '-1,2'"),
        ("1.5", 0, "cannot be '1.5'"),
        ("0", 0, "from 1 to 100 in number, not 0"),
        ("101", 0, "from 1 to 100 in number, not 101"),
        ("1,2,1", 0, "name 1 twice"),
        ("1,2", 3, "leave seed at 0"),
        ("1,2147483648", 0, "from 0 to 2,147,483,647, not 2,147,483,648"),
        ("2", 2**31 - 1, "from 0 to 2,147,483,647"),
        (",".join(map(str, range(101))), 0, "at most 100 in number, not 101"),
    ],
)
def test_a_mistake_is_one_sentence(text: str, first: int, said: str) -> None:
    with pytest.raises(CifartuiError, match=r"^seed") as caught:
        parse_seeds(text, first)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_runs_of_several_seeds_share_a_group_that_no_other_run_has() -> None:
    options = RunOptions(seeds=(1, 2, 5), overrides=("optimizer.lr=0.1",), device="cpu")
    first, again = each_seed(options), each_seed(options)
    assert [each.seed for each in first] == [1, 2, 5]
    assert len({each.group for each in first}) == 1
    assert first[0].group
    assert first[0].group != again[0].group
    assert all(each.seeds == () and each.overrides == options.overrides for each in first)
    assert each_seed(RunOptions(seed=4)) == (RunOptions(seed=4),)
    (alone,) = each_seed(RunOptions(seeds=(4,)))
    assert (alone.seed, alone.group) == (4, "")


def test_the_group_is_in_run_json_and_runs_without_one_are_read(tmp_path: Path) -> None:
    runs = [start_run(tmp_path, "demo", each, start=False) for each in each_seed(RunOptions(seeds=(3, 4)))]
    infos = [run.read_info() for run in runs]
    assert [info.seed for info in infos] == [3, 4]
    assert infos[0].group == infos[1].group != ""
    before = msgspec.json.decode((runs[0].path / "run.json").read_bytes())
    del before["group"]
    assert msgspec.convert(before, RunInfo).group == ""


def test_the_queue_keeps_an_entry_a_seed_and_a_group_a_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_file, "start_runner", lambda *_: None)
    added = queue_file.add(tmp_path, ["demo", "basenet"], RunOptions(seeds=(0, 1)))
    assert [(entry.preset_name, entry.seed) for entry in added] == [
        ("demo", 0), ("demo", 1), ("basenet", 0), ("basenet", 1),
    ]  # fmt: skip
    groups = [entry.group for entry in added]
    assert groups[0] == groups[1] != groups[2] == groups[3]
    assert queue_file.entries(tmp_path) == added


@dataclass(frozen=True)
class Each:
    name: str
    group: str = ""


def test_a_group_stands_in_the_place_of_its_first_run() -> None:
    runs = [Each("a"), Each("b", "g"), Each("c"), Each("d", "h"), Each("e", "g")]
    found = grouped(runs, lambda run: run.group)
    assert [[run.name for run in members] for members in found] == [["a"], ["b", "e"], ["c"], ["d"]]


def test_the_deviation_is_that_of_a_sample() -> None:
    spread = spread_of([0.24, None, 0.26, 0.25])
    assert spread is not None
    assert (spread.mean, spread.std, spread.n) == (pytest.approx(0.25), pytest.approx(0.01), 3)
    assert spread_of([0.5]) == Spread(0.5, None, 1)
    assert spread_of([None, None]) is None


def point(epoch: float, val_top1: float, val_loss: float = 1.0) -> EpochPoint:
    return EpochPoint(
        global_step=1, epoch=epoch, time=0.0, train_loss=2.0, train_top1=0.1, val_loss=val_loss, val_top1=val_top1,
        lr=0.1, seconds=1.0, partial=False,
    )  # fmt: skip


def test_mean_curves_have_one_deviation_on_each_side() -> None:
    long = RunCurves((point(1, 0.2), point(2, 0.4)), 3, Report(val_top1=0.5))
    short, broken = RunCurves((point(1, 0.3),), 2, Report()), RunCurves((point(1, 0.9, math.nan),), 2, Report())
    found = mean_curves([long, short, broken])
    assert [each.epoch for each in found.mean.epochs] == [1, 2]
    assert [each.val_top1 for each in found.mean.epochs] == pytest.approx([0.25, 0.4])
    deviation = math.sqrt(0.05**2 * 2)
    assert [each.val_top1 for each in found.low] == pytest.approx([0.25 - deviation, 0.4])
    assert [each.val_top1 for each in found.high] == pytest.approx([0.25 + deviation, 0.4])
    assert (found.mean.total_epochs, found.mean.report.val_top1) == (3, 0.5)


def test_a_list_has_a_row_a_group_of_runs_that_differ_in_their_seeds_alone(tmp_path: Path) -> None:
    several = each_seed(RunOptions(seeds=(5, 1, 3)))
    runs = [start_run(tmp_path, "demo", each, start=False) for each in several]
    runs.append(start_run(tmp_path, "demo", RunOptions(seed=9), start=False))
    changed = runs[2].read_info()
    runs[2].write_amended(replace(changed, overrides=("train.epochs=9",)))
    summaries = [summarise(run) for run in runs]
    assert [each.group for each in summaries] == [*[several[0].group] * 3, ""]
    group, *others = with_groups(summaries)
    assert isinstance(group, SeedGroup)
    assert [run.seed for run in group.members] == [1, 5]
    assert others == summaries[2:]
    assert group.val is None
    done = [
        replace(run, status="completed", best_val_top1=value)
        for run, value in zip(group.members, (0.2, 0.4), strict=True)
    ]
    live = replace(done[0], id="z", seed=2, status="training", best_val_top1=0.9)
    (group,) = with_groups([*done, live])
    assert isinstance(group, SeedGroup)
    assert group.val == Spread(pytest.approx(0.3), pytest.approx(0.1 * math.sqrt(2)), 2)  # type: ignore[arg-type]
    assert group.status == "training"
    (group,) = with_groups([live, replace(live, id="y", seed=3, best_val_top1=0.7)])
    assert isinstance(group, SeedGroup)
    assert group.best_val_top1 == pytest.approx(0.8)


def test_a_search_is_one_row_with_its_best_run_and_stands_for_no_preset(tmp_path: Path) -> None:
    wanted = [("0.01", 2, 0.31, 100), ("0.02", 2, 0.33, 100), ("0.01", 4, 0.42, 200), ("0.02", 4, 0.40, 200)]
    runs = []
    for lr, epochs, val, steps in wanted:
        overrides = ("loss.label_smoothing=0.1", f"optimizer.lr={lr}", f"train.epochs={epochs}")
        options = RunOptions(overrides=overrides, group="lr-00c0ffee1234")
        run = summarise(start_run(tmp_path, "demo", options, start=False))
        done = {"status": "completed", "global_step": steps, "best_val_top1": val, "seconds_per_epoch": 1.0}
        runs.append(replace(run, **done))  # type: ignore[arg-type]
    (group,) = with_groups(runs)
    assert isinstance(group, SeedGroup)
    assert group.is_search
    assert (group.val, group.test, group.shown) == (Spread(0.42, None, 1), None, runs[2])
    assert group.words == ("lr-find", "smoothing 0.1")
    assert runs[0].words == ("smoothing 0.1", "lr 0.01", "epochs 2")
    values = {column.heading: column.value(group, 0.0) for column in _COLUMNS}
    assert (values["epoch"], values["best val"], values["test"]) == ("4 runs", "42.0 %", "n/a")
    assert hint(group).plain == (
        "4 short runs of a learning-rate search; best so far 42.0 % val with smoothing 0.1 lr 0.01 epochs 4. "
        "Enter opens; D deletes all."
    )
    assert newest_by_preset(runs) == {}
    assert earlier(runs, "demo", runs[0].host) == ""
    assert all(row.val_spread is None for row in each_run(runs, []))
    assert with_groups(runs, searches=False) == runs
    live = replace(runs[3], status="training")
    (group,) = with_groups([*runs[:3], live])
    assert group.status == "training"
    assert {run.id for run in find_runs(tmp_path, "lr-00c0")} == {run.id for run in runs}


def test_the_table_puts_members_behind_an_open_group_and_filters_by_any_member(tmp_path: Path) -> None:
    seeds = [start_run(tmp_path, "demo", each, start=False) for each in each_seed(RunOptions(seeds=(3, 4)))]
    alone = start_run(tmp_path, "basenet", RunOptions(seed=9), start=False)
    runs = [summarise(run) for run in (alone, *seeds)]
    group = next(row for row in with_groups(runs) if isinstance(row, SeedGroup))
    known = {row.id: row for row in (*runs, group)}

    def ids(wanted: str, opened: set[str], *, rising: bool = True) -> list[str]:
        return [row.id for row in table_rows(runs, wanted, "started", opened, rising=rising)]

    members = [run.id for run in seeds]
    assert sorted(ids("", set())) == sorted([group.id, alone.id])
    assert sorted(ids("", {group.id})) == sorted([group.id, *members, alone.id])
    opened = ids(seeds[1].id, {group.id})
    assert opened == [group.id, *members]  # the words are those of one member: the group is shown whole
    assert run_ids([group.id, members[0], "damaged"], known) == [*members, "damaged"]
    curves = {run.id: RunCurves((point(1, 0.5),), 1, Report()) for run in seeds}
    drawn = overlaid([alone.id, group.id], known, curves)
    assert [(run.id, run.sign, run.color) for run in drawn] == [(group.id, "2", COLORS[1])]  # none yet of the first


def test_spreads_in_words() -> None:
    val, one = Spread(0.61234, 0.00421, 3), Spread(0.5, None, 1)
    assert (seed_text.spread(val), seed_text.spread(val, 2), seed_text.cell(val)) == (
        "61.2 ± 0.4 %", "61.23 ± 0.42 %", "61.2 ±0.4",
    )  # fmt: skip
    assert (seed_text.spread(one), seed_text.cell(one), seed_text.spread(None)) == ("50.0 %", "50.0 %", "n/a")
    cells = [seed_text.cell(Spread(mean, std, 2)) for mean, std in ((0.5, 0.0), (1.0, 0.0), (0.5, 0.123))]
    assert cells == ["50.0 ±0.0", "100 ±0.0", "50.0 ±12"]
    assert seed_text.group((0, 1, 2), val, None) == (
        "3 runs, seeds 0, 1, 2; val 61.2 ± 0.4 %, mean ± std, n 3. Enter opens; D deletes all."
    )
    assert seed_text.group((0, 1), None, None) == "2 runs, seeds 0, 1. Enter opens; D deletes all."
    assert seed_text.trained("Demo", val, val, 3) == (
        "Demo: val 61.23 ± 0.42 %, test 61.23 ± 0.42 % (mean ± std, n = 3)"
    )
    assert seed_text.trained("Demo", one, None, 3) == "Demo: val 50.00 % (n = 1; 2 of 3 did not complete)"
    assert seed_text.trained("Demo", None, None, 2) == "Demo: none of 2 runs completed"
