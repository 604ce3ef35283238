"""All pixel measures of a test set, one image at a time and in bounded memory."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blemish.errors import DataError
from blemish.stats.counts import Counts
from blemish.stats.intervals import resample
from blemish.stats.localisation import at_size, localisation_gain
from blemish.stats.pixel_counts import ImagePixels, Keys, coarsen, condense, threshold_key, values_of
from blemish.stats.pixel_levels import Levels, coarse_cuts, keys_present, pool, split
from blemish.stats.ranking import RocCurve, best_f1_of_levels, log_credit, mean_credit, roc_curve_of_levels
from blemish.stats.regions import FPR_RANGE, MAX_FPR

MAX_ENTRIES = 2**23


class PixelHistogram(NamedTuple):
    """How many good and defective pixels have a map value from one edge to the next, for drawing."""

    edges: NDArray[np.float64]  # (bins + 1,)
    good: NDArray[np.int64]  # (bins,)
    defective: NDArray[np.int64]  # (bins,)


@final
class PixelScores:
    """The maps and masks of a test set, condensed: add each image once, then ask for any measure.

    A pixel is called defective where its map value is above the threshold. A measure that needs good or defective
    pixels and finds none is nan. Values are told apart as float32.

    Each image is kept as counts of its values. While there are at most `most_entries` of them (8 bytes each), all
    measures are exact. Beyond that, neighbouring values are merged, by no more than it takes, and `resolution` says
    how close they were: up to 2 ** -9, measures are within 0.001 of the exact ones (1,000 maps of 1024 x 1024 come
    to about 2 ** -11). `thresholds` given here are counted exactly always; `others` are masks of some of the images by
    their names, with which the maps of all others are compared for `localisation_gains`, resized to them if need be.

    >>> scores = PixelScores(thresholds=[0.5])
    >>> scores.add("good/0.png", np.array([[0.1, 0.2]]))
    >>> scores.add("crack/0.png", np.array([[0.1, 0.9]]), mask=np.array([[False, True]]))
    >>> scores.auroc(), scores.aupro(), scores.aupimo(), scores.counts_at(0.5)
    (1.0, 1.0, 1.0, Counts(tp=1, fp=0, tn=3, fn=0))
    """

    def __init__(
        self,
        thresholds: Sequence[float] = (),
        most_entries: int = MAX_ENTRIES,
        others: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> None:
        self._thresholds = tuple(thresholds)
        self._most_entries = most_entries
        self.others = dict(others or {})
        self._images: dict[str, ImagePixels] = {}
        self._entries = 0
        self._shift = 0
        self._pooled: tuple[Keys, Levels] | None = None

    def add(
        self,
        name: str,
        anomaly_map: NDArray[np.floating],
        mask: NDArray[np.bool_] | None = None,
        valid: NDArray[np.bool_] | None = None,
    ) -> None:
        """Take in one image (h, w); without a mask it is a good one; only pixels where `valid` is True count.

        The image is defective when its mask marks any pixel, valid or not. A defective image whose mask is unknown
        must be left out.

        Raises:
            DataError: when the name was there before, shapes differ or are not (h, w), a map value is not finite, or
                nothing is valid.
        """
        if name in self._images:
            raise DataError(f"{name}: added twice; each image counts once")
        anomaly_map = np.asarray(anomaly_map)
        mask, valid = (None if array is None else np.asarray(array) != 0 for array in (mask, valid))
        image = condense(name, anomaly_map, mask, valid, self._thresholds, self._shift)
        if mask is not None and image.is_defective:
            crossed = [at_size(other, mask.shape) for key, other in self.others.items() if key != name]
            image = replace(image, gain=localisation_gain(anomaly_map, mask, crossed, valid))
        self._images[name] = image
        self._entries += image.entries
        self._pooled = None
        while self._entries > self._most_entries and self._shift < 31:
            self._images = {each: coarsen(image) for each, image in self._images.items()}
            self._entries = sum(image.entries for image in self._images.values())
            self._shift += 1

    @property
    def names(self) -> list[str]:
        """Names of the images in the order they came.

        >>> PixelScores().names
        []
        """
        return list(self._images)

    @property
    def resolution(self) -> float:
        """Largest relative difference of two map values that were taken as equal; 0.0 while exact.

        >>> PixelScores().resolution
        0.0
        """
        return 2.0 ** (self._shift - 23) if self._shift else 0.0

    def subset(self, names: Collection[str]) -> "PixelScores":
        """The same for some of the images, e.g. those of one defect type and all good ones.

        Raises:
            DataError: a name was not added.

        >>> scores = PixelScores()
        >>> for name in ("good/0.png", "hole/0.png", "cut/0.png"):
        ...     scores.add(name, np.zeros((2, 2)))
        >>> scores.subset([name for name in scores.names if not name.startswith("cut")]).names
        ['good/0.png', 'hole/0.png']
        """
        wanted = set(names)
        if missing := wanted - self._images.keys():
            raise DataError(f"{min(missing)}: no such image was added")
        part = PixelScores(self._thresholds, self._most_entries)
        part._images = {name: image for name, image in self._images.items() if name in wanted}
        part._entries = sum(image.entries for image in part._images.values())
        part._shift = self._shift
        return part

    def auroc(self) -> float:
        """Area under the pixels' ROC curve."""
        return self.levels.auroc()

    def average_precision(self) -> float:
        """Average precision of the pixels."""
        return self.levels.average_precision()

    def aupro(self, max_fpr: float = MAX_FPR) -> float:
        """Area under the per-region overlap curve up to a false-positive rate, divided by that rate.

        At each threshold, the share of each defective region (8-connected) that is found, averaged over all regions of
        all images, against the share of all good pixels that is called defective (Bergmann et al. 2021, IJCV 129).
        Trapezoid rule, with linear interpolation at `max_fpr`.
        """
        return self.levels.aupro(max_fpr)

    def aupimo(self, fpr_range: tuple[float, float] = FPR_RANGE) -> float:
        """Mean over the defective images of their AUPIMO; see `aupimo_each`."""
        return self.levels.aupimo(fpr_range)

    def aupimo_each(self, fpr_range: tuple[float, float] = FPR_RANGE) -> dict[str, float]:
        """AUPIMO of each defective image, by name: its recall, averaged over thresholds that leave good images clean.

        The recall of the image's pixels is averaged over the logarithm of the false-positive rate in `fpr_range`; the
        rate is that of good images only, the mean of theirs (Bertoldo et al. 2024, arXiv 2401.01984). Between two
        thresholds both rates are interpolated linearly, also from a rate of zero, where the official code leaves the
        interval out. nan without good images or without a valid defective pixel.

        >>> scores = PixelScores()
        >>> scores.add("good/0.png", np.array([[0.1, 0.5]]))
        >>> scores.add("crack/0.png", np.array([[0.4, 0.9]]), mask=np.array([[True, True]]))
        >>> scores.aupimo_each()
        {'crack/0.png': 0.5}
        """
        keys, levels = self._keys_and_levels
        credit = log_credit(levels.false_share, fpr_range)
        return {
            name: mean_credit(credit[np.searchsorted(keys, image.defective_keys)], image.defective_counts)
            for name, image in self._images.items()
            if image.is_defective
        }

    def localisation_gains(self) -> dict[str, float]:
        """`localisation_gain` of each defective image, by name; only of those it is known of.

        >>> scores = PixelScores(others={"a.png": np.array([[True, False]]), "b.png": np.array([[False, True]])})
        >>> scores.add("a.png", np.array([[2.0, 1.0]]), mask=np.array([[True, False]]))
        >>> scores.localisation_gains()
        {'a.png': 1.0}
        """
        return {name: image.gain for name, image in self._images.items() if not np.isnan(image.gain)}

    def oracle_f1(self) -> tuple[float, float]:
        """The best F1 any threshold gives, and the highest such threshold; chosen with the masks, hence the name.

        >>> scores = PixelScores()
        >>> scores.add("crack/0.png", np.array([[0.0, 1.0]]), mask=np.array([[False, True]]))
        >>> scores.oracle_f1()  # the largest threshold below 1
        (1.0, 0.9999999...)
        """
        keys, levels = self._keys_and_levels
        best, level = best_f1_of_levels(levels.good, levels.defective)
        if level < 0:
            return np.nan, np.nan
        lowest_called = values_of(keys[level : level + 1] << np.uint32(self._shift))
        return best, float(np.nextafter(lowest_called, np.float32(-np.inf))[0])

    def counts_at(self, threshold: float) -> Counts:
        """Right and wrong pixels of all images at a threshold; feed it to `precision`, `recall`, `accuracy`, `f1`.

        Once values are merged, and unless the threshold was given in advance, values that share a bin with the
        threshold count as not above it.
        """
        return reduce(add, self.counts_each(threshold).values(), Counts(0, 0, 0, 0))

    def counts_each(self, threshold: float) -> dict[str, Counts]:
        """The same image by image, by name.

        >>> scores = PixelScores()
        >>> scores.add("crack/0.png", np.array([[0.2, 0.9]]), mask=np.array([[False, True]]))
        >>> scores.counts_each(0.5)
        {'crack/0.png': Counts(tp=1, fp=0, tn=1, fn=0)}
        """
        if threshold in self._thresholds:
            index = self._thresholds.index(threshold)
            return {name: image.counts_at[index] for name, image in self._images.items()}
        key = threshold_key(threshold) >> np.uint32(self._shift)
        return {name: image.count_above(key) for name, image in self._images.items()}

    def counts_over(self, thresholds: Sequence[float]) -> dict[str, NDArray[np.int64]]:
        """`counts_each` for many thresholds at once: tp, fp, tn and fn as columns, by name, to be added up at will.

        Once values are merged, all of them are counted as `counts_each` counts one that was not given in advance.

        >>> scores = PixelScores()
        >>> scores.add("crack/0.png", np.array([[0.2, 0.9]]), mask=np.array([[False, True]]))
        >>> scores.counts_over([0.1, 0.5])["crack/0.png"]
        array([[1, 1, 0, 0],
               [1, 0, 1, 0]])
        """
        keys = np.array([threshold_key(each) for each in thresholds], np.uint32) >> np.uint32(self._shift)
        return {name: image.counts_over(keys) for name, image in self._images.items()}

    def roc_curve(self, max_points: int = 500) -> RocCurve:
        """The pixels' ROC curve for drawing; see `roc_curve`."""
        levels = self.levels
        return roc_curve_of_levels(self._values, levels.good, levels.defective, max_points)

    def histogram(self, bins: int = 100) -> PixelHistogram:
        """Good and defective pixels in equal steps from the smallest to the largest map value.

        >>> scores = PixelScores()
        >>> scores.add("good/0.png", np.array([[0.0, 1.0, 4.0]]))
        >>> scores.histogram(bins=2)
        PixelHistogram(edges=array([0., 2., 4.]), good=array([2, 1]), defective=array([0, 0]))
        """
        values, levels = self._values, self.levels
        good, edges = np.histogram(values, bins, weights=levels.good)
        defective, _ = np.histogram(values, bins, weights=levels.defective)
        return PixelHistogram(edges, good.astype(np.int64), defective.astype(np.int64))

    def resampled(self, rng: np.random.Generator, threshold: float, repeats: int) -> Iterator[tuple[Levels, Counts]]:
        """Levels (at most 2000) and counts at the threshold of images drawn with replacement, `repeats` times.

        Good and defective images are drawn apart, so that there are as many of each as before.
        """
        images = list(self._images.values())
        drawn = resample(np.array([image.is_defective for image in images]), repeats, rng)
        keys, levels = self._keys_and_levels
        resampled = split(images, keys[coarse_cuts(levels)]).weighted(drawn)
        each = np.array([list(vars(counts).values()) for counts in self.counts_each(threshold).values()])
        for index, row in enumerate((drawn @ each).tolist()):
            yield resampled.row(index), Counts(*row)

    @property
    def _keys_and_levels(self) -> tuple[Keys, Levels]:
        if self._pooled is None:
            images = list(self._images.values())
            keys = keys_present(images)
            self._pooled = keys, pool(images, keys)
        return self._pooled

    @property
    def levels(self) -> Levels:
        """The amounts of all images together at each level of their maps, ascending.

        >>> PixelScores().levels.good
        array([], dtype=float64)
        """
        return self._keys_and_levels[1]

    @property
    def _values(self) -> NDArray[np.float64]:
        """The lowest value of each level."""
        return values_of(self._keys_and_levels[0] << np.uint32(self._shift)).astype(np.float64)
