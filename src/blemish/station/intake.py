"""How images come in: their content is on the disk, then they stand in the database and in the queue, each once."""

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, final

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from blemish.data.decode import open_image, read_content
from blemish.data.layouts import SUFFIXES
from blemish.errors import DataError
from blemish.inspection.arrivals import OTHER_KIND, Arrivals, Ready, scan
from blemish.inspection.decisions import now
from blemish.inspection.moving import file_stamp
from blemish.settings import LARGEST_IMAGE_PX
from blemish.station.database import Database
from blemish.station.folder import StationFolder, keep_content, sha256_of
from blemish.station.room import DiskFullError, check_room, is_full
from blemish.station.tables import Image, Job, Product, Source

LONGEST_NAME = 1000

STRAY = 3
"""So many files of a kind that is not read, and no image after them, are the camera's."""

AT_ONCE = 500
"""So many names are looked up at a time."""

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
        sha256 = sha256_of(content)
        path, its = self.folder.image_path(sha256, suffix), {"source_id": source_id, "name": name, "sha256": sha256}
        find = select(Image).filter_by(**its)
        with self.database.read() as session:
            known = session.scalar(find)
        if known is None or known.removed_at is None:
            check_room(self.folder.root, len(content))
            keep_content(path, content)
        if known is not None:
            return Received(known.id, False)
        height, width = size_of(name, content) or (None, None)
        columns = {**its, "suffix": suffix, "size_bytes": len(content), "changed_ns": changed_ns}
        try:
            with self.database.write() as session:
                if (known := session.scalar(find)) is not None:  # another one was faster
                    return Received(known.id, False)
                keep_content(path, content)  # as no sweep removes it from now on
                return self._insert(session, Image(**columns, height_px=height, width_px=width))
        except DBAPIError as error:
            if is_full(error):
                raise DiskFullError(f"{name}: no space left for the database; free some") from None
            raise

    def _insert(self, session: Session, image: Image) -> Received:
        product = session.scalar(
            select(Product).join(Source, Source.product_id == Product.id).where(Source.id == image.source_id)
        )
        if product is None:
            raise DataError(f"source {image.source_id}: there is none")
        image.product_id, image.received_at, image.is_audit = product.id, now(), self._draw() < product.audit_rate
        session.add(image)
        session.flush()
        session.add(Job(image_id=image.id, product_id=product.id))
        return Received(image.id, True)


def size_of(name: str, content: bytes) -> tuple[int, int] | None:
    """Height and width of an image that can be decoded to its end."""
    try:
        image = open_image(Path(name), LARGEST_IMAGE_PX, content)
    except DataError:
        return None
    return image.height, image.width


@final
class WatchedFolder:
    """A folder that a camera writes into: every file that has come to rest is received once.

    `note` is told, once, of files of other kinds that are no trouble: fewer than `STRAY` since the last image.
    """

    def __init__(
        self,
        inbox: Inbox,
        source_id: int,
        path: Path,
        settle_s: float = 1.0,
        patience_s: float = 10.0,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._inbox, self._source_id, self.path, self._note = inbox, source_id, path, note
        self._arrivals = Arrivals(settle_s, patience_s)
        self._newest_ns, self._noted = 0, set[str]()

    def look(self) -> int:
        """Receive what is ready; returns how many images are new.

        Raises:
            OSError: the folder is gone.
            DataError: one could not be received, or the disk is full: then none after it. Both are tried again at the
                next look. Or something is left out that may have been meant to be judged.
        """
        left_out, new = list[tuple[str, str]](), 0
        found = scan(self.path, lambda name, why: left_out.append((name, why)))
        self._newest_ns = max((self._newest_ns, *(stamp.changed_ns for stamp in found.values())))
        failed = self._failures(left_out)
        ready = self._arrivals.look(found, time.monotonic())
        known = self._known(ready)
        for one in ready:
            if (one.name, one.stamp.size, one.stamp.changed_ns) in known:
                self._arrivals.done(one.name, one.stamp)
                continue
            try:
                new += self._take(one)
            except DiskFullError:
                raise
            except DataError as error:
                failed.insert(0, error)
        if failed:
            raise failed[0]
        return new

    def _failures(self, left_out: Sequence[tuple[str, str]]) -> list[DataError]:
        """What is left out and may have been meant to be judged; of other kinds, as a camera of the line writes them.

        What is not, such as a logo that somebody put there, is noted.
        """
        others = [name for name, why in left_out if why == OTHER_KIND]
        stamps = (file_stamp(self.path / name) for name in others)
        since = sum(stamp is not None and stamp.changed_ns > self._newest_ns for stamp in stamps)
        quiet = set(others) if since < STRAY else set()
        for name in sorted(quiet - self._noted):
            self._note(f"{self.path / name}: {OTHER_KIND}")
        self._noted |= quiet
        return [DataError(f"{self.path / name}: {why}") for name, why in left_out if name not in quiet]

    def _known(self, ready: Sequence[Ready]) -> set[tuple[str, int, int | None]]:
        """Name, size and time of the last change of those that were received before a restart."""
        found, names = set[tuple[str, int, int | None]](), [one.name for one in ready]
        query = select(Image.name, Image.size_bytes, Image.changed_ns).where(Image.source_id == self._source_id)
        for place in range(0, len(names), AT_ONCE):
            with self._inbox.database.read() as session:
                rows = session.execute(query.where(Image.name.in_(names[place : place + AT_ONCE])))
                found.update((row.name, row.size_bytes, row.changed_ns) for row in rows)
        return found

    def _take(self, ready: Ready) -> bool:
        path = self.path / ready.name
        try:
            content = read_content(path)
        except DataError:
            if ready.is_last_try and file_stamp(path) == ready.stamp:
                raise
            content = b""
        if file_stamp(path) != ready.stamp:
            return False  # written to, or gone; the next look sees what it is then
        if not ready.is_last_try and size_of(ready.name, content) is None:
            self._arrivals.try_last(ready.name)
            return False
        received = self._inbox.receive(self._source_id, ready.name, content, ready.stamp.changed_ns)
        self._arrivals.done(ready.name, ready.stamp)
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
