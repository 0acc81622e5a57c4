"""Answers to a shell that completes a line: what fits there, of the runs, presets and settings that there are."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from presets import catalog
from tui.cli.main import cifartui
from tui.cli.options import COMPLETE

Answer: TypeAlias = Callable[..., list[str]]
RUNS = ("20261129T153000-vgg-custom-ab12", "20261129T153100-job", "20261129T153200-job-2")


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Answer:
    """Return a function that returns the words for a line up to the cursor, or the kind where it is none."""
    for name in RUNS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}", encoding="utf-8")
    monkeypatch.setenv("CIFARTUI_RUNS", str(tmp_path))

    def ask(line: str, shell: str = "fish", **environment: str) -> list[str]:
        for name, value in {COMPLETE: f"{shell}_complete", "COMP_LINE": f"cifartui {line}", **environment}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as exited:
            cifartui(prog_name="cifartui", args=[])
        assert exited.value.code == 0
        words = []
        for kind, word, rest in (row.split("\t") for row in capsys.readouterr().out.splitlines() if row):
            words.append(word if kind in {"plain", "open"} else f"{kind}:{word}|{rest}")
        return words

    return ask


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ev", ["evaluate"]),
        ("queue mo", ["move"]),
        ("train --see", ["--seed", "--seeds"]),
        ("runs --sort t", ["test"]),
        ("train recipes/vgg", ["recipes/vgg-custom-fast", "recipes/vgg-custom-long"]),
        ("train demo recipes/basenet", ["recipes/basenet-15"]),
        ("train ./mine", ["file:|./mine"]),
        ("show ", ["latest", "job-2", RUNS[1], "vgg-custom-ab12"]),
        ("show 20261129T1530", [RUNS[0]]),
        ("compare latest vgg", ["vgg-custom-ab12"]),
        ("stop nonesuch", []),
        ("--runs-dir /nowhere show ", []),
        ("predict model.on", ["file:|model.on"]),
        ("predict latest pho", ["file:|pho"]),
        ("train demo --data ", ["file:|"]),
        ("train --data=/da", ["file:--data=|/da"]),
        ("--runs-dir /da", ["dir:|/da"]),
        ("evaluate latest --png ma", ["file:|ma"]),
        ("train demo --device c", ["cpu", "cuda"]),
        ("presets --backbones resnext50", ["resnext50_32x4d"]),
        ("train --set train.tf", ["train.tf32="]),
        ("train --set train.tf32=", ["train.tf32=true", "train.tf32=false"]),
        ("train --set=train.cuda_graphs=", [f"--set=train.cuda_graphs={each}" for each in ("true", "false", "auto")]),
        ("train --set loss.class_weights=", ["loss.class_weights=balanced", "loss.class_weights=none"]),
        ("train --set data.dataset=cifar", ["data.dataset=cifar10", "data.dataset=cifar100"]),
        ("train --set optimizer.lr=", []),
        ("train --set data.path=/da", ["file:data.path=|/da"]),
        ("train --set model.name=resnext50", ["model.name=resnext50_32x4d"]),
        ("train basenet --set model.", ["model.network="]),
        ("train basenet --set model.network=resnet9 --set model.", ["model.network=", "model.width="]),
        ("lr-find photos/finetune --set=model.weights=I", ["--set=model.weights=IMAGENET1K_V1"]),
        ("resume latest --set train.epochs", ["train.epochs="]),
        ("completion z", ["zsh"]),
        ("nonesuch --runs", ["--runs-dir"]),
    ],
)  # fmt: skip
def test_a_line_is_completed(answer: Answer, line: str, words: list[str]) -> None:
    assert answer(line) == words


def test_all_commands_and_all_presets_are_offered(answer: Answer) -> None:
    assert "completion" in answer("")
    assert set(answer("train ")) == {each.name for each in catalog.list_presets()}


def test_hosts_of_the_configuration_are_offered(
    answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text("[hosts.gpu1]\n[hosts.gpu2]\n[hosts.box]\n", encoding="utf-8")
    monkeypatch.setenv("CIFARTUI_CONFIG", str(tmp_path / "config.toml"))
    assert answer("train demo --host g") == ["gpu1", "gpu2"]
    assert answer("runs --hosts box,gpu2,g") == ["box,gpu2,gpu1", "box,gpu2,gpu2"]


def test_an_assignment_before_the_command_is_no_part_of_it(answer: Answer) -> None:
    assert answer("", COMP_LINE="CUDA_VISIBLE_DEVICES=1 cifartui queue cl") == ["clear"]


@pytest.mark.parametrize(
    ("line", "own", "words"),
    [
        ("train --set train.tf32=f", "f", ["false"]),  # what bash takes for the word begins after "="
        ("train --set=train.tf32=", "", ["true", "false"]),
        ("train --set 'train.tf32=f", "'train.tf32=f", ["train.tf32=false"]),
        ("train --see", "--see", ["--seed", "--seeds"]),
    ],
)
def test_bash_is_given_what_it_replaces(answer: Answer, line: str, own: str, words: list[str]) -> None:
    assert answer(line, "bash", COMP_WORD=own) == words


def test_a_folder_that_cannot_be_called_a_run_is_not_offered(answer: Answer, tmp_path: Path) -> None:
    for name in ("20261129T153300-a b", "20261129T153300-a\tplain\trm\n"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").touch()
    assert answer("show 20261129T153300") == []


def test_an_answer_waits_for_neither_torch_nor_textual() -> None:
    code = f"""
import json, os, sys
os.environ.update({COMPLETE}="fish_complete")
from tui.cli.main import cifartui
for line in json.loads(sys.argv[1]):
    os.environ["COMP_LINE"] = "cifartui " + line
    try:
        cifartui(prog_name="cifartui", args=[])
    except SystemExit:
        pass
print(json.dumps([name for name in ("torch", "textual", "numpy", "PIL") if name in sys.modules]))
"""
    lines = ["", "train --set model.", "show ", "export latest --format ", "queue add ", "evaluate ", "preview "]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(lines)], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []
