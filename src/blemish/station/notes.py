"""What people write about an image, beside what they say of it: an entry of the audit trail each, never changed."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from blemish.errors import SettingsError
from blemish.inspection.decisions import now
from blemish.station.tables import Note
from blemish.station.trail import append, note_detail

LONGEST_NOTE = 1000

UNSEEN = dict.fromkeys(map(ord, "\n\N{ZWNJ}\N{ZWJ}\N{LRM}\N{RLM}"))
"""What has no sign of its own, but belongs to lines, to scripts such as Persian, and to emoji."""


def checked_note(text: str) -> str:
    """A note as it is kept: lines without spaces around them, and no empty ones.

    Raises:
        SettingsError: it is too long, or holds what cannot be shown.

    >>> checked_note(" dirt, \\t wiped off\\r\\n\\r\\n ")
    'dirt, wiped off'
    """
    text = "\n".join(line for one in text.splitlines() if (line := " ".join(one.split())))
    seen = text.translate(UNSEEN)
    if len(text) > LONGEST_NOTE or not seen.isprintable():
        raise SettingsError(f"note: at most {LONGEST_NOTE} characters, and only such as can be shown")
    return text if seen else ""


def put_note(session: Session, user_name: str, image_id: int, text: str) -> None:
    """Add a note and its entry of the audit trail, unless it is the last one once more: a form that was sent twice."""
    last = session.scalar(select(Note).where(Note.image_id == image_id).order_by(Note.id.desc()).limit(1))
    if last is not None and (last.user_name, last.text) == (user_name, text):
        return
    note = Note(image_id=image_id, user_name=user_name, text=text, given_at=now())
    note.trail_seq = append(session, user_name, "note", image_id, note_detail(note))
    session.add(note)


def notes_of(session: Session, image_ids: Collection[int]) -> dict[int, list[Note]]:
    """The notes on images, the oldest first; by the images that have some."""
    found: dict[int, list[Note]] = {}
    for note in session.scalars(select(Note).where(Note.image_id.in_(image_ids)).order_by(Note.id)):
        found.setdefault(note.image_id, []).append(note)
    return found


def note_out(note: Note) -> dict[str, str]:
    """What programs are told of a note."""
    return {name: getattr(note, name) for name in ("user_name", "text", "given_at")}
