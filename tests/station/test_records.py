"""Records of `watch` and `inspect` taken into a station: once, with the images that are still what was judged."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from typer.testing import CliRunner

from blemish.cli import app as command
from blemish.data.progress import Progress
from blemish.errors import DataError, SettingsError
from blemish.inspection.decisions import Decision as Old
from blemish.inspection.record import WRITTEN_BY, Record
from blemish.station import records
from blemish.station.app import Station
from blemish.station.database import Database
from blemish.station.exports import Wanted, export
from blemish.station.folder import StationFolder, sha256_of
from blemish.station.hooks import add_hook
from blemish.station.judge import put_down
from blemish.station.products import add_model
from blemish.station.records import import_record
from blemish.station.retention import make_retention, set_retention, sweep
from blemish.station.spool import unsent
from blemish.station.tables import Decision, Entry, Hook, Image, Model, Product, Source, Tally
from blemish.station.trail import verify_trail
from station.browser import judge_all, visit
from station.line import count, picture, set_up_line

REGION = {"left": 16, "top": 0, "width": 32, "height": 16, "area_px": 256, "peak": 0.9}


def write_record(path: Path, model_sha256: str, *more: Old) -> list[Old]:
    """A record of three images in its folder: one still there, one changed since, one gone; and of one unreadable."""
    there, changed, gone = (picture(seed) for seed in range(3))
    (path.parent / "a.png").write_bytes(there)
    (path.parent / "b.png").write_bytes(there)
    row = Old("a.png", sha256_of(there), "anomalous", 0.75, 0.05, 0.5, "", model_sha256, 1, [REGION], 12.5)
    rows = [
        Old("", "", "model", threshold=0.5, message="changed", model_sha256=model_sha256),
        row,
        replace(row, image_path="b.png", image_sha256=sha256_of(changed), verdict="good", score=0.25, p_value=0.5),
        replace(row, image_path="c\udcff.png", image_sha256=sha256_of(gone)),
        Old("d.png", "", "unreadable", message="no image", model_sha256=model_sha256),
        *more,
    ]
    with Record.open(path, {WRITTEN_BY: "watch"}) as record:
        return [
            record.add(replace(one, decided_at=f"2026-01-02T03:04:{n:02}.000000+00:00")) for n, one in enumerate(rows)
        ]


def decisions_of(database: Database) -> list[Decision]:
    with database.read() as session:
        return list(session.scalars(select(Decision).order_by(Decision.id)))


def test_decisions_come_with_the_images_that_are_what_was_judged(
    database: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path
) -> None:
    line, sha256 = set_up_line(database, folder, onnx_file), sha256_of(onnx_file.read_bytes())
    old = write_record(tmp_path / "watched.sqlite", sha256)
    before = (tmp_path / "watched.sqlite").read_bytes()
    told: list[Progress] = []
    assert import_record(database, folder, tmp_path / "watched.sqlite", [], None, told.append) == (4, 3, 0)
    assert told == [Progress("decisions", 4, 4)]
    assert (tmp_path / "watched.sqlite").read_bytes() == before
    found = decisions_of(database)
    assert [one.id for one in found] == [-4, -3, -2, -1]
    for one, record in zip(found, old[1:], strict=True):
        names = ("image_sha256", "score", "p_value", "verdict", "message", "model_sha256", "latency_ms", "decided_at")
        assert [getattr(one, name) for name in names] == [getattr(record, name) for name in names]
        assert (one.threshold, one.product_id, one.model_id) == (0.5, line.product_id, line.model_id)
    assert found[2].image_path == "c\\udcff.png"
    assert json.loads(found[0].regions) == [[0.0, 0.25, 0.25, 0.75, 0.0625, 0.9]]
    with database.read() as session:
        kept = [one.size_bytes for one in session.scalars(select(Image).order_by(Image.id))]
        assert kept == [len(picture(0)), 0, 0, 0]
        assert [one.removed_at is None for one in session.scalars(select(Image).order_by(Image.id))] == [True] + 3 * [
            False
        ]
        assert sum(session.scalars(select(Tally.images).where(Tally.hour == "2026-01-02T03"))) == 4
        assert verify_trail(session).problem is None
        entries = session.scalars(select(Entry).order_by(Entry.seq.desc()).limit(5)).all()
    assert [(one.actor, one.action) for one in entries] == [("terminal", "import"), *4 * [("terminal", "decision")]]
    path = folder.image_path(found[0].image_sha256, ".png")
    assert sha256_of(path.read_bytes()) == found[0].image_sha256


def test_images_are_found_in_the_folder_that_was_watched(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path
) -> None:
    set_up_line(sqlite, folder, onnx_file)
    path = tmp_path / "incoming.decisions.sqlite"
    write_record(path, sha256_of(onnx_file.read_bytes()))
    (tmp_path / "incoming").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / name).rename(tmp_path / "incoming" / name)
    assert import_record(sqlite, folder, path, [], None) == (4, 3, 0)


def test_an_image_that_a_sweep_removes_while_its_record_comes_is_kept_and_comes_back_no_more_once_it_was_swept(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up_line(sqlite, folder, onnx_file)
    path, sha256 = tmp_path / "watched.sqlite", sha256_of(onnx_file.read_bytes())
    image, before = folder.image_path(write_record(path, sha256)[1].image_sha256, ".png"), records._models_for

    def after_a_sweep(*arguments: Any) -> Any:
        image.unlink()
        return before(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(records, "_models_for", after_a_sweep)
        assert import_record(sqlite, folder, path, [], None) == (4, 3, 0)
    assert image.is_file()
    set_retention(sqlite, "test", make_retention(1e-6, 1e-6, None), "room")
    assert sweep(sqlite, folder).images == 1
    assert import_record(sqlite, folder, path, [], None) == (0, 0, 4)
    assert not image.exists()


def test_the_same_record_again_and_a_copy_of_it_add_nothing(
    database: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path
) -> None:
    set_up_line(database, folder, onnx_file)
    path, sha256 = tmp_path / "watched.sqlite", sha256_of(onnx_file.read_bytes())
    write_record(path, sha256)
    import_record(database, folder, path, [], None)
    entries = count(database, Entry)
    assert import_record(database, folder, path, [], None) == (0, 0, 4)
    copy = tmp_path / "copy" / "moved.sqlite"
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    assert import_record(database, folder, copy, [], "disc") == (0, 0, 4)
    assert (count(database, Decision), count(database, Entry)) == (4, entries)
    with Record.open(path, {WRITTEN_BY: "watch"}) as record:  # it was gone on with
        record.add(Old("e.png", "0" * 64, "good", 0.1, 0.9, 0.5, "", sha256))
    assert import_record(database, folder, path, [], None) == (1, 1, 4)
    assert [one.id for one in decisions_of(database)][-1] == -1


def test_what_is_killed_in_between_is_gone_on_with(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up_line(sqlite, folder, onnx_file)
    write_record(tmp_path / "watched.sqlite", sha256_of(onnx_file.read_bytes()))
    monkeypatch.setattr("blemish.station.records.AT_ONCE", 1)
    calls = iter(range(10))

    def fail(*given: Any) -> None:
        put_down(*given)
        if next(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("blemish.station.records.put_down", fail)
    with pytest.raises(KeyboardInterrupt):
        import_record(sqlite, folder, tmp_path / "watched.sqlite", [], None)
    assert count(sqlite, Decision) == 2
    assert import_record(sqlite, folder, tmp_path / "watched.sqlite", [], None) == (2, 2, 2)
    with sqlite.read() as session:
        assert verify_trail(session).problem is None


def test_what_is_decided_later_counts_from_1_and_nobody_is_told_of_the_old(
    database: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path
) -> None:
    line = set_up_line(database, folder, onnx_file)
    add_hook(database, "test", "https://mes.example/", None)
    write_record(tmp_path / "watched.sqlite", sha256_of(onnx_file.read_bytes()))
    import_record(database, folder, tmp_path / "watched.sqlite", [], None)
    station = Station(database, folder)
    for seed in (7, 8):
        station.inbox.receive(line.source_id, f"{seed}.png", picture(seed))
    judge_all(station)
    assert [one.id for one in decisions_of(database)] == [-4, -3, -2, -1, 1, 2]
    with database.read() as session:
        hook = session.scalars(select(Hook)).one()
    assert [one.id for one in unsent(database, hook)] == [1, 2]
    rows = json.loads(b"".join(export(database, "test", "json", Wanted())))
    assert [row["id"] for row in rows] == [-4, -3, -2, -1, 1, 2]


@pytest.mark.slow
def test_a_model_that_is_not_here_is_known_by_its_hash_until_it_is_brought(
    station: Station, app: FastAPI, onnx_file: Path, tmp_path: Path
) -> None:
    database, folder = station.database, station.folder
    path, sha256 = tmp_path / "watched.sqlite", sha256_of(onnx_file.read_bytes())
    write_record(path, sha256)
    with pytest.raises(
        SettingsError, match=f"no product of the station has its model {sha256[:12]}; name .* --product"
    ):
        import_record(database, folder, path, [], None)
    assert count(database, Source) == 0
    assert import_record(database, folder, path, [], "disc") == (4, 3, 0)
    who = visit(station, app, "engineer").client
    assert "known from a record; its file is not here" in who.get("/products").text
    assert "There is no heat map" in who.get("/images/1").text
    assert "was not there any more" in who.get("/images/2").text
    assert (who.get("/images/1/photo.jpg").status_code, who.get("/images/1/map.jpg").status_code) == (200, 422)
    assert who.get("/images/1/map.jpg?side=small").status_code == 200
    for page in ("/", "/review", "/report", "/threshold", "/shadow", "/recalibrate", "/trail?everything=true"):
        assert who.get(page).status_code == 200
    with database.read() as session:
        product_id = session.scalars(select(Product.id)).one()
    model = add_model(database, folder, "test", product_id, (onnx_file.name, onnx_file.read_bytes()))
    assert (model.name, count(database, Model)) == (onnx_file.name, 1)
    assert who.get("/images/1/map.jpg").status_code == 200
    assert "There is no heat map" not in who.get("/images/1").text


def test_images_are_looked_for_in_the_folders_that_are_named(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path
) -> None:
    set_up_line(sqlite, folder, onnx_file)
    record, images = tmp_path / "records" / "w.sqlite", tmp_path / "moved"
    record.parent.mkdir()
    images.mkdir()
    write_record(record, sha256_of(onnx_file.read_bytes()))
    (record.parent / "a.png").rename(images / "a.png")
    (images / "b.png").write_bytes(picture(1))
    with pytest.raises(SettingsError, match="no such folder"):
        import_record(sqlite, folder, record, [tmp_path / "nowhere"], None)
    assert import_record(sqlite, folder, record, [images], None).without_image == 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("UPDATE decisions SET verdict = 'fine' WHERE id = 2", "decision 2 is damaged"),
        ("UPDATE decisions SET decided_at = 'yesterday' WHERE id = 3", "decision 3 is damaged"),
        ("UPDATE decisions SET score = 9e999 WHERE id = 2", "decision 2 is damaged"),
        ("UPDATE decisions SET regions = '[' WHERE id = 2", "damaged; restore it from a copy"),
        ("PRAGMA user_version = 99", "of a newer version"),
        ("PRAGMA application_id = 7", "a database of another program"),
        ("DROP TABLE decisions", "damaged"),
    ],
)
def test_a_bad_record_is_named_and_nothing_of_it_is_taken(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path, change: str, expected: str
) -> None:
    set_up_line(sqlite, folder, onnx_file)
    path = tmp_path / "w.sqlite"
    write_record(path, sha256_of(onnx_file.read_bytes()))
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    connection.close()
    with pytest.raises(DataError, match=expected) as caught:
        import_record(sqlite, folder, path, [], None)
    assert str(path) in str(caught.value)
    assert count(sqlite, Decision) == 0


def test_the_command_says_what_it_took(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path
) -> None:
    set_up_line(sqlite, folder, onnx_file)
    write_record(tmp_path / "w.sqlite", sha256_of(onnx_file.read_bytes()))

    def run(path: Path, *more: str) -> tuple[int, str]:
        ran = CliRunner().invoke(command, ["station", "import", str(folder.root), str(path), *more])
        return ran.exit_code, " ".join(ran.output.split())

    code, said = run(tmp_path / "w.sqlite")
    assert (code, "4 decisions taken in, without an image: 3; known before: 0" in said) == (0, True), said
    (tmp_path / "text.sqlite").write_text("no record")
    for name, expected in (("gone.sqlite", "no such record"), ("text.sqlite", "not a record of blemish")):
        code, said = run(tmp_path / name)
        assert (code, expected in said, "Traceback" in said) == (2, True, False), said
