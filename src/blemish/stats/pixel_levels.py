"""Pixels of maps as sparse counts at the levels of the map: all that a pixel measure needs, in bounded memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from blemish.errors import DataError
from blemish.stats.counts import Counts
from blemish.stats.ranking import (
    auroc_of_levels,
    average_precision_of_levels,
    best_f1_of_levels,
    linear_credit,
    log_credit,
    mean_credit,
)
from blemish.stats.regions import FPR_RANGE, MAX_FPR, label_regions

Keys = NDArray[np.uint32]
Tallies = NDArray[np.uint32]

_SIGN = np.uint32(0x8000_0000)
_MOST_DENSE_BINS = 2**22


def keys_of(values: NDArray[np.floating]) -> Keys:
    """Keys in the order of the values, equal where the values are equal as float32.

    >>> keys = keys_of(np.array([-2.0, -1.0, -0.0, 0.0, 1e-30, 3.0]))
    >>> np.diff(keys.astype(np.int64)) > 0
    array([ True,  True, False,  True,  True])
    """
    unsigned_zero = np.asarray(values, np.float32) + np.float32(0.0)  # -0.0 becomes 0.0
    bits: Keys = unsigned_zero.view(np.uint32)
    turn = (bits.view(np.int32) >> 31).view(np.uint32)  # all ones where negative
    turn |= _SIGN
    turn ^= bits
    return turn


def values_of(keys: Keys) -> NDArray[np.float32]:
    """The values the keys came from.

    >>> values_of(keys_of(np.array([-2.5, 0.0, 0.1], np.float32)))
    array([-2.5,  0. ,  0.1], dtype=float32)
    """
    bits: Keys = np.where(keys >= _SIGN, keys ^ _SIGN, ~keys)
    return bits.view(np.float32)


def threshold_key(threshold: float) -> np.uint32:
    """The key that a float32 value must be above to be above the threshold, which is a float64.

    >>> keys_of(np.array([0.1], np.float32)) > threshold_key(0.1)  # float32's 0.1 is a little above 0.1
    array([ True])
    """
    nearest = np.float32(threshold)
    if float(nearest) > threshold:
        nearest = np.nextafter(nearest, np.float32(-np.inf))
    return np.uint32(keys_of(np.array([nearest]))[0])


def tally(keys: Keys) -> tuple[Keys, Tallies]:
    """The distinct keys in ascending order, and how often each occurs.

    >>> tally(np.array([7, 3, 7], np.uint32))
    (array([3, 7], dtype=uint32), array([1, 2], dtype=uint32))
    """
    distinct, times = _distinct(keys)
    return distinct.astype(np.uint32), times


def tally_by_group(groups: NDArray[np.integer], keys: Keys) -> tuple[NDArray[np.int32], Keys, Tallies]:
    """The distinct pairs of group (counted from 0) and key, ascending, and how often each occurs.

    >>> tally_by_group(np.array([1, 0, 1]), np.array([7, 3, 7], np.uint32))
    (array([0, 1], dtype=int32), array([3, 7], dtype=uint32), array([1, 2], dtype=uint32))
    """
    if not keys.size:
        return np.zeros(0, np.int32), keys, np.zeros(0, np.uint32)
    low = int(keys.min())
    span = int(keys.max()) - low + 1
    distinct, times = _distinct(groups.astype(np.int64) * span + (keys.astype(np.int64) - low))
    group, key = np.divmod(distinct.astype(np.int64), span)
    return group.astype(np.int32), (key + low).astype(np.uint32), times


def firsts(ordered: NDArray[np.integer]) -> NDArray[np.intp]:
    """Indices at which a value differs from the one before it.

    >>> firsts(np.array([3, 3, 7]))
    array([0, 2])
    """
    differs = np.ones(ordered.size, np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=differs[1:])
    return np.flatnonzero(differs)


def _distinct(numbers: NDArray[np.integer]) -> tuple[NDArray[np.integer], Tallies]:
    if not numbers.size:
        return numbers, np.zeros(0, np.uint32)
    low = numbers.min()
    if int(numbers.max()) - int(low) < _MOST_DENSE_BINS:  # counting is several times faster than sorting
        dense = np.bincount(numbers - low)
        present = np.flatnonzero(dense)
        return present + int(low), dense[present].astype(np.uint32)
    ordered = np.sort(numbers, axis=None)
    first = firsts(ordered)
    return ordered[first], np.diff(first, append=ordered.size).astype(np.uint32)


@final
@dataclass(frozen=True, eq=False)
class ImagePixels:
    """How many pixels of one image have each key, good ones and, region by region, defective ones.

    Keys are ascending (in a region), and without their lowest bits, as many as the owner has dropped so far.
    """

    name: str
    is_defective: bool
    good_keys: Keys
    good_counts: Tallies
    regions: NDArray[np.int32]  # (m,) numbered from 0, some may be missing
    defective_keys: Keys  # (m,)
    defective_counts: Tallies  # (m,)
    counts_at: tuple[Counts, ...]  # one for each threshold that is counted exactly
    gain: float = np.nan  # see `localisation_gain`; nan of a good image, or without masks of others

    @property
    def entries(self) -> int:
        """How many counts are stored."""
        return self.good_keys.size + self.defective_keys.size

    @property
    def good_px(self) -> int:
        """How many good pixels there are."""
        return int(self.good_counts.sum(dtype=np.int64))

    @property
    def defective_px(self) -> int:
        """How many defective pixels there are."""
        return int(self.defective_counts.sum(dtype=np.int64))

    def region_shares(self) -> NDArray[np.float64]:
        """For each defective count, which share of its region it is."""
        sizes = np.bincount(self.regions, weights=self.defective_counts)
        shares: NDArray[np.float64] = self.defective_counts / sizes[self.regions]
        return shares

    def count_above(self, key: np.uint32) -> Counts:
        """What calling every pixel above a key defective gets right and wrong."""
        tp = int(self.defective_counts[self.defective_keys > key].sum(dtype=np.int64))
        fp = int(self.good_counts[self.good_keys > key].sum(dtype=np.int64))
        return Counts(tp, fp, self.good_px - fp, self.defective_px - tp)

    def counts_over(self, keys: Keys) -> NDArray[np.int64]:
        """`count_above` of many keys: rows of tp, fp, tn, fn."""
        tp = _sums_above(self.defective_keys, self.defective_counts, keys)
        fp = _sums_above(self.good_keys, self.good_counts, keys)
        return np.stack([tp, fp, self.good_px - fp, self.defective_px - tp], axis=1)


def condense(
    name: str,
    anomaly_map: NDArray[np.floating],
    mask: NDArray[np.bool_] | None,
    valid: NDArray[np.bool_] | None,
    thresholds: Sequence[float],
    shift: int,
) -> ImagePixels:
    """Condense a map (h, w), with keys less their lowest `shift` bits.

    Regions are found in the mask as given: one that `valid` cuts into pieces stays one, and counts by its valid part.

    Raises:
        DataError: when shapes differ, a valid map value is not finite, or nothing is valid.

    >>> pixels = condense("a.png", np.array([[1.0, 2.0, 2.0]]), np.array([[False, False, True]]), None, [1.5], 0)
    >>> pixels.good_counts, pixels.defective_counts, pixels.counts_at
    (array([1, 1], dtype=uint32), array([1], dtype=uint32), (Counts(tp=1, fp=1, tn=1, fn=0),))
    """
    _check_shapes(name, anomaly_map, mask, valid)
    keys = keys_of(anomaly_map)
    _check_values(name, anomaly_map, valid)
    is_defective = mask is not None and bool(mask.any())
    if mask is None or not is_defective:
        good = keys.ravel() if valid is None else keys[valid]
        defective, region = good[:0], np.zeros(0, np.int32)
    else:
        good = keys[~mask if valid is None else ~mask & valid]
        marked = mask if valid is None else mask & valid
        defective, region = keys[marked], label_regions(mask)[marked] - 1
    exact = tuple(_count_above(threshold_key(each), good, defective) for each in thresholds)
    good_keys, good_counts = tally(good >> np.uint32(shift))
    regions, defective_keys, defective_counts = tally_by_group(region, defective >> np.uint32(shift))
    return ImagePixels(name, is_defective, good_keys, good_counts, regions, defective_keys, defective_counts, exact)


def coarsen(image: ImagePixels) -> ImagePixels:
    """The same with one more bit dropped from all keys."""
    good_keys = image.good_keys >> np.uint32(1)
    keys = image.defective_keys >> np.uint32(1)
    good_first = firsts(good_keys)
    first = np.union1d(firsts(keys), firsts(image.regions))
    return replace(
        image,
        good_keys=good_keys[good_first],
        good_counts=_sums(image.good_counts, good_first),
        regions=image.regions[first],
        defective_keys=keys[first],
        defective_counts=_sums(image.defective_counts, first),
    )


def _sums(counts: Tallies, first: NDArray[np.intp]) -> Tallies:
    return np.add.reduceat(counts, first, dtype=np.uint32) if counts.size else counts


def _count_above(key: np.uint32, good: Keys, defective: Keys) -> Counts:
    tp, fp = int(np.count_nonzero(defective > key)), int(np.count_nonzero(good > key))
    return Counts(tp, fp, good.size - fp, defective.size - tp)


def _check_shapes(
    name: str,
    anomaly_map: NDArray[np.floating],
    mask: NDArray[np.bool_] | None,
    valid: NDArray[np.bool_] | None,
) -> None:
    for what, array in (("mask", mask), ("valid", valid)):
        if array is not None and array.shape != anomaly_map.shape:
            raise DataError(
                f"{name}: the {what} is {array.shape} and the anomaly map {anomaly_map.shape}; bring both to one size"
            )
    if valid is not None and not valid.any():
        raise DataError(f"{name}: no pixel is valid; the region of interest must leave some of the image")


def _check_values(name: str, anomaly_map: NDArray[np.floating], valid: NDArray[np.bool_] | None) -> None:
    finite = np.isfinite(anomaly_map)
    strange = int(np.count_nonzero(~finite if valid is None else ~finite & valid))
    if strange:
        raise DataError(f"{name}: {strange} values of the anomaly map are not finite; a detector must not give such")


def _sums_above(keys: Keys, counts: Tallies, limits: Keys) -> NDArray[np.int64]:
    order = np.argsort(keys, kind="stable")  # in runs already, one a region
    above = np.append(np.cumsum(counts[order][::-1].astype(np.int64))[::-1], 0)
    return np.asarray(above[np.searchsorted(keys[order], limits, side="right")], np.int64)


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
