"""The guides name every action that can have another key and every command, and no path that is not there."""

import re
from pathlib import Path
from typing import get_args

import click
import pytest

from engine.journal.commands import AnyCommand
from engine.journal.events import AnyEvent
from presets import schema
from tui import keymap
from tui.cli.main import cifartui

ROOT = Path(__file__).parents[2]
GUIDES = [*(path for path in sorted(ROOT.glob("*.md")) if path.name != "CHANGELOG.md"), *sorted(ROOT.glob("docs/*.md"))]
_TOP = ("tui", "engine", "presets", "tests", "docs", "benchmarks", ".ci")
_PATH = re.compile(rf"(?<![\w./~-])((?:{'|'.join(map(re.escape, _TOP))})/[\w./*-]*[\w/*])")
_LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")
_FILE = re.compile(r"`([\w-]+\.(?:py|tcss))`")
_MODULE = re.compile(rf"(?<![\w./])((?:{'|'.join(_TOP[:-1])})(?:\.(?!md\b)[a-z_]+)+)")
_GROUPS = "|".join(path.parent.name for path in ROOT.glob("presets/*/*.toml"))
_PRESET = re.compile(rf"(?<![\w./-])((?:{_GROUPS})/[\w-]*\w)(?![\w*-])")


def test_every_action_and_its_usual_keys_are_in_the_terminals_guide() -> None:
    guide = (ROOT / "docs" / "terminals.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", guide[guide.index("## Keys") : guide.index("## When a run ends")]))
    assert named == set(keymap.actions())


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("## The command line") : readme.index("## Configuration")]
    named = set(re.findall(r"(?:^    cifartui|·) ([a-z-]+)", section, re.MULTILINE))
    assert set(cifartui.list_commands(click.Context(cifartui))) <= named


def missing(text: str, folder: Path) -> set[str]:
    """Return the paths, links (from `folder`), file names, modules and shipped presets that are not in the tree."""
    return {
        *(path for path in _PATH.findall(text) if not any(ROOT.glob(path))),
        *(link for link in _LINK.findall(text) if not (folder / link).exists()),
        *(name for name in _FILE.findall(text) if not any(any(ROOT.glob(f"{top}/**/{name}")) for top in _TOP)),
        *(name for name in _MODULE.findall(text) if not _is_module(name)),
        *(name for name in _PRESET.findall(text) if not (ROOT / "presets" / f"{name}.toml").exists()),
    }


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_what_a_guide_names_is_there(guide: Path) -> None:
    assert missing(guide.read_text(encoding="utf-8"), guide.parent) == set()


def test_what_the_code_names_is_there() -> None:
    gone = {
        (path.relative_to(ROOT).as_posix(), name)
        for top in ("tui", "engine", "presets", "benchmarks", "docs")
        for kind in ("py", "tcss", "html")
        for path in ROOT.glob(f"{top}/**/*.{kind}")
        for name in _PATH.findall(path.read_text(encoding="utf-8"))
        if not any(ROOT.glob(name))
    }
    assert gone == set()


@pytest.mark.parametrize(
    "wrong",
    [
        "engine/runs/gone.py", "tui/gone/", "tests/*/gone_*.py", "[the map](gone.md)", "`gone_for_good.py`",
        "docs.gone", "engine.training.distributed.gone", "recipes/gone", "ablation/step-99",
    ],
)  # fmt: skip
def test_what_is_not_there_is_found(wrong: str) -> None:
    right = "`engine/runs/`, tui/*.py and [x](docs/presets.md#keys) or `schema.py`; engine.runs and ablation/step-03"
    assert missing(right, ROOT) == set()
    assert len(missing(f"{right}. {wrong}.", ROOT)) == 1


def test_the_architecture_is_read_in_one_go() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) <= 100


@pytest.mark.parametrize("kind", [*get_args(AnyEvent), *get_args(AnyCommand)])
def test_every_event_and_every_command_of_a_run_is_in_the_guide_to_its_directory(kind: type) -> None:
    guide = (ROOT / "docs" / "run-directory.md").read_text(encoding="utf-8")
    assert re.search(rf"\b{kind.__name__}\b", guide)


@pytest.mark.parametrize("union", [schema.Augmentation, schema.Model, schema.Optimizer, schema.Schedule])
def test_everything_that_a_preset_can_choose_is_in_the_presets_guide(union: object) -> None:
    guide = (ROOT / "docs" / "presets.md").read_text(encoding="utf-8")
    absent = [tag for tag in (kind.__struct_config__.tag for kind in get_args(union)) if tag not in guide]
    assert absent == []
