import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from engine.training import checkpoint_files
from presets.errors import CifartuiError


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("open('executed', 'w')",))


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    size = checkpoint_files.save({"network": {"w": torch.arange(3.0)}, "progress": {"epoch": 2}}, path)
    content = checkpoint_files.load(path)
    assert torch.equal(content["network"]["w"], torch.arange(3.0))
    assert content["progress"] == {"epoch": 2}
    assert size == path.stat().st_size
    assert path.stat().st_mode & 0o077 == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


def test_the_one_before_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint_files.save({"n": 1}, path, keep_previous=True)
    checkpoint_files.save({"n": 2}, path, keep_previous=True)
    assert checkpoint_files.load(path) == {"n": 2}
    assert checkpoint_files.load(tmp_path / "last.prev.pt") == {"n": 1}


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint_files.save({"n": 1}, path)
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        checkpoint_files.save({"n": lambda: None}, path)
    assert checkpoint_files.load(path) == {"n": 1}


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 cut", pickle.dumps([1])])
def test_damage_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(CifartuiError, match=r"last\.pt"):
        checkpoint_files.load(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_checkpoint_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.pt"
    torch.save({"network": Evil()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CifartuiError):
        checkpoint_files.load(path)
    assert not (tmp_path / "executed").exists()


def test_fallback_to_the_one_before_is_said(tmp_path: Path) -> None:
    checkpoint_files.save({"n": 1}, tmp_path / "last.pt", keep_previous=True)
    checkpoint_files.save({"n": 2}, tmp_path / "last.pt", keep_previous=True)
    (tmp_path / "last.pt").write_bytes(b"cut")
    content, said = checkpoint_files.load_last(tmp_path)
    assert content == {"n": 1}
    assert "last.prev.pt" in said


def test_no_checkpoint_at_all_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(CifartuiError, match="no checkpoint"):
        checkpoint_files.load_last(tmp_path)


@pytest.mark.parametrize("is_damaged", [False, True])
@pytest.mark.parametrize("killed_before", [0, 1, 2])
def test_a_kill_between_the_renames_leaves_one_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_before: int, is_damaged: bool
) -> None:
    last = tmp_path / "last.pt"
    checkpoint_files.save({"n": 1}, last, keep_previous=True)
    checkpoint_files.save({"n": 2}, last, keep_previous=True)
    if is_damaged:  # as an earlier worker found it, who went on from the one before
        last.write_bytes(b"cut")
        assert checkpoint_files.load_last(tmp_path)[0] == {"n": 1}
    rename, num_renames = Path.replace, 0

    def replace(path: Path, target: Path) -> Path:
        nonlocal num_renames
        if num_renames == killed_before:
            raise KeyboardInterrupt
        num_renames += 1
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    if killed_before < 2 - is_damaged:
        with pytest.raises(KeyboardInterrupt):
            checkpoint_files.save({"n": 3}, last, keep_previous=True)
    else:
        checkpoint_files.save({"n": 3}, last, keep_previous=True)
    monkeypatch.undo()
    content, _said = checkpoint_files.load_last(tmp_path)
    assert content["n"] == (3 if num_renames == 2 - is_damaged else 1 if is_damaged else 2)


def test_a_name_of_great_length_is_refused_before_torch_looks_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch takes 17 s to refuse a name of 30,000 characters."""
    with zipfile.ZipFile(tmp_path / "last.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02cos\n" + b"x(" * 15_000 + b"\n.")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch was asked"))
    with pytest.raises(CifartuiError, match="damaged or not one of cifartui's"):
        checkpoint_files.load(tmp_path / "last.pt")
