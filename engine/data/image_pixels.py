"""Pixels of an image file as a viewer shows them, cut to a square: orientation, depth, transparency, colour space.

The order is: decode (a large JPEG at a half, quarter or eighth of its size), 8 bits a sample, resize and crop, colours
to sRGB, transparency over the background, turn upright. All that comes after the crop costs next to nothing.
"""

import io
import sys
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from engine.shared.image_formats import Fault, UnreadableError, open_image
from presets.schema import Data

Colour: TypeAlias = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""
WHITE: Colour = (255, 255, 255)
_NAMED: dict[str, Colour] = {"white": WHITE, "gray": (128, 128, 128), "black": (0, 0, 0)}

_DRAFT = 2
"""A JPEG is decoded no smaller than this many times the size asked for; see docs/presets.md for the difference."""
_BITS = (8, 12, 16)
"""Depths that integer samples are taken for."""
_SIXTEEN_BITS = 65535
_OVERSHOOT = 1.25
"""Floating-point samples up to this many times the largest value of 8, 12 or 16 bits go by that value.

Cubic and Lanczos resampling overshoots an edge by a tenth, and a corner by a tenth of that more on each axis: 1.21.
"""
_HIGHLIGHTS = 2.0
"""Floating-point samples up to this go by 1: taken for levels of 255 they would all be black."""
_SRGB_TOLERANCE = 2
"""An ICC profile that changes no colour by more than so many of 255 levels is taken for sRGB."""
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation."""
_EXIF_KEYS = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_WHITE_IS_ZERO, _UNSIGNED = 0, (1,)
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_NATIVE = ";16L" if sys.byteorder == "little" else ";16B"
"""Tags of TIFF."""
_LOW_BYTES = {
    "RGB;16B": "RGB;16L", "RGB;16L": "RGB;16B", "RGBX;16B": "RGBX;16L", "RGBX;16L": "RGBX;16B",
    "RGBA;16B": "RGBA;16L", "RGBA;16L": "RGBA;16B", "LA;16B": "RGBA",
}  # fmt: skip
"""Forms in which Pillow reads the high byte of a sample, and those in which it takes the low one for it.

LA has no such form: as RGBA its bytes are the high and the low one of grey, then those of alpha.
"""
_PLAIN = {
    "1": "L", "P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB",
}  # fmt: skip
"""Modes that cannot be resized as they are, and what they become before."""


def background_of(data: Data) -> Colour:
    """Return the colour behind transparent pixels that a preset's data table asks for."""
    return _NAMED[data.background] if isinstance(data.background, str) else data.background


def read_square(path: Path, size: int, background: Colour) -> npt.NDArray[np.uint8]:
    """Return an image as uint8 [size, size, 3]: shorter side resized, keeping its shape, and the middle cut out.

    Args:
        path: of the image.
        size: in pixels.
        background: red, green and blue of what shows through transparent pixels.

    Raises:
        Exception: it cannot be read; `image_formats.fault_of` says why.
    """
    return read_square_and_range(path, size, background)[0]


def read_square_and_range(path: Path, size: int, background: Colour) -> tuple[npt.NDArray[np.uint8], bool]:
    """Return an image as `read_square` does, and true if white was guessed by its own samples, as of 8 or 12 bits."""
    with open_image(path) as image:
        return _square_and_range(image, size, background, path)


def square_of(image: Image.Image, size: int, background: Colour = WHITE) -> npt.NDArray[np.uint8]:
    """Return an open image as `read_square` returns a file. If it is loaded already, all of its pixels are resized.

    Colours of 16 bits go by their high bytes.
    """
    return _square_and_range(image, size, background, None)[0]


def _square_and_range(
    image: Image.Image, size: int, background: Colour, path: Path | None
) -> tuple[npt.NDArray[np.uint8], bool]:
    """Return what `read_square_and_range` does; `path` is read again for the low bytes of colours of 16 bits."""
    draft = image.draft(None, (_DRAFT * size, _DRAFT * size))
    _scale_clear_value(image)
    stored = _stored_form(image)
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    if path is not None and stored in _LOW_BYTES:
        square, by_own_range = _with_low_bytes(image, path)
    elif image.mode.startswith("I") or image.mode == "F":
        square, by_own_range = _of_depth(image)
    else:
        square, by_own_range = _plain(image), False
    width, height = draft[1][2:] if draft else square.size  # of a draft, the last row and column may be part of it
    if square.size != (size, size):
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        square = square.resize((size, size), Image.Resampling.BILINEAR, box)
    square = _in_srgb(square, image.info.get("icc_profile"))
    if turn is not None:
        square = square.transpose(turn)
    pixels = np.asarray(square)
    return pixels if square.mode == "RGB" else _over(pixels, background), by_own_range


def _orientation(image: Image.Image) -> int:
    """Return how a loaded image is to be turned, 1 to 8, as its EXIF or XMP data say. Pillow itself turns TIFF."""
    if image.format != "TIFF" and not any(key in image.info for key in _EXIF_KEYS):
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a photograph with damaged EXIF data is shown as it is
        return 1


def _stored_form(image: Image.Image) -> str:
    """Return how the samples of an image lie in its file, as Pillow calls it, before it is loaded; "" if unknown."""
    tiles = getattr(image, "tile", ())
    form = tiles[0][3] if tiles else ""
    return str(form[0] if isinstance(form, tuple) and form else form).replace(";16N", _NATIVE)


def _with_low_bytes(image: Image.Image, path: Path) -> tuple[Image.Image, bool]:
    """Return a loaded image of 16-bit colours as RGB or RGBA, and true if scaled by its own range of 12 or 8 bits.

    Pillow reads the high bytes, of which there is little or nothing then. Alpha fills as many bits as the colours, or
    more if it has larger samples: programs that add it to 12 bits write 4,095 or 65,535 for opaque.
    """
    high = np.asarray(image)
    if high[..., :3].max() >= 1 << (_BITS[1] - 8):
        return _plain(image), False
    with open_image(path) as again:
        tiles: list[Any] = again.tile  # type: ignore[attr-defined]
        form = _stored_form(again)
        again.tile = [_in_form(tile, _LOW_BYTES[form]) for tile in tiles]  # type: ignore[attr-defined]
        low = np.asarray(again)
    if form == "LA;16B":
        low = low[..., [1, 1, 1, 3]]
    values = high.astype(np.uint16) << 8 | low
    largest = _largest_of(values[..., :3])
    levels = _eight_bit_table(largest)[values]
    if levels.shape[-1] == 4:
        alpha = values[..., 3]
        levels[..., 3] = _eight_bit_table(max(largest, _largest_of(alpha)))[alpha]
    return Image.fromarray(levels), bool(largest < _SIXTEEN_BITS and values[..., :3].any())


def _largest_of(values: npt.NDArray[np.uint16]) -> int:
    """Return the largest sample value of the fewest bits that hold these."""
    return next((1 << bits) - 1 for bits in _BITS if values.max() < 1 << bits)


def _in_form(tile: Any, form: str) -> Any:
    """Return a tile of Pillow's with its samples in another form."""
    arguments = (form, *tile[3][1:]) if isinstance(tile[3], tuple) else form
    return tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments)


def _scale_clear_value(image: Image.Image) -> None:
    """Bring the transparent sample value of a PNG, stated at the depth of its file, to 8 bits as pixels will be."""
    clear = image.info.get("transparency")
    if image.format != "PNG" or isinstance(clear, bytes | None):
        return
    match _stored_form(image):
        case "1":
            image.info["transparency"] = 255 * bool(clear)
        case "L;2" | "L;4" as stored:
            image.info["transparency"] = clear * (85 if stored == "L;2" else 17)
        case "RGB;16B":
            image.info["transparency"] = tuple(value >> 8 for value in clear)


def _plain(image: Image.Image) -> Image.Image:
    """Return a loaded image of 8 bits a sample in L, LA, RGB, RGBA, CMYK or LAB: no palette."""
    has_clear = image.info.get("transparency") is not None
    if image.mode == "P":
        has_alpha = has_clear or (image.palette is not None and image.palette.mode == "RGBA")
        return image.convert("RGBA" if has_alpha else "RGB")
    if has_clear and image.mode in ("1", "L", "RGB"):
        return image.convert("RGBA")
    return image.convert(_PLAIN[image.mode]) if image.mode in _PLAIN else image


def _of_depth(image: Image.Image) -> tuple[Image.Image, bool]:
    """Return a greyscale image of more than 8 bits as L, or as LA if one of its sample values is transparent.

    Also returned is true if it was scaled by its own range of 8 or 12 bits.

    Raises:
        UnreadableError: which values are black and white is not known.
    """
    values, clear = np.asarray(image), image.info.get("transparency")
    tags = getattr(image, "tag_v2", {})
    if image.mode == "I" and tags.get(_SAMPLE_FORMAT) == _UNSIGNED:
        values = values.view(np.uint32)  # Pillow reads them as signed
    stated = _stated_largest(image, tags.get(_BITS_PER_SAMPLE, (16,))[0])
    largest = stated or _likely_largest(image, values)
    by_own_range = stated is None and 1 < largest < _SIXTEEN_BITS and bool(values.any())
    if values.dtype.kind == "u" and values.itemsize == 2:
        grey = _eight_bit_table(largest)[values]
    else:
        grey = np.minimum(values * np.float64(255 / largest) + 0.5, 255).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    if clear is None:
        return Image.fromarray(grey), by_own_range
    alpha = np.uint8(255) * (values != clear)
    return Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]), by_own_range


@cache
def _eight_bit_table(largest: int) -> npt.NDArray[np.uint8]:
    """Return the 8-bit levels of all 16-bit sample values, of which `largest` is white."""
    levels = (np.arange(65536) * 255 + largest // 2) // largest
    return np.minimum(levels, 255).astype(np.uint8)


def _stated_largest(image: Image.Image, stated_bits: int) -> int | None:
    """Return the sample value that is white if the file states a depth below 16 bits, or always uses all 16."""
    if image.mode.startswith("I;16") and stated_bits < 16:
        return (1 << stated_bits) - 1
    if image.format in ("PPM", "JPEG2000") and image.mode != "F":  # Pillow scales them to 16 bits
        return _SIXTEEN_BITS
    return None


def _likely_largest(image: Image.Image, values: npt.NDArray[Any]) -> int:
    """Return the sample value that is white, by the samples themselves.

    They go by the fewest of 8, 12 and 16 bits that hold them, because cameras put 12 bits into 16 and say nothing of
    it; floating-point numbers up to 1 go by 1, and integers of 32 bits above 16 by 32. Floating-point samples may be
    somewhat above the value that is white, as resampling and highlights leave them.
    """
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0:
        raise UnreadableError(Fault.NO_RANGE)
    if image.mode == "F" and high <= _HIGHLIGHTS:
        return 1
    margin = _OVERSHOOT if image.mode == "F" else 1
    for bits in _BITS:
        if high <= margin * ((1 << bits) - 1):
            return (1 << bits) - 1
    if values.dtype == np.uint32:
        return (1 << 32) - 1
    raise UnreadableError(Fault.NO_RANGE)


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return an image in RGB, or in RGBA if it has transparency: its colours as sRGB shows them."""
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if alpha is not None:
        image = image.convert("L" if image.mode == "LA" else "RGB")
    transform = _to_srgb(profile, image.mode) if profile and image.mode != "LAB" else None
    if transform is not None:
        image = transform.apply(image)
    elif image.mode != "RGB":
        image = image.convert("RGB")
    if alpha is None:
        return image
    image.putalpha(alpha)
    return image


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> Any:
    """Return a transform from an ICC profile to sRGB; None if they are the same, or the profile is of no use."""
    try:
        from PIL import ImageCms  # not in every build of Pillow

        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        probe = _probe(mode)
        change = np.asarray(transform.apply(probe)).astype(int) - np.asarray(probe.convert("RGB"))
    except Exception:  # a damaged profile, or one of another colour space: viewers go without it
        return None
    return transform if np.abs(change).max() > _SRGB_TOLERANCE else None


def _probe(mode: str) -> Image.Image:
    """Return an image with colours from all over the space of a mode."""
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    colours = np.stack(np.meshgrid(*[levels] * Image.getmodebands(mode)), axis=-1)
    return Image.frombytes(mode, (colours.size // colours.shape[-1], 1), colours.tobytes())


def _over(pixels: npt.NDArray[np.uint8], background: Colour) -> npt.NDArray[np.uint8]:
    """Return pixels uint8 [H, W, 4] laid over a colour: uint8 [H, W, 3]."""
    colour, alpha = pixels[..., :3].astype(np.uint32), pixels[..., 3:].astype(np.uint32)
    behind = np.asarray(background, np.uint32)
    return ((colour * alpha + behind * (255 - alpha) + 127) // 255).astype(np.uint8)
