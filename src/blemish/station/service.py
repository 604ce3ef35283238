"""What machines around the station ask: is it alive, is it ready, how is it doing; and the files of the pages."""

import time
from datetime import datetime
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, HTTPException
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from sqlalchemy import func, select
from starlette.responses import JSONResponse, PlainTextResponse, Response

from blemish.station.access import allow, public
from blemish.station.app import At, Station
from blemish.station.connections import Camera
from blemish.station.database import is_ready
from blemish.station.drift import is_withdrawn
from blemish.station.tables import Decision, Image, Job, Product, Source, Tally

router = APIRouter(include_in_schema=False)

SILENT_S = 30.0
"""A worker that was not heard of for so long does not work."""

KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@cache
def static_files() -> dict[str, bytes]:
    """Every file that pages need, by name."""
    folder = files("blemish.station").joinpath("static")
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.name.endswith(tuple(KINDS))}


@router.get("/static/{name}")
@public
def static(name: str) -> Response:
    """A file of the pages: nothing is looked up on the disk by a name that was sent."""
    content = static_files().get(name)
    if content is None:
        raise HTTPException(404, "no such file")
    kind = KINDS[f".{name.rpartition('.')[2]}"]
    return Response(content, media_type=kind, headers={"Cache-Control": "public, max-age=300"})


@router.get("/healthz")
@public
def healthz() -> Response:
    """Whether the server answers."""
    return PlainTextResponse("ok\n")


@router.get("/readyz")
@public
def readyz(station: At) -> Response:
    """Whether the database answers, too, and the worker works."""
    problems = []
    if not is_ready(station.database):
        problems.append("the database does not answer")
    elif not is_working(station):
        problems.append("the worker does not run")
    return JSONResponse({"problems": problems}, 503 if problems else 200)


def is_working(station: Station) -> bool:
    """Whether a worker has shown of late that it works; a sign from the future is older than a clock set back."""
    try:
        return abs(time.time() - station.folder.heartbeat.stat().st_mtime) < SILENT_S
    except OSError:
        return False


@router.get("/metrics")
@allow("viewer", "read")
def metrics(station: At) -> Response:
    """What Prometheus collects."""
    registry = CollectorRegistry()
    decided = Counter("blemish_decisions", "Images decided.", ["product", "verdict"], registry=registry)
    queued = Gauge("blemish_queue_images", "Images that are not judged yet.", registry=registry)
    oldest = Gauge("blemish_queue_oldest_seconds", "Age of the oldest of them.", registry=registry)
    latency = Gauge("blemish_latency_seconds", "Time to judge an image, mean of the last 100.", registry=registry)
    trouble = Gauge("blemish_sources_in_trouble", "Watched folders and cameras that cannot be read.", registry=registry)
    lost = Counter(
        "blemish_camera_frames_lost", "Frames that should have become images.", ["source"], registry=registry
    )
    working = Gauge("blemish_worker_up", "1 while the worker runs.", registry=registry)
    withdrawn = Gauge(
        "blemish_guarantee_withdrawn", "1 while drift withdraws a guarantee.", ["product"], registry=registry
    )
    with station.database.read() as session:
        counted = select(Product.name, Tally.verdict, func.sum(Tally.images)).join(Product)
        for product, verdict, count in session.execute(counted.group_by(Product.name, Tally.verdict)):
            decided.labels(product, verdict).inc(int(count))
        for product, is_gone in session.execute(select(Product.name, is_withdrawn())):
            withdrawn.labels(product).set(is_gone)
        queued.set(session.scalar(select(func.count()).select_from(Job)) or 0)
        first = session.scalar(select(func.min(Image.received_at)).join(Job, Job.image_id == Image.id))
        last = select(Decision.latency_ms).order_by(Decision.id.desc()).limit(100).subquery()
        latency.set((session.scalar(select(func.avg(last.c.latency_ms))) or 0.0) / 1000.0)
        trouble.set(session.scalar(select(func.count()).select_from(Source).where(Source.trouble != "")) or 0)
        for path, frames in session.execute(
            select(Source.path, Camera.lost).join(Source, Source.id == Camera.source_id)
        ):
            lost.labels(path).inc(frames)
    oldest.set(0.0 if first is None else max(0.0, time.time() - datetime.fromisoformat(first).timestamp()))
    working.set(is_working(station))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
