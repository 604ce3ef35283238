"""A PLC reads the last results by OPC UA: server and client, both real."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update
from typer.testing import CliRunner

from blemish.cli import app as command
from blemish.errors import SettingsError
from blemish.station import opcua, queue
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.intake import Inbox
from blemish.station.judge import Judge, commit
from blemish.station.opcua import NAMESPACE, VARIABLES, check_opcua, serve_opcua
from blemish.station.products import add_product
from blemish.station.tables import Decision, Job
from station.line import picture, set_up_line
from station.test_hooks import decide
from station.waiting import WITHIN_S, beside, wait_until

if TYPE_CHECKING:
    from asyncua import Client  # takes most of a second; the fast tests need none of it


@pytest.fixture
def address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"opc.tcp://127.0.0.1:{free.getsockname()[1]}"


async def connect(address: str) -> "Client":
    from asyncua import Client

    deadline = time.monotonic() + WITHIN_S
    while True:
        client = Client(address, timeout=WITHIN_S)  # of an answer
        try:
            await client.connect()
            return client
        except OSError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def read(client: "Client", product: str, *path: str) -> Any:
    index = await client.get_namespace_index(NAMESPACE)
    node = await client.nodes.objects.get_child([f"{index}:{name}" for name in (product, *path)])
    return await node.read_value()


async def read_result(client: "Client", result_id: str, product: str = "disc") -> dict[str, Any]:
    """All variables of a result, once it is the last."""
    from asyncua import ua

    results = ("ResultManagement", "Results", "LatestResult")
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        try:
            if await read(client, product, *results, "ResultId") == result_id:
                break
        except ua.UaError:
            pass  # not there yet
        await asyncio.sleep(0.05)
    return {name: await read(client, product, *results, name) for name, _, _ in VARIABLES}


@pytest.mark.slow
def test_a_client_reads_the_last_result_of_each_product(
    sqlite: Database, folder: StationFolder, onnx_file: Path, address: str
) -> None:
    from asyncua import ua

    line = set_up_line(sqlite, folder, onnx_file)
    inbox, judge = Inbox(sqlite, folder), Judge(folder, threads=1)

    async def look() -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        client = await connect(address)
        try:
            first = await read_result(client, "1")
            decide(sqlite, folder, line.source_id, range(3, 6))
            second = await read_result(client, "4")
            add_product(sqlite, "test", "bolt")  # while it runs
            deadline, states = time.monotonic() + WITHIN_S, list[str]()
            while len(states) < 2 and time.monotonic() < deadline:
                try:
                    states = [await read(client, one, "VisionStateMachine", "CurrentState") for one in ("disc", "bolt")]
                except ua.UaError:
                    await asyncio.sleep(0.05)
            index = await client.get_namespace_index(NAMESPACE)
            verdict = client.get_node(ua.NodeId("1.Verdict", index))
            with pytest.raises(ua.UaStatusCodeError):  # it is read only
                await verdict.write_value("good")
            return first, second, states
        finally:
            await client.disconnect()

    inbox.receive(line.source_id, "a.png", picture(1))
    for task in queue.take(sqlite, "me"):
        commit(sqlite, "me", task, judge.judge(task))
    with beside(serve_opcua, sqlite, address) as said:
        first, second, states = asyncio.run(look())
    with sqlite.read() as session:
        decision = session.get_one(Decision, 1)
    assert first["Score"] == decision.score
    assert first["Threshold"] == decision.threshold
    assert first["Verdict"] == decision.verdict
    assert first["IsAnomalous"] == (decision.verdict == "anomalous")
    assert (first["PartId"], first["ProductId"], first["JobId"]) == ("a.png", "disc", "1")
    assert first["InternalRecipeId"] == decision.model_sha256
    assert first["CreationTime"].replace(tzinfo=None) == datetime.fromisoformat(decision.decided_at).replace(
        tzinfo=None
    )
    assert first["ResultState"] == opcua.COMPLETED
    assert (second["ResultState"], second["Verdict"], second["IsAnomalous"]) == (opcua.FAILED, "unreadable", True)
    assert states == ["Operational", "Preoperational"]
    assert said == []


def test_images_that_are_kept_waiting_are_the_state_error(
    sqlite: Database, folder: StationFolder, onnx_file: Path
) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    Inbox(sqlite, folder).receive(line.source_id, "a.png", picture(1))
    with sqlite.write() as session:
        session.scalars(select(Job)).one().trouble = "the model is damaged"
    assert opcua._look(sqlite, None)[2] == {line.product_id: "Error"}


def test_what_came_with_a_record_is_no_result(sqlite: Database, folder: StationFolder, onnx_file: Path) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    decide(sqlite, folder, line.source_id, range(1))
    assert len(opcua._look(sqlite, None)[1]) == 1
    with sqlite.write() as session:
        session.execute(update(Decision).values(id=-1))
    assert opcua._look(sqlite, None)[1] == []


@pytest.mark.slow
def test_an_occupied_port_is_said_and_tried_again(
    sqlite: Database, folder: StationFolder, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opcua, "AGAIN_S", 0.05)

    async def reach() -> None:
        await (await connect(address)).disconnect()

    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(address.rpartition(":")[2])))
        other.listen()
        with beside(serve_opcua, sqlite, address) as said:
            assert wait_until(lambda: said)
            assert "cannot be served" in said[0]
            other.close()
            asyncio.run(reach())


@pytest.mark.parametrize(
    "address", ["127.0.0.1:4840", "opc.tcp://127.0.0.1", "opc.tcp://:4840", "http://a:1", "opc.tcp://a:x"]
)
def test_what_is_no_address_is_refused(address: str, folder: StationFolder) -> None:
    with pytest.raises(SettingsError, match="expected an address such as opc"):
        check_opcua(address)
    ran = CliRunner().invoke(command, ["station", "work", str(folder.root), "--opcua", address])
    assert (ran.exit_code, "expected an address such as" in ran.output) == (2, True)


def test_without_asyncua_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opcua, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"pip install 'blemish\[opcua\]'"):
        check_opcua("opc.tcp://127.0.0.1:4840")


def test_it_is_off_unless_asked_for(sqlite: Database, folder: StationFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    from blemish.station.worker import Worker

    served = list[object]()
    monkeypatch.setattr("blemish.station.worker.serve_opcua", lambda *arguments: served.append(arguments[1]))
    for given in (None, "opc.tcp://127.0.0.1:1"):
        Worker(sqlite, folder, print, opcua=given).run(threading.Event(), until_idle_s=0.1)
    assert served == ["opc.tcp://127.0.0.1:1"]


@pytest.mark.slow
def test_the_command_serves_it_beside_its_pages(tmp_path: Path, address: str) -> None:
    (tmp_path / "secret").write_text("correct horse battery\n")
    arguments = ["station", str(tmp_path / "station"), "--port", "0", "--opcua", address]
    process = subprocess.Popen(
        [sys.executable, "-m", "blemish", *arguments, "--admin-password-file", str(tmp_path / "secret")]
    )

    async def look() -> list[str]:
        client = await connect(address)
        try:
            return list(await client.get_namespace_array())
        finally:
            await client.disconnect()

    try:
        assert NAMESPACE in asyncio.run(look())
    finally:
        process.terminate()
        assert process.wait(WITHIN_S) == 0
