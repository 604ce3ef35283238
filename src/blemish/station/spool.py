"""What programs elsewhere were not told yet.

The decisions themselves are the spool: a hook keeps the number of the last one that it was told. One that was told and
whose answer was lost is told again, with the same number.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple, final
from urllib.parse import urlsplit

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from blemish.station.database import Database
from blemish.station.tables import Decision, Hook
from blemish.station.trail import decision_detail

ANSWER_S = 5.0
LOOK_EVERY_S = 0.5
LONGEST_PAUSE_S = 60.0
AT_ONCE = 50


@final
class Told(NamedTuple):
    """The last decision that somebody has taken, and why no more; "": there were no more."""

    last: int
    trouble: str = ""


def shown_url(url: str) -> str:
    """Of an address what logs, pages and the audit trail may have: its path and query may let whoever reads them in.

    >>> shown_url("https://eva@chat.example:8443/hooks/3f0c?key=abc"), shown_url("mqtt://10.0.0.7")
    ('https://chat.example:8443/…', 'mqtt://10.0.0.7/')
    """
    parts = urlsplit(url)
    more = "…" if parts.path.strip("/") or parts.query or parts.fragment else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{more}"


def find_hook(database: Database, hook_id: int) -> Hook | None:
    """A hook as it is now; None where it was taken back."""
    with database.read() as session:
        return session.get(Hook, hook_id)


def behind(session: Session, hook: Hook) -> int:
    """How many decisions it was not told yet."""
    return session.scalar(_waiting(hook).with_only_columns(func.count()).order_by(None)) or 0


def unsent(database: Database, hook: Hook) -> list[Decision]:
    """The first decisions that it was not told yet, in order."""
    with database.read() as session:
        return list(session.scalars(_waiting(hook).limit(AT_ONCE)))


def _waiting(hook: Hook) -> Any:
    query: Any = select(Decision).where(Decision.id > hook.delivered).order_by(Decision.id)
    return query if hook.product_id is None else query.where(Decision.product_id == hook.product_id)


def body_of(decision: Decision) -> bytes:
    """What is told of a decision, as JSON; whoever was told before knows it by its `id`."""
    told = {"id": decision.id, **decision_detail(decision), "is_doubtful": decision.is_doubtful}
    return json.dumps(told, allow_nan=False).encode()


def note(database: Database, hook: Hook, told: Told, say: Callable[[str], None]) -> float:
    """Write down how far a hook was told; returns for how many seconds it is left alone: longer after each failure."""
    failures = hook.failures + 1 if told.trouble else 0
    if (told.last, failures, told.trouble) != (hook.delivered, hook.failures, hook.trouble):
        values = {"delivered": told.last, "failures": failures, "trouble": told.trouble}
        with database.write() as session:
            its = (Hook.id == hook.id, Hook.url == hook.url)  # another one may have the number of one taken back
            session.execute(update(Hook).where(*its).values(**values))
    if told.trouble and not hook.failures:
        say(f"{shown_url(hook.url)}: {told.trouble}; tried again")
    return min(LONGEST_PAUSE_S, 2.0 ** (failures - 1)) if failures else 0.0
