"""What of the paper's decision rule reaches into an evaluation: its thresholds, and the maps they are meant for."""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from blemish.data.folder import Sample
from blemish.data.images import prepare
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
            prepared, policy = prepare(sample.path, predictor.policy), predictor.policy
            top, left, bottom, right = prepared.box
            shown = prepared.pixels()[:, top:bottom, left:right]
            difference = np.abs(shown - reconstruction).max(axis=0)  # (h, w)
            if policy.roi is not None:  # never of padded images
                difference = difference * policy.roi
            expected = remove_small_regions(difference, predictor.header.run.score.min_defect_px)
            found = predictor.predict_prepared(prepared).scored_map
            return bool(np.allclose(found, policy.whole_map(expected), atol=1e-4))
    return False
