"""A station in one file and back, between both databases."""

import json
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
from sqlalchemy import func, select

from blemish.data.progress import Progress
from blemish.errors import DataError
from blemish.station import queue
from blemish.station.backup import back_up, restore
from blemish.station.database import Database, open_database
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
            content["backup.json"] = json.dumps({**told, "migration": "0000"}).encode()
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
