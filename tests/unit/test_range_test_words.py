"""What follows from a range test: the command that trains with its suggestion, and its curve as a file."""

from pathlib import Path

import pytest

from engine.journal import events as ev
from engine.journal.jsonl import EventWriter
from engine.runs import run_dir
from engine.runs.resume import resume_run
from engine.runs.run_dir import RunDir
from engine.runs.start import recorded_name
from presets import catalog
from presets.errors import CifartuiError
from presets.range_test import range_test, range_test_name
from tui.data.range_test import how_to_train
from tui.plots.export import curves_text

STEPS = 60


def made(tmp_path: Path, name: str, *overrides: str) -> RunDir:
    """The folder of a range test of the preset `name`, which nobody has begun."""
    preset = range_test(catalog.load(name, overrides), 1e-4, 1.0, STEPS)
    return run_dir.create(
        tmp_path, range_test_name(recorded_name(name)), preset=preset, seed=0, device="cpu", overrides=overrides
    )


@pytest.mark.parametrize(
    ("name", "overrides", "command"),
    [
        ("basenet", (), "cifartui train basenet --set optimizer.lr=0.02"),
        (
            "basenet",
            ("loss.label_smoothing=0.1",),
            "cifartui train basenet --set loss.label_smoothing=0.1 --set optimizer.lr=0.02",
        ),
        (
            "basenet",
            ('optimizer={name="muon", lr=0.01, other_lr=0.05}',),
            "cifartui train basenet --set 'optimizer={name=\"muon\", lr=0.01, other_lr=0.05}' "
            "--set optimizer.lr=0.02 --set optimizer.other_lr=0.1",
        ),
        ("recipes/resnet50-lpft", (), "in the first stage of the preset recipes/resnet50-lpft: lr = 0.02"),
    ],
)
def test_the_command_trains_what_was_tested(
    tmp_path: Path, name: str, overrides: tuple[str, ...], command: str
) -> None:
    assert how_to_train(made(tmp_path, name, *overrides).read_info(), 0.02) == command


def test_a_preset_that_is_gone_leaves_what_to_change(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('extends = "basenet"\ntitle = "Mine"\n')
    info = made(tmp_path, str(file)).read_info()
    assert how_to_train(info, 0.02, str(file)) == f"cifartui train {file} --set optimizer.lr=0.02"
    file.unlink()
    assert how_to_train(info, 0.02) == "in the preset mine: optimizer.lr = 0.02"


def test_its_curve_is_exported_as_csv_and_not_as_a_picture_by_epochs(tmp_path: Path) -> None:
    run = made(tmp_path, "basenet")
    journal = EventWriter(run.events)
    for step in range(1, STEPS + 1):
        journal.write(
            ev.StepsTrained(
                epoch=1, step=step, global_step=step, num_steps=1, num_images=32, loss=4.0, top1=0.1, lr=0.1,
                images_per_s=100.0,
            )
        )  # fmt: skip
    journal.close()
    rows = curves_text(run, run.read_state(), "csv", steps=False).splitlines()
    assert rows[0] == "lr,loss,smoothed"
    assert len(rows) == STEPS + 1
    assert [float(cell) for cell in rows[1].split(",")] == pytest.approx([1e-4, 4.0, 4.0])
    assert [float(cell) for cell in rows[-1].split(",")] == pytest.approx([1.0, 4.0, 4.0])
    with pytest.raises(CifartuiError, match="export it as csv"):
        curves_text(run, run.read_state(), "svg", steps=False)


def test_no_run_is_resumed_as_or_from_a_range_test(tmp_path: Path) -> None:
    with pytest.raises(CifartuiError) as refused:
        resume_run(made(tmp_path, "basenet", "data.train_limit=640"))
    assert "run it anew: cifartui lr-find basenet --set data.train_limit=640 --" in str(refused.value)
    run = run_dir.create(tmp_path, "basenet", preset=catalog.load("basenet"), seed=0, device="cpu")
    with pytest.raises(CifartuiError, match="cannot become a range test"):
        resume_run(run, ['schedule={name="range-test", first_lr=1e-5}'])
    assert not run.amended.exists()
