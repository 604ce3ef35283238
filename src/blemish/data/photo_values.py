"""Brightness, contrast, sharpness and centroid of an image, for drift monitoring."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

PHOTO_VALUES = ("brightness", "contrast", "sharpness", "centre_x", "centre_y")

_DIGITS = 6
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R 601, as Pillow's."""


def photo_values(pixels: NDArray[np.float32], roi: NDArray[np.bool_] | None = None) -> dict[str, float]:
    """Brightness, contrast, sharpness and centroid of an image `(c, h, w)`, for drift monitoring.

    - *brightness* and *contrast*: mean and standard deviation of the grey values.
    - *sharpness*: standard deviation of the Laplacian (Pech-Pacheco et al. 2000) divided by the contrast, which
      makes it independent of the illumination. 0 for an image without contrast.
    - *centre_x*, *centre_y*: centroid of (grey value - median)^2, as shares of width and height.

    Only pixels inside the region of interest `(h, w)` count; for the Laplacian, those whose four neighbours are inside.

    >>> image = np.zeros((1, 8, 8), np.float32); image[:, 3:5, 5:7] = 1
    >>> photo_values(image)
    {'brightness': 0.0625, 'contrast': 0.242061, 'sharpness': 3.22133, 'centre_x': 0.75, 'centre_y': 0.5}
    """
    grey = to_grey(pixels)
    inside = np.ones(grey.shape, np.bool_) if roi is None else roi
    values = grey[inside].astype(np.float64)
    contrast = float(values.std())
    weights = np.where(inside, (grey - np.median(values)) ** 2, 0.0)
    fine = _laplacian(grey, inside)
    sharpness = float(fine.std()) / contrast if contrast and fine.size else 0.0
    found = (float(values.mean()), contrast, sharpness)
    rounded = map(_rounded, (*found, _centre(weights.sum(0)), _centre(weights.sum(1))))
    return dict(zip(PHOTO_VALUES, rounded, strict=True))


def to_grey(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey values `(h, w)` of an image `(c, h, w)`: ITU-R 601 luma, as Pillow computes it.

    >>> round(to_grey(np.array([1, 0, 0], np.float32).reshape(3, 1, 1)).item(), 3)
    0.299
    """
    grey: NDArray[np.float32] = pixels[0] if len(pixels) == 1 else np.tensordot(LUMA, pixels, axes=1)
    return grey


def gather_values(values: Sequence[Mapping[str, float]], groups: Sequence[str] | None) -> dict[str, tuple[float, ...]]:
    """Each value over many photos, ascending, by its name; where there are groups, the groups' means.

    >>> gather_values([{"contrast": 0.2}, {"contrast": 0.4}, {"contrast": 0.1}], ["a", "a", "b"])
    {'contrast': (0.1, 0.3)}
    """
    of_group: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for place, value in enumerate(values):
        of_group[str(place) if groups is None else groups[place]].append(value)
    means = [mean_values(members) for members in of_group.values()]
    return {name: tuple(sorted(mean[name] for mean in means)) for name in (means[0] if means else ())}


def mean_values(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each value over some photos."""
    return {name: _rounded(math.fsum(value[name] for value in values) / len(values)) for name in values[0]}


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _laplacian(grey: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The values `(n,)` of the Laplacian where a pixel and its four neighbours are inside."""
    middle = (slice(1, -1), slice(1, -1))
    around = [(slice(None, -2), middle[1]), (slice(2, None), middle[1]), (middle[0], slice(None, -2))]
    around.append((middle[0], slice(2, None)))
    valid = np.logical_and.reduce([inside[place] for place in (middle, *around)])
    return sum((grey[place] for place in around), start=-4 * grey[middle])[valid].astype(np.float64)


def _centre(weights: NDArray[np.float64]) -> float:
    """The centroid of weights along one side, as a share of its length; 0.5 where all weights are 0."""
    total = weights.sum()
    return float(((np.arange(weights.size) + 0.5) * weights).sum() / total / weights.size) if total else 0.5


_FLAT = 1e-10
_WHITE, _BLACK = 0.995, 0.005
FAR = 3.0
"""Tukey's "far out": so many times the middle half's width beyond it (1977)."""


@final
@dataclass(frozen=True)
class Quality:
    """Sharpness, brightness and clipping of a photo, to compare photos of the same part at one size.

    Sharpness: log10 of the variance of the Laplacian (Pech-Pacheco et al. 2000). Brightness: the mean, 0 to 1. Clipped:
    the share of pixels at black or white.
    """

    sharpness: float
    brightness: float
    clipped: float


def measure_quality(grey: NDArray[np.float32], region: NDArray[np.bool_] | None = None) -> Quality:
    """The quality of a grey image `(h, w)` in [0, 1], inside the region `(h, w)`.

    >>> measure_quality(np.full((4, 4), 0.25, np.float32))
    Quality(sharpness=-10.0, brightness=0.25, clipped=0.0)
    """
    inside = np.ones(grey.shape, np.bool_) if region is None else region
    fine, pixels = _laplacian(grey, inside), grey[inside]
    return Quality(
        sharpness=float(np.log10(max(_FLAT, float(fine.var()) if fine.size else 0.0))),
        brightness=float(pixels.mean()),
        clipped=float(((pixels >= _WHITE) | (pixels <= _BLACK)).mean()),
    )


def tukey_fences(values: Sequence[float], least: float, far: float = FAR) -> tuple[float, float]:
    """The bounds beyond which a value is far out (Tukey 1977); never nearer than `least` to the median.

    >>> tukey_fences([1, 2, 3, 4, 5], least=1)
    (-4.0, 10.0)
    """
    low, middle, high = (float(value) for value in np.quantile(np.asarray(values, np.float64), (0.25, 0.5, 0.75)))
    reach = far * (high - low)
    return min(low - reach, middle - least), max(high + reach, middle + least)
