"""Webhooks against a real server that fails, answers late and comes back."""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from sqlalchemy import select

from blemish.errors import SettingsError
from blemish.station import queue
from blemish.station.brokers import Login, add_broker
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.heads import send_daily, set_address
from blemish.station.hooks import SIGNATURE, _tell_all, add_hook, end_hook, is_signed, tell
from blemish.station.intake import Inbox
from blemish.station.judge import Judged, commit
from blemish.station.spool import Told, behind, note
from blemish.station.tables import Decision, Entry, Hook, Setting
from blemish.station.telling import tell_hooks
from station.line import picture, set_up_line, the_hook
from station.waiting import beside, serving, wait_until


class Receiver(HTTPServer):
    """Keeps what it is told; answers as `status` says."""

    status = 200

    def __init__(self) -> None:
        self.got: list[tuple[bytes, str]] = []
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/told"

    def numbers(self) -> list[int]:
        return [json.loads(body)["image_id"] for body, _ in self.got]


class Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.status == 200:
            self.server.got.append((body, self.headers[SIGNATURE]))
        self.send_response(self.server.status)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    with serving(server):
        yield server


def decide(database: Database, folder: StationFolder, source_id: int, seeds: range) -> None:
    inbox = Inbox(database, folder)
    for seed in seeds:
        inbox.receive(source_id, f"{seed}.png", picture(seed, side=8))
    for task in queue.take(database, "me", limit=100):
        commit(database, "me", task, Judged(None, 1.0))


def test_decisions_are_told_signed_in_order_and_once(
    database: Database, folder: StationFolder, onnx_file: Path, receiver: Receiver
) -> None:
    line = set_up_line(database, folder, onnx_file)
    decide(database, folder, line.source_id, range(2))
    secret = add_hook(database, "test", receiver.address, None)
    decide(database, folder, line.source_id, range(2, 6))
    assert tell(database, the_hook(database), print) == 0.0
    assert tell(database, the_hook(database), print) == 0.0
    assert receiver.numbers() == [3, 4, 5, 6]  # from then on
    for body, signature in receiver.got:
        assert is_signed(secret, body, signature, time.time())
        assert not is_signed(secret, body + b" ", signature, time.time())
        assert not is_signed("other", body, signature, time.time())
        assert not is_signed(secret, body, signature, time.time() + 600)  # sent again later
    assert json.loads(receiver.got[0][0])["verdict"] == "unreadable"


def test_a_hook_that_was_away_is_told_in_order_when_it_is_back(
    sqlite: Database, folder: StationFolder, onnx_file: Path, receiver: Receiver
) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    add_hook(sqlite, "test", receiver.address, line.product_id)
    said: list[str] = []
    pauses = []
    for number, status in enumerate((500, 302, 404)):  # a redirect is not followed
        receiver.status = status
        decide(sqlite, folder, line.source_id, range(2 * number, 2 * number + 2))
        pauses.append(tell(sqlite, the_hook(sqlite), said.append))
        assert the_hook(sqlite).trouble == f"answers {status}"
    assert pauses == [1.0, 2.0, 4.0]
    assert len(said) == 1
    with sqlite.read() as session:
        assert behind(session, the_hook(sqlite)) == 6
    receiver.status = 200
    assert tell(sqlite, the_hook(sqlite), said.append) == 0.0
    assert receiver.numbers() == [1, 2, 3, 4, 5, 6]
    assert (the_hook(sqlite).failures, the_hook(sqlite).trouble) == (0, "")


@pytest.mark.slow
def test_the_worker_tells_and_stops(
    sqlite: Database, folder: StationFolder, onnx_file: Path, receiver: Receiver
) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    add_hook(sqlite, "test", receiver.address, None)
    add_hook(sqlite, "test", "http://127.0.0.1:9/nobody", None)  # one that is away does not hold up the other
    with beside(tell_hooks, sqlite, folder):
        decide(sqlite, folder, line.source_id, range(3))
        wait_until(lambda: len(receiver.got) == 3)
    assert receiver.numbers() == [1, 2, 3]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/b",
        "file:///etc/passwd",
        "https://",
        "nonsense",
        "https://u:p@a/",
        "http://[::1",
        "http://a:99999/",
        "http://a/b c?key=1",
        "http://a/\u00e4",
    ],
)
def test_an_address_that_is_none_is_refused(sqlite: Database, url: str) -> None:
    with pytest.raises(SettingsError, match="expected an address"):
        add_hook(sqlite, "test", url, None)


def test_an_address_may_let_in_and_stands_in_neither_log_nor_trail(sqlite: Database, folder: StationFolder) -> None:
    addresses = ["http://127.0.0.1:9/hooks/3f0cSECRET?key=SECRET", "mqtt://127.0.0.1:9/SECRET"]
    said: list[str] = []
    add_hook(sqlite, "test", addresses[0], None)
    with pytest.raises(SettingsError, match=r"127\.0\.0\.1:9/…: is told already"):
        add_hook(sqlite, "test", addresses[0], None)
    note(sqlite, the_hook(sqlite), _tell_all(the_hook(sqlite), [Decision(id=1)]), said.append)
    end_hook(sqlite, "test", the_hook(sqlite).id)
    add_broker(sqlite, "test", addresses[1], None, Login())
    note(sqlite, the_hook(sqlite), Told(0, "is away"), said.append)
    set_address(sqlite, "test", addresses[0])
    send_daily(sqlite, folder, said.append)
    with sqlite.read() as session:
        entries = session.scalars(select(Entry).where(Entry.action.in_(["hook", "head"])).order_by(Entry.seq)).all()
        told = [(entry.subject, json.loads(entry.detail).get("hook_id")) for entry in entries]
        assert "SECRET" not in session.get_one(Setting, "head").value.partition('"trouble"')[2]
    shown = "http://127.0.0.1:9/…"
    assert told == [(shown, 1), (shown, 1), ("mqtt://127.0.0.1:9/…", 1), (shown, None)]
    assert len(said) == 3
    assert all("127.0.0.1:9/…: " in one and "SECRET" not in one for one in said)


def test_what_one_that_was_taken_back_was_told_is_not_noted_of_the_next_which_may_have_its_number(
    sqlite: Database,
) -> None:
    add_hook(sqlite, "test", "http://127.0.0.1:9/old", None)
    old = the_hook(sqlite)
    end_hook(sqlite, "test", old.id)
    add_hook(sqlite, "test", "http://127.0.0.1:9/new", None)
    note(sqlite, old, Told(7, "is away"), print)
    assert (the_hook(sqlite).id, the_hook(sqlite).delivered, the_hook(sqlite).trouble) == (old.id, 0, "")


def test_a_hook_is_added_once_and_taken_back(sqlite: Database) -> None:
    add_hook(sqlite, "test", "https://a.example/", None)
    with pytest.raises(SettingsError, match="told already"):
        add_hook(sqlite, "test", "https://a.example/", None)
    end_hook(sqlite, "test", the_hook(sqlite).id)
    with sqlite.read() as session:
        assert session.scalars(select(Hook)).all() == []
