"""Published results stand beside a run only where it was trained on the data that they are of."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from presets import catalog
from presets.schema import Data, Report
from tests.ui.sample_run import NOW, SampleRun
from tests.unit.test_compare import run as summary_of
from tests.unit.test_report import report_of as page_of
from tui.cli import run_page
from tui.cli.main import cifartui
from tui.data.compare import compare_runs
from tui.data.reference import report_of
from tui.data.run_detail import detail_and_state
from tui.data.summaries import curves_of
from tui.data.summary import summary_of as summary_of_run
from tui.plots.export import curves_text
from tui.report.html import html
from tui.report.markdown import markdown
from tui.widgets.monitor_panes import RunView, _results

PHOTOS = ("data.dataset=class-folders", 'data.path="/home/me/photos"')
OTHER = {
    "a folder": PHOTOS,
    "the other way round": PHOTOS[::-1],
    "a folder, and a limit": (*PHOTOS, "data.train_limit=10"),
    "another published set": ("data.dataset=cifar10",),
    "as one table": ('data={dataset="mnist"}',),
    "changed by a resume": ("data.dataset=cifar100", "train.epochs=3", "data.dataset=mnist"),
}
SAME = {
    "nothing": (),
    "fewer images": ("data.train_limit=100",),
    "larger images": ("data.image_size=64", "optimizer.lr=0.1"),
    "named again": ("data.dataset=cifar100",),
    "lying elsewhere": ("data.dataset=cifar100", 'data.path="/data/cifar-100-python.tar.gz"'),
    "and back again": ("data.dataset=mnist", "data.dataset=cifar100"),
}
CASES = [*((name, each, False) for name, each in OTHER.items()), *((name, each, True) for name, each in SAME.items())]


@pytest.mark.parametrize(("overrides", "is_same"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_wherever_a_run_is_shown_it_is_compared_with_results_of_its_own_data_only(
    tmp_path: Path, overrides: tuple[str, ...], is_same: bool
) -> None:
    with SampleRun(tmp_path, overrides=overrides).live().begin().prepare() as run:
        for epoch in (1, 2, 3):
            run.train_epoch(epoch)
        run.finish()
        detail, state = detail_and_state(run.folder, NOW)
        page = page_of(run)
        picture = curves_text(run.folder, state, "svg", steps=False)
    published = run.info.preset.report
    assert published == Report(val_top1=0.24, test_top1=0.238)
    expected = published if is_same else Report()
    assert report_of(run.info) == detail.report == expected
    summary = summary_of_run(run.folder, run.info, state, NOW)
    assert curves_of(run.info, state, summary).report == expected
    fields = dict(run_page.fields(detail))
    assert (fields["best val"].endswith("points)"), fields["test"].endswith("points)")) == (is_same, is_same)
    header = _results(RunView(run.folder, run.info, state, "completed", NOW), 200).plain
    assert ("report val 24 %, test 23.8 %" in header) == is_same
    plots = "\n".join(row.plain for row in run_page.run_page(detail, state, 80, coloured=False))
    for text in (plots, picture, html([page]), markdown([page])):
        assert bool(re.search(r"report:? (val )?24(\.0)? ?%?", text)) == is_same


@pytest.mark.parametrize(("overrides", "is_same"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_so_it_is_in_a_comparison(overrides: tuple[str, ...], is_same: bool) -> None:
    listed = catalog.list_presets()
    runs = [replace(summary_of("recipes/basenet-15", 1.0), overrides=overrides), summary_of("basenet", 0.25)]
    changed, plain = compare_runs(runs, listed)
    assert (changed.report, plain.report) == (0.369 if is_same else None, 0.24)


@pytest.mark.parametrize(
    ("path", "is_same"), [("/home/me/photos", True), ("/home/me/photos/", True), ("/home/me/other", False)]
)
def test_of_class_folders_the_path_counts(users: Path, tmp_path: Path, path: str, is_same: bool) -> None:
    (users / "mine.toml").write_text(
        'extends = "basenet"\nreport = { val_top1 = 0.9 }\n'
        'data = { dataset = "class-folders", path = "/home/me/photos" }'
    )
    overrides = (f'data.path="{path}"',)
    preset = catalog.load("mine", overrides)
    info = replace(SampleRun(tmp_path).info, preset_name="mine", preset=preset, overrides=overrides)
    assert report_of(info).val_top1 == (0.9 if is_same else None)
    moved = replace(preset, data=replace(preset.data, path="/mnt/photos"))  # a resume with --data: the same, elsewhere
    assert report_of(replace(info, preset=moved, overrides=())).val_top1 == 0.9
    gone = replace(info, preset_name="no-such-preset")
    assert report_of(gone) == Report()


@pytest.mark.parametrize(
    ("data", "val"),
    [
        ({"dataset": "mnist"}, None),
        ({"dataset": "class-folders", "path": "/home/me/photos"}, None),
        ({"train_limit": 100}, 0.24),
        ({"dataset": "cifar100", "path": "/data"}, 0.24),
    ],
    ids=str,
)
def test_a_preset_on_other_data_inherits_no_results(users: Path, data: dict[str, object], val: float | None) -> None:
    table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in data.items())
    (users / "mine.toml").write_text(f'extends = "basenet"\ndata = {{ {table} }}')
    assert catalog.load("mine").report.val_top1 == val


def test_a_preset_is_printed_with_results_of_its_own_data_only() -> None:
    def printed(*words: str) -> str:
        return CliRunner().invoke(cifartui, ["presets", "recipes/basenet-15", *words]).stdout

    assert "measured: val 36.9 %" in printed()
    assert "measured: val 36.9 %" in printed("--set", "data.train_limit=100")
    assert "measured: val" not in printed("--set", "data.dataset=mnist")


def test_data_of_a_preset_that_is_not_there_is_not_known() -> None:
    assert catalog.data_of("basenet") == Data(dataset="cifar100")
    assert catalog.data_of("no-such-preset") is None
    assert catalog.data_of("/etc/passwd.toml") is None
