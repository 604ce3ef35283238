"""Pictures of a few test images as several models see them: one row an image, one column a model."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.folder import Folder, Sample
from blemish.data.images import PixelPolicy, read_original
from blemish.errors import DataError
from blemish.evaluation.examples import spread_evenly
from blemish.evaluation.report.close_up import CALLED_COLOUR, TRUE_COLOUR, outline, own_scale
from blemish.evaluation.report.pictures import photo
from blemish.inference.overlay import Rgb, as_rgb
from blemish.inference.predictor import Predictor
from blemish.inference.score import resize_map
from blemish.settings import MaskValues

SIDE_PX = 256
"""The longest side of a picture."""


@final
class Gallery:
    """The chosen images of one dataset, and what models made of them, as pictures for a page.

    Two images of each defect type and a good one, evenly spread over their names; `mask_values` is what masks mean.
    """

    def __init__(self, folder: Folder, policy: PixelPolicy, mask_values: MaskValues, per_type: int = 2) -> None:
        self._policy = policy
        self.samples = [replace(sample, **mask_values) for sample in chosen(folder, per_type)]
        self.truth = [self._try(sample) for sample in self.samples]
        self.columns: dict[str, list[str | None]] = {}

    def add(self, name: str, predictor: Predictor, show: str = "heat map") -> None:
        """Add a model's column: its heat maps, or where it has them (and `show` says so) its reconstructions."""
        self.columns[name] = [self._try(sample, predictor, show) for sample in self.samples]

    def rows(self, columns: Sequence[str]) -> list[dict[str, object]]:
        """For a page: each image with its pictures, in the order of `columns` and of those alone that were added."""
        added = [name for name in columns if name in self.columns]
        return [
            {
                "name": sample.name,
                "type": sample.defect_type,
                "pictures": [("ground truth", self.truth[place])]
                + [(name, self.columns[name][place]) for name in added],
            }
            for place, sample in enumerate(self.samples)
        ]

    def _try(self, sample: Sample, predictor: Predictor | None = None, show: str = "") -> str | None:
        """None of an image that cannot be read; the evaluation has said so."""
        with suppress(DataError):
            original = _reduced(sample, self._policy)
            if predictor is None:
                return photo(_with_truth(sample, original))
            if show == "reconstruction" and (answer := predictor.reconstruct(sample.path)) is not None:
                return photo(as_rgb(answer))
            prediction = predictor.predict(sample.path)
            return photo(
                _with_map(original, resize_map(prediction.scored_map, original.shape[:2]), prediction.threshold)
            )
        return None


def chosen(folder: Folder, per_type: int) -> list[Sample]:
    """So many test images of each defect type, and a good one.

    >>> from pathlib import Path
    >>> test = [Sample(Path(f"{kind}{n}"), f"{kind}{n}", kind) for kind in ("good", "cut") for n in range(4)]
    >>> [sample.name for sample in chosen(Folder(Path(), (), tuple(test)), per_type=2)]
    ['cut1', 'cut3', 'good2']
    """
    found = []
    for kind, wanted in [*((kind, per_type) for kind in folder.defect_types), ("good", 1)]:
        some = [sample for sample in folder.test if sample.defect_type == kind]
        found += spread_evenly(some, wanted)
    return found


def _reduced(sample: Sample, policy: PixelPolicy) -> Rgb:
    image = read_original(sample.path, policy.max_image_px, policy.white_level)
    image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _with_map(image: Rgb, anomaly_map: NDArray[np.float32], threshold: float) -> Rgb:
    """Heat on the map's own scale, so that what is missed shows; and what is called defective."""
    return outline(own_scale(image, anomaly_map), anomaly_map > np.float64(threshold), CALLED_COLOUR)


def _with_truth(sample: Sample, image: Rgb) -> Rgb:
    mask = sample.load_mask((image.shape[0], image.shape[1]))
    return image if mask is None else outline(image, mask, TRUE_COLOUR)
