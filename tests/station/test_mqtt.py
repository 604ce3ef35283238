"""Decisions published to a real broker, which goes away and comes back."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from blemish.cli import app as command
from blemish.errors import SettingsError
from blemish.station import mqtt
from blemish.station.app import Station, make_app
from blemish.station.brokers import Login, add_broker
from blemish.station.connections import Broker
from blemish.station.credentials import read_secret
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.hooks import end_hook
from blemish.station.spool import behind
from blemish.station.tables import Decision, Entry, Hook
from blemish.station.telling import tell_hooks
from station.broker import PASSWORD, RealBroker
from station.browser import PASSWORD as SIGNATURE
from station.browser import visit
from station.line import set_up_line, the_hook
from station.test_hooks import decide
from station.waiting import beside, wait_until

LOGIN = Login(password_name="broker")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RealBroker]:
    made = RealBroker(tmp_path / "broker")
    made.begin()
    yield made
    made.end()


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLEMISH_SECRET_BROKER", PASSWORD)


def verdicts(heard: list[tuple[str, Any, bool]]) -> list[int]:
    return [message["id"] for topic, message, _ in heard if topic.endswith("/verdict")]


@pytest.mark.slow
def test_decisions_are_published_in_order_and_the_last_is_kept(
    database: Database, folder: StationFolder, onnx_file: Path, broker: RealBroker
) -> None:
    line = set_up_line(database, folder, onnx_file, "hazel nut#1")
    decide(database, folder, line.source_id, range(2))
    add_broker(database, "test", broker.address, None, LOGIN)
    with broker.listen() as heard, beside(tell_hooks, database, folder) as said:
        decide(database, folder, line.source_id, range(2, 6))
        assert wait_until(lambda: len(verdicts(heard)) == 4), said
        assert wait_until(lambda: the_hook(database).delivered == 6)
    assert verdicts(heard) == [3, 4, 5, 6]  # from then on
    assert {topic for topic, _, _ in heard if topic.endswith("/verdict")} == {"line3/hazel_nut_1-1/verdict"}
    assert next(message for topic, message, _ in heard if topic.endswith("/verdict"))["verdict"] == "unreadable"
    with broker.listen() as later:  # who comes later gets the state
        assert wait_until(lambda: len(later) == 5)
    assert verdicts(later) == [6]
    assert all(is_retained for _, _, is_retained in later)
    assert {topic: message for topic, message, _ in later}["line3/status"] == "offline"  # we ended politely
    configs = {topic: message for topic, message, _ in later if topic.startswith("homeassistant/")}
    assert set(configs) == {
        f"homeassistant/{kind}/blemish_{folder.id[:8]}/1_{name}/config"
        for kind, name in (("sensor", "verdict"), ("sensor", "score"), ("binary_sensor", "defect"))
    }
    for message in configs.values():
        assert message["state_topic"] == "line3/hazel_nut_1-1/verdict"
        assert message["availability_topic"] == "line3/status"
        assert message["device"]["name"] == "hazel nut#1"
    assert len({message["unique_id"] for message in configs.values()}) == 3
    assert said == []


@pytest.mark.slow
def test_a_broker_that_was_away_is_told_in_order_when_it_is_back(
    sqlite: Database, folder: StationFolder, onnx_file: Path, broker: RealBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "ALIVE_S", 0.2)  # also when nothing is decided, it is noticed
    line = set_up_line(sqlite, folder, onnx_file)
    add_broker(sqlite, "test", broker.address, line.product_id, LOGIN)
    with beside(tell_hooks, sqlite, folder) as said:
        decide(sqlite, folder, line.source_id, range(2))
        assert wait_until(lambda: the_hook(sqlite).delivered == 2)
        broker.end()
        assert wait_until(lambda: the_hook(sqlite).failures > 0)
        decide(sqlite, folder, line.source_id, range(2, 8))
        with sqlite.read() as session:
            assert behind(session, the_hook(sqlite)) == 6
        assert wait_until(lambda: the_hook(sqlite).failures > 1)
        broker.begin()
        with broker.listen() as heard:
            assert wait_until(lambda: the_hook(sqlite).delivered == 8), said
            assert wait_until(lambda: verdicts(heard)[-1:] == [8])
    assert verdicts(heard) == [3, 4, 5, 6, 7, 8]
    assert (the_hook(sqlite).failures, the_hook(sqlite).trouble) == (0, "")
    assert len(said) == 1
    assert said[0].startswith(f"mqtt://localhost:{broker.port}/…: ")


@pytest.mark.slow
def test_what_was_sent_and_not_confirmed_is_sent_again_with_its_id(
    sqlite: Database, folder: StationFolder, onnx_file: Path, broker: RealBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aiomqtt import Client, MqttError

    line = set_up_line(sqlite, folder, onnx_file)
    add_broker(sqlite, "test", broker.address, None, LOGIN)
    publish, broken = Client.publish, list[str]()

    async def publish_but_once(self: Client, topic: str, *arguments: Any, **more: Any) -> None:
        await publish(self, topic, *arguments, **more)
        if topic.endswith("/verdict") and b'"id": 2' in arguments[0] and not broken:
            broken.append(topic)
            raise MqttError("the answer was lost")

    monkeypatch.setattr(Client, "publish", publish_but_once)
    with broker.listen() as heard, beside(tell_hooks, sqlite, folder):
        decide(sqlite, folder, line.source_id, range(3))
        assert wait_until(lambda: verdicts(heard)[-1:] == [3])
    assert verdicts(heard) == [1, 2, 2, 3]


@pytest.mark.slow
def test_the_broker_says_when_we_are_gone(
    sqlite: Database, folder: StationFolder, onnx_file: Path, broker: RealBroker
) -> None:
    import signal
    import subprocess
    import sys

    set_up_line(sqlite, folder, onnx_file)
    add_broker(sqlite, "test", broker.address, None, LOGIN)
    with broker.listen() as heard:
        process = subprocess.Popen([sys.executable, "-m", "blemish", "station", "work", str(folder.root)])
        try:
            assert wait_until(lambda: ("line3/status", "online", False) in heard)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert wait_until(lambda: ("line3/status", "offline", False) in heard)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket"
)  # paho leaves it open where a handshake fails
def test_tls_with_an_authority_of_ones_own(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    broker = RealBroker(tmp_path / "broker", is_encrypted=True)
    request.addfinalizer(broker.end)
    broker.begin()
    assert broker.certificate is not None
    line = set_up_line(sqlite, folder, onnx_file)
    add_broker(sqlite, "test", broker.address, None, LOGIN)  # the system does not know its authority
    with beside(tell_hooks, sqlite, folder) as said:
        assert wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in the_hook(sqlite).trouble), said
    gc.collect()
    end_hook(sqlite, "test", the_hook(sqlite).id)
    (folder.root / "secrets").mkdir()
    (folder.root / "secrets/factory").write_bytes(broker.certificate.read_bytes())
    add_broker(sqlite, "test", broker.address, None, LOGIN._replace(authority_name="factory"))
    with broker.listen() as heard, beside(tell_hooks, sqlite, folder) as said:
        decide(sqlite, folder, line.source_id, range(1))
        assert wait_until(lambda: verdicts(heard) == [1]), said


@pytest.mark.slow
def test_a_wrong_password_is_said_and_shown_nowhere(
    sqlite: Database, folder: StationFolder, onnx_file: Path, broker: RealBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up_line(sqlite, folder, onnx_file)
    monkeypatch.setenv("BLEMISH_SECRET_BROKER", f"wrong {PASSWORD}")
    station = Station(sqlite, folder)
    boss = visit(station, make_app(station), "administrator")
    fields = {"url": broker.address, "password_name": "broker", "password": SIGNATURE, "discovery": ""}
    assert boss.client.post("/hooks/broker", data={"csrf": boss.csrf, **fields}).status_code == 303
    with beside(tell_hooks, sqlite, folder) as said:
        assert wait_until(lambda: the_hook(sqlite).failures > 0)
    assert "uthorized" in the_hook(sqlite).trouble
    page = boss.client.get("/hooks").text + boss.client.get("/").text
    assert broker.address in page
    viewer = visit(station, make_app(station), "viewer").client.get("/").text
    assert "mqtt://localhost" in viewer
    assert broker.address not in viewer
    assert "uthorized" in page
    with sqlite.read() as session:
        trail = "".join(f"{entry.subject} {entry.detail}" for entry in session.scalars(select(Entry)))
    assert PASSWORD not in page + trail + "".join(said)
    with sqlite.read() as session:
        assert session.scalars(select(Broker)).one().discovery == ""
    end_hook(sqlite, "test", the_hook(sqlite).id)
    with sqlite.read() as session:
        assert session.scalars(select(Broker)).all() == []


def test_a_password_is_in_a_variable_or_in_a_file(folder: StationFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_secret(folder, "broker") == PASSWORD
    monkeypatch.delenv("BLEMISH_SECRET_BROKER")
    with pytest.raises(SettingsError, match="neither the variable BLEMISH_SECRET_BROKER nor the file"):
        read_secret(folder, "broker")
    (folder.root / "secrets").mkdir()
    (folder.root / "secrets/broker").write_text("from a file\n")
    assert read_secret(folder, "broker") == "from a file"


@pytest.mark.parametrize(
    ("url", "login", "expected"),
    [
        ("mqtt://", Login(), "expected an address"),
        ("http://a/b", Login(), "expected an address"),
        ("mqtt://a:99999/", Login(), "expected an address"),
        ("mqtt://mes:geheim@a/b", Login(), "not in the address"),
        ("mqtt://a/line+3", Login(), "no message is published to"),
        ("mqtt://a/", Login(password_name="../../etc/passwd"), "small letters"),
        ("mqtt://a/", Login(authority_name="a b"), "small letters"),
        ("mqtt://a/", Login(discovery="home#"), "expected a topic"),
    ],
)
def test_what_is_no_broker_is_refused(sqlite: Database, url: str, login: Login, expected: str) -> None:
    with pytest.raises(SettingsError, match=expected) as refused:
        add_broker(sqlite, "test", url, None, login)
    assert "geheim" not in str(refused.value)
    with sqlite.read() as session:
        assert session.scalars(select(Hook)).all() == []


def test_a_broker_and_a_program_are_told_from_the_terminal(
    sqlite: Database, folder: StationFolder, onnx_file: Path
) -> None:
    set_up_line(sqlite, folder, onnx_file)
    run = CliRunner().invoke
    told = run(command, ["station", "tell", str(folder.root), "mqtt://mes@broker/line3", "--password-name", "broker"])
    assert told.exit_code == 0, told.output
    told = run(command, ["station", "tell", str(folder.root), "https://mes.example/", "--product", "disc"])
    assert told.exit_code == 0, told.output
    with sqlite.read() as session:
        hooks = session.scalars(select(Hook).order_by(Hook.id)).all()
        assert session.scalars(select(Broker)).one().password_name == "broker"
        assert session.scalars(select(Decision)).all() == []
    assert [hook.product_id for hook in hooks] == [None, 1]
    assert hooks[1].secret in told.output
    refused = run(command, ["station", "tell", str(folder.root), "https://mes.example/2", "--product", "nut"])
    assert (refused.exit_code, "product 'nut': there is none" in refused.output) == (2, True)
