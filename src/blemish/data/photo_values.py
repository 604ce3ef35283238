"""A photo in five numbers that tell when lamp, lens or camera have changed: the detector has no part in them."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

PHOTO_VALUES = ("brightness", "contrast", "sharpness", "centre_x", "centre_y")

_DIGITS = 6
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R 601, as Pillow's."""


def photo_values(pixels: NDArray[np.float32], roi: NDArray[np.bool_] | None = None) -> dict[str, float]:
    """How bright, rich in contrast and sharp an image `(c, h, w)` is, and where what stands out in it has its centre.

    - *brightness* and *contrast*: mean and standard deviation of the grey values.
    - *sharpness*: standard deviation of the Laplacian (Pech-Pacheco et al. 2000), in units of the contrast, so that the
      lamp does not change it. 0 for an image without contrast.
    - *centre_x*, *centre_y*: centre of gravity of (grey value - median)^2, in shares of width and height.

    Only pixels inside the region of interest count; for the Laplacian, those whose four neighbours are inside, too.

    >>> image = np.zeros((1, 8, 8), np.float32); image[:, 3:5, 5:7] = 1
    >>> photo_values(image)
    {'brightness': 0.0625, 'contrast': 0.242061, 'sharpness': 3.22133, 'centre_x': 0.75, 'centre_y': 0.5}
    """
    grey = luma(pixels)
    inside = np.ones(grey.shape, np.bool_) if roi is None else roi
    values = grey[inside].astype(np.float64)
    contrast = float(values.std())
    weights = np.where(inside, (grey - np.median(values)) ** 2, 0.0)
    found = (float(values.mean()), contrast, _laplacian_std(grey, inside) / contrast if contrast else 0.0)
    rounded = map(_rounded, (*found, _centre(weights.sum(0)), _centre(weights.sum(1))))
    return dict(zip(PHOTO_VALUES, rounded, strict=True))


def luma(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey values `(h, w)` of an image `(c, h, w)`, as Pillow makes them: a grey copy of a photo is as bright.

    >>> round(luma(np.array([1, 0, 0], np.float32).reshape(3, 1, 1)).item(), 3)
    0.299
    """
    grey: NDArray[np.float32] = pixels[0] if len(pixels) == 1 else np.tensordot(_LUMA, pixels, axes=1)
    return grey


def gather_values(values: Sequence[Mapping[str, float]], groups: Sequence[str] | None) -> dict[str, tuple[float, ...]]:
    """The values of many photos by name, ascending; the mean of each group, where there are groups.

    >>> gather_values([{"contrast": 0.2}, {"contrast": 0.4}, {"contrast": 0.1}], ["a", "a", "b"])
    {'contrast': (0.1, 0.3)}
    """
    of_group: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for place, value in enumerate(values):
        of_group[str(place) if groups is None else groups[place]].append(value)
    means = [mean_values(members) for members in of_group.values()]
    return {name: tuple(sorted(mean[name] for mean in means)) for name in (means[0] if means else ())}


def mean_values(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What counts for a group of photos."""
    return {name: _rounded(math.fsum(value[name] for value in values) / len(values)) for name in values[0]}


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _laplacian_std(grey: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    middle = (slice(1, -1), slice(1, -1))
    around = [(slice(None, -2), middle[1]), (slice(2, None), middle[1]), (middle[0], slice(None, -2))]
    around.append((middle[0], slice(2, None)))
    valid = np.logical_and.reduce([inside[place] for place in (middle, *around)])
    laplacian = sum((grey[place] for place in around), start=-4 * grey[middle])[valid]
    return float(laplacian.astype(np.float64).std()) if laplacian.size else 0.0


def _centre(weights: NDArray[np.float64]) -> float:
    """Where the weights along one side have their centre, from 0 to 1; the middle, where there are none."""
    total = weights.sum()
    return float(((np.arange(weights.size) + 0.5) * weights).sum() / total / weights.size) if total else 0.5


_FLAT = 1e-10
_WHITE, _BLACK = 0.995, 0.005
FAR = 3.0
"""Tukey's "far out": so many times the middle half's width beyond it (1977)."""


@final
@dataclass(frozen=True)
class Quality:
    """Sharpness: log10 of the variance of the Laplacian (Pech-Pacheco et al. 2000), only to be compared among photos of
    the same thing at one size. Brightness: the mean, 0 to 1. Clipped: the share of pixels at black or white."""

    sharpness: float
    brightness: float
    clipped: float


def quality(grey: NDArray[np.float32], region: NDArray[np.bool_] | None = None) -> Quality:
    """Of an image `(h, w)` in [0, 1], inside the region.

    >>> quality(np.full((4, 4), 0.25, np.float32))
    Quality(sharpness=-10.0, brightness=0.25, clipped=0.0)
    """
    inner = np.s_[1:-1, 1:-1]
    laplacian = 4 * grey[inner] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    kept = np.ones(grey.shape, bool) if region is None else region
    fine, pixels = laplacian[kept[inner]], grey[kept]
    return Quality(
        sharpness=float(np.log10(max(_FLAT, float(fine.var()) if fine.size else 0.0))),
        brightness=float(pixels.mean()),
        clipped=float(((pixels >= _WHITE) | (pixels <= _BLACK)).mean()),
    )


def fences(values: Sequence[float], least: float, far: float = FAR) -> tuple[float, float]:
    """Below the first and above the second, a value is far out; never nearer than `least` to the median.

    >>> fences([1, 2, 3, 4, 5], least=1)
    (-4.0, 10.0)
    """
    low, middle, high = (float(value) for value in np.quantile(np.asarray(values, np.float64), (0.25, 0.5, 0.75)))
    reach = far * (high - low)
    return min(low - reach, middle - least), max(high + reach, middle + least)
