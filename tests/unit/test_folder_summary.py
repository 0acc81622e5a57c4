"""Summary by `cifartui data PATH`: counts, imbalance, sizes, the split, a preset, and what is not read."""

import io
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from engine.runs.needed_files import check_needed
from engine.shared import image_formats
from engine.shared.cache_folder import cache_folder
from engine.shared.data_path import NamedData, data_at, with_data
from engine.shared.image_archives import OnBytes, Unpacked, unpack
from presets import catalog
from presets.errors import CifartuiError
from presets.schema import DATASETS
from tests import bird_files, cifar_files
from tui.cli.data import _print_summary, labelled
from tui.cli.main import cifartui
from tui.data.folder_summary import ClassCount, class_rows, files_of, rows, summarize


def photo(path: Path, size: tuple[int, int] = (8, 6), mode: str = "RGB", orientation: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new(mode, size).save(path, exif=exif)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two uneven classes without parts, one image turned by EXIF, a text and a video beside them."""
    root = tmp_path / "photos"
    for number in range(40):
        photo(root / "cat" / f"{number:02}.png", (20, 10), "L")
    for number in range(10):
        photo(root / "dog" / f"{number:02}.jpg", (40, 30), orientation=6 if number == 0 else None)
    photo(root / "dog" / "wide.png", (400, 2), "RGBA")
    (root / "dog" / "notes.txt").touch()
    (root / "cat" / "film.mp4").touch()
    return root


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cifartui, [str(each) for each in arguments])


def test_a_folder_without_parts_is_counted_and_divided(photos: Path) -> None:
    found = summarize(str(photos))
    assert found.layout == "Class folders without parts: no validation part, no test part."
    assert [(each.name, each.train + each.val, each.test) for each in found.classes] == [("cat", 40, 0), ("dog", 11, 0)]
    assert found.imbalance == pytest.approx(40 / 11)
    assert (found.num_train + found.num_val, found.num_test, found.is_val_drawn) == (51, 0, True)
    assert 0 < found.num_val < 15
    assert "no test part, so a run is judged by the validation images" in found.split
    assert {(each.folder, each.num_files) for each in found.unread} == {("dog", 1), ("cat", 1)}


def test_sizes_and_modes_are_those_of_the_headers_as_a_viewer_shows_them(photos: Path) -> None:
    images = summarize(str(photos)).images
    assert images is not None
    assert (images.looked_at, images.unreadable) == (51, 0)
    assert (images.smallest, images.median, images.largest) == ((20, 10), (20, 10), (40, 30))
    assert images.modes == {"L": 40, "RGB": 10, "RGBA": 1}
    turned = photos.parent / "turned"
    for name in ("a", "b"):
        photo(turned / name / "1.jpg", (40, 30), orientation=6)
        photo(turned / name / "2.jpg", (40, 30), orientation=8)
        photo(turned / name / "3.jpg", (40, 30), orientation=5)
        for number in range(30):
            photo(turned / name / f"more{number}.jpg", (40, 30), orientation=7)
    images = summarize(str(turned)).images
    assert images is not None
    assert (images.smallest, images.largest) == ((30, 40), (30, 40))


def test_images_that_cannot_be_opened_are_counted(photos: Path) -> None:
    (photos / "cat" / "broken.jpg").write_bytes(b"no image")
    found = summarize(str(photos)).images
    assert found is not None
    assert (found.looked_at, found.unreadable, found.first_unreadable) == (52, 1, "cat/broken.jpg")


def test_why_an_image_cannot_be_opened_is_said(photos: Path) -> None:
    for name, content in (("a.png", b""), ("b.png", b"no image"), ("c.png", b"none either")):
        (photos / "cat" / name).write_bytes(content)
    found = summarize(str(photos))
    assert found.images is not None
    assert found.images.reasons == {"no image of a format that is read": 2, "empty": 1}
    said = dict(rows(found))["images"]
    assert "3 of these cannot be read (no image of a format that is read 2, empty 1: cat/" in said


def test_images_of_more_than_8_bits_are_said_to_be_scaled(photos: Path) -> None:
    said = "; I and F have more than 8 bits, and one that fills only 8 or 12 is scaled by its own samples"
    assert said not in dict(rows(summarize(str(photos))))["images"]
    photo(photos / "cat" / "deep.png", mode="I;16")
    assert said in dict(rows(summarize(str(photos))))["images"]


def test_all_names_every_image_that_cannot_be_opened(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"cat/broken{number}.png" for number in range(5)]
    for name in names:
        (photos / name).write_bytes(b"")
    assert "and others, which cifartui data --all names" in call("data", photos).stdout
    assert summarize(str(photos)).images.all_unreadable == dict.fromkeys(names, "empty")  # type: ignore[union-attr]
    monkeypatch.setattr("tui.data.folder_summary._MOST_HEADERS", 2)
    whole = call("data", photos, "--all").stdout
    assert "(the headers of 56 were read); 5 of these cannot be read" in whole
    assert all(f"{name} cannot be read (empty)." in whole for name in names)
    images = json.loads(call("data", photos, "--all", "--json").stdout)["images"]
    assert sorted(images["all_unreadable"]) == names


def test_a_small_folder_is_looked_at_whole_however_slow_the_machine_is(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr("tui.data.folder_summary.time.monotonic", lambda: 10.0 * next(ticks))
    for name in ("cat/38.png", "cat/39.png"):
        (photos / name).unlink()
    found = summarize(str(photos)).images
    assert found is not None
    assert (found.looked_at, sum(found.modes.values())) == (49, 49)


@pytest.mark.parametrize(("num", "ends"), [(7, "is not read"), (8, "is not read"), (9, "2 more sentences like these")])
def test_no_sentence_stands_in_place_of_a_single_one(num: int, ends: str, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        photo(tmp_path / name / "1.jpg")
    for number in range(num + 1):
        (tmp_path / f"cat/x.k{number:02}").touch()
    said = [text for _, text in rows(summarize(str(tmp_path))) if "is not read" in text or "more sentences" in text]
    assert (len(said), ends in said[-1]) == (min(num + 1, 9), True)


def test_all_that_is_not_read_is_printed_if_all_is_asked_for(photos: Path) -> None:
    names = [f"cat/x.k{number:02}" for number in range(30)]
    for name in names:
        (photos / name).touch()
    shown, whole = (call("data", photos, *option).stdout for option in ((), ("--all",)))
    assert "more sentences like these: cifartui data --all prints them" in shown
    assert "more files are not read" not in shown + whole
    assert all(f"{name} is not read" in whole for name in names)


def test_an_archive_is_looked_into_like_its_folder(photos: Path) -> None:
    archive = shutil.make_archive(str(photos.parent / "zipped"), "zip", photos)
    of_folder, of_archive = summarize(str(photos)), summarize(archive)
    assert (of_archive.classes, of_archive.images, of_archive.path) == (of_folder.classes, of_folder.images, archive)


def test_parts_are_kept_as_they_are(tmp_path: Path) -> None:
    for part, number in (("train", 5), ("val", 2), ("test", 3)):
        for name in ("cat", "dog"):
            for index in range(number):
                photo(tmp_path / part / name / f"{index}.png")
    found = summarize(str(tmp_path))
    assert found.classes == (ClassCount("cat", 5, 2, 3), ClassCount("dog", 5, 2, 3))
    assert (found.is_val_drawn, found.imbalance) == (False, 1)
    assert found.split == "10 to train on; 4 to validate with; 6 to test with."
    parts = [(each.part, each.class_name, each.file) for each in files_of(str(tmp_path))]
    assert len(parts) == 20
    assert ("val", "dog", "val/dog/1.png") in parts


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((20, 20), "2, all of the same size"),
        ((121, 124), "2, nearly of the same size"),
        ((20, 22), "2; the largest has 1.1 times the images of the smallest"),
        ((20, 61), "2, uneven: the largest has 3.05 times the images of the smallest"),
    ],
)
def test_classes_are_compared_by_size(tmp_path: Path, sizes: tuple[int, int], said: str) -> None:
    for part, numbers in (("train", sizes), ("val", (1, 1))):
        for name, number in zip(("ants", "bees"), numbers, strict=True):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(number):
                (tmp_path / part / name / f"{index}.png").touch()
    assert dict(rows(summarize(str(tmp_path))))["classes"] == said


def test_the_table_of_labels_is_not_among_what_is_not_read(tmp_path: Path) -> None:
    for name in "abcd":
        photo(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("file,label\na,cat\nb,cat\nc,dog\nd,dog\n")
    (tmp_path / "other.csv").touch()
    said = [text for _, text in rows(summarize(str(tmp_path / "labels.csv"))) if "not read" in text]
    assert said == ["other.csv is not read (.csv: not an image format that is read)."]


def test_files_are_in_the_parts_that_the_summary_counts(photos: Path) -> None:
    found, files = summarize(str(photos)), files_of(str(photos))
    assert sum(each.part == "val" for each in files) == found.num_val
    assert sorted(each.file for each in files if each.class_name == "dog")[-1] == "dog/wide.png"
    lines = call("data", photos, "--files").stdout.splitlines()
    assert lines == [f"{each.part}\t{each.class_name}\t{each.file}" for each in files]
    assert len(json.loads(call("data", photos, "--files", "--json").stdout)) == 51


def test_json_has_the_names_themselves_and_lines_show_them(photos: Path) -> None:
    names = ["new\nline.png", "esc\x1b[2J.png", os.fsdecode(b"no\xffutf.png")]
    for name in names:
        (photos / "cat" / name).touch()
    own = {f"cat/{name}" for name in names[:2]} | {"cat/no\\xffutf.png"}
    found = call("data", photos, "--files", "--json").stdout
    assert own <= {each["file"] for each in json.loads(found)}
    assert "\x1b" not in found
    assert own == set(json.loads(call("data", photos, "--all", "--json").stdout)["images"]["all_unreadable"])
    for option in ("--files", "--all"):
        lines = call("data", photos, option).stdout
        assert all(f"cat/{name}" in lines for name in ("new␊line.png", "esc␛[2J.png", "no\\xffutf.png"))
        assert "\x1b" not in lines


def test_test_images_without_labels_are_named_so(photos: Path) -> None:
    both = photos.parent / "both"
    both.mkdir()
    photos.rename(both / "train")
    photo(both / "test" / "1.jpg")
    found = summarize(str(both))
    assert (found.num_test, found.num_unlabelled) == (0, 1)
    assert "1 without labels" in found.split
    assert files_of(str(both))[-1].part == "unlabelled"


@pytest.mark.parametrize(("number", "preset"), [(6, "photos/frozen"), (1200, "photos/finetune")])
def test_the_preset_goes_by_the_number_of_images(number: int, preset: str, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(number):
            (tmp_path / name / f"{index}.png").touch()
    found = summarize(str(tmp_path))
    assert found.preset == preset
    assert catalog.load(found.preset).group == "photos"


def test_few_images_a_class_are_few_however_many_classes_there_are(tmp_path: Path) -> None:
    for name in range(300):
        (tmp_path / f"{name}").mkdir()
        for index in range(5):
            (tmp_path / f"{name}" / f"{index}.png").touch()
    found = summarize(str(tmp_path))
    assert found.num_train > 1000
    assert (found.preset, "few, so only" in found.why) == ("photos/frozen", True)


def test_classes_of_one_size_are_in_the_order_of_their_labels(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("id,label\n" + "".join(f"{name},{name}\n" for name in (1, 2, 10)))
    for name in (1, 2, 10):
        photo(tmp_path / f"{name}.png")
    assert [line.split()[0] for line in class_rows(summarize(str(labels)))] == ["class", "1", "2", "10"]


@pytest.mark.parametrize("dataset", ["cifar100", "cub200"])
def test_published_data_is_known_and_has_a_preset(dataset: str, tmp_path: Path) -> None:
    if dataset == "cifar100":
        cifar_files.write_folder(tmp_path / "cifar-100-python", cifar_files.published_files())
    else:
        bird_files.write_2011(tmp_path)
    found = summarize(str(tmp_path))
    assert (found.dataset, found.classes) == (dataset, ())
    assert catalog.load(found.preset).data.dataset == dataset
    assert found.preset in call("data", tmp_path).stdout


@pytest.mark.parametrize("dataset", [name for name in DATASETS if name not in {"class-folders", "shapes100"}])
def test_every_published_data_set_has_a_summary(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = NamedData(dataset, str(tmp_path))  # type: ignore[arg-type]
    monkeypatch.setattr("tui.data.folder_summary.known_data", lambda path, _poll: known)
    found = summarize(str(tmp_path))
    assert (found.dataset, found.classes) == (dataset, ())
    assert catalog.load(found.preset, known.overrides).data.dataset == dataset
    with pytest.raises(CifartuiError, match=f"the published data set {dataset}, whose files are not listed"):
        files_of(str(tmp_path))


def test_many_classes_are_bounded_unless_all_are_asked_for(tmp_path: Path) -> None:
    for index in range(50):
        for number in range(20 + index):
            path = tmp_path / f"class{index:02}" / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            path.touch()
    found = summarize(str(tmp_path))
    lines = class_rows(found)
    assert len(lines) == 22
    assert (lines[1].split()[0], lines[11], lines[-1].split()[0]) == ("class49", "… 30 others", "class00")
    assert len({len(line) for line in lines if not line.startswith("…")}) == 1
    shown, whole = (call("data", tmp_path, *option).stdout.splitlines() for option in ((), ("--all",)))
    assert len([line for line in whole if " cannot be read (empty)." not in line]) == len(shown) + 28


def test_the_page_says_all_of_it(photos: Path) -> None:
    text = call("data", photos).stdout
    for said in (
        "layout    Class folders without parts",
        "classes   2, uneven: the largest has 3.64 times the images of the smallest",
        "images    20×10 to 40×30, median 20×10 px, L 40, RGB 10, RGBA 1 (the headers of 51 were read)",
        "not read  cat/film.mp4 is not read (.mp4: not an image format that is read).",
        "preset    photos/frozen: ",
        f"Train on it: cifartui train photos/frozen --data {photos}",
    ):
        assert said in text
    assert text.count("film.mp4") == 1
    assert json.loads(call("data", photos, "--json").stdout)["classes"][1]["name"] == "dog"


@pytest.mark.parametrize(
    ("numbers", "fraction"),
    [((0, 1), 0.3), ((0,), None)],
)
def test_what_no_run_can_validate_with_is_said_and_the_command_is_one_that_starts(
    tmp_path: Path, numbers: tuple[int, ...], fraction: float | None
) -> None:
    root = tmp_path / "it's few"
    for name in ("cat", "dog"):
        for number in numbers:
            photo(root / name / f"{number}.png")
    found, page = json.loads(call("data", root, "--json").stdout), call("data", root)
    assert page.exit_code == 0
    assert (found["num_val"], found["validation"]) == (0, fraction)
    assert found["problem"].startswith("data.validation = every-tenth takes none of the ")
    assert f"problem   {found['problem']}\n" in page.stdout
    assert f"split     {2 * len(numbers)} to train on; none to validate with; no test part.\n" in page.stdout
    assert "judged" not in page.stdout
    order = next((line for line in page.stdout.splitlines() if line.startswith("Train on it: ")), None)
    assert (order is not None) == (fraction is not None)
    if order is None:
        return
    with pytest.raises(CifartuiError):
        check_needed(catalog.load("photos/frozen", with_data(str(root), ())), None)
    train, name, data, path, key, change = shlex.split(order.removeprefix("Train on it: cifartui "))
    assert (train, data, key) == ("train", "--data", "--set")
    check_needed(catalog.load(name, with_data(path, (change,))), None)


def test_a_reason_is_said_once_however_many_folders_have_it(photos: Path) -> None:
    (photos / "dog" / "film.mp4").touch()
    (photos / "readme.md").touch()
    said = [text for _, text in rows(summarize(str(photos))) if "not read" in text]
    assert said == [
        "2 files in cat and dog are not read (.mp4: not an image format that is read).",
        "dog/notes.txt is not read (.txt: not an image format that is read).",
        "readme.md is not read (.md: not an image format that is read).",
    ]


def test_names_draw_nothing_on_the_terminal(photos: Path) -> None:
    (photos / "dog").rename(photos / "\x1b[31mdog")
    found = summarize(str(photos))
    assert all(line.isprintable() for line in class_rows(found))
    assert all(text.isprintable() for _, text in rows(found))
    assert "\x1b" not in call("data", photos, "--files").stdout


def test_what_is_no_folder_of_images_is_one_sentence(tmp_path: Path) -> None:
    for arguments in (("data", tmp_path), ("data", tmp_path / "gone"), ("data", "--files"), ("data", "--all")):
        result = call(*arguments)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1


def test_a_table_beside_the_only_folder_of_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    for name in "ab":
        Image.new("RGB", (4, 4)).save(tmp_path / "img" / f"{name}.png")
    (tmp_path / "species.csv").write_text("id;species\na;ant\nb;bee\n")
    with pytest.raises(
        CifartuiError, match=r"of one class only, img; .*: if species\.csv names files and labels, name it"
    ):
        summarize(str(tmp_path))
    assert summarize(str(tmp_path / "species.csv")).num_train == 2


def test_a_listing_can_be_ended(photos: Path) -> None:
    class EndedError(Exception):
        pass

    def end() -> None:
        raise EndedError

    with pytest.raises(EndedError):
        summarize(str(photos), end)
    with pytest.raises(CifartuiError):
        summarize(str(photos / "gone"), end)


def test_headers_are_read_of_the_formats_that_training_reads(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = summarize(str(photos)).images
    monkeypatch.setattr(image_formats, "formats", lambda: ())
    after = summarize(str(photos)).images
    assert before is not None
    assert after is not None
    assert before.modes
    assert (after.modes, after.unreadable) == ({}, after.looked_at)


def test_a_long_sentence_is_cut_between_words_on_a_terminal() -> None:
    sentence = "56 to train on; 4 to validate with, a tenth of the training part by the hash of each file's name."
    assert labelled("split", sentence, None) == f"split     {sentence}"
    lines = labelled("split", sentence, 60).splitlines()
    assert lines[0] == "split     56 to train on; 4 to validate with, a tenth of the"
    assert lines[1] == "          training part by the hash of each file's name."


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, tui.data.folder_summary;"
        "print(sorted({'torch', 'numpy', 'pooch', 'PIL', 'textual'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_command_line_shows_how_far_an_archive_is_unpacked_and_ctrl_c_leaves_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = shutil.make_archive(str(tmp_path / "x"), "tar", photos)
    screen = _Screen()
    monkeypatch.setattr("sys.stderr", screen)

    def interrupted(path: Path, on_bytes: OnBytes) -> Unpacked:
        def then_ctrl_c(done: int, total: int) -> None:
            on_bytes(done, total)
            raise KeyboardInterrupt

        return unpack(path, then_ctrl_c)

    monkeypatch.setattr("engine.shared.image_listing.unpack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _print_summary(archive, None, as_json=False, with_all=False)
    assert re.search(r"unpacking: [0-9.]+ kB of [0-9.]+ kB   Ctrl-C ends that", screen.getvalue())
    assert list((cache_folder() / "unpacked").iterdir()) == []


def test_a_table_inside_an_archive_is_looked_into_and_trained_by(tmp_path: Path) -> None:
    for number in range(40):
        photo(tmp_path / "set" / "all" / f"{number:02}.png")
    rows_of_table = "".join(f"{number:02}.png,{'cat' if number % 2 else 'dog'}\n" for number in range(40))
    (tmp_path / "set" / "labels.csv").write_text(f"file,label\n{rows_of_table}")
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "set")
    assert data_at(archive).path == archive  # nothing is known of it before it is unpacked
    refused = call("data", archive)
    assert refused.exit_code == 2
    assert "add --set data.labels=labels.csv" in refused.stderr
    with pytest.raises(CifartuiError, match=r"add --set data\.labels=labels\.csv"):
        data_at(archive)
    assert data_at(archive, labels="labels.csv").path == archive
    for named in (("--set", "data.labels=labels.csv"), ("--labels", "labels.csv")):
        looked_into = call("data", archive, *named)
        assert looked_into.exit_code == 0, looked_into.stderr
        assert re.search(r"^cat +\d+ +\d+ +0$", looked_into.stdout, re.MULTILINE)
        command = looked_into.stdout.splitlines()[-1].partition("Train on it: ")[2]
        assert shlex.split(command)[-2:] == ["--set", 'data.labels="labels.csv"']
    assert len(call("data", archive, "--labels", "labels.csv", "--files").stdout.splitlines()) == 40
    assert "and not optimizer.lr=2." in call("data", archive, "--set", "optimizer.lr=2").stderr
    assert "name it: cifartui data PATH" in call("data", "--labels", "labels.csv").stderr


def test_the_advice_tells_the_sizes_of_uneven_classes(tmp_path: Path) -> None:
    for name, number in (("cat", 60), ("dog", 4)):
        for each in range(number):
            photo(tmp_path / name / f"{each}.png")
    found = summarize(str(tmp_path))
    counts = {each.name: each.train for each in found.classes}
    assert f"training images, {counts['dog']} to {counts['cat']} a class: few" in found.why


def test_of_a_folder_with_many_damaged_images_no_run_is_advised(photos: Path) -> None:
    for number in range(11):
        (photos / "cat" / f"{number:02}.png").write_bytes(b"no image")
    found = summarize(str(photos))
    assert "11 of 51 images cannot be read, so no run starts; mend or remove them" in found.problem
    assert "Train on it" not in call("data", photos).stdout
    photo(photos / "cat" / "00.png")
    assert (summarize(str(photos)).problem, summarize(str(photos)).validation) == ("", None)
    assert "Train on it" in call("data", photos).stdout
