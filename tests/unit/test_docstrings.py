"""Docstrings begin with what a thing is, or with a verb: never with a question word."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COVERED = ("cifartui", "presets", "engine", "tui", "benchmarks", "docs")
QUESTION_WORDS = frozenset(
    {"What", "How", "Whether", "When", "Which", "Where", "Who", "Whose", "Whoever", "Why", "That", "Knows"}
)


def _docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of every docstring: of modules, classes, functions and attributes."""
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield statement.lineno, text.strip()


def _questions(source: str) -> list[tuple[int, str]]:
    return [(line, text) for line, text in _docstrings(source) if text.partition(" ")[0] in QUESTION_WORDS]


@pytest.mark.parametrize("place", COVERED)
def test_no_docstring_begins_with_a_question_word(place: str) -> None:
    path = ROOT / place
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    names = {str(file.relative_to(ROOT)): file for file in files}
    found = [
        f"{name}:{line}: {text.splitlines()[0]}"
        for name, file in names.items()
        for line, text in _questions(file.read_text(encoding="utf-8"))
    ]
    assert names
    assert not found, "\n".join(found)


def test_every_kind_of_docstring_is_found() -> None:
    source = '"""What a."""\nb = 1\n"""How b."""\nclass C:\n    """Where c."""\n    d = 1\n    """Which d."""\n'
    source += '    def e(self):\n        """Whether e."""\nif b:\n    def f():\n        """That f."""\n'
    assert [text for _, text in sorted(_questions(source))] == [
        "What a.", "How b.", "Where c.", "Which d.", "Whether e.", "That f.",
    ]  # fmt: skip
