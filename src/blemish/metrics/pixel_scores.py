"""All pixel measures of a test set, one image at a time and in bounded memory."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blemish.metrics.intervals import Interval
from blemish.metrics.pixel import Counts
from blemish.metrics.ranking import RocCurve


class PixelHistogram(NamedTuple):
    """How many good and defective pixels have a map value from one edge to the next, for drawing."""

    edges: NDArray[np.float64]  # (bins + 1,)
    good: NDArray[np.int64]  # (bins,)
    defective: NDArray[np.int64]  # (bins,)


@final
class PixelScores:
    """The maps and masks of a test set, condensed: add each image once, then ask for any measure.

    A pixel is called defective where its map value is `> threshold`. Measures that need good or defective pixels
    and find none are nan. Exact while there is little data; beyond that to `resolution`, relative to the map value;
    `thresholds` given here are counted exactly always.
    """

    def __init__(self, thresholds: Sequence[float] = ()) -> None:
        raise NotImplementedError

    def add(
        self,
        name: str,
        anomaly_map: NDArray[np.floating],
        mask: NDArray[np.bool_] | None,
        valid: NDArray[np.bool_] | None = None,
    ) -> None:
        """Take in one image (h, w); `mask=None` for a good one; only pixels where `valid` is True count.

        Raises:
            DataError: when the name was there before, shapes differ, a map value is nan, or nothing is valid.
        """
        raise NotImplementedError

    @property
    def names(self) -> list[str]:
        """Names of the images in the order they came."""
        raise NotImplementedError

    @property
    def resolution(self) -> float:
        """Largest relative difference of two map values that may have been taken as equal; 0.0 while exact."""
        raise NotImplementedError

    def subset(self, names: Collection[str]) -> "PixelScores":
        """The same for some of the images, e.g. those of one defect type and all good ones."""
        raise NotImplementedError

    def auroc(self) -> float:
        """Area under the pixels' ROC curve."""
        raise NotImplementedError

    def average_precision(self) -> float:
        """Average precision of the pixels."""
        raise NotImplementedError

    def aupro(self, max_fpr: float = 0.3) -> float:
        """Area under the per-region overlap curve up to a pixel false-positive rate."""
        raise NotImplementedError

    def aupimo(self, fpr_range: tuple[float, float] = (1e-5, 1e-4)) -> float:
        """Mean over the defective images of `aupimo_each`; nan without good images."""
        raise NotImplementedError

    def aupimo_each(self, fpr_range: tuple[float, float] = (1e-5, 1e-4)) -> dict[str, float]:
        """AUPIMO of each defective image, by name."""
        raise NotImplementedError

    def oracle_f1(self) -> tuple[float, float]:
        """The best F1 any threshold gives, and that threshold; chosen with the masks, hence the name."""
        raise NotImplementedError

    def counts_at(self, threshold: float) -> Counts:
        """Right and wrong pixels of all images at a threshold; feed it to `precision`, `recall`, `accuracy`, `f1`."""
        raise NotImplementedError

    def counts_each(self, threshold: float) -> dict[str, Counts]:
        """The same image by image, by name."""
        raise NotImplementedError

    def roc_curve(self, max_points: int = 500) -> RocCurve:
        """The pixels' ROC curve for drawing."""
        raise NotImplementedError

    def histogram(self, bins: int = 100) -> PixelHistogram:
        """Good and defective pixels in equal steps from the smallest to the largest map value."""
        raise NotImplementedError

    def bootstrap(
        self,
        rng: np.random.Generator,
        threshold: float | None = None,
        repeats: int = 1000,
        confidence: float = 0.95,
    ) -> dict[str, Interval]:
        """Intervals of `auroc`, `average_precision`, `aupro`, `aupimo`, `oracle_f1`, and with a threshold of
        `precision`, `recall`, `accuracy`, `f1`; whole images are resampled, good and defective ones apart."""
        raise NotImplementedError
