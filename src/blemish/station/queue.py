"""The queue of images that are not judged yet: leased for a while, so that what a killed worker had is taken again."""

import time
from typing import Any, NamedTuple, final

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from blemish.errors import plural
from blemish.station.database import Database
from blemish.station.drift import is_withdrawn
from blemish.station.tables import Image, Job, Model, Product, Source

LEASE_S = 60.0
"""A lease that is older belongs to nobody; nor does one that ends later than twice this, as the clock was set back.

Twice, because another worker's lease may begin after the time that this one compares with."""

RETRY_S = 5.0
"""After trouble that was not the image's own, it is tried again so much later."""

MAX_ATTEMPTS = 20
"""An image whose judging ended the worker this often is called unreadable."""


@final
class Task(NamedTuple):
    """An image to be judged, and by what."""

    image_id: int
    product_id: int
    name: str
    sha256: str
    suffix: str
    model_id: int
    model_sha256: str
    threshold: float | None
    """None: the model's own."""
    attempts: int


def take(database: Database, owner: str, limit: int = 8) -> list[Task]:
    """Lease images whose product has a live model, those first that were tried least, then in the order they came.

    None of a product whose guarantee is withdrawn, where its setting says so.
    """
    at = time.time()
    query = (
        select(Job, Image, Product, Model)
        .join(Image, Image.id == Job.image_id)
        .join(Product, Product.id == Job.product_id)
        .join(Model, Model.id == Product.model_id)
        .where(
            or_(Job.leased_until < at, Job.leased_until > at + 2 * LEASE_S),
            or_(~Product.stops_when_withdrawn, ~is_withdrawn()),
        )
        .order_by(Job.attempts, Job.image_id)
        .limit(limit)
    )
    with database.read() as session:  # most looks at a quiet line find nothing, and need not hold up a writer
        if session.execute(query.with_only_columns(Job.image_id).limit(1)).first() is None:
            return []
    with database.write() as session:
        tasks = []
        for job, image, product, model in session.execute(query):
            job.owner, job.leased_until, job.attempts = owner, time.time() + LEASE_S, job.attempts + 1
            tasks.append(
                Task(
                    image.id,
                    product.id,
                    image.name,
                    image.sha256,
                    image.suffix,
                    model.id,
                    model.sha256,
                    product.threshold,
                    job.attempts,
                )
            )
        return tasks


def give_back(database: Database, owner: str, task: Task, trouble: str) -> None:
    """Let an image be tried again later: the trouble, said on the page, was not its own."""
    later = {"leased_until": time.time() + RETRY_S, "trouble": trouble}
    _let_go(database, owner, Job.image_id == task.image_id, attempts=Job.attempts - 1, **later)


def give_back_all(database: Database, owner: str) -> None:
    """Let everything an owner has leased be tried again: what failed was the database, and no image's fault."""
    _let_go(database, owner, Job.attempts > 0, attempts=Job.attempts - 1)


def put_back(database: Database, owner: str, task: Task) -> None:
    """Let go of an image that was leased and not looked at."""
    _let_go(database, owner, Job.image_id == task.image_id, attempts=Job.attempts - 1)


def release_all(database: Database, owner: str) -> None:
    """Let go of what an owner of this name had leased when it was ended."""
    _let_go(database, owner)


def _let_go(database: Database, owner: str, *which: ColumnElement[bool], **values: Any) -> None:
    with database.write() as session:
        free = {"owner": "", "leased_until": 0.0, **values}
        session.execute(update(Job).where(Job.owner == owner, *which).values(**free))


def waiting(database: Database) -> int:
    """How many images are not judged yet."""
    with database.read() as session:
        return queue_length(session)


def queue_length(session: Session, product_id: int | None = None) -> int:
    """How many images are not judged yet, of a product or of all."""
    query = select(func.count()).select_from(Job)
    return session.scalar(query if product_id is None else query.where(Job.product_id == product_id)) or 0


def left_waiting(database: Database) -> str:
    """Why not everything was judged, where images wait or something that they come from cannot be read; else ""."""
    with database.read() as session:
        images = queue_length(session)
        troubles = [
            *session.scalars(select(Source.trouble).where(Source.trouble != "", Source.is_on)),
            *session.scalars(select(Job.trouble).where(Job.trouble != "").distinct().limit(3)),
        ]
    if images and not troubles:
        troubles = ["their product has no live model, or stands still as its guarantee is withdrawn"]
    return "; ".join([f"{plural(images, 'image')} not judged", *troubles]) if troubles else ""
