"""What people say of images: of rejects and doubtful ones, the worst first; and of the audit lane, before they see our
verdict."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple, final

from sqlalchemy import ColumnElement, Exists, and_, case, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from blemish.errors import DataError, SettingsError
from blemish.inspection.decisions import now
from blemish.station.database import Database
from blemish.station.notes import checked_note, put_note
from blemish.station.tables import DOUBTFUL, JUDGEMENTS, VERDICTS, Decision, Image, Note, Product, Verdict
from blemish.station.trail import append, verdict_detail

LONGEST_TYPE = 80

AT_ONCE = 7
"""So many people can judge in the audit lane at once and begin with different images."""

AT_A_TIME = 24
"""So many images are shown to be reviewed."""

TO_REVIEW: tuple[ColumnElement[bool], ...] = (Decision.verdict == "anomalous", Decision.is_doubtful.is_(True))
"""What people look through, in this order; each has an index."""

IMAGES = func.count().label("images")

HIDDEN = "audit"
"""In place of a verdict that people must not see yet."""

SHOWN = (*VERDICTS, HIDDEN)


@final
class JudgedAlreadyError(DataError):
    """Somebody was faster in the audit lane, where the first verdict counts."""


@final
class Row(NamedTuple):
    """An image with its decision, where there is one."""

    image: Image
    decision: Decision | None


def give_verdict(
    database: Database,
    user_name: str,
    image_id: int,
    judgement: str,
    *,
    defect_type: str = "",
    note: str = "",
    is_audit: bool = False,
) -> None:
    """Keep what a person says of an image, and what they write about it.

    In the audit lane the first verdict counts, and no second one is taken: who gives one later has seen ours.

    Raises:
        SettingsError: an unknown judgement, a note or a defect type that is too long, or one of an image that is not
            defective.
        DataError: no such image, or not in the audit lane; or a note on one that waits there.
        JudgedAlreadyError: judged there already.
    """
    defect_type, note = defect_type.strip(), checked_note(note)
    if judgement not in JUDGEMENTS:
        raise SettingsError(f"judgement '{judgement}': expected one of {', '.join(JUDGEMENTS)}")
    if len(defect_type) > LONGEST_TYPE or not defect_type.isprintable() or (defect_type and judgement != "defective"):
        raise SettingsError(f"defect type: at most {LONGEST_TYPE} characters, and only of what is defective")
    with database.write() as session:
        image = session.get(Image, image_id)
        if image is None:
            raise DataError(f"image {image_id}: there is none")
        if is_audit and not image.is_audit:
            raise DataError(f"image {image_id}: was not drawn for the audit lane")
        if is_audit and session.scalar(select(_audited(Image.id)).where(Image.id == image_id)):
            raise JudgedAlreadyError(f"image {image_id}: was judged in the audit lane already")
        verdict = Verdict(
            image_id=image_id,
            user_name=user_name,
            lane="audit" if is_audit else "review",
            judgement=judgement,
            defect_type=defect_type,
            given_at=now(),
        )
        if note and not is_audit:
            _refuse_hidden(session, image)
        verdict.trail_seq = append(session, user_name, "verdict", image_id, verdict_detail(verdict))
        session.add(verdict)
        if note:
            put_note(session, user_name, image_id, note)


def add_note(database: Database, user_name: str, image_id: int, text: str) -> None:
    """Keep what a person writes about an image.

    What is written about one of the audit lane comes with its verdict: whoever judges it reads nothing before.

    Raises:
        SettingsError: nothing, or too much.
        DataError: there is no such image, or it waits in the audit lane.
    """
    text = checked_note(text)
    if not text:
        raise SettingsError("note: write something")
    with database.write() as session:
        image = session.get(Image, image_id)
        if image is None:
            raise DataError(f"image {image_id}: there is none")
        _refuse_hidden(session, image)
        put_note(session, user_name, image_id, text)


def _refuse_hidden(session: Session, image: Image) -> None:
    decision = session.scalar(select(Decision).where(Decision.image_id == image.id))
    if is_hidden(session, Row(image, decision)):
        raise DataError(f"image {image.id}: waits in the audit lane; judge it there, and write with the verdict")


def to_review(session: Session, product_id: int | None) -> list[Row]:
    """Anomalous and doubtful images that nobody has judged, the worst first; those of the audit lane wait for it.

    Scores of different models compare by how many times their thresholds they are.
    """
    found: list[Row] = []
    above = Decision.score / func.nullif(Decision.threshold, 0.0)
    for which in TO_REVIEW:
        query = _unjudged(product_id, which).order_by(Decision.p_value, above.desc(), Decision.score.desc())
        found += _found(session, query.limit(AT_A_TIME - len(found)))
    return found


def left_to_review(session: Session, product_id: int | None) -> int:
    """How many anomalous and doubtful images nobody has judged."""
    return sum(session.scalar(_unjudged(product_id, which).with_only_columns(func.count())) or 0 for which in TO_REVIEW)


def _unjudged(product_id: int | None, which: ColumnElement[bool]) -> Any:
    is_judged = exists().where(Verdict.image_id == Image.id)
    waits = (which, ~is_judged, ~Image.is_audit, Image.removed_at.is_(None))
    return _by_product(product_id).where(*waits)


def next_to_audit(session: Session, product_id: int | None, user_id: int = 0) -> Row | None:
    """The next image of the audit lane for a user: a seventh of them first, another one for each.

    So people who judge at the same time seldom get the same image.
    """
    query = _rows(product_id).where(*_WAITS).order_by((Image.id + user_id) % AT_ONCE, Image.id).limit(1)
    return next(iter(_found(session, query)), None)


def left_to_audit(session: Session, product_id: int | None) -> int:
    """How many images of the audit lane were not judged there."""
    query = _rows(product_id).where(*_WAITS)
    return session.scalar(query.with_only_columns(func.count())) or 0


def is_hidden(session: Session, row: Row) -> bool:
    """Whether our verdict must not be shown to people yet: the image waits in the audit lane."""
    return bool(hidden_of(session, [row]))


def hidden_of(session: Session, rows: Iterable[Row]) -> set[int]:
    """Of some images, the numbers of those whose verdict must not be shown to people yet.

    They are in the audit lane, can be judged there (are readable, and their files are kept), and were not. An image
    that waits for our verdict is among them, too.
    """
    drawn = [
        row.image.id
        for row in rows
        if row.image.is_audit
        and row.image.removed_at is None
        and (row.decision is None or row.decision.verdict != "unreadable")
    ]
    judged = select(Verdict.image_id).where(Verdict.image_id.in_(drawn), Verdict.lane == "audit")
    return set(drawn) - set(session.scalars(judged))


def hidden_counts(session: Session, start: str, product_id: int | None, last: int) -> Counter[str]:
    """Of the decisions since a time, up to one, those whose verdict must not be shown to people yet, by it."""
    query = _by_product(product_id).where(*_WAITS, Decision.decided_at >= start, Decision.id <= last)
    rows = session.execute(query.with_only_columns(Decision.verdict, IMAGES).group_by(Decision.verdict))
    return Counter({row.verdict: row.images for row in rows})


def hidden_by_hour(session: Session, start: str, product_id: int | None) -> dict[str, Counter[str]]:
    """As `hidden_counts`, of all decisions since a time, by the hour: `2026-11-26T07`."""
    hour = func.substr(Decision.decided_at, 1, 13)
    query = _by_product(product_id).where(*_WAITS, Decision.decided_at >= start).group_by(hour, Decision.verdict)
    found: dict[str, Counter[str]] = {}
    for at, verdict, images in session.execute(query.with_only_columns(hour, Decision.verdict, IMAGES)):
        found.setdefault(at, Counter())[verdict] = images
    return found


def verdicts_of(session: Session, image_id: int) -> list[Verdict]:
    """What people said of an image, the last first."""
    return list(session.scalars(select(Verdict).where(Verdict.image_id == image_id).order_by(Verdict.id.desc())))


def defect_types(session: Session, product_id: int | None, limit: int = 9) -> list[str]:
    """The names that people gave to defects, the most frequent first."""
    query = (
        select(Verdict.defect_type)
        .join(Image, Image.id == Verdict.image_id)
        .where(Verdict.defect_type != "")
        .group_by(Verdict.defect_type)
        .order_by(func.count().desc(), Verdict.defect_type)
        .limit(limit)
    )
    if product_id is not None:
        query = query.where(Image.product_id == product_id)
    return list(session.scalars(query))


@final
class Within(NamedTuple):
    """Which decisions are looked for: from a time on, up to one, and what the names of their images, or notes on them,
    hold; "": any.
    """

    start: str = ""
    end: str = ""
    name: str = ""
    notes: bool = False
    """Only of images that somebody wrote about."""


def recent(
    session: Session,
    product_id: int | None,
    limit: int = 24,
    before: int | None = None,
    verdict: str | None = None,
    within: Within | None = None,
) -> list[Row]:
    """The last decisions, the newest first; `before` a decision, of one verdict, and within bounds, where asked for.

    Images whose verdict is hidden are of the verdict `audit`, and of no other. Doubtful ones are also of the verdict
    good.
    """
    query = _rows(product_id).order_by(Decision.id.desc()).limit(limit)
    if within is not None and within.start:
        query = query.where(Decision.decided_at >= within.start)
    if within is not None and within.end:
        query = query.where(Decision.decided_at < within.end)
    if within is not None and within.name:
        noted = _has_note(Note.text.icontains(within.name, autoescape=True))
        query = query.where(or_(Image.name.icontains(within.name, autoescape=True), noted))
    if within is not None and within.notes:
        query = query.where(_has_note())
    if before is not None:
        query = query.where(Decision.id < before)
    if verdict == DOUBTFUL:
        query = query.where(Decision.is_doubtful.is_(True), SHOWN_VERDICT != HIDDEN)
    elif verdict is not None:
        query = query.where(verdict == SHOWN_VERDICT)
    return _found(session, query)


def since(session: Session, decision_id: int, limit: int = 50) -> list[Row]:
    """The decisions after one, the oldest first."""
    return _found(session, _rows(None).where(Decision.id > decision_id).order_by(Decision.id).limit(limit))


def find_row(session: Session, image_id: int) -> Row | None:
    """An image by its number, with its decision."""
    return next(iter(find_rows(session, [image_id])), None)


def row_of(session: Session, image_id: int) -> Row:
    """As `find_row`.

    Raises:
        DataError: there is no such image.
    """
    row = find_row(session, image_id)
    if row is None:
        raise DataError(f"image {image_id}: there is none")
    return row


def find_rows(session: Session, image_ids: Iterable[int]) -> list[Row]:
    """Images by their numbers, with their decisions."""
    query = select(Image, Decision).outerjoin(Decision, Decision.image_id == Image.id).where(Image.id.in_(image_ids))
    return _found(session, query)


def _found(session: Session, query: Any) -> list[Row]:
    return [Row(*row) for row in session.execute(query)]


def _rows(product_id: int | None) -> Any:
    query: Any = select(Image, Decision).join(Decision, Decision.image_id == Image.id)
    return query if product_id is None else query.where(Decision.product_id == product_id)


def _by_product(product_id: int | None) -> Any:
    """As `_rows`, found by the indices of decisions, which begin with the product."""
    return _rows(product_id).where(Decision.product_id.in_(select(Product.id)))


def _has_note(*which: ColumnElement[bool]) -> Exists:
    return exists().where(Note.image_id == Image.id, *which)


def _audited(image_id: object) -> Exists:
    given = aliased(Verdict)
    return exists().where(and_(given.image_id == image_id, given.lane == "audit"))


_WAITS = (Image.is_audit, Image.removed_at.is_(None), Decision.verdict != "unreadable", ~_audited(Image.id))
"""Of images that are to be judged in the audit lane."""

SHOWN_VERDICT = case((and_(*_WAITS), HIDDEN), else_=Decision.verdict).label("shown_verdict")
"""A verdict as people may see it; of a decision joined with its image."""
