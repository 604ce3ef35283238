"""Anomaly maps made visible on the image they belong to: numpy and Pillow, nothing else."""

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.photo_values import LUMA
from blemish.inference.score import resize_map
from blemish.stats.regions import grow_mask

Rgb = NDArray[np.uint8]
"""An image to look at: (h, w, 3), 0 to 255."""

_COLD_TO_HOT = np.array([(255, 225, 77), (250, 140, 20), (214, 35, 40), (120, 0, 90)], np.float32)
_CONTOUR = (0, 229, 255)
_STRONGEST_HEAT = 0.75
_STRIP_PX = 1_000_000
"""Pixels of an image that are drawn at a time."""


def overlay(image: Rgb, anomaly_map: NDArray[np.float32], threshold: float) -> Rgb:
    """The image in grey under its heat map, with a line around every defect.

    Grey, because a red heat on a red part is not seen. Heat begins at 0.8 of the threshold and is fully hot at twice
    it, so that two images of one model compare at a glance. The line runs around the pixels whose map is above the
    threshold.

    Raises:
        ValueError: when the map is not as high and wide as the image.

    >>> grey = np.full((2, 3, 3), 128, np.uint8)
    >>> overlay(grey, np.zeros((2, 3), np.float32), threshold=0.2)[0, 0]
    array([128, 128, 128], dtype=uint8)
    """
    if image.shape[:2] != anomaly_map.shape:
        raise ValueError(f"image is {image.shape[:2]}, its map is {anomaly_map.shape}; they must be the same size")
    unit = _unit(anomaly_map, threshold)
    return draw_contour(blend_heat(image, _heat(anomaly_map, unit)), anomaly_map > np.float64(threshold))


def blend_heat(image: Rgb, heat: NDArray[np.float32]) -> Rgb:
    """The image in grey under heat `(h, w)` from 0, where only the image is seen, to 1, where it is hottest."""
    opacity = _STRONGEST_HEAT * np.sqrt(heat)[..., None]  # (h, w, 1)
    mixed = (image @ LUMA)[..., None] * (1 - opacity) + _colours(heat) * opacity  # (h, w, 3)
    return np.rint(mixed).astype(np.uint8)


def draw_at_full_size(image: Rgb, scored_map: NDArray[np.float32], threshold: float) -> tuple[Rgb, NDArray[np.uint8]]:
    """The `overlay` of an image and its defect mask (255 where defective), from a map of another size.

    Drawn in strips of rows, so that what it takes beside the two pictures does not grow with the image.

    >>> image, scored = np.zeros((4, 6, 3), np.uint8), np.array([[0, 1], [0, 0]], np.float32)
    >>> picture, mask = draw_at_full_size(image, scored, 0.5)
    >>> picture.shape, mask[0].tolist()
    ((4, 6, 3), [0, 0, 0, 255, 255, 255])
    """
    height, width = image.shape[:2]
    found = resize_map(scored_map, (min(height, len(scored_map)), width))  # rows are only repeated from here on
    picture, mask = np.empty_like(image), np.empty((height, width), np.uint8)
    line_px, unit = _line_px(mask), _unit(found, threshold)
    step = max(1, _STRIP_PX // width)
    for top in range(0, height, step):
        bottom, first, last = min(height, top + step), max(0, top - line_px), min(height, top + step + line_px)
        part = np.take(found, np.arange(first, last) * len(found) // height, axis=0)
        inner = slice(top - first, bottom - first)
        defective = part > np.float64(threshold)
        mask[top:bottom] = defective[inner] * np.uint8(255)
        line = (grow_mask(defective, line_px) & ~defective)[inner]
        picture[top:bottom] = blend_heat(image[top:bottom], _heat(part[inner], unit))
        picture[top:bottom][line] = _CONTOUR
    return picture, mask


def draw_contour(image: Rgb, mask: NDArray[np.bool_]) -> Rgb:
    """The image with a line just outside of the mask; the line's width grows with the image.

    >>> image = np.zeros((3, 5, 3), np.uint8)
    >>> mask = np.zeros((3, 5), bool); mask[1, 2] = True
    >>> draw_contour(image, mask)[..., 2]
    array([[  0, 255, 255, 255,   0],
           [  0, 255,   0, 255,   0],
           [  0, 255, 255, 255,   0]], dtype=uint8)
    """
    grown = grow_mask(mask, _line_px(mask))
    drawn = image.copy()
    drawn[grown & ~mask] = _CONTOUR
    return drawn


def as_rgb(image: NDArray[np.float32]) -> Rgb:
    """A network's image, (1 | 3, h, w) in [0, 1], as one to look at.

    >>> as_rgb(np.ones((1, 2, 2), np.float32)).shape
    (2, 2, 3)
    """
    levels = np.rint(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(levels.transpose(1, 2, 0), (*levels.shape[1:], 3)))


def encode(image: Rgb, file_format: Literal["PNG", "JPEG"]) -> bytes:
    """The bytes of an image file.

    >>> encode(np.zeros((4, 4, 3), np.uint8), "PNG")[1:4]
    b'PNG'
    """
    file = io.BytesIO()
    Image.fromarray(image).save(file, file_format, quality=88)
    return file.getvalue()


def _unit(anomaly_map: NDArray[np.float32], threshold: float) -> float:
    return threshold if threshold > 0 else float(anomaly_map.max()) or 1.0


def _heat(anomaly_map: NDArray[np.float32], unit: float) -> NDArray[np.float32]:
    """From 0, at 0.8 of the unit or less, to 1 at twice the unit."""
    return np.asarray(np.clip((anomaly_map / unit - 0.8) / 1.2, 0.0, 1.0), np.float32)


def _line_px(mask: NDArray[np.generic]) -> int:
    return max(1, round(int(max(mask.shape)) / 300))


def _colours(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    stops = np.linspace(0.0, 1.0, len(_COLD_TO_HOT))
    return np.stack([np.interp(heat, stops, channel) for channel in _COLD_TO_HOT.T], axis=-1).astype(np.float32)
