"""Pixels of maps as sparse counts at the levels of the map: what an image adds to pixel measures, in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from blemish.errors import DataError
from blemish.stats.counts import Counts
from blemish.stats.regions import label_regions

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
    if anomaly_map.ndim != 2:
        raise DataError(f"{name}: an anomaly map of shape {anomaly_map.shape}; give that of one image, (h, w)")
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
        raise DataError(
            f"{name}: values of the anomaly map that are not finite: {strange}; a detector must not give such"
        )


def _sums_above(keys: Keys, counts: Tallies, limits: Keys) -> NDArray[np.int64]:
    order = np.argsort(keys, kind="stable")  # in runs already, one a region
    above = np.append(np.cumsum(counts[order][::-1].astype(np.int64))[::-1], 0)
    return np.asarray(above[np.searchsorted(keys[order], limits, side="right")], np.int64)
