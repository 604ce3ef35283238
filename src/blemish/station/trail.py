"""The audit trail: entries that each hold the SHA-256 of the one before, so that none can be changed unseen.

What the chain proves: that no entry was changed, left out or put in between, up to the head. That no entries were cut
off at its end it cannot prove by itself: note a head elsewhere (print it, send it away), and give it to `verify_trail`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, final, get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.data.progress import Progress, Report, quiet
from blemish.inspection.decisions import now
from blemish.station.tables import Decision, Entry, Note, Verdict

FIRST = "0" * 64
"""What the first entry has in place of the SHA-256 of one before."""

AT_ONCE = 1000

STATION = "station"
"""Who decides when no person does."""

Action = (
    Literal["decision", "verdict", "note", "threshold", "model", "live", "shadow", "run", "drift", "drift setting"]
    | Literal["audit rate", "doubt rate", "product", "source", "hook", "head", "export", "import", "retention"]
    | Literal["removed", "user", "password", "token", "login"]
)
"""What is done that an entry tells of."""

ACTIONS: tuple[str, ...] = tuple(name for some in get_args(Action) for name in get_args(some))


def append(session: Session, actor: str, action: Action, subject: object, detail: Mapping[str, Any]) -> int:
    """Add an entry in the transaction of what it is about; returns its number."""
    head = session.execute(select(Entry.seq, Entry.sha256).order_by(Entry.seq.desc()).limit(1)).first()
    seq, previous = (1, FIRST) if head is None else (head.seq + 1, head.sha256)
    entry = Entry(
        seq=seq, at=now(), actor=actor, action=action, subject=str(subject), detail=canonical(detail), previous=previous
    )
    entry.sha256 = entry_sha256(entry)
    session.add(entry)
    session.flush()
    return seq


def canonical(detail: Mapping[str, Any]) -> str:
    """The one way to write something down, so that equal things have equal hashes.

    >>> canonical({"b": 0.5, "a": "x"})
    '{"a":"x","b":0.5}'
    """
    return json.dumps(detail, sort_keys=True, separators=(",", ":"), allow_nan=False)


def entry_sha256(entry: Entry) -> str:
    """The SHA-256 over everything an entry says, the one before it included."""
    said = [entry.seq, entry.at, entry.actor, entry.action, entry.subject, entry.detail, entry.previous]
    return hashlib.sha256(json.dumps(said, separators=(",", ":")).encode()).hexdigest()


def decision_detail(decision: Decision) -> dict[str, Any]:
    """What the trail keeps of a decision."""
    names = ("image_id", "image_path", "image_sha256", "model_sha256", "score", "p_value", "threshold", "verdict")
    known = {"is_known": True} if decision.is_known else {}  # else nothing is said: it is rare
    return {name: getattr(decision, name) for name in (*names, "message", "decided_at")} | known


def verdict_detail(verdict: Verdict) -> dict[str, Any]:
    """What the trail keeps of a person's verdict."""
    names = ("image_id", "user_name", "lane", "judgement", "defect_type", "given_at")
    return {name: getattr(verdict, name) for name in names}


def note_detail(note: Note) -> dict[str, Any]:
    """What the trail keeps of a note."""
    return {name: getattr(note, name) for name in ("image_id", "user_name", "text", "given_at")}


@final
class Verified(NamedTuple):
    """What `verify_trail` found: the number of entries that hold, and what is wrong with the next one."""

    entries: int
    head: str
    problem: str | None = None


def verify_trail(session: Session, noted_head: str | None = None, report: Report = quiet) -> Verified:
    """Go through the chain from its beginning, and through the decisions, verdicts and notes of its entries."""
    total = session.scalar(select(func.count()).select_from(Entry)) or 0
    kept, previous, has_noted = 0, FIRST, noted_head is None
    with session.scalars(select(Entry).order_by(Entry.seq).execution_options(yield_per=AT_ONCE)) as entries:
        for entry in entries:
            problem = _entry_problem(entry, kept + 1, previous)
            if problem is not None:
                return Verified(kept, previous, problem)
            kept, previous = entry.seq, entry.sha256
            has_noted = has_noted or previous == noted_head
            if kept % AT_ONCE == 0 or kept == total:
                report(Progress("entries", kept, total))
    if not has_noted:
        return Verified(kept, previous, f"the noted head {noted_head} is not in the chain: its end was cut off")
    return Verified(kept, previous, _row_problem(session, report))


def _entry_problem(entry: Entry, seq: int, previous: str) -> str | None:
    if entry.seq != seq:
        return f"entry {seq} is missing"
    if entry.previous != previous:
        return f"entry {seq} does not follow the entry before it"
    if entry.sha256 != entry_sha256(entry):
        return f"entry {seq} was changed ({entry.action} by {entry.actor}, {entry.at})"
    return None


def _row_problem(session: Session, report: Report) -> str | None:
    """A decision, verdict or note that is not what its entry says, or an entry without its row."""
    told: list[tuple[str, Any, Callable[[Any], dict[str, Any]]]] = [
        ("decision", Decision, decision_detail),
        ("verdict", Verdict, verdict_detail),
        ("note", Note, note_detail),
    ]
    for action, table, detail in told:
        entries = session.scalar(select(func.count()).where(Entry.action == action)) or 0
        rows = select(table, Entry.detail).join(Entry, Entry.seq == table.trail_seq).order_by(table.trail_seq)
        with session.execute(rows.execution_options(yield_per=AT_ONCE)) as found:
            for done, (row, written) in enumerate(found, start=1):
                if canonical(detail(row)) != written:
                    return f"{action} {row.id} was changed: entry {row.trail_seq} of the trail says otherwise"
                if done % AT_ONCE == 0 or done == entries:
                    report(Progress(f"{action}s", done, entries))
        kept = session.scalar(select(func.count()).select_from(table)) or 0
        if entries != kept:
            return f"entries '{action}' in the trail: {entries}; rows of the table: {kept}"
    return None
