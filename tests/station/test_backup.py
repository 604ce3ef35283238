"""A station in one file and back, between both databases."""

import json
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, func, select
from sqlalchemy.pool import StaticPool

from blemish.data.progress import Progress
from blemish.errors import DataError
from blemish.station import queue
from blemish.station.backup import back_up, restore
from blemish.station.database import Database, migrate, open_database
from blemish.station.exports import Wanted, export_to
from blemish.station.folder import StationFolder, open_folder
from blemish.station.intake import Inbox
from blemish.station.judge import Judge, commit
from blemish.station.products import add_product
from blemish.station.tables import Base, Decision
from blemish.station.trail import verify_trail
from station.line import picture, set_up_line


@pytest.fixture
def made(database: Database, folder: StationFolder, onnx_file: Path, receive: Callable[..., int]) -> Database:
    """A store with three decisions and an image that waits."""
    line = set_up_line(database, folder, onnx_file)
    judge = Judge(folder, threads=1)
    for seed in range(3):
        receive(line.source_id, f"{seed}.png", picture(seed))
    for task in queue.take(database, "me"):
        commit(database, "me", task, judge.judge(task))
    receive(line.source_id, "waits.png", picture(9))
    return database


def rows(database: Database) -> dict[str, list[tuple[object, ...]]]:
    with database.engine.connect() as connection:
        tables = [table for table in Base.metadata.sorted_tables if table.name != "sessions"]
        return {table.name: sorted(map(tuple, connection.execute(select(table)))) for table in tables}


@pytest.mark.slow
def test_long_work_tells_how_far_it_is(made: Database, folder: StationFolder, tmp_path: Path) -> None:
    told: list[Progress] = []

    def last() -> dict[str, tuple[int, int]]:
        found = {one.what: (one.done, one.total) for one in told}
        told.clear()
        return found

    kept = back_up(made, folder, tmp_path / "a.zip", told.append)
    assert last() == {"rows": (kept.rows, kept.rows), "files": (5, 5)}
    with made.read() as session:
        entries = verify_trail(session, report=told.append).entries
    assert last() == {"entries": (entries, entries), "decisions": (3, 3)}
    export_to(made, "test", tmp_path / "a.csv", Wanted(), told.append)
    assert last() == {"decisions": (3, 3)}
    restore(tmp_path / "a.zip", tmp_path / "again", None, told.append)
    assert last() == {"rows": (kept.rows, 0), "files": (5, 5), "entries": (entries, entries), "decisions": (3, 3)}

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "a.zip", tmp_path / "never", None, interrupt)
    assert not (tmp_path / "never").exists()


@pytest.mark.slow
def test_what_is_restored_is_what_was_there(made: Database, folder: StationFolder, tmp_path: Path) -> None:
    kept = back_up(made, folder, tmp_path / "a.zip")
    assert (kept.files, kept.missing) == (5, 0)
    assert restore(tmp_path / "a.zip", tmp_path / "again", None).problem is None
    again = open_folder(tmp_path / "again")
    database = open_database(again.default_database, again.id)
    assert rows(database) == rows(made)
    judge = Judge(again, threads=1)  # and it goes on
    (task,) = queue.take(database, "me")
    commit(database, "me", task, judge.judge(task))
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Decision)) == 4
        assert verify_trail(session).problem is None
    database.close()


@pytest.mark.slow
def test_from_sqlite_into_postgresql(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path, postgres_url: str
) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    Inbox(sqlite, folder).receive(line.source_id, "a.png", picture(1))
    back_up(sqlite, folder, tmp_path / "a.zip")
    assert restore(tmp_path / "a.zip", tmp_path / "again", postgres_url).problem is None
    database = open_database(postgres_url, folder.id)
    assert rows(database) == rows(sqlite)
    add_product(database, "me", "the next one")  # gets a number that is free
    database.close()
    with pytest.raises(DataError, match="holds a station already"):
        restore(tmp_path / "a.zip", tmp_path / "third", postgres_url)
    assert not (tmp_path / "third").exists()


def as_of(migration: str, path: Path, old: Path) -> None:
    """A backup as the version with that migration made it: with the tables and columns that there were."""
    engine, metadata = create_engine("sqlite://", poolclass=StaticPool), MetaData()
    engine = engine.execution_options(blemish_begin="")
    migrate(engine, migration)
    metadata.reflect(engine)
    engine.dispose()
    with ZipFile(path) as archive, ZipFile(old, "w") as to:
        for name in archive.namelist():
            content, table = archive.read(name), metadata.tables.get(Path(name).stem)
            if name == "backup.json":
                content = json.dumps({**json.loads(content), "migration": migration}).encode()
            elif table is not None:
                rows = [json.loads(line) for line in content.splitlines()]
                kept = [{column: value for column, value in row.items() if column in table.c} for row in rows]
                content = "".join(f"{json.dumps(row)}\n" for row in kept).encode()
            if table is not None or not name.startswith("tables/"):
                to.writestr(name, content)


@pytest.mark.parametrize("migration", ["0001", pytest.param("0005", marks=pytest.mark.slow)])
def test_a_backup_of_an_older_version_is_brought_up_to_date(
    made: Database, folder: StationFolder, tmp_path: Path, migration: str
) -> None:
    back_up(made, folder, tmp_path / "new.zip")
    as_of(migration, tmp_path / "new.zip", tmp_path / "old.zip")
    assert restore(tmp_path / "old.zip", tmp_path / "again", None).problem is None
    again = open_folder(tmp_path / "again")
    database = open_database(again.default_database, again.id)
    assert [rows(database)[name] for name in ("images", "tallies")] == [
        rows(made)[name] for name in ("images", "tallies")
    ]
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    database.close()


@pytest.mark.slow
def test_an_older_backup_comes_into_postgresql_too(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path, postgres_url: str
) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    Inbox(sqlite, folder).receive(line.source_id, "a.png", picture(1))
    back_up(sqlite, folder, tmp_path / "new.zip")
    as_of("0002", tmp_path / "new.zip", tmp_path / "old.zip")
    assert restore(tmp_path / "old.zip", tmp_path / "again", postgres_url).problem is None
    database = open_database(postgres_url, folder.id)
    assert rows(database) == rows(sqlite)
    database.close()
    for name in ("old", "new"):
        with pytest.raises(DataError, match=r"holds a station already.*; give an empty database"):
            restore(tmp_path / f"{name}.zip", tmp_path / "third", postgres_url)


@pytest.mark.parametrize("wrong", ["text", "zip", "migration", "file", "place"])
def test_what_is_no_backup_leaves_nothing(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path, wrong: str
) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    Inbox(sqlite, folder).receive(line.source_id, "a.png", picture(1))
    path = tmp_path / "a.zip"
    back_up(sqlite, folder, path)
    if wrong == "text":
        path.write_text("no backup")
    else:
        with ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        if wrong == "zip":
            del content["backup.json"]
        if wrong == "migration":
            told = json.loads(content["backup.json"])
            content["backup.json"] = json.dumps({**told, "migration": "9999"}).encode()
        if wrong == "file":
            name = next(name for name in content if name.endswith(".png"))
            content[name] = picture(2)
        if wrong == "place":
            name = next(name for name in content if name.endswith(".png"))
            content[name.replace(".png", "./../../../../e.png")] = content[name]
            rows = json.loads(content["tables/images.jsonl"])
            content["tables/images.jsonl"] = json.dumps({**rows, "suffix": "./../../../../e.png"}).encode()
        with ZipFile(path, "w") as archive:
            for name, kept in content.items():
                archive.writestr(name, kept)
    with pytest.raises(DataError, match=str(path)):
        restore(path, tmp_path / "again", None)
    assert not (tmp_path / "again").exists()
    assert not (tmp_path / "e.png").exists()


def test_nothing_is_restored_over_something(sqlite: Database, folder: StationFolder, tmp_path: Path) -> None:
    back_up(sqlite, folder, tmp_path / "a.zip")
    with pytest.raises(DataError, match="not empty"):
        restore(tmp_path / "a.zip", folder.root, None)
    assert (folder.root / "station.sqlite3").exists()
