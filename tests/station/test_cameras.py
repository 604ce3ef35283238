"""Cameras as sources: a video file, and a stream of JPEGs over HTTP that breaks and comes back."""

import base64
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select
from typer.testing import CliRunner

from blemish.cli import app as command
from blemish.data.decode import open_image
from blemish.errors import DataError, SettingsError
from blemish.station import capture
from blemish.station.app import Station, make_app
from blemish.station.cameras import CameraSettings, Pace, add_camera, cameras_on
from blemish.station.capture import CameraReader, Due
from blemish.station.connections import Camera
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.intake import Inbox
from blemish.station.products import add_product, set_source
from blemish.station.tables import Decision, Entry, Image, Source
from blemish.station.worker import Worker
from station.browser import visit
from station.line import set_up_line
from station.waiting import WITHIN_S, serving, wait_until

SECRET = "geheim-3f0c"
FRAMES = 8


def film(path: Path, frames: int = 12, side: int = 64) -> Path:
    """A video of frames that get brighter."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (side, side))
    for number in range(frames):
        writer.write(np.full((side, side, 3), 20 * number % 256, np.uint8))
    writer.release()
    return path


class Stream(ThreadingHTTPServer):
    """A camera that sends `FRAMES` JPEGs to whoever knows the password, and then hangs up."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked = 0
        super().__init__(("127.0.0.1", 0), Jpegs)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Jpegs(BaseHTTPRequestHandler):
    server: Stream

    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(f"admin:{SECRET}".encode()).decode()
        if self.headers.get("Authorization") != expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.server.asked += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for number in range(FRAMES):
            jpeg = cv2.imencode(".jpg", np.full((64, 64, 3), 20 * number, np.uint8))[1].tobytes()
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
            self.wfile.write(jpeg + b"\r\n")
            time.sleep(0.01)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stream() -> Iterator[Stream]:
    server = Stream()
    with serving(server):
        yield server


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(capture, "WRITE_EVERY_S", 0.05)


@pytest.fixture
def product_id(sqlite: Database) -> int:
    return add_product(sqlite, "test", "disc")


def read(
    database: Database, folder: StationFolder, until: Callable[[], bool] = lambda: False, within_s: float = WITHIN_S
) -> list[str]:
    """Read the only camera until it ends or something is so; returns what was said."""
    (camera,), said, stop = cameras_on(database), list[str](), threading.Event()
    thread = threading.Thread(target=CameraReader(Inbox(database, folder), camera, said.append, stop).run)
    thread.start()
    wait_until(lambda: not thread.is_alive() or until(), within_s)
    stop.set()
    thread.join()
    return said


def names(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(Image.name).order_by(Image.id)))


def row(database: Database) -> Camera:
    with database.read() as session:
        return session.scalars(select(Camera)).one()


@pytest.mark.slow
def test_a_video_file_is_read_to_its_end_and_judged(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path
) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    add_camera(sqlite, "test", line.product_id, str(film(tmp_path / "belt.avi")), Pace(every_frames=3))
    Worker(sqlite, folder, print, threads=1, settle_s=0.1).run(threading.Event(), until_idle_s=2.0)
    assert names(sqlite) == [f"belt-{number:07}.png" for number in (0, 3, 6, 9)]
    with sqlite.read() as session:
        assert session.scalar(select(func.count()).select_from(Decision)) == 4
        kept = folder.image_path(
            session.scalars(select(Image.sha256).where(Image.name == "belt-0000009.png")).one(), ".png"
        )
        assert not session.scalars(select(Source.is_on).where(Source.kind == "camera")).one()
        last = session.scalars(select(Entry.detail).where(Entry.action == "source").order_by(Entry.seq.desc())).first()
    assert last is not None
    assert '"why":"its end"' in last
    assert abs(np.asarray(open_image(kept, 10**6)).mean() - 180) < 3
    assert row(sqlite).frames == 12


def test_a_frame_that_opencv_cannot_write_is_lost_and_ends_nothing(
    sqlite: Database, folder: StationFolder, product_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_camera(sqlite, "test", product_id, str(film(tmp_path / "belt.avi", frames=12)), Pace())
    real, written = cv2.imencode, iter(range(12))

    def write(*arguments: Any) -> Any:
        if next(written) == 1:
            raise cv2.error("of 2 channels")
        return real(*arguments)

    monkeypatch.setattr(cv2, "imencode", write)
    read(sqlite, folder)
    assert (len(names(sqlite)), row(sqlite).lost) == (11, 1)


def test_a_video_that_was_interrupted_goes_on_without_taking_a_frame_twice(
    sqlite: Database, folder: StationFolder, product_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "MOST_WAITING", 3)  # nothing judges here: it waits, and loses nothing
    source_id = add_camera(sqlite, "test", product_id, str(film(tmp_path / "belt.avi", frames=30)), Pace())
    read(sqlite, folder, until=lambda: len(names(sqlite)) > 3)
    assert 3 < len(names(sqlite)) < 30
    assert row(sqlite).lost == 0
    monkeypatch.setattr(capture, "MOST_WAITING", 100)
    read(sqlite, folder)
    assert names(sqlite) == [f"belt-{number:07}.png" for number in range(30)]
    set_source(sqlite, "test", source_id, is_on=True)
    read(sqlite, folder)  # again from its beginning: all known
    assert len(names(sqlite)) == 30


def test_one_frame_in_so_many_seconds(sqlite: Database, folder: StationFolder, product_id: int, tmp_path: Path) -> None:
    add_camera(sqlite, "test", product_id, str(film(tmp_path / "belt.avi")), Pace(every_s=0.5))  # of ten a second
    read(sqlite, folder)
    assert names(sqlite) == [f"belt-{number:07}.png" for number in (0, 5, 10)]
    live = Due(CameraSettings(1, "0", "device 0", Pace(every_s=2.0)), 0.0)
    assert [live.name(at_s) is not None for at_s in (100.0, 101.0, 102.1, 103.9, 104.1, 120.0, 121.0)] == [
        True,
        False,
        True,
        False,
        True,
        True,
        False,
    ]


@pytest.mark.slow
def test_a_stream_that_hangs_up_is_asked_again_and_its_password_is_nowhere(
    sqlite: Database, folder: StationFolder, product_id: int, stream: Stream, capfd: pytest.CaptureFixture[str]
) -> None:
    station = Station(sqlite, folder)
    app = make_app(station)
    engineer = visit(station, app, "engineer")
    answer = engineer.client.post(
        "/api/v1/sources",
        json={"product_id": product_id, "address": f"http://admin:{SECRET}@{stream.place}/live?token={SECRET}"},
        headers={"X-CSRF-Token": engineer.csrf},
    )
    assert answer.status_code == 201, answer.text
    said = read(sqlite, folder, until=lambda: stream.asked > 2)
    shown = f"http://{stream.place}/live?..."
    assert said[0] == f"{shown}: the connection is lost; it is tried again"
    assert len(names(sqlite)) > FRAMES
    (camera,) = [one for one in engineer.client.get("/api/v1/sources").json() if one["kind"] == "camera"]
    assert camera["path"] == shown
    assert camera["breaks"] >= 2
    assert camera["frames"] + camera["lost"] >= len(names(sqlite))
    page = engineer.client.get("/products").text
    assert shown in page
    with sqlite.read() as session:
        trail = "".join(f"{entry.subject} {entry.detail}" for entry in session.scalars(select(Entry)))
    assert shown in trail
    everything = page + trail + "".join(said) + "".join(capfd.readouterr()) + engineer.client.get("/").text
    assert SECRET not in everything
    assert SECRET not in engineer.client.get("/metrics").text


@pytest.mark.slow
def test_a_camera_that_is_not_there_is_said_on_the_page_without_its_password(
    sqlite: Database, folder: StationFolder, product_id: int, stream: Stream, capfd: pytest.CaptureFixture[str]
) -> None:
    add_camera(sqlite, "test", product_id, f"http://admin:wrong-{SECRET}@{stream.place}/live", Pace())
    said = read(sqlite, folder, until=lambda: bool(row(sqlite).frames), within_s=1.0)
    assert said == [
        f"http://{stream.place}/live: cannot be opened; check that it is there, its address and its password"
    ]
    station = Station(sqlite, folder)
    page = visit(station, make_app(station), "viewer").client.get("/").text
    assert "A camera gives no images" in page
    assert SECRET not in page + "".join(capfd.readouterr())


def test_a_camera_that_fails_in_a_way_nobody_thought_of_is_said_without_its_password_and_tried_again(
    sqlite: Database, folder: StationFolder, product_id: int, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, real = f"http://admin:{SECRET}@{stream.place}/live", cv2.VideoCapture
    opened = iter([cv2.error(address)])

    def fails(*arguments: Any) -> Any:
        if (error := next(opened, None)) is not None:
            raise error
        return real(*arguments)

    add_camera(sqlite, "test", product_id, address, Pace())
    monkeypatch.setattr(cv2, "VideoCapture", fails)
    said = read(sqlite, folder, until=lambda: bool(names(sqlite)))
    assert said[0] == f"http://{stream.place}/live: the camera fails (error)"
    assert names(sqlite)


@pytest.mark.parametrize(
    "error", [DataError("images: no space left on the disk; free some"), ValueError("no space left either")]
)
def test_frames_that_cannot_be_kept_are_counted_and_said(
    sqlite: Database,
    folder: StationFolder,
    product_id: int,
    stream: Stream,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def full(*_: object) -> None:
        raise error

    add_camera(sqlite, "test", product_id, f"http://admin:{SECRET}@{stream.place}/live", Pace())
    monkeypatch.setattr(Inbox, "receive", full)
    said = read(sqlite, folder, until=lambda: row(sqlite).lost >= FRAMES)
    assert row(sqlite).lost >= FRAMES
    assert any(f"frames cannot be kept: {error}" in line for line in said)
    assert any(re.search(r"\d frames? lost", line) for line in said)


@pytest.mark.parametrize(
    ("address", "pace", "expected"),
    [
        ("", Pace(), "no file here"),
        ("/nowhere/a.avi", Pace(), "no file here"),
        ("ftp://admin:geheim@a/b", Pace(), "expected an address such as rtsp"),
        ("rtsp://", Pace(), "expected an address such as rtsp"),
        ("admin:geheim@10.0.0.7/live", Pace(), "no file here"),
        ("rtsp://admin:p/geheim@10.0.0.7/live", Pace(), "expected an address such as rtsp"),
        ("rtsp://admin:1/geheim@10.0.0.7/live", Pace(), "as %2F"),
        ("rtsp://admin:1?geheim@10.0.0.7/live", Pace(), "as %2F"),
        ("rtsp://a:99999/", Pace(), "expected an address such as rtsp"),
        ("rtsp://a/" + "x" * 1000, Pace(), "at most 900"),
        ("0", Pace(every_frames=0), "every_frames: found 0"),
        ("0", Pace(every_s=-1.0), "every_s: found -1"),
        ("0", Pace(every_s=float("nan")), "every_s: found nan"),
        ("0", Pace(2, 1.0), "give one of them"),
    ],
)
def test_what_is_no_camera_is_refused(
    sqlite: Database, product_id: int, address: str, pace: Pace, expected: str
) -> None:
    with pytest.raises(SettingsError, match=expected) as refused:
        add_camera(sqlite, "test", product_id, address, pace)
    assert "geheim" not in str(refused.value)
    with sqlite.read() as session:
        assert session.scalar(select(func.count()).select_from(Source).where(Source.kind == "camera")) == 0


def test_a_camera_is_read_once_and_addresses_that_look_alike_are_numbered(sqlite: Database, product_id: int) -> None:
    for channel in (1, 2):
        add_camera(sqlite, "test", product_id, f"rtsp://10.0.0.7/live?channel={channel}", Pace())
    assert [camera.shown for camera in cameras_on(sqlite)] == [
        "rtsp://10.0.0.7/live?...",
        "rtsp://10.0.0.7/live?... #2",
    ]
    with pytest.raises(SettingsError, match="is read already"):
        add_camera(sqlite, "test", product_id, "rtsp://10.0.0.7/live?channel=2", Pace())


def test_without_opencv_it_is_said_what_to_install(
    sqlite: Database, folder: StationFolder, product_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_camera(sqlite, "test", product_id, str(film(tmp_path / "belt.avi")), Pace())
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert read(sqlite, folder, within_s=0.2) == [capture.MISSING]
    monkeypatch.setattr("blemish.station.cameras.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"pip install 'blemish\[camera\]'"):
        add_camera(sqlite, "test", product_id, "0", Pace())


def test_files_of_the_machine_are_for_administrators(
    sqlite: Database, folder: StationFolder, product_id: int, tmp_path: Path
) -> None:
    station = Station(sqlite, folder)
    app: FastAPI = make_app(station)
    sent = {"product_id": str(product_id), "address": str(film(tmp_path / "belt.avi")), "every_s": "0.5"}
    for role, status in (("engineer", 403), ("administrator", 303)):
        who = visit(station, app, role)
        assert (
            who.client.post("/products/camera", data={**sent, "csrf": who.csrf}, follow_redirects=False).status_code
            == status
        )
    assert cameras_on(sqlite)[0].pace == Pace(1, 0.5)


def test_a_camera_is_set_up_from_the_terminal(tmp_path: Path) -> None:
    arguments = ["station", "add", str(tmp_path / "new"), "--product", "disc"]
    added = CliRunner().invoke(command, [*arguments, "--camera", f"rtsp://admin:{SECRET}@10.0.0.7/live"])
    assert added.exit_code == 0, added.output
    assert "reading rtsp://10.0.0.7/live" in added.output
    assert SECRET not in added.output
