"""An archive to judge: the rows of a manifest sorted by product and cut into shards, in an SQLite file.

However many images there are, only some of them are in memory. The order is that of the products' names, and in a
product that of the manifest; a shard has images of one product alone. So the same manifest has the same shards.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple, final

from blemish.data.files import atomic_write
from blemish.errors import DataError, reason
from blemish.fleet.fetch import scheme_of
from blemish.fleet.manifest import ManifestRow, read_manifest
from blemish.settings import hash_file

FORMAT = 1
APPLICATION_ID = 0x626C6661
"""In the header of every such file, by which it is told from other SQLite files: the letters blfa."""
_TABLES = (
    "CREATE TABLE images (number INTEGER PRIMARY KEY, id TEXT NOT NULL, path TEXT NOT NULL, product TEXT NOT NULL)",
    "CREATE TABLE shards (place INTEGER PRIMARY KEY, product TEXT, first INTEGER, last INTEGER, rows INTEGER, "
    "sha256 TEXT)",
    "CREATE TABLE made_of (sha256 TEXT, shard_rows INTEGER, format INTEGER)",
)
_READ = "SELECT id, path FROM images WHERE product = ? AND number BETWEEN ? AND ? ORDER BY number"
_DISK = 64 << 20
"""Bytes of SQLite's cache."""


@final
class Shard(NamedTuple):
    """Some images of one product, which are judged and kept together."""

    place: int
    product: str
    first: int
    """Number of its first image in the manifest; those of other products in between are not in it."""
    last: int
    rows: int
    sha256: str
    """Of its rows."""


@final
class Archive:
    """The shards of a manifest."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def shards(self) -> list[Shard]:
        """All, in order."""
        with _opened(self.path) as connection:
            return [Shard(*row) for row in connection.execute("SELECT * FROM shards ORDER BY place")]

    def schemes(self) -> set[str]:
        """Of the URIs among its paths."""
        with _opened(self.path) as connection:
            connection.create_function("scheme_of", 1, scheme_of, deterministic=True)
            return {found for (found,) in connection.execute("SELECT DISTINCT scheme_of(path) FROM images")}

    def rows(self, shard: Shard) -> list[tuple[str, str]]:
        """The id and the path of each image of a shard."""
        with _opened(self.path) as connection:
            return connection.execute(_READ, [shard.product, shard.first, shard.last]).fetchall()


def open_archive(
    path: Path, manifest: Path, shard_rows: int, on_row: Callable[[int], None] = lambda _done: None
) -> Archive:
    """The archive of a manifest; made where it is missing or of another manifest or size of shards, else as it is.

    Raises:
        DataError: the manifest cannot be read, has no images, or one id twice; a file of others has the name; or it
            cannot be written.
        SettingsError: as `read_manifest`.
    """
    try:
        sha256 = hash_file(manifest)
    except OSError as error:
        raise DataError(f"{manifest}: cannot be read: {error.strerror}") from None
    made_of = (sha256, shard_rows, FORMAT)
    if path.exists() and _made_of(path) == made_of:
        return Archive(path)
    with atomic_write(path) as temporary:
        try:
            with _opened(temporary) as connection:
                _fill(connection, manifest, shard_rows, on_row)
                connection.execute("INSERT INTO made_of VALUES (?, ?, ?)", made_of)
                connection.commit()
        except sqlite3.Error as error:
            raise DataError(f"{path}: cannot be written: {error}; is the disk full?") from None
    return Archive(path)


def _made_of(path: Path) -> tuple[str, int, int] | None:
    """What an archive was made of; None where that is not complete or of another format."""
    try:
        with _opened(path) as connection:
            if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
                raise sqlite3.DatabaseError
            found: tuple[str, int, int] | None = connection.execute("SELECT * FROM made_of").fetchone()
            return found
    except OSError as error:
        raise DataError(f"{path}: {reason(error)}") from None
    except sqlite3.DatabaseError:
        raise DataError(f"{path}: not written by `blemish fleet inspect`; give another folder") from None


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA cache_size = -{_DISK >> 10}")
        yield connection


def _fill(connection: sqlite3.Connection, manifest: Path, shard_rows: int, on_row: Callable[[int], None]) -> None:
    connection.execute("PRAGMA journal_mode = OFF")  # what is not complete is thrown away
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for statement in _TABLES:
        connection.execute(statement)
    rows, done = read_manifest(manifest), 0
    while some := list(islice(rows, 10_000)):
        numbered = ((done + place, *row) for place, row in enumerate(some, start=1))
        connection.executemany("INSERT INTO images VALUES (?, ?, ?, ?)", numbered)
        done += len(some)
        on_row(done)
    if not done:
        raise DataError(f"{manifest}: no images in it")
    _refuse_twice(connection, manifest)
    connection.execute("CREATE INDEX by_product ON images (product, number)")
    connection.executemany("INSERT INTO shards VALUES (?, ?, ?, ?, ?, ?)", _cut(connection, shard_rows))


def _refuse_twice(connection: sqlite3.Connection, manifest: Path) -> None:
    try:
        connection.execute("CREATE UNIQUE INDEX ids ON images (id)")
    except sqlite3.IntegrityError:
        many = "SELECT id, min(number), max(number) FROM images GROUP BY id HAVING count(*) > 1 ORDER BY 2"
        twice = connection.execute(many).fetchmany(3)
        found = ", ".join(f"{name} (images {first} and {last})" for name, first, last in twice)
        raise DataError(f"{manifest}: an id is there twice: {found}; each image needs an id of its own") from None


def _cut(connection: sqlite3.Connection, shard_rows: int) -> Iterator[Shard]:
    ordered = connection.execute("SELECT number, id, path, product FROM images ORDER BY product, number")
    place, held = 0, list[tuple[int, ManifestRow]]()
    for number, *row in ordered:
        if held and (len(held) == shard_rows or held[0][1].product != row[2]):
            yield _shard(place, held)
            place, held = place + 1, []
        held.append((number, ManifestRow(*row)))
    yield _shard(place, held)


def _shard(place: int, held: list[tuple[int, ManifestRow]]) -> Shard:
    rows = [row for _, row in held]
    return Shard(place, rows[0].product, held[0][0], held[-1][0], len(held), hash_text(rows))


def hash_text(values: Iterable[object]) -> str:
    """SHA-256 of values as JSON has them."""
    return hashlib.sha256(json.dumps(list(values)).encode("utf-8", "surrogatepass")).hexdigest()
