"""The database of a station: SQLite in the folder, or PostgreSQL by its address; brought up to date by migrations."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, final

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session

from blemish.errors import DataError, SettingsError
from blemish.station import connections  # noqa: F401  # its tables belong to the others
from blemish.station.tables import Setting

BUSY_S = 30.0
"""How long a writer waits for another one before it gives up."""


@final
class Database:
    """Where transactions begin: `read()` for looking, `write()` for what must be on the disk when the block ends.

    A block of `write()` that raises leaves nothing behind. One writer works at a time, so that what it reads stays true
    until it has written.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writing = engine.execution_options(blemish_begin="BEGIN IMMEDIATE")

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file here."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of things and changes nothing."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is committed at the end of the block."""
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            if not self.is_sqlite:
                session.execute(text("SELECT pg_advisory_xact_lock(8743)"))
            yield session

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


def open_database(url: str, station_id: str, migration: str = "head") -> Database:
    """The database at an address, made or brought up to date; a new one up to a migration only, where one is named.

    Raises:
        SettingsError: the address is none of SQLite or PostgreSQL.
        DataError: it cannot be reached, is of a newer version, another station's, or none of ours.
    """
    database = Database(_engine(url))
    where = database.engine.url.render_as_string(hide_password=True)
    until = time.monotonic() + BUSY_S
    while True:
        try:
            _refuse_foreign(database.engine, where)
            migrate(database.engine, migration)
            if _own_id(database, station_id) != station_id:
                raise DataError(f"{where}: the database of another station; give the folder or the database it has")
            return database
        except DBAPIError as error:
            # SQLite does not wait by itself where another is making the same file.
            if "database is locked" in str(error.orig) and time.monotonic() < until:
                time.sleep(0.05)
                continue
            database.close()
            raise DataError(f"{where}: cannot be used: {str(error.orig).strip().splitlines()[0]}") from None
        except BaseException:
            database.close()
            raise


def _own_id(database: Database, station_id: str) -> str:
    """The station whose database it is: this one, where it was nobody's."""
    with database.write() as session:
        found = session.get(Setting, "station_id")
        if found is None:
            session.add(Setting(name="station_id", value=station_id))
        return station_id if found is None else found.value


def _engine(address: str) -> Engine:
    try:
        url = make_url(address)
    except ArgumentError:
        raise SettingsError(f"--database {address}: not an address; expected postgresql://user@host/name") from None
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername == "postgresql+psycopg":
        return create_engine(url, pool_pre_ping=True)
    if url.drivername != "sqlite":
        raise SettingsError(f"--database {url.drivername}: expected postgresql:// or sqlite:///")
    engine = create_engine(url, connect_args={"timeout": BUSY_S, "isolation_level": None})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Readers go on while one writes (WAL), a commit is on the disk (FULL), rows refer to rows that exist, and what is
    searched for is found in any case of letters, not of English ones alone."""
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    connection.create_function("lower", 1, lambda text: text and text.lower(), deterministic=True)


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("blemish_begin", "BEGIN"))


def _refuse_foreign(engine: Engine, where: str) -> None:
    with engine.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        version = MigrationContext.configure(connection).get_current_revision()
    if version is None and tables - {"alembic_version"}:
        raise DataError(f"{where}: holds other tables ({sorted(tables)[0]}); give the station a database of its own")
    if version is not None and version not in migrations():
        raise DataError(f"{where}: written by a newer version (migration {version}); upgrade blemish")


_one_at_a_time = threading.Lock()  # Alembic's environment is global


def migrate(engine: Engine, to: str = "head") -> None:
    """Bring the tables up to a migration, all steps or none. There is no way back but a backup."""
    scripts = _scripts()

    def steps(current: Any, _context: MigrationContext) -> Any:
        return scripts._upgrade_revs(to, current)

    with (
        _one_at_a_time,
        engine.execution_options(blemish_begin="BEGIN IMMEDIATE").connect() as connection,
        EnvironmentContext(Config(), scripts, fn=steps) as environment,
        connection.begin(),
    ):
        if engine.dialect.name == "postgresql":  # two that start at once migrate one after the other
            connection.execute(text("SELECT pg_advisory_xact_lock(8742)"))
        environment.configure(connection=connection, render_as_batch=True)
        environment.run_migrations()


def migrations() -> list[str]:
    """All that this version knows, the newest first."""
    return [script.revision for script in _scripts().walk_revisions()]


@cache
def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", "blemish.station:migrations")
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def reason(error: Exception) -> str:
    """Why something failed, in one line; of a database's error what it says itself."""
    found = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return str(found).strip().partition("\n")[0] or type(error).__name__


def is_ready(database: Database) -> bool:
    """Whether the database answers."""
    try:
        with database.read() as session:
            session.execute(select(Setting.value).limit(1)).all()
    except OperationalError:
        return False
    return True
