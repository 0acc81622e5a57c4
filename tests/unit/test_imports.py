"""Imports go one way: no cycles, but for the type of the app that screens name."""

import json
import subprocess
import sys
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


_FIRST_SCREEN = """
cifartui
engine engine.files
engine.journal engine.journal.data_record engine.journal.events engine.journal.peaks
engine.runs engine.runs.notify_settings engine.runs.run_dir
engine.shared engine.shared.device_names engine.shared.step_memory
presets presets.backbones presets.checks presets.config_layers presets.errors presets.plan presets.problems
presets.range_test presets.safe_text presets.schema
tui tui.account tui.app tui.config tui.display tui.format tui.main tui.theme
tui.data tui.data.environment tui.data.network_facts tui.data.preset_info
tui.screens tui.screens.home
tui.terminal tui.terminal.capabilities tui.terminal.driver tui.terminal.keyboard
tui.terminal.output tui.terminal.screen_diff
tui.text tui.text.device_text tui.text.layout tui.text.preset_text
tui.widgets tui.widgets.basic tui.widgets.home_panes tui.widgets.key_bar tui.widgets.lists
"""
"""Modules that are imported before the first screen: each delays it."""


def test_the_first_screen_waits_for_these_modules_alone() -> None:
    code = "import json, sys, cifartui, tui.main, tui.app; print(json.dumps(list(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = set(json.loads(printed))
    ours = {name for name in loaded if name.split(".")[0] in {"cifartui", "engine", "presets", "tui"}}
    assert ours == set(_FIRST_SCREEN.split())
    assert not loaded & {"click", "numpy", "PIL", "torch", "psutil", "pynvml", "textual_image"}
