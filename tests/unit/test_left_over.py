"""Command lines that an interrupted command names: they train exactly what it left undone."""

import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from engine.runs.run_options import RunOptions
from tui.cli import compare, train
from tui.cli.main import cifartui

Started = list[tuple[str, int, tuple[str, ...], str, str | None]]
OPTIONS = ("--set", "optimizer.lr=0.1", "--set", "train.epochs_scale=0.5", "--device", "cpu")


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Started, int, list[str]]]:
    """Run a command that trains, with runs that end with the codes given and then with 0."""

    def run(arguments: list[str], *codes: int) -> tuple[Started, int, list[str]]:
        started: Started = []
        left = list(codes)

        def start_run(_folder: Path, name: str, options: RunOptions) -> Any:
            started.append((name, options.seed, options.overrides, options.device, options.data_dir))
            return SimpleNamespace(id="an-id")

        for module in (train, compare):
            monkeypatch.setattr(module, "start_run", start_run)
            monkeypatch.setattr(module, "follow", lambda *_: left.pop(0) if left else 0)
            monkeypatch.setattr(module, "check_needed", lambda *_: None)
            monkeypatch.setattr(module, "summarise", lambda _: SimpleNamespace(status="failed"))
        monkeypatch.setattr(compare, "with_groups", lambda runs: runs[:1])
        monkeypatch.setattr(compare, "rows_of", lambda *_: [])
        monkeypatch.setattr(compare, "_show", lambda *_: None)
        ended = CliRunner().invoke(cifartui, arguments)
        assert "Traceback" not in ended.output
        return started, ended.exit_code, [line for line in ended.output.splitlines() if line.startswith("    ")]

    return run


@pytest.mark.parametrize(("code", "num_done"), [(129, 0), (130, 1), (141, 2), (143, 3), (129, 5)])
@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "demo", "basenet", "--seeds", "3", *OPTIONS],
        ["ablation", "1-2", "--seeds", "4,0,9", *OPTIONS],
        ["ablation", "0-5", "--seed", "7", *OPTIONS],
    ],
)
def test_the_command_lines_that_are_named_train_what_is_left(
    command_line: Callable[..., tuple[Started, int, list[str]]],
    tmp_path: Path,
    arguments: list[str],
    num_done: int,
    code: int,
) -> None:
    arguments = ["--runs-dir", str(tmp_path / "my runs"), "--data-dir", str(tmp_path), *arguments]
    everything, ended, said = command_line(arguments)
    assert (len(everything), ended, said) == (6, 0, [])
    started, ended, said = command_line(arguments, *[0] * num_done, code)
    assert (started, ended) == (everything[: num_done + 1], code)
    for line in said:
        program, *words = shlex.split(line)
        assert program == "cifartui"
        again, ended, _ = command_line(words)
        assert ended == 0
        started += again
    assert started == everything
