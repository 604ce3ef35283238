"""`blemish station FOLDER`: the command, the server and the worker beside it."""

import errno
import json
import os
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from blemish.cli import app
from blemish.station import accounts, server
from blemish.station.database import Database, open_database
from blemish.station.folder import StationFolder, open_folder
from blemish.station.server import Listen, serve_station
from blemish.station.tables import Product
from station.broker import write_certificate
from station.line import picture
from station.serving import PASSWORD, Running
from station.waiting import WITHIN_S, wait_until


def worker_pids(folder: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"work" in words and str(folder).encode() in words:
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_it_serves_judges_restarts_its_worker_and_ends_politely(running: Running, tmp_path: Path) -> None:
    assert running.ready()
    refused = CliRunner().invoke(app, ["station", str(running.folder), "--port", "0"])
    assert refused.exit_code == 2
    assert "another process is serving this station" in refused.output
    (pid,) = worker_pids(running.folder)
    os.kill(pid, signal.SIGKILL)
    (tmp_path / "camera/a.png").write_bytes(picture(1))
    assert wait_until(lambda: worker_pids(running.folder) not in ([], [pid]))
    station = open_folder(running.folder)
    database = open_database(station.default_database, station.id)
    token = accounts.add_token(database, "test", 1, "test", ["read"])
    database.close()
    asked = Request(f"{running.address}api/v1/images", headers={"Authorization": f"Bearer {token}"})

    def judged() -> list[str]:
        with urlopen(asked, timeout=60) as answer:
            return [one["name"] for one in json.load(answer)]

    assert wait_until(judged)
    assert judged() == ["a.png"]
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(WITHIN_S) == 0
    assert worker_pids(running.folder) == []


def test_a_worker_that_cannot_be_begun_is_said_and_tried_again(
    sqlite: Database, folder: StationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, tries = threading.Event(), iter([True, False])

    def begin(*_: Any, **__: Any) -> "subprocess.Popen[bytes]":
        if next(tries):
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        stop.set()
        return begin_process(["true"])

    begin_process = subprocess.Popen[bytes]
    monkeypatch.setattr(server, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(subprocess, "Popen", begin)
    said: list[str] = []
    server._keep_working(sqlite, folder, (None, None), said.append, stop)
    assert said == ["the worker cannot be begun: Cannot allocate memory; started again in 0.01 s"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_as_soon_as_it_says_that_it_works_ends_it_politely(
    sqlite: Database, folder: StationFolder, number: signal.Signals
) -> None:
    def say(text: str) -> None:
        if "Ctrl-C ends it" in text:
            signal.raise_signal(number)

    serve_station(sqlite, folder, Listen("127.0.0.1", 0), "en", (1, say))
    assert worker_pids(folder.root) == []


@pytest.mark.slow
def test_a_station_that_is_killed_leaves_no_worker_behind(running: Running) -> None:
    assert running.ready()
    running.process.kill()
    running.process.wait()
    assert wait_until(lambda: worker_pids(running.folder) == [])


def invoke(*arguments: object) -> tuple[int, str]:
    ran = CliRunner().invoke(app, ["station", *map(str, arguments)])
    return ran.exit_code, ran.output


ANY_PORT = ("--port", 0)  # another station may run on this machine


def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/holiday.jpg").touch()
    code, said = invoke(tmp_path / "full", *ANY_PORT)
    assert code == 2
    assert "other things in it and no station" in said
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["holiday.jpg"]
    code, said = invoke(tmp_path / "new", *ANY_PORT)
    assert code == 2
    assert "--admin-password-file" in said
    (tmp_path / "secret").write_text("short")
    code, said = invoke(tmp_path / "new", *ANY_PORT, "--admin-password-file", tmp_path / "secret")
    assert code == 2
    assert "10 to 200 characters" in said
    code, said = invoke(tmp_path / "new", *ANY_PORT, "--language", "fr")
    assert code == 2
    assert "expected auto, en or de" in said
    code, said = invoke("verify", tmp_path / "none")
    assert code == 2
    assert "no station" in said
    assert not (tmp_path / "none").exists()


def test_an_occupied_port_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(PASSWORD)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = invoke(tmp_path / "new", "--port", port, "--admin-password-file", tmp_path / "secret")
    assert code == 2
    assert f"--port {port}: cannot listen at 127.0.0.1" in said
    assert not (tmp_path / "new").exists()


def test_who_follows_the_address_at_once_waits_for_the_pages(
    sqlite: Database, folder: StationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = []

    def serve(_server: server.Server, sockets: list[socket.socket]) -> None:
        socket.create_connection(sockets[0].getsockname(), timeout=WITHIN_S).close()
        came.append(True)

    monkeypatch.setattr(server.Server, "run", serve)
    monkeypatch.setattr(server, "_keep_working", lambda *_: None)
    serve_station(sqlite, folder, Listen("127.0.0.1", 0), "en", (1, str))
    assert came == [True]


def test_a_certificate_comes_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(PASSWORD)
    (tmp_path / "cert.pem").touch()
    arguments = (tmp_path / "new", *ANY_PORT, "--admin-password-file", tmp_path / "secret")
    arguments += ("--certificate", tmp_path / "cert.pem")
    assert "give both, or none" in invoke(*arguments)[1]
    assert "no such file" in invoke(*arguments, "--key", tmp_path / "key.pem")[1]
    (tmp_path / "key.pem").write_text("no key")
    code, said = invoke(*arguments, "--key", tmp_path / "key.pem")
    assert (code, "key.pem: cannot be used" in said, "give PEM files" in said) == (2, True, True), said


def test_a_renewed_certificate_is_used_as_soon_as_it_fits_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(server.LOG, "warning", lambda text, error: said.append(text % error))
    certificate = write_certificate(tmp_path)
    key = certificate.with_suffix(".key")
    encryption = server.Encryption(certificate, key)
    first = encryption.context
    before = key.read_bytes()
    write_certificate(tmp_path)
    renewed = key.read_bytes()
    key.write_bytes(before)
    for _ in range(3):
        assert encryption.context is first
    assert [one.partition("; what")[2] for one in said] == [" they were before is used on"]
    key.write_bytes(renewed)
    assert encryption.context not in (first, None)
    assert encryption.context is encryption.context


@pytest.mark.slow
def test_a_program_that_waits_for_a_verdict_is_answered_when_the_station_ends(running: Running) -> None:
    assert running.answers()
    kept = open_folder(running.folder)
    database = open_database(kept.default_database, kept.id)
    token = accounts.add_token(database, "test", 1, "test", ["predict"])
    with database.write() as session:
        session.execute(update(Product).values(model_id=None))
    database.close()
    asked = Request(f"{running.address}api/v1/predict?product=disc&name=a.png&wait_s=60", picture(1), method="POST")
    asked.add_header("Authorization", f"Bearer {token}")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(lambda: json.load(urlopen(asked, timeout=60)))
        images = running.folder / "images"
        assert wait_until(lambda: any(images.rglob("*.png")))
        running.process.send_signal(signal.SIGINT)
        assert answer.result()["verdict"] == "waiting"
    assert running.process.wait(WITHIN_S) == 0
    assert running.process.stderr is not None
    assert "Traceback" not in running.process.stderr.read()
