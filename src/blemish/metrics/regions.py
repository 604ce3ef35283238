"""Measures that look at defects as connected regions, and at each image by itself: AUPRO and AUPIMO."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def label_regions(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number the 8-connected regions of a mask (h, w) from 1; 0 is the ground."""
    raise NotImplementedError


def aupro(maps: Sequence[NDArray[np.floating]], masks: Sequence[NDArray[np.bool_]], max_fpr: float = 0.3) -> float:
    """Area under the per-region overlap curve up to `max_fpr`, in [0, 1] (Bergmann et al. 2021); exact."""
    raise NotImplementedError


def aupimo(
    maps: Sequence[NDArray[np.floating]],
    masks: Sequence[NDArray[np.bool_]],
    fpr_range: tuple[float, float] = (1e-5, 1e-4),
) -> NDArray[np.float64]:
    """AUPIMO of each image, in [0, 1] (Bertoldo et al. 2024); nan for good images; exact."""
    raise NotImplementedError
