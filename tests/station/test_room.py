"""A full disk: nothing is half-written, intake refuses or waits, the page says so; it goes on when there is room."""

import errno
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import event, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError

from blemish.station import queue, room, worker
from blemish.station.app import Station
from blemish.station.database import Database, open_database
from blemish.station.folder import StationFolder, keep_content, open_folder
from blemish.station.intake import Inbox
from blemish.station.products import add_folder, product_named
from blemish.station.room import DiskFullError, is_full
from blemish.station.state import BACKLOG
from blemish.station.tables import Decision, Image, Job, Product, Source
from blemish.station.trail import verify_trail
from blemish.station.worker import Worker
from station.browser import Visitor, visit
from station.line import Line, count, picture, set_up_line
from station.test_worker import work
from station.waiting import beside, wait_until


class Disk:
    """What the system says of the disk."""

    def __init__(self) -> None:
        self.free = 1 << 40
        self.step = 0
        """So much is written between two looks."""

    def usage(self, _folder: object) -> Any:
        self.free -= self.step
        return NamedTuple("Usage", [("total", int), ("used", int), ("free", int)])(1 << 40, 0, self.free)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    monkeypatch.setattr(shutil, "disk_usage", made.usage)
    return made


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "TROUBLE_S", 0.05)


def send(who: Visitor, name: str, seed: int = 1) -> tuple[int, str]:
    answer = who.client.post(
        f"/api/v1/predict?product=disc&name={name}&wait_s=0", content=picture(seed), headers={"X-CSRF-Token": who.csrf}
    )
    return answer.status_code, answer.json().get("error", "")


def image_files(folder: StationFolder) -> list[Path]:
    return [path for path in (folder.root / "images").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_what_comes_in_is_refused_and_what_waits_is_judged(
    station: Station, app: FastAPI, line: Line, disk: Disk
) -> None:
    operator = visit(station, app, "operator")
    assert send(operator, "a.png")[0] == 202
    disk.free = room.RESERVE_BYTES - (5 << 20)
    status, said = send(operator, "b.png", 2)
    assert (status, "123 MiB are left on the disk, 128 are kept for decisions" in said) == (507, True)
    assert len(image_files(station.folder)) == count(station.database, Image) == 1
    page = operator.client.get("/").text
    assert "The disk is full, 123 MiB free" in page
    assert work(station.database, station.folder) == []
    assert count(station.database, Decision) == 1
    assert not list((station.folder.root / "maps").rglob("*.npz"))  # computed again where somebody looks
    disk.free = 1 << 40
    assert send(operator, "b.png", 2)[0] == 202
    assert "The disk is full" not in operator.client.get("/").text


@pytest.mark.slow
def test_a_watched_folder_waits_and_is_taken_in_when_there_is_room(
    station: Station, app: FastAPI, line: Line, disk: Disk, tmp_path: Path
) -> None:
    camera = tmp_path / "camera"
    camera.mkdir()
    source_id = add_folder(station.database, "test", line.product_id, camera)
    disk.free, disk.step = room.RESERVE_BYTES - 1, 1 << 18
    for seed in range(3):
        (camera / f"{seed}.png").write_bytes(picture(seed))
    assert work(station.database, station.folder) == [f"{camera}: {room.NO_ROOM}"]  # once, not at every look
    page = visit(station, app, "viewer").client.get("/").text
    assert ("The disk is full" in page, "do not come in" in page) == (True, False)
    with station.database.read() as session:
        assert "free some" in session.get_one(Source, source_id).trouble
    assert (count(station.database, Image), image_files(station.folder)) == (0, [])
    disk.free, disk.step = 1 << 40, 0
    assert work(station.database, station.folder) == []
    assert count(station.database, Decision) == 3
    with station.database.read() as session:
        assert session.get_one(Source, source_id).trouble == ""


@pytest.mark.parametrize("fails", ["fsync", "open"])
def test_a_write_that_fails_leaves_nothing(
    station: Station, app: FastAPI, line: Line, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    operator = visit(station, app, "operator")
    with monkeypatch.context() as patched:
        patched.setattr(os, fails, full)
        assert send(operator, "a.png") == (507, send(operator, "a.png")[1])
    assert (count(station.database, Image), image_files(station.folder)) == (0, [])
    assert send(operator, "a.png")[0] == 202


def limit_database(database: Database) -> list[int]:
    """Let SQLite grow no further, as on a full disk; the pages that it may have from the next use on, to be changed."""
    with database.engine.connect() as connection:
        limit = [int(connection.execute(text("PRAGMA page_count")).scalar_one())]
    event.listen(database.engine, "checkout", lambda raw, *_: raw.execute(f"PRAGMA max_page_count = {limit[0]}"))
    return limit


@pytest.mark.slow
def test_a_database_without_room_refuses_too_and_loses_nothing(station: Station, app: FastAPI, line: Line) -> None:
    operator = visit(station, app, "operator")
    assert send(operator, "0.png", 0)[0] == 202
    limit = limit_database(station.database)
    sent, statuses = 0, set[int]()
    while 507 not in statuses and sent < 2000:
        sent += 1
        statuses.add(send(operator, f"{'x' * 900}-{sent}.png", 1)[0])
    assert statuses <= {202, 507}
    assert 507 in statuses
    kept = count(station.database, Image)
    assert count(station.database, Job) == kept  # both or none

    def work(say: Callable[[str], None], stop: threading.Event) -> None:
        Worker(station.database, station.folder, say, 1, 0.1).run(stop)

    with beside(work) as said:
        assert wait_until(lambda: said)
        assert "full" in said[0]
        time.sleep(0.3)
        assert len(said) == 1  # once, not at every try
        limit[0] = 2**31
        assert wait_until(lambda: count(station.database, Decision) == kept)
    with station.database.read() as session:
        assert session.scalars(select(Decision).where(Decision.verdict == "unreadable")).all() == []
        assert verify_trail(session).problem is None


def test_what_was_leased_when_the_database_failed_is_given_back_untried(
    sqlite: Database, folder: StationFolder, onnx_file: Path
) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    Inbox(sqlite, folder).receive(line.source_id, "a.png", picture(1))
    for _ in range(queue.MAX_ATTEMPTS + 2):
        assert len(queue.take(sqlite, "me")) == 1
        queue.give_back_all(sqlite, "me")
    with sqlite.read() as session:
        assert session.scalars(select(Job.attempts)).one() == 0


def test_trouble_that_cannot_be_noted_is_not_said_at_every_look(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path
) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    (tmp_path / "camera").mkdir()
    add_folder(sqlite, "test", line.product_id, tmp_path / "camera")
    (tmp_path / "camera").rmdir()
    with sqlite.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE UPDATE ON sources BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    with beside(lambda say, stop: Worker(sqlite, folder, say, 1, 0.1).run(stop)) as said:
        assert wait_until(lambda: said)
        time.sleep(0.2)  # a few looks
        assert [one for one in said if "camera" in one or "database" in one] == said == ["the database fails: full"]


@pytest.mark.skipif(os.getuid() != 0 if hasattr(os, "getuid") else True, reason="only root may mount a small disk")
def test_on_a_disk_that_is_really_full(onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        monkeypatch.setattr(room, "RESERVE_BYTES", 0)
        folder = open_folder(small / "station", create=True)
        database = open_database(f"sqlite:///{tmp_path / 'elsewhere.sqlite3'}", folder.id)
        line, inbox, kept = set_up_line(database, folder, onnx_file), Inbox(database, folder), 0
        with suppress(DiskFullError):
            for seed in range(200):
                inbox.receive(line.source_id, f"{seed}.png", picture(seed, side=128))
                kept += 1
        assert kept < 200
        assert len(image_files(folder)) == count(database, Image) == kept > 0
        with pytest.raises(DiskFullError, match="no space left"):
            keep_content(folder.root / "images" / "x.png", bytes(8 << 20))
        assert not list(folder.root.rglob("*.part"))
        image_files(folder)[0].unlink()
        inbox.receive(line.source_id, "small.png", picture(1, side=8))
        database.close()
    finally:
        subprocess.run(["umount", small], check=True)


def test_which_errors_mean_a_full_disk() -> None:
    assert is_full(OSError(errno.ENOSPC, "x"))
    assert is_full(OSError(errno.EDQUOT, "x"))
    assert is_full(DBAPIError("INSERT", {}, psycopg.errors.DiskFull()))
    assert not is_full(OSError(errno.EACCES, "x"))
    assert not is_full(DBAPIError("INSERT", {}, psycopg.errors.UniqueViolation()))
    assert not is_full(None)


def test_a_database_that_does_not_answer_is_503(station: Station, app: FastAPI, line: Line, monkeypatch: Any) -> None:
    def gone(*_: Any) -> None:
        raise OperationalError("SELECT", {}, Exception("the connection is lost"))

    operator = visit(station, app, "operator")
    monkeypatch.setattr(Inbox, "receive", gone)
    assert send(operator, "a.png") == (503, "the database does not answer; try again")


@pytest.fixture
def few_and_many(station: Station, line: Line) -> Station:
    for seed in range(BACKLOG + 2):
        station.inbox.receive(line.source_id, f"{seed}.png", picture(seed, side=8))
    return station


@pytest.mark.slow
def test_a_queue_that_grows_is_said_by_how_much(few_and_many: Station, app: FastAPI) -> None:
    viewer = visit(few_and_many, app, "viewer").client
    said = f"Images come faster than they are judged: {BACKLOG + 2} wait; a minute ago there were 0."
    assert said in viewer.get("/").text
    assert f">+{BACKLOG + 2}/min</dd>" in viewer.get("/").text
    with few_and_many.database.write() as session:
        live = {one.id: one.model_id for one in session.scalars(select(Product))}
        session.execute(update(Product).values(model_id=None))
    page = viewer.get("/").text
    assert ("Images come faster" in page, "no model is live for it" in page) == (False, True)
    with few_and_many.database.write() as session:
        for number, model_id in live.items():
            session.get_one(Product, number).model_id = model_id
    other = product_named(few_and_many.database, "test", "other")
    assert 'data-count="waiting">0</dd>' in viewer.get(f"/?product={other}").text
    assert f">+{BACKLOG + 2}/min</dd>" in viewer.get(f"/?product={other - 1}").text
    german = viewer.get("/", headers={"Accept-Language": "de"}).text
    assert "Bilder kommen schneller, als sie beurteilt werden" in german
    work(few_and_many.database, few_and_many.folder)
    assert "Images come faster" not in viewer.get("/").text
