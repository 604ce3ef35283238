"""The record of `watch` and `inspect`: an SQLite file, which has a decision before anything else is done about it.

It is one file, with no log beside it that would have to be copied along, and works on a network folder: so it has a
rollback journal, and no WAL. Others may read it at any time.
"""

import json
import os
import sqlite3
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, final

from blemish.data.files import exclusive_lock
from blemish.data.outputs import check_output
from blemish.errors import DataError, SettingsError, reason
from blemish.inspection.decisions import Decision

ENDING = ".sqlite"

APPLICATION_ID = 0x626C656D
"""In the header of every record, by which it is told from other SQLite files: the letters blem."""

VERSION = 1
"""Of the tables; a record of a newer one is refused."""

BUSY_S = 2.0
"""How long a decision waits for another program that has locked the record, before that is said."""

WRITTEN_BY = "written_by"
"""The setting that says which command a record belongs to."""

_COLUMNS = {
    "image_path": "TEXT NOT NULL",
    "image_sha256": "TEXT NOT NULL",
    "verdict": "TEXT NOT NULL",
    "score": "REAL",
    "p_value": "REAL",
    "threshold": "REAL",
    "message": "TEXT NOT NULL",
    "model_sha256": "TEXT NOT NULL",
    "region_count": "INTEGER",
    "regions": "TEXT",
    "latency_ms": "REAL NOT NULL",
    "decided_at": "TEXT NOT NULL",
    "picture": "TEXT NOT NULL",
    "drawn_at": "REAL",
    "is_doubtful": "INTEGER",
}
"""The fields of a `Decision`; regions are JSON."""

_DECLARED = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
_TABLES = (
    f"CREATE TABLE decisions (id INTEGER PRIMARY KEY, {_DECLARED})",
    "CREATE UNIQUE INDEX uq_decisions_image ON decisions (image_path, image_sha256, picture) WHERE verdict <> 'model'",
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)
_IS_OLD = "SELECT NOT EXISTS (SELECT 1 FROM pragma_table_info('decisions') WHERE name = 'is_doubtful')"
"""Earlier versions did not write whether an image was doubtful."""
_SELECT = f"SELECT id, {', '.join(_COLUMNS)} FROM decisions"
_TEXT = "CAST(? AS TEXT)"
"""Of bytes: a file name may be no UTF-8."""
_VALUES = ", ".join(_TEXT if kind.startswith("TEXT") else "?" for kind in _COLUMNS.values())
_INSERT = f"INTO decisions ({', '.join(_COLUMNS)}) VALUES ({_VALUES})"
_ERRORS = sys.getfilesystemencodeerrors()


@final
class Record:
    """The decisions so far. One that `add` returns is on the disk; one that it refuses is not, and can be added again.

    If the file was renamed or deleted since the last one, a new record is begun. May be used from several threads.
    `was_left` where the process that wrote to it before was killed.
    """

    def __init__(self, path: Path, made_by: Mapping[str, Any], was_left: bool = False) -> None:
        self.path, self.was_left = path, was_left
        self._made_by = {name: json.dumps(value) for name, value in made_by.items()}
        self._connection: sqlite3.Connection | None = None
        self._stamp = os.stat_result([0] * 10)
        self._lock = threading.RLock()

    @classmethod
    @contextmanager
    def open(cls, path: Path, made_by: Mapping[str, Any], resume: bool = True) -> Iterator[Self]:
        """The record in a file, which nobody else may write to meanwhile; emptied first, unless it is to be resumed.

        `made_by` says what wrote it (`WRITTEN_BY`), and what else its decisions depend on.

        Raises:
            DataError: not writable, not a record of that command, damaged, or another process writes to it.
            SettingsError: its decisions were made otherwise.
        """
        check_output(path)
        path = path.resolve()  # under another name, through a link, it is the same record
        with exclusive_lock(path.with_name(f".{path.name}.lock"), f"writing the record {path}") as was_left:
            record = cls(path, made_by, was_left)
            try:
                with record._connected() as connection:
                    if not resume:
                        record._empty(connection)
                    record._check_made_by(connection)
                yield record
            finally:
                record.close()

    def add(self, decision: Decision, is_again: bool = False) -> Decision:
        """Write a decision, wait until the disk has it, and return it with its number.

        Where the same content under the same name was decided before, `is_again` replaces that.

        Raises:
            DataError: it cannot be written now; nothing of it stays.
        """
        values = [_to_sql(getattr(decision, name)) for name in _COLUMNS]
        with self._connected() as connection:
            cursor = connection.execute(f"INSERT {'OR REPLACE ' if is_again else ''}{_INSERT}", values)
            return replace(decision, id=cursor.lastrowid or 0)

    def find(self, image_path: str, image_sha256: str) -> Decision | None:
        """What was decided about an image of that path and content."""
        return self._last(f"image_path = {_TEXT} AND image_sha256 = {_TEXT}", image_path, image_sha256)

    def find_picture(self, image_path: str, picture: str) -> Decision | None:
        """What was last decided about the image of that path whose pictures have that name."""
        return self._last(f"image_path = {_TEXT} AND picture = {_TEXT}", image_path, picture)

    def paths(self) -> set[str]:
        """Those under which anything was decided."""
        with self._connected() as connection:
            return {path for (path,) in connection.execute("SELECT DISTINCT image_path FROM decisions")}

    def since(self, number: int = 0) -> Iterator[Decision]:
        """All decisions after that one, in order."""
        with self._connected() as connection:
            for row in connection.execute(f"{_SELECT} WHERE id > ? ORDER BY id", [number]):
                yield _from_sql(row)

    def numbered(self, numbers: Iterable[int]) -> Iterator[Decision]:
        """The decisions of those numbers.

        Raises:
            DataError: one is not there any more.
        """
        for number in numbers:
            found = self._last("id = ?", number)
            if found is None:
                raise DataError(f"{self.path}: decision {number} is gone; was the record replaced meanwhile?")
            yield found

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _last(self, where: str, *values: Any) -> Decision | None:
        with self._connected() as connection:
            query = f"{_SELECT} WHERE {where} ORDER BY id DESC LIMIT 1"
            row = connection.execute(query, [_to_sql(value) for value in values]).fetchone()
        return None if row is None else _from_sql(row)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """The open file, alone with it in this process; after an error it is opened again the next time."""
        with self._lock:
            try:
                yield self._follow()
            except sqlite3.Error as error:
                self.close()
                raise DataError(f"{self.path}: {_why(error)}") from None
            except OSError as error:
                self.close()
                raise DataError(f"{self.path}: cannot be written: {reason(error)}") from None

    def _follow(self) -> sqlite3.Connection:
        """The file that is under the record's name now."""
        if self._connection is not None:
            with suppress(FileNotFoundError):
                if os.path.samestat(self._stamp, self.path.stat()):
                    return self._connection
            self.close()
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        self._connection = connection
        connection.text_factory = _decode
        self._begin(connection)
        self._stamp = self.path.stat()
        return connection

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Make the tables where there are none, or see that they are ours and whole; nothing of others is touched."""
        is_new = _is_empty(connection) and self.path.stat().st_size == 0  # SQLite takes a few bytes for nothing, too
        if not is_new:
            _check_ours(connection, self.path)
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = EXTRA")  # a commit outlives a power cut
        if is_new:
            with _transaction(connection):
                for statement in _TABLES:
                    connection.execute(statement)
                self._write_settings(connection)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            return
        if (found := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found)
        if (before := self._settings(connection).get(WRITTEN_BY, '""')) != self._made_by[WRITTEN_BY]:
            raise DataError(f"{self.path}: a record of `blemish {json.loads(before)}`; give another file")
        if connection.execute(_IS_OLD).fetchone()[0]:
            connection.execute("ALTER TABLE decisions ADD COLUMN is_doubtful INTEGER")

    def _empty(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection):
            for table in ("decisions", "settings"):
                connection.execute(f"DELETE FROM {table}")
            self._write_settings(connection)

    def _write_settings(self, connection: sqlite3.Connection) -> None:
        connection.executemany("INSERT INTO settings (name, value) VALUES (?, ?)", list(self._made_by.items()))

    def _settings(self, connection: sqlite3.Connection) -> dict[str, str]:
        return dict(connection.execute("SELECT name, value FROM settings").fetchall())

    def _check_made_by(self, connection: sqlite3.Connection) -> None:
        found = self._settings(connection)
        for name, value in self._made_by.items():
            if (before := found.get(name, "null")) != value:
                raise SettingsError(
                    f"{self.path}: its rows were made with {name} {json.loads(before)}, this run has "
                    f"{json.loads(value)}; leave out --resume to judge all images again, or name another folder"
                )


def read_record(path: Path, at_once: int = 1000) -> Iterator[Decision]:
    """The decisions of a record, in order, while whoever writes it goes on; nothing is written to it.

    Raises:
        DataError: there is none, it is of another program or of a newer version, or damaged.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such record; `watch` and `inspect` write them, ending with {ENDING}")
    address = f"{path.resolve().as_uri()}?mode=rw"  # what a killed command left is put right when it is opened
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None)) as connection:
            connection.text_factory = _decode
            _check_ours(connection, path)
            number, is_old = 0, connection.execute(_IS_OLD).fetchone()[0]
            select = _SELECT.replace("is_doubtful", "NULL") if is_old else _SELECT
            while rows := connection.execute(f"{select} WHERE id > ? ORDER BY id LIMIT {at_once}", [number]).fetchall():
                yield from map(_from_sql, rows)
                number = rows[-1][0]
    except (sqlite3.Error, ValueError, TypeError) as error:  # the last two: of regions that are none
        why = _why(error) if isinstance(error, sqlite3.Error) else "damaged; restore it from a copy"
        raise DataError(f"{path}: {why}") from None


def _decode(text: bytes) -> str:
    return text.decode("utf-8", _ERRORS)


def _is_empty(connection: sqlite3.Connection) -> bool:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    return application == 0 and connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is None


def _check_ours(connection: sqlite3.Connection, path: Path) -> None:
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if application != APPLICATION_ID:
        raise DataError(f"{path}: a database of another program, not a record of blemish; give another file")
    if version > VERSION:
        raise DataError(f"{path}: a record of a newer version of blemish; upgrade it, or give another file")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is written in the block, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # SQLite takes it back by itself where the disk is full
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _to_sql(value: Any) -> Any:
    text = json.dumps(value, allow_nan=False) if isinstance(value, list) else value
    return text.encode("utf-8", _ERRORS) if isinstance(text, str) else text


def _from_sql(row: tuple[Any, ...]) -> Decision:
    number, *values = row
    content = dict(zip(_COLUMNS, values, strict=True))
    regions, doubtful = content["regions"], content["is_doubtful"]
    content["regions"] = None if regions is None else json.loads(regions)
    content["is_doubtful"] = None if doubtful is None else bool(doubtful)
    return Decision(**content, id=number)


_WHY = {
    "SQLITE_FULL": "cannot be written: no space left on the disk; free some",
    "SQLITE_BUSY": "locked by another program; close what has it open",
    "SQLITE_NOTADB": "not a record of blemish; give another file",
    "SQLITE_READONLY": "cannot be written: read-only",
    "SQLITE_CANTOPEN": "cannot be opened: its folder is missing or may not be written",
}


def _why(error: sqlite3.Error) -> str:
    """What SQLite refuses, and what to do."""
    name = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")
    for known, text in _WHY.items():
        if name.startswith(known):
            return text
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_ERROR")):
        return f"damaged ({error}); restore it from a copy, or move it away to begin a new record"
    return f"cannot be written: {error}"
