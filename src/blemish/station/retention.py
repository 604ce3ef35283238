"""What is kept and for how long: image files go by age and by size, their rows and decisions stay.

Rejects, what cannot be read, images of the audit lane and images that people judged or wrote about are kept longer than
the others. What was removed is an entry of the audit trail.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, final

from pydantic import Field, ValidationError
from sqlalchemy import ColumnElement, and_, exists, func, not_, or_, select
from sqlalchemy.orm import Session

from blemish.data.progress import Progress, Report, quiet
from blemish.errors import SettingsError
from blemish.inspection.decisions import now
from blemish.settings import Settings
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.products import checked_reason
from blemish.station.tables import Decision, Image, Note, Setting, Verdict
from blemish.station.trail import STATION, append

NAME = "retention"
AT_ONCE = 500
GB = 1_000_000_000


@final
class Retention(Settings):
    """How long image files are kept; None: for ever."""

    days: float | None = Field(None, gt=0, description="Days that images called good are kept.")
    days_rejects: float | None = Field(
        None,
        gt=0,
        description="Days that rejects, doubtful, unreadable, audited, judged and noted ones are kept.",
    )
    max_gb: float | None = Field(
        None, gt=0, description="Gigabytes that all image files may take; the oldest go first, good ones before others."
    )


@final
class Removed(NamedTuple):
    """What a sweep has removed."""

    images: int
    size_bytes: int


@final
class Kept(NamedTuple):
    """What is kept now."""

    images: int
    size_bytes: int
    oldest: str | None
    removed: int
    free_bytes: int


def read_retention(session: Session) -> Retention:
    """The setting of a station."""
    kept = session.get(Setting, NAME)
    return Retention() if kept is None else Retention.model_validate_json(kept.value)


def make_retention(days: float | None, days_rejects: float | None, max_gb: float | None) -> Retention:
    """A setting from what a person gives.

    Raises:
        SettingsError: a number that is not above 0, or rejects that go before the others.
    """
    try:
        made = Retention(days=days, days_rejects=days_rejects, max_gb=max_gb)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"retention: {first['loc'][0]}: found {first['input']}; it must be above 0") from None
    if days_rejects is not None and (days is None or days > days_rejects):
        raise SettingsError(
            "retention: days_rejects: rejects and audit images must be kept as long as the others, at least"
        )
    return made


def set_retention(database: Database, actor: str, retention: Retention, reason: str) -> None:
    """Keep images so long from now on.

    Raises:
        SettingsError: no reason is given.
    """
    with database.write() as session:
        before = read_retention(session)
        detail = {"from": before.model_dump(), "to": retention.model_dump(), "reason": checked_reason(reason)}
        session.merge(Setting(name=NAME, value=retention.model_dump_json()))
        append(session, actor, "retention", "images", detail)


def kept_now(session: Session, folder: StationFolder) -> Kept:
    """How much is kept."""
    there = select(func.count(), func.coalesce(func.sum(Image.size_bytes), 0), func.min(Image.received_at))
    images, size, oldest = session.execute(there.where(Image.removed_at.is_(None))).one()
    gone = select(func.count()).select_from(Image).where(Image.removed_at.is_not(None), Image.size_bytes > 0)
    removed = session.scalar(gone) or 0  # without those of records that never came
    return Kept(images, int(size), oldest, removed, shutil.disk_usage(folder.root).free)


def sweep(database: Database, folder: StationFolder, report: Report = quiet) -> Removed:
    """Remove the files that are kept no longer. Images that wait to be judged stay.

    Killed in between, it does again what it had not noted.
    """
    with database.read() as session:
        retention = read_retention(session)
    at, removed = datetime.now(UTC), Removed(0, 0)
    for days, is_kept_longer in ((retention.days, False), (retention.days_rejects, True)):
        if days is not None:
            before = (at - timedelta(days=days)).isoformat(timespec="microseconds")
            which = and_(Image.received_at < before, _is_kept_longer() if is_kept_longer else not_(_is_kept_longer()))
            why = f"older than {days:g} day{'' if days == 1 else 's'}"
            removed = _told(removed, report, _remove_all(database, folder, which, why))
    if retention.max_gb is not None:
        for which in (not_(_is_kept_longer()), _is_kept_longer()):
            removed = _told(removed, report, _shrink(database, folder, which, retention.max_gb))
    return removed


def _told(removed: Removed, report: Report, more: Iterable[Removed]) -> Removed:
    """What was removed in all; told of after each part."""
    for done in more:
        removed = Removed(removed.images + done.images, removed.size_bytes + done.size_bytes)
        report(Progress("images removed", removed.images, 0))
    return removed


def _is_kept_longer() -> ColumnElement[bool]:
    judged, noted = exists().where(Verdict.image_id == Image.id), exists().where(Note.image_id == Image.id)
    return or_(Image.is_audit, Decision.verdict != "good", Decision.is_doubtful, judged, noted)


def _remove_all(database: Database, folder: StationFolder, which: ColumnElement[bool], why: str) -> Iterator[Removed]:
    while (done := _remove(database, folder, which, why, None)).images:
        yield done


def _shrink(database: Database, folder: StationFolder, which: ColumnElement[bool], max_gb: float) -> Iterator[Removed]:
    while True:
        with database.read() as session:
            there = select(func.coalesce(func.sum(Image.size_bytes), 0)).where(Image.removed_at.is_(None))
            above = int(session.scalar(there) or 0) - max_gb * GB
        if above <= 0:
            return
        done = _remove(database, folder, which, f"more than {max_gb:g} GB", above)
        if not done.images:
            return
        yield done


def _remove(
    database: Database, folder: StationFolder, which: ColumnElement[bool], why: str, enough_bytes: float | None
) -> Removed:
    """Remove some files, the oldest first, and note it; the files go before it is noted."""
    query = (
        select(Image)
        .join(Decision, Decision.image_id == Image.id)
        .where(Image.removed_at.is_(None), which)
        .order_by(Image.received_at, Image.id)
        .limit(AT_ONCE)
    )
    with database.write() as session:
        chosen: list[Image] = []
        size = 0
        for image in session.scalars(query):
            if enough_bytes is not None and size >= enough_bytes:
                break
            chosen.append(image)
            size += image.size_bytes
        if not chosen:
            return Removed(0, 0)
        for image in chosen:
            image.removed_at = now()
        session.flush()
        _unlink(session, folder, chosen)
        ids = [image.id for image in chosen]
        detail = {"images": len(ids), "bytes": size, "first": min(ids), "last": max(ids), "why": why}
        append(session, STATION, "removed", "images", {**detail, "image_ids": json.dumps(ids, separators=(",", ":"))})
    return Removed(len(chosen), size)


def _unlink(session: Session, folder: StationFolder, images: list[Image]) -> None:
    """Their maps, and their files where no image that is kept has the same content."""
    contents = {image.sha256 for image in images}
    used = set(session.scalars(select(Image.sha256).where(Image.sha256.in_(contents), Image.removed_at.is_(None))))
    for image in images:
        folder.map_path(image.id).unlink(missing_ok=True)
        if image.sha256 not in used:
            folder.image_path(image.sha256, image.suffix).unlink(missing_ok=True)
