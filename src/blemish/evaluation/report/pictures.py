"""The pictures of a report: what was seen, what was expected, what was called defective."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.results import Results
from blemish.inference.overlay import Rgb, draw_contour, encode, mask_as_rgb, overlay

Curve = tuple[NDArray[np.float64], NDArray[np.float64], float]
"""Shares of the good flagged, shares of the defective found, and the area under it."""

_WHITE = (255, 255, 255)
_THRESHOLD_NAMES = {"calibrated": "the model's threshold", "paper_tau": "the paper's tau", "oracle_f1": "oracle F1"}


@final
@dataclass(frozen=True)
class Example:
    """One image with all it takes to draw it; everything of one size (h, w)."""

    name: str
    defect_type: str
    score: float
    image: Rgb
    reconstruction: Rgb | None
    anomaly_map: NDArray[np.float32]  # (h, w)
    mask: NDArray[np.bool_] | None  # (h, w)


@final
@dataclass(frozen=True)
class Drawings:
    """What the page shows beside the numbers.

    `roc` has a curve for images and one for pixels, where there are any.
    `threshold_curves` has a row `threshold` and rows of equal length to draw over it.
    """

    history: Mapping[str, Sequence[float]]
    roc: Mapping[str, Curve]
    threshold_curves: Mapping[str, Sequence[float]]
    panels: Mapping[str, Sequence[Example]]
    three_thresholds: Sequence[Example]
    missed: Sequence[Example]
    false_alarms: Sequence[Example]


def paper_panel(example: Example, results: Results) -> dict[str, Any]:
    """Figures 9 to 12 of the paper: input, reconstruction, predicted defect pixels, ground truth."""
    pictures = [("input", photo(example.image))]
    if example.reconstruction is not None:
        pictures.append(("reconstruction", photo(example.reconstruction)))
    else:
        pictures.append(("heat map", _heat(example, results.threshold)))
    pictures.append(("predicted defect pixels", drawing(example.anomaly_map > results.threshold)))
    if example.mask is not None:
        pictures.append(("ground truth", drawing(example.mask)))
    return _described(example, pictures)


def three_thresholds(example: Example, results: Results) -> dict[str, Any]:
    """Figures 13 and 14 of the paper: one image at the thresholds in use, beside the truth."""
    pictures = [("input", photo(example.image))]
    if example.mask is not None:
        pictures.append(("ground truth", drawing(example.mask)))
    levels = thresholds_in_use(results, example.defect_type)
    for name, level in sorted(levels.items(), key=lambda pair: -(pair[1] or 0.0)):
        if level is not None:
            caption = f"{_THRESHOLD_NAMES[name]}: {level:.3g}"
            pictures.append((caption, drawing(example.anomaly_map > level)))
    return _described(example, pictures)


def thresholds_in_use(results: Results, defect_type: str | None = None) -> dict[str, float | None]:
    """The model's threshold, the best with hindsight, and the paper's where the map is on its scale."""
    levels = {name: part.threshold for name, part in results.at_threshold.items()}
    if not results.has_paper_tau:
        del levels["paper_tau"]
    elif defect_type is not None:
        levels["paper_tau"] = results.by_type[defect_type].at_threshold["paper_tau"].threshold
    return levels


def heat_pair(example: Example, results: Results) -> dict[str, Any]:
    """An image with its ground truth outlined in white, beside its heat map."""
    image = example.image if example.mask is None else draw_contour(example.image, example.mask, _WHITE)
    return _described(example, [("input", photo(image)), ("heat map", _heat(example, results.threshold))])


def _described(example: Example, pictures: list[tuple[str, str]]) -> dict[str, Any]:
    return {"name": example.name, "type": example.defect_type, "score": example.score, "pictures": pictures}


def _heat(example: Example, threshold: float) -> str:
    return photo(overlay(example.image, example.anomaly_map, threshold))


def photo(image: Rgb) -> str:
    """A picture as a `data:` address, for a page."""
    return _data_address(encode(image, "JPEG"), "image/jpeg")


def drawing(mask: NDArray[np.bool_]) -> str:
    """The same of a mask, without loss."""
    return _data_address(encode(mask_as_rgb(mask), "PNG"), "image/png")


def _data_address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
