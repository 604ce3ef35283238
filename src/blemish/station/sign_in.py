"""Logging in and out, one's own password and tokens, and signing what is done for good."""

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Form, HTTPException, Request
from sqlalchemy import select
from starlette.responses import HTMLResponse, RedirectResponse, Response

from blemish.errors import SettingsError
from blemish.station.access import COOKIE, allow, identity_of, public, safe_next
from blemish.station.accounts import (
    LONGEST_S,
    SCOPES,
    add_token,
    begin_session,
    check_password,
    end_session,
    end_token,
    session_identity,
    set_password,
)
from blemish.station.app import At, Number, Station, Text
from blemish.station.render import render
from blemish.station.tables import Token, User

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


LIMITS = {"name and address": 5, "address": 25, "name": 50}
"""Failed log-ins in five minutes, after which no more are tried."""

RETRY = {"Retry-After": "300"}


def see_other(where: str) -> Response:
    """Answer a form with a page to look at."""
    return RedirectResponse(where, 303)


def noted(where: str) -> Response:
    """Answer a form with a page that says that it was taken, where that cannot be seen otherwise."""
    return see_other(f"{where}{'&' if '?' in where else '?'}noted=true")


@router.get("/login")
@public
def login_page(request: Request, next: str = "/") -> Response:  # the name in the address
    """Who are you?"""
    return render(request, "login.html.j2", where=safe_next(next), problem="")


@router.post("/login")
@public
def login(request: Request, station: At, name: Text, password: Text, where: Text = "/") -> Response:
    """Begin a session where name and password are right; say the same of everything that is not."""
    user = _whose(station, request, name, password)
    if not isinstance(user, User):
        answer = render(request, "login.html.j2", where=safe_next(where), problem=user)
        answer.status_code = 401 if user == "wrong" else 429
        answer.headers.update(RETRY if user == "too many" else {})
        return answer
    _end_own_session(station, request)
    done = RedirectResponse(safe_next(where), 303)
    done.set_cookie(
        COOKIE,
        begin_session(station.database, user),
        max_age=int(LONGEST_S),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return done


def _whose(station: Station, request: Request, name: str, password: str) -> User | Literal["wrong", "too many"]:
    """The user of that name and password, or why there is none."""
    address, known_as = request.client.host if request.client else "", name.strip().casefold()[:80]
    both = f"both {known_as} {address}"
    limits = dict(zip((both, f"address {address}", f"name {known_as}"), LIMITS.values(), strict=True))
    at_s = time.monotonic()
    if not station.attempts.begin(limits, at_s):
        return "too many"
    user = check_password(station.database, name, password)
    if user is not None:
        station.attempts.end(limits, both, at_s)
    return user or "wrong"


def _end_own_session(station: Station, request: Request) -> None:
    before = session_identity(station.database, request.cookies.get(COOKIE, ""))
    if before is not None and before.session is not None:
        end_session(station.database, before.session)


@router.post("/logout")
@allow("viewer")
def logout(request: Request, station: At) -> Response:
    """End the session."""
    _end_own_session(station, request)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer


def check_signature(station: Station, request: Request, password: str) -> None:
    """That it is still the one who logged in.

    Raises:
        SettingsError: the password is wrong.
        HTTPException: 429, it was wrong too often.
    """
    user = _whose(station, request, identity_of(request).name, password)
    if user == "too many":
        raise HTTPException(429, "too many wrong passwords; try again in five minutes", RETRY)
    if user == "wrong":
        raise SettingsError("password: wrong; nothing was changed")


@router.get("/account")
@allow("viewer")
def account(request: Request, station: At) -> Response:
    """One's own password and tokens."""
    return _account(request, station, "")


def _account(request: Request, station: Station, token: str) -> Response:
    with station.database.read() as session:
        mine = identity_of(request).user_id
        tokens = list(session.scalars(select(Token).where(Token.user_id == mine).order_by(Token.id)))
    return render(request, "account.html.j2", tokens=tokens, scopes=SCOPES, token=token)


@router.post("/account/password")
@allow("viewer")
def change_password(request: Request, station: At, password: Text, new: Text) -> Response:
    """Another password; all one's sessions and tokens end."""
    check_signature(station, request, password)
    who = identity_of(request)
    set_password(station.database, who.name, who.user_id, new)
    return noted("/login")


@router.post("/account/token")
@allow("viewer")
def new_token(
    request: Request, station: At, name: Text, password: Text, scopes: Annotated[list[str] | None, Form()] = None
) -> Response:
    """A token for a program; shown this once."""
    check_signature(station, request, password)
    who = identity_of(request)
    return _account(request, station, add_token(station.database, who.name, who.user_id, name, scopes or []))


@router.post("/account/token/end")
@allow("viewer")
def take_token_back(request: Request, station: At, token_id: Number) -> Response:
    """End one of one's own tokens."""
    who = identity_of(request)
    with station.database.read() as session:
        token = session.get(Token, token_id)
    if token is not None and token.user_id == who.user_id:
        end_token(station.database, who.name, token_id)
    return noted("/account")
