"""Decisions as CSV, JSON, JSON lines and Parquet: all the same, in bounded memory, each told in the audit trail."""

import csv
import gc
import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from sqlalchemy import insert, select
from typer.testing import CliRunner

from blemish.cli import app as command
from blemish.data.csv_cells import unescape_cell
from blemish.errors import DataError, SettingsError
from blemish.station import exports, queue
from blemish.station.app import Station, make_app
from blemish.station.backup import back_up
from blemish.station.database import Database
from blemish.station.exports import COLUMNS, WRITERS, Wanted, export, export_to
from blemish.station.folder import StationFolder, open_folder
from blemish.station.intake import Inbox
from blemish.station.judge import Judge, commit
from blemish.station.reviews import give_verdict
from blemish.station.tables import Decision, Entry, Image
from station.browser import visit
from station.line import Line, picture, set_up_line

NAMES = ["=1+1.png", "-a,b.png", "plain.png", "ümlaut\n.png", "@x.png"]


@pytest.fixture
def line(database: Database, folder: StationFolder, onnx_file: Path) -> Line:
    """Five decisions with awkward names, one unreadable, one judged by a person."""
    line, inbox, judge = set_up_line(database, folder, onnx_file), Inbox(database, folder), Judge(folder, threads=1)
    for seed, name in enumerate(NAMES):
        inbox.receive(line.source_id, name, b"no image" if name == "plain.png" else picture(seed))
    for task in queue.take(database, "me"):
        commit(database, "me", task, judge.judge(task))
    give_verdict(database, "eva", 1, "defective", defect_type="+crack")
    return line


def rows_of(kind: str, content: bytes) -> list[dict[str, Any]]:
    if kind == "json":
        return list(json.loads(content))
    if kind == "jsonl":
        return [json.loads(row) for row in content.decode().splitlines()]
    if kind == "parquet":
        rows: list[dict[str, Any]] = parquet.read_table(io.BytesIO(content)).to_pylist()
        return [{**row, **{name: json.loads(row[name]) for name in exports.LISTS}} for row in rows]
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def test_every_kind_tells_the_same(database: Database, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PAGE", 2)
    got = {kind: rows_of(kind, b"".join(export(database, "eva", kind, Wanted()))) for kind in WRITERS}
    assert got["json"] == got["jsonl"] == got["parquet"]
    assert [row["image"] for row in got["json"]] == NAMES
    assert set(got["json"][0]) == set(COLUMNS)
    with database.read() as session:
        decision = session.get_one(Decision, 1)
        assert got["json"][0]["score"] == decision.score
        assert got["json"][0]["regions"] == json.loads(decision.regions)
    assert got["json"][2] | {"verdict": "unreadable", "score": None, "p_value": None} == got["json"][2]
    assert [row["person"] for row in got["json"]] == ["eva", None, None, None, None]
    assert got["json"][0]["defect_type"] == "+crack"
    for plain, row in zip(got["json"], got["csv"], strict=True):
        assert unescape_cell(row["image"]) == plain["image"]
        assert row["score"] == ("" if plain["score"] is None else repr(plain["score"]))
    assert [row["image"][0] for row in got["csv"]] == ["'", "'", "p", "ü", "'"]
    assert got["csv"][0]["defect_type"] == "'+crack"
    with database.read() as session:
        entries = session.scalars(select(Entry).where(Entry.action == "export").order_by(Entry.seq)).all()
    assert [(entry.actor, json.loads(entry.detail)["kind"]) for entry in entries] == [("eva", kind) for kind in WRITERS]


@pytest.mark.parametrize("kind", list(WRITERS))
def test_nothing_decided_is_an_empty_export(sqlite: Database, kind: str) -> None:
    assert rows_of(kind, b"".join(export(sqlite, "eva", kind, Wanted()))) == []


def test_a_time_and_a_product_are_chosen(database: Database, line: Line) -> None:
    def ids(*wanted: Any) -> list[int]:
        return [row["id"] for row in rows_of("json", b"".join(export(database, "eva", "json", Wanted(*wanted))))]

    with database.read() as session:
        third = session.get_one(Decision, 3).decided_at
    assert ids(None, third) == [3, 4, 5]
    assert ids(None, None, third) == [1, 2]
    assert ids(line.product_id + 1) == []
    with pytest.raises(SettingsError, match="is after end"):
        export(database, "eva", "json", Wanted(None, "2027", "2026"))
    with pytest.raises(SettingsError, match="expected one of csv, json, jsonl, parquet"):
        export(database, "eva", "xlsx", Wanted())


@pytest.fixture
def collected_as_usual() -> Iterator[None]:
    """Garbage is collected as in a program, not as seldom as in the other tests."""
    seldom = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*seldom)


@pytest.mark.slow
@pytest.mark.usefixtures("collected_as_usual")
def test_memory_does_not_grow_with_the_decisions(
    sqlite: Database, folder: StationFolder, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PAGE", 100)
    line = set_up_line(sqlite, folder, onnx_file)
    image = {"product_id": line.product_id, "source_id": line.source_id, "sha256": "0" * 64, "suffix": ".png"}
    image |= {"size_bytes": 1, "received_at": "2026", "is_audit": False}
    decision = {"product_id": line.product_id, "image_sha256": "0" * 64, "model_id": line.model_id, "threshold": 1.0}
    decision |= {"model_sha256": "0" * 64, "verdict": "good", "latency_ms": 1.0, "decided_at": "2026", "trail_seq": 1}

    def peak(begin: int, end: int) -> int:
        with sqlite.write() as session:
            session.execute(insert(Image), [{**image, "id": n, "name": f"{n}.png"} for n in range(begin, end)])
            rows = [{**decision, "id": n, "image_id": n, "image_path": f"{n}.png"} for n in range(begin, end)]
            session.execute(insert(Decision), rows)
        tracemalloc.start()
        sizes = {kind: sum(map(len, export(sqlite, "eva", kind, Wanted()))) for kind in WRITERS}
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert sizes["csv"] > 100 * (end - 1)
        return found

    peak(1, 101)  # what is loaded once
    few = peak(101, 301)
    assert peak(301, 2001) < 1.3 * few


def test_a_program_gets_an_export_and_a_stranger_does_not(
    sqlite: Database, folder: StationFolder, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    station = Station(sqlite, folder)
    app = make_app(station)
    station.inbox.receive(line.source_id, "a.png", b"no image")
    for task in queue.take(sqlite, "me"):
        commit(sqlite, "me", task, station.judge.judge(task))
    viewer = visit(station, app, "viewer").client
    answer = viewer.get("/api/v1/exports/decisions.parquet?start=2026-01-01")
    assert (answer.status_code, rows_of("parquet", answer.content)[0]["image"]) == (200, "a.png")
    assert 'filename="decisions.parquet"' in answer.headers["content-disposition"]
    assert viewer.get("/api/v1/exports/decisions.exe").status_code == 422
    assert viewer.get("/api/v1/exports/decisions.csv?start=yesterday").status_code == 422
    assert visit(station, app, None).client.get("/api/v1/exports/decisions.csv").status_code == 401
    monkeypatch.setattr(exports, "find_spec", lambda _: None)
    answer = viewer.get("/api/v1/exports/decisions.parquet")
    assert (answer.status_code, "pip install 'blemish[parquet]'" in answer.json()["error"]) == (422, True)


def test_the_command_writes_a_new_file_or_none(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    Inbox(sqlite, folder).receive(line.source_id, "a.png", b"no image")
    for task in queue.take(sqlite, "me"):
        commit(sqlite, "me", task, Judge(folder, threads=1).judge(task))

    def run(name: str, *more: str) -> tuple[int, str]:
        ran = CliRunner().invoke(command, ["station", "export", str(folder.root), "-o", str(tmp_path / name), *more])
        return ran.exit_code, " ".join(ran.output.split())

    assert run("a.csv", "--product", "disc")[0] == 0
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 2
    assert run("b.jsonl", "--end", "2020-01-01")[0] == 0
    assert (tmp_path / "b.jsonl").read_text() == ""
    for name, more, expected in (
        ("a.csv", (), "is there already"),
        ("c.xlsx", (), "expected one of csv"),
        ("d.csv", ("--product", "nut"), "there is none"),
        ("e.csv", ("--start", "yesterday"), "expected a time such as"),
    ):
        code, said = run(name, *more)
        assert (code, expected in said) == (2, True), said
    monkeypatch.setattr(exports, "find_spec", lambda _: None)
    assert run("f.parquet")[0] == 2
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a.csv", "b.jsonl"]
    with sqlite.read() as session:
        assert session.scalars(select(Entry.actor).where(Entry.action == "export")).all() == ["terminal"] * 2


def test_nothing_is_written_among_a_data_sets_images(sqlite: Database, folder: StationFolder, tmp_path: Path) -> None:
    out = tmp_path / "parts/test/good"
    out.mkdir(parents=True)
    good = tmp_path / "parts/train/good"
    good.mkdir(parents=True)
    (good / "a.png").touch()  # which makes it a data set
    for write in (
        lambda: export_to(sqlite, "eva", out / "a.csv", Wanted()),
        lambda: back_up(sqlite, folder, out / "a.zip"),
        lambda: open_folder(out / "station", create=True),
    ):
        with pytest.raises(DataError, match="inside a data set's test"):
            write()
    assert list(out.iterdir()) == []
