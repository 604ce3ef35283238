"""One image's map and mask, condensed into sparse counts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from blemish.errors import DataError
from blemish.metrics.pixel import Counts
from blemish.metrics.regions import label_regions
from blemish.metrics.tally import Keys, Tallies, firsts, keys_of, tally, tally_by_group, threshold_key


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

    Regions are found in the whole mask: one that `valid` cuts into pieces stays one, and counts by its valid part.

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
