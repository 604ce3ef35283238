"""Sharpness and exposure of photographs, and which of them stand apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

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
