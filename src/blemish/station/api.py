"""The API for programs, `/api/v1`: predict, images, verdicts, models, reports; described by OpenAPI."""

import asyncio
import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from blemish.data.csv_cells import csv_line
from blemish.data.product_names import LONGEST_PRODUCT
from blemish.errors import DataError
from blemish.inspection.answers import Answer
from blemish.station import reviews
from blemish.station.access import allow, identity_of
from blemish.station.app import At, Station
from blemish.station.heads import head_of
from blemish.station.notes import note_out, notes_of
from blemish.station.pictures import Show, draw
from blemish.station.products import add_model, go_live
from blemish.station.reports import SUMMARY_FIELDS, HourlyChart, Share, shift_report, summary_rows
from blemish.station.tables import Job, Judgement, Model, Product, Source
from blemish.station.trail import append

router = APIRouter(prefix="/api/v1", tags=["v1"])

LOOK_EVERY_S = 0.02

ImageId = Annotated[int, Field(ge=1, le=2**63 - 1)]
ProductId = Annotated[int, Field(ge=1, le=2**31 - 1)]
Time = Annotated[str, Query(pattern=r"^\d{4}-\d{2}-\d{2}(T[0-9:.]{5,15}(\+00:00)?)?$", description="In UTC.")]
RAW = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"format": "binary"}}}}}


class ImageOut(Answer):
    """An image, and what was decided about it; `verdict` is `waiting` until then.

    It is `audit`, without score and regions, while a person is to judge the image before anybody sees our verdict.
    """

    image_id: int
    product_id: int
    is_doubtful: bool | None = None
    """Whether the verdict is good, but people are to look at it, as the product says."""
    removed_at: str | None = None


class VerdictIn(BaseModel):
    """What a person says of an image."""

    model_config = ConfigDict(extra="forbid")
    image_id: ImageId
    judgement: Judgement
    defect_type: str = ""
    note: str = ""


class NoteIn(BaseModel):
    """What a person writes about an image."""

    model_config = ConfigDict(extra="forbid")
    image_id: ImageId
    text: str


class ReasonIn(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid")
    reason: str


class ModelOut(BaseModel):
    """A model that was uploaded."""

    model_id: int
    product_id: int
    sha256: str
    name: str
    parity: str
    created_at: str
    created_by: str
    is_live: bool


def image_out(row: reviews.Row, *, is_hidden: bool = False) -> ImageOut:
    """What programs are told of an image; nothing from which our verdict follows where that is hidden."""
    image, decision = row
    out = ImageOut(
        image_id=image.id,
        product_id=image.product_id,
        name=image.name,
        sha256=image.sha256,
        received_at=image.received_at,
        removed_at=image.removed_at,
        verdict="waiting",
    )
    if decision is None:
        return out
    names = ("verdict", "score", "p_value", "threshold", "model_sha256", "decided_at", "message", "is_doubtful")
    told = {name: getattr(decision, name) for name in names}
    if is_hidden:
        told |= {"score": None, "p_value": None, "verdict": reviews.HIDDEN, "message": "", "is_doubtful": None}
        return out.model_copy(update=told)
    return out.model_copy(update={**told, "regions": json.loads(decision.regions)})


@router.get("/openapi.json", include_in_schema=False)
@allow("viewer", "read")
def openapi(request: Request) -> dict[str, Any]:
    """This API, described."""
    described: dict[str, Any] = request.app.openapi()
    return described


@router.post("/predict", response_model=ImageOut, openapi_extra=RAW, responses={202: {"model": ImageOut}})
@allow("operator", "predict")
async def predict(
    request: Request,
    station: At,
    product: Annotated[str, Query(min_length=1, max_length=LONGEST_PRODUCT)],
    name: Annotated[str, Query(min_length=1, max_length=1000, description="Of the file; the same again is the same.")],
    wait_s: Annotated[float, Query(ge=0.0, le=60.0)] = 10.0,
) -> Response:
    """Judge an image, which is the body; 202 where the decision is not there within `wait_s` seconds."""
    content = await request.body()
    source_id = await run_in_threadpool(upload_source, station, product)
    image_id = (await run_in_threadpool(station.inbox.receive, source_id, name, content)).image_id
    deadline = time.monotonic() + wait_s
    while True:
        row = await run_in_threadpool(_row, station, image_id)
        if row.decision is not None or time.monotonic() > deadline or station.stopping.is_set():
            return JSONResponse(image_out(row).model_dump(), 202 if row.decision is None else 200)
        await asyncio.sleep(LOOK_EVERY_S)


def upload_source(station: Station, product: str) -> int:
    """Where uploads of a product go.

    Raises:
        DataError: there is no such product.
    """
    with station.database.read() as session:
        found = session.scalar(
            select(Source.id)
            .join(Product, Product.id == Source.product_id)
            .where(Product.name == product, Source.kind == "upload")
        )
    if found is None:
        raise DataError(f"product '{product}': there is none")
    return found


def _row(station: Station, image_id: int) -> reviews.Row:
    with station.database.read() as session:
        return reviews.row_of(session, image_id)


@router.get("/images")
@allow("viewer", "read")
def images(
    station: At,
    product_id: ProductId | None = None,
    verdict: str | None = None,
    before: int | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[ImageOut]:
    """Images that were decided, the newest first; `before` the number of an image that was got last."""
    with station.database.read() as session:
        last = None
        if before is not None:
            row = reviews.find_row(session, before)
            if row is None or row.decision is None:
                return []
            last = row.decision.id
        rows = reviews.recent(session, product_id, limit, last, verdict)
        hidden = reviews.hidden_of(session, rows)
        return [image_out(row, is_hidden=row.image.id in hidden) for row in rows]


@router.get("/images/{image_id}")
@allow("viewer", "read")
def image(request: Request, station: At, image_id: ImageId) -> ImageOut:
    """One image. A token for `predict`, which waits for what to do with a part, is told the verdict in any case."""
    scopes = identity_of(request).scopes
    return _image_out(station, image_id, is_told=scopes is not None and "predict" in scopes)


def _image_out(station: Station, image_id: int, *, is_told: bool = False) -> ImageOut:
    row = _row(station, image_id)
    with station.database.read() as session:
        return image_out(row, is_hidden=not is_told and reviews.is_hidden(session, row))


def check_shown(session: Session, row: reviews.Row, show: Show) -> None:
    """Refuse a picture that tells our verdict on an image which a person is to judge first.

    Raises:
        HTTPException: 403.
    """
    if show != "photo" and reviews.is_hidden(session, row):
        raise HTTPException(403, "this image is in the audit lane: judge it first")


@router.get("/images/{image_id}/{show}", response_class=Response)
@allow("viewer", "read")
def picture(station: At, image_id: ImageId, show: Show) -> Response:
    """A JPEG of an image: the photo, the heat map on it, or the defect mask."""
    row = _row(station, image_id)
    with station.database.read() as session:
        check_shown(session, row, show)
    return Response(draw(station.folder, station.judge, row.image, row.decision, show, "full"), media_type="image/jpeg")


@router.post("/verdicts", status_code=201)
@allow("operator", "judge")
def give_verdict(request: Request, station: At, said: VerdictIn) -> ImageOut:
    """Say of an image what it is."""
    who = identity_of(request).name
    reviews.give_verdict(
        station.database, who, said.image_id, said.judgement, defect_type=said.defect_type, note=said.note
    )
    return _image_out(station, said.image_id)


@router.get("/verdicts/{image_id}")
@allow("viewer", "read")
def verdicts(station: At, image_id: ImageId) -> list[dict[str, str]]:
    """What people said of an image, the last first."""
    names = ("user_name", "lane", "judgement", "defect_type", "given_at")
    with station.database.read() as session:
        return [{name: getattr(one, name) for name in names} for one in reviews.verdicts_of(session, image_id)]


@router.post("/notes", status_code=201)
@allow("operator", "judge")
def write_note(request: Request, station: At, said: NoteIn) -> list[dict[str, str]]:
    """Write something about an image; answers with all that was written about it."""
    reviews.add_note(station.database, identity_of(request).name, said.image_id, said.text)
    return notes(station, said.image_id)


@router.get("/notes/{image_id}")
@allow("viewer", "read")
def notes(station: At, image_id: ImageId) -> list[dict[str, str]]:
    """What people wrote about an image, the oldest first."""
    with station.database.read() as session:
        return [note_out(one) for one in notes_of(session, [image_id]).get(image_id, [])]


@router.get("/models")
@allow("viewer", "read")
def models(station: At) -> list[ModelOut]:
    """Every model that was uploaded."""
    with station.database.read() as session:
        live = set(session.scalars(select(Product.model_id)))
        return [_model_out(model, live) for model in session.scalars(select(Model).order_by(Model.id))]


def _model_out(model: Model, live: set[int | None]) -> ModelOut:
    names = ("product_id", "sha256", "name", "parity", "created_at", "created_by")
    told = {name: getattr(model, name) for name in names}
    return ModelOut(model_id=model.id, is_live=model.id in live, **told)


@router.post("/models", status_code=201, response_model=ModelOut, openapi_extra=RAW)
@allow("engineer", "manage")
async def upload_model(
    request: Request,
    station: At,
    product_id: int,
    name: Annotated[str, Query(min_length=1, max_length=255)],
) -> ModelOut:
    """Bring a model, exported to ONNX, which is the body. It judges its fixtures here first, and is not live yet."""
    content = await request.body()
    added = await run_in_threadpool(
        add_model, station.database, station.folder, identity_of(request).name, product_id, (name, content)
    )
    return _model_out(added, set())


@router.post("/models/{model_id}/live")
@allow("engineer", "manage")
def set_live(request: Request, station: At, model_id: ImageId, said: ReasonIn) -> dict[str, int]:
    """Let a model judge its product from now on; an earlier one is taken back so, too."""
    go_live(station.database, station.folder, identity_of(request).name, model_id, said.reason)
    return {"model_id": model_id}


@router.get("/reports/shift")
@allow("viewer", "read")
def report(station: At, start: Time, end: Time, product_id: ProductId | None = None) -> dict[str, Any]:
    """Counts, defect types, escapes and false alarms of a time."""
    with station.database.read() as session:
        found = shift_report(session, start, end, product_id)
    audit = {
        name: {"hits": share.hits, "of": share.of, "interval": list(share.interval)}
        for name, share in found.audit._asdict().items()
        if isinstance(share, Share)
    }
    names = ("product_id", "model_id", "stream", "usual", "found", "images", "image", "raised_at")
    alarms = [{name: getattr(alarm, name) for name in names} for alarm in found.alarms]
    chart = None if found.chart is None else _chart_out(found.chart)
    counts = {"audited": found.audit.audited, "known": found.audit.known}
    told = {"audit": {**counts, **audit}, "alarms": alarms, "chart": chart}
    return {**found._asdict(), **told}


def _chart_out(found: HourlyChart) -> dict[str, Any]:
    names = ("hour", "images", "share", "low", "high")
    rows = zip(found.hours, found.of, found.chart.points, strict=True)
    points = [dict(zip(names, (hour, of, *point), strict=True)) for hour, of, point in rows]
    return {"centre": found.chart.centre, "sigma_z": found.chart.sigma_z, "points": points}


@router.get("/reports/summary.csv", response_class=Response)
@allow("viewer", "read")
def summary_csv(request: Request, station: At, start: Time, end: Time, product_id: ProductId | None = None) -> Response:
    """The report of a time as a table. An export is an entry of the audit trail."""
    with station.database.write() as session:
        found = shift_report(session, start, end, product_id)
        append(session, identity_of(request).name, "export", "summary", {"start": start, "end": end})
    text = "".join(map(csv_line, (SUMMARY_FIELDS, *summary_rows(found))))
    headers = {"Content-Disposition": 'attachment; filename="summary.csv"'}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/trail/head")
@allow("viewer", "read")
def trail_head(station: At) -> dict[str, Any]:
    """The last entry of the audit trail, to be kept elsewhere."""
    with station.database.read() as session:
        return head_of(session, station.folder)._asdict()


@router.get("/queue")
@allow("viewer", "read")
def queue(station: At) -> list[dict[str, Any]]:
    """The first images that wait, and what keeps them."""
    with station.database.read() as session:
        query = select(Job).order_by(Job.attempts, Job.image_id).limit(100)
        return [
            {"image_id": job.image_id, "attempts": job.attempts, "trouble": job.trouble}
            for job in session.scalars(query)
        ]
