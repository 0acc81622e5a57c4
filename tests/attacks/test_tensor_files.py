"""Files in torch's format that claim to be more than they are, and links in their place."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.models import weights
from engine.models.tensor_files import load_tensors
from engine.runs import predictions, run_dir, start
from engine.runs.predictions import Predictions
from engine.training import checkpoint_files
from presets import catalog
from presets.errors import CifartuiError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.pt"


def written_anew(path: Path, change: Callable[[str, bytes], bytes] | None = None, **how: Any) -> None:
    """Write an archive once more, with other contents or in another form."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content) if change else content)


def refused_unseen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that a checkpoint is refused, and also a file of weights, before torch has to do with either."""
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch was asked"))
    with pytest.raises(CifartuiError, match="damaged or not one of cifartui's"):
        checkpoint_files.load(path)
    with pytest.raises(CifartuiError, match="cannot be read as weights"):
        weights._read(path)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool,
    ],
)  # fmt: skip
def test_tensors_of_every_kind_that_is_used_come_back(path: Path, dtype: torch.dtype) -> None:
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    checkpoint_files.save({"plain": tensor, "turned": tensor.T, "part": tensor[1:], "empty": tensor[:0]}, path)
    found = checkpoint_files.load(path)
    assert torch.equal(found["plain"], tensor)
    assert torch.equal(found["turned"], tensor.T)
    assert torch.equal(found["part"], tensor[1:])
    assert found["empty"].shape == (0, 3)


def test_an_archive_written_anew_as_it_was_is_read(path: Path) -> None:
    checkpoint_files.save({"w": torch.arange(4.0)}, path)
    written_anew(path)
    assert torch.equal(checkpoint_files.load(path)["w"], torch.arange(4.0))


def test_a_packed_archive_is_not_unpacked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte would become a gigabyte."""
    checkpoint_files.save({"w": torch.zeros(100_000)}, path)
    written_anew(path, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000
    refused_unseen(path, monkeypatch)


def test_a_tensor_with_more_numbers_than_the_file_has_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch would take what lies behind in memory, or end with a segmentation fault."""
    checkpoint_files.save({"w": torch.zeros(4)}, path)

    def more(name: str, content: bytes) -> bytes:
        return content.replace(b"K\x04", b"M\xff\xff") if name.endswith("data.pkl") else content  # 65,535, not 4

    written_anew(path, more)
    refused_unseen(path, monkeypatch)


def test_a_tensor_that_is_not_there_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint_files.save({"w": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if not name.endswith("data/0")}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    refused_unseen(path, monkeypatch)


def test_an_archive_with_something_behind_it_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two readers may take two of its directories for the right one."""
    checkpoint_files.save({"w": torch.zeros(4)}, path)
    path.write_bytes(path.read_bytes() + path.read_bytes()[-200:] + b"\0")
    refused_unseen(path, monkeypatch)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_two_files_of_one_name_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint_files.save({"w": torch.zeros(4)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(archive.namelist()[0], b"")
    refused_unseen(path, monkeypatch)


def test_objects_numbered_wildly_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}r\xff\xff\xff\x7f.")
    refused_unseen(path, monkeypatch)


def test_legacy_weights_with_objects_numbered_wildly_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten bytes would take 16 GB."""
    path.write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    refused_unseen(path, monkeypatch)


def _within_itself() -> dict[str, Any]:
    content: dict[str, Any] = {}
    content["self"] = content
    return content


def _doubled_forty_times() -> dict[str, Any]:
    values: list[Any] = []
    for _ in range(40):
        values = [values, values]
    return {"values": values}


@pytest.mark.parametrize(
    "content",
    [
        _within_itself(), _doubled_forty_times(), {"w": torch.zeros(1).expand(10**9)}, {"n": float("nan")},
        {"n": 2**63}, {("a", 1): 1}, {"w": torch.eye(3).to_sparse()}, {"n": 1j}, {"n": b"bytes"}, {"n": {1, 2}},
    ],
    ids=["within itself", "doubled", "stretched", "nan", "large", "keys", "sparse", "complex", "bytes", "set"],
)  # fmt: skip
def test_what_no_checkpoint_is_made_of_is_refused(path: Path, content: dict[str, Any]) -> None:
    torch.save(content, path)
    with pytest.raises(CifartuiError, match="damaged or not one of cifartui's"):
        checkpoint_files.load(path)


def test_weights_from_before_zip_files_are_read_and_checkpoints_are_not(path: Path) -> None:
    torch.save({"w": torch.arange(3.0)}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(weights._read(path)["w"], torch.arange(3.0))
    with path.open("rb") as file, pytest.raises(ValueError, match="does not end as torch's archives do"):
        load_tensors(file)


def test_weights_that_are_no_numbers_are_refused(path: Path) -> None:
    torch.save({"weight": torch.tensor([[1.0, float("nan")]]), "bias": torch.zeros(1)}, path)
    with pytest.raises(CifartuiError, match="holds weights that are no finite numbers"):
        weights.load_weights(torch.nn.Linear(2, 1), str(path), None)


@pytest.mark.parametrize("is_folder", [True, False])
def test_no_checkpoint_is_read_or_written_through_a_link(tmp_path: Path, is_folder: bool) -> None:
    run = run_dir.create(tmp_path / "runs", "demo", preset=catalog.load("demo"), seed=0, device="cpu")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    checkpoint_files.save({"n": 1}, elsewhere / "last.pt")
    if is_folder:
        run.checkpoints.rmdir()
        run.checkpoints.symlink_to(elsewhere)
        with pytest.raises(OSError, match="it is a link"):
            checkpoint_files.save({"n": 2}, run.last)
    else:
        run.last.symlink_to(elsewhere / "last.pt")
    with pytest.raises(CifartuiError, match=r"last\.pt was not loaded: it is a link"):
        checkpoint_files.load(run.last)
    with pytest.raises(CifartuiError, match="is a link, and no checkpoint is read or written through one"):
        start.start_worker(run, resume=True)
    assert [path.name for path in elsewhere.iterdir()] == ["last.pt"]
    assert checkpoint_files.load(elsewhere / "last.pt") == {"n": 1}


def test_predictions_are_not_written_through_a_link(tmp_path: Path) -> None:
    run = run_dir.create(tmp_path / "runs", "demo", preset=catalog.load("demo"), seed=0, device="cpu")
    (tmp_path / "elsewhere").mkdir()
    (run.path / "predictions").symlink_to(tmp_path / "elsewhere")
    found = Predictions(
        run=run.id, split="test", checkpoint="best", epoch=1, global_step=1, class_names=("a",), image_size=1,
        true=None, predicted=(), confidence=(),
    )  # fmt: skip
    with pytest.raises(OSError, match="it is a link"):
        predictions.write(run, found, b"")
    assert list((tmp_path / "elsewhere").iterdir()) == []
