"""The pages that engineers and administrators set a station up with: products, models, sources, users."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from sqlalchemy import func, select
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import HTMLResponse, Response

from blemish.errors import ArtifactError, SettingsError
from blemish.inference.artifact import ArtifactHeader
from blemish.station import state
from blemish.station.access import allow, identity_of
from blemish.station.accounts import add_user, change_user, set_password
from blemish.station.api import upload_source
from blemish.station.app import At, Number, NumberOrNone, Station, Text
from blemish.station.connections import Camera
from blemish.station.drift import set_drift
from blemish.station.hooks import add_hook, end_hook
from blemish.station.products import (
    add_folder,
    add_model,
    add_product,
    go_live,
    header_of_model,
    set_audit_rate,
    set_source,
)
from blemish.station.render import render
from blemish.station.runs import settle
from blemish.station.sign_in import check_signature, noted, see_other
from blemish.station.spool import behind
from blemish.station.tables import ROLES, Hook, Model, Role, Run, Source, User
from blemish.station.thresholds import set_doubt_rate

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/products")
@allow("viewer")
def products(request: Request, station: At) -> Response:
    """Products with their models and sources."""
    settle(station.database, station.folder)
    with station.database.read() as session:
        found = state.products(session)
        models = list(session.scalars(select(Model).order_by(Model.id.desc())))
        return render(
            request,
            "products.html.j2",
            products=found,
            promises={one.id: state.promise_of(session, one) for one in found},
            models=[(model, _header_or_none(model)) for model in models],
            sources=list(session.scalars(select(Source).order_by(Source.id))),
            cameras={camera.source_id: camera for camera in session.scalars(select(Camera))},
            runs=list(session.scalars(select(Run).order_by(Run.id.desc()).limit(20))),
        )


def _header_or_none(model: Model) -> ArtifactHeader | None:
    try:
        return header_of_model(model)
    except ArtifactError:
        return None


@router.post("/products")
@allow("engineer")
def new_product(request: Request, station: At, name: Text) -> Response:
    """A new product."""
    add_product(station.database, identity_of(request).name, name)
    return noted("/products")


@router.post("/products/folder")
@allow("administrator")
def watch_folder(request: Request, station: At, product_id: Number, path: Text) -> Response:
    """Watch a folder of this machine; administrators alone, for what lies there can be seen on the pages afterwards."""
    add_folder(station.database, identity_of(request).name, product_id, Path(path))
    return noted("/products")


@router.post("/products/source")
@allow("engineer")
def switch_source(request: Request, station: At, source_id: Number, is_on: Annotated[bool, Form()]) -> Response:
    """Watch a folder no more, or again."""
    set_source(station.database, identity_of(request).name, source_id, is_on=is_on)
    return noted("/products")


@router.post("/products/audit-rate")
@allow("engineer")
def audit_rate(
    request: Request, station: At, product_id: Number, rate: Annotated[float, Form()], reason: Text
) -> Response:
    """Which share of the images goes to the audit lane from now on, in percent."""
    set_audit_rate(station.database, identity_of(request).name, product_id, rate / 100.0, reason)
    return noted("/products")


@router.post("/products/doubt-rate")
@allow("engineer")
def doubt_rate(
    request: Request, station: At, product_id: Number, rate: Annotated[float, Form()], reason: Text
) -> Response:
    """Which images that pass are doubtful from now on, in percent of the good parts."""
    set_doubt_rate(station.database, identity_of(request).name, product_id, rate / 100.0, reason)
    return noted("/products")


@router.post("/products/drift")
@allow("engineer")
def drift_setting(
    request: Request,
    station: At,
    product_id: Number,
    stops: Annotated[bool, Form()],
    smallest_change: Annotated[float, Form()],
    reason: Text,
) -> Response:
    """Whether images wait once the guarantee is withdrawn, and which change, in percent, does not count as drift."""
    who, change = identity_of(request).name, smallest_change / 100.0
    set_drift(station.database, who, product_id, stops=stops, smallest_change=change, reason=reason)
    return noted("/products")


@router.post("/products/model")
@allow("engineer")
async def bring_model(request: Request, station: At) -> Response:
    """Bring a model; it is checked, and not live yet."""
    form = await request.form()
    name, content = await _uploaded(form.get("model"))
    product_id = str(form.get("product_id", ""))
    if not product_id.isdigit():
        raise SettingsError("product: choose one")
    who = identity_of(request).name
    await run_in_threadpool(add_model, station.database, station.folder, who, int(product_id), (name, content))
    return noted("/products")


@router.post("/products/image")
@allow("operator")
async def bring_image(request: Request, station: At) -> Response:
    """Bring an image by hand."""
    form = await request.form()
    name, content = await _uploaded(form.get("image"))
    source_id = await run_in_threadpool(upload_source, station, str(form.get("product", "")))
    received = await run_in_threadpool(station.inbox.receive, source_id, name, content)
    return see_other(f"/images/{received.image_id}")


async def _uploaded(field: object) -> tuple[str, bytes]:
    if not isinstance(field, UploadFile) or not field.filename:
        raise SettingsError("file: choose one")
    return Path(field.filename.replace("\\", "/")).name[:255], await field.read()


@router.post("/products/live")
@allow("engineer")
def set_live(
    request: Request, station: At, model_id: Number, reason: Text, password: Text, back: Text = ""
) -> Response:
    """Let a model judge from now on: signed with the password, with a reason."""
    check_signature(station, request, password)
    go_live(station.database, station.folder, identity_of(request).name, model_id, reason)
    if back not in ("/recalibrate", "/shadow"):
        return noted("/products")
    with station.database.read() as session:
        return noted(f"{back}?product={session.get_one(Model, model_id).product_id}")


@router.get("/users")
@allow("administrator")
def users(request: Request, station: At) -> Response:
    """Who may log in."""
    with station.database.read() as session:
        found = list(session.scalars(select(User).order_by(func.lower(User.name))))
    return render(request, "users.html.j2", users=found, roles=ROLES)


@router.get("/hooks")
@allow("administrator")
def hooks(request: Request, station: At) -> Response:
    """Programs elsewhere that are told of decisions."""
    return _hooks(request, station, "")


def _hooks(request: Request, station: Station, secret: str) -> Response:
    with station.database.read() as session:
        found = [(hook, behind(session, hook)) for hook in session.scalars(select(Hook).order_by(Hook.id))]
        return render(request, "hooks.html.j2", hooks=found, secret=secret, products=state.products(session))


@router.post("/hooks")
@allow("administrator")
def new_hook(request: Request, station: At, url: Text, password: Text, product: NumberOrNone = None) -> Response:
    """Tell a program elsewhere of every decision from now on; what it is signed with is shown this once."""
    check_signature(station, request, password)
    return _hooks(request, station, add_hook(station.database, identity_of(request).name, url, product))


@router.post("/hooks/end")
@allow("administrator")
def take_hook_back(request: Request, station: At, hook_id: Number) -> Response:
    """Tell it no more."""
    end_hook(station.database, identity_of(request).name, hook_id)
    return noted("/hooks")


@router.post("/users")
@allow("administrator")
def new_user(request: Request, station: At, name: Text, password: Text, role: Text) -> Response:
    """A new user."""
    add_user(station.database, identity_of(request).name, name, password, _role(role))
    return noted("/users")


@router.post("/users/change")
@allow("administrator")
def change(
    request: Request, station: At, user_id: Number, role: Text, is_active: Annotated[bool, Form()] = False
) -> Response:
    """Another role, or a locked account; the user's sessions end."""
    change_user(station.database, identity_of(request).name, user_id, role=_role(role), is_active=is_active)
    return noted("/users")


@router.post("/users/password")
@allow("administrator")
def reset_password(request: Request, station: At, user_id: Number, password: Text) -> Response:
    """Another password for a user; sessions and tokens of the account end."""
    set_password(station.database, identity_of(request).name, user_id, password)
    return noted("/users")


def _role(text: str) -> Role:
    found = next((role for role in ROLES if role == text), None)
    if found is None:
        raise HTTPException(422, f"role: expected one of {', '.join(ROLES)}")
    return found
