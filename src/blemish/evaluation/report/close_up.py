"""A photo cut to its defect, and what is drawn on it: outlines, the highest pixel, a heat map on its own scale."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blemish.inference.overlay import Rgb, blend_heat
from blemish.inference.score import resize_map
from blemish.stats.regions import grow_mask

TRUE_COLOUR, CALLED_COLOUR = (255, 214, 0), (0, 229, 255)
"""Yellow: defective. Cyan: called defective. Both lines have a black edge, so that any photo shows them."""

SIDE_PX = 420
"""The longest side of a close-up."""

_MARGIN = 1.9
_LEAST_SHARE = 0.16
_DARK = 115
_BRIGHT = 235.0

Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""Top, left, bottom, right."""


@final
@dataclass(frozen=True, eq=False)
class CloseUp:
    """A part of a photo, with what the map and the mask have there; all of one size."""

    image: Rgb
    anomaly_map: NDArray[np.float32]  # (h, w)
    mask: Mask | None  # (h, w)
    box: tuple[float, float, float, float]  # in shares of the photo's height and width
    is_brightened: bool


def cut_close_up(photo: Rgb, anomaly_map: NDArray[np.float32], mask: Mask | None, threshold: float) -> CloseUp:
    """The square around the true defect, or around what is called defective, or around the highest pixel.

    `mask` is at the photo's own size `(h, w)`, the map at the network's.
    """
    large = resize_map(anomaly_map, (photo.shape[0], photo.shape[1]))
    where = mask if mask is not None and mask.any() else large > np.float64(threshold)
    box = box_around(where if where.any() else large >= large.max())
    top, left, bottom, right = box
    cut = photo[top:bottom, left:right]
    size_px = _fit((bottom - top, right - left), SIDE_PX)
    image, is_brightened = brighten(_resize(cut, size_px))
    return CloseUp(
        image=image,
        anomaly_map=resize_map(large[top:bottom, left:right], size_px),
        mask=None if mask is None else resize_map(mask[top:bottom, left:right].astype(np.float32), size_px) > 0,
        box=(top / photo.shape[0], left / photo.shape[1], bottom / photo.shape[0], right / photo.shape[1]),
        is_brightened=is_brightened,
    )


def box_around(where: Mask) -> Box:
    """A square around the marked pixels with a margin, inside the image; at least a sixth of its shorter side.

    >>> mask = np.zeros((100, 200), bool); mask[40:50, 3:9] = True
    >>> box_around(mask)
    (35, 0, 54, 19)
    """
    rows, columns = (np.flatnonzero(where.any(axis=axis)) for axis in (1, 0))
    extent = max(int(rows[-1] - rows[0]), int(columns[-1] - columns[0])) + 1
    side = round(max(_MARGIN * extent, _LEAST_SHARE * min(where.shape), 8))
    spans = []
    for spots, length in zip((rows, columns), where.shape, strict=True):
        own = min(side, length)
        start = min(max(0, (int(spots[0]) + int(spots[-1]) + 1 - own) // 2), length - own)
        spans.append((start, start + own))
    (top, bottom), (left, right) = spans
    return top, left, bottom, right


def brighten(image: Rgb) -> tuple[Rgb, bool]:
    """A dark image with its levels stretched, and whether that was done.

    >>> brighten(np.full((2, 2, 3), 40, np.uint8))[1], brighten(np.full((2, 2, 3), 200, np.uint8))[1]
    (True, False)
    """
    low, high = (float(level) for level in np.percentile(image, (1, 99)))
    if high >= _DARK:
        return image, False
    stretched = (image.astype(np.float32) - low) * (_BRIGHT / max(high - low, 1.0))
    return np.asarray(np.clip(stretched, 0, 255), np.uint8), True


def outline(image: Rgb, mask: Mask, colour: tuple[int, int, int]) -> Rgb:
    """The image with a line just outside of the mask, black at its outer edge.

    >>> mask = np.zeros((7, 7), bool); mask[3, 3] = True
    >>> outline(np.full((7, 7, 3), 9, np.uint8), mask, (255, 0, 0))[3, :, 0]
    array([  9,   0, 255,   9, 255,   0,   9], dtype=uint8)
    """
    width = max(1, round(max(mask.shape) / 140))
    line = grow_mask(mask, width)
    drawn = image.copy()
    drawn[grow_mask(line, max(1, width // 2)) & ~line] = 0
    drawn[line & ~mask] = colour
    return drawn


def outlines(image: Rgb, called: Mask, mask: Mask | None) -> Rgb:
    """What is called defective in cyan, what is defective in yellow."""
    drawn = outline(image, called, CALLED_COLOUR)
    return drawn if mask is None else outline(drawn, mask, TRUE_COLOUR)


def own_scale(image: Rgb, anomaly_map: NDArray[np.float32]) -> Rgb:
    """The image in grey under its map from its median to its highest pixel, which is ringed.

    Says where the map is highest whatever the threshold; colours of two images do not compare.
    """
    low, high = float(np.median(anomaly_map)), float(anomaly_map.max())
    heat = np.clip((anomaly_map - low) / (high - low), 0.0, 1.0) if high > low else np.zeros_like(anomaly_map)
    return ring_peak(blend_heat(image, np.asarray(heat, np.float32)), anomaly_map)


def ring_peak(image: Rgb, anomaly_map: NDArray[np.float32]) -> Rgb:
    """The image with a ring around the highest pixel of the map; the middle of them, where several are as high."""
    rows, columns = np.nonzero(anomaly_map >= anomaly_map.max())
    row, column = int(np.median(rows)), int(np.median(columns))
    if anomaly_map[row, column] < anomaly_map.max():
        row, column = int(rows[0]), int(columns[0])
    reach, width = max(5, round(0.05 * max(image.shape[:2]))), max(1, round(max(image.shape[:2]) / 110))
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    for colour, extra in (((0, 0, 0), width), ((255, 255, 255), 0)):
        box = [column - reach - extra, row - reach - extra, column + reach + extra, row + reach + extra]
        pen.ellipse(box, outline=colour, width=width + 2 * extra)
    return np.asarray(picture)


def frame(image: Rgb, box: tuple[float, float, float, float]) -> Rgb:
    """The image with a frame around a part of it, given in shares of height and width."""
    height, width = image.shape[:2]
    top, left, bottom, right = box
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    left, top, right, bottom = left * width, top * height, right * width - 1, bottom * height - 1
    line = max(1, round(max(height, width) / 110))
    for colour, extra in (((0, 0, 0), line), ((255, 255, 255), 0)):
        outer = [left - extra, top - extra, right + extra, bottom + extra]
        pen.rectangle(outer, outline=colour, width=line + 2 * extra)
    return np.asarray(picture)


def _fit(size_px: tuple[int, int], longest_px: int) -> tuple[int, int]:
    scale = longest_px / max(size_px)
    return max(1, round(size_px[0] * scale)), max(1, round(size_px[1] * scale))


def _resize(image: Rgb, size_px: tuple[int, int]) -> Rgb:
    how = Image.Resampling.NEAREST if size_px[0] > 4 * image.shape[0] else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize((size_px[1], size_px[0]), how))
