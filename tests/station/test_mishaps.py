"""What goes wrong around a station: clock, network, server and database; nothing is lost, nothing decided twice."""

import gc
import json
import random
import resource
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from select import select as ready
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, create_engine, make_url, select, text

from blemish.station import accounts, hooks, queue, server, worker
from blemish.station.app import Station
from blemish.station.backup import back_up, restore
from blemish.station.client import Station as Client
from blemish.station.client import StationError
from blemish.station.database import Database, open_database
from blemish.station.folder import StationFolder, open_folder
from blemish.station.hooks import add_hook
from blemish.station.intake import Inbox
from blemish.station.judge import Judged, commit
from blemish.station.server import Listen, configure
from blemish.station.service import is_working
from blemish.station.spool import Told, note
from blemish.station.tables import Decision, Hook, Job
from blemish.station.trail import verify_trail
from blemish.station.worker import Worker
from station.broker import write_certificate
from station.browser import PASSWORD, visit
from station.line import count, picture, set_up_line
from station.serving import begin, serve_pages, set_up
from station.waiting import WITHIN_S, beside, wait_until

HOUR_S = 3600.0


def test_a_clock_that_is_set_back_holds_up_no_image(
    database: Database, folder: StationFolder, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, inbox, at = set_up_line(database, folder, onnx_file), Inbox(database, folder), time.time()
    for seed in range(3):
        inbox.receive(line.source_id, f"{seed}.png", picture(seed, side=8))
    (first,) = queue.take(database, "one that died", limit=1)
    (second,) = queue.take(database, "me", limit=1)
    queue.give_back(database, "me", second, "tried again later")
    monkeypatch.setattr(queue.time, "time", lambda: at - HOUR_S)
    tasks = queue.take(database, "me")
    assert {task.image_id for task in tasks} == {first.image_id, second.image_id, 3}
    assert queue.take(database, "another") == []
    for task in tasks:
        assert commit(database, "me", task, Judged(None, 1.0)) is not None
    with database.read() as session:
        assert verify_trail(session).problem is None


def test_what_a_clock_says_that_was_set_back_is_no_sign_of_life(
    station: Station, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    who, at = visit(station, app, "viewer"), time.time()
    station.folder.heartbeat.touch()
    assert is_working(station)
    monkeypatch.setattr(time, "time", lambda: at - HOUR_S)
    assert not is_working(station)
    assert who.client.get("/account").status_code == 200  # within an idle session's time
    monkeypatch.setattr(time, "time", lambda: at - 24 * 365 * HOUR_S)
    assert who.client.get("/account").status_code == 303  # no session lasts a year


def log_in(app: object, station: Station, proxy: str | None, caller: str, forwarded: str) -> int:
    """What a wrong password gets."""
    from fastapi.testclient import TestClient

    config = configure(app, Listen("127.0.0.1", 0, proxy=proxy))  # type: ignore[arg-type]
    config.load()
    client = TestClient(config.loaded_app, client=(caller, 50000))  # type: ignore[arg-type]
    headers = {"X-Forwarded-For": forwarded, "X-Forwarded-Proto": "https"}
    return client.post("/login", data={"name": "eva", "password": "wrong"}, headers=headers).status_code


def test_too_many_log_ins_are_counted_where_they_come_from_also_behind_a_proxy(station: Station, app: FastAPI) -> None:
    for number in range(5):  # without a proxy nobody is believed to be somebody else
        assert log_in(app, station, None, "10.0.0.7", f"192.0.2.{number}") == 401
    assert log_in(app, station, None, "10.0.0.7", "192.0.2.99") == 429
    for number in range(5):  # behind one, what it adds counts, and not what came before it
        assert log_in(app, station, "10.0.0.2", "10.0.0.2", f"192.0.2.{number}, 198.51.100.1") == 401
    assert log_in(app, station, "10.0.0.2", "10.0.0.2", "192.0.2.99, 198.51.100.1") == 429
    assert log_in(app, station, "10.0.0.2", "10.0.0.2", "198.51.100.2") == 401
    for number in range(5):  # who is not that proxy is not believed
        assert log_in(app, station, "10.0.0.2", "10.0.0.3", f"192.0.2.{number}") == 401
    assert log_in(app, station, "10.0.0.2", "10.0.0.3", "192.0.2.99") == 429


def ends(connection: socket.socket) -> bool:
    """Whether the other side closes it before long."""
    connection.settimeout(WITHIN_S)
    with suppress(ConnectionError):
        while connection.recv(1000):
            pass
    return True


@pytest.mark.slow
def test_connections_that_are_slow_or_too_many_are_closed(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    asking, half = b"GET /healthz HTTP/1.1\r\nHost: here\r\n", b"POST /login HTTP/1.1\r\nHost: here\r\n"
    half += b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nname"
    monkeypatch.setattr(server, "HEADERS_S", 0.1)
    with serve_pages(station) as address:
        for asked in (b"", b"GET", asking, asking + b"\r\n" + asking, half):  # the fourth once it was answered
            with socket.create_connection(address) as slow:
                slow.sendall(asked)
                assert ends(slow)
        monkeypatch.setattr(server, "HEADERS_S", 60.0)
        monkeypatch.setattr(server, "MOST_CONNECTIONS", 1)
        for begun in (b"", half):
            with socket.create_connection(address) as waits:
                waits.sendall(begun)
                with socket.create_connection(address) as one:
                    one.sendall(asking + b"\r\n")
                    assert one.recv(1000).startswith(b"HTTP/1.1 200")
                    assert ends(waits)
                    with socket.create_connection(address) as more:
                        assert ends(more)


@pytest.mark.slow
def test_connections_that_never_shake_hands_are_counted_and_closed(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = write_certificate(tmp_path)
    context = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 10)
    with serve_pages(station, certificate) as (host, port), ExitStack() as stack:
        hung = [stack.enter_context(socket.create_connection((host, port))) for _ in range(40)]
        for _ in range(3):
            with urlopen(f"https://localhost:{port}/healthz", context=context, timeout=WITHIN_S) as answer:
                assert (answer.status, "Strict-Transport-Security" in answer.headers) == (200, True)
        closed = ready(hung, [], [], 0.0)[0]
        assert 30 <= len(closed) < 40
        monkeypatch.setattr(server, "HEADERS_S", 0.1)
        with socket.create_connection((host, port)) as slow, socket.create_connection((host, port)) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
            assert b"begin its address with https://" in plain.recv(1000)
            assert (ends(slow), ends(plain)) == (True, True)


@pytest.mark.slow
def test_what_is_asked_at_once_is_answered_when_it_is_encrypted(station: Station, tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path)
    context = ssl.create_default_context(cafile=certificate)
    large = b"x=" + b"x" * 500_000
    with serve_pages(station, certificate) as (_, port):

        def ask(number: int) -> int:
            path, body = ("healthz", None) if number % 4 else ("login", large)
            try:
                with urlopen(f"https://localhost:{port}/{path}", body, context=context, timeout=WITHIN_S) as answer:
                    return int(answer.status)
            except HTTPError as error:
                return error.code

        with ThreadPoolExecutor(8) as pool:
            assert Counter(pool.map(ask, range(80))) == {200: 60, 422: 20}


@pytest.mark.slow
def test_a_connection_that_is_over_takes_no_memory(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEADERS_S", 600.0)
    certificate = write_certificate(tmp_path)
    context = ssl.create_default_context(cafile=certificate)
    with serve_pages(station, certificate) as (_, port):
        for _ in range(10):
            with urlopen(f"https://localhost:{port}/healthz", context=context, timeout=WITHIN_S) as answer:
                assert answer.status == 200

        def is_free() -> bool:
            gc.collect()
            return sum(type(one) is server.Connection for one in gc.get_objects()) < 3

        assert wait_until(is_free)


def test_a_station_asks_for_more_file_handles(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
        server.raise_handles()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(server.MOST_HANDLES, before[1]), before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
def test_a_hook_that_is_away_for_an_hour_is_tried_every_minute_and_said_once(
    sqlite: Database, folder: StationFolder, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    add_hook(sqlite, "test", "https://mes.example/told", None)
    said, pauses, inbox = list[str](), list[float](), Inbox(sqlite, folder)

    def hook() -> Hook:
        with sqlite.read() as session:
            return session.scalars(select(Hook)).one()

    for number in range(3):
        inbox.receive(line.source_id, f"{number}.png", picture(number, side=8))
    for task in queue.take(sqlite, "me"):
        commit(sqlite, "me", task, Judged(None, 1.0))
    monkeypatch.setattr(hooks.OPENER, "open", lambda *_, **__: _raise(URLError("no route to host")))
    while sum(pauses) < HOUR_S:
        pauses.append(hooks.tell(sqlite, hook(), said.append))
    assert (max(pauses), len(said)) == (60.0, 1)
    assert "no route to host" in hook().trouble
    sent = list[int]()

    def take(request: object, **_: object) -> Path:
        sent.append(json.loads(request.data)["id"])  # type: ignore[attr-defined]
        return Path("/dev/null").open()  # type: ignore[return-value]

    monkeypatch.setattr(hooks.OPENER, "open", take)
    assert hooks.tell(sqlite, hook(), said.append) == 0.0
    assert sent == [1, 2, 3]
    assert note(sqlite, hook(), Told(3), said.append) == 0.0


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.slow
def test_a_database_that_is_away_is_waited_for_and_nothing_is_lost_or_twice(
    postgres_url: str,
    postgres_server: str,
    postgres_database: Engine,
    folder: StationFolder,
    onnx_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "TROUBLE_S", 0.1)
    database = open_database(postgres_url, folder.id)
    line, inbox = set_up_line(database, folder, onnx_file), Inbox(database, folder)
    for seed in range(30):
        inbox.receive(line.source_id, f"{seed}.png", picture(seed))
    name = postgres_database.url.database
    url = make_url(postgres_server).set(drivername="postgresql+psycopg")
    root = create_engine(url, isolation_level="AUTOCOMMIT")

    def allow(is_there: bool) -> None:
        with root.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {str(is_there).lower()}"))
            if not is_there:
                ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
                connection.execute(text(ended), {"name": name})

    def work(say: object, stop: threading.Event) -> None:
        Worker(database, folder, say, 1, 0.1).run(stop)  # type: ignore[arg-type]

    try:
        with beside(work) as said:
            assert wait_until(lambda: count(database, Decision) > 3)
            allow(False)
            assert wait_until(lambda: any("the database fails" in one for one in said))
            allow(True)
            assert wait_until(lambda: count(database, Decision) == 30)
    finally:
        allow(True)
        root.dispose()
        postgres_database.dispose()  # its connections were ended, too
    with database.read() as session:
        assert session.scalars(select(Decision).where(Decision.verdict == "unreadable")).all() == []
        assert verify_trail(session).problem is None
    database.close()


@pytest.mark.slow
def test_a_server_that_is_killed_while_it_writes_loses_nothing_that_it_took(tmp_path: Path, onnx_file: Path) -> None:
    folder, secret = set_up(tmp_path, onnx_file)
    station = open_folder(folder)
    database = open_database(station.default_database, station.id)
    user_id = accounts.add_user(database, "test", "plc", PASSWORD, "operator")
    token = accounts.add_token(database, "test", user_id, "PLC", ["predict"])
    chance, taken, number = random.Random(3), set[str](), 0
    for _ in range(3):
        with begin(folder, secret) as running:
            assert running.answers()
            asked, killed = Client(running.address, token, timeout_s=WITHIN_S), threading.Event()

            def kill(process: object = running.process, killed: threading.Event = killed) -> None:
                killed.wait(chance.uniform(0.1, 1.0))
                process.send_signal(signal.SIGKILL)  # type: ignore[attr-defined]

            thread = threading.Thread(target=kill)
            thread.start()
            try:
                while True:
                    asked.predict("disc", f"{number}.png", picture(number), wait_s=0.0)
                    taken.add(f"{number}.png")
                    number += 1
            except (OSError, StationError):
                pass  # cut off; the next station is sent it again
            thread.join()
            running.process.wait(WITHIN_S)
    with begin(folder, secret) as running:
        assert running.answers()
        asked = Client(running.address, token, timeout_s=WITHIN_S)
        for again in range(number + 1):
            asked.predict("disc", f"{again}.png", picture(again), wait_s=0.0)
        assert wait_until(lambda: count(database, Job) == 0)
        backup = tmp_path / "while-it-runs.zip"
        back_up(database, station, backup)
    with database.read() as session:
        names = session.scalars(select(Decision.image_path)).all()
        assert sorted(names) == sorted(f"{one}.png" for one in range(number + 1))
        assert taken <= set(names)
        assert verify_trail(session).problem is None
    database.close()
    restored = restore(backup, tmp_path / "elsewhere", None)
    assert (restored.problem, restored.entries > number) == (None, True)
    with begin(tmp_path / "elsewhere", secret) as running:  # and it goes on there
        assert running.answers()
        asked = Client(running.address, token, timeout_s=WITHIN_S)
        assert asked.predict("disc", "new.png", picture(number + 7), wait_s=60.0)["verdict"] in ("good", "anomalous")
        assert asked.predict("disc", "0.png", picture(0), wait_s=60.0)["image_id"] == 1
