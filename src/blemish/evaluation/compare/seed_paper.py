"""Figures that others have published, each with its source: to stand beside our own, never to be mixed with them."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np

from blemish.data.folder import Sample
from blemish.data.images import load_image
from blemish.errors import DataError
from blemish.evaluation.measures import Nested
from blemish.inference.predictor import Predictor
from blemish.inference.score import remove_small_regions

SEED = "Fadaeinejad, Anomaly Detection in Images using Deep Encoder-Decoder Models"
MVTEC_AD = "Bergmann et al. 2019, MVTec AD"
CATEGORY = "hazelnut"
"""The category of MVTec AD that all figures here are for."""


@final
@dataclass(frozen=True)
class PixelRow:
    """A row of the seed paper's Table 3, as printed."""

    recall: float
    precision: float
    f1: float

    @property
    def own_f1(self) -> float:
        """The F1 that its recall and its precision give.

        >>> round(PixelRow(recall=0.69, precision=0.8, f1=0.57).own_f1, 2)
        0.74
        """
        return 2 * self.recall * self.precision / (self.recall + self.precision)

    @property
    def agrees(self) -> bool:
        """Whether the printed F1 is the one of its row, within the rounding of two digits."""
        return abs(self.f1 - self.own_f1) < 0.02


@final
@dataclass(frozen=True)
class ImageRow:
    """Shares of the good images accepted and of the defective images found."""

    ok_rate: float
    defect_rate: float


@final
@dataclass(frozen=True)
class Ranking:
    """Areas under curves, as shares; None where nothing was published."""

    pixel_auroc: float
    aupro: float | None
    image_auroc: float | None
    source: str


SEED_TABLE_3 = {
    ("seed", "print"): PixelRow(0.22, 0.82, 0.35),
    ("seed", "crack"): PixelRow(0.26, 0.57, 0.36),
    ("seed", "cut"): PixelRow(0.69, 0.80, 0.57),
    ("seed", "hole"): PixelRow(0.55, 0.61, 0.75),
    ("ae_ssim", ""): PixelRow(0.08, 1.00, 0.15),
    ("ae_l2", ""): PixelRow(0.84, 0.93, 0.88),
    ("anogan", ""): PixelRow(0.16, 0.83, 0.27),
    ("feature_dictionary", ""): PixelRow(0.07, 0.90, 0.13),
}
"""The seed paper's Table 3, by detector and defect type; "" is all types together."""

MVTEC_AD_RATES = {
    "ae_ssim": ImageRow(ok_rate=1.00, defect_rate=0.08),
    "ae_l2": ImageRow(ok_rate=0.93, defect_rate=0.84),
    "anogan": ImageRow(ok_rate=0.83, defect_rate=0.16),
    "feature_dictionary": ImageRow(ok_rate=0.90, defect_rate=0.07),
}
"""Ratios of correctly classified defect-free and anomalous images."""

RANKINGS = {
    "ae_l2": Ranking(0.95, None, None, MVTEC_AD),
    "ae_ssim": Ranking(0.97, None, None, MVTEC_AD),
    "anogan": Ranking(0.87, None, None, MVTEC_AD),
    "padim": Ranking(0.985, 0.953, 0.964, "PaDiM with a wide ResNet-50"),
    "patchcore": Ranking(0.987, 0.958, 1.0, "PatchCore with a wide ResNet-50"),
}

CAVEATS = (
    f"All published figures are for {CATEGORY} of MVTec AD, trained on its 391 good images and tested on its 70 "
    "defective ones. They are comparable with ours only where the images are the same.",
    "The rows that the seed paper's Table 3 has for AE(SSIM), AE(L2), AnoGAN and the CNN feature dictionary are, as "
    "far as we can tell, no pixel figures at all: they are the ratios of correctly classified good and defective "
    "images of the MVTec AD paper, read as precision and recall of pixels. They stand in both columns here, as "
    "printed and as what they seem to be; 'AE(L2) 0.88' is not a pixel F1.",
    "Two cells of its own F1 column are swapped: recall 0.69 and precision 0.80 (cut) give 0.74, recall 0.55 and "
    "precision 0.61 (hole) give 0.58; the table prints 0.57 for cut and 0.75 for hole.",
    "Its thresholds, 0.2 and for holes 0.25, were chosen looking at the test images. Ours is the calibrated one, from "
    "good images alone; what was chosen with hindsight is called oracle.",
    "Its thresholds have a meaning only on the map of its Algorithm 1, the largest difference of colours on a scale "
    "from 0 to 1; on other maps (structural similarity, distances of features) 0.2 is just a number, and is left out.",
    "It does not say whether its rows pool the pixels of a type or average over images; ours pool the pixels of the "
    "type's own images, as it has no good test images. The row 'all images' counts the good ones, too.",
)
"""What must be known to read the published figures beside ours."""

Order = Literal["higher", "lower", "alike"]


def claims(summary: Sequence[Nested]) -> list[Nested]:
    """Each claim with `holds` (None: cannot be told) and its evidence in one sentence; none of fewer than three values.

    Two means differ where they lie further apart than their standard deviations over the seeds together. With one seed
    any difference counts, and the evidence says so.
    """
    known = [each for each in summary if each["seeds"] and isinstance(each["value"], int | float)]
    known.sort(key=lambda each: each["value"])
    if len(known) < 3:
        return []
    found = [_small(known), _large(known), _optimum(known)]
    if max(each["seeds"] for each in known) == 1:
        for claim in found:
            claim["evidence"] += " One seed: small differences may be chance."
    return found


def compared(one: Nested, other: Nested) -> Order:
    """How the mean of one spread stands to that of another.

    >>> compared({"mean": 0.5, "std": 0.1}, {"mean": 0.4, "std": 0.1})
    'alike'
    """
    margin = (one["std"] or 0.0) + (other["std"] or 0.0)
    if abs(one["mean"] - other["mean"]) <= margin:
        return "alike"
    return "higher" if one["mean"] > other["mean"] else "lower"


def _small(known: Sequence[Nested]) -> Nested:
    name = "good_held_out" if known[0]["map_means"]["good_held_out"] else "good_test"
    text = "Too small a latent cannot hold the details of good images: the error on good pixels rises."
    smallest, least = known[0], min(known[1:], key=_mean("map_means", name))
    return _judged(text, smallest, least, ("map_means", name), "higher", "error on good pixels")


def _large(known: Sequence[Nested]) -> Nested:
    text = "Too large a latent reproduces defects, too: the error on defective pixels falls."
    if any(each["map_means"]["defective_test"] is None for each in known):
        return {"claim": text, "holds": None, "evidence": "No defective pixels are known."}
    most = max(known[:-1], key=_mean("map_means", "defective_test"))
    return _judged(text, known[-1], most, ("map_means", "defective_test"), "lower", "error on defective pixels")


def _optimum(known: Sequence[Nested]) -> Nested:
    text = "In between lies the best size: F1 (oracle) is lower at both ends."
    path = ("measures", "pixel.oracle_f1")
    if any(each["measures"]["pixel.oracle_f1"] is None for each in known):
        return {"claim": text, "holds": None, "evidence": "There is no F1 without known defective pixels."}
    best = max(known[1:-1], key=_mean(*path))
    orders = [compared(_at(end, path), _at(best, path)) for end in (known[0], known[-1])]
    holds = None if "alike" in orders and "higher" not in orders else orders == ["lower", "lower"]
    values = ", ".join(f"{_at(each, path)['mean']:.3g} at {each['label']}" for each in (known[0], best, known[-1]))
    return {"claim": text, "holds": holds, "evidence": f"F1 {values}."}


def _judged(text: str, end: Nested, other: Nested, path: tuple[str, str], wanted: Order, what: str) -> Nested:
    order = compared(_at(end, path), _at(other, path))
    holds = None if order == "alike" else order == wanted
    values = ", ".join(f"{_at(each, path)['mean']:.3g} at {each['label']}" for each in (end, other))
    return {"claim": text, "holds": holds, "evidence": f"Mean {what}: {values}."}


def _at(point: Nested, path: tuple[str, str]) -> Any:
    return point[path[0]][path[1]]


def _mean(*path: str) -> Callable[[Nested], float]:
    return lambda point: float(point[path[0]][path[1]]["mean"])


def is_algorithm_1(predictor: Predictor, samples: Sequence[Sample]) -> bool:
    """Whether the map is the seed paper's: the largest difference over the channels to what the decoder gives.

    Only then are its thresholds, shares of the range of the colours, thresholds of this map. Tried on the first image
    that can be read, so that any detector may turn out to be one.
    """
    for sample in samples:
        with suppress(DataError):
            reconstruction = predictor.reconstruct(sample.path)
            if reconstruction is None:
                return False
            difference = np.abs(load_image(sample.path, predictor.policy) - reconstruction).max(axis=0)  # (h, w)
            if predictor.policy.roi is not None:
                difference = difference * predictor.policy.roi
            expected = remove_small_regions(difference, predictor.header.run.score.min_defect_px)
            return bool(np.allclose(predictor.predict(sample.path).scored_map, expected, atol=1e-4))
    return False
