"""Files among runs that another user wrote: shown, said to be another's, not obeyed. Commands are never in files."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import files
from engine.journal import commands
from engine.journal.events import Alerted
from engine.journal.jsonl import EventWriter, append_command, read_events
from engine.queue import allocation, queue_file, runner, runner_process
from engine.runs import run_dir, start
from engine.runs.notify_settings import Notify, of_command
from engine.runs.run_dir import RunDir
from engine.runs.run_options import RunOptions
from engine.runs.worker_mark import sign_lock
from engine.training.controls import Controls
from presets import catalog
from presets.errors import CifartuiError
from tests.attacks.conftest import ANOTHER
from tests.waiting import wait_for

Disown = Callable[[Path], None]
SMALL = ("data.train_limit=320", "train.batch_size=32", "train.epochs=1")
ENTRY = {"id": "0123456789ab", "preset_name": "demo", "overrides": SMALL, "device": "cpu"}


@pytest.fixture
def run(runs_dir: Path) -> RunDir:
    return run_dir.create(runs_dir, "demo", preset=catalog.load("demo", SMALL), seed=0, device="cpu")


@pytest.fixture
def held(run: RunDir) -> Iterator[RunDir]:
    """A run whose lock this process holds, on the processor."""
    fd = start.take_lock(run)
    sign_lock(fd, os.getpid(), ("cpu",))
    yield run
    os.close(fd)


def test_a_command_in_the_queue_is_passed_over_and_that_of_the_runners_starter_is_run(
    runs_dir: Path, tmp_path: Path
) -> None:
    files.make_folders(runs_dir)
    evil, mine = tmp_path / "evil", tmp_path / "mine"
    (runs_dir / "queue.json").write_text(json.dumps([{**ENTRY, "notify": f"touch {evil}"}]))
    (entry,) = queue_file.entries(runs_dir)
    assert not hasattr(entry, "notify")
    queue_file.start_runner(runs_dir, of_command(f"echo $CIFARTUI_OUTCOME > {mine}.part; mv {mine}.part {mine}"))
    wait_for(mine.exists, "the command of whoever started the runner")
    assert mine.read_text() == "completed\n"
    assert not evil.exists()


def test_no_command_is_kept_in_the_queue(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Notify] = []
    secret, mine = Notify(ntfy=("https://:secret@ntfy.sh/secret",)), of_command("mine")
    monkeypatch.setattr(queue_file, "start_runner", lambda _runs_dir, notify: started.append(notify))
    (entry,) = queue_file.add(runs_dir, ["demo"], RunOptions(notify=secret))
    assert b"secret" not in (runs_dir / "queue.json").read_bytes()
    assert queue_file.remove(runs_dir, entry.id)
    queue_file.put_back(runs_dir, entry, 0, mine)
    assert started == [secret, mine]


def test_a_queue_of_another_user_is_not_obeyed(
    runs_dir: Path, disown: Disown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files.make_folders(runs_dir)
    content = json.dumps([ENTRY])
    (runs_dir / "queue.json").write_text(content)
    disown(runs_dir / "queue.json")
    for ask in (
        lambda: queue_file.entries(runs_dir),
        lambda: queue_file.add(runs_dir, ["demo"]),
        lambda: queue_file.remove(runs_dir, ENTRY["id"]),
        lambda: queue_file.clear(runs_dir),
    ):
        with pytest.raises(CifartuiError, match=rf"queue\.json is not obeyed: it belongs to user {ANOTHER}, not to"):
            ask()
    assert (runs_dir / "queue.json").read_text() == content

    class Stop:
        """Ends the runner when it would wait to try again."""

        def is_set(self) -> bool:
            return bool(runner_process.last_logged(runs_dir))

        def wait(self, _seconds: float) -> None:
            assert "stands still" in runner_process.last_logged(runs_dir)

    runner._Runner(runs_dir, -1, Stop(), "").work()  # type: ignore[arg-type]
    assert "queue.json is not obeyed" in runner_process.last_logged(runs_dir)
    assert run_dir.list_runs(runs_dir) == []


def test_commands_of_another_user_are_not_obeyed_and_that_is_said_once(run: RunDir, disown: Disown) -> None:
    journal = EventWriter(run.events)
    controls = Controls(run, journal)
    append_command(run.commands, commands.Stop())
    disown(run.commands)
    for _ in range(3):
        controls._next_read = 0.0
        controls.poll()
    assert controls.stop_after is None
    (alert,) = (event for event in read_events(run.events) if isinstance(event, Alerted))
    assert alert.kind == "foreign-commands"
    assert f"commands.jsonl is not obeyed: it belongs to user {ANOTHER}, not to you." in alert.text
    run.commands.unlink()
    append_command(run.commands, commands.Stop())
    controls._next_read = 0.0
    controls.poll()
    assert controls.stop_after == "batch"


def test_a_command_of_root_in_another_users_run_can_be_read_by_its_worker(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made for root alone, it was heard by nobody, and the run's owner could give no command any more."""
    given: list[tuple[int, int]] = []
    about = list(run.path.stat())[:10]
    about[4:6] = [ANOTHER, ANOTHER]
    stat = Path.stat
    monkeypatch.setattr(
        Path, "stat", lambda path, **how: os.stat_result(about) if path == run.path else stat(path, **how)
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda _fd, user, group: given.append((user, group)))
    append_command(run.commands, commands.Stop())
    append_command(run.commands, commands.Stop())
    assert given == [(ANOTHER, ANOTHER)]  # the first one only: what is there belongs to somebody already
    assert len(run.commands.read_bytes().splitlines()) == 2


def test_root_is_told_how_to_go_on_with_another_users_run(
    run: RunDir, disown: Disown, monkeypatch: pytest.MonkeyPatch
) -> None:
    disown(run.path / "run.json")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(CifartuiError, match=r"Go on with it as that user \(sudo -u, docker run --user\)\. To go on"):
        start.start_worker(run, resume=True)


@pytest.mark.parametrize(
    "name",
    [
        "", "run.json", "amended.json", "events.jsonl", "commands.jsonl", "worker.lock", "checkpoints",
        "checkpoints/last.pt", "checkpoints/last.prev.pt", "checkpoints/best.pt", "checkpoints/stage-best.pt",
    ],
)  # fmt: skip
def test_no_worker_is_started_where_a_file_that_steers_it_is_another_users(
    run: RunDir, disown: Disown, name: str
) -> None:
    path = run.path / name
    if not path.exists():
        path.write_bytes(b"{}")
    assert run.is_ours()
    disown(path)
    assert not run.is_ours()
    with pytest.raises(CifartuiError, match=f"is another user's .it belongs to user {ANOTHER}, not to you"):
        start.start_worker(run, resume=True)
    assert not run.log.exists()


def test_a_link_of_another_user_is_told_by_its_own_owner(run: RunDir, disown: Disown, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"")
    run.events.symlink_to(tmp_path / "mine")
    disown(run.events)
    assert not run.is_ours()


def test_what_another_users_run_says_that_it_holds_is_not_believed(held: RunDir, disown: Disown) -> None:
    assert allocation.held_devices([held], ()) == {"cpu": held}
    assert allocation.taken_devices([held]) == {"cpu"}
    disown(held.lock)
    assert allocation.held_devices([held], ()) == {}
    assert allocation.taken_devices([held]) == frozenset()
    assert held.worker_lives()  # as it is shown


def test_another_users_run_does_not_pass_for_one_of_the_queue(runs_dir: Path, run: RunDir, disown: Disown) -> None:
    entry = queue_file.Entry(id="0" * 12, preset_name="demo")
    marked = run_dir.create(
        runs_dir, "demo", preset=catalog.load("demo"), seed=0, device="cpu", argv=(f"queue:{entry.id}",)
    )
    assert [made.id for made in runner._made_for(runs_dir, [entry]).values()] == [marked.id]
    disown(marked.path / "run.json")
    assert runner._made_for(runs_dir, [entry]) == {}


def test_show_says_whose_a_run_is(
    run: RunDir, disown: Disown, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tui.cli.main import cifartui as command_line

    disown(run.path / "run.json")
    monkeypatch.setattr(sys, "argv", ["cifartui", "--runs-dir", str(run.path.parent), "show", "latest"])
    with pytest.raises(SystemExit):
        command_line()
    said = capsys.readouterr().out
    assert said.startswith("Demo\n")
    assert f"run.json is another user's (it belongs to user {ANOTHER}, not to you)" in said


def test_roots_files_and_those_of_file_systems_that_know_one_user_are_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "queue.json"
    path.write_bytes(b"[]")
    about = list(path.stat())[:10]
    monkeypatch.setattr(os, "geteuid", lambda: ANOTHER)
    files.check_ours(path.stat(), path)  # a file of ours gets the same owner here, whoever that is
    monkeypatch.setattr(files, "_owner_of_new_files", lambda _folder, _device: None)
    about[4] = ANOTHER + 1
    with pytest.raises(files.NotOursError):
        files.check_ours(os.stat_result(about), path)
    for owner in (0, ANOTHER):
        about[4] = owner
        files.check_ours(os.stat_result(about), path)


def test_the_owner_of_new_files_is_that_of_the_same_file_system(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    assert files._owner_of_new_files(str(tmp_path), device) == os.geteuid()
    assert files._owner_of_new_files(str(tmp_path), device + 1) is None
    assert files._owner_of_new_files(str(tmp_path / "absent"), device) is None
    assert list(tmp_path.iterdir()) == []
