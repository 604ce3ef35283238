"""The one pixel policy of the project: from a file to numbers in [0, 1]. Pillow and numpy only.

What happens to an image, in this order:

1. The header is read; an image of more than `max_image_px` pixels is refused before it is decoded.
2. It is decoded, and turned as its EXIF orientation says, or not at all if that is damaged. Of several frames or pages
   the first is taken.
3. It becomes grey (1 channel, ITU-R 601 luma) or RGB (3 channels, in this order). Palettes are looked up, CMYK is
   converted, and transparent pixels are laid over black. 16-bit grey keeps its 16 bits, 16-bit colour keeps them where
   `white_level` is given, and its 8 higher ones where it is not.
4. 16-bit values are divided by the value of white (`white_level`, or what the file's bits give, 65535 in most); values
   above white are white. A TIFF file that says that 0 is white is inverted.
5. It is resized to `size_px` with Pillow's bilinear filter, columns first, then rows; its support grows with the
   reduction, so that nothing aliases: 8-bit images in 8 bits, the others in 32-bit floats. An image that has this size
   already is left alone.
   Where `fit` is pad, it is resized as far as its aspect allows, and its border pixels are repeated beside it.
6. 8-bit values are divided by 255.
7. Where there is a region of interest, only the box around it, with a margin, is resized; what lies outside the margin
   and what is ignored becomes 0, so that nothing there can matter.

Arrays are taken as `(h, w, 3)` in the order red, green, blue. OpenCV has blue first: give `array[:, :, ::-1]`.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar, cast, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, model_validator

from blemish.data.decode import GREY_MODES, PAGES, UNTOLD, ImageLike, name_of, open_image
from blemish.data.deep import brightest_value, is_transparent
from blemish.data.masks import ASPECT_TOLERANCE
from blemish.data.pixels import Edges, Values, as_pixels, drawable, image_values, refuse_constant
from blemish.data.readings import READ_AS_MEANT, Reading, Readings
from blemish.data.roi import Window, decode_roi
from blemish.data.tiles import Box, tile_boxes
from blemish.errors import DataError
from blemish.settings import LARGEST_IMAGE_PX, ImageSide, Settings, Side

T = TypeVar("T", bound=np.generic)


class PixelPolicy(Settings):
    """How an image becomes what the network sees. Stored in the artifact, honoured wherever it is used."""

    size_px: tuple[ImageSide, ImageSide] = Field(description="Height and width the network sees.")
    fit: Literal["stretch", "pad"] = Field("stretch", description="How images of another aspect get there.")
    channels: Literal[1, 3] = 3
    white_level: Annotated[int, Field(ge=1, le=65_535)] | None = None
    max_image_px: Annotated[int, Field(ge=64, le=LARGEST_IMAGE_PX)] = 100_000_000
    aspect: float | None = Field(
        None, description="Height / width an image must have, within 5 %. None: any, it is resized to size_px as it is."
    )
    roi_png: str | None = Field(None, description="The region of interest at size_px, a PNG in base64. None: all.")
    shown_png: str | None = Field(
        None, description="What the network is shown of size_px, likewise; the rest is black. None: roi_png."
    )
    map_px: tuple[ImageSide, ImageSide] | None = Field(
        None, description="Height and width of the map of a photo, of which the network sees a part. None: it sees all."
    )
    at_px: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] = Field(
        (0, 0), description="Where in map_px that part begins, from the top and from the left."
    )
    tile_px: tuple[Side, Side] | None = Field(None, description="Height and width of the tiles. None: in one piece.")
    tile_overlap_px: Annotated[int, Field(ge=0)] = Field(0, description="How far neighbouring tiles overlap.")

    @cached_property
    def roi(self) -> NDArray[np.bool_] | None:
        """The region of interest `(h, w)`, True inside; None where it is the whole image."""
        return None if self.roi_png is None else decode_roi(self.roi_png)

    @cached_property
    def shown(self) -> NDArray[np.bool_] | None:
        """What the network is shown `(h, w)`: the region of interest and a margin; None where it is all."""
        return self.roi if self.shown_png is None else decode_roi(self.shown_png)

    @cached_property
    def tiles(self) -> list[Box] | None:
        """The tiles that hold something of the region of interest, row by row; None: seen in one piece.

        Raises:
            SettingsError: a tile larger than the image, or an overlap that leaves no way forward.
        """
        if self.tile_px is None:
            return None
        boxes = tile_boxes(self.size_px, self.tile_px, self.tile_overlap_px)
        roi = self.roi
        return boxes if roi is None else [box for box in boxes if roi[box[0] : box[2], box[1] : box[3]].any()]

    def new_readings(self, is_training: bool = False, photo_px: tuple[int, int] | None = None) -> Readings:
        """Where photos that a model with this policy judges, or is trained on, are counted.

        `photo_px` is the height and width of most photos of the training, if known.
        """
        return Readings(self.white_level, self.channels == 3, is_training, photo_px and self.enlargement(photo_px))

    def enlargement(self, image_size_px: tuple[int, int]) -> float:
        """How many times larger than it is an image of this height and width is seen, on both sides; at least 1.

        >>> policy = PixelPolicy(size_px=(64, 64))
        >>> policy.enlargement((16, 16)), policy.enlargement((16, 300)), policy.enlargement((300, 300))
        (4.0, 1.0, 1.0)
        """
        top, left, bottom, right = self.box(image_size_px)
        height, width = self.seen_px(image_size_px)
        return max(1.0, min((bottom - top) / height, (right - left) / width))

    @property
    def judged_share(self) -> float:
        """The share of a photo's pixels in which defects are looked for."""
        return 1.0 if self.roi is None else float(self.roi.sum() / math.prod(self.window.map_px))

    @property
    def window(self) -> Window:
        """What the network sees of the map of a photo."""
        return Window(self.size_px, self.map_px or self.size_px, self.at_px)

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        window = self.window
        if math.prod(window.map_px) > LARGEST_IMAGE_PX:
            raise ValueError(f"{window.map_px[0]} x {window.map_px[1]}: more than {LARGEST_IMAGE_PX} pixels")
        _, _, bottom, right = window.box
        if bottom > window.map_px[0] or right > window.map_px[1]:
            raise ValueError(f"{self.size_px} pixels from {self.at_px} on do not lie in {window.map_px}")
        if self.map_px is not None and self.fit == "pad":
            raise ValueError("a part of a photo that is padded")
        return self

    def part_px(self, image_size_px: tuple[int, int]) -> Edges | None:
        """What is seen of an image of this height and width: top, left, bottom, right in its pixels; None: all of it.

        >>> PixelPolicy(size_px=(8, 8), map_px=(16, 32), at_px=(8, 0)).part_px((100, 200))
        (50.0, 0.0, 100.0, 50.0)
        """
        if self.map_px is None:
            return None
        scales = [own / side for own, side in zip(image_size_px, self.map_px, strict=True)]
        top, left, bottom, right = (edge * scales[place % 2] for place, edge in enumerate(self.window.box))
        return top, left, min(bottom, float(image_size_px[0])), min(right, float(image_size_px[1]))

    def seen_px(self, image_size_px: tuple[int, int]) -> tuple[float, float]:
        """Height and width of what is seen of an image of this height and width, in its pixels."""
        top, left, bottom, right = self.part_px(image_size_px) or (0, 0, *image_size_px)
        return bottom - top, right - left

    def whole_map(self, seen: NDArray[T]) -> NDArray[T]:
        """What belongs to the pixels seen `(h, w)` as part of the map of a photo, 0 in the rest."""
        if self.map_px is None:
            return seen
        top, left, bottom, right = self.window.box
        whole = np.zeros(self.map_px, seen.dtype)
        whole[top:bottom, left:right] = seen
        return whole

    def box(self, image_size_px: tuple[int, int]) -> Box:
        """Where an image of this height and width lies in what the network sees; all of it unless it is padded.

        >>> PixelPolicy(size_px=(8, 16), fit="pad").box((30, 30))
        (0, 4, 8, 12)
        """
        height, width = self.size_px
        if self.fit == "stretch":
            return 0, 0, height, width
        scale = min(height / image_size_px[0], width / image_size_px[1])
        rows, columns = (max(1, round(side * scale)) for side in image_size_px)
        top, left = (height - rows) // 2, (width - columns) // 2
        return top, left, top + rows, left + columns

    def seen_of_map(self, whole: NDArray[T]) -> NDArray[T]:
        """The pixels seen `(h, w)` of what has the size of the map of a photo; without padding it is all."""
        if self.map_px is None:
            return whole
        top, left, bottom, right = self.window.box
        return whole[top:bottom, left:right]

    @property
    def network_px(self) -> tuple[int, int]:
        """Height and width of what the network sees in one pass: the tile, or the image."""
        return self.tile_px or self.size_px


def load_image(image: ImageLike, policy: PixelPolicy) -> NDArray[np.float32]:
    """The image as the network sees it: float32 `(c, h, w)` in [0, 1].

    `image` is a file, a Pillow image, or an array `(h, w)`, `(h, w, 1)`, `(h, w, 3)` or `(h, w, 4)` of uint8,
    uint16, bool, or floats in [0, 1]; channels in the order red, green, blue (OpenCV's: give `array[:, :, ::-1]`).

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

    values: Values
    """At the size the network sees, 8 bits or floats in [0, 1]."""
    policy: PixelPolicy
    image_size_px: tuple[int, int]
    """Height and width of the image's own, upright."""
    reading: Reading = READ_AS_MEANT
    pages: int = 1
    """Pages or frames of the file, of which this is the first."""

    @property
    def box(self) -> Box:
        """Where the image lies among the pixels; the rest is padding."""
        return self.policy.box(self.image_size_px)

    @property
    def inside(self) -> Values:
        """The pixels `(n,)` or `(n, 3)` that can matter: all, or those of the region of interest."""
        roi, values = self.policy.roi, self.values
        return values.reshape(-1, *values.shape[2:]) if roi is None else values[roi]

    def pixels(self, box: tuple[int, int, int, int] | None = None) -> NDArray[np.float32]:
        """What the network sees, float32 `(c, h, w)` in [0, 1]; of a box (top, left, bottom, right), or of all."""
        top, left, bottom, right = box or (0, 0, *self.policy.size_px)
        channels_first = np.atleast_3d(self.values[top:bottom, left:right]).transpose(2, 0, 1)  # (c, h, w)
        image = as_pixels(np.ascontiguousarray(channels_first))  # turned while its values are short
        if len(image) != self.policy.channels:
            image = np.repeat(image, self.policy.channels, axis=0)
        if self.policy.shown is not None:
            image *= self.policy.shown[top:bottom, left:right]
        return image


def prepare(image: ImageLike, policy: PixelPolicy) -> Prepared:
    """The image decoded, turned, converted and resized; what is left is cheap.

    Raises:
        DataError: as `load_image`.
    """
    return _prepared(open_image(image, policy.max_image_px), policy, name_of(image))


def prepare_photo(path: Path, policy: PixelPolicy) -> Prepared:
    """As `prepare`, of a file to be judged or trained on.

    Raises:
        DataError: as `load_image`, or its pixels are all the same.
    """
    prepared = prepare(path, policy)
    refuse_constant(prepared.inside, str(path))
    return prepared


def prepare_content(content: bytes, path: Path, policy: PixelPolicy) -> tuple[Prepared, Image.Image]:
    """As `prepare_photo`, of a file whose bytes have been read; and the image upright at its own size, for `drawable`.

    It is decoded once for both. `path` is for messages alone.

    Raises:
        DataError: as `load_image`, or its pixels are all the same.
    """
    upright = open_image(path, policy.max_image_px, content)
    prepared = _prepared(upright, policy, str(path))
    refuse_constant(prepared.inside, str(path))
    return prepared, upright


def _prepared(original: Image.Image, policy: PixelPolicy, where: str) -> Prepared:
    _check_aspect(original.size, policy, where)
    size_px = (original.height, original.width)
    top, left, bottom, right = policy.box(size_px)
    values = image_values(
        original, policy.white_level, policy.channels, where, (bottom - top, right - left), policy.part_px(size_px)
    )
    around = [(top, policy.size_px[0] - bottom), (left, policy.size_px[1] - right), (0, 0)]
    if policy.fit == "pad":
        values = cast(Values, np.pad(values, around[: values.ndim], mode="edge"))
    pages = original.info.get(PAGES, 1)
    is_grey, is_untold = original.mode in GREY_MODES, UNTOLD in original.info
    enlarged = policy.enlargement(size_px)
    reading = Reading(brightest_value(original), is_transparent(original), is_grey, is_untold, enlarged)
    return Prepared(values, policy, size_px, reading, pages)


def read_original(image: ImageLike, max_image_px: int = 100_000_000, white_level: int | None = None) -> Image.Image:
    """The image at its own size in 8-bit RGB, to draw on.

    Raises:
        DataError: as `load_image`.
    """
    return drawable(open_image(image, max_image_px), white_level, name_of(image))


def read_photo(path: Path, policy: PixelPolicy) -> tuple[Values, int | None]:
    """As `read_values`, of a file; and its brightest value, see `Prepared`.

    Raises:
        DataError: as `load_image`.
    """
    original = open_image(path, policy.max_image_px)
    values = image_values(original, policy.white_level, policy.channels, str(path))
    refuse_constant(values.reshape(-1, *values.shape[2:]), str(path))
    return values, brightest_value(original)


def read_values(image: ImageLike, policy: PixelPolicy) -> Values:
    """The image at its own size as an array `(h, w)` or `(h, w, 3)`; `load_image` makes the same of either.

    8 bits; 16-bit grey, and 16-bit colour with a `white_level`, as floats in [0, 1].

    Raises:
        DataError: as `load_image`.

    >>> read_values(np.full((8, 8), 51, np.uint8), PixelPolicy(size_px=(8, 8), channels=3)).shape
    (8, 8, 3)
    """
    original = open_image(image, policy.max_image_px)
    return image_values(original, policy.white_level, policy.channels, name_of(image))


def _check_aspect(size: tuple[int, int], policy: PixelPolicy, where: str) -> None:
    if policy.aspect is None:
        return
    width, height = size
    if abs(height / width / policy.aspect - 1.0) > ASPECT_TOLERANCE:
        advice = "Crop it, or train with data.fit=pad, or with data.size_px set to stretch every image to one size"
        if policy.roi_png is not None:
            advice = "The region of interest lies elsewhere in it: give photos of the aspect it was drawn on"
        raise DataError(
            f"{where}: {height} x {width} (height x width), an aspect of {height / width:.3g}; the model is for "
            f"{policy.aspect:.3g}, within {100 * ASPECT_TOLERANCE:.0f} %. {advice}"
        )
