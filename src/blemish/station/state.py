"""How a station is doing, for the head of its pages: what is promised, what is wrong, and what to do about it."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.errors import ArtifactError
from blemish.station.app import Station
from blemish.station.drift import alarms_of
from blemish.station.queue import queue_length
from blemish.station.reviews import HIDDEN
from blemish.station.room import NO_ROOM, free_bytes, is_short
from blemish.station.service import is_working
from blemish.station.spool import shown_url
from blemish.station.tables import (
    VERDICTS,
    Decision,
    DriftAlarm,
    Hook,
    Image,
    Job,
    Product,
    Source,
    Tally,
    Watch,
)
from blemish.station.thresholds import guaranteed_rate, live_model

BACKLOG = 10
"""So many images may wait without the line being called faster than the station."""

MOST_A_MINUTE = 10_000


@final
class Promise(NamedTuple):
    """What a product's threshold guarantees."""

    product: Product
    threshold: float
    rate: float | None
    confidence: float | None
    images: int
    is_by_group: bool
    is_own: bool
    """Whether a person moved the threshold."""
    least_doubt_rate: float
    """From it on, the second rate of the product makes something doubtful."""
    alarms: list[DriftAlarm]
    """What has changed, where the watch over the line has withdrawn the certificate."""
    waiting: int
    """Images that wait because of that, where the product's setting says so."""
    watched: int
    """Images that the watch over the line has seen."""
    unwatched: str
    """Why the line is not watched, or not all of it."""


@final
class Trouble(NamedTuple):
    """Something that keeps images from being judged: a text for the page with its names, to be translated there."""

    text: str
    names: dict[str, str]


def products(session: Session) -> list[Product]:
    """All products, by name."""
    return list(session.scalars(select(Product).order_by(func.lower(Product.name))))


def promise_of(session: Session, product: Product) -> Promise | None:
    """What is guaranteed for a product now; None where no model is live, or this version does not know it."""
    try:
        live = live_model(session, product.id)
    except ArtifactError:
        live = None
    if live is None:
        return None
    model, header = live
    threshold = header.threshold if product.threshold is None else product.threshold
    certificate, alarms = header.certificate, alarms_of(session, product)
    its = (Watch.product_id == product.id, Watch.model_id == model.id)
    watch = session.execute(select(Watch.images, Watch.trouble).where(*its)).first()
    return Promise(
        product=product,
        threshold=threshold,
        rate=certificate.alpha if product.threshold is None else guaranteed_rate(header, threshold),
        confidence=certificate.confidence,
        images=certificate.n,
        is_by_group=certificate.groups is not None,
        is_own=product.threshold is not None,
        least_doubt_rate=header.least_doubt_rate(threshold),
        alarms=alarms,
        waiting=queue_length(session, product.id) if alarms and product.stops_when_withdrawn else 0,
        watched=0 if watch is None else watch.images,
        unwatched="" if watch is None else watch.trouble,
    )


def troubles(session: Session, station: Station) -> list[Trouble]:
    """What is wrong now."""
    found = []
    if not is_working(station):
        found.append(Trouble("The worker does not run: images wait. Start the station again.", {}))
    sources = session.execute(select(Source.kind, Source.trouble).where(Source.trouble != "", Source.is_on)).all()
    jobs = session.scalars(select(Job.trouble).where(Job.trouble != "").distinct().limit(3))
    without = select(Product.name).join(Job, Job.product_id == Product.id).where(Product.model_id.is_(None)).distinct()
    hooks = session.scalars(select(Hook.url).where(Hook.failures > 0))
    if is_short(station.folder.root):
        sources = [one for one in sources if not one.trouble.endswith(NO_ROOM)]  # said here
        left = f"{free_bytes(station.folder.root) >> 20}"
        found.append(
            Trouble(
                "The disk is full, {why} MiB free: no image is taken in; those that wait are judged. Free some.",
                {"why": left},
            )
        )
    growing = backlog(session)
    live = select(func.count()).select_from(Job).join(Product, Product.id == Job.product_id)
    if growing.per_minute > 0 and (session.scalar(live.where(Product.model_id.is_not(None))) or 0) >= BACKLOG:
        names = {"waiting": f"{growing.waiting}", "before": f"{growing.waiting - growing.per_minute}"}
        found.append(
            Trouble(
                "Images come faster than they are judged: {waiting} wait; a minute ago there were {before}.",
                names,
            )
        )
    return [
        *found,
        *(Trouble("A hook cannot be told, and is tried again: {url}", {"url": shown_url(url)}) for url in hooks),
        *(
            Trouble("Not everything in a watched folder comes in: {why}", {"why": why})
            for kind, why in sources
            if kind == "folder"
        ),
        *(Trouble("A camera gives no images: {why}", {"why": why}) for kind, why in sources if kind == "camera"),
        *(Trouble("Images wait: {why}", {"why": why}) for why in jobs),
        *(
            Trouble(
                "Images of {name} wait: no model is live for it. Train or bring one on the page Products.",
                {"name": name},
            )
            for name in session.scalars(without)
        ),
    ]


@final
class Backlog(NamedTuple):
    """Images that are not judged yet, and how many more they have become in the last minute, negative where fewer."""

    waiting: int
    per_minute: int


def backlog(session: Session, product_id: int | None = None) -> Backlog:
    """How long the queue is, of a product or of all, and how it grows; a queue of a few images is none that grows."""
    waiting = queue_length(session, product_id)
    if waiting < BACKLOG:
        return Backlog(waiting, 0)
    since = (datetime.now(UTC) - timedelta(minutes=1)).isoformat(timespec="microseconds")
    counts = []
    for table, at in ((Image, Image.received_at), (Decision, Decision.decided_at)):
        query = select(at.label("at")).limit(MOST_A_MINUTE)
        its = query.where(table.product_id == product_id, at >= since)  # as there are indices
        newest = (query.order_by(table.id.desc()) if product_id is None else its).subquery()
        counts.append(session.scalar(select(func.count()).where(newest.c.at >= since)) or 0)
    return Backlog(waiting, counts[0] - counts[1])


def counts_of_late(session: Session, product_id: int | None, hidden: Mapping[str, int]) -> dict[str, int]:
    """Decisions since the beginning of the hour eight hours ago, by verdict; those that are hidden count as such."""
    start = hour_of_late()
    query = select(Tally.verdict, func.sum(Tally.images)).where(Tally.hour >= start).group_by(Tally.verdict)
    if product_id is not None:
        query = query.where(Tally.product_id == product_id)
    found = Counter({verdict: int(images) for verdict, images in session.execute(query)})
    shown = {verdict: max(0, found[verdict] - hidden.get(verdict, 0)) for verdict in VERDICTS}
    return shown | {HIDDEN: sum(hidden.values())}


def hour_of_late() -> str:
    """The hour, `2026-11-26T07`, from which on the live page counts."""
    return (datetime.now(UTC) - timedelta(hours=8)).isoformat()[:13]
