"""The one pixel policy of the project: from a file to numbers in [0, 1]. Pillow and numpy only.

What happens to an image, in this order:

1. The header is read; an image of more than `max_image_px` pixels is refused before it is decoded.
2. It is decoded, and turned as its EXIF orientation says. Of several frames or pages the first is taken.
3. It becomes grey (1 channel, ITU-R 601 luma) or RGB (3 channels). Palettes are looked up, CMYK is converted, and
   transparent pixels are laid over black. 16-bit grey keeps its 16 bits.
4. 16-bit values are divided by the value of white (`white_level`, or 65535); values above white are white.
5. It is resized to `size_px` with Pillow's bilinear filter, whose support grows with the reduction, so that nothing
   aliases: 8-bit images in 8 bits, the others in 32-bit floats. An image that has this size already is left alone.
6. 8-bit values are divided by 255.
7. Pixels outside the region of interest, where there is one, become 0, so that nothing there can matter.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from blemish.data.decode import GREY_MODES, SIXTEEN_BIT_MODES, ImageLike, name_of, named_errors, open_image
from blemish.data.masks import ASPECT_TOLERANCE, decode_roi
from blemish.errors import DataError
from blemish.settings import LARGEST_IMAGE_PX, Settings, Side

Values = NDArray[np.uint8] | NDArray[np.float32]
"""An image at its own size, `(h, w)` or `(h, w, 3)`, as `read_values` gives it."""


class PixelPolicy(Settings):
    """How an image becomes what the network sees. Stored in the artifact, honoured wherever it is used."""

    size_px: tuple[Side, Side] = Field(description="Height and width the network sees.")
    channels: Literal[1, 3] = 3
    white_level: Annotated[int, Field(ge=1, le=65_535)] | None = None
    max_image_px: Annotated[int, Field(ge=64, le=LARGEST_IMAGE_PX)] = 100_000_000
    aspect: float | None = Field(
        None, description="Height / width an image must have, within 5 %. None: any, it is resized to size_px as it is."
    )
    roi_png: str | None = Field(None, description="The region of interest at size_px, a PNG in base64. None: all.")
    tile_px: tuple[Side, Side] | None = Field(None, description="Height and width of the tiles. None: in one piece.")
    tile_overlap_px: Annotated[int, Field(ge=0)] = Field(0, description="How far neighbouring tiles overlap.")

    @cached_property
    def roi(self) -> NDArray[np.bool_] | None:
        """The region of interest `(h, w)`, True inside; None where it is the whole image."""
        return None if self.roi_png is None else decode_roi(self.roi_png)

    @property
    def network_px(self) -> tuple[int, int]:
        """Height and width of what the network sees in one pass: the tile, or the image."""
        return self.tile_px or self.size_px


def load_image(image: ImageLike, policy: PixelPolicy) -> NDArray[np.float32]:
    """The image as the network sees it: float32 `(c, h, w)` in [0, 1].

    `image` is a file, a Pillow image, or an array `(h, w)`, `(h, w, 1)`, `(h, w, 3)` or `(h, w, 4)` of uint8,
    uint16, bool, or floats in [0, 1].

    Raises:
        DataError: missing, not an image, truncated, too large, of the wrong aspect, or of a kind not understood; with
            the file's name.

    >>> policy = PixelPolicy(size_px=(8, 8), channels=1)
    >>> load_image(np.full((16, 16), 51, np.uint8), policy)[0, 0, :2]
    array([0.2, 0.2], dtype=float32)
    """
    return prepare(image, policy).pixels()


@final
@dataclass(frozen=True)
class Prepared:
    """An image decoded and resized, which gives its pixels at once or tile by tile."""

    picture: Image.Image
    policy: PixelPolicy
    image_size_px: tuple[int, int]
    """Height and width of the image's own, upright."""
    is_grey: bool = False
    """Whether it is stored with one channel, whatever the network sees."""

    def pixels(self, box: tuple[int, int, int, int] | None = None) -> NDArray[np.float32]:
        """What the network sees, float32 `(c, h, w)` in [0, 1]; of a box (top, left, bottom, right), or of all."""
        top, left, bottom, right = box or (0, 0, *self.policy.size_px)
        cut = self.picture if box is None else self.picture.crop((left, top, right, bottom))
        pixels = np.asarray(cut, dtype=np.float32)  # (h, w) or (h, w, 3)
        if self.picture.mode != "F":
            pixels = pixels / np.float32(255.0)
        channels_last = pixels[:, :, None] if pixels.ndim == 2 else pixels  # (h, w, c)
        if channels_last.shape[2] != self.policy.channels:
            channels_last = np.repeat(channels_last, self.policy.channels, axis=2)
        image = np.array(channels_last.transpose(2, 0, 1), order="C")  # a copy: Pillow's own memory is read-only
        if self.policy.roi is not None:
            image *= self.policy.roi[top:bottom, left:right]
        return image


def prepare(image: ImageLike, policy: PixelPolicy) -> Prepared:
    """The image decoded, turned, converted and resized; what is left is cheap.

    Raises:
        DataError: as `load_image`.
    """
    return _prepared(open_image(image, policy.max_image_px), policy, name_of(image))


def prepare_content(content: bytes, path: Path, policy: PixelPolicy) -> tuple[Prepared, Image.Image]:
    """As `prepare`, of a file whose bytes have been read; and the image upright at its own size, for `drawable`.

    It is decoded once for both. `path` is for messages alone.

    Raises:
        DataError: as `load_image`.
    """
    upright = open_image(path, policy.max_image_px, content)
    return _prepared(upright, policy, str(path)), upright


def _prepared(original: Image.Image, policy: PixelPolicy, where: str) -> Prepared:
    _check_aspect(original.size, policy, where)
    height, width = policy.size_px
    with named_errors(where):
        deep = _unit_floats(original, policy.white_level, where)
        prepared = _eight_bit(original, policy.channels) if deep is None else deep
        if prepared.size != (width, height):
            prepared = prepared.resize((width, height), Image.Resampling.BILINEAR)
    return Prepared(prepared, policy, (original.height, original.width), original.mode in GREY_MODES)


def read_original(image: ImageLike, max_image_px: int = 100_000_000, white_level: int | None = None) -> Image.Image:
    """The image at its own size in 8-bit RGB, to draw on.

    Raises:
        DataError: as `load_image`.
    """
    return drawable(open_image(image, max_image_px), white_level, name_of(image))


def drawable(original: Image.Image, white_level: int | None, where: str) -> Image.Image:
    """A decoded image in 8-bit RGB, to draw on.

    Raises:
        DataError: 16-bit or float values out of their range; `where` is what the error calls the image.
    """
    with named_errors(where):
        deep = _unit_floats(original, white_level, where)
        if deep is not None:
            original = Image.fromarray(np.uint8(np.asarray(deep) * 255.0 + 0.5))
        return _eight_bit(original, 3)


def read_values(image: ImageLike, policy: PixelPolicy) -> Values:
    """The image at its own size as an array `(h, w)` or `(h, w, 3)`; `load_image` makes the same of either.

    8 bits; 16-bit grey as floats in [0, 1].

    Raises:
        DataError: as `load_image`.

    >>> read_values(np.full((8, 8), 51, np.uint8), PixelPolicy(size_px=(8, 8), channels=3)).shape
    (8, 8, 3)
    """
    original = open_image(image, policy.max_image_px)
    with named_errors(name_of(image)):
        deep = _unit_floats(original, policy.white_level, name_of(image))
        return np.array(_eight_bit(original, policy.channels) if deep is None else deep)


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


def _check_aspect(size: tuple[int, int], policy: PixelPolicy, where: str) -> None:
    if policy.aspect is None:
        return
    width, height = size
    if abs(height / width / policy.aspect - 1.0) > ASPECT_TOLERANCE:
        raise DataError(
            f"{where}: {height} x {width} (height x width), an aspect of {height / width:.3g}; the model is for "
            f"{policy.aspect:.3g}, within {ASPECT_TOLERANCE:.0%}. Crop it, or train with data.size_px set "
            "to resize every image to one size whatever its aspect"
        )


def _unit_floats(image: Image.Image, white_level: int | None, where: str) -> Image.Image | None:
    """A 16-bit or float image as floats in [0, 1]; None for 8-bit ones."""
    if image.mode != "F" and image.mode not in SIXTEEN_BIT_MODES:
        return None
    values = np.asarray(image, dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        if not (low >= 0.0 and high <= 1.0):  # also true for NaN
            raise DataError(f"{where}: float values from {low:g} to {high:g}; expected [0, 1], without NaN")
        return image
    if low < 0 or high > 65_535:
        raise DataError(f"{where}: integer values from {low:g} to {high:g}; expected 16 bits, 0 to 65535")
    return Image.fromarray(np.minimum(values / np.float32(white_level or 65_535), np.float32(1.0)))


def _eight_bit(image: Image.Image, channels: int) -> Image.Image:
    """8-bit grey or RGB. Transparency is laid over black."""
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        black = Image.new("RGBA", with_alpha.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, with_alpha)
    wanted = "L" if channels == 1 else "RGB"
    if image.mode == "LAB":  # which becomes grey in two steps only
        image = image.convert("RGB")
    return image if image.mode == wanted else image.convert(wanted)
