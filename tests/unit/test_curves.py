"""Curves for use outside: CSV and SVG of a sample run."""

import csv
import io
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from engine.journal import events as ev
from engine.journal.state import RunState
from presets.schema import Report
from tests.ui.sample_run import SampleRun, training
from tui.plots import export as curves


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
    assert steps[-1]["num_images"] == "1120"


def test_the_picture_is_xml_with_both_curves_the_report_and_the_stages(tmp_path: Path) -> None:
    found = state(tmp_path)
    text = curves.training_svg(found, 'A <b> & "c"', Report(val_top1=0.24))
    root = ElementTree.fromstring(text)
    said = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert 'A <b> & "c"' in said
    assert {
        "loss",
        "top-1 %",
        "learning rate",
        "gradient norm",
        "━ train",
        "• val",
        "◆ best 24.19",
        "┄ report 24.0 %",
        "epochs",
    } <= set(said)
    lines = [element for element in root.iter() if element.tag.endswith(("polyline", "polygon"))]
    assert len(lines) == 9  # steps, train and val, twice; the learning rate; norms and their range
    dashes = [element.get("stroke-dasharray") for element in root.iter()]
    assert dashes.count("2 3") == 4  # one stage boundary in each plot
    for line in lines:
        for point in (line.get("points") or "").split():
            across, down = map(float, point.split(","))
            assert 0 <= across <= 460
            assert 0 <= down <= 300


def test_a_run_of_one_epoch_has_a_picture_too(tmp_path: Path) -> None:
    with training(tmp_path, epochs_done=1) as run:
        ElementTree.fromstring(curves.training_svg(run.folder.read_state(), "short", Report()))


def test_a_picture_has_no_more_points_than_it_can_show(tmp_path: Path) -> None:
    with SampleRun(tmp_path).live().begin().prepare() as run:
        for number in range(5000):
            run.write(
                ev.StepsTrained(
                    epoch=1, step=number // 4, global_step=number, num_steps=1, num_images=32, top1=0.1, lr=0.1,
                    loss=math.nan if number == 7 else 1e9 if number == 9 else 4 - number / 5000, images_per_s=900.0,
                )
            )  # fmt: skip
        text = curves.training_svg(run.folder.read_state(), "long", Report())
    assert "nan" not in text
    points = [float(place) for place in re.split("[ ,]", re.findall('polygon points="([^"]*)"', text)[0])]
    assert 300 < len(points) / 2 <= 2 * 384
    assert max(points[1::2]) <= 254  # a spike is drawn to the edge, and does not squeeze the rest
    assert len(set(points[1::2])) > 100


def test_what_steered_a_run_is_named_in_its_picture_where_there_is_room(tmp_path: Path) -> None:
    with training(tmp_path) as run:
        for step, command in ((2000, "Pause"), (2200, "Continue"), (run.global_step, "Stop")):
            run.write(
                ev.CommandApplied(
                    command_id=command, command=command, accepted=True, effect="done", epoch=9, global_step=step
                )
            )
        text = curves.training_svg(run.folder.read_state(), "steered", Report())
    labels = re.findall(">(▾[^<]*)<", text)
    assert labels == 4 * ["▾stop", "▾go on", "▾"]
    places = [float(place) for place in re.findall('x="([^"]*)"[^>]*>▾', text)]
    assert all(62 - 4 <= place <= 446 for place in places)
