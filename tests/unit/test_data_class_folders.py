import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.data.image_cache import ImageCache
from engine.data.load import load, load_some_of_val
from engine.data.sets import DataSet
from engine.journal.events import DataProgressed
from engine.shared.image_listing import list_images
from engine.shared.image_parts import Listing
from presets.errors import CifartuiError
from presets.schema import Data


def save(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index, name in enumerate(("wren", "crow", "gull")):
        for number in range(10):
            save(tmp_path / f"train/{name}/{number}.png", (index, number, 7))
        save(tmp_path / f"test/{name}/0.jpg", (index, 0, 7))
    return tmp_path


def load_folders(root: Path, **more: object) -> DataSet:
    values = {"image_size": 8, **more}
    return load(Data(dataset="class-folders", path=str(root), **values), None, 0, lambda event: None)  # type: ignore[arg-type]


def test_classes_are_the_sorted_folders(root: Path) -> None:
    data = load_folders(root)
    assert data.class_names == ("crow", "gull", "wren")
    assert data.test is not None
    assert (len(data.train), len(data.val), len(data.test)) == (29, 1, 3)
    assert (data.val.names, data.val.labels.tolist()) == (("train/crow/3.png",), [0])
    assert data.val.images[:, :2, 0, 0].tolist() == [[1, 3]]
    assert data.train.images.shape == (29, 3, 8, 8)
    assert data.train.names[:4] == tuple(f"train/crow/{number}.png" for number in (0, 1, 2, 4))
    assert data.train.images[:4, 1, 0, 0].tolist() == [0, 1, 2, 4]
    assert (data.train.images.dtype, data.train.labels.dtype) == (torch.uint8, torch.int64)
    assert data.train.images.is_contiguous()
    assert data.notices == (
        "2 classes have no validation image: gull and wren; put images of each class into val/, or set "
        "data.validation=0.2.",
    )


def test_images_of_the_right_size_stay_what_they_are(root: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "train/crow/1.png")
    assert torch.equal(load_folders(root).train.images[1], torch.from_numpy(pixels).permute(2, 0, 1))


def test_other_sizes_are_resized_and_centre_cropped(root: Path) -> None:
    wide = np.zeros((16, 48, 3), dtype=np.uint8)
    wide[:, :16] = wide[:, 32:] = 255
    wide[:, 16:32] = 100
    Image.fromarray(wide).save(root / "train/crow/1.png")
    image = load_folders(root).train.images[1]
    assert image.shape == (3, 8, 8)
    assert (image[:, :, 1:7] == 100).all()  # only the middle third is left
    assert image.max() < 130


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_every_mode_becomes_rgb(mode: str, root: Path) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new("RGB", (8, 8), (102, 102, 102)).convert(mode).save(root / f"train/crow/1.{suffix}", quality=100)
    if suffix == "jpg":
        (root / "train/crow/1.png").unlink()
    assert (load_folders(root).train.images[1].int() - 102).abs().max() <= 4


@pytest.mark.parametrize("by_processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_images_that_are_scaled_by_their_own_range_are_said(
    root: Path, by_processes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.data.image_decoders._WORTH_PROCESSES", 1 if by_processes else 1000)
    monkeypatch.setattr("engine.data.image_decoders.usable_cpus", lambda: 2)
    said = "images have samples of more than 8 bits that fill only 8 or 12"
    for name, largest in (("deep.png", 65535), ("black.png", 0)):
        Image.fromarray(np.full((8, 8), largest, np.uint16)).save(root / "train/gull" / name)
    assert not any(said in notice for notice in load_folders(root).notices)
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(root / "train/gull/twelve.png")
    Image.fromarray(np.full((8, 8), 3.5, np.float32)).save(root / "train/gull/float.tif")
    for _ in range(2):  # the second time from the cache
        data = load_folders(root)
        (notice,) = [notice for notice in data.notices if said in notice]
        assert notice.startswith("2 of 37 ")
        assert notice.endswith("is the first.")
        assert not data.train.unreadable
        assert len(data.train) + len(data.val) == 34


def test_a_val_folder_goes_first(root: Path) -> None:
    save(root / "val/gull/0.png", (50, 50, 50))
    data = load_folders(root)
    assert (len(data.train), len(data.val)) == (30, 1)
    assert data.val.labels.tolist() == [1]


def test_some_validation_images_are_those_of_the_split_and_no_others_are_decoded(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, decode = [], ImageCache.decode

    def counted(cache: ImageCache, rows: Any, report: Any) -> None:
        decoded.append(len(rows))
        decode(cache, rows, report)

    for number in range(10):
        save(root / f"val/crow/{number}.png", (90, number, 7))
    (root / "val/crow/6.png").write_bytes(b"broken")
    monkeypatch.setattr(ImageCache, "decode", counted)
    data = Data(dataset="class-folders", path=str(root), image_size=8)
    for num, expected in ((4, [0, 3, 9]), (1, [0]), (99, [0, 1, 2, 3, 4, 5, 7, 8, 9])):
        images = load_some_of_val(data, None, 0, num, lambda event: None)
        assert images.shape[1:] == (3, 8, 8)
        assert images[:, :2, 0, 0].tolist() == [[90, number] for number in expected]
    assert decoded == [4, 1, 10]


def test_a_limit_takes_images_of_all_classes(root: Path) -> None:
    data = load_folders(root, train_limit=12)
    assert len(data.train) == 12
    assert set(data.train.labels.tolist()) == {0, 1, 2}
    assert torch.equal(data.train.images, load_folders(root, train_limit=12).train.images)


def test_a_broken_image_is_left_out_and_named(root: Path) -> None:
    (root / "train/gull/3.png").write_bytes(b"not an image")
    whole = (root / "train/gull/4.png").read_bytes()
    (root / "train/gull/4.png").write_bytes(whole[: len(whole) // 2])
    data = load_folders(root)
    assert len(data.train) == 27
    assert torch.bincount(data.train.labels).tolist() == [9, 8, 10]
    assert data.train.images[data.train.labels == 1][:, 1, 0, 0].tolist() == [0, 1, 2, 5, 6, 7, 8, 9]
    assert data.train.unreadable == ("train/gull/3.png", "train/gull/4.png")
    assert "2 of 33 images" in data.notices[0]
    reason = "(no image of a format that is read)"
    assert f"train/gull/3.png {reason}, train/gull/4.png {reason}" in data.notices[0]


def test_many_broken_images_are_an_error(root: Path) -> None:
    for number in range(10):
        (root / f"train/gull/{number}.png").write_bytes(b"")
    (root / "train/crow/5.png").write_bytes(b"")
    with pytest.raises(CifartuiError, match="11 of 33 images"):
        load_folders(root)


def test_a_split_of_broken_images_only_is_an_error(root: Path) -> None:
    for image in (root / "test").glob("*/*"):
        image.write_bytes(b"")
    with pytest.raises(CifartuiError, match="whole split"):
        load_folders(root)


def test_without_a_test_part_nothing_more_is_taken_away(root: Path) -> None:
    shutil.rmtree(root / "test")
    data = load_folders(root)
    assert (len(data.train), len(data.val), data.test, data.has_test_accuracy) == (29, 1, None, False)
    assert data.notices[-1] == "There is no test part: the run is judged on its validation images."


def test_loose_test_images_are_there_for_predictions_only(root: Path) -> None:
    shutil.rmtree(root / "test")
    for number in (2, 0, 1):
        save(root / f"test/{number}.png", (number, 0, 0))
    (root / "test/1.png").write_bytes(b"")
    (root / "test/3.png").symlink_to("nowhere")
    (root / "test/notes.txt").touch()
    data = load_folders(root)
    assert data.test is not None
    assert (data.test.names, data.test.unreadable) == (("test/0.png", "test/2.png"), ("test/1.png", "test/3.png"))
    assert data.test.images[:, 0, 0, 0].tolist() == [0, 2]
    assert (data.test_labels_hidden, data.has_test_accuracy) == (True, False)
    assert data.notices[-1] == "The test images have no labels, so there is no test accuracy."


@pytest.mark.parametrize("broken", [12, 13])
def test_loose_test_images_that_cannot_be_read_do_not_keep_a_run_from_training(root: Path, broken: int) -> None:
    shutil.rmtree(root / "test")
    for number in range(13):
        save(root / f"test/{number:02}.png", (number, 0, 0))
    for number in range(broken):
        (root / f"test/{number:02}.png").write_bytes(b"")
    (root / "train/crow/5.png").write_bytes(b"")
    data = load_folders(root)
    assert "1 of 30 images cannot be read and are left out: train/crow/5.png (empty)." in data.notices[0]
    if broken == 13:
        assert data.test is None
        assert (
            data.notices[1]
            == "No test image can be read, so there is none to predict: test/00.png (empty) is the first."
        )
    else:
        assert data.test is not None
        assert (data.test.names, len(data.test.unreadable)) == (("test/12.png",), 12)
        assert data.notices[1].startswith("12 of 13 test images without labels cannot be read; a submission has a row")


def test_a_few_images_are_divided_by_the_fraction_asked_for(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(2):
            save(tmp_path / name / f"{number}.png", (number, 0, 0))
    with pytest.raises(CifartuiError, match=r"data\.validation = every-tenth takes none of the 4 training images"):
        load_folders(tmp_path)
    data = load_folders(tmp_path, validation=0.5)
    assert (len(data.train) + len(data.val), len(data.val) > 0) == (4, True)
    assert set(data.train.labels.tolist()) == {0, 1}


def test_class_folders_without_parts_are_read(root: Path) -> None:
    with_parts = load_folders(root)
    shutil.rmtree(root / "test")
    flat = load_folders((root / "train").rename(root.parent / "flat"))
    assert torch.equal(flat.train.images, with_parts.train.images)
    assert (flat.val.names, flat.test) == (("crow/3.png",), None)


def test_a_class_whose_training_images_cannot_be_read_is_said(root: Path) -> None:
    save(root / "train/heron/0.png", (9, 9, 9))
    (root / "train/heron/0.png").write_bytes(b"")
    assert "The class heron has no training image." in load_folders(root).notices


def test_an_unknown_class_is_an_error(root: Path) -> None:
    save(root / "test/heron/0.png", (0, 0, 0))
    with pytest.raises(CifartuiError, match=r"heron is a class that the training part does not have"):
        load_folders(root)


def test_a_class_that_cannot_be_listed_gives_a_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: object) -> Any:
        if isinstance(path, Path) and path.name == "crow":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(CifartuiError, match=r"train/crow could not be read: Permission denied"):
        load_folders(root)


def test_an_absent_folder_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(CifartuiError, match=r"data\.path"):
        load_folders(tmp_path / "gone")


def test_progress_counts_images_and_may_stop_them(root: Path) -> None:
    events: list[DataProgressed] = []
    data = Data(dataset="class-folders", path=str(root), image_size=8)
    load(data, None, 0, events.append)
    assert [(event.phase, event.unit, event.total) for event in events[-1:]] == [("decode", "images", 33)]
    assert [events[0].done, events[-1].done] == [0, 33]

    def stop(event: DataProgressed) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(data, None, 0, stop)


@pytest.mark.parametrize(
    ("victims", "said"),
    [
        (("train/crow/1.png",), ""),
        (
            ("test/crow/0.jpg", "test/gull/0.jpg", "test/wren/0.jpg"),
            r"No image of a whole split .* \(not there\) first",
        ),
        (("train",), r"30 of 33 images in .* cannot be read, train/crow/\d.png \(not there\) first; mend or remove"),
    ],
)
def test_files_that_vanish_once_they_are_listed(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    victims: tuple[str, ...],
    said: str,
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def listed(*arguments: Any, **more: Any) -> Listing:
        found = list_images(*arguments, **more)
        for number, victim in enumerate(victims):
            (root / victim).rename(elsewhere / str(number))
        return found

    monkeypatch.setattr("engine.data.image_files.list_images", listed)
    if said:
        with pytest.raises(CifartuiError, match=said):
            load_folders(root)
        return
    data = load_folders(root)
    assert "1 of 33 images cannot be read and are left out: train/crow/1.png (not there)." in data.notices
    assert (len(data.train), data.train.unreadable) == (28, ("train/crow/1.png",))
