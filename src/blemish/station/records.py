"""Records of `watch` and `inspect` taken into a station: decisions of old, with the images that are still there.

Such decisions have numbers below 0: they come before all that are made here, and nobody is told of them (not hooks, not
brokers, not the watch over the line). Each is an entry of the audit trail, like any other.
"""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.data.decode import read_content
from blemish.data.layouts import SUFFIXES
from blemish.data.progress import Progress, Report, quiet
from blemish.errors import BlemishError, DataError, SettingsError
from blemish.inspection import decisions, record
from blemish.inspection.answers import in_shares
from blemish.inspection.decisions import now
from blemish.station.database import Database
from blemish.station.folder import StationFolder, keep_content, sha256_of
from blemish.station.intake import LONGEST_NAME, size_of
from blemish.station.judge import put_down
from blemish.station.products import product_named
from blemish.station.room import check_room
from blemish.station.tables import VERDICTS, Decision, Image, Model, Source
from blemish.station.trail import append

AT_ONCE = 100


@final
class Imported(NamedTuple):
    """How many decisions were taken in, of how many the image was gone or is another now, and how many were known."""

    decisions: int = 0
    without_image: int = 0
    known: int = 0


@final
class _Old(NamedTuple):
    """A decision of a record, and what is still there of its image."""

    decision: decisions.Decision
    suffix: str
    size_bytes: int | None
    size_px: tuple[int, int] | None


def import_record(
    database: Database,
    folder: StationFolder,
    path: Path,
    images: Iterable[Path],
    product: str | None,
    report: Report = quiet,
) -> Imported:
    """Take the decisions of a record in; those that were taken in before are left as they are.

    Paths of the record are looked for as they are, beside the record, in the folder that a watch names its record
    after, and in the folders `images`. An image whose content is another now is none of the record's: its decision
    comes without. A model is known by its SHA-256; one whose file is not in the station can be brought later.

    Raises:
        DataError: no record, damaged, or no room for an image.
        SettingsError: no product is named, and none of the station has the model.
    """
    with folder.lock("import", "taking a record into this station"):
        actor, given = "terminal", list(images)
        for root in given:
            if not root.is_dir():
                raise SettingsError(f"--images {root}: no such folder")
        watched = path.with_name(path.name.removesuffix(".decisions.sqlite"))
        roots = [Path(), path.parent, watched, *given]
        found = list(_decisions(path))
        if not found:
            return Imported()
        product_id = _product_for(database, actor, path, found, product)
        source_id = _source_for(database, product_id, path)
        with database.read() as session:
            below = min(0, session.scalar(select(func.min(Decision.id))) or 0) - len(found)
        numbered, done = enumerate(found, start=below), Imported()
        while batch := list(islice(numbered, AT_ONCE)):
            with database.read() as session:
                new = [(number, one) for number, one in batch if not _is_known(session, product_id, source_id, one)]
            prepared = [(number, _look_for(folder, one, roots)) for number, one in new]
            done = _plus(done, Imported(known=len(batch) - len(new)))
            with database.write() as session:
                models = _models_for(session, actor, product_id, path, found)
                for number, old in prepared:
                    if old.size_bytes and not folder.image_path(old.decision.image_sha256, old.suffix).is_file():
                        old = _look_for(folder, old.decision, roots)  # a sweep has removed it; none does from now on
                    done = _plus(done, _take_in(session, actor, source_id, models, number, old))
            report(Progress("decisions", batch[-1][0] - below + 1, len(found)))
        with database.write() as session:
            told = {"decisions": done.decisions, "without_image": done.without_image, "known": done.known}
            if done.decisions:
                append(session, actor, "import", path.name[:255], {"product_id": product_id, **told})
        return done


def _decisions(path: Path) -> Iterator[decisions.Decision]:
    """The decisions of a record; of an unreadable image with the threshold that was used before it, or 0."""
    last: dict[str, float] = {}
    for one in record.read_record(path):
        if one.threshold is not None:
            last[one.model_sha256] = one.threshold
        if one.verdict != "model":  # that the model was replaced
            yield _checked(path, replace(one, threshold=last.get(one.model_sha256, 0.0)))


def _checked(path: Path, one: decisions.Decision) -> decisions.Decision:
    """A decision as the store can have it.

    Raises:
        DataError: it cannot be one.
    """
    numbers = [number for number in (one.score, one.p_value, one.threshold, one.latency_ms) if number is not None]
    try:
        at = datetime.fromisoformat(one.decided_at)
    except ValueError:
        at = None
    if one.verdict not in VERDICTS or at is None or not all(map(math.isfinite, numbers)) or "\0" in one.image_path:
        raise DataError(f"{path}: decision {one.id} is damaged; restore the record from a copy")
    if len(one.image_path) > LONGEST_NAME:
        raise DataError(f"{path}: decision {one.id}: a path of more than {LONGEST_NAME} characters")
    return one


def _product_for(database: Database, actor: str, path: Path, found: list[decisions.Decision], name: str | None) -> int:
    if name is not None:
        return product_named(database, actor, name)
    wanted = {one.model_sha256 for one in found}
    with database.read() as session:
        having = set(session.scalars(select(Model.product_id).where(Model.sha256.in_(wanted))))
    if len(having) != 1:
        raise SettingsError(
            f"{path}: {'several products have' if having else 'no product of the station has'} its model "
            f"{min(wanted)[:12]}; name the product with --product"
        )
    return having.pop()


def _source_for(database: Database, product_id: int, path: Path) -> int:
    """The record as a source of images, which is off: nothing comes from it by itself."""
    name = _text(str(path.resolve()))[-1024:]
    with database.write() as session:
        where = (Source.product_id == product_id, Source.kind == "record", Source.path == name)
        source = session.scalar(select(Source).where(*where))
        if source is None:
            source = Source(product_id=product_id, kind="record", path=name, is_on=False)
            session.add(source)
            session.flush()
        return source.id


def _models_for(
    session: Session, actor: str, product_id: int, path: Path, found: list[decisions.Decision]
) -> dict[str, Model]:
    """The models that made the decisions; one that is not here is known by its SHA-256 alone."""
    models = {one.sha256: one for one in session.scalars(select(Model).where(Model.product_id == product_id))}
    for sha256 in sorted({one.model_sha256 for one in found} - set(models)):
        model = Model(product_id=product_id, sha256=sha256, name=_text(path.name)[:255], header="", parity="")
        model.origin, model.created_at, model.created_by = f"of the record {_text(path.name)}", now(), actor
        session.add(model)
        session.flush()
        append(session, actor, "model", model.name, {"model_id": model.id, "sha256": sha256, "origin": model.origin})
        models[sha256] = model
    return models


def _look_for(folder: StationFolder, one: decisions.Decision, roots: list[Path]) -> _Old:
    """The image of a decision, kept in the station if it is still there and has the content that was judged."""
    suffix = Path(one.image_path).suffix.lower()
    for root in roots if one.image_sha256 and suffix in SUFFIXES else ():
        try:
            content = read_content(root / one.image_path)
        except (BlemishError, OSError, ValueError):
            continue
        if sha256_of(content) == one.image_sha256:
            check_room(folder.root, len(content))
            keep_content(folder.image_path(one.image_sha256, suffix), content)
            return _Old(one, suffix, len(content), size_of(one.image_path, content))
    return _Old(one, suffix[:8], None, None)


def _take_in(
    session: Session, actor: str, source_id: int, models: dict[str, Model], number: int, old: _Old
) -> Imported:
    one, model = old.decision, models[old.decision.model_sha256]
    if _is_known(session, model.product_id, source_id, one):
        return Imported(known=1)
    name, decided_at = _text(one.image_path), _decided_at(one)
    image = _image_of(old, model.product_id, source_id, decided_at)
    session.add(image)
    session.flush()
    decision = Decision(
        id=number,
        image_id=image.id,
        product_id=model.product_id,
        image_path=name,
        image_sha256=one.image_sha256,
        model_id=model.id,
        model_sha256=one.model_sha256,
        score=one.score,
        p_value=one.p_value,
        threshold=one.threshold,
        verdict=one.verdict,
        is_doubtful=bool(one.is_doubtful),
        message=_text(one.message),
        regions=json.dumps([] if old.size_px is None else in_shares(one.regions or [], old.size_px)),
        latency_ms=one.latency_ms,
        decided_at=decided_at,
    )
    put_down(session, actor, decision)
    return Imported(decisions=1, without_image=old.size_bytes is None)


def _is_known(session: Session, product_id: int, source_id: int, one: decisions.Decision) -> bool:
    """Whether a decision was taken in before."""
    name = _text(one.image_path)
    same_image = (Image.source_id == source_id, Image.name == name, Image.sha256 == one.image_sha256)
    same = (
        Decision.product_id == product_id,  # the record may lie elsewhere now
        Decision.decided_at == _decided_at(one),
        Decision.image_path == name,
        Decision.image_sha256 == one.image_sha256,
    )
    found = session.scalar(select(Decision.id).where(*same)) or session.scalar(select(Image.id).where(*same_image))
    return found is not None


def _decided_at(one: decisions.Decision) -> str:
    at = datetime.fromisoformat(one.decided_at)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="microseconds")


def _image_of(old: _Old, product_id: int, source_id: int, received_at: str) -> Image:
    """The image of a decision of old; one that is not there any more counts as removed."""
    height, width = old.size_px or (None, None)
    return Image(
        product_id=product_id,
        source_id=source_id,
        name=_text(old.decision.image_path),
        sha256=old.decision.image_sha256,
        suffix=old.suffix,
        size_bytes=old.size_bytes or 0,
        height_px=height,
        width_px=width,
        received_at=received_at,
        removed_at=now() if old.size_bytes is None else None,
    )


def _plus(one: Imported, other: Imported) -> Imported:
    return Imported(*(a + b for a, b in zip(one, other, strict=True)))


def _text(name: Any) -> str:
    """A name that may be no UTF-8, as a database can have it."""
    return str(name).encode("utf-8", "backslashreplace").decode()
