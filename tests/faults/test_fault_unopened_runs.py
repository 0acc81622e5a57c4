"""Runs whose files are not what they should be: one sentence in every command that takes a run, and no waiting."""

import errno
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import click
import pytest
from click.testing import CliRunner, Result
from textual.message import Message

from engine.runs import run_dir
from engine.runs.run_dir import RunDir
from engine.shared import child_process
from presets import catalog
from tests.other_user import NOBODY, as_another_user
from tui.cli.main import cifartui
from tui.data.follower import RunUnreadable, follow_run

_WITHIN_S = 20
_LARGE_BYTES = 1 << 32
"""Of files without blocks, which take no room."""


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "x").touch()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_loop(path: Path) -> None:
    path.symlink_to(path.name)


def a_large_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(_LARGE_BYTES)


def text(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "half": text(b'{"id":"x",'),
    "nothing": text(b""),
    "a list": text(b"[1,2]"),
    "no UTF-8": text(b'{"id":"\xff\xfe"}'),
    "NULs": text(bytes(4096)),
    "deep": text(b'{"preset":' * 50_000),
    "a folder": a_folder,
    "a pipe": a_pipe,
    "a link to itself": a_loop,
    "4 GB": a_large_file,
}


class HangsError(BaseException):
    """A command did not end in time."""


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    def hangs(_number: int, _frame: FrameType | None) -> None:
        raise HangsError

    before = signal.signal(signal.SIGALRM, hangs)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts of processes fail: the commands themselves are tried here. Reports go where the test is."""
    monkeypatch.chdir(tmp_path)

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(child_process, "start", refuse)


def ask(run: RunDir, name: str, *arguments: str) -> Result:
    """Run a command of the command line here, for so many seconds at most."""
    signal.alarm(_WITHIN_S)
    words = ["--runs-dir", str(run.path.parent), name, *(run.id if word == "RUN" else word for word in arguments)]
    done = CliRunner().invoke(cifartui, words)
    signal.alarm(0)
    return done


def commands_of_a_run(image: Path) -> dict[str, list[str]]:
    """Return by name every command that takes a RUN, with words for all that it must be given."""
    found = {}
    with click.Context(cifartui) as ctx:
        for name in cifartui.list_commands(ctx):
            command = cifartui.get_command(ctx, name)
            assert command is not None
            words = []
            for parameter in command.params:
                if isinstance(parameter, click.Argument) and "RUN" in parameter.make_metavar(ctx):
                    words.append("RUN")
                elif isinstance(parameter, click.Argument):
                    words.append("0.5" if parameter.type is click.FLOAT else str(image))
                elif parameter.required:
                    assert isinstance(parameter.type, click.Choice), f"say here what {name} is to be given"
                    words += [parameter.opts[0], parameter.type.choices[0]]
            if "RUN" in words:
                found[name] = words
    return found


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return run_dir.create(tmp_path / "runs", "demo", preset=catalog.load("demo"), seed=0, device="cpu")


@pytest.fixture
def words(tmp_path: Path) -> dict[str, list[str]]:
    (tmp_path / "image.png").touch()
    found = commands_of_a_run(tmp_path / "image.png")
    assert {"show", "attach", "stop", "lr", "resume", "evaluate", "predict", "export", "report", "delete"} <= {*found}
    return found


def put(kind: str, place: Path) -> None:
    """Put what is no such file into the place of one."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    UNREADABLE[kind](place)


def check(done: Result, what: str) -> None:
    assert isinstance(done.exception, SystemExit | None), (what, done.exception)
    assert done.exit_code in {0, 1, 2}, what
    if done.exit_code == 2:
        assert done.stderr.startswith("cifartui: "), what
        assert done.stderr.count("\n") == 1, (what, done.stderr)


@pytest.mark.parametrize("file", ["run.json", "amended.json", "events.jsonl"])
@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_run_that_cannot_be_opened_is_one_sentence_in_every_command(
    run: RunDir, words: dict[str, list[str]], file: str, kind: str
) -> None:
    is_said = file != "events.jsonl" or kind in {"a folder", "a pipe", "a link to itself"}  # else lines are passed over
    is_seen = (file, kind) != ("run.json", "a link to itself")
    put(kind, run.path / file)
    for name, arguments in words.items():
        done = ask(run, name, *arguments)
        check(done, name)
        if is_said and name in {"show", "compare", "resume", "report"}:
            assert (done.exit_code, file in done.stderr) == (2, is_seen), (name, done.stderr)
        if file != "events.jsonl" and name in {"stop", "evaluate", "predict", "export"}:
            assert (done.exit_code, file in done.stderr) == (2, is_seen), (name, done.stderr)
    if is_seen:
        assert ask(run, "delete", "RUN", "--yes").exit_code == 0


OTHERS = (
    "commands.jsonl", "worker.lock", "worker.claim", "worker.log", "checkpoints", "checkpoints/last.pt", "predictions",
    "events.fold", "summary.jsonl", "reserve",
)  # fmt: skip


@pytest.mark.parametrize("file", OTHERS)
def test_whatever_lies_in_the_place_of_a_file_of_a_run_no_command_waits_or_breaks(
    run: RunDir, words: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.setattr(run_dir, "WATCHED_S", 0.01)
    for kind in UNREADABLE:
        put(kind, run.path / file)
        for name, arguments in words.items():
            check(ask(run, name, *arguments), f"{name}, {kind}")


def test_a_run_of_a_newer_version_is_a_page_or_a_sentence_in_every_command(
    run: RunDir, words: dict[str, list[str]]
) -> None:
    settings = json.loads((run.path / "run.json").read_bytes())
    settings["preset"]["optimizer"] = {"name": "lion", "lr": 0.1}
    (run.path / "run.json").write_text(json.dumps(settings))
    for name, arguments in words.items():
        done = ask(run, name, *arguments)
        check(done, name)
        if name in {"resume", "evaluate", "predict", "export"}:
            assert "was made by a newer version of cifartui" in done.stderr


def test_a_run_that_another_user_may_not_open_is_one_sentence_in_every_command(
    run: RunDir, words: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for above in (run.path.parent, *run.path.parent.parents[:-1]):
        if above.stat().st_uid == os.geteuid():
            above.chmod(above.stat().st_mode | 0o055)
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o777)
    if os.geteuid() == 0:
        os.chown(home, NOBODY, NOBODY)
    monkeypatch.setenv("HOME", str(home))
    for name, arguments in words.items():
        given = [run.id if word == "RUN" else word for word in arguments]
        code, said = as_another_user(tmp_path, lambda: cifartui(["--runs-dir", str(run.path.parent), name, *given]))  # noqa: B023
        assert (code, said.count("\n")) == (2, 1), (name, said)
        assert said.startswith("cifartui: "), said
        if name in {"show", "resume", "evaluate", "predict", "export", "report", "compare"}:
            assert "Permission denied" in said, said


@pytest.mark.parametrize("file", ["run.json", "events.jsonl"])
@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a link to itself"])
def test_the_monitor_says_why_a_run_cannot_be_opened(run: RunDir, file: str, kind: str) -> None:
    put(kind, run.path / file)
    posted: list[Message] = []
    signal.alarm(_WITHIN_S)
    follow_run(run, posted.append, threading.Event())
    (unreadable,) = posted
    assert isinstance(unreadable, RunUnreadable)
    assert file in unreadable.problem
