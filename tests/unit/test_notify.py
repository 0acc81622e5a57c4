import os
import sys
from pathlib import Path

import pytest

from engine.journal import events
from engine.runs import run_dir
from engine.runs.notify import notify, run
from presets import catalog
from tests.waiting import wait_for

FINISHED = events.RunFinished(outcome="stopped", reason="r", epoch=1, global_step=1, best_val_top1=0.5)


def test_the_command_is_told_of_the_run(tmp_path: Path) -> None:
    told = tmp_path / "told"
    names = ["RUN", "RUN_ID", "OUTCOME", "TITLE", "BEST_VAL", "TEST"]
    values = "".join(f"$CIFARTUI_{name}|" for name in names)
    one = run_dir.create(tmp_path, "demo", preset=catalog.load("demo"), seed=0, device="cpu")
    notify(one, one.read_info(), FINISHED, f'echo "{values}" > {told}.part && mv {told}.part {told}')
    wait_for(told.exists, "the command")
    assert told.read_text().strip() == f"{one.path}|{one.id}|stopped|Demo|0.5000||"


def test_without_a_command_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *_args, **_named: pytest.fail("a process was started"))
    one = run_dir.create(
        tmp_path, "demo", preset=catalog.load("demo"), seed=0, device="cpu", notify="what it says itself"
    )
    notify(one, one.read_info(), FINISHED, "")


def test_a_command_that_fails_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("echo what came out; exit 3") == 3
    said = capfd.readouterr().out
    assert "what came out" in said
    assert "exit code 3" in said


def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pid = tmp_path / "pid"
    sleeper = f'{sys.executable} -c \'import os, time; open("{pid}", "w").write(str(os.getpid())); time.sleep(600)\''
    run(f"{sleeper} & while [ ! -s {pid} ]; do sleep 0.05; done; sleep 600", patience_s=3)
    assert "took longer than 3 s" in capfd.readouterr().out

    def is_gone() -> bool:
        try:
            os.kill(int(pid.read_text()), 0)
        except ProcessLookupError:
            return True
        return "Z" in Path(f"/proc/{pid.read_text()}/stat").read_text().split()[2]

    wait_for(is_gone, "the end of what the command started")
