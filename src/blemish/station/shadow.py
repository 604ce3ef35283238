"""A model in the shadow: it judges the same images as the live one, beside it, and decides nothing.

It works while the queue is empty, so that the line never waits for it: the last images first, and no more than the
last thousand.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, final

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from blemish.data.folder import ID_DIGITS
from blemish.errors import ArtifactError, BlemishError, DataError
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.judge import Judge, prepare_kept, verdict_of
from blemish.station.products import checked_reason, header_of_model, product_of
from blemish.station.reviews import Row, hidden_of
from blemish.station.tables import Decision, Image, Model, Product, Shadow, Verdict
from blemish.station.trail import append

LAST = 1000


@final
class Differing(NamedTuple):
    """An image that the two models judge otherwise."""

    image: Image
    decision: Decision
    shadow: Shadow


@final
class Comparison(NamedTuple):
    """The live model and the one in its shadow, on the images that both have judged."""

    both: int
    table: dict[tuple[str, str], int]
    """Images by both verdicts, the live one's first."""
    differing: list[Differing]
    """The last of them whose verdict may be seen."""
    said_good: tuple[int, int, int]
    """Of these, images that people called good; how many of them the live model flags, and the other one.

    Without those that one of the two was fitted or calibrated on."""
    said_defective: tuple[int, int, int]

    @property
    def agreement(self) -> float | None:
        """The share of images that both judge alike."""
        alike = sum(count for (ours, other), count in self.table.items() if ours == other)
        return alike / self.both if self.both else None


def set_shadow(database: Database, actor: str, product_id: int, model_id: int | None, reason: str) -> None:
    """Put a model into the shadow of the live one, or none.

    Raises:
        DataError: there is no such product, or no such model of it.
        SettingsError: no reason is given.
    """
    with database.write() as session:
        product = product_of(session, product_id)
        model = None if model_id is None else session.get(Model, model_id)
        if model_id is not None and (model is None or model.product_id != product.id):
            raise DataError(f"model {model_id}: there is none")
        detail = {"from": product.shadow_model_id, "to": model_id, "reason": checked_reason(reason)}
        product.shadow_model_id = model_id
        append(session, actor, "shadow", product.name, detail)


@final
class ShadowJudge:
    """Judges what models in the shadow have not seen; in the process that judges."""

    def __init__(self, database: Database, folder: StationFolder, judge: Judge, say: Callable[[str], None]) -> None:
        self._database, self._folder, self._judge, self._say = database, folder, judge, say
        self._broken: set[int] = set()

    def step(self) -> bool:
        """Judge one image; whether there was one."""
        with self._database.read() as session:
            query = select(Product).where(Product.shadow_model_id.is_not(None), Product.model_id.is_not(None))
            for product in session.scalars(query):
                model = session.get_one(Model, product.shadow_model_id or 0)
                image = None if model.id in self._broken else _next(session, product)
                if image is not None:
                    break
            else:
                return False
        try:
            self._look(image, model)
        except BlemishError as error:  # another model's trouble must not end the one that judges
            self._broken.add(model.id)
            self._say(f"{model.name}, in the shadow: {error}")
        return True

    def _look(self, image: Image, model: Model) -> None:
        predictor = self._judge.predictor(model.sha256)
        found = Shadow(image_id=image.id, model_id=model.id, threshold=predictor.threshold, score=None)
        try:
            path = self._folder.image_path(image.sha256, image.suffix)
            prediction = predictor.predict_prepared(prepare_kept(predictor, path, image.sha256), image.name)
        except DataError:
            prediction = None
        found.verdict, found.score = verdict_of(prediction), None if prediction is None else prediction.score
        with self._database.write() as session:
            session.merge(found)


def _next(session: Session, product: Product) -> Image | None:
    """The last image that the live model has judged and the one in the shadow has not."""
    seen = select(Shadow.image_id).where(Shadow.model_id == product.shadow_model_id)
    last = _last(product).subquery()
    query = (
        select(Image)
        .join(last, last.c.image_id == Image.id)
        .where(Image.id.not_in(seen), Image.removed_at.is_(None))
        .order_by(Image.id.desc())
        .limit(1)
    )
    return session.scalar(query)


def _last(product: Product) -> Select[Any]:
    query = select(Decision.image_id).where(
        Decision.product_id == product.id, Decision.model_id == product.model_id, Decision.score.is_not(None)
    )
    return query.order_by(Decision.decided_at.desc()).limit(LAST)


def compare(session: Session, product: Product, limit: int = 24) -> Comparison:
    """The live model of a product and the one in its shadow, on the last images that both have judged."""
    pairs = (
        select(Decision, Shadow)
        .join(Shadow, Shadow.image_id == Decision.image_id)
        .where(Decision.image_id.in_(_last(product)), Shadow.model_id == product.shadow_model_id)
    )
    counted = pairs.with_only_columns(Decision.verdict, Shadow.verdict, func.count())
    rows = session.execute(counted.group_by(Decision.verdict, Shadow.verdict))
    table = {(ours, other): images for ours, other, images in rows}
    told = (Decision.image_id, Decision.image_sha256, Verdict.judgement, Decision.verdict, Shadow.verdict)
    said = pairs.with_only_columns(*told).join(Verdict, Verdict.image_id == Decision.image_id).order_by(Verdict.id)
    known = {*_made_of(session, product.model_id), *_made_of(session, product.shadow_model_id)}
    last = {image_id: pair for image_id, sha256, *pair in session.execute(said) if sha256[:ID_DIGITS] not in known}
    others = pairs.with_only_columns(Image, Decision, Shadow).join(Image, Image.id == Decision.image_id)
    others = others.where(Decision.verdict != Shadow.verdict).order_by(Decision.id.desc()).limit(4 * limit)
    differing = [Differing(*row) for row in session.execute(others)]
    hidden = hidden_of(session, [Row(one.image, one.decision) for one in differing])
    return Comparison(
        both=sum(table.values()),
        table=table,
        differing=[one for one in differing if one.image.id not in hidden][:limit],
        said_good=_flagged("good", last.values()),
        said_defective=_flagged("defective", last.values()),
    )


def _made_of(session: Session, model_id: int | None) -> frozenset[str]:
    model = session.get(Model, model_id or 0)
    try:
        return frozenset() if model is None else header_of_model(model).made_of()
    except ArtifactError:  # of another version: it judges nothing
        return frozenset()


def _flagged(judgement: str, said: Iterable[Sequence[str]]) -> tuple[int, int, int]:
    """How many images people called so, and how many of them the live model and the other one flag.

    >>> _flagged("good", [("good", "anomalous", "good"), ("defective", "anomalous", "anomalous")])
    (1, 1, 0)
    """
    both = [(ours == "anomalous", other == "anomalous") for people, ours, other in said if people == judgement]
    return len(both), sum(ours for ours, _ in both), sum(other for _, other in both)
