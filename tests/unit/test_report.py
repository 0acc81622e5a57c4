"""The report's page and its Markdown: valid, without network or script; hostile texts, several runs, failed runs."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import astuple
from PIL import Image

from engine.journal.events import Alerted
from engine.runs import predictions
from engine.runs.predictions import Predictions
from presets import schema
from tests.hostile_run import ATTACK, MARK, hostile_run
from tests.report_page import Page, check
from tests.ui.sample_run import NOW, SampleRun, preset
from tests.ui.test_range_test_screens import ended as range_test_of
from tui.report.anonymous import read_without_places
from tui.report.content import RunReport, read_report
from tui.report.evaluated import to_measure
from tui.report.html import html
from tui.report.markdown import escaped, markdown
from tui.report.several import differing_data, groups_of

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
SCRIPT = f'<script>alert("{MARK}")</script>'


def evaluated(run: SampleRun, names: tuple[str, ...] = ("cat", "dog", "oak", "pine", "elm", "ash")) -> Predictions:
    """Store predictions of 60 test images, 10 a class, of which every third is taken for the next class."""
    num_classes = len(names)
    true = tuple(row // 10 for row in range(10 * num_classes))
    predicted = tuple((label + (row % 3 == 0)) % num_classes for row, label in enumerate(true))
    tops = tuple(tuple((label - rank) % num_classes for rank in range(min(5, num_classes))) for label in predicted)
    found = Predictions(
        run=run.folder.id, split="test", checkpoint="best", epoch=3, global_step=10**6, class_names=names, image_size=4,
        true=true, predicted=predicted, confidence=(0.75,) * len(true), top=tops,
        top_probability=((0.75, 0.1, 0.1, 0.04, 0.01)[: min(5, num_classes)],) * len(true),
    )  # fmt: skip
    predictions.write(run.folder, found, bytes(range(48)) * len(true))
    return found


Make = Callable[..., SampleRun]


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def make(runs_dir: Path) -> Make:
    def make_run(name: str = "basenet-a3f2", **info: object) -> SampleRun:
        run = SampleRun(runs_dir, name, **info).begin().prepare()
        for epoch in (1, 2, 3):
            run.train_epoch(epoch)
        return run

    return make_run


def report_of(run: SampleRun) -> RunReport:
    return read_report(run.folder, NOW)


def test_a_page_says_what_the_run_is_and_how_good(make: Make) -> None:
    run = make().finish()
    evaluated(run)
    page = check(html([report_of(run)]))
    for shown in (
        "BaseNet", "completed", run.folder.id, "66.7 %", "54.1 to 77.3", "100.0 %", "cat", "Most often confused",
        "test top-5", "calibration error", "cifartui train", "AMD EPYC 7763", "The most confident mistakes",
    ):  # fmt: skip
        assert shown in page.text, shown
    images = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert len(images) == 6 + 16  # one a class, and of the 20 mistakes the first
    assert page.tags.count("svg") == 3


def test_a_run_without_an_evaluation_says_so_and_how_to_get_it(make: Make) -> None:
    page = check(html([report_of(make().finish())]))
    assert "cifartui evaluate a3f2 --split test".replace("a3f2", "basenet-a3f2") in page.text
    assert "have not been evaluated" in page.text
    assert "24.1 %" in page.text  # of the journal
    assert "What is taken for what" not in page.text


def test_predictions_of_weights_that_were_not_yet_the_best_are_not_shown_as_theirs(make: Make) -> None:
    run = make().finish()
    found = evaluated(run)
    text, _ = predictions.paths(run.folder, "test")
    text.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, global_step=1)))
    report = report_of(run)
    assert report.detail is None
    assert any("by weights before the best ones" in sentence for sentence in report.missing)


def test_a_run_that_failed_before_its_first_epoch_has_a_page_without_empty_sections(runs_dir: Path) -> None:
    run = SampleRun(runs_dir).begin().prepare().finish("failed", "The loss is no number any more.", test_top1=None)
    report = report_of(run)
    page = check(html([report]))
    assert "Failed, 0 of 15 epochs trained: The loss is no number any more." in page.text
    assert "no best weights" in page.text
    for absent in ("Curves", "How good it is", "What is taken for what", "What the run warned of"):
        assert absent not in page.text, absent
    assert "svg" not in page.tags
    shown = markdown([report])
    assert "> Failed, 0 of 15 epochs trained: The loss is no number any more." in shown
    assert "top-1" not in shown


def test_a_run_of_data_without_a_test_part_says_so(runs_dir: Path) -> None:
    run = SampleRun(runs_dir).begin().prepare(num_test=0)
    for epoch in (1, 2, 3):
        run.train_epoch(epoch)
    reports = [report_of(run.finish(test_top1=None))]
    page = check(html(reports))
    assert "no test part" in page.text
    assert "the weights were chosen by these images" in page.text
    assert "--split test" not in page.text  # nobody can measure what is not there
    assert "no part" in check(html(reports * 2)).text
    assert "| no part |" in markdown(reports * 2)


def test_a_range_test_has_its_curve_and_what_it_suggests(runs_dir: Path) -> None:
    report = report_of(range_test_of(runs_dir))
    page = check(html([report]))
    assert "Suggested learning rate: " in page.text
    assert "cifartui train " in page.text
    assert "The loss over the learning rate" in page.text
    assert page.tags.count("svg") == 1
    for absent in ("has no best weights", "How good it is", "Curves"):
        assert absent not in page.text, absent
    assert "Suggested learning rate" in markdown([report])


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("abc", "abc", ""),
        ("abc", "xbc", "the same training images: compare them by their test images."),
        ("abc", "xyc", "the same training and validation images: compare them by their test images."),
        ("abc", "abz", "the same test images: compare them by their validation images."),
        ("abc", "xyz", "the same training, validation and test images: their accuracies do not compare."),
        ("ab", "xy", "the same training and validation images: their accuracies do not compare."),
    ],
)
def test_runs_of_different_data_say_what_compares(make: Make, first: str, second: str, said: str) -> None:
    report = report_of(make().finish())
    runs = [
        replace(report, images=dict(zip(("training", "validation", "test"), names, strict=False)))
        for names in (first, second)
    ]
    assert differing_data(runs) == (f"These runs do not have {said}" if said else "")
    assert said in check(html(runs)).text
    assert said in markdown(runs)


def test_what_a_report_lacks_is_measured_once_the_run_is_over(make: Make, runs_dir: Path) -> None:
    with make().live() as run:
        assert to_measure(run.folder, run.now) == []
        run.finish()
        assert to_measure(run.folder, NOW) == ["val", "test"]
        found = evaluated(run)
        assert to_measure(run.folder, NOW) == ["val"]
        older = msgspec.structs.replace(found, top=(), top_probability=())
        predictions.paths(run.folder, "test")[0].write_bytes(msgspec.json.encode(older))
        assert to_measure(run.folder, NOW) == ["val", "test"]
        hidden = msgspec.structs.replace(found, true=None)
        predictions.paths(run.folder, "test")[0].write_bytes(msgspec.json.encode(hidden))
        assert to_measure(run.folder, NOW) == ["val"]
    assert to_measure(range_test_of(runs_dir).folder, NOW) == []
    assert to_measure(SampleRun(runs_dir, "none-0000").begin().prepare().finish("failed").folder, NOW) == []


def test_scores_without_their_images_are_shown_all_the_same(make: Make) -> None:
    run = make().finish()
    evaluated(run)
    predictions.paths(run.folder, "test")[1].unlink()
    report = report_of(run)
    assert report.detail is not None
    assert (report.samples, report.detail.mistakes) == ([], [])
    assert "measure the weights again" in check(html([report])).text


def test_several_runs_stand_beside_each_other(make: Make) -> None:
    runs = [make("basenet-a3f2").finish(), make("basenet-b4d7").finish(test_top1=0.5)]
    evaluated(runs[0])
    page = check(html([report_of(run) for run in runs]))
    assert "2 runs beside each other" in page.text
    assert page.text.count("cifartui train") == 2
    assert {value for _, name, value in page.attributes if name == "id"} == {"run-1", "matrix-1", "run-2"}


def test_what_several_runs_have_in_common_is_said_once(make: Make) -> None:
    runs = [
        report_of(make(f"basenet-a3f{seed}", seed=seed, overrides=(f"optimizer.lr=0.{seed}",)).finish())
        for seed in (1, 2)
    ]
    page, text = check(html(runs)).text, markdown(runs)
    (network,) = [value for label, value in runs[0].settings if label == "network"]
    assert page.count(network) == 1
    assert text.count(escaped(network)) == 1
    assert text.count("What is the same in all of them") == page.count("What is the same in all of them") == 1
    for line in ("| seed | 1 |", "| seed | 2 |", "| changed | optimizer.lr=0.1 |", "# BaseNet lr 0.1 seed 1"):
        assert text.count(line) == 1, line
    assert "BaseNet lr 0.2 seed 2" in page
    assert "in all of them" not in markdown(runs[:1])
    assert markdown(runs[:1]).count("| seed | 1 |") == 1
    twins = markdown([runs[0], runs[0]])
    assert "What was trained" not in twins
    assert twins.count("| seed | 1 |") == 1


def test_a_page_to_be_published_names_no_folder_and_no_host(make: Make) -> None:
    data = schema.Data(dataset="class-folders", path="/mnt/big disk/birds")
    run = make(
        preset=preset(data=data), data_dir="/scratch",
        overrides=('data.path="/mnt/big disk/birds"', "optimizer.lr=0.1"),
        preset_file="/home/jo/presets/mine.toml",
    )  # fmt: skip
    run.write(
        Alerted(severity="warning", kind="disk", text="The disk of /home/jo/runs on gpu-box is full; see ~/x/y.log")
    )
    run.finish("failed", "/mnt/big disk/birds/cat/1.jpg cannot be read (https://example.org/a/b says why).")
    report = read_without_places(run.folder, NOW)
    for text in (html([report, report]), markdown([report])):
        for hidden in ("/mnt", "big disk", "/home", "/scratch", "jo/", "gpu-box", "~/x"):
            assert hidden not in text, hidden
    shown = markdown([report])
    assert "The disk of runs on (host) is full; see y.log" in shown
    assert "cifartui train mine.toml --set 'data.path=\"birds\"' --set optimizer.lr=0.1 --data-dir scratch" in shown
    assert "example.org/a/b says why" in shown.replace("\\", "")
    assert "/mnt/big disk/birds" in html([read_report(run.folder, NOW)])
    assert "gpu-box" in html([read_report(run.folder, NOW)])


def test_runs_that_differ_in_their_seeds_alone_have_a_mean_and_a_deviation(make: Make) -> None:
    seeds = [
        make(f"basenet-000{seed}", seed=seed).finish(test_top1=top1) for seed, top1 in ((1, 0.2), (2, 0.3), (3, 0.4))
    ]
    other = make("basenet-0009", seed=4, overrides=("optimizer.lr=1",)).finish(test_top1=0.9)
    reports = [report_of(run) for run in (*seeds, other)]
    (group,) = groups_of(reports)
    assert group.num_runs == 3
    assert astuple(group.top1["test"]) == pytest.approx((0.3, 0.1, 3))
    assert "30.00 ± 10.00" in check(html(reports)).text
    assert "30.00 ± 10.00" in markdown(reports)


@pytest.mark.parametrize("text", [None, SCRIPT, f'"><img src=x onerror=alert(1)>{MARK}', f"{MARK}{{{{ 7*7 }}}}"])
def test_no_text_of_a_run_is_markup_or_obeyed(runs_dir: Path, text: str | None) -> None:
    run = hostile_run(runs_dir) if text is None else hostile_run(runs_dir, text, text)
    evaluated(run, (text or ATTACK, SCRIPT, "</svg></table><script>", "plain"))
    report = report_of(run)
    page = check(html([report]))
    assert MARK in page.text
    assert "49" not in re.findall(rf"{MARK}(\d+)", page.text)  # no template within a template
    assert not _OBEYED.search(html([report]))
    shown = markdown([report])
    assert "<" not in "".join(line for line in shown.splitlines() if not line.startswith("    "))  # code is literal
    assert not _OBEYED.search(shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"), ("<script>", "&lt;script&gt;"), ("[x](http://a.b)", "\\[x\\](http\\://a.b)"),
        ("*_`#", "\\*\\_\\`\\#"), ("a\nb", "a␊b"), ("www.a.b", "www\\.a.b"), ("1.5 to 2.5 %", "1.5 to 2.5 %"),
        ("- x", "\\- x"), ("1. x", "1\\. x"), ("R&D", "R&amp;D"), ("!x", "\\!x"),
    ],
)  # fmt: skip
def test_markdown_keeps_texts_as_they_are(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_markdown_has_the_scores_and_whole_tables(make: Make) -> None:
    run = make().finish()
    evaluated(run, ("a|b", "c", "d", "e", "f", "g"))
    text = markdown([report_of(run)])
    assert "66.67 (54.06 to 77.27)" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in rows]
    heads = [number for number, line in enumerate(rows) if line.startswith("|---")]
    for start, end in zip(heads, [*(head - 1 for head in heads[1:]), len(rows)], strict=True):
        assert len(set(bars[start - 1 : end])) == 1


def _chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def browse(*options: str) -> str:
    """Return what a browser without a window and without a network prints."""
    done = subprocess.run(
        [
            str(_chromium()), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--proxy-server=127.0.0.1:9", *options,
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


needs_browser = pytest.mark.skipif(_chromium() is None, reason="needs a Chromium: none is on the PATH")


@pytest.mark.slow
@needs_browser
def test_a_browser_draws_the_page(make: Make, tmp_path: Path) -> None:
    run = make().finish()
    evaluated(run)
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(html([report_of(run)]), encoding="utf-8")
    browse("--window-size=1100,2600", f"--screenshot={picture}", page.as_uri())
    drawn = Image.open(picture).convert("RGB")
    assert drawn.size == (1100, 2600)
    colors = {color for _, color in drawn.getcolors(2**24)}
    assert {(255, 255, 255), (0, 114, 178)} <= colors
    assert len(colors) > 100


@pytest.mark.slow
@needs_browser
def test_a_browser_reads_the_page_as_it_is_written(make: Make, tmp_path: Path) -> None:
    runs = [make("basenet-a3f2").finish(), make("basenet-b4d7").finish(test_top1=0.5)]
    evaluated(runs[0], ("cat", "</td><b>", "a & b", "&lt;", 'x" y', "<!--"))
    page = tmp_path / "report.html"
    page.write_text(html([report_of(run) for run in runs]), encoding="utf-8")
    written = Page(page.read_text(encoding="utf-8"))
    read = Page(
        re.sub(r"<(rect|path|circle|polyline|polygon)([^>]*)></\1>", r"<\1\2/>", browse("--dump-dom", page.as_uri()))
    )
    assert read.tags == written.tags  # what is misplaced, a browser moves or closes
    assert sorted(read.attributes) == sorted(written.attributes)
    assert read.text.split() == written.text.split()
