"""How images come in: their content is on the disk, then they stand in the database and in the queue, each once."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, final

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError

from blemish.data.decode import open_image, read_content
from blemish.data.image_files import SUFFIXES
from blemish.errors import BlemishError, DataError
from blemish.inspection.arrivals import Arrivals, Ready, scan, stamp_of
from blemish.settings import LARGEST_IMAGE_PX
from blemish.station.database import Database
from blemish.station.folder import StationFolder, keep_content, sha256_of
from blemish.station.room import DiskFullError, check_room, is_full
from blemish.station.tables import Image, Job, Product, Source, now

LONGEST_NAME = 1000

Draw = Callable[[], float]
"""A number in [0, 1), for the audit lane."""


@final
class Received(NamedTuple):
    """An image that is in the database; `is_new` where it was not before."""

    image_id: int
    is_new: bool


@final
class Inbox:
    """Takes images in, from whatever source."""

    def __init__(self, database: Database, folder: StationFolder, draw: Draw | None = None) -> None:
        self.database, self.folder = database, folder
        self._draw = draw or random.SystemRandom().random

    def receive(self, source_id: int, name: str, content: bytes, changed_ns: int | None = None) -> Received:
        """Keep an image and queue it. The same name with the same content from one source is the same image.

        What cannot be decoded is kept too: it is decided to be unreadable, like any other verdict.

        Raises:
            DiskFullError: there is no room for it; nothing was kept.
            DataError: the name is none, or the source is not known.
        """
        suffix = Path(name).suffix.lower()
        if suffix not in SUFFIXES:
            raise DataError(f"{name}: ends with '{suffix}'; expected one of {', '.join(sorted(SUFFIXES))}")
        if len(name) > LONGEST_NAME or "\0" in name:
            raise DataError(f"{name[:40]}...: a name of {len(name)} characters; at most {LONGEST_NAME} are kept")
        sha256, size = sha256_of(content), size_of(name, content)
        check_room(self.folder.root, len(content))
        keep_content(self.folder.image_path(sha256, suffix), content)
        height, width = size or (None, None)
        columns: dict[str, Any] = {
            "source_id": source_id,
            "name": name,
            "sha256": sha256,
            "suffix": suffix,
            "size_bytes": len(content),
            "changed_ns": changed_ns,
            "height_px": height,
            "width_px": width,
        }
        try:
            try:
                return self._insert(columns)
            except IntegrityError:  # another one was faster
                return self._insert(columns)
        except DBAPIError as error:
            if is_full(error):
                raise DiskFullError(f"{name}: no space left for the database; free some") from None
            raise

    def _insert(self, columns: dict[str, Any]) -> Received:
        source_id = columns["source_id"]
        with self.database.write() as session:
            known = session.scalar(
                select(Image.id).filter_by(source_id=source_id, name=columns["name"], sha256=columns["sha256"])
            )
            if known is not None:
                return Received(known, False)
            product = session.scalar(
                select(Product).join(Source, Source.product_id == Product.id).where(Source.id == source_id)
            )
            if product is None:
                raise DataError(f"source {source_id}: there is none")
            is_audit = self._draw() < product.audit_rate
            added = Image(**columns, product_id=product.id, received_at=now(), is_audit=is_audit)
            session.add(added)
            session.flush()
            session.add(Job(image_id=added.id, product_id=product.id))
            session.flush()
            return Received(added.id, True)


def size_of(name: str, content: bytes) -> tuple[int, int] | None:
    """Height and width of an image that can be decoded to its end."""
    try:
        image = open_image(Path(name), LARGEST_IMAGE_PX, content)
    except DataError:
        return None
    return image.height, image.width


@final
class WatchedFolder:
    """A folder that a camera writes into: every file that has come to rest is received once."""

    def __init__(self, inbox: Inbox, source_id: int, path: Path, settle_s: float = 1.0, patience_s: float = 10.0):
        self._inbox, self._source_id, self.path = inbox, source_id, path
        self._arrivals = Arrivals(settle_s, patience_s)
        with inbox.database.read() as session:
            rows = session.execute(
                select(Image.name, Image.size_bytes, Image.changed_ns).where(Image.source_id == source_id)
            )
            self._known = {(row.name, row.size_bytes, row.changed_ns) for row in rows}

    def look(self) -> int:
        """Receive what is ready; returns how many images are new.

        Raises:
            OSError: the folder is gone.
            DataError: the disk is full; what was not received is tried again at the next look.
        """
        found = scan(self.path)
        new = 0
        for ready in self._arrivals.look(found, time.monotonic()):
            if (ready.name, ready.stamp.size, ready.stamp.changed_ns) in self._known:
                self._arrivals.done(ready.name, ready.stamp)
            else:
                new += self._take(ready)
        return new

    def _take(self, ready: Ready) -> bool:
        path = self.path / ready.name
        try:
            content = read_content(path)
            is_same = stamp_of(path.stat()) == ready.stamp
        except (OSError, BlemishError):
            content, is_same = b"", False
        if not is_same:  # written to, or gone; the next look sees what it is then
            if ready.is_last_try:
                self._arrivals.done(ready.name, ready.stamp)
            else:
                self._arrivals.try_last(ready.name)
            return False
        if not ready.is_last_try and size_of(ready.name, content) is None:
            self._arrivals.try_last(ready.name)
            return False
        received = self._inbox.receive(self._source_id, ready.name, content, ready.stamp.changed_ns)
        self._arrivals.done(ready.name, ready.stamp)
        self._known.add((ready.name, ready.stamp.size, ready.stamp.changed_ns))
        return received.is_new


def note_trouble(database: Database, source_id: int, trouble: str, say: Callable[[str], None]) -> None:
    """Put on the page what is wrong with a source, or that nothing is any more; said where that has changed."""
    with database.read() as session:
        before = session.scalar(select(Source.trouble).where(Source.id == source_id))
    if before is None or before == trouble:
        return
    with database.write() as session:
        source = session.get(Source, source_id)
        if source is not None:
            source.trouble = trouble
    if trouble:  # once it is noted, or it would be said at every look
        say(trouble)
