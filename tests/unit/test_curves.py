"""Curves for use outside: CSV and SVG of a sample run."""

import csv
import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from engine.journal import events as ev
from engine.journal.state import RunState
from presets.schema import Report
from tests.ui.sample_run import training
from tui import curves


def state(tmp_path: Path) -> RunState:
    with training(tmp_path) as run:
        run.write(ev.StageStarted(stage=1, num_stages=2, name="second", first_epoch=6, epochs=5, steps_per_epoch=1407))
        found: RunState = run.folder.read_state()
        return found


def test_csv_has_a_line_for_every_epoch_and_every_report(tmp_path: Path) -> None:
    found = state(tmp_path)
    epochs = list(csv.DictReader(io.StringIO(curves.epochs_csv(found))))
    assert [float(row["epoch"]) for row in epochs] == [float(number) for number in range(1, 9)]
    assert float(epochs[2]["val_top1"]) == found.epochs[2].val_top1
    steps = list(csv.DictReader(io.StringIO(curves.steps_csv(found))))
    assert len(steps) == len(found.steps)
    assert float(steps[-1]["loss"]) == found.steps[-1].loss


def test_the_picture_is_xml_with_both_curves_the_report_and_the_stages(tmp_path: Path) -> None:
    found = state(tmp_path)
    text = curves.svg(found, 'A <b> & "c"', Report(val_top1=0.24))
    root = ElementTree.fromstring(text)
    said = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert 'A <b> & "c"' in said
    assert {"loss", "top-1 accuracy", "train", "val", "epoch"} <= set(said)
    assert any("report" in (word or "") for word in said)
    lines = [element for element in root.iter() if element.tag.endswith("polyline")]
    assert len(lines) == 6  # steps, train and val, twice
    dashes = [element.get("stroke-dasharray") for element in root.iter()]
    assert dashes.count("2 3") == 2  # one stage boundary in either plot
    for line in lines:
        for point in (line.get("points") or "").split():
            across, down = map(float, point.split(","))
            assert 0 <= across <= 460
            assert 0 <= down <= 300


def test_a_run_of_one_epoch_has_a_picture_too(tmp_path: Path) -> None:
    with training(tmp_path, epochs_done=1) as run:
        ElementTree.fromstring(curves.svg(run.folder.read_state(), "short", Report()))
