"""The confusion matrix as SVG and PNG, and the reliability diagram: places, colours, hostile names, and sizes."""

import io
from xml.etree import ElementTree

import pytest
from PIL import Image

from engine.runs.predictions import Predictions
from engine.runs.scores import Bin
from tests.unit.test_scores import made
from tui.plots.confusion import RIGHT, WRONG, matrix_of, matrix_png, matrix_svg, shade
from tui.plots.reliability import reliability_svg

_SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=1>', "a&b\u202e")


def many(num_classes: int, per_class: int = 2) -> Predictions:
    """Return predictions of which every second image is taken for the class half the classes away."""
    true = tuple(label for label in range(num_classes) for _ in range(per_class))
    predicted = tuple((label + row % 2 * (num_classes // 2)) % num_classes for row, label in enumerate(true))
    found: Predictions = made(true, predicted, tuple(f"class {number}" for number in range(num_classes)))
    return found


def test_a_cell_says_in_words_what_it_holds() -> None:
    root = ElementTree.fromstring(matrix_svg(matrix_of(made((0, 0, 0, 1, 2, 2), (0, 1, 2, 1, 2, 0)))))
    assert [title.text for title in root.iter(f"{_SVG}title")] == [
        "cat recognised: 1 of 3 (33.3 %)", "cat taken for dog: 1 of 3 (33.3 %)", "cat taken for oak: 1 of 3 (33.3 %)",
        "dog recognised: 1 of 1 (100.0 %)", "oak taken for cat: 1 of 2 (50.0 %)", "oak recognised: 1 of 2 (50.0 %)",
    ]  # fmt: skip


def test_names_of_a_file_are_no_markup() -> None:
    svg = matrix_svg(matrix_of(made((0, 1, 2), (1, 1, 2), HOSTILE)))
    root = ElementTree.fromstring(svg)
    assert {element.tag for element in root.iter()} == {f"{_SVG}{tag}" for tag in ("svg", "rect", "title", "text")}
    assert "<script>alert(1)</script>" in {text.text for text in root.iter(f"{_SVG}text")} or "<script" not in svg


def test_a_few_classes_keep_their_order_and_many_stand_by_what_is_confused() -> None:
    assert matrix_of(many(12)).classes == tuple(range(12))
    classes = matrix_of(many(14)).classes
    place = {index: number for number, index in enumerate(classes)}
    assert sorted(classes) == list(range(14))
    assert all(abs(place[label] - place[label + 7]) == 1 for label in range(7))


def test_a_class_without_images_that_is_predicted_has_an_empty_row() -> None:
    matrix = matrix_of(made((0, 0), (0, 1)))
    assert matrix.names == ("cat", "dog")
    assert (matrix.totals, matrix.sentence(1, 1)) == ((2, 0), "dog recognised: 0 of 0")


def test_right_is_blue_and_wrong_orange_the_more_the_darker() -> None:
    assert (shade(1.0, is_right=True), shade(1.0, is_right=False)) == (RIGHT, WRONG)
    assert shade(0.0, is_right=True) == shade(0.0, is_right=False) == (255, 255, 255)
    assert shade(0.3, is_right=False) > shade(0.6, is_right=False)


def test_every_tenth_class_has_a_line_to_follow_where_there_are_many() -> None:
    assert "M" not in "".join(path.get("d", "") for path in _paths(matrix_svg(matrix_of(many(20)))))
    (lines,) = _paths(matrix_svg(matrix_of(many(30))))
    assert lines.get("d", "").count("H") == lines.get("d", "").count("V") == 2


def _paths(svg: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(f"{_SVG}path"))


def test_a_reliability_diagram_has_the_accuracy_and_its_distance_to_the_confidence() -> None:
    bins = (
        Bin(low=0.0, high=0.5, num_images=4, hits=3, mean_confidence=0.25),  # not sure enough
        Bin(low=0.5, high=1.0, num_images=2, hits=1, mean_confidence=0.75),  # too sure
    )
    groups = list(ElementTree.fromstring(reliability_svg(bins)).iter(f"{_SVG}g"))
    assert [group.findtext(f"{_SVG}title") for group in groups] == [
        "confidence 0 to 50 %: 4 images, 75.0 % right, mean confidence 25.0 %",
        "confidence 50 to 100 %: 2 images, 50.0 % right, mean confidence 75.0 %",
    ]
    for group, accuracy, low, high in ((groups[0], 0.75, 0.25, 0.75), (groups[1], 0.5, 0.5, 0.75)):
        both, distance, line, images = ([float(bar.get(name, "")) for name in ("y", "height")] for bar in group[1:])
        assert both == [pytest.approx(294 - 280 * low), 280 * low]
        assert distance == [294 - 280 * high, pytest.approx(280 * (high - low))]
        assert sum(line) - line[1] / 2 == pytest.approx(294 - 280 * accuracy)
        assert images[1] == (64 if group is groups[0] else 32)


def test_the_picture_has_the_cells_of_the_page() -> None:
    picture = Image.open(io.BytesIO(matrix_png(matrix_of(made((0, 0, 1), (0, 1, 1), ("a", "b"))))))
    colors = {color for _, color in picture.getcolors(100_000)}
    assert {RIGHT, shade(0.5, is_right=True), shade(0.5, is_right=False)} <= colors


@pytest.mark.parametrize("num_classes", [1, 2, 13, 51, 121, 301, 1000])
def test_the_picture_of_any_number_of_classes_has_a_size_that_a_viewer_opens(num_classes: int) -> None:
    picture = Image.open(io.BytesIO(matrix_png(matrix_of(many(num_classes)))))
    assert picture.width == picture.height <= 5000


def test_a_pillow_without_a_font_of_any_size_writes_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFont

    bitmap = ImageFont.load_default_imagefont()

    def load_default() -> ImageFont.ImageFont:
        return bitmap

    monkeypatch.setattr(ImageFont, "load_default", load_default)
    assert Image.open(io.BytesIO(matrix_png(matrix_of(many(3))))).format == "PNG"
