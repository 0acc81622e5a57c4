"""What is fuzzed: every way by which text or bytes from outside come into the program.

A kind takes a seed and a folder of its own and does what the program does with such input. It returns whether the
input was taken (True), or refused in a sentence or passed over in part (False); whatever else is raised is
a fault that was found.
"""

import io
import json
import os
import pickle
import random
import string
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias
from unittest import mock

import msgspec
import numpy as np
from textual.events import Key
from textual.message import Message

from engine.files import DAMAGED
from engine.journal import commands
from engine.journal.fold_file import fold_path, keep_fold, read_folded, start_from_fold
from engine.journal.jsonl import command_reader, event_reader
from engine.queue import queue_file, runner_process
from engine.runs import delete, named_runs, predictions, run_dir, scores
from engine.runs.find_run import find_run
from engine.runs.newer_info import decode_shown
from engine.runs.notify_settings import NOBODY
from engine.runs.run_dir import RunDir
from engine.shared.image_listing import list_images
from presets import catalog
from presets.errors import CifartuiError
from presets.plan import plan
from presets.safe_text import visible_in_a_row
from tests import every
from tests.cifar_files import pickled, rows
from tests.fuzz import mutations
from tests.ui.sample_run import NOW, staged
from tui.cli.follow import describe
from tui.cli.run_page import run_page
from tui.config import read_config
from tui.data.run_detail import MOST_STEPS, detail_and_state, record_of
from tui.data.summaries import summarise
from tui.hosts import wire
from tui.hosts.history import decode_history
from tui.hosts.listing import HostListing
from tui.hosts.relay import Relay
from tui.terminal.keyboard import Burst, Keyboard
from tui.text import queue_text

Kind: TypeAlias = Callable[[int, Path], bool]
_SHIPPED = Path(catalog.__file__).parent


def refused(error: CifartuiError) -> bool:
    """Check that what is said is a sentence for people; return False, as a kind does."""
    said = str(error)
    assert said, "an empty sentence"
    assert visible_in_a_row(said) == said, f"control characters in {said[:200]!r}"
    assert len(said) < 2000, f"a sentence of {len(said)} characters"
    assert "Traceback" not in said
    return False


# --- presets ---------------------------------------------------------------------------------------


@cache
def _shipped_files() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(_SHIPPED.rglob("*.toml")))


def preset_files(seed: int, place: Path) -> bool:
    """A preset's file: a shipped one with faults."""
    chance = random.Random(seed)
    path = place / "mine.toml"
    content = chance.choice(_shipped_files())
    fault = chance.choice((mutations.of_lines, mutations.of_bytes, mutations.of_word))
    content = fault(content, chance)
    path.write_bytes(content)
    try:
        found = catalog.load(str(path))
    except CifartuiError as error:
        return refused(error)
    assert plan(found)
    assert catalog.amend(found, ()) == found
    return True


_KEYS = (
    "optimizer.lr", "train.epochs", "train.batch_size", "train.augment", "model", "model.blocks", "data.path", "data",
    "title", "stages", "schedule.name", "extends", "report.note", "loss.label_smoothing", "", ".", "a.b.c", "__class__",
    "data.dataset", "loss.class_weights",
)  # fmt: skip

_GOOD = (
    "optimizer.lr=0.01", "train.epochs=3", "train.batch_size=7", "schedule.name=cosine", "loss.label_smoothing=0.5",
    "train.augment=[{op='rotation', degrees=9}]", "title=a b", "report={note='x'}", "data.train_limit = 9",
    "model={network='vgg', blocks=[[1]], pools=['avg']}", "data.path='x'", "train.epochs_scale=0.5",
    "loss.class_weights={'a b'=2}", "loss.class_weights=balanced", "data.sampler=balanced",
    "train.best_by=val_balanced",
)  # fmt: skip


def override(chance: random.Random) -> str:
    """Return a --set, rarely a good one."""
    value = chance.choice(
        [token.decode("utf-8", "surrogateescape") for token in mutations.TOKENS]
        + ["0.1", "5", "[1]", "{a=1}", '"x"', "[[64],[64]]", "cosine", "".join(chance.choices(string.printable, k=12))]
    )
    if chance.random() < 0.5:
        text = chance.choice(_GOOD)
    else:
        text = chance.choice(_KEYS) + chance.choice(("=", "=", "=", " = ", "", "==")) + value
    return text if chance.random() < 0.7 else os.fsdecode(mutations.of_bytes(os.fsencode(text), chance))


def overrides(seed: int, place: Path) -> bool:
    """What stands behind --set."""
    chance = random.Random(seed)
    try:
        asked = tuple(override(chance) for _ in range(chance.randint(1, 3)))
        found = catalog.load(chance.choice(("demo", "basenet", "vgg-custom")), asked)
        run = run_dir.create(place / "runs", "demo", preset=found, overrides=asked, seed=0, device="cpu")
    except CifartuiError as error:
        return refused(error)
    assert plan(found)
    assert run.read_info().preset == found
    return True


# --- run directories -------------------------------------------------------------------------------


@cache
def _journal() -> tuple[bytes, bytes]:
    """Return a journal of a run in stages, and a run.json."""
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        run = staged(Path(made))
        run.finish("failed", "why")
        return run.folder.events.read_bytes(), (run.folder.path / "run.json").read_bytes()


def _thinned(chance: random.Random) -> bytes:
    """Return fewer lines of the journal, all of its rare ones among them: a case must be quick."""
    lines = _journal()[0].splitlines(keepends=True)
    return b"".join(line for line in lines if b"StepsTrained" not in line[:30] or chance.random() < 0.1)


def _run(place: Path, events: bytes, info: bytes) -> RunDir:
    run = RunDir(place / "20260101T000000-mine-0000")
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    run.events.write_bytes(events)
    (run.path / "run.json").write_bytes(info)
    return run


def _looked_at(run: RunDir) -> bool:
    """Do with a run what the list, the Monitor, `show` and `train` do."""
    try:
        summary = summarise(run)
        msgspec.json.encode(summary)
        state = run.read_state()
        for event in state.log:
            assert "\n" not in describe(event, state)
        shown, state = detail_and_state(run, NOW, MOST_STEPS)
        msgspec.json.encode(shown)
        assert run_page(shown, state, 100)
    except CifartuiError as error:
        return refused(error)
    reader = event_reader(run.events)
    reader.read()
    return reader.num_skipped == 0


def journals(seed: int, place: Path) -> bool:
    """events.jsonl, its lines torn, exchanged and changed."""
    chance = random.Random(seed)
    return _looked_at(_run(place, mutations.of_lines(_thinned(chance), chance), _journal()[1]))


def values(seed: int, place: Path) -> bool:
    """events.jsonl whose lines are whole and whose values are not what they were."""
    chance = random.Random(seed)
    rate = chance.choice((0.0005, 0.002, 0.02))
    lines = [json.dumps(mutations.of_values(json.loads(line), chance, rate)) for line in _thinned(chance).splitlines()]
    return _looked_at(_run(place, "\n".join([*lines, ""]).encode(), _journal()[1]))


def run_files(seed: int, place: Path) -> bool:
    """run.json, worker.lock and predictions with faults."""
    chance = random.Random(seed)
    run = _run(place, b"", mutations.of_bytes(_journal()[1], chance) if chance.random() < 0.7 else _journal()[1])
    run.lock.write_bytes(mutations.of_bytes(b'{"pid":4711,"host":"gpu-box"}', chance))
    run.read_mark()
    run.worker_lives()
    found = {
        "run": "x", "split": "val", "checkpoint": "best", "epoch": 1, "global_step": 1, "class_names": ["a", "b"],
        "image_size": 1, "true": [0, 1], "predicted": [1, 1], "confidence": [0.5, 0.25],
    }  # fmt: skip
    text, pixels = predictions.paths(run, "val")
    text.parent.mkdir(exist_ok=True)
    text.write_bytes(mutations.of_bytes(json.dumps(mutations.of_values(found, chance)).encode(), chance))
    pixels.write_bytes(bytes(chance.choice((0, 6, 7))))
    try:
        if chance.random() < 0.5:
            read = predictions.read(run, "val")
            assert read is not None
            scores.by_class(read), scores.confusions(read), scores.by_group(read, {"g": ("a", "b")})
            predictions.open_pixels(run, read).close()
            return True
        return _looked_at(run)
    except CifartuiError as error:
        return refused(error)


def copies(seed: int, place: Path) -> bool:
    """summary.jsonl and events.fold with faults: what they copy is there, so that all is shown whatever they hold."""
    chance = random.Random(seed)
    run = _run(place, _thinned(chance), _journal()[1])
    state, reader = read_folded(run.events)
    keep_fold(run.events, state, reader.offset)
    summarise(run)
    fault = chance.choice((mutations.of_lines, mutations.of_bytes, mutations.of_word))
    for path in (run.summary, fold_path(run.events)):
        if chance.random() < 0.3:
            line, _, rest = path.read_bytes().partition(b"\n")
            values = mutations.of_values(json.loads(line), chance, chance.choice((0.02, 0.2)))
            path.write_bytes(json.dumps(values).encode() + b"\n" + rest)
        else:
            path.write_bytes(fault(path.read_bytes(), chance))
    is_believed = start_from_fold(run.events)[1].offset == reader.offset
    assert _looked_at(run)
    assert read_folded(run.events)[1].offset == reader.offset
    return is_believed


def command_files(seed: int, place: Path) -> bool:
    """commands.jsonl with faults; what is left of it is commands."""
    chance = random.Random(seed)
    path = place / "commands.jsonl"
    path.write_bytes(mutations.of_lines(b"".join(msgspec.json.encode(wish) + b"\n" for wish in every.COMMANDS), chance))
    reader: Any = command_reader(path)
    assert all(isinstance(each, commands.Command) for each in reader.read())
    return reader.num_skipped == 0


def queues(seed: int, place: Path) -> bool:
    """queue.json, queue.log and the runner's lock with faults."""
    chance = random.Random(seed)
    entry = {"id": "0" * 12, "preset_name": "demo", "overrides": ["a=1"], "seed": 1, "device": "auto", "data_dir": None}
    content = json.dumps(mutations.of_values([entry, {**entry, "id": "1" * 12}], chance)).encode()
    (place / "queue.json").write_bytes(mutations.of_bytes(content, chance) if chance.random() < 0.5 else content)
    (place / "queue.log").write_bytes(mutations.of_bytes(b"2026-01-01 00:00:00 took demo out\n", chance))
    (place / "queue-runner.lock").write_bytes(mutations.of_bytes(b'{"pid":1,"host":"x"}', chance))
    assert visible_in_a_row(runner_process.last_logged(place)) == runner_process.last_logged(place)
    runner_process.runner_mark(place)
    try:
        for each in queue_file.entries(place):
            assert visible_in_a_row(queue_text.described(each)) == queue_text.described(each)
    except CifartuiError as error:
        return refused(error)
    return True


_CONFIG = b"""theme = "dark"
plots = "auto"
low_bandwidth = false
bell = true
[notify]
on = ["end", "lost"]
command = "true"
ntfy = ["https://ntfy.sh/topic"]
apprise = ["slack://a/b/c"]
[keys]
"monitor.stop" = "ctrl+s"
"home.demo" = "f2,f3"
"""


def configurations(seed: int, place: Path) -> bool:
    """config.toml with faults, its keys checked against the screens."""
    from tui.keymap import check_keys

    chance = random.Random(seed)
    path = place / "config.toml"
    path.write_bytes(
        mutations.of_bytes(_CONFIG, chance) if chance.random() < 0.5 else mutations.of_lines(_CONFIG, chance)
    )
    try:
        with mock.patch.dict(os.environ, {"CIFARTUI_CONFIG": str(path)}):
            check_keys(read_config().keys, "config.toml")
    except CifartuiError as error:
        return refused(error)
    return True


_NAMES = (
    "../..", "..", ".", "/", "/etc", "", "latest", "*", "?", "[a-z]*", "\x00", "a\x00b", "x" * 5000, "~", "-", "--help",
    "mine", "20260101T000000-mine-0000", "20260101T000000-mine-0000/", "./20260101T000000-mine-0000", "runs/../x",
    "mine\n", "\udcff", ".deleted-x", "ｍｉｎｅ", "victim", "link",
)  # fmt: skip


def run_names(seed: int, place: Path) -> bool:
    """What is given as RUN or NAME: found, or refused, and a deletion takes nothing else away."""
    chance = random.Random(seed)
    name = chance.choice(_NAMES)
    if chance.random() < 0.5:
        name = os.fsdecode(mutations.of_bytes(os.fsencode(name), chance).replace(b"/", chance.choice((b"/", b"-"))))
    runs_dir = place / "runs"
    run = _run(runs_dir, b"", _journal()[1])
    victim = _run(place / "victim", b"", _journal()[1])
    (runs_dir / "link").symlink_to(victim.path)
    found = False
    for ask in (
        lambda: find_run(runs_dir, name),
        lambda: named_runs.check_name(name),
        lambda: named_runs.find_named(runs_dir, name),
        lambda: delete.delete_run(runs_dir, name),
    ):  # fmt: skip
        try:
            found = isinstance(ask(), RunDir | int) or found
        except CifartuiError as error:
            refused(error)
    assert (victim.path / "run.json").exists()
    assert name == run.id or (run.path / "run.json").exists()
    assert os.path.lexists(runs_dir / "link")
    return found


# --- binary files ----------------------------------------------------------------------------------


class Attack:
    """Pickled, it asks for a file to be made when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@cache
def _checkpoint() -> bytes:
    import torch

    made = io.BytesIO()
    torch.save({"format": 1, "network": {"w": torch.zeros(3, 2)}, "progress": {"epoch": 1}, "lr": [0.1, None]}, made)
    return made.getvalue()


def _repacked(content: bytes, chance: random.Random, target: Path) -> bytes:
    """Return a checkpoint whose archive is whole and one of whose members is not."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        hurt = chance.choice(old.namelist())
        for name in old.namelist():
            member = old.read(name)
            if name == hurt:
                member = mutations.of_bytes(member, chance)
            if name.endswith("data.pkl") and chance.random() < 0.4:
                attack = pickle.dumps(chance.choice((Attack(target), {"network": Attack(target)})), 2)
                member = chance.choice((attack, attack, _laughs(chance), member[:-1]))
            new.writestr(name, member)
    return made.getvalue()


def _laughs(chance: random.Random) -> bytes:
    """Return a short pickle of something that would be huge: nested lists of the list before, or a declared size."""
    if chance.random() < 0.5:
        levels = chance.choice((30, 200))
        return b"\x80\x02]q\x00" + b"".join(b"](h%ch%ce" % (0, 0) for _ in range(levels)) + b"."
    return b"\x80\x04" + chance.choice((b"\x8d", b"\x8e", b"B", b"X")) + b"\xff" * 7 + b"\x7f" + b"abc."


def checkpoints(seed: int, place: Path) -> bool:
    """A checkpoint with faults, or one that asks for code to be run."""
    from engine.training import checkpoint_files

    chance = random.Random(seed)
    path, target = place / "last.pt", place / "made-by-an-attack"
    old = _checkpoint()
    path.write_bytes(_repacked(old, chance, target) if chance.random() < 0.6 else mutations.of_bytes(old, chance))
    try:
        found = checkpoint_files.load(path)
    except CifartuiError as error:
        return refused(error)
    finally:
        assert not target.exists(), "code was run"
    assert isinstance(found, dict)
    return True


@cache
def _pickle() -> bytes:
    return pickled(rows(2))


def cifar_pickles(seed: int, place: Path) -> bool:
    """A pickle of CIFAR's with faults, or one that asks for code to be run."""
    from engine.data.safe_pickle import load_pickle

    chance = random.Random(seed)
    target = place / "made-by-an-attack"
    attack = pickled(chance.choice((Attack(target), {b"data": Attack(target)})))
    content = chance.choice((_pickle(), _pickle(), attack, _laughs(chance)))
    if chance.random() < 0.8:
        content = mutations.of_bytes(content, chance)
    try:
        found = load_pickle(content, "train")
    except CifartuiError as error:
        return refused(error)
    finally:
        assert not target.exists(), "code was run"
    assert all(not isinstance(value, np.ndarray) or value.dtype == np.uint8 for value in found.values())
    return True


# --- the terminal ----------------------------------------------------------------------------------

_STRINGS_A_CASE = 12
"""So that `make fuzz`, which shares its cases out among the kinds, tries 20,000."""
_OF_TERMINALS = (
    b"\x1b", b"\x1b[", b"\x1b]", b"\x1bP", b"\x1b_", b"\x1b^", b"\x1bX", b"\x1bO", b"\x1b[M", b"\x1b[<", b"\x1b[?",
    b"\x1b[200~", b"\x1b[201~", b"\x1b\\", b"\x07", b"\x18", b"\x9b", b"\x9c", b"\x9d", b"\x90", b"\xc2\x9b", b"\xff",
    b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"11;rgb:1e1e/1e1e/2e2e", b"?62;22c", b"97:65;2:1;97u", b"97;1:3u",
    b"1114112u", b"48;0;1;2;3t", b"48;24;80;480;640t", b"0;99999;1M", b"35;1;1m", b"9" * 60, b"-", b":", b";", b"~",
    b"A", b"u", b"m", b"[I", b"\r", b"\t", b"s", b"]", b"\x00", b"\x7f", "日é".encode(), b"2026;2$y", b"2048;2$y",
    b"57441u",
)  # fmt: skip


def terminal_input(seed: int, place: Path) -> bool:
    """Strings of bytes from the terminal, cut anywhere, at any pace; the keyboard works after each of them."""
    chance, num_events = random.Random(seed), 0
    for _ in range(_STRINGS_A_CASE):
        keyboard, now, found = Keyboard(), 0.0, []
        content = b"".join(
            chance.choice(_OF_TERMINALS) if chance.random() < 0.8 else chance.randbytes(chance.randint(1, 6))
            for _ in range(chance.randint(1, 12))
        )
        while content:
            length = chance.randint(1, len(content))
            found += keyboard.feed(content[:length], now)
            content, now = content[length:], now + chance.choice((0.0, 0.01, 0.05, 0.12, 1.5))
            found += keyboard.tick(now)
        for _ in range(20):
            if (due_s := keyboard.due_in_s(now)) is not None:
                now += due_s + 1e-6
                found += keyboard.tick(now)
        assert keyboard.due_in_s(now) is None, "something is held for ever"
        assert all(isinstance(each, Burst | Message) for each in found)
        num_events += len(found)
        after = keyboard.feed(b"q", now) + keyboard.tick(now + 1)
        assert [each.key for each in after if isinstance(each, Key)] == ["q"], "a key is lost"
    return num_events > _STRINGS_A_CASE * 2


# --- images of others --------------------------------------------------------------------------------

_LABELS = b"file,label,split\n" + b"".join(
    b"%d.jpg,%s,%s\n" % (row, (b"cat", b"dog")[row % 2], (b"train", b"val", b"test")[row // 4]) for row in range(12)
)


def label_tables(seed: int, place: Path) -> bool:
    """A table of images and labels with faults, beside its images."""
    chance = random.Random(seed)
    for row in range(12):
        (place / f"{row}.jpg").touch()
    fault = chance.choice((mutations.of_lines, mutations.of_bytes, mutations.of_word))
    (place / "labels.csv").write_bytes(fault(_LABELS, chance))
    return _listed(place / "labels.csv", place)


@cache
def _archives() -> dict[str, bytes]:
    """Return a zip and tar files of class folders, by name."""
    names = [f"train/{name}/{number}.jpg" for name in ("cat", "dog") for number in range(3)]
    zipped, plain, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, name * 9)
    for file, mode in ((plain, "w"), (packed, "w:gz")):
        with tarfile.open(fileobj=file, mode=mode) as tar:  # type: ignore[call-overload]
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = 9 * len(name)
                tar.addfile(member, io.BytesIO(name.encode() * 9))
    return {"x.zip": zipped.getvalue(), "x.tar": plain.getvalue(), "x.tar.gz": packed.getvalue()}


def image_archives(seed: int, place: Path) -> bool:
    """An archive of images with faults, unpacked into a cache."""
    chance = random.Random(seed)
    name, content = chance.choice(list(_archives().items()))
    (place / name).write_bytes(mutations.of_bytes(content, chance))
    with mock.patch.dict(os.environ, {"CIFARTUI_CACHE": str(place / "cache")}):
        taken = _listed(place / name, place)
    assert {path.name for path in place.iterdir()} <= {name, "cache"}, "something is written elsewhere"
    return taken


def _listed(path: Path, place: Path) -> bool:
    """Return true if images can be listed, all of them below `place` and all that is said in words for people."""
    try:
        found = list_images(path)
    except CifartuiError as error:
        return refused(error)
    for text in (found.layout, *found.notices, *(unread.sentence() for unread in found.unread)):
        refused(CifartuiError(text))
    assert all(visible_in_a_row(name) == name for name in found.class_names)
    for name in (*found.train.names, *found.val.names, *found.test.names, *found.unlabelled):
        assert (found.root / name).resolve().is_relative_to(place.resolve())
    return True


# --- other hosts -----------------------------------------------------------------------------------


@cache
def _far_answers() -> tuple[bytes, ...]:
    """Return what a relay says of a run, of all runs and of its machine, each as JSON."""
    import tempfile

    said: list[bytes] = []
    with tempfile.TemporaryDirectory() as made, staged(Path(made)):
        relay = _relay(Path(made), said)
        for ask in (wire.FollowRun(id=2, run="latest"), wire.ShowRun(id=3, run="latest"), wire.ListRuns(id=4)):
            relay.take(wire.encode_ask(ask).rstrip())
        relay.tick()
        relay.tick()
    unpacker = wire.Unpacker()
    return tuple(msgspec.json.encode(unpacker.answer(line)) for line in said)


def _relay(runs_dir: Path, said: list[bytes]) -> Relay:
    return Relay(runs_dir, None, lambda: NOBODY, said.append)


def far_answers(seed: int, place: Path) -> bool:
    """Answers of another host, damaged or not."""
    chance = random.Random(seed)
    content = chance.choice(_far_answers())
    if chance.random() < 0.5:
        content = mutations.of_bytes(content, chance)
    else:
        rate = chance.choice((0.0001, 0.001, 0.02))
        content = json.dumps(mutations.of_values(json.loads(content), chance, rate)).encode()
    listing = HostListing("gpu1")
    try:
        answer = wire.Unpacker().answer(content)
        listing.take(answer)
        if isinstance(answer, wire.History):
            info, state = decode_shown(answer.info, "20260101T000000-mine-0000"), decode_history(answer.state)
            for event in state.log:
                assert "\n" not in describe(event, state)
            shown = record_of(RunDir(place / "x"), info, state, (), NOW, MOST_STEPS)
            assert run_page(shown, state, 100)
    except (wire.HostileError, *DAMAGED):
        return False
    msgspec.json.encode(listing.shown())
    return not listing.away() or listing.line.problem == ""


def far_asks(seed: int, place: Path) -> bool:
    """Asks of another host at a relay here; they are answered, and start nothing."""
    chance = random.Random(seed)
    run = _run(place, _thinned(chance), _journal()[1])
    asks = (
        wire.FollowRun(id=2, run=run.id, since=chance.choice((0, 1, 10**6))), wire.ShowRun(id=3, run="latest"),
        wire.ListRuns(id=4), wire.Ping(id=5), wire.Leave(id=6, left=2), wire.ListPresets(id=7),
        wire.SendCommand(id=8, run=run.id, command=commands.Stop(id="1"), look_only=chance.random() < 0.5),
    )  # fmt: skip
    said: list[bytes] = []
    relay = _relay(place, said)
    for _ in range(2):
        line = wire.encode_ask(chance.choice(asks)).rstrip()
        match chance.randrange(3):
            case 0:
                line = mutations.of_bytes(line, chance)
            case 1:
                line = json.dumps(mutations.of_values(json.loads(line), chance, 0.2)).encode()
        relay.take(line)
        relay.tick()
    unpacker = wire.Unpacker()
    problems = [each.problem for line in said if isinstance(each := unpacker.answer(line), wire.Refused)]
    for problem in problems:
        refused(CifartuiError(problem))
    return not problems


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        preset_files, overrides, journals, values, run_files, copies, command_files, queues, configurations, run_names,
        checkpoints, cifar_pickles, label_tables, image_archives,
        terminal_input, far_answers, far_asks,
    )
}  # fmt: skip
