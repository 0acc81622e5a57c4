"""Imports go one way: no cycles, but for the type of the app that screens name."""

from pathlib import Path

import grimp
import pytest

_ROOT = Path(__file__).parents[2]


def _in_cycles(*, with_types: bool) -> set[str]:
    """Return the modules that import themselves by way of others, and those between two such cycles.

    What imports nothing that is left, or is imported by nothing that is left, cannot be part of a cycle.
    """
    graph = grimp.build_graph("presets", "engine", "tui", exclude_type_checking_imports=not with_types, cache_dir=None)
    left = set(graph.modules)
    while True:
        ends = {
            name
            for name in left
            if not graph.find_modules_directly_imported_by(name) & left
            or not graph.find_modules_that_directly_import(name) & left
        }
        if not ends:
            return left
        left -= ends


@pytest.fixture(autouse=True)
def _this_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(_ROOT)


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert _in_cycles(with_types=False) == set()


def test_only_screens_name_the_type_of_what_imports_them() -> None:
    found = _in_cycles(with_types=True)
    assert "tui.app" in found  # else the cycles are gone, or not seen
    assert {name for name in found if not name.startswith("tui.screens.")} == {"tui.app"}
