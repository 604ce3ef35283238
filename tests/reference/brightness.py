"""A model whose map is the brightness of the image."""

from typing import Any

import numpy as np

from blemish.data.images import PixelPolicy
from blemish.inference.artifact import ArtifactHeader, DataCard
from blemish.inference.predictor import Predictor
from blemish.settings import RunSettings

SIDE = 32


class Brightness:
    """A runtime whose map is the brightest channel."""

    def maps(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return images.max(axis=1)  # type: ignore[no-any-return]

    def reconstruct(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.zeros_like(images)


def brightness_model() -> Predictor:
    header = ArtifactHeader(
        detector="brightness",
        run=RunSettings(detector="brightness"),
        policy=PixelPolicy(size_px=(SIDE, SIDE), channels=3),
        calibration_scores=tuple(np.linspace(0.4, 0.47, 19)),
        max_false_alarm_rate=0.1,
        threshold=0.465,
        data_card=DataCard(root="elsewhere", fit_images=80, calibration_images=19, files_sha256="0"),
    )
    return Predictor(header, Brightness())
