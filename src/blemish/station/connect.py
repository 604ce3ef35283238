"""What the station is connected to, for engineers and administrators: cameras, brokers and exports."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, HTTPException, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from starlette.responses import Response, StreamingResponse

from blemish.station.access import allow, identity_of
from blemish.station.api import ProductId, Time
from blemish.station.app import At, Number, NumberOrNone, Station, Text
from blemish.station.brokers import Login, add_broker
from blemish.station.cameras import Pace, add_camera, is_video_file
from blemish.station.connections import Camera
from blemish.station.exports import MEDIA_TYPES, Wanted, export
from blemish.station.products import set_source
from blemish.station.sign_in import check_signature, noted
from blemish.station.tables import Source

router = APIRouter()
api = APIRouter(prefix="/api/v1", tags=["v1"])


class CameraIn(BaseModel):
    """A camera's device number, the address of a stream (rtsp, rtsps, http, https), or a video file's path."""

    model_config = ConfigDict(extra="forbid")
    product_id: int
    address: str
    every_frames: int = 1
    every_s: float = 0.0


class SwitchIn(BaseModel):
    """Whether images of a source are taken in."""

    model_config = ConfigDict(extra="forbid")
    is_on: bool


class SourceOut(BaseModel):
    """Where images come from; `frames`, `lost` and `breaks` are counted of cameras."""

    source_id: int
    product_id: int
    kind: str
    path: str
    is_on: bool
    trouble: str
    frames: int | None = None
    lost: int | None = None
    breaks: int | None = None


@router.post("/products/camera", include_in_schema=False)
@allow("engineer")
def read_camera(
    request: Request,
    station: At,
    product_id: Number,
    address: Text,
    every_frames: Number = 1,
    every_s: Annotated[float, Form()] = 0.0,
) -> Response:
    """Read a camera or a stream; a video file of this machine for administrators alone."""
    _add(request, station, product_id, address, Pace(every_frames, every_s))
    return noted("/products")


@router.post("/hooks/broker", include_in_schema=False)
@allow("administrator")
def new_broker(
    request: Request,
    station: At,
    url: Text,
    password: Text,
    product: NumberOrNone = None,
    password_name: Text = "",
    authority_name: Text = "",
    discovery: Text = "",
) -> Response:
    """Publish every decision to a broker of MQTT from now on; its password is known by its name alone."""
    check_signature(station, request, password)
    login = Login(password_name.strip(), authority_name.strip(), discovery.strip())
    add_broker(station.database, identity_of(request).name, url, product, login)
    return noted("/hooks")


@api.get("/sources")
@allow("viewer", "read")
def sources(station: At) -> list[SourceOut]:
    """Where images come from; addresses are without passwords."""
    query = select(Source, Camera).outerjoin(Camera, Camera.source_id == Source.id).order_by(Source.id)
    with station.database.read() as session:
        return [_source_out(source, camera) for source, camera in session.execute(query)]


def _source_out(source: Source, camera: Camera | None) -> SourceOut:
    names = ("product_id", "kind", "path", "is_on", "trouble")
    told: dict[str, Any] = {name: getattr(source, name) for name in names}
    if camera is not None:
        told |= {name: getattr(camera, name) for name in ("frames", "lost", "breaks")}
    return SourceOut(source_id=source.id, **told)


@api.post("/sources", status_code=201)
@allow("engineer", "manage")
def new_camera(request: Request, station: At, said: CameraIn) -> dict[str, int]:
    """Read a camera or a stream; a video file of this machine for administrators alone."""
    pace = Pace(said.every_frames, said.every_s)
    return {"source_id": _add(request, station, said.product_id, said.address, pace)}


@api.post("/sources/{source_id}")
@allow("engineer", "manage")
def switch(request: Request, station: At, source_id: int, said: SwitchIn) -> dict[str, int]:
    """Take in images of a folder or a camera no more, or again."""
    set_source(station.database, identity_of(request).name, source_id, is_on=said.is_on)
    return {"source_id": source_id}


def _add(request: Request, station: Station, product_id: int, address: str, pace: Pace) -> int:
    who = identity_of(request)
    if is_video_file(address.strip()) and not who.may(
        "administrator"
    ):  # like folders: pages would show what lies there
        raise HTTPException(403, "a file of this machine needs the role administrator")
    return add_camera(station.database, who.name, product_id, address, pace)


@api.get("/exports/decisions.{kind}", response_class=StreamingResponse)
@allow("viewer", "read")
def export_decisions(
    request: Request,
    station: At,
    kind: Literal["csv", "json", "jsonl", "parquet"],
    start: Time | None = None,
    end: Time | None = None,
    product_id: ProductId | None = None,
) -> Response:
    """Every decision of a time, with the last verdict of a person. An export is an entry of the audit trail."""
    pieces = export(station.database, identity_of(request).name, kind, Wanted(product_id, start, end))
    headers = {"Content-Disposition": f'attachment; filename="decisions.{kind}"'}
    return StreamingResponse(pieces, media_type=MEDIA_TYPES[kind], headers=headers)
