"""The region of interest: where in a photo defects are looked for, and what of the photo the network is shown.

The settings `data.roi` and `data.ignore` are areas: polygons, or a mask image. The network sees the box around the
region with a margin (`Window`), so that its border is seen in its surroundings; what lies farther outside, and what is
ignored, is black to it.
"""

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blemish.data.deep import SIXTEEN_BIT_MODES, depth_of
from blemish.data.masks import ASPECT_TOLERANCE, open_mask, refuse_photo
from blemish.data.tiles import Box
from blemish.errors import DataError, SettingsError
from blemish.settings.shapes import Polygon, bounds
from blemish.stats.regions import grow_mask

Mask = NDArray[np.bool_]
Shares = tuple[float, float, float, float]
"""left, top, right, bottom of a box in shares of a photo's width and height."""

MARGIN = 1 / 16
"""How far around the region the network sees, as a share of the longer side of the box around it."""

MAX_MAP_PX = 1 << 24
"""Pixels of the map of a photo, of which the network sees a part; more only where the photo has more."""

_FINE, _MOST_FINE_PX = 4, 1 << 22
"""Polygons are drawn so many times finer than needed, so that pixel centres decide; larger ones as they are."""


@final
@dataclass(frozen=True)
class AreaOfPhoto:
    """A part of a photo in shares of its width and height: polygons, or a mask at a size of its own."""

    polygons: tuple[Polygon, ...] = ()
    mask: Mask | None = None

    def box(self) -> Shares | None:
        """The box around it; None where nothing is inside."""
        if self.mask is None:
            return bounds(self.polygons)
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        if not rows.size:
            return None
        height, width = self.mask.shape
        left, right = columns[0] / width, (columns[-1] + 1) / width
        return float(left), float(rows[0] / height), float(right), float((rows[-1] + 1) / height)

    def draw(self, window: "Window") -> Mask:
        """Which pixels of a window `(h, w)` have their centre inside."""
        (top, left, bottom, right), (rows, columns) = window.box, window.map_px
        height, width = window.size_px
        if self.mask is not None:
            tall, wide = self.mask.shape
            part = (left * wide / columns, top * tall / rows, right * wide / columns, bottom * tall / rows)
            picture = Image.fromarray(np.uint8(self.mask) * np.uint8(255))
            return np.asarray(picture.resize((width, height), Image.Resampling.NEAREST, part)) > 0
        scale = _FINE if height * width <= _MOST_FINE_PX else 1
        canvas = Image.new("1", (width * scale, height * scale))
        for polygon in self.polygons:
            corners = [((x * columns - left) * scale - 0.5, (y * rows - top) * scale - 0.5) for x, y in polygon]
            ImageDraw.Draw(canvas).polygon(corners, fill=1)
        return np.asarray(canvas.resize((width, height), Image.Resampling.NEAREST), np.bool_)


@final
class Window(NamedTuple):
    """What the network sees of the map of a photo: `size_px` (height, width) of `map_px`, from top and left on."""

    size_px: tuple[int, int]
    map_px: tuple[int, int]
    at_px: tuple[int, int]

    @property
    def box(self) -> Box:
        """top, left, bottom, right in the map."""
        (height, width), (top, left) = self.size_px, self.at_px
        return top, left, top + height, left + width


@final
class Region(NamedTuple):
    """Where defects are looked for; `roi` None: everywhere but where it is ignored."""

    roi: AreaOfPhoto | None
    ignore: AreaOfPhoto | None

    def draw(self, window: Window) -> tuple[Mask, Mask]:
        """The region of interest in a window `(h, w)`, and what of it the network is shown.

        Raises:
            SettingsError: no pixel is inside.
        """
        inside = np.ones(window.size_px, np.bool_) if self.roi is None else self.roi.draw(window)
        box = (0.0, 0.0, 1.0, 1.0) if self.roi is None else self.roi.box() or (0.0, 0.0, 0.0, 0.0)
        longer = MARGIN * max((box[3] - box[1]) * window.map_px[0], (box[2] - box[0]) * window.map_px[1])
        shown = grow_mask(inside, math.ceil(longer))
        if self.ignore is not None:
            ignored = self.ignore.draw(window)
            inside, shown = inside & ~ignored, shown & ~ignored
        if not inside.any():
            height, width = window.map_px
            if self.roi is None:
                raise SettingsError(
                    f"data.ignore: covers every pixel of the {height} x {width} image; what counts in a mask is white"
                )
            but = ", as data.ignore covers it" if self.ignore is not None else ""
            raise SettingsError(f"data.roi: no pixel of the {height} x {width} image lies inside it{but}")
        return inside, shown


def read_area(name: str, given: str | tuple[Polygon, ...], photo_px: tuple[int, int]) -> AreaOfPhoto:
    """The area that the setting `name` gives for photos of this height and width.

    Polygons are in shares of width and height where no number is above 1, else in pixels of these photos. A mask may
    have another size, if it has the photos' aspect.

    Raises:
        DataError: the mask cannot be read, is of another aspect, or is a photo.
        SettingsError: a polygon that leaves the photo, crosses itself or has hardly any area; an empty mask.

    >>> area = read_area("data.roi", (((0, 0), (50, 0), (50, 100), (0, 100)),), (100, 100))
    >>> area.box(), area.draw(Window((2, 4), (2, 4), (0, 0))).tolist()
    ((0.0, 0.0, 0.5, 1.0), [[True, True, False, False], [True, True, False, False]])
    """
    if isinstance(given, str):
        return _read_mask(name, given, photo_px)
    height, width = photo_px
    left, top, right, bottom = bounds(given)
    in_pixels = max(right, bottom) > 1
    if min(left, top) < 0 or (in_pixels and (right > width or bottom > height)):
        raise SettingsError(
            f"{name}: a corner lies outside the photo: found x from {left:g} to {right:g} and y from {top:g} to "
            f"{bottom:g}; a photo is {width} wide and {height} high (1 and 1 in shares)"
        )
    scale = (1 / width, 1 / height) if in_pixels else (1.0, 1.0)
    polygons = tuple(tuple((x * scale[0], y * scale[1]) for x, y in polygon) for polygon in given)
    for number, polygon in enumerate(polygons, start=1):
        corners = np.array(polygon) * (width, height)
        problem = "crosses itself" if crosses_itself(corners) else "has no area" if _area(corners) < 1e-9 else ""
        if problem:
            raise SettingsError(f"{name}: polygon {number} of {len(polygons)} {problem}; give its corners in order")
        if in_pixels and _area(corners) <= 1.0:  # probably meant as shares
            raise SettingsError(
                f"{name}: polygon {number} of {len(polygons)} covers at most one pixel: as a number is above 1, all "
                "are pixels; give all as pixels, or all as shares"
            )
    return AreaOfPhoto(polygons)


def _read_mask(name: str, path: str, photo_px: tuple[int, int]) -> AreaOfPhoto:
    try:
        mask = open_mask(Path(path))
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    if abs(mask.height / mask.width * photo_px[1] / photo_px[0] - 1.0) > ASPECT_TOLERANCE:
        raise DataError(
            f"{name}: {path}: a mask of {mask.height} x {mask.width} (height x width), the photos are {photo_px[0]} x "
            f"{photo_px[1]}; draw it on one of them"
        )
    shown = _on_black(mask)
    values = np.asarray(shown if shown.mode in ("1", "L", *SIXTEEN_BIT_MODES, "F") else shown.convert("L"))
    if (depth := depth_of(mask)) is not None and depth.is_min_white:
        values = depth.white - values
    refuse_photo(shown, values, f"{name}: {path}")
    area = AreaOfPhoto(mask=np.asarray(values > (values.max() / 2 if mask.info["lossy"] else 0)))
    if area.box() is None:
        hint = "; is the drawing in its transparency? Save it as white on black" if shown is not mask else ""
        raise SettingsError(f"{name}: {path}: a mask without a single pixel above 0; what counts is white in it{hint}")
    return area


def _on_black(mask: Image.Image) -> Image.Image:
    """What is transparent in a mask is black."""
    if not mask.has_transparency_data:
        return mask
    return Image.alpha_composite(Image.new("RGBA", mask.size, (0, 0, 0, 255)), mask.convert("RGBA"))


def _area(corners: NDArray[np.float64]) -> float:
    x, y = corners.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def crosses_itself(corners: NDArray[np.float64]) -> bool:
    """Whether two sides of a polygon `(n, 2)` cross, other than where they meet.

    >>> crosses_itself(np.array([[0, 0], [1, 1], [1, 0], [0, 1]])), crosses_itself(np.array([[0, 0], [1, 0], [0, 1]]))
    (True, False)
    """
    start, end = corners[:, None], np.roll(corners, -1, axis=0)[:, None]

    def side(points: NDArray[np.float64]) -> NDArray[np.float64]:
        """On which side of each polygon side `(n, 1)` the points `(1, n)` lie."""
        along, to = end - start, points[None] - start
        found: NDArray[np.float64] = np.sign(along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0])
        return found

    parts = side(start[:, 0]) * side(end[:, 0]) < 0  # the ends of side j lie on both sides of side i
    return bool((parts & parts.T).any())


def place_window(region: AreaOfPhoto, photo_px: tuple[int, int], least_px: tuple[int, int]) -> Box:
    """The pixels of a photo (top, left, bottom, right) that the network sees: the region's box with a margin.

    It is at least `least_px` (height, width) large, where the photo is.

    >>> place_window(AreaOfPhoto((((0.5, 0.5), (0.6, 0.5), (0.6, 0.7)),)), (100, 200), (8, 8))
    (48, 98, 72, 122)
    """
    found = region.box()
    assert found is not None
    sides = (found[1] * photo_px[0], found[3] * photo_px[0]), (found[0] * photo_px[1], found[2] * photo_px[1])
    margin = MARGIN * max(high - low for low, high in sides)
    spans = []
    for (low, high), most, least in zip(sides, photo_px, least_px, strict=True):
        more = max(margin, (least - (high - low)) / 2)
        first = math.floor(max(0.0, min(low - more, most - least)) + 1e-6)
        last = math.ceil(min(float(most), max(high + more, first + least)) - 1e-6)
        spans.append((first, last))
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]


def window_of(part: Box, photo_px: tuple[int, int], size_px: tuple[int, int]) -> Window:
    """The window in which a network sees the part of a photo (top, left, bottom, right) at `size_px`.

    >>> window_of((50, 0, 100, 100), (100, 100), (32, 64))
    Window(size_px=(32, 64), map_px=(64, 64), at_px=(32, 0))
    """
    sides, starts = [], []
    for seen, first, last, photo in zip(size_px, part[:2], part[2:], photo_px, strict=True):
        side = max(seen, round(seen * photo / (last - first)))
        start = side - seen if last == photo else round(first * side / photo)
        sides.append(side)
        starts.append(0 if first == 0 else min(start, side - seen))
    return Window(size_px, (sides[0], sides[1]), (starts[0], starts[1]))


def encode_roi(roi: Mask) -> str:
    """A mask as text.

    >>> decode_roi(encode_roi(np.eye(2, dtype=bool))).tolist()
    [[True, False], [False, True]]
    """
    buffer = io.BytesIO()
    Image.fromarray(roi).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decode_roi(text: str) -> Mask:
    """What `encode_roi` wrote."""
    with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as image:
        return np.array(image, dtype=np.bool_)
