"""The head of the audit trail, to be kept elsewhere: it proves later that nothing before it was rewritten or cut off.

A head is a small JSON document. It can be printed, saved by a command (`blemish station head`), and is sent once a day
to an address where one is set, signed as webhooks are.
"""

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, final

from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.errors import SettingsError
from blemish.inspection.decisions import now
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.hooks import checked_address, post
from blemish.station.spool import shown_url
from blemish.station.tables import Entry, Setting
from blemish.station.trail import FIRST, append

NAME = "head"


@final
class Head(NamedTuple):
    """The last entry of a trail, at a time; `seq` 0: the trail is empty."""

    station: str
    seq: int
    sha256: str
    at: str

    def to_json(self) -> str:
        """As it is printed, saved and sent."""
        return json.dumps(self._asdict())


def head_of(session: Session, folder: StationFolder) -> Head:
    """The head now."""
    found = session.execute(select(Entry.seq, Entry.sha256).order_by(Entry.seq.desc()).limit(1)).first()
    seq, sha256 = (0, FIRST) if found is None else (found.seq, found.sha256)
    return Head(folder.id, seq, sha256, now())


def read_head(text: str, folder: StationFolder) -> str:
    """The SHA-256 of a head: itself, a file that a head was saved in, or the document.

    Raises:
        SettingsError: it is none of these, or another station's.
    """
    if _is_sha256(text):
        return text
    try:
        content: Any = json.loads(text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8"))
        station, sha256 = content["station"], content["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(
            f"--head {text[:80]}: expected 64 hexadecimal digits, or a file that `blemish station head` wrote"
        ) from None
    if station != folder.id:
        raise SettingsError(f"--head {text[:80]}: the head of another station")
    if not _is_sha256(sha256):
        raise SettingsError(f"--head {text[:80]}: holds no head")
    return str(sha256)


def _is_sha256(text: Any) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")


def set_address(database: Database, actor: str, url: str) -> str:
    """Send the head there every day; returns what it is signed with. "": send it nowhere.

    Raises:
        SettingsError: it is no address of HTTP.
    """
    url = checked_address(url) if url.strip() else ""
    secret = secrets.token_urlsafe(32) if url else ""
    with database.write() as session:
        session.merge(Setting(name=NAME, value=json.dumps({"url": url, "secret": secret, "day": "", "trouble": ""})))
        append(session, actor, "head", shown_url(url) if url else "nowhere", {"is_sent": bool(url)})
    return secret


def address_of(session: Session) -> dict[str, str]:
    """Where the head is sent to, the last day it was, and what went wrong."""
    kept = session.get(Setting, NAME)
    found: dict[str, str] = {"url": "", "secret": "", "day": "", "trouble": ""}
    return found if kept is None else dict(json.loads(kept.value))


def send_daily(database: Database, folder: StationFolder, say: Callable[[str], None]) -> None:
    """Send the head of today, where that is wanted and was not done; what goes wrong is said, and tried again."""
    with database.read() as session:
        told, head = address_of(session), head_of(session, folder)
    today = head.at[:10]
    if not told["url"] or told["day"] == today:
        return
    trouble = post(told["url"], told["secret"], head.to_json().encode())
    if trouble:
        trouble = f"{shown_url(told['url'])}: {trouble}"
        say(f"the head of the audit trail was not sent: {trouble}; tried again")
    done = told | {"trouble": trouble, "day": told["day"] if trouble else today}
    with database.write() as session:
        if address_of(session) == told:  # else another address was given meanwhile
            session.merge(Setting(name=NAME, value=json.dumps(done)))
