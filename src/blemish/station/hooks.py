"""Webhooks: programs elsewhere are told of every decision, in order, signed, and again until they have answered."""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from blemish.errors import SettingsError
from blemish.station.connections import Broker
from blemish.station.database import Database
from blemish.station.spool import ANSWER_S, LOOK_EVERY_S, Told, body_of, find_hook, note, shown_url, unsent
from blemish.station.tables import Decision, Hook, Product
from blemish.station.trail import append

SIGNATURE = "X-Blemish-Signature"


@final
class _NoRedirect(HTTPRedirectHandler):
    """Where it leads was not what an administrator has entered."""

    def redirect_request(self, *_: Any) -> None:
        return None


OPENER = build_opener(_NoRedirect)


def add_hook(database: Database, actor: str, url: str, product_id: int | None) -> str:
    """Tell a program of every decision from now on; returns what it is signed with.

    Raises:
        SettingsError: no address of HTTP, one that is told already, or no such product.
    """
    url = checked_address(url)
    secret = secrets.token_urlsafe(32)
    with database.write() as session:
        begin_hook(session, actor, url, product_id, secret)
    return secret


def checked_address(url: str) -> str:
    """An address that something may be sent to.

    Raises:
        SettingsError: no address of HTTP, or one with a password in it.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_address = False
    is_plain = url.isascii() and url.isprintable() and " " not in url  # else errors of the network would repeat it
    if not is_address or not is_plain or len(url) > 1000 or parts.username is not None:
        raise SettingsError(f"hook '{url[:80]}': expected an address such as https://mes.example/blemish")
    return url


def begin_hook(session: Session, actor: str, url: str, product_id: int | None, secret: str = "") -> int:
    """Put a hook, which was checked, into the database; returns its number.

    Raises:
        SettingsError: it is told already, or there is no such product.
    """
    if session.scalar(select(Hook.id).where(Hook.url == url)) is not None:
        raise SettingsError(f"hook {shown_url(url)}: is told already")
    if product_id is not None and session.get(Product, product_id) is None:
        raise SettingsError(f"product {product_id}: there is none")
    last = session.scalar(select(func.max(Decision.id))) or 0
    hook = Hook(url=url, product_id=product_id, secret=secret, delivered=last)
    session.add(hook)
    session.flush()
    append(session, actor, "hook", shown_url(url), {"hook_id": hook.id, "product_id": product_id})
    return hook.id


def end_hook(database: Database, actor: str, hook_id: int) -> None:
    """Tell a program no more."""
    with database.write() as session:
        hook = session.get(Hook, hook_id)
        if hook is not None:
            session.execute(delete(Broker).where(Broker.hook_id == hook_id))
            session.delete(hook)
            append(session, actor, "hook", shown_url(hook.url), {"hook_id": hook.id, "ended": True})


def tell(database: Database, hook: Hook, say: Callable[[str], None]) -> float:
    """Tell one hook what it was not told yet; returns for how many seconds it is left alone."""
    decisions = unsent(database, hook)
    return note(database, hook, _tell_all(hook, decisions), say) if decisions else 0.0


def tell_until(database: Database, hook_id: int, say: Callable[[str], None], stop: threading.Event) -> None:
    """Tell one hook what it was not told yet, again and again until told to stop.

    Raises:
        SQLAlchemyError: the database fails.
    """
    pause_s = 0.0
    while not stop.wait(max(LOOK_EVERY_S, pause_s)):
        hook = find_hook(database, hook_id)
        pause_s = 0.0 if hook is None else tell(database, hook, say)


def _tell_all(hook: Hook, decisions: list[Decision]) -> Told:
    last = hook.delivered
    for decision in decisions:
        trouble = post(hook.url, hook.secret, body_of(decision))
        if trouble:
            return Told(last, trouble)
        last = decision.id
    return Told(last)


def post(url: str, secret: str, body: bytes) -> str:
    """Send something, signed; returns why it was not taken, and "" where it was."""
    headers = {"Content-Type": "application/json", SIGNATURE: sign(secret, body, time.time())}
    try:
        with OPENER.open(Request(url, body, headers, method="POST"), timeout=ANSWER_S):
            return ""
    except HTTPError as error:
        return f"answers {error.code}"
    except (URLError, HTTPException, OSError, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__


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
