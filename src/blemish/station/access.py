"""Who may ask for what: every route names a role, or is refused; every change from a browser proves where it came from.

A route is open to nobody until `allow` or `public` says otherwise. `guard` is a dependency of the application, and runs
before every route.
"""

import hmac
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple, TypeVar, final
from urllib.parse import quote, urlsplit

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool

from blemish.station.accounts import Identity, Scope, session_identity, token_identity
from blemish.station.database import Database
from blemish.station.tables import Role

COOKIE = "blemish_session"
SAFE = ("GET", "HEAD", "OPTIONS")

F = TypeVar("F", bound=Callable[..., Any])


@final
class Rule(NamedTuple):
    """What a route asks for; no role: nothing. Without a scope no token opens it."""

    role: Role | None
    scope: Scope | None = None


@final
class LoginNeededError(Exception):
    """A page was asked for by a browser that is not logged in."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where


def allow(role: Role, scope: Scope | None = None) -> Callable[[F], F]:
    """Open a route to a role and those above it, and to tokens with a scope."""

    def mark(function: F) -> F:
        function.__dict__["station_rule"] = Rule(role, scope)
        return function

    return mark


def public(function: F) -> F:
    """Open a route to everybody."""
    function.__dict__["station_rule"] = Rule(None)
    return function


def rule_of(endpoint: Any) -> Rule | None:
    """What a route asks for; None: nobody may."""
    found = getattr(endpoint, "station_rule", None)
    return found if isinstance(found, Rule) else None


async def guard(request: Request) -> AsyncIterator[None]:
    """Find out who asks, and refuse who may not; afterwards let go of what was uploaded.

    Raises:
        HTTPException: 401, 403.
        LoginNeededError: for pages, in place of 401.
    """
    try:
        await _check(request)
        yield
    finally:
        await request.close()


async def know_identity(request: Request) -> Identity | None:
    """Who asks, if anybody is logged in, where no rule has looked yet; kept in the request for the page."""
    request.state.identity = identity = await run_in_threadpool(_identity, request)
    return identity


async def _check(request: Request) -> None:
    rule = rule_of(request.scope.get("endpoint"))
    if rule is None:
        raise HTTPException(403, "no rule opens this address")
    identity = await know_identity(request)
    is_from_browser = identity is None or identity.scopes is None
    if request.method not in SAFE and is_from_browser and not _is_same_origin(request):
        raise HTTPException(403, "this came from another site")
    if rule.role is None:
        return
    if identity is None:
        raise _not_logged_in(request)
    if not identity.may(rule.role):
        raise HTTPException(403, f"this needs the role {rule.role}; you are {identity.role}")
    if identity.scopes is not None and (rule.scope is None or rule.scope not in identity.scopes):
        raise HTTPException(403, f"this token is not for that; its scopes are: {', '.join(sorted(identity.scopes))}")
    if request.method not in SAFE and is_from_browser and not await _has_csrf(request, identity):
        raise HTTPException(403, "the page is too old for that, or it came from another site; load it again")


def identity_of(request: Request) -> Identity:
    """Who asks, where `guard` has let somebody in."""
    identity: Identity = request.state.identity
    return identity


def _identity(request: Request) -> Identity | None:
    database: Database = request.app.state.station.database
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token_identity(database, token.strip())
    cookie = request.cookies.get(COOKIE)
    return None if not cookie else session_identity(database, cookie)


def is_from_script(request: Request) -> bool:
    """Whether a script of a page asks, which must not take another page for its answer."""
    return request.headers.get("accept", "").startswith("application/json")


def _not_logged_in(request: Request) -> Exception:
    is_page = not request.url.path.startswith("/api/") and request.url.path != "/metrics"
    if not is_page or "authorization" in request.headers or is_from_script(request):
        has_token = request.headers.get("authorization", "").lower().startswith("bearer ")
        what = "this token is wrong, or was taken back; send another" if has_token else "log in, or send a token"
        return HTTPException(401, what, {"WWW-Authenticate": "Bearer"})
    where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return LoginNeededError(where if request.method == "GET" else page_before(request))


def page_before(request: Request) -> str:
    """The page of this station that a link or a form was on; "/" where that is not known."""
    parts = urlsplit(request.headers.get("referer", ""))
    if parts.netloc != request.headers.get("host", ""):
        return "/"
    return safe_next(parts.path + (f"?{parts.query}" if parts.query else ""))


def _is_same_origin(request: Request) -> bool:
    """Browsers say from where a form was sent; what says nothing is no browser of today, and has no cookie to abuse."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")


async def _has_csrf(request: Request, identity: Identity) -> bool:
    sent = request.headers.get("x-csrf-token")
    if sent is None and request.headers.get("content-type", "").startswith(
        ("application/x-www-form-urlencoded", "multipart/form-data")
    ):
        value = (await request.form(max_files=1, max_fields=50)).get("csrf")
        sent = value if isinstance(value, str) else None
    return sent is not None and hmac.compare_digest(sent.encode(), (identity.csrf or "").encode())


def login_address(where: str) -> str:
    """Where to log in, to come back afterwards."""
    return f"/login?next={quote(where, safe='/')}"


def safe_next(where: str) -> str:
    """Where to go after logging in: a page of this station, whatever was asked for.

    >>> [safe_next(where) for where in ("/review?page=2", "//evil.example", "https://evil.example", "/\\\\evil")]
    ['/review?page=2', '/', '/', '/']
    """
    is_ours = where.startswith("/") and not where.startswith(("//", "/\\")) and where.isprintable()
    return where if is_ours and not urlsplit(where).netloc else "/"
