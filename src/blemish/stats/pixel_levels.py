"""Amounts of all images at the levels of their maps, and the measures of pixels over these levels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from blemish.stats.pixel_counts import ImagePixels, Keys, tally
from blemish.stats.ranking import (
    auroc_of_levels,
    average_precision_of_levels,
    best_f1_of_levels,
    linear_credit,
    log_credit,
    mean_credit,
)
from blemish.stats.regions import FPR_RANGE, MAX_FPR

Amounts = NDArray[np.float64]

_MOST_COARSE = 2000
_CUTS = _MOST_COARSE // 6
_SMALLEST_FPR = 1e-7


@final
@dataclass(frozen=True, eq=False)
class Levels:
    """Amounts at each level, ascending; each array is (n,), or (images, n) before the images are added up.

    Every amount is a plain sum over images, so a resample of images is a weighted sum of these arrays.
    """

    good: Amounts  # pixels
    defective: Amounts  # pixels
    overlap: Amounts  # shares of defective regions; all together the number of regions
    false_share: Amounts  # shares of good images; all together the number of good images
    hit_share: Amounts  # shares of the defective area of an image; all together the number of defective images

    def weighted(self, weights: NDArray[np.integer]) -> "Levels":
        """Add up the images, each as often as `weights` (images,) or (resamples, images) say."""
        return self._each(lambda amounts: weights.astype(np.float64) @ amounts)

    def row(self, index: int) -> "Levels":
        """The levels of one image, or of one resample."""
        return self._each(lambda amounts: amounts[index])

    def _each(self, change: Callable[[Amounts], Amounts]) -> "Levels":
        return Levels(*(change(getattr(self, name)) for name in self.__dataclass_fields__))

    def auroc(self) -> float:
        """Area under the ROC curve of the pixels."""
        return auroc_of_levels(self.good, self.defective)

    def average_precision(self) -> float:
        """Average precision of the pixels."""
        return average_precision_of_levels(self.good, self.defective)

    def aupro(self, max_fpr: float = MAX_FPR) -> float:
        """Area under the per-region overlap curve."""
        return mean_credit(linear_credit(self.good, max_fpr), self.overlap)

    def aupimo(self, fpr_range: tuple[float, float] = FPR_RANGE) -> float:
        """Area under the per-image overlap curve, averaged over the defective images."""
        return mean_credit(log_credit(self.false_share, fpr_range), self.hit_share)

    def oracle_f1(self) -> float:
        """The best F1 any threshold gives."""
        return best_f1_of_levels(self.good, self.defective)[0]


def keys_present(images: Sequence[ImagePixels]) -> Keys:
    """The keys that occur in any of the images, ascending."""
    keys = [each for image in images for each in (image.good_keys, image.defective_keys)]
    return tally(np.concatenate(keys))[0] if keys else np.zeros(0, np.uint32)


def pool(images: Sequence[ImagePixels], first_keys: Keys) -> Levels:
    """The levels of all images together; level i reaches from `first_keys[i]` to below the next."""
    pooled = _nothing(first_keys.shape)
    for image in images:
        _add(image, first_keys, pooled)
    return pooled


def split(images: Sequence[ImagePixels], first_keys: Keys) -> Levels:
    """The same of each image apart: arrays (images, n)."""
    apart = _nothing((len(images), first_keys.size))
    for index, image in enumerate(images):
        _add(image, first_keys, apart.row(index))  # a row is a view: this fills `apart`
    return apart


def _nothing(shape: tuple[int, ...]) -> Levels:
    return Levels(*(np.zeros(shape) for _ in Levels.__dataclass_fields__))


def _add(image: ImagePixels, first_keys: Keys, to: Levels) -> None:
    at = np.searchsorted(first_keys, image.good_keys, side="right") - 1
    good = image.good_counts.astype(np.float64)
    np.add.at(to.good, at, good)
    if not image.is_defective:
        np.add.at(to.false_share, at, good / image.good_px)
    elif image.defective_px:
        at = np.searchsorted(first_keys, image.defective_keys, side="right") - 1
        defective = image.defective_counts.astype(np.float64)
        np.add.at(to.defective, at, defective)
        np.add.at(to.overlap, at, image.region_shares())
        np.add.at(to.hit_share, at, defective / image.defective_px)


def coarse_cuts(levels: Levels) -> NDArray[np.intp]:
    """Indices of the at most 2000 levels to begin a coarse level at, so that each measure changes little.

    They cut the defective amounts into equal parts, and both false-positive rates into equal parts and, from 1 down
    to 1e-7, into equal ratios. Where there are no more levels than that, each stays.
    """
    if levels.good.size <= _MOST_COARSE:
        return np.arange(levels.good.size)
    shares = np.linspace(0.0, 1.0, _CUTS)
    ratios = np.geomspace(_SMALLEST_FPR, 1.0, _CUTS)
    equal_parts = (levels.defective, levels.overlap, levels.hit_share, levels.good)
    equal_ratios = (levels.good, levels.false_share)
    cuts = [
        np.zeros(1, np.intp),
        *(_quantiles(amounts, shares) for amounts in equal_parts),
        *(_quantiles(amounts, ratios) for amounts in equal_ratios),
    ]
    return np.unique(np.concatenate(cuts))


def _quantiles(amounts: Amounts, shares: Amounts) -> NDArray[np.intp]:
    """The levels above which `shares` of all amounts lie."""
    above = np.cumsum(amounts[::-1])
    if not above.size or not above[-1]:
        return np.zeros(0, np.intp)
    from_top: NDArray[np.intp] = np.searchsorted(above, shares * above[-1])
    return np.maximum(above.size - 1 - from_top, 0)
