"""The client of the API, against a real server."""

import ast
import json
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from blemish.station import accounts, client
from blemish.station.app import Station
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from station.browser import PASSWORD, judge_all
from station.line import picture, set_up_line
from station.serving import serve_pages
from station.waiting import serving


@pytest.fixture
def station(sqlite: Database, folder: StationFolder, onnx_file: Path) -> Station:
    set_up_line(sqlite, folder, onnx_file)
    return Station(sqlite, folder)


@pytest.fixture
def address(station: Station) -> Iterator[str]:
    with serve_pages(station) as (host, port):
        yield f"http://{host}:{port}/"


@pytest.mark.slow
def test_the_client_sends_looks_judges_and_reports(station: Station, address: str) -> None:
    user_id = accounts.add_user(station.database, "test", "plc", PASSWORD, "operator")
    token = accounts.add_token(station.database, "test", user_id, "PLC", ["predict", "read", "judge"])
    asked = client.Station(address, token)
    assert asked.predict("disc", "a/ä 1.png", picture(1), wait_s=0.0)["verdict"] == "waiting"
    judge_all(station)
    found = asked.predict("disc", "a/ä 1.png", picture(1))
    assert found["verdict"] in ("good", "anomalous")
    assert asked.image(found["image_id"]) == found
    assert list(asked.images()) == [found]
    assert list(asked.images(verdict="unreadable")) == []
    assert asked.picture(found["image_id"], "mask")[:2] == b"\xff\xd8"
    asked.give_verdict(found["image_id"], "defective", "crack")
    assert asked.report("2020-01-01", "2100-01-01")["defect_types"] == [["crack", 1]]
    assert asked.models()[0]["is_live"]
    assert json.loads(b"".join(asked.export("json", start="2020-01-01")))[0]["judgement"] == "defective"
    assert b"".join(asked.export("csv", end="2020-01-01")).count(b"\n") == 1
    assert [(one["kind"], one["is_on"]) for one in asked.sources()] == [("upload", True)]
    with pytest.raises(client.StationError, match="403: this needs the role engineer"):
        asked.switch_source(1, False)
    with pytest.raises(client.StationError, match="422"):
        b"".join(asked.export("xlsx"))
    with pytest.raises(client.StationError, match="404: image 99: there is none"):
        asked.image(99)
    with pytest.raises(client.StationError, match="401: this token is wrong, or was taken back; send another"):
        client.Station(address, "blm_wrong").models()


@pytest.mark.slow
def test_the_client_manages_sources(station: Station, address: str, tmp_path: Path) -> None:
    user_id = accounts.add_user(station.database, "test", "mes", PASSWORD, "engineer")
    asked = client.Station(address, accounts.add_token(station.database, "test", user_id, "MES", ["manage", "read"]))
    asked.switch_source(1, False)
    assert [one["is_on"] for one in asked.sources()] == [False]
    with pytest.raises(client.StationError, match="403: a file of this machine"):
        asked.add_camera(1, str(tmp_path / "a.mp4"))
    pytest.importorskip("cv2", reason="no OpenCV: pip install 'blemish[camera]'")
    added = asked.add_camera(1, "rtsp://eva:secret@127.0.0.1:9/live", every_frames=5)
    assert [one["path"] for one in asked.sources() if one["source_id"] == added] == ["rtsp://127.0.0.1:9/live"]


def test_an_answer_that_breaks_off_is_an_error_of_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_half() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf")

        thread = threading.Thread(target=answer_half)
        thread.start()
        asked = client.Station(f"http://127.0.0.1:{server.getsockname()[1]}", "blm_any")
        with pytest.raises(OSError, match="broke off"):
            b"".join(asked.export("csv"))
        thread.join()


def test_a_token_goes_nowhere_else_where_an_answer_leads_elsewhere() -> None:
    sent: dict[str, str | None] = {}

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent[self.path] = self.headers["Authorization"]
            is_first = self.path != "/elsewhere"
            self.send_response(302 if is_first else 200)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/elsewhere")  # type: ignore[attr-defined]
            self.end_headers()
            self.wfile.write(b"" if is_first else b"[]")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    with serving(server):
        client.Station(f"http://127.0.0.1:{server.server_port}", "blm_any").models()
    assert sent == {"/api/v1/models?": "Bearer blm_any", "/elsewhere": None}


def test_the_client_needs_nothing_but_the_standard_library() -> None:
    tree = ast.parse(Path(client.__file__).read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {str(name).partition(".")[0] for name in names} <= sys.stdlib_module_names
