"""Image files as a viewer shows them: each with the pixels that it has to give, made by Pillow and numpy here."""

import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms, JpegImagePlugin, features

from engine.data.image_pixels import WHITE, Colour, read_square
from engine.shared import image_formats
from engine.shared.image_formats import Fault, fault_of

SIZE = 16
Pixels = npt.NDArray[np.uint8]
RANDOM = np.random.default_rng(7)
COLOURS: Pixels = RANDOM.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
GREYS: Pixels = np.arange(256, dtype=np.uint8).reshape(SIZE, SIZE)
"""Every level once."""
MASK: npt.NDArray[np.bool_] = RANDOM.random((SIZE, SIZE)) < 0.5


def read(path: Path, background: Colour = WHITE, size: int = SIZE) -> Pixels:
    return read_square(path, size, background)


def grey(levels: npt.NDArray[np.generic]) -> Pixels:
    """Return levels in three equal planes."""
    return np.repeat(levels.astype(np.uint8)[..., None], 3, axis=2)


def fault(path: Path) -> Fault | None:
    try:
        read(path)
    except Exception as error:
        return fault_of(error, path)
    return None


# --- orientation: what is done to the stored pixels so that they are upright, by EXIF's own table ----

UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "jpg"])
def test_all_eight_orientations_are_turned_upright(suffix: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{suffix}"
    more = {"webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}}.get(suffix, {})
    stored = COLOURS if suffix != "jpg" else np.kron(COLOURS[::8, ::8], np.ones((8, 8, 1), np.uint8))
    Image.fromarray(stored).save(path, exif=exif, **more)
    tolerance = 4 if suffix == "jpg" else 0
    assert np.abs(read(path).astype(int) - UPRIGHT[orientation](stored)).max() <= tolerance


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_an_oblong_photograph_is_turned_whole(orientation: int, tmp_path: Path) -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32, 16:48] = (255, 0, 0)  # of the middle square, a corner
    pixels[32:, 48:80] = (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    square = UPRIGHT[orientation](pixels[:, 16:80])
    shown = read(tmp_path / "x.png")
    for y in (2, 13):
        for x in (2, 13):
            assert shown[y, x].tolist() == square[y * 4, x * 4].tolist()


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOURS).save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(read(tmp_path / "x.png"), COLOURS)


def test_damaged_exif_data_does_no_harm(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "x.png", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert np.array_equal(read(tmp_path / "x.png"), COLOURS)


# --- depth ------------------------------------------------------------------------------------------


def tiff(path: Path, values: npt.NDArray[np.generic], tags: dict[int, int | tuple[int, ...]] | None = None) -> Path:
    """Write a greyscale TIFF by hand, in the byte order of `values`."""
    order = "<" if values.dtype.newbyteorder("=") == values.dtype and values.dtype.byteorder != ">" else ">"
    bits = values.dtype.itemsize * 8
    form = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    height, width = values.shape
    content = values.tobytes()
    entries: dict[int, int] = {
        256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: len(content), 339: form,
    }  # fmt: skip
    entries |= tags or {}
    directory = struct.pack(f"{order}H", len(entries))
    for tag, value in sorted(entries.items()):
        directory += struct.pack(f"{order}HHII", tag, 4, 1, value)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(content))
    path.write_bytes(start + content + directory + b"\0\0\0\0")
    return path


SIXTEEN = GREYS.astype(np.uint16) * 257
"""Every level at 16 bits."""


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bit_greyscale_tiff_is_scaled(order: str, tmp_path: Path) -> None:
    assert np.array_equal(read(tiff(tmp_path / "x.tif", SIXTEEN.astype(order))), grey(GREYS))


def test_16_bit_greyscale_png_is_scaled(tmp_path: Path) -> None:
    Image.fromarray(SIXTEEN).save(tmp_path / "x.png")
    assert np.array_equal(read(tmp_path / "x.png"), grey(GREYS))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("bits", "largest"), [(8, 255), (12, 4095)])
def test_fewer_bits_in_16_are_scaled_by_their_own_range(suffix: str, bits: int, largest: int, tmp_path: Path) -> None:
    values = np.round(GREYS * (largest / 255)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"x.{suffix}")
    assert np.array_equal(read(tmp_path / f"x.{suffix}"), grey(GREYS))


def test_a_tiff_of_12_bits_goes_by_what_it_states(tmp_path: Path) -> None:
    values = (GREYS.astype(np.uint16) // 2 * 4095 // 255).reshape(-1, 2)  # none above the half: the range is not theirs
    first, second = values[:, 0], values[:, 1]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8)
    content = packed.reshape(SIZE, -1)
    tags = {256: SIZE, 258: 12}
    shown = read(tiff(tmp_path / "x.tif", content, tags))
    assert np.array_equal(shown, grey((values.reshape(SIZE, SIZE).astype(int) * 255 + 2047) // 4095))


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<i4", ">i4", "<u4", "<i2", ">i2"])
def test_floats_and_integers_are_scaled(dtype: str, tmp_path: Path) -> None:
    largest = 4095 if dtype[1] != "f" else 1.0
    values = GREYS.astype(np.float64) * largest / 255
    stored = (values if dtype[1] == "f" else np.round(values)).astype(dtype)
    assert np.array_equal(read(tiff(tmp_path / "x.tif", stored)), grey(GREYS))


@pytest.mark.parametrize(("white", "over"), [(1, 1.02), (1, 2), (255, 1.2), (4095, 1.25), (65535, 1.01)])
def test_floats_above_white_are_clipped(white: int, over: float, tmp_path: Path) -> None:
    values = (GREYS / 255 * white).astype("<f4")
    values[3, 3] = white * over
    expected = GREYS.copy()
    expected[3, 3] = 255
    assert np.array_equal(read(tiff(tmp_path / "x.tif", values)), grey(expected))


def test_integers_have_no_margin_above_white(tmp_path: Path) -> None:
    values = np.clip(GREYS.astype("<i4"), 0, 254)
    values[3, 3] = 256
    assert read(tiff(tmp_path / "x.tif", values)).max() == 16


def test_floats_from_0_to_255_stay_what_they_are(tmp_path: Path) -> None:
    assert np.array_equal(read(tiff(tmp_path / "x.tif", GREYS.astype("<f4"))), grey(GREYS))


def test_integers_of_the_whole_range_of_32_bits_are_scaled(tmp_path: Path) -> None:
    values = GREYS.astype(np.uint64) * 0x01010101
    assert np.array_equal(read(tiff(tmp_path / "x.tif", values.astype("<u4"))), grey(GREYS))


@pytest.mark.parametrize("dtype", ["<u2", "<f4"])
def test_white_may_be_zero(dtype: str, tmp_path: Path) -> None:
    values = SIXTEEN if dtype == "<u2" else GREYS / np.float32(255)
    assert np.array_equal(read(tiff(tmp_path / "x.tif", values.astype(dtype), {262: 0})), grey(255 - GREYS))


@pytest.mark.parametrize("wrong", [-1.0, 1e6, np.nan, np.inf])
def test_numbers_without_a_known_range_are_refused_with_the_reason(wrong: float, tmp_path: Path) -> None:
    values = GREYS.astype("<f4")
    values[3, 3] = wrong
    assert fault(tiff(tmp_path / "x.tif", values)) == Fault.NO_RANGE
    assert "not known" in Fault.NO_RANGE.text


def test_a_dark_image_of_a_format_that_states_its_range_stays_dark(tmp_path: Path) -> None:
    path = tmp_path / "x.pgm"
    path.write_bytes(b"P5 16 16 4095\n" + GREYS.astype(">u2").tobytes())
    assert read(path).max() == round(255 * 255 / 4095)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("largest", [255, 4095, 65535])
def test_colours_of_16_bits_are_scaled_too(order: str, largest: int, tmp_path: Path) -> None:
    values = np.round(COLOURS * (largest / 255)).astype(np.uint16)
    path = tiff_of_colours(tmp_path / "x.tif", values) if order == "<" else png_of_colours(tmp_path / "x.png", values)
    assert np.abs(read(path).astype(int) - COLOURS).max() <= (largest == 65535)


@pytest.mark.parametrize("opaque", [4095, 65535])
@pytest.mark.parametrize("form", ["LA", "RGBA", "TIFF"])
@pytest.mark.parametrize("largest", [255, 4095, 65535])
def test_fewer_bits_in_16_are_scaled_with_alpha_too(form: str, largest: int, opaque: int, tmp_path: Path) -> None:
    opaque = max(opaque, largest)
    colours = grey(GREYS) if form == "LA" else COLOURS
    values = np.round(np.dstack([colours * (largest / 255), MASK * opaque])).astype(np.uint16)
    if form == "TIFF":
        path = tiff_of_colours(tmp_path / "x.tif", values, 2)
    else:
        values = values[..., 2:] if form == "LA" else values
        path = png(tmp_path / "x.png", values, 16, 4 if form == "LA" else 6)
    expected = over(colours, MASK * 255, (10, 120, 230))
    assert np.abs(read(path, (10, 120, 230)).astype(int) - expected).max() <= (largest == 65535)


def test_alpha_of_a_pixel_that_is_half_clear_goes_by_12_bits_where_colours_do(tmp_path: Path) -> None:
    values = np.full((SIZE, SIZE, 4), 2048, np.uint16)
    shown = read(png(tmp_path / "x.png", values, 16, 6), (0, 0, 0))
    assert set(shown.flatten().tolist()) == {(128 * 128 + 127) // 255}


def tiff_of_colours(path: Path, values: npt.NDArray[np.generic], extra: int | None = None) -> Path:
    """Write a TIFF of several samples a pixel by hand; `extra` says what the last one is."""
    height, width, samples = values.shape
    content = values.astype(values.dtype.newbyteorder("<")).tobytes()
    entries = {256: width, 257: height, 258: 0, 259: 1, 262: 2, 273: 8, 277: samples, 278: height, 279: len(content)}
    entries |= {} if extra is None else {338: extra}
    at = 8 + len(content)
    directory = struct.pack("<H", len(entries))
    for tag, value in sorted(entries.items()):
        if tag == 258:
            directory += struct.pack("<HHII", tag, 3, samples, at + 2 + 12 * len(entries) + 4)
        else:
            directory += struct.pack("<HHII", tag, 4, 1, value)
    bits = struct.pack(f"<{samples}H", *[values.dtype.itemsize * 8] * samples)
    path.write_bytes(b"II*\0" + struct.pack("<I", at) + content + directory + b"\0" * 4 + bits)
    return path


def png(path: Path, values: npt.NDArray[np.generic], depth: int, kind: int, *chunks: tuple[bytes, bytes]) -> Path:
    """Write a PNG by hand: samples at their depth, and chunks before them."""
    height, width = values.shape[:2]
    rows = values.astype(">u2" if depth == 16 else np.uint8)
    if depth < 8:
        flat = rows.reshape(height, width)
        bits = np.unpackbits(flat[..., None], axis=2)[..., 8 - depth :]
        rows = np.packbits(bits.reshape(height, -1), axis=1)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(body)), (b"IEND", b"")]:
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content)
    return path


def png_of_colours(path: Path, values: npt.NDArray[np.uint16]) -> Path:
    return png(path, values, 16, 2)


# --- transparency -----------------------------------------------------------------------------------


def over(colours: Pixels, alpha: npt.NDArray[np.generic], background: Colour) -> Pixels:
    a = alpha.astype(int)[..., None]
    return ((colours.astype(int) * a + np.array(background) * (255 - a) + 127) // 255).astype(np.uint8)


BACKGROUNDS: list[Colour] = [WHITE, (0, 0, 0), (10, 120, 230)]


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_rgba_is_laid_over_the_background(suffix: str, background: Colour, tmp_path: Path) -> None:
    alpha = GREYS
    image = Image.fromarray(np.dstack([COLOURS, alpha]))
    image.save(tmp_path / f"x.{suffix}", **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    assert np.array_equal(read(tmp_path / f"x.{suffix}", background), over(COLOURS, alpha, background))


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_la_is_laid_over_the_background(background: Colour, tmp_path: Path) -> None:
    Image.merge("LA", [Image.fromarray(GREYS), Image.fromarray(GREYS.T.copy())]).save(tmp_path / "x.png")
    assert np.array_equal(read(tmp_path / "x.png", background), over(grey(GREYS), GREYS.T, background))


@pytest.mark.parametrize("suffix", ["png", "gif"])
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_a_transparent_entry_of_a_palette_is_laid_over_it(background: Colour, suffix: str, tmp_path: Path) -> None:
    palette = [255, 0, 0, 0, 255, 0]  # red, and green that is hidden
    image = Image.fromarray(MASK.astype(np.uint8), "L")
    indexed = Image.frombytes("P", (SIZE, SIZE), image.tobytes())
    indexed.putpalette(palette)
    indexed.save(tmp_path / f"x.{suffix}", transparency=1)
    expected = np.where(MASK[..., None], np.array(background), np.array([255, 0, 0]))
    assert np.array_equal(read(tmp_path / f"x.{suffix}", background), expected)


def test_every_entry_of_a_palette_may_have_its_own_transparency(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 3, (SIZE, SIZE))
    palette = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    alphas = np.array([255, 100, 0], np.uint8)
    png(tmp_path / "x.png", values, 8, 3, (b"PLTE", palette.tobytes()), (b"tRNS", alphas.tobytes()))
    assert np.array_equal(read(tmp_path / "x.png"), over(palette[values], alphas[values], WHITE))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_of_every_depth_is_laid_over_it(depth: int, tmp_path: Path) -> None:
    largest = (1 << depth) - 1
    values = RANDOM.integers(0, largest + 1, (SIZE, SIZE))
    values[0, 0], values[0, 1] = largest, largest // 2
    clear = int(values[0, 1])
    png(tmp_path / "x.png", values, depth, 0, (b"tRNS", struct.pack(">H", clear)))
    expected = np.where(values[..., None] == clear, 9, grey((values * 255 + largest // 2) // largest))
    assert np.array_equal(read(tmp_path / "x.png", (9, 9, 9)), expected)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_is_laid_over_it(depth: int, tmp_path: Path) -> None:
    scale = 257 if depth == 16 else 1
    colours = COLOURS.copy()
    colours[MASK] = (40, 50, 60)
    clear = struct.pack(">HHH", 40 * scale, 50 * scale, 60 * scale)
    png(tmp_path / "x.png", colours.astype(np.uint16) * scale, depth, 2, (b"tRNS", clear))
    assert np.array_equal(read(tmp_path / "x.png"), np.where(MASK[..., None], 255, colours))


def test_premultiplied_colours_are_laid_over_it(tmp_path: Path) -> None:
    alpha = np.full((SIZE, SIZE), 128, np.uint8)
    multiplied = (COLOURS.astype(int) * 128 // 255).astype(np.uint8)
    tiff_of_colours(tmp_path / "x.tif", np.dstack([multiplied, alpha]), extra=1)
    expected = over(COLOURS, alpha, WHITE)
    assert np.abs(read(tmp_path / "x.tif").astype(int) - expected).max() <= 2


def test_hidden_colours_do_not_bleed_when_the_image_is_made_smaller(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[...] = (255, 0, 255, 0)  # hidden magenta
    pixels[:, :30] = (0, 100, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    shown = read(tmp_path / "x.png").astype(int)
    assert (shown[..., 1] >= 100).all()
    assert (shown[..., 0] == shown[..., 2]).all()
    assert (shown[:, -4:] == 255).all()


# --- colour spaces ----------------------------------------------------------------------------------

INKS = np.full((SIZE, SIZE, 4), (30, 200, 90, 40), np.uint8)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_becomes_rgb(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(INKS, "CMYK").save(tmp_path / f"x.{suffix}", **({"quality": 100} if suffix == "jpg" else {}))
    expected = [(255 - ink) * (255 - 40) / 255 for ink in (30, 200, 90)]
    assert np.abs(read(tmp_path / f"x.{suffix}") - np.array(expected)).max() <= (3 if suffix == "jpg" else 1)


def save_ycck(path: Path, **options: object) -> None:
    """Write INKS as Adobe's programs do: cyan, magenta and yellow as luma and chroma, black inverted."""
    luma = np.asarray(Image.fromarray(INKS[..., :3]).convert("YCbCr"))
    stored = np.dstack([255 - luma, INKS[..., 3]])  # Pillow inverts what it writes
    file = io.BytesIO()
    Image.fromarray(stored, "CMYK").save(file, "JPEG", quality=100, **options)
    content = bytearray(file.getvalue())
    content[content.index(b"Adobe") + 11] = 2  # its transform: YCCK
    path.write_bytes(content)


def test_ycck_becomes_rgb(tmp_path: Path) -> None:
    save_ycck(tmp_path / "x.jpg")
    expected = [(255 - ink) * (255 - 40) / 255 for ink in (30, 200, 90)]
    assert np.abs(read(tmp_path / "x.jpg") - np.array(expected)).max() <= 3


def cmyk_profile() -> bytes:
    """Return a profile of inks that are all grey: L is 100 without ink, and 50 less 10 for each of four full inks."""
    lightness = [100 if not inks else 50 - 10 * inks.bit_count() for inks in range(16)]
    corners = b"".join(bytes((light * 255 // 100, 128, 128)) for light in lightness)
    identity = struct.pack(">9i", *(65536 * (at % 4 == 0) for at in range(9)))
    to_lab = (
        b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + bytes(range(256)) * 4 + corners + bytes(range(256)) * 3
    )
    white = struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"wtpt": b"XYZ " + bytes(4) + white, b"A2B0": to_lab}
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4xI", start + len(body), 0x02400000) + b"prtrCMYKLab ".ljust(24, b"\0") + b"acsp"
    return header.ljust(68, b"\0") + white + bytes(48) + table + body


@pytest.mark.parametrize("kind", ["cmyk.jpg", "ycck.jpg", "cmyk.tif"])
def test_a_profile_goes_with_inks(kind: str, tmp_path: Path) -> None:
    profile = cmyk_profile()
    if kind == "ycck.jpg":
        save_ycck(tmp_path / kind, icc_profile=profile)
    else:
        options = {"quality": 100} if kind.endswith("jpg") else {}
        Image.fromarray(INKS, "CMYK").save(tmp_path / kind, icc_profile=profile, **options)
    source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    aware = ImageCms.profileToProfile(Image.fromarray(INKS, "CMYK"), source, srgb, outputMode="RGB")
    shown, expected = read(tmp_path / kind).astype(int), np.asarray(aware).astype(int)
    assert np.abs(shown - expected).max() <= 3
    assert np.ptp(shown[0, 0]) <= 3  # grey, and not the magenta of these inks without the profile


def test_lab_becomes_rgb(tmp_path: Path) -> None:
    lab = np.full((SIZE, SIZE, 3), (136, 80, 67), np.uint8)  # CIE L 53.3, a 80, b 67: red
    Image.frombytes("LAB", (SIZE, SIZE), lab.tobytes()).save(tmp_path / "x.tif")
    red, green, blue = read(tmp_path / "x.tif")[0, 0].astype(int)
    assert (red >= 250, green <= 20, blue <= 20) == (True, True, True)


def with_profile(name: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()  # type: ignore[arg-type]


def wide_profile() -> bytes:
    """Return a profile whose green and red are those of each other: sRGB with its colorants in another order."""
    content = bytearray(with_profile("sRGB"))
    (count,) = struct.unpack_from(">I", content, 128)
    entries = {content[132 + 12 * i : 136 + 12 * i].decode(): 132 + 12 * i for i in range(count)}
    red, green = entries["rXYZ"], entries["gXYZ"]
    content[red : red + 4], content[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(content)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_colours_of_another_profile_are_converted_to_srgb(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(
        tmp_path / f"x.{suffix}", icc_profile=wide_profile(), **({"lossless": True} if suffix == "webp" else {})
    )
    assert np.abs(read(tmp_path / f"x.{suffix}").astype(int) - COLOURS[..., [1, 0, 2]]).max() <= 2


def test_a_profile_goes_with_transparency(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([COLOURS, GREYS])).save(tmp_path / "x.png", icc_profile=wide_profile())
    expected = over(COLOURS[..., [1, 0, 2]], GREYS, WHITE)
    assert np.abs(read(tmp_path / "x.png").astype(int) - expected).max() <= 2


@pytest.mark.parametrize(
    "profile", [with_profile("sRGB"), b"no profile", with_profile("LAB")], ids=["sRGB", "none", "LAB"]
)
def test_srgb_and_profiles_of_no_use_change_nothing(profile: bytes, tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "x.png", icc_profile=profile)
    assert np.array_equal(read(tmp_path / "x.png"), COLOURS)


# --- formats ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["JPEG2000", "AVIF", "WEBP", "TIFF", "BMP", "PNG", "PPM", "GIF"])
def test_formats_are_read_whatever_the_name(name: str, tmp_path: Path) -> None:
    if name == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    more = {"AVIF": {"quality": 100, "subsampling": "4:4:4"}, "WEBP": {"lossless": True}}.get(name, {})
    few = np.kron(RANDOM.integers(0, 256, (4, 4, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
    Image.fromarray(few).save(tmp_path / "photograph", name, **more)
    assert np.abs(read(tmp_path / "photograph").astype(int) - few).max() <= (3 if name == "AVIF" else 0)


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (SIZE, SIZE), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "x.gif", save_all=True, append_images=[second])
    assert (read(tmp_path / "x.gif") == (255, 0, 0)).all()


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", Fault.EMPTY),
        (b"not an image at all", Fault.NO_IMAGE),
        (HEIC, Fault.NEEDS_HEIF),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), Fault.NO_IMAGE),
    ],
)
def test_what_is_not_read_has_its_reason(
    content: bytes, reason: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    image_formats.formats.cache_clear()
    (tmp_path / "x.jpg").write_bytes(content)
    assert fault(tmp_path / "x.jpg") == reason
    image_formats.formats.cache_clear()


@pytest.fixture
def pillow_heif() -> Any:
    """Return the package, after it is made known to Pillow."""
    package = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    package.register_heif_opener()
    return package


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.usefixtures("pillow_heif")
def test_heif_is_turned_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.kron(COLOURS[::8, ::8], np.ones((8, 8, 1), np.uint8))
    Image.fromarray(stored).save(tmp_path / "x.heic", exif=exif.tobytes(), quality=100, chroma=444)
    assert np.abs(read(tmp_path / "x.heic").astype(int) - UPRIGHT[orientation](stored)).max() <= 4


def test_heif_of_16_bits_is_scaled_and_a_clear_one_is_laid_over_white(pillow_heif: Any, tmp_path: Path) -> None:
    halves = np.full((SIZE, SIZE), 1 << 15, np.uint16).tobytes()
    pillow_heif.from_bytes(mode="I;16", size=(SIZE, SIZE), data=halves).save(tmp_path / "deep.heic", quality=100)
    assert np.abs(read(tmp_path / "deep.heic").astype(int) - 128).max() <= 1
    Image.new("RGBA", (SIZE, SIZE), (255, 0, 0, 0)).save(tmp_path / "clear.heic")
    assert read(tmp_path / "clear.heic").min() == 255


def test_half_an_image_is_damaged(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(COLOURS).save(file, "PNG")
    (tmp_path / "x.png").write_bytes(file.getvalue()[:500])
    assert fault(tmp_path / "x.png") == Fault.DAMAGED


def test_links_to_nothing_and_pipes_have_their_reasons(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    assert fault(tmp_path / "link.png") == Fault.ABSENT
    assert fault(tmp_path / "folder.png") == Fault.NOT_REGULAR


# --- large JPEG -------------------------------------------------------------------------------------


def photograph(path: Path, height: int, width: int) -> None:
    """Write a JPEG of waves and noise, whose finest waves are a fifth of the height."""
    y, x = np.mgrid[:height, :width] * (50 / height)
    waves = [127 + 110 * np.sin(x / (0.9 + 0.7 * i) + i) * np.cos(y / (1.1 + 0.5 * i)) for i in range(3)]
    noise = RANDOM.integers(-8, 8, (height, width, 3))
    Image.fromarray((np.dstack(waves) + noise).clip(0, 255).astype(np.uint8)).save(path, quality=92)


@pytest.mark.parametrize(
    ("height", "width", "size", "decoded"),
    [
        (1531, 2043, 64, 192), (1531, 2043, 128, 383), (1531, 2043, 224, 766), (1531, 2043, 500, 1531),
        (161, 213, 20, 41), (161, 213, 40, 81), (161, 213, 80, 161),
    ],
)  # fmt: skip
def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(
    height: int, width: int, size: int, decoded: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no smaller than twice what is asked for, so that the difference is small: the docs state it."""
    path = tmp_path / "x.jpg"
    photograph(path, height, width)
    heights = []
    load = JpegImagePlugin.JpegImageFile.load

    def noted(image: Image.Image) -> object:
        heights.append(image.height)
        return load(image)  # type: ignore[arg-type]

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", noted)
    shown = read(path, size=size).astype(int)
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", lambda image, mode, size: None)
    whole = read(path, size=size).astype(int)
    assert (heights[0], heights[-1]) == (decoded, height)
    assert decoded >= min(height, 2 * size)
    difference = np.abs(shown - whole)
    assert difference.max() <= 12
    assert difference.mean() <= 2.0
