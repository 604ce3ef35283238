"""The pages of what is kept: storage and its retention, and the head of the audit trail to be kept elsewhere."""

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from blemish.errors import SettingsError
from blemish.station.access import allow, identity_of
from blemish.station.app import At, Text
from blemish.station.heads import head_of, set_address
from blemish.station.render import render
from blemish.station.retention import kept_now, make_retention, read_retention, set_retention
from blemish.station.sign_in import check_signature, noted

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/storage")
@allow("engineer")
def storage(request: Request, station: At) -> Response:
    """How much is kept, and for how long."""
    with station.database.read() as session:
        kept, retention = kept_now(session, station.folder), read_retention(session)
    return render(request, "storage.html.j2", kept=kept, retention=retention)


@router.post("/storage")
@allow("administrator")
def keep(
    request: Request, station: At, reason: Text, password: Text, days: Text = "", days_rejects: Text = "", gb: Text = ""
) -> Response:
    """Keep images so long from now on: signed with the password, with a reason, for what goes does not come back."""
    check_signature(station, request, password)
    made = make_retention(
        *(_number(name, text) for name, text in (("days", days), ("rejects", days_rejects), ("GB", gb)))
    )
    set_retention(station.database, identity_of(request).name, made, reason)
    return noted("/storage")


def _number(name: str, text: str) -> float | None:
    if not text.strip():
        return None
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise SettingsError(f"{name}: found '{text[:20]}'; expected a number, or nothing for no limit") from None


@router.get("/trail/head")
@allow("viewer")
def head(request: Request, station: At) -> Response:
    """The head of the audit trail, to be printed or saved."""
    with station.database.read() as session:
        found = head_of(session, station.folder)
    if "download" in request.query_params:
        name = f"head-{found.at[:10]}-{found.seq}.json"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(found.to_json() + "\n", media_type="application/json", headers=headers)
    return render(request, "head.html.j2", head=found, secret="")


@router.post("/trail/head")
@allow("administrator")
def send_head(request: Request, station: At, password: Text, url: Text = "") -> Response:
    """Send the head to an address every day; what it is signed with is shown this once."""
    check_signature(station, request, password)
    secret = set_address(station.database, identity_of(request).name, url)
    with station.database.read() as session:
        found = head_of(session, station.folder)
    return render(request, "head.html.j2", head=found, secret=secret)
