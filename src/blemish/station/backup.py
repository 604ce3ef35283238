"""A station in one file: everything in its store at one moment, and the images and models that it refers to.

Tables are JSON lines, so that what was kept in SQLite can be restored into PostgreSQL, and back. Maps are
left out: they are computed again when somebody looks. Sessions too: people log in again. A backup of an older version
is restored into tables as they were then, which are brought up to date afterwards.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, final
from zipfile import BadZipFile, ZipFile

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, Table, delete, func, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from blemish.data.files import atomic_write
from blemish.data.outputs import check_output, refuse_foreign
from blemish.data.progress import Progress, Report, quiet
from blemish.errors import DataError, reason
from blemish.station.database import Database, migrate, migrations, open_database
from blemish.station.database import reason as database_reason
from blemish.station.folder import MARKER, StationFolder, keep_content, open_folder, sha256_of
from blemish.station.tables import Base, Image, Model, Session
from blemish.station.trail import Verified, verify_trail

LEFT_OUT = {Session.__tablename__}
ROWS_AT_ONCE = 1000


@final
class Kept(NamedTuple):
    """What a backup holds."""

    rows: int
    files: int
    missing: int
    """Files that the store refers to and that are not there any more."""


def back_up(database: Database, folder: StationFolder, out: Path, report: Report = quiet) -> Kept:
    """Write a backup, whole or not at all; the station may run meanwhile.

    Raises:
        DataError: it cannot be written there, or is in the place of something else.
    """
    check_output(out)
    refuse_foreign(out)
    rows = 0
    with atomic_write(out) as temporary, ZipFile(temporary, "w", allowZip64=True) as archive:
        with _snapshot(database) as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
            marker = json.loads((folder.root / MARKER).read_text(encoding="utf-8"))
            archive.writestr("backup.json", json.dumps({**marker, "migration": revision}))
            total = sum(connection.scalar(select(func.count()).select_from(table)) or 0 for table in _tables())
            for table in _tables():
                with archive.open(f"tables/{table.name}.jsonl", "w", force_zip64=True) as file:
                    for row in connection.execute(select(table).execution_options(yield_per=ROWS_AT_ONCE)):
                        file.write(json.dumps(row._asdict()).encode() + b"\n")
                        rows += 1
                        if rows % ROWS_AT_ONCE == 0 or rows == total:
                            report(Progress("rows", rows, total))
            paths = dict(_paths(connection, folder))
        there = {name: path for name, path in paths.items() if path.is_file()}
        for done, (name, path) in enumerate(there.items(), start=1):
            archive.write(path, f"files/{name}")
            report(Progress("files", done, len(there)))
    return Kept(rows, len(there), len(paths) - len(there))


def restore(source: Path, root: Path, url: str | None, report: Report = quiet) -> Verified:
    """Make a station from a backup, in a folder and a database that are empty; returns what its trail says.

    Raises:
        DataError: no backup, damaged, of a newer version, or the folder or the database holds something.
    """
    if root.exists() and any(root.iterdir() if root.is_dir() else [root]):
        raise DataError(f"{root}: not empty; a backup is restored into a new folder")
    try:
        with ZipFile(source) as archive:
            return _restore(archive, source, root, url, report)
    except (Exception, KeyboardInterrupt) as error:
        shutil.rmtree(root, ignore_errors=True)
        match error:
            case BadZipFile() | KeyError() | json.JSONDecodeError():
                raise DataError(f"{source}: not a backup of a station, or a damaged one") from None
            case OSError():
                raise DataError(f"{source}: cannot be restored: {reason(error)}") from None
            case SQLAlchemyError():
                raise DataError(f"{source}: cannot be restored: the database fails: {database_reason(error)}") from None
        raise


def _restore(archive: ZipFile, source: Path, root: Path, url: str | None, report: Report) -> Verified:
    told = json.loads(archive.read("backup.json"))
    root.mkdir(parents=True, exist_ok=True)
    marker = {name: value for name, value in told.items() if name != "migration"}
    (root / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
    folder = open_folder(root)
    if told["migration"] not in migrations():
        raise DataError(f"{source}: of a newer version (migration {told['migration']}); upgrade blemish")
    database = open_database(url or folder.default_database, folder.id, told["migration"])
    try:
        with database.engine.begin() as connection:
            rows = 0
            for table in _empty_tables(connection, told["migration"]):
                for added in _fill(connection, table, archive):
                    rows += added
                    report(Progress("rows", rows, 0))
            paths = list(_paths(connection, folder))
            for done, (name, path) in enumerate(paths, start=1):
                _take_out(archive, name, path)
                report(Progress("files", done, len(paths)))
        migrate(database.engine)
        with database.read() as session:
            return verify_trail(session, report=report)
    finally:
        database.close()


def _empty_tables(connection: Connection, migration: str) -> list[Table]:
    """The tables of a migration, in the order they are filled.

    Raises:
        DataError: there is something in them, or they are of another migration.
    """
    found = MigrationContext.configure(connection).get_current_revision()
    metadata = MetaData()
    metadata.reflect(connection)
    tables = [table for table in metadata.sorted_tables if table.name not in {*LEFT_OUT, "alembic_version"}]
    has_rows = any(
        connection.scalar(select(func.count()).select_from(table)) for table in tables if table.name != "settings"
    )
    if has_rows or found != migration:
        where = connection.engine.url.render_as_string()
        raise DataError(f"{where}: holds a station already, or tables of another version; give an empty database")
    connection.execute(delete(metadata.tables["settings"]))
    return tables


def _fill(connection: Connection, table: Table, archive: ZipFile) -> Iterator[int]:
    """Put the rows of a table in; how many, time and again."""
    rows: list[dict[str, Any]] = []
    with archive.open(f"tables/{table.name}.jsonl") as file:
        for line in file:
            rows.append(json.loads(line))
            if len(rows) == ROWS_AT_ONCE:
                connection.execute(insert(table), rows)
                yield len(rows)
                rows = []
    if rows:
        connection.execute(insert(table), rows)
        yield len(rows)
    if connection.dialect.name == "postgresql" and "id" in table.c:  # the next number is none that was restored
        name = {"name": table.name}
        highest = connection.scalar(select(func.max(table.c.id)))
        if highest is not None and highest > 0:  # records that were taken in have numbers below
            connection.execute(text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :to)"), {**name, "to": highest})


def _take_out(archive: ZipFile, name: str, path: Path) -> None:
    """A file of the backup, to where the store expects it.

    Raises:
        DataError: its content is another, or the row that names it leads elsewhere.
    """
    if Path(name).name != name:
        raise DataError(f"{archive.filename}: {name[:80]} is no name of a file; the backup is damaged, or made to harm")
    try:
        content = archive.read(f"files/{name}")
    except KeyError:
        return  # was missing when the backup was made
    if sha256_of(content) != name.partition(".")[0]:
        raise DataError(f"{archive.filename}: {name} is damaged")
    keep_content(path, content)


def _tables() -> list[Table]:
    """Those that others refer to come first."""
    return [table for table in Base.metadata.sorted_tables if table.name not in LEFT_OUT]


def _snapshot(database: Database) -> Connection:
    """A connection that sees one moment, however long it looks."""
    level: Mapping[str, Any] = {} if database.is_sqlite else {"isolation_level": "REPEATABLE READ"}
    return database.engine.connect().execution_options(**level)


def _paths(connection: Connection, folder: StationFolder) -> Iterator[tuple[str, Path]]:
    for row in connection.execute(select(Image.sha256, Image.suffix).distinct()):
        yield f"{row.sha256}{row.suffix}", folder.image_path(row.sha256, row.suffix)
    for sha256 in connection.scalars(select(Model.sha256).distinct()):
        yield f"{sha256}.onnx", folder.model_path(sha256)
