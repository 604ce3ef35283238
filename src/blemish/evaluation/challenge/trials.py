"""One synthetic defect on one good photo, and whether the model finds it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from PIL import Image

from blemish.data.images import PixelPolicy
from blemish.data.pixels import Values, as_pixels
from blemish.data.synthetic.defects import DEFECTS, defect_seed
from blemish.data.synthetic.placing import Mask
from blemish.data.synthetic.shapes import extent_px
from blemish.inference.predictor import Prediction, Predictor
from blemish.inference.score import resize_map
from blemish.stats.regions import grow_mask
from blemish.training.part_region import part_region

NEAR_SHARE = 0.02
"""A map is blurred and coarse: above the threshold this near to the defect still counts, as a share of the longer side
of the map."""

Outcome = Literal["hit", "miss", "elsewhere", "alarmed_before"]


@final
@dataclass(frozen=True)
class Trial:
    """A defect to put on a photo: what it is to be, and the seed that makes it the same again.

    It is made at the `strongest` contrast and faded to its own, so that all contrasts have the same shape and place.
    """

    defect_type: str
    contrast: float
    strongest: float
    number: int
    asked_px: float
    photo: int
    seed: tuple[int, int, int]


@final
@dataclass(frozen=True)
class TrialResult:
    """What became of a trial. `size_px` is the defect's extent as drawn, in pixels of the photo."""

    trial: Trial
    size_px: float
    outcome: Outcome

    @property
    def is_hit(self) -> bool:
        """Whether the defect itself was found."""
        return self.outcome == "hit"


def plan_trials(
    defect_types: Sequence[str],
    contrasts: Sequence[float],
    count: int,
    sizes_px: tuple[float, float],
    photos: int,
    seed: int,
) -> list[Trial]:
    """For each type `count` defects in even steps of the logarithm of their size, the photos in turn, at each contrast.

    The contrasts share shape, place and photo, so that they compare.

    >>> trials = plan_trials(["hole"], [0.1, 0.2], 4, (2.0, 32.0), photos=3, seed=0)
    >>> len(trials), sorted(round(float(np.log2(trial.asked_px))) for trial in trials[::2])
    (8, [2, 2, 4, 5])
    """
    low, high = np.log(sizes_px)
    trials = []
    for defect_type in defect_types:
        own = defect_seed(defect_type)
        rng = np.random.default_rng((seed, own))
        steps = (rng.permutation(count) + rng.random(count)) / count
        order = rng.permutation(photos)
        for number in range(count):
            asked = float(np.exp(low + (high - low) * steps[number]))
            photo = int(order[number % photos])
            trials += [
                Trial(defect_type, contrast, max(contrasts), number, asked, photo, (seed, own, number))
                for contrast in contrasts
            ]
    return trials


def with_defect(values: Values, region: Mask | None, trial: Trial) -> tuple[Values, Mask]:
    """The photo with the trial's defect, stored as the photo is, and the defect's mask.

    Raises:
        DataError: no place can hold it.
    """
    pixels = as_pixels(values)
    rng = np.random.default_rng(trial.seed)
    image, mask = DEFECTS[trial.defect_type](pixels, region, trial.asked_px, trial.strongest, rng)
    image = pixels + (image - pixels) * np.float32(trial.contrast / trial.strongest)
    image = image[:, :, 0] if values.ndim == 2 else image
    return np.rint(image * 255).astype(np.uint8) if values.dtype == np.uint8 else image, mask


def own_region(policy: PixelPolicy, values: Values, anywhere: bool = False) -> Mask | None:
    """Where defects are put on a photo: in the model's region of interest, else on the part; None: anywhere.

    On the part only where the photo tells it from its ground, see `part_region`, and `anywhere` is False.
    """
    if policy.roi is None:
        return None if anywhere else part_region(as_pixels(values))
    size = (values.shape[1], values.shape[0])
    whole = np.uint8(policy.whole_map(policy.roi)) * np.uint8(255)
    resized = Image.fromarray(whole).resize(size, Image.Resampling.NEAREST)
    return np.asarray(resized) > 0


def judge_trial(
    predictor: Predictor, trial: Trial, values: Values, region: Mask | None, twin: Prediction
) -> TrialResult:
    """Put the defect on and look: `twin` is what the model says of the same photo without it.

    A hit is a map value above the threshold at the defect or just beside it, where the twin has none. `elsewhere`: the
    photo is flagged for another place, and was not before; the part would be thrown out, but not for its defect, so it
    counts as a miss. `alarmed_before`: the twin raises an alarm at that very place; nothing can be learnt.

    Raises:
        DataError: no place can hold the defect.
    """
    image, mask = with_defect(values, region, trial)
    prediction = predictor.predict(image)
    peak, before = peaks_beside(mask, [prediction, twin])
    outcome: Outcome = "miss"
    if before > predictor.threshold:
        outcome = "alarmed_before"
    elif peak > predictor.threshold:
        outcome = "hit"
    elif prediction.is_anomalous and not twin.is_anomalous:
        outcome = "elsewhere"
    return TrialResult(trial, extent_px(mask), outcome)


def peaks_beside(mask: Mask, predictions: Sequence[Prediction]) -> list[float]:
    """The highest map value at the masked pixels or just beside them, of each prediction."""
    size_px = predictions[0].scored_map.shape
    near = beside(resize_map(mask.astype(np.float32), (size_px[0], size_px[1])) > 0)
    return [float(found.scored_map[near].max()) for found in predictions]


def beside(mask: Mask) -> Mask:
    """The mask and what lies within `NEAR_SHARE` of it, at least two pixels.

    >>> mask = np.zeros((9, 9), bool); mask[4, 4] = True
    >>> int(beside(mask).sum())
    25
    """
    return grow_mask(mask, max(2, round(NEAR_SHARE * max(mask.shape))))
