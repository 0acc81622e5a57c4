"""A run, a preset and a queue in which every text from a file tries to draw on the terminal, or to be markup."""

import os
from pathlib import Path

import msgspec

from engine.journal import commands
from engine.journal import events as ev
from engine.queue import queue_file
from engine.runs import predictions
from engine.runs.predictions import Predictions
from presets import schema
from tests.ui.sample_run import SampleRun, preset

MARK = "ZQZ"
"""In all that is hostile, to find it on the screen."""
ATTACK = f"{MARK}\x1b]52;c;UFdO\x07\x1b[2J\x1b[38;5;77m\x9b6n\u202e[red]r[/][@click=app.quit]q[/]\n\x7f\b\t$x"
"""Clipboard, clearing, a colour, a C1 report, an override of order, markup that is whole and markup that is not."""
LONG = ATTACK + "y" * 10_000
PRESET_TOML = """
title = {title}
summary = {title}
group = "yours"
data = {{ dataset = "shapes100" }}
model = {{ network = "resnet18", weights = {title} }}
optimizer = {{ name = "sgd", lr = 0.1 }}
train = {{ batch_size = 32 }}
stages = [{{ name = {short}, epochs = 1 }}]
"""


def hostile_preset(text: str = ATTACK) -> schema.Preset:
    """Return a preset with `text` wherever its schema takes any."""
    return preset(
        text[:80], summary=text[:400], group=text[:40], train=schema.Train(batch_size=32),
        report=schema.Report(val_top1=0.5, note=text), model=schema.Resnet18(weights=text),
        stages=(schema.Stage(name=text[:40], epochs=9), schema.Stage(name=text[:40], epochs=9)),
    )  # fmt: skip


def hostile_run(runs_dir: Path, text: str = ATTACK, long: str = LONG, name: str = "bad-a3f2") -> SampleRun:
    """Return a run that trained and failed; `text` is in its short texts, `long` in those that may be long."""
    run = SampleRun(
        runs_dir, name, preset_name=text, preset=hostile_preset(text), overrides=(text, f"optimizer.lr={long}"),
        argv=(text,), versions={text: text}, data_dir=text, notify=text,
    )  # fmt: skip
    asked = commands.Stop()
    run.folder.commands.write_bytes(msgspec.json.encode(asked) + b"\n")
    for event in (
        ev.RunStarted(
            pid=1, host=text, device=text, device_name=long, precision=text, num_threads=1, versions={text: long},
            changes=(text, long),
        ),
        ev.DataProgressed(phase="decode", done=1, total=2, unit="images", what=long),
        ev.DataReady(
            dataset=text, source=long, generated=True, num_train=9, num_val=9, num_test=9, num_classes=3,
            image_size=32, notices=(long,),
        ),
        ev.ModelBuilt(
            network=text, num_parameters=9, num_trainable=9,
            layers=(ev.LayerRow(number=1, kind=text, in_channels=1, out_channels=1),),
        ),
        ev.StageStarted(
            stage=0, num_stages=2, name=text, first_epoch=1, epochs=9, steps_per_epoch=1407, total_epochs=18
        ),
    ):  # fmt: skip
        run.write(event)
    run.train_epoch(1, gpu=True)
    host = ev.HostSample(memory_used_bytes=1, memory_total_bytes=2, process_rss_bytes=1)
    gpu = ev.GpuSample(index=0, name=text, missing={text: text})
    for event in (
        ev.DeviceSampled(host=host, gpus=(gpu,), gpus_missing=text),
        ev.Alerted(severity="error", kind=text, text=long, advice=text),
        ev.Alerted(severity="warning", kind=text, text=text, advice=text),
        ev.CheckpointSaved(kind="best", path=text, epoch=1, global_step=9, num_bytes=9, seconds=0.1, val_top1=0.5),
        ev.CommandApplied(command_id=asked.id, command=text, accepted=True, effect=long, epoch=1, global_step=9),
        ev.CommandApplied(command_id=text, command="Stop", accepted=False, effect=text, epoch=1, global_step=9),
    ):
        run.write(event)
    run.folder.log.write_text(f"{text}\n{long}\nTraceback {text}\n")
    run.folder.lock.write_bytes(b'{"pid":1,"host":' + msgspec.json.encode(text) + b"}")
    names = (text, long, "oak")
    rows = 30
    found = Predictions(
        run=text, split="test", checkpoint="best", epoch=1, global_step=run.global_step, class_names=names,
        image_size=4, true=tuple(row % 3 for row in range(rows)), predicted=tuple(row % 2 for row in range(rows)),
        confidence=(0.5,) * rows,
    )  # fmt: skip
    predictions.write(run.folder, found, bytes(3 * 16 * rows))
    return run


def hostile_folder(runs_dir: Path, text: str = ATTACK) -> None:
    """Add what else a runs folder may hold: odd folder names, a title that is far too long, a queue, a queue's log."""
    hostile_run(runs_dir, text, name=f"x{text.replace('/', '_')}").finish("failed", text)
    damaged = hostile_run(runs_dir, text, name="long-0001").finish("failed", text).folder
    whole = msgspec.json.decode((damaged.path / "run.json").read_bytes())
    whole["preset"]["title"] = LONG
    (damaged.path / "run.json").write_bytes(msgspec.json.encode(whole))
    odd = runs_dir / os.fsdecode(b"20260101T000000-\xff\x9b31m-" + MARK.encode())
    odd.mkdir()
    (odd / "run.json").write_text("{}")
    entry = queue_file.Entry(id="0" * 12, preset_name=text, overrides=(text,), data_dir=text)
    (runs_dir / "queue.json").write_bytes(msgspec.json.encode([entry]))
    (runs_dir / "queue.log").write_text(f"{text}\n")


def write_hostile_preset(folder: Path, text: str = ATTACK) -> None:
    """Write a user's preset that says `text`, and a broken one of that name."""
    folder.mkdir(parents=True, exist_ok=True)

    def quoted(words: str) -> str:
        return msgspec.json.encode(words.replace("\x7f", "").replace("\x9b", "")).decode()

    toml = PRESET_TOML.format(title=quoted(text[:70]), short=quoted(text[:40]))
    (folder / f"a{text.replace('/', '_')}.toml").write_text(toml)
    (folder / "broken.toml").write_text(f"title = {quoted(text[:40])}\n{quoted(text)} = 1\n")
