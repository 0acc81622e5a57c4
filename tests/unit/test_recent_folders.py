"""The list of recent folders: newest first, bounded, private, and harmless where it is damaged."""

import stat
from pathlib import Path

import pytest

from tui.data.recent_folders import completion, recent_folders, recent_path, remember_folder


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def test_newest_first_each_once_and_ten_at_most() -> None:
    assert recent_folders() == ()
    for number in [*range(12), 5]:
        remember_folder(f"/data/{number}")
    assert recent_folders() == tuple(f"/data/{number}" for number in (5, 11, 10, 9, 8, 7, 6, 4, 3, 2))


def test_nobody_else_can_read_it() -> None:
    remember_folder("/data/mine")
    assert stat.S_IMODE(recent_path().stat().st_mode) == 0o600
    assert stat.S_IMODE(recent_path().parent.stat().st_mode) == 0o700
    assert [path.name for path in recent_path().parent.iterdir()] == ["folders.json"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'["a"', b"\xff"])
def test_a_damaged_list_is_no_list_and_is_replaced(content: bytes) -> None:
    recent_path().parent.mkdir(parents=True)
    recent_path().write_bytes(content)
    assert recent_folders() == ()
    remember_folder("/data")
    assert recent_folders() == ("/data",)


def test_where_it_cannot_be_written_nothing_is_lost(state: Path) -> None:
    state.write_text("a file in the place of the folder")
    remember_folder("/data")
    assert recent_folders() == ()


def test_names_that_json_cannot_hold_are_left_out() -> None:
    remember_folder("/data/\udcff")
    assert recent_folders() == ()


def test_archives_and_tables_are_completed_too(tmp_path: Path) -> None:
    for name in ("ants-bees.tar", "ants.txt", "labels.CSV", "notes.zip"):
        (tmp_path / name).touch()
    (tmp_path / "notes").mkdir()
    ends = {"a": "ants-bees.tar", "ants-bees.tar": "ants-bees.tar", "lab": "labels.CSV", "n": "notes/"}
    assert {start: completion(f"{tmp_path}/{start}", Path("/")) for start in ends} == {
        start: f"{tmp_path}/{end}" for start, end in ends.items()
    }
    assert completion(f"{tmp_path}/ants.", Path("/")) is None


def test_a_path_is_completed_with_the_first_folder_that_begins_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("photos", "photographs", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "phone.txt").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "photos" / "cats").mkdir()
    completed = {
        f"{tmp_path}/photos": f"{tmp_path}/photos/", "~/pho": "~/photographs/", "~/": "~/photographs/",
        "~/.h": "~/.hidden/", "pho": "photographs/", "photos/c": "photos/cats/", "./photos/": "./photos/cats/",
        "photos/../photos/c": "photos/../photos/cats/", ".h": ".hidden/",
    }  # fmt: skip
    assert {typed: completion(typed, tmp_path) for typed in completed} == completed
    assert [completion(text, tmp_path) for text in ("x", "~", "~/x", "..", "/no/such/", "/\0/")] == [None] * 6
