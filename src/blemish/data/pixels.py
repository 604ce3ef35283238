"""A decoded image as an array: 8 bits or floats, grey or RGB, resized or at its own size."""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.deep import check_alpha, unit_bands
from blemish.data.named_errors import named_errors
from blemish.errors import DataError

Values = NDArray[np.uint8] | NDArray[np.float32]
"""An image at its own size, `(h, w)` or `(h, w, 3)`, as `read_values` gives it."""


Edges = tuple[float, float, float, float]
"""top, left, bottom, right of a part of an image, in its pixels."""


def _resize(band: Image.Image, size_px: tuple[int, int], part: Edges | None) -> Image.Image:
    """The band, or a part of it, at a size: columns first, then rows; pixels beside the part count as far as the filter
    reaches.

    In one call the order, and with it the last digit of many values, would depend on Pillow's version (from 13 on also
    on the sizes), and so would the scores of one model file.
    """
    (height, width), (top, left, bottom, right) = size_px, part or (0, 0, band.height, band.width)
    if part is not None:  # rows that the filter does not reach are left out; Pillow takes edges in 32 bits
        top, bottom = float(np.float32(top)), float(np.float32(bottom))
        reach = max((bottom - top) / height, 1.0) + 1.0
        first, last = max(0, int(top - reach)), min(band.height, math.ceil(bottom + reach))
        band, top, bottom = band.crop((0, first, band.width, last)), top - first, bottom - first
    columns = (width, band.height), (left, 0, right, band.height)
    for size, box in (columns, ((width, height), (0, top, width, bottom))):
        if box != (0, 0, *band.size) or size != band.size:
            band = band.resize(size, Image.Resampling.BILINEAR, box)
    return band


def refuse_constant(inside: Values, where: str) -> None:
    """Refuse pixels `(n,)` or `(n, 3)` that show nothing: a lens cap, an empty frame, a wrong white level.

    Raises:
        DataError: they are all the same; `where` is what the error calls the image.
    """
    if (inside[0] == inside[-1]).all() and (inside == inside[0]).all():
        scale = 255.0 if inside.dtype == np.uint8 else 1.0
        found = ", ".join(f"{value / scale:.3g}" for value in np.atleast_1d(inside[0]).tolist())
        raise DataError(
            f"{where}: the photo has one value everywhere, {found} (1 is white); look at the file, its transparency, "
            "data.white_level and data.roi"
        )


def image_values(
    original: Image.Image,
    white_level: int | None,
    channels: int,
    where: str,
    size_px: tuple[int, int] | None = None,
    part: Edges | None = None,
) -> Values:
    """An image as an array, grey or RGB, resized where a size (height, width) is given, all of it or a part.

    8 bits; 16-bit grey, and 16-bit colour with a `white_level`, as floats in [0, 1].

    Raises:
        DataError: values out of their range, or all of it transparent; `where` is what the error calls the image.
    """
    with named_errors(where):
        deep = unit_bands(original, white_level, channels, where)
        bands = [_eight_bit(original, channels, where)] if deep is None else deep
        arrays = [np.asarray(band if size_px is None else _resize(band, size_px, part)) for band in bands]
        return np.array(arrays[0]) if len(arrays) == 1 else np.stack(arrays, axis=2)


def drawable(original: Image.Image, white_level: int | None, where: str) -> Image.Image:
    """A decoded image in 8-bit RGB, to draw on.

    Raises:
        DataError: 16-bit or float values out of their range; `where` is what the error calls the image.
    """
    with named_errors(where):
        deep = unit_bands(original, white_level, 3, where)
        if deep is not None:
            eight = [Image.fromarray(np.uint8(np.asarray(band) * 255.0 + 0.5)) for band in deep]
            original = eight[0] if len(eight) == 1 else Image.merge("RGB", eight)
        return _eight_bit(original, 3, where)


def pixels_id(pixels: NDArray[np.float32]) -> str:
    """An image by what the network sees of it, however its file was saved: the start of a SHA-256.

    >>> pixels_id(np.zeros((1, 2, 2), np.float32)) == pixels_id(np.ones((1, 2, 2), np.float32))
    False
    """
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:16]


def as_pixels(values: Values) -> NDArray[np.float32]:
    """The image as float32 `(h, w, c)` in [0, 1].

    >>> as_pixels(np.full((2, 3), 255, np.uint8)).shape
    (2, 3, 1)
    """
    scale = np.float32(255 if values.dtype == np.uint8 else 1)
    pixels = np.asarray(values, np.float32) / scale
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _eight_bit(image: Image.Image, channels: int, where: str) -> Image.Image:
    """8-bit grey or RGB. Transparency is laid over black."""
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        check_alpha(with_alpha, where)
        black = Image.new("RGBA", with_alpha.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, with_alpha)
    wanted = "L" if channels == 1 else "RGB"
    if image.mode == "LAB":  # which becomes grey in two steps only
        image = image.convert("RGB")
    return image if image.mode == wanted else image.convert(wanted)
