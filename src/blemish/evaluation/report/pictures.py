"""The pictures of a report: what was seen, what was expected, what was called defective."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from blemish.evaluation.report.close_up import CloseUp, frame, outlines, own_scale
from blemish.evaluation.results import Results
from blemish.inference.overlay import Rgb, encode, overlay

Curve = tuple[NDArray[np.float64], NDArray[np.float64], float]
"""Shares of the good flagged, shares of the defective found, and the area under it."""

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
    close_up: CloseUp | None = None  # its own size


@final
@dataclass(frozen=True)
class Drawings:
    """What the page shows beside the numbers.

    `roc` has a curve for images and one for pixels, where there are any.
    `threshold_curves` has a row `threshold` and rows of equal length to draw over it.
    """

    history: Mapping[str, Sequence[float]]
    calibration_scores: Sequence[float]
    roc: Mapping[str, Curve]
    threshold_curves: Mapping[str, Sequence[float]]
    panels: Mapping[str, Sequence[Example]]
    three_thresholds: Sequence[Example]
    missed: Sequence[Example]
    false_alarms: Sequence[Example]


class Picture(NamedTuple):
    """A picture of a row: all of a row get one height, so each takes a width by its `aspect` (width over height)."""

    caption: str
    address: str
    aspect: float


def panel(example: Example, results: Results) -> dict[str, Any]:
    """The photo, a close-up with what is and what was called defective, the reconstruction, and two heat maps.

    After Figures 9 to 12 of the paper, but on the photo: a mask alone does not say what it marks.
    """
    return _described(
        example,
        [
            *_photo_and_close_up(example, results.threshold),
            *([] if example.reconstruction is None else [_picture("reconstruction", example.reconstruction)]),
            _picture("heat, from the threshold", overlay(example.image, example.anomaly_map, results.threshold)),
            _picture("heat, on its own scale", own_scale(example.image, example.anomaly_map)),
        ],
    )


def _photo_and_close_up(example: Example, threshold: float) -> list[Picture]:
    cut = example.close_up
    if cut is None:
        called = example.anomaly_map > np.float64(threshold)
        return [_picture("photo", outlines(example.image, called, example.mask))]
    drawn = outlines(cut.image, cut.anomaly_map > np.float64(threshold), cut.mask)
    name = "close-up, brightened" if cut.is_brightened else "close-up"
    return [_picture("photo", frame(example.image, cut.box)), _picture(name, drawn)]


def three_thresholds(example: Example, results: Results) -> dict[str, Any]:
    """Figures 13 and 14 of the paper: one image at the thresholds in use, beside the truth."""
    levels = thresholds_in_use(results, example.defect_type)
    known = {name: level for name, level in levels.items() if level is not None}
    pictures = [
        _picture(f"{_THRESHOLD_NAMES[name]}: {level:.3g}", at_threshold(example, level))
        for name, level in sorted(known.items(), key=lambda pair: -pair[1])
    ]
    return _described(example, pictures)


def at_threshold(example: Example, level: float) -> Rgb:
    """What a threshold calls defective, and what is, on a photo of the defect."""
    cut = example.close_up
    image, anomaly_map, mask = (
        (example.image, example.anomaly_map, example.mask) if cut is None else (cut.image, cut.anomaly_map, cut.mask)
    )
    return outlines(image, anomaly_map > np.float64(level), mask)


def thresholds_in_use(results: Results, defect_type: str | None = None) -> dict[str, float | None]:
    """The model's threshold, the best with hindsight, and the paper's where the map is on its scale."""
    levels = {name: part.threshold for name, part in results.at_threshold.items()}
    if not results.has_paper_tau:
        del levels["paper_tau"]
    elif defect_type is not None:
        levels["paper_tau"] = results.by_type[defect_type].at_threshold["paper_tau"].threshold
    return levels


def _described(example: Example, pictures: list[Picture]) -> dict[str, Any]:
    return {"name": example.name, "type": example.defect_type, "score": example.score, "pictures": pictures}


def _picture(caption: str, image: Rgb) -> Picture:
    return Picture(caption, photo(image), image.shape[1] / image.shape[0])


def photo(image: Rgb) -> str:
    """A picture as a `data:` address, for a page."""
    return f"data:image/jpeg;base64,{base64.b64encode(encode(image, 'JPEG')).decode()}"


def extent(address: str) -> Markup:
    """Width and height of a `photo`, as attributes: a page keeps its place, and nothing moves when it is there."""
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        return Markup(f'width="{image.width}" height="{image.height}"')
