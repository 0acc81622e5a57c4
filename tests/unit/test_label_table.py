"""Tables of image files and labels: columns, names, parts, and what is refused."""

from pathlib import Path

import pytest

from engine.shared import label_table
from engine.shared.image_listing import list_images, num_classes
from engine.shared.image_parts import Files, Listing, check_validation, split_by_name, without_drawn
from presets.errors import CifartuiError
from tests.unit.test_image_listing import write

IMAGES = ("a.jpg", "b.jpg", "sub/c.png", "sub/d.png")
ROWS = "a,cat\nb,dog\nc,cat\nd,dog\n"


def list_with(root: Path, text: str, *images: str, name: str = "labels.csv") -> Listing:
    write(root, *(images or IMAGES))
    (root / name).write_text(text, encoding="utf-8")
    return list_images(root, name)


@pytest.mark.parametrize("file", ["file", "filename", "Image", "path", "ID", "image_id", "File Name"])
@pytest.mark.parametrize("label", ["label", "Class", "category", "breed"])
def test_columns_are_found_by_name(tmp_path: Path, file: str, label: str) -> None:
    found = list_with(
        tmp_path,
        f"size,{label},{file}\n" + "".join(f"9,{y},{x}\n" for x, y in (row.split(",") for row in ROWS.split())),
    )
    assert found.class_names == ("cat", "dog")
    assert found.train == Files(("a.jpg", "sub/c.png", "b.jpg", "sub/d.png"), (0, 0, 1, 1))
    assert found.notices == (f"{tmp_path}/labels.csv is read: files by column {file} and labels by column {label}.",)
    columns = f"files by column {file} and labels by column {label}"
    assert found.layout == f"{tmp_path}/labels.csv: {columns}; no validation part, no test part."


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.tsv", "file\tlabel\na.jpg\tcat\nb.jpg\tdog\n"),
        ("l.csv", "file;label\na.jpg;cat\nb.jpg;dog\n"),
        ("l.csv", "\ufefffile,label\r\na.jpg,cat\r\n\r\nb.jpg,dog\r\n"),
        ("l.csv", 'file,label\n"a.jpg","cat"\n./b.jpg , dog\n'),
        ("l.csv", "file,label\na,cat\nb,dog\n"),
        ("l.csv", "file,label\n/home/me/old/a.jpg,cat\nC:\\photos\\b.jpg,dog\n"),
        ("l.csv", "file,label\na.jpeg,cat\nb.png,dog\n"),
    ],
)
def test_ways_to_write_a_table(tmp_path: Path, name: str, text: str) -> None:
    found = list_with(tmp_path, text, "a.jpg", "b.jpg", name=name)
    assert (found.class_names, found.train) == (("cat", "dog"), Files(("a.jpg", "b.jpg"), (0, 1)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("first", ["", "sep=;\n", "SEP=;\r\n", '"sep=;"\n', "sep=;\r"])
def test_tables_as_excel_writes_them(tmp_path: Path, encoding: str, first: str) -> None:
    write(tmp_path, "a,b.jpg", "b.jpg")
    (tmp_path / "l.csv").write_bytes(f"{first}file;label\na,b.jpg;Käfer\nb.jpg;Aal\n".encode(encoding))
    found = list_images(tmp_path, "l.csv")
    assert (found.class_names, found.train) == (("Aal", "Käfer"), Files(("b.jpg", "a,b.jpg"), (0, 1)))


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    with pytest.raises(CifartuiError, match=r"line 4: a is dog, and is cat in line 3;"):
        list_with(tmp_path, "sep=,\nfile,label\na,cat\na,dog\n")
    with pytest.raises(CifartuiError, match="the quote that begins in line 3 is not closed"):
        list_with(tmp_path, 'sep=,\nfile,label\na,"cat\nb,dog\n')


def test_labels_that_are_not_in_utf8_are_said(tmp_path: Path) -> None:
    write(tmp_path, *IMAGES)
    (tmp_path / "labels.csv").write_bytes("file,label\na,café\nb,thé\n".encode("latin-1"))
    found = list_images(tmp_path, "labels.csv")
    assert found.notices[1].startswith(f"{tmp_path}/labels.csv is not in UTF-8")
    assert found.notices[1].endswith(r"in caf\xe9 and th\xe9; save the table as CSV in UTF-8.")


@pytest.mark.parametrize("content", [b"PK\3\4\0\0", "file,label\na,cat\n".encode("utf-32-be"), b"file,label\na,c\0t\n"])
def test_what_is_no_text_is_no_table(tmp_path: Path, content: bytes) -> None:
    (write(tmp_path, *IMAGES) / "l.csv").write_bytes(content)
    with pytest.raises(CifartuiError, match=r"l\.csv has zero bytes, as no text has; save the table as CSV in UTF-8\."):
        list_images(tmp_path, "l.csv")


def test_a_table_is_named_itself_or_with_its_folder(tmp_path: Path) -> None:
    by_key = list_with(tmp_path, f"file,label\n{ROWS}")
    assert list_images(tmp_path / "labels.csv") == by_key
    assert list_images(tmp_path, str(tmp_path / "labels.csv")) == by_key
    assert num_classes(tmp_path, "labels.csv") == num_classes(tmp_path / "labels.csv") == 2


def test_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    assert list_with(tmp_path, "file,label\na,10\nb,9\nc,1\n").class_names == ("1", "9", "10")
    assert list_with(tmp_path, "file,label\na,10\nb,9\nc,x\n").class_names == ("10", "9", "x")


def test_a_column_of_parts(tmp_path: Path) -> None:
    found = list_with(tmp_path, "file,label,Split\na,cat,train\nb,dog,Train\nc,cat,valid\nd,dog,test\n")
    assert (found.train.names, found.val.names, found.test.names) == (
        ("a.jpg", "b.jpg"),
        ("sub/c.png",),
        ("sub/d.png",),
    )
    assert found.notices[0].endswith("labels by column label and parts by column Split.")
    assert found.notices[1:] == ("The class dog has no validation image.", "The class cat has no test image.")


def test_rows_of_the_test_part_may_have_no_label(tmp_path: Path) -> None:
    found = list_with(tmp_path, "file,label,split\na,cat,train\nb,dog,train\nd,,test\nc,,test\n")
    assert (len(found.test), found.unlabelled) == (0, ("sub/c.png", "sub/d.png"))


def test_folders_are_the_parts_where_the_table_names_two_of_them(tmp_path: Path) -> None:
    images = ("train/1.jpg", "train/2.jpg", "val/3.jpg")
    found = list_with(tmp_path, "file,label\ntrain/1,cat\ntrain/2,dog\nval/3,cat\n", *images)
    assert (found.train.names, found.val.names) == (images[:2], images[2:])


def test_kaggle_loose_images_with_a_table_and_a_test_folder(tmp_path: Path) -> None:
    images = ("train/1.jpg", "train/2.jpg", "test/3.jpg", "test/4.jpg")
    found = list_with(tmp_path, "id,breed\n1,pug\n2,corgi\n", *images)
    assert (found.train, found.unlabelled) == (Files(("train/2.jpg", "train/1.jpg"), (0, 1)), images[2:])
    assert "a test part without labels" in found.layout
    assert len(found.notices) == 1


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    found = list_with(tmp_path, "file,label\na,cat\nb,dog\nc,\ngone.jpg,cat\n", *IMAGES, "e.heic.txt")
    assert found.train.names == ("a.jpg", "b.jpg")
    assert found.notices[1:] == (
        f"{tmp_path}/labels.csv names a file that is not among the images, and is left out: gone.jpg.",
        f"1 image has no label in {tmp_path}/labels.csv, and is left out.",
        f"1 image is not in {tmp_path}/labels.csv, and is left out: sub/d.png.",
    )


def test_rows_without_a_file_name_are_counted_by_themselves(tmp_path: Path) -> None:
    found = list_with(tmp_path, "file,label\na,cat\nb,dog\nc,cat\nd,dog\ngone.jpg,cat\nnope,dog\n,cat\n")
    assert found.notices[1:] == (
        f"{tmp_path}/labels.csv has a row without a file name (line 8), which is left out.",
        f"{tmp_path}/labels.csv names 2 files that are not among the images, and are left out: gone.jpg and nope.",
    )
    found = list_with(tmp_path, f"file,label\n,cat\n,dog\n{ROWS}")
    assert found.notices[1:] == (
        f"{tmp_path}/labels.csv has 2 rows without a file name (line 2 first), which are left out.",
    )


def test_labels_that_differ_in_case_only_are_named(tmp_path: Path) -> None:
    found = list_with(tmp_path, "file,label\na,cat\nb,Dog\nc,CAT\nd,dog\n")
    assert found.class_names == ("CAT", "Dog", "cat", "dog")
    assert found.notices[1:] == (
        f"{tmp_path}/labels.csv has classes that differ in upper and lower case only, and are read as different ones: "
        "CAT / cat and Dog / dog; if they are one, give both one name.",
    )


def test_a_first_line_may_name_a_separator_that_is_not_known(tmp_path: Path) -> None:
    assert list_with(tmp_path, "sep=|\nfile|label\na|cat\nb|dog\n").class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty, and needs a column file"),
        ("x,y\na,cat\n", r"has the columns x and y, and needs a column file"),
        ("file,x\na,cat\n", r"needs .* a column label"),
        ("file,label\n", "names no image that is in"),
        ("file,label\nz,cat\n", r"names no image that is in .*, z first; name the folder"),
        ("file,label\na,cat\na,dog\nb,dog\n", r"line 3: a is dog, and is cat in line 2; an image has one label"),
        ("file,label\na,cat\nb,cat\n", r"has one label only, cat, for training images"),
        ("file,label\na,cat\nb,dog\na,\n", r"line 4: a has no label, and is cat in line 2; an image has one label"),
        ("file,label\na,\nb,dog\na,cat\n", r"line 4: a is cat, and has no label in line 2; an image has one label"),
        (
            "file,label,split\na,cat,val\na,cat,train\nb,dog,train\n",
            "line 3: a is cat in train, and is cat in val in line 2; an image has one label and is in one part",
        ),
        (
            "file,label,split\na,cat,train\nb,dog,train\nc,Cat,val\n",
            r"labels in its val part that no training image has: Cat; there Cat is cat: give both one name\.",
        ),
        (
            "file|label\na|cat\nb|dog\n",
            r"has one column, file\|label; known separators are commas, semicolons and tabs: use one of them, or name "
            r"another one in a first line sep=\|\.",
        ),
        (
            "file,label,split\na,cat,train\nb,dog,holdout\n",
            r"line 3: the part is holdout; known are train, val and test",
        ),
        (
            "file,label,split\na,cat,train\nb,dog,train\nc,owl,val\n",
            r"labels in its val part that no training image has: owl",
        ),
        ("file,label\nx.jpg,cat\nb,dog\n", r"line 2: x\.jpg may mean a/x\.jpg or c/x\.jpg; write the folder too"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(CifartuiError, match=words):
        list_with(tmp_path, text, *IMAGES, "a/x.jpg", "c/x.jpg")


def test_a_table_that_is_not_there_and_loose_images_that_have_one(tmp_path: Path) -> None:
    write(tmp_path, *IMAGES[:2])
    with pytest.raises(CifartuiError, match=r"gone\.csv cannot be read \(No such file or directory\)"):
        list_images(tmp_path, "gone.csv")
    (tmp_path / "train.csv").write_text("file,label\n")
    with pytest.raises(CifartuiError, match=r"lie loose.*data\.labels=train\.csv\."):
        list_images(tmp_path)


@pytest.mark.parametrize("named", ["dog/1.jpg", "old/dog/1.jpg", "dog\\1.jpg", "dog/1"])
def test_a_file_that_is_not_there_is_no_other_of_its_name(tmp_path: Path, named: str) -> None:
    found = list_with(
        tmp_path, f"file,label\n{named},dog\ncat/2.jpg,cat\nowl/3.jpg,owl\n", "cat/1.jpg", "cat/2.jpg", "owl/3.jpg"
    )
    assert found.train == Files(("cat/2.jpg", "owl/3.jpg"), (0, 1))
    said = f"names a file that is not among the images, and is left out: {named}"
    assert any(said in notice for notice in found.notices)


@pytest.mark.parametrize("named", ["cat/1.jpg", "old/photos/cat/1.jpg", "photos/cat/1.png", "1.jpg", "1"])
def test_folders_above_the_images_may_be_others(tmp_path: Path, named: str) -> None:
    found = list_with(tmp_path, f"file,label\n{named},cat\n2,dog\n", "photos/cat/1.jpg", "photos/dog/2.jpg")
    assert found.train.names == ("photos/cat/1.jpg", "photos/dog/2.jpg")


def test_what_follows_a_dot_in_a_name_is_part_of_it(tmp_path: Path) -> None:
    found = list_with(tmp_path, "file,label\nv1.2,cat\nv1,dog\nb,cat\n", "v1.jpg", "b.jpg")
    assert found.train == Files(("b.jpg", "v1.jpg"), (0, 1))


def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path: Path) -> None:
    with pytest.raises(CifartuiError, match="the quote that begins in line 3 is not closed"):
        list_with(tmp_path, 'file,label\na,cat\nb,"dog\nc,cat\nd,dog\n')


@pytest.mark.parametrize("label", ["--5", pytest.param("9" * 5000, id="long")])
def test_labels_that_are_almost_numbers_are_names(tmp_path: Path, label: str) -> None:
    assert set(list_with(tmp_path, f"file,label\na,{label}\nb,3\n").class_names) == {label, "3"}


def test_labels_that_look_the_same_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CifartuiError, match="Two classes look the same, a␊b"):
        list_with(tmp_path, 'file,label\na,"a\nb"\nb,a␊b\n')


@pytest.mark.parametrize("around", ["", "images/", "kaggle/data/"])
def test_folders_around_all_images_hide_no_part(tmp_path: Path, around: str) -> None:
    images = [f"{around}{name}" for name in ("train/a.jpg", "train/b.jpg", "test/c.jpg", "test/d.jpg")]
    found = list_with(tmp_path, "id,label\na,cat\nb,dog\nc,cat\nd,dog\n", *images)
    assert found.train.names == (images[0], images[1])
    assert found.test.names == (images[2], images[3]), "no test image is trained on"
    (tmp_path / f"{around}test/e.jpg").symlink_to("nowhere")
    found = list_with(tmp_path, "id,label\na,cat\nb,dog\n", *images)
    assert (found.unlabelled, found.unlabelled_unread) == (tuple(images[2:]), (f"{around}test/e.jpg",))


def test_a_table_divides_its_images_alike_wherever_they_lie(tmp_path: Path) -> None:
    names = [f"{folder}/{number}.jpg" for folder in ("cat", "dog") for number in range(60)]
    rows = "".join(f"{name},{name.split('/')[0]}\n" for name in names)
    here = list_with(tmp_path / "a", f"file,label\n{rows}", *names)
    deeper = list_with(tmp_path / "b", f"file,label\n{rows}", *(f"all/images/{name}" for name in names))
    windows = list_with(tmp_path / "c", f"file,label\n{rows}".replace("/", "\\"), *names, "owl/other.jpg")
    taken = [
        {Path(listing.train.names[row]).parts[-2:] for row in split_by_name(listing, "every-tenth", 0).val}
        for listing in (here, deeper, windows)
    ]
    assert 5 < len(taken[0]) < 25
    assert taken[0] == taken[1] == taken[2]


def test_images_without_a_validation_image_of_a_class_get_it_by_a_column_of_parts(tmp_path: Path) -> None:
    found = list_with(tmp_path, f"file,label\n{ROWS}")
    with pytest.raises(CifartuiError, match=r"or give the table a column split, with val for some\.$"):
        check_validation(found, "every-tenth", (0,))
    said = without_drawn(found, [0], 0)
    assert "; give the table a column split, with val for images of each class, or set data.validation=" in said


@pytest.mark.parametrize(
    ("name", "content", "has"),
    [
        ("t.csv", b"file,label\n", True),
        ("t.csv", "Image Name;Category\r\n".encode("utf-16"), True),
        ("t.tsv", b"path\tclass", True),
        ("t.csv", b"sep=|\nid|species\n", True),
        ("t.csv", b'"file","label', True),
        ("t.csv", b"epoch,acc\n", False),
        ("t.csv", b"file,size\n", False),
        ("t.csv", b"", False),
        ("t.csv", b"\xff\0\0\0abc\0", False),
        ("t.csv", b"x" * 200_000, False),
    ],
)
def test_columns_are_told_by_the_first_line_alone(name: str, content: bytes, *, has: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert label_table.has_columns(tmp_path / name) == has
    assert not label_table.has_columns(tmp_path / "absent.csv")
