"""The web application: what it holds, its routes, and how errors are told."""

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, final

from fastapi import Depends, FastAPI, Form, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator, Field
from sqlalchemy.exc import DataError as DatabaseDataError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response

import blemish
from blemish.errors import BlemishError, DataError
from blemish.station.access import LoginNeededError, guard, know_identity, login_address, page_before
from blemish.station.accounts import Attempts
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.intake import Inbox
from blemish.station.judge import Judge
from blemish.station.limits import HEADERS, MIB, Limits
from blemish.station.room import DiskFullError, is_full

SMALL_BODY_BYTES = 1 * MIB


SAID = {
    "Not Found": "there is no page at this address",
    "Method Not Allowed": "there is a page at this address, but it takes nothing that is sent in this way",
}
"""What the framework says of its own, in words that are translated."""


@final
@dataclass
class Station:
    """What the routes work with."""

    database: Database
    folder: StationFolder
    language: str = "auto"
    max_image_bytes: int = 64 * MIB
    max_model_bytes: int = 512 * MIB
    attempts: Attempts = field(default_factory=Attempts)
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the server ends, so that streams do, too."""

    def __post_init__(self) -> None:
        self.inbox = Inbox(self.database, self.folder)
        self.judge = Judge(self.folder, threads=1, keep=2)


def station_of(request: Request) -> Station:
    """The station that a request came to."""
    station: Station = request.app.state.station
    return station


At = Annotated[Station, Depends(station_of)]
Text = Annotated[str, Form()]
Number = Annotated[int, Form()]
NumberOrNone = Annotated[int | None, Form()]
"""Of a list whose first line stands for all, or for none, and sends nothing."""
Chosen = Annotated[
    Annotated[int, Field(ge=1, le=2**31 - 1)] | None,
    BeforeValidator(lambda text: text or None),
    Query(alias="product"),
]
"""The product that a page is to show; none, or nothing given for it: all."""


def make_app(station: Station) -> FastAPI:
    """The application. Every route of it goes through `guard`; there are no others, and nothing is mounted."""
    from blemish.station import (
        api,
        connect,
        keeping_pages,
        model_pages,
        number_pages,
        pages,
        service,
        setup_pages,
        sign_in,
        train_pages,
    )

    app = FastAPI(
        title="blemish station",
        version=blemish.__version__,
        dependencies=[Depends(guard)],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.station = station
    larger = {
        "/api/v1/predict": station.max_image_bytes,
        "/api/v1/models": station.max_model_bytes,
        "/products/image": station.max_image_bytes + SMALL_BODY_BYTES,
        "/products/model": station.max_model_bytes + SMALL_BODY_BYTES,
    }
    app.add_middleware(Limits, max_bytes=SMALL_BODY_BYTES, larger=larger, tell=_tell)
    for router in (
        service.router,
        api.router,
        sign_in.router,
        pages.router,
        number_pages.router,
        setup_pages.router,
        train_pages.router,
        model_pages.router,
        keeping_pages.router,
        connect.router,
        connect.api,
    ):
        app.include_router(router)
    app.add_exception_handler(LoginNeededError, _to_login)
    app.add_exception_handler(BlemishError, _blemish_error)
    app.add_exception_handler(DBAPIError, _no_room)
    app.add_exception_handler(OSError, _no_room)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(Exception, _fault)
    for kind in (OverflowError, DatabaseDataError):  # from SQLite, and from PostgreSQL
        app.add_exception_handler(kind, _too_large)
    return app


async def _to_login(_request: Request, error: Any) -> Response:
    return RedirectResponse(login_address(error.where), 303)


async def _blemish_error(request: Request, error: Any) -> Response:
    status = 404 if isinstance(error, DataError) and str(error).endswith("there is none") else 422
    if isinstance(error, DiskFullError):
        status = 507
    return _tell(request, status, str(error), {})


async def _no_room(request: Request, error: Any) -> Response:
    """The database or the disk fails in a place where nothing else is known of it."""
    if is_full(error):
        return _tell(request, 507, "no space left on the disk; free some, and send it again", {})
    if isinstance(error, DBAPIError):
        return _tell(request, 503, "the database does not answer; try again", {"Retry-After": "5"})
    raise error


async def _http_error(request: Request, error: Any) -> Response:
    if not hasattr(request.state, "identity"):  # no route: the page has the menu all the same
        with suppress(DBAPIError, BlemishError):
            await know_identity(request)
    said = SAID.get(str(error.detail), str(error.detail))
    return _tell(request, error.status_code, said, dict(error.headers or {}))


async def _too_large(request: Request, _error: Any) -> Response:
    return _tell(request, 422, "a number is larger than the database can hold", {})


async def _fault(request: Request, _error: Any) -> Response:
    """Nothing of ours saw it coming; it is raised again behind us, for the log, where `Limits` is left already."""
    return _tell(request, 500, "a fault in blemish itself; the log of the station says which", dict(HEADERS))


async def _not_understood(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return _tell(request, 422, f"{where}: {first['msg']}", {})


def _tell(request: Request, status: int, message: str, headers: dict[str, str]) -> Response:
    from blemish.station.render import render, say_of

    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": message}, status, headers)
    if "text/html" not in request.headers.get("accept", "text/html"):  # a script of a page
        return JSONResponse({"error": say_of(request).told(message)}, status, headers)
    answer = render(request, "error.html.j2", status=status, message=message, back=page_before(request))
    answer.status_code = status
    answer.headers.update(headers)
    return answer
