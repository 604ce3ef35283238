"""Another calibration of a live model, on images that people have confirmed as good in the audit lane.

Only those: the audit lane is a random sample of all images, judged before our verdict was seen. Rejects that were
called false alarms are a sample picked by their high scores; a threshold from them would be too high, would let defects
pass, and would guarantee nothing.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, final

from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.data.folder import ID_DIGITS
from blemish.data.pixels import pixels_id
from blemish.data.progress import Progress
from blemish.errors import BlemishError, CalibrationError, DataError, plural
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.predictor import Predictor
from blemish.inspection.certify import Certified, CertifyRequest, certify_model
from blemish.station.drift import alarms_of
from blemish.station.judge import prepare_kept
from blemish.station.kept_images import confirmed_good, put_images
from blemish.station.products import add_model, product_of
from blemish.station.runs import Doing
from blemish.station.tables import Decision, Image, Model, Product, Verdict
from blemish.station.thresholds import last_scores, live_model
from blemish.stats.conformal import more_images_needed, smallest_rate

FALLS_BY = 0.2
"""A recalibration is proposed where the smallest rate that can be guaranteed falls by this share at least."""


@final
class Proposal(NamedTuple):
    """What the images that were confirmed good since would allow."""

    images: list[Image]
    """The new ones."""
    is_withdrawn: bool
    """The line has changed: images of before count no more, neither alone nor with others."""
    is_added: bool
    """They are added to those that the model was calibrated on."""
    smallest_before: float
    """The smallest false-alarm rate that can be guaranteed now."""
    smallest_after: float
    needed: int
    """So many more images the rate of the model takes, where they stand alone."""

    @property
    def is_possible(self) -> bool:
        """Whether there are images enough."""
        return bool(self.images) and self.needed == 0

    @property
    def helps(self) -> bool:
        """Whether it is proposed."""
        falls = self.smallest_after <= (1.0 - FALLS_BY) * self.smallest_before
        return self.is_possible and (self.is_withdrawn or falls)


def propose(session: Session, product: Product) -> Proposal | None:
    """What a recalibration would be; None where no model is live."""
    live = live_model(session, product.id)
    if live is None:
        return None
    _, header = live
    alarms, card = alarms_of(session, product), header.calibration
    known = {*header.made_of(), *card.earlier_ids}
    images = [
        image
        for image in confirmed_good(session, product.id, alarms[0].raised_at if alarms else "")
        if image.sha256[:ID_DIGITS] not in known
    ]
    is_added = not alarms and not card.folds
    before = smallest_rate(len(header.calibration_scores), card.confidence)
    n = len(images) + (len(header.calibration_scores) if is_added else 0)
    return Proposal(
        images=images,
        is_withdrawn=bool(alarms),
        is_added=is_added,
        smallest_before=before,
        smallest_after=smallest_rate(n, card.confidence) if n else 1.0,
        needed=more_images_needed(n, header.max_false_alarm_rate, card.confidence),
    )


def recalibrate(doing: Doing) -> dict[str, Any]:
    """Make another model file of the live one, calibrated on the images confirmed good; it is not live yet.

    Raises:
        CalibrationError: there are too few of them for the rate.
        DataError: one cannot be read.
    """
    with doing.database.read() as session:
        product = product_of(session, doing.product_id)
        proposal, live = propose(session, product), live_model(session, product.id)
    if proposal is None or live is None:
        raise DataError(f"{product.name}: no model is live, so there is none to calibrate")
    if not proposal.images:
        raise CalibrationError(f"{product.name}: no new image was confirmed good in the audit lane")
    model, header = live
    path = doing.out / model.name
    shutil.copyfile(doing.folder.model_path(model.sha256), path)
    images, left_out = _distinct(doing, path, header, proposal)
    placed = put_images(doing.folder, images, doing.images)
    rate = doing.asked.get("max_false_alarm_rate")
    confidence = header.calibration.confidence
    asked = CertifyRequest(rate, confidence if rate else None, doing.images, add=proposal.is_added)
    try:
        found = certify_model(path, asked, device="cpu", threads=1, on_image=counting(doing, "scoring"))
    except BlemishError as error:
        raise BlemishError(doing.without_paths(error.why, "audit lane").replace(str(path), model.name)) from None
    origin = f"{model.name} {model.sha256[:12]}, calibrated again on {plural(len(placed), 'image')} of the audit lane"
    added = add_model(
        doing.database, doing.folder, doing.actor, product.id, (model.name, path.read_bytes()), origin=origin
    )
    path.unlink()
    return {
        **_told(doing, header, found, model),
        "model_id": added.id,
        "before_model_id": model.id,
        "images": len(placed),
        "is_added": proposal.is_added,
        "left_out": left_out,
    }


def counting(doing: Doing, what: str) -> Callable[[int, int], None]:
    """Tells how far a run is, called with how much is done and of how much."""
    return lambda done, total: doing.report(Progress(what, done, total))


def _distinct(
    doing: Doing, path: Path, header: ArtifactHeader, proposal: Proposal
) -> tuple[list[Image], dict[str, str]]:
    """Those that can be read and that the model does not know by their pixels; and why others are left out."""
    card, predictor = header.calibration, Predictor.load(path, "cpu", 1)
    seen = {*header.data_card.fit_pixel_ids, *card.pixel_ids, *card.earlier_ids}
    kept: list[Image] = []
    left_out: dict[str, str] = {}
    for done, image in enumerate(proposal.images, 1):
        kept_at = doing.folder.image_path(image.sha256, image.suffix)
        try:
            identity = pixels_id(prepare_kept(predictor, kept_at, image.sha256).pixels())
        except DataError as error:
            left_out[image.name] = str(error).replace(str(kept_at), image.name)
            continue
        if identity in seen:
            left_out[image.name] = "the same picture as one that counts already"
        else:
            seen.add(identity)
            kept.append(image)
        doing.report(Progress("reading", done, len(proposal.images)))
    return kept, left_out


def _told(doing: Doing, before: ArtifactHeader, found: Certified, model: Model) -> dict[str, Any]:
    """What changes, in numbers."""
    after = found.header
    with doing.database.read() as session:
        product = product_of(session, doing.product_id)
        threshold = before.threshold if product.threshold is None else product.threshold
        scores = last_scores(session, product.id, model.id)
        defective = _defective_scores(session, product.id, model.id)
    rows = {"before": (before, threshold), "after": (after, after.threshold)}
    return {
        "warnings": found.warnings,
        "last": len(scores),
        "defective": len(defective),
        **{
            name: {
                "threshold": at,
                "rate": header.max_false_alarm_rate,
                "n": header.certificate.n,
                "flagged": sum(score > at for score in scores),
                "found": sum(score > at for score in defective),
            }
            for name, (header, at) in rows.items()
        },
    }


def _defective_scores(session: Session, product_id: int, model_id: int) -> list[float]:
    """Scores of images that people called defective, whatever we said of them."""
    judged = select(Verdict.image_id).where(Verdict.judgement == "defective")
    query = select(Decision.score).where(
        Decision.product_id == product_id, Decision.model_id == model_id, Decision.image_id.in_(judged)
    )
    return [score for score in session.scalars(query) if score is not None]
