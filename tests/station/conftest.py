"""A station in a folder, on SQLite and on a real PostgreSQL."""

import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, create_engine, delete, make_url, text

from blemish.station import accounts
from blemish.station.app import Station, make_app
from blemish.station.database import Database, open_database
from blemish.station.folder import StationFolder, open_folder
from blemish.station.intake import Inbox
from blemish.station.tables import Setting
from station.browser import CHEAP
from station.line import Line, set_up_line
from station.serving import Running, serve_line


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """A password is compared in no time, but for those of stations in processes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "PASSWORDS", CHEAP)
        yield


NO_POSTGRES = "no PostgreSQL: install pgserver (for Python 3.12 at the most), or set BLEMISH_TEST_DATABASE_URL"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The address of a real server: BLEMISH_TEST_DATABASE_URL, or one that pgserver starts here."""
    given = os.environ.get("BLEMISH_TEST_DATABASE_URL")
    if given:
        yield given
        return
    pgserver = pytest.importorskip("pgserver", reason=NO_POSTGRES)
    data = tempfile.mkdtemp()  # not under pytest's own folder, which the server's user may not enter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns where there is no XDG_RUNTIME_DIR
        try:
            server = pgserver.get_server(data, cleanup_mode="stop")
        except Exception as error:
            pytest.skip(f"no PostgreSQL: pgserver does not start one here ({type(error).__name__})")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_database(postgres_server: str) -> Iterator[Engine]:
    """A database of ours on that server."""
    name = f"blemish_{secrets.token_hex(6)}"
    url = make_url(postgres_server).set(drivername="postgresql+psycopg")
    root = create_engine(url, isolation_level="AUTOCOMMIT")
    with root.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = create_engine(url.set(database=name))
    yield engine
    engine.dispose()
    with root.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    root.dispose()


@pytest.fixture
def postgres_url(postgres_database: Engine) -> str:
    """The address of that database, empty."""
    with postgres_database.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    return postgres_database.url.render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'station.sqlite3'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with all tables, of no station yet; to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "station.sqlite3"
    opened = open_database(f"sqlite:///{path}", "none")
    with opened.write() as session:
        session.execute(delete(Setting))
    opened.close()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> StationFolder:
    """A new station's folder."""
    return open_folder(tmp_path / "station", create=True)


@pytest.fixture
def database(database_url: str, folder: StationFolder, migrated: Path) -> Iterator[Database]:
    """Its database, of each kind in turn."""
    if database_url.startswith("sqlite"):
        shutil.copy(migrated, database_url.removeprefix("sqlite:///"))
    opened = open_database(database_url, folder.id)
    yield opened
    opened.close()


@pytest.fixture
def sqlite(folder: StationFolder, migrated: Path) -> Iterator[Database]:
    """Its database in the folder, for what does not depend on the kind."""
    shutil.copy(migrated, folder.default_database.removeprefix("sqlite:///"))
    opened = open_database(folder.default_database, folder.id)
    yield opened
    opened.close()


@pytest.fixture
def receive(database: Database, folder: StationFolder) -> Callable[..., int]:
    """Takes an image in, and gives its number."""
    inbox = Inbox(database, folder, draw=lambda: 1.0)
    return lambda source_id, name, content: inbox.receive(source_id, name, content).image_id


@pytest.fixture
def running(tmp_path: Path, onnx_file: Path) -> Iterator[Running]:
    """A station that runs."""
    with serve_line(tmp_path, onnx_file) as served:
        yield served


@pytest.fixture
def station(sqlite: Database, folder: StationFolder) -> Station:
    return Station(sqlite, folder)


@pytest.fixture
def app(station: Station) -> FastAPI:
    return make_app(station)


@pytest.fixture
def line(station: Station, onnx_file: Path) -> Line:
    return set_up_line(station.database, station.folder, onnx_file)
