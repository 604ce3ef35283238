"""The threshold of a product: what each one guarantees, what it would have done, and who moved it why."""

import math
from typing import NamedTuple, final

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.errors import CalibrationError, DataError, SettingsError
from blemish.inference.artifact import ArtifactHeader
from blemish.station.database import Database
from blemish.station.products import checked_reason, header_of_model, product_of
from blemish.station.tables import Decision, Model
from blemish.station.trail import append

LAST = 1000
MOST_CHOICES = 160
BEYOND = 0.5
"""The slider goes so far beyond the highest calibration score, in parts of the span of all."""


@final
class Choice(NamedTuple):
    """A threshold that can be chosen."""

    threshold: float
    rate: float | None
    """At most this share of good images is flagged, as surely as the certificate says; None: nothing is guaranteed."""
    flagged: int
    """Of the last images, so many would have been flagged."""


def guaranteed_rate(header: ArtifactHeader, threshold: float) -> float | None:
    """The smallest false-alarm rate that the calibration scores guarantee at a threshold; None: not even below 1.

    A threshold above all calibration scores guarantees no less than the highest of them: more is not known.
    """
    confidence = header.calibration.confidence
    if confidence is None:  # score > threshold exactly where the p-value is at most the rate
        rate = header.p_value(math.nextafter(threshold, math.inf))
        return rate if rate < 1.0 else None
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2.0
        try:
            is_kept = header.certify(middle, confidence).threshold <= threshold
        except CalibrationError:
            is_kept = False
        low, high = (low, middle) if is_kept else (middle, high)
    return high if high < 1.0 - 1e-6 else None


def choices(header: ArtifactHeader, scores: list[float], current: float) -> list[Choice]:
    """The thresholds of the slider, ascending: calibration scores, the current one, and some beyond the highest.

    `scores` are of the last images.
    """
    calibration = np.unique(np.asarray(header.calibration_scores, np.float64))
    places = np.unique(np.linspace(0, len(calibration) - 1, MOST_CHOICES).astype(int))
    span = calibration[-1] - calibration[0] or calibration[-1] or 1.0
    beyond = calibration[-1] + span * np.linspace(0.0, BEYOND, 11)[1:]
    wanted = np.unique(np.concatenate([calibration[places], beyond, [header.threshold, current]]))
    ordered = np.sort(np.asarray(scores, np.float64))
    above = len(ordered) - np.searchsorted(ordered, wanted, side="right")
    return [
        Choice(float(threshold), guaranteed_rate(header, float(threshold)), int(flagged))
        for threshold, flagged in zip(wanted, above, strict=True)
    ]


def last_scores(session: Session, product_id: int, model_id: int) -> list[float]:
    """The scores of the last images of a product that this model judged."""
    query = (
        select(Decision.score)
        .where(Decision.product_id == product_id, Decision.model_id == model_id, Decision.score.is_not(None))
        .order_by(Decision.decided_at.desc())  # as the index has them
        .limit(LAST)
    )
    return [score for score in session.scalars(query) if score is not None]


def live_model(session: Session, product_id: int) -> tuple[Model, ArtifactHeader] | None:
    """The model that judges a product now."""
    model = session.get(Model, product_of(session, product_id).model_id or 0)
    return None if model is None else (model, header_of_model(model))


def set_threshold(
    database: Database,
    actor: str,
    product_id: int,
    threshold: float,
    reason: str,
    expected_model_id: int,
    expected: float | None = None,
) -> None:
    """Move the threshold of a product, for a reason that stands in the audit trail; `expected` is what it was before.

    Raises:
        SettingsError: not a finite number >= 0, or no reason.
        DataError: there is no such product, or another model is live than the one it was chosen for, or somebody has
            moved the threshold meanwhile.
    """
    if not (math.isfinite(threshold) and threshold >= 0.0):
        raise SettingsError(f"threshold: {threshold} is not a finite number >= 0")
    with database.write() as session:
        product, live = product_of(session, product_id), live_model(session, product_id)
        if live is None or live[0].id != expected_model_id:
            raise DataError(f"product '{product.name}': another model is live since; look at its scores first")
        model, header = live
        before = header.threshold if product.threshold is None else product.threshold
        if expected not in (None, before):
            raise DataError(f"product '{product.name}': somebody has moved its threshold since; look at it first")
        detail = {
            "from": before,
            "to": threshold,
            "guaranteed_rate": guaranteed_rate(header, threshold),
            "model_sha256": model.sha256,
            "reason": checked_reason(reason),
        }
        product.threshold = threshold
        append(session, actor, "threshold", product.name, detail)


def set_doubt_rate(database: Database, actor: str, product_id: int, rate: float, reason: str) -> None:
    """Show people the images to come that pass, but that at most this share of good parts resembles; 0: none.

    Raises:
        SettingsError: it is outside [0, 1), or nothing could be doubtful at the threshold; or no reason is given.
        DataError: there is no such product.
    """
    if not 0.0 <= rate < 1.0:
        raise SettingsError(f"doubtful: found {100 * rate:g} %; it must be at least 0 and less than 100 %")
    with database.write() as session:
        product, live = product_of(session, product_id), live_model(session, product_id)
        least = 0.0
        if live is not None:
            least = live[1].least_doubt_rate(live[1].threshold if product.threshold is None else product.threshold)
        if 0.0 < rate < least > 0.999:  # in tenths of a percent no rate that may be given is enough
            raise SettingsError(
                f"doubtful: found {100 * rate:g} %; at the threshold of now nothing that passes would be doubtful: "
                "give 0 for none, or move the threshold up"
            )
        if 0.0 < rate < least:
            raise SettingsError(
                f"doubtful: found {100 * rate:g} %; of what passes at the threshold of now, nothing would be doubtful "
                f"below {math.ceil(1000 * least) / 10:g} %: give at least that, or 0 for none"
            )
        detail = {"from": product.doubt_rate, "to": rate, "reason": checked_reason(reason)}
        product.doubt_rate = rate
        append(session, actor, "doubt rate", product.name, detail)
