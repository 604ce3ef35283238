"""Webhooks: programs elsewhere are told of every decision, in order, signed, and again until they have answered.

The decisions themselves are the spool: a hook keeps the number of the last one it was told. One that was told and whose
answer was lost is told again, with the same number.
"""

import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, NamedTuple, final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from sqlalchemy import func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from blemish.errors import SettingsError
from blemish.station.database import Database
from blemish.station.tables import Decision, Hook, Product
from blemish.station.trail import append, decision_detail

SIGNATURE = "X-Blemish-Signature"
ANSWER_S = 5.0
LOOK_EVERY_S = 0.5
LONGEST_PAUSE_S = 60.0
AT_ONCE = 50


@final
class _NoRedirect(HTTPRedirectHandler):
    """Where it leads was not what an administrator has entered."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = build_opener(_NoRedirect)


@final
class _Told(NamedTuple):
    last: int
    trouble: str


def add_hook(database: Database, actor: str, url: str, product_id: int | None) -> str:
    """Tell a program of every decision from now on; returns what it is signed with.

    Raises:
        SettingsError: no address of HTTP, one that is told already, or no such product.
    """
    url = url.strip()
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or len(url) > 1000 or parts.username:
        raise SettingsError(f"hook '{url[:80]}': expected an address such as https://mes.example/blemish")
    secret = secrets.token_urlsafe(32)
    with database.write() as session:
        if session.scalar(select(Hook.id).where(Hook.url == url)) is not None:
            raise SettingsError(f"hook '{url}': is told already")
        if product_id is not None and session.get(Product, product_id) is None:
            raise SettingsError(f"product {product_id}: there is none")
        last = session.scalar(select(func.max(Decision.id))) or 0
        session.add(Hook(url=url, product_id=product_id, secret=secret, delivered=last))
        append(session, actor, "hook", url[:255], {"product_id": product_id})
    return secret


def end_hook(database: Database, actor: str, hook_id: int) -> None:
    """Tell a program no more."""
    with database.write() as session:
        hook = session.get(Hook, hook_id)
        if hook is not None:
            session.delete(hook)
            append(session, actor, "hook", hook.url[:255], {"ended": True})


def behind(session: Session, hook: Hook) -> int:
    """How many decisions it was not told yet."""
    return session.scalar(_waiting(hook).with_only_columns(func.count()).order_by(None)) or 0


def _waiting(hook: Hook) -> Any:
    query: Any = select(Decision).where(Decision.id > hook.delivered).order_by(Decision.id)
    return query if hook.product_id is None else query.where(Decision.product_id == hook.product_id)


def tell_hooks(database: Database, say: Callable[[str], None], stop: threading.Event) -> None:
    """Tell every hook what it was not told yet, until told to stop."""
    next_try_s: dict[int, float] = {}
    while not stop.wait(LOOK_EVERY_S):
        try:
            with database.read() as session:
                hooks = list(session.scalars(select(Hook)))
            for hook in hooks:
                if time.monotonic() >= next_try_s.get(hook.id, 0.0):
                    pause_s = tell(database, hook, say)
                    next_try_s[hook.id] = time.monotonic() + pause_s
        except SQLAlchemyError as error:
            say(f"the database fails: {str(error).partition(chr(10))[0]}")


def tell(database: Database, hook: Hook, say: Callable[[str], None]) -> float:
    """Tell one hook what it was not told yet; returns for how many seconds it is left alone."""
    with database.read() as session:
        decisions = list(session.scalars(_waiting(hook).limit(AT_ONCE)))
    if not decisions:
        return 0.0
    told = _tell_all(hook, decisions)
    failures = hook.failures + 1 if told.trouble else 0
    with database.write() as session:
        session.execute(
            update(Hook).where(Hook.id == hook.id).values(delivered=told.last, failures=failures, trouble=told.trouble)
        )
    if told.trouble and not hook.failures:
        say(f"{hook.url}: {told.trouble}; tried again")
    return min(LONGEST_PAUSE_S, 2.0 ** (failures - 1)) if failures else 0.0


def _tell_all(hook: Hook, decisions: list[Decision]) -> _Told:
    last = hook.delivered
    for decision in decisions:
        body = json.dumps({"id": decision.id, **decision_detail(decision)}, allow_nan=False).encode()
        headers = {"Content-Type": "application/json", SIGNATURE: sign(hook.secret, body, time.time())}
        try:
            with _OPENER.open(Request(hook.url, body, headers, method="POST"), timeout=ANSWER_S):
                last = decision.id
        except HTTPError as error:
            return _Told(last, f"answers {error.code}")
        except (URLError, HTTPException, OSError, ValueError) as error:
            return _Told(last, str(getattr(error, "reason", error)) or type(error).__name__)
    return _Told(last, "")


def sign(secret: str, body: bytes, at_s: float) -> str:
    """The signature of a body and of the time it was sent, so that an old one cannot be sent again.

    >>> sign("secret", b"{}", 0.0)[:26]
    't=0,v1=4bbe8d39de1ffea42cf'
    """
    at = int(at_s)
    return f"t={at},v1={hmac.new(secret.encode(), f'{at}.'.encode() + body, hashlib.sha256).hexdigest()}"


def is_signed(secret: str, body: bytes, signature: str, now_s: float, within_s: float = 300.0) -> bool:
    """What a receiver checks: the signature is right and was made within five minutes.

    >>> is_signed("secret", b"{}", sign("secret", b"{}", 1000.0), 1010.0)
    True
    >>> is_signed("secret", b"{}", sign("secret", b"{}", 1000.0), 2000.0)
    False
    """
    at = signature.partition(",")[0].removeprefix("t=")
    if not at.isdigit() or abs(now_s - int(at)) > within_s:
        return False
    return hmac.compare_digest(sign(secret, body, int(at)), signature)
