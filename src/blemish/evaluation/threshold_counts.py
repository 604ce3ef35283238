"""What an evaluation leaves beside its results, so that the threshold can be swept without any scoring: counts of
pixels at many thresholds, and the maps of its examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from blemish.evaluation.judged import JudgedImage
from blemish.evaluation.paper import PAPER_TAUS
from blemish.evaluation.report.pictures import Example
from blemish.inference.tensor_file import read_tensors, write_tensors
from blemish.stats import Counts, PixelScores

MAPS = "maps.safetensors"

ALL = "all"
"""The scope of all images; the others are one defect type's images and all good ones."""

_STEPS = 1000
_LOWEST_SHARE = 1e-3


@final
@dataclass(frozen=True, eq=False)
class ThresholdCounts:
    """`counts` has rows of tp, fp, tn, fn for each of the ascending `thresholds`, by scope."""

    thresholds: NDArray[np.float64]  # (n,)
    counts: dict[str, NDArray[np.int64]]  # (n, 4)
    examples: list[Example]

    def at(self, threshold: float, scope: str = ALL) -> tuple[float, Counts]:
        """The nearest threshold that was counted, and its counts; they lie less than 1 % apart."""
        place = int(np.abs(self.thresholds - threshold).argmin())
        return float(self.thresholds[place]), Counts(*self.counts[scope][place].tolist())


def sweep_pixels(
    pixels: PixelScores, images: Sequence[JudgedImage], marks: Sequence[float], examples: Sequence[Example]
) -> ThresholdCounts:
    """Count at thresholds in equal ratios below the highest score, and at `marks`, 0 and the paper's exactly.

    >>> pixels = PixelScores()
    >>> pixels.add("a.png", np.array([[0.1, 0.9]]), mask=np.array([[False, True]]))
    >>> image = JudgedImage("a.png", "cut", True, True, score=0.9, p_value=0.1, is_anomalous=True)
    >>> sweep_pixels(pixels, [image], [], []).at(0.2, "cut")
    (0.2, Counts(tp=1, fp=0, tn=1, fn=0))
    """
    highest = max(image.score for image in images)
    steps = highest * np.geomspace(_LOWEST_SHARE, 1.0, _STEPS) if highest > 0 else np.zeros(0)
    thresholds = np.unique(np.concatenate([[0.0], steps, marks, PAPER_TAUS]))
    by_image = pixels.counts_over(thresholds.tolist())
    kinds = {image.name: image.defect_type for image in images}
    types = sorted({image.defect_type for image in images if image.has_mask})
    scopes = {
        ALL: set(by_image),
        **{kind: {name for name in by_image if kinds[name] in (kind, "good")} for kind in types},
    }
    nothing = np.zeros((thresholds.size, 4), np.int64)
    counts = {scope: sum((by_image[name] for name in names), start=nothing) for scope, names in scopes.items()}
    return ThresholdCounts(thresholds, counts, list(examples))


def write_threshold_counts(path: Path, swept: ThresholdCounts) -> None:
    """Write the file, completely or not at all.

    Raises:
        DataError: it cannot be written.
    """
    tensors: dict[str, NDArray[np.generic]] = {"thresholds": swept.thresholds}
    tensors |= {f"counts.{place}": counts for place, counts in enumerate(swept.counts.values())}
    described: list[JsonValue] = []
    for place, example in enumerate(swept.examples):
        described.append([example.name, example.defect_type, example.score])
        tensors[f"image.{place}"], tensors[f"map.{place}"] = example.image, example.anomaly_map
        if example.mask is not None:
            tensors[f"mask.{place}"] = example.mask
    write_tensors(path, "evaluation", {"scopes": list(swept.counts), "examples": described}, tensors)


def read_threshold_counts(path: Path) -> ThresholdCounts:
    """What `write_threshold_counts` wrote; the reconstructions are not kept.

    Raises:
        ArtifactError: missing, foreign, truncated, or changed since it was written.
    """
    content, tensors = read_tensors(path, "evaluation")
    examples = [
        Example(
            name=name,
            defect_type=defect_type,
            score=score,
            image=tensors[f"image.{place}"],
            reconstruction=None,
            anomaly_map=tensors[f"map.{place}"],
            mask=tensors.get(f"mask.{place}"),
        )
        for place, (name, defect_type, score) in enumerate(content["examples"])
    ]
    counts = {scope: tensors[f"counts.{place}"] for place, scope in enumerate(content["scopes"])}
    return ThresholdCounts(tensors["thresholds"], counts, examples)
