"""What to try next where a model finds less than half of the defects: each step with what is known of its effect."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import final

from blemish.data.folder import Folder
from blemish.errors import CalibrationError, DataError, join_names, plural
from blemish.evaluation.judged import JudgedImage
from blemish.evaluation.results import Rung
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.calibration import promise, smallest_promise
from blemish.inference.predictor import Predictor
from blemish.settings import RunSettings

ENOUGH = 0.5
"""From this share of the defective images found, nothing is advised."""

_COARSER = 1.3
"""How many of the photo's pixels one of the network's must cover before a larger size is advised."""

_ODD = 1.05
"""How much higher than the second calibration score the first must be to be named."""

_COMPARED = ("patchcore", "padim")
"""Detectors to try beside the default one: they often find other defects, and train in a minute."""


@final
@dataclass(frozen=True)
class Judgement:
    """What the advice is made from: the model, the test images, and the sizes of their photos (height, width)."""

    predictor: Predictor
    images: Sequence[JudgedImage]
    sizes_px: Sequence[tuple[int, int]]
    ladder: Sequence[Rung]
    folder: Folder


def advise(judged: Judgement) -> list[str]:
    """The steps, the most telling first; none where at least half is found or nothing is defective."""
    defective = [image for image in judged.images if image.label]
    if not defective or sum(image.is_anomalous for image in defective) >= ENOUGH * len(defective):
        return []
    steps = (_odd_image(judged), _rate(judged), _size(judged), _detector(judged), _region(judged), _images(judged))
    return [step for step in steps if step]


def _found(judged: Judgement, threshold: float) -> int:
    return sum(image.label and image.score > threshold for image in judged.images)


def _odd_image(judged: Judgement) -> str:
    """The good image that sets the threshold, by name where it is still in its folder, and its price."""
    header = judged.predictor.header
    scores, card = header.calibration_scores, header.calibration
    is_highest = judged.predictor.threshold == header.threshold == scores[-1]
    if len(scores) < 3 or card.folds or not is_highest or scores[-1] < _ODD * scores[-2]:
        return ""
    without = threshold_without_highest(header)
    found, now = _found(judged, without), _found(judged, header.threshold)
    if found <= now:
        return ""
    name = _name_of(judged, scores[-1]) or "one good image, the highest of those calibrated on,"
    return (
        f"look at {name}: it alone sets the threshold, {header.threshold:.4g}. Without it the threshold would be "
        f"{without:.4g}, and {found} of the defective images would be found instead of {now}. If it is not a good "
        "part, take it out and train again; if it is one, it must stay, or the promise is void"
    )


def threshold_without_highest(header: ArtifactHeader) -> float:
    """The threshold that the other calibration scores give, for the same rate or the smallest they can promise."""
    scores, card = header.calibration_scores[:-1], header.calibration
    card = card.model_copy(update={"images": None})
    try:
        return promise(scores, card, header.max_false_alarm_rate, card.confidence).threshold
    except CalibrationError:
        return promise(scores, card, smallest_promise(scores, card), card.confidence).threshold


def _name_of(judged: Judgement, score: float) -> str:
    """The good image with this calibration score, where the folder still has it; "" where it does not."""
    calibrated = set(judged.predictor.header.calibration.image_ids)
    for sample in judged.folder.train:
        try:
            if sample.file_id in calibrated:
                own = judged.predictor.predict(sample.path).score
                if abs(own - score) <= 1e-3 * score:
                    return sample.name
        except (DataError, OSError):
            continue
    return ""


def _rate(judged: Judgement) -> str:
    """The smallest rate on the ladder that finds at least half, or else the one that finds most."""
    now = sum(image.label and image.is_anomalous for image in judged.images)
    better = [rung for rung in judged.ladder if rung.found is not None and rung.found > now and not rung.is_chosen]
    if not better:
        return ""
    rung = next((rung for rung in better if (rung.found or 0) >= ENOUGH * rung.defective), better[-1])
    return (
        f"allow {100 * rung.max_false_alarm_rate:.3g} % false alarms: that finds {rung.found} of {rung.defective} "
        f"(`--max-false-alarm-rate {rung.max_false_alarm_rate:.3g}`, here and for `blemish inspect`)"
    )


def _size(judged: Judgement) -> str:
    policy = judged.predictor.policy
    longest = median(max(policy.seen_px(size)) for size in judged.sizes_px)
    seen = max(policy.tile_px or policy.size_px)
    if policy.tile_px is not None or longest < _COARSER * seen:
        return ""
    side = min(policy.size_px) * 2
    what, of = ("the photos are", "them") if policy.map_px is None else ("the part with the region is", "it")
    return (
        f"train at a larger size: {what} {longest:.0f} px long and the model sees {seen} px of {of}, so what "
        f"is small is lost; for example `--set data.side_px={side}`, which takes about four times as long"
    )


def _detector(judged: Judgement) -> str:
    own = judged.predictor.header.detector
    others = [name for name in (RunSettings().detector, *_COMPARED) if name != own]
    names = ",".join([own, *others])
    return (
        f"try another detector: `blemish compare {judged.folder.root} --detectors {names} --seeds 1 -o comparison` "
        f"compares {join_names([own, *others])}"
    )


def _region(judged: Judgement) -> str:
    """Where the highest pixel of an image is not at its defect, what lies around the part is the likely cause."""
    elsewhere = [image for image in judged.images if image.label and image.peak_on_defect is False]
    known = sum(image.peak_on_defect is not None for image in judged.images)
    if judged.predictor.policy.roi is not None or 3 * len(elsewhere) < known or not elsewhere:
        return ""
    return (
        f"give a region of interest (`data.roi`): in {len(elsewhere)} of {plural(known, 'image')} with a known defect "
        "the highest pixel lies beside the defect; if it lies in the background, leave the background out"
    )


def _images(judged: Judgement) -> str:
    header = judged.predictor.header
    card, n = header.calibration, len(header.calibration_scores)
    missing = [rung for rung in judged.ladder if rung.threshold is None and rung.needed is not None]
    if card.folds or not missing:
        return ""
    rung = missing[-1]
    return (
        f"give more good images: {n} were held out to calibrate, and {rung.needed} would promise "
        f"{100 * rung.max_false_alarm_rate:.3g} %; `score.calibration=cross` uses all good images for it"
    )
