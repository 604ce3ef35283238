"""What of the paper's decision rule reaches into an evaluation: its thresholds, and the maps they are meant for."""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from blemish.data.folder import Sample
from blemish.data.images import load_image
from blemish.errors import DataError
from blemish.inference.predictor import Predictor
from blemish.inference.score import remove_small_regions

PAPER_TAUS = (0.7, 0.2, 0.1)
"""Figure 14 of the paper: too high, chosen, too low."""


def is_algorithm_1(predictor: Predictor, samples: Sequence[Sample]) -> bool:
    """Whether the map is the paper's: the largest difference over the channels to what the decoder gives.

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
            whole = predictor.policy.whole_map(expected)
            return bool(np.allclose(predictor.predict(sample.path).scored_map, whole, atol=1e-4))
    return False
