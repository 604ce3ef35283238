"""The record: a decision is in it wholly or not at all, and what is no record of ours is never touched."""

import os
import re
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from blemish.errors import DataError
from blemish.inspection import record as record_module
from blemish.inspection.decisions import Decision
from blemish.inspection.record import APPLICATION_ID, VERSION, WRITTEN_BY, Record
from conftest import files_of_at_most, recorded

WATCH = {WRITTEN_BY: "watch"}
NAMES = ["a.png", 'quote".png', "comma, and\nnewline.png", "ü/ß.png", os.fsdecode(b"no-\xff-utf8.png"), "=1+1.png"]
REGION: dict[str, int | float] = {"left": 3, "peak": 0.1 + 0.2}


def decision(path: str, sha256: str = "ab", score: float = 0.1 + 0.2) -> Decision:
    return Decision(path, sha256, "good", score, 0.5, 0.25, regions=[REGION], region_count=1, picture=f"{path}.png")


def test_a_decision_comes_back_as_it_was(tmp_path: Path) -> None:
    """Every bit of it, whatever the name."""
    path = tmp_path / "r.sqlite"
    with Record.open(path, WATCH) as record:
        added = [record.add(decision(name)) for name in NAMES]
        added.append(record.add(Decision("b.png", "", "unreadable", message='an "odd" file')))
    with Record.open(path, WATCH) as record:
        assert list(record.since()) == added
        assert list(record.numbered([2, 1])) == [added[1], added[0]]
        assert [record.find(name, "ab") for name in NAMES] == added[:-1]
        assert record.find("a.png", "cd") is None
        assert record.find_picture("a.png", "a.png.png") == added[0]
        assert record.paths() == {*NAMES, "b.png"}
    assert [one.id for one in added] == list(range(1, len(NAMES) + 2))


def test_the_columns_are_named_as_in_a_station(tmp_path: Path) -> None:
    tables = pytest.importorskip("blemish.station.tables")
    with Record.open(tmp_path / "r.sqlite", WATCH) as record:
        record.add(decision("a.png"))
    (row,) = recorded(tmp_path / "r.sqlite")
    known = set(tables.Decision.__table__.columns.keys())
    assert set(row) - known == {"region_count", "picture", "drawn_at"}  # all others can be taken in as they are


def test_nothing_is_decided_twice(tmp_path: Path) -> None:
    with Record.open(tmp_path / "r.sqlite", WATCH) as record:
        record.add(decision("a.png"))
        with pytest.raises(DataError, match="UNIQUE"):
            record.add(decision("a.png"))
        record.add(decision("a.png", sha256="cd"))
        assert record.add(decision("a.png", score=0.7), is_again=True).score == 0.7
        for _ in range(2):  # no image, so there may be many
            record.add(Decision("", "", "model", message="changed"))
        assert [one.image_sha256 for one in record.since()] == ["cd", "ab", "", ""]


def test_a_disk_that_takes_no_more_leaves_nothing_of_a_decision(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    with Record.open(path, WATCH) as record:
        record.add(decision("a.png"))
        for _ in range(2):
            with files_of_at_most(8192), pytest.raises(DataError, match=r"r\.sqlite: cannot be written: "):
                record.add(decision("b.png"))
            assert [row["image_path"] for row in recorded(path)] == ["a.png"]
        record.add(decision("b.png"))
    assert [row["image_path"] for row in recorded(path)] == ["a.png", "b.png"]


def test_no_space_left_is_said(tmp_path: Path) -> None:
    """As SQLite says it, for a file that may have no more pages."""
    with Record.open(tmp_path / "r.sqlite", WATCH) as record:
        with record._connected() as connection:
            connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(DataError, match=r"r\.sqlite: cannot be written: no space left on the disk; free some"):
            record.add(Decision("a.png", "ab", "unreadable", message="long " * 10_000))
        record.add(decision("b.png"))  # and opened again it takes more


def test_a_full_disk_in_a_transaction_is_not_taken_for_damage(tmp_path: Path) -> None:
    """SQLite takes such a transaction back by itself, so that nothing is left to roll back."""
    with Record.open(tmp_path / "r.sqlite", WATCH) as record:
        with record._connected() as connection:
            connection.execute("PRAGMA max_page_count = 1")
        with (
            pytest.raises(DataError, match=r"r\.sqlite: cannot be written: no space left on the disk; free some"),
            record._connected() as connection,
            record_module._transaction(connection),
        ):
            connection.execute("INSERT INTO settings VALUES ('a', ?)", ["long " * 10_000])
        record.add(decision("a.png"))


def test_others_read_it_meanwhile_and_one_that_locks_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "BUSY_S", 0.05)
    path = tmp_path / "r.sqlite"
    with Record.open(path, WATCH) as record, closing(sqlite3.connect(path, isolation_level=None)) as other:
        record.add(decision("a.png"))
        assert other.execute("SELECT count(*) FROM decisions").fetchone() == (1,)
        other.execute("BEGIN")
        other.execute("SELECT * FROM decisions").fetchall()  # and stays in the middle of its reading
        with pytest.raises(DataError, match=r"r\.sqlite: locked by another program; close what has it open"):
            record.add(decision("b.png"))
        other.execute("COMMIT")
        record.add(decision("b.png"))
        assert other.execute("SELECT image_path FROM decisions").fetchall() == [("a.png",), ("b.png",)]


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE parts (price)")
        connection.commit()


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.execute("CREATE TABLE decisions (other)")


def of_inspect(path: Path) -> None:
    with Record.open(path, {WRITTEN_BY: "inspect"}):
        pass


def damaged(path: Path) -> None:
    with Record.open(path, WATCH) as record:
        for place in range(200):
            record.add(decision(f"{place}.png"))
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 6] = b"\x5a" * (4096 * 3)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("my notes\n" * 20), "not a record of blemish"),
        (lambda path: path.write_text("time,file"), "not a record of blemish"),
        (foreign, "a database of another program"),
        (newer, "a record of a newer version of blemish"),
        (of_inspect, "a record of `blemish inspect`"),
        (damaged, "damaged"),
    ],
)
def test_what_cannot_be_gone_on_with_is_named_and_left_as_it_is(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "r.sqlite"
    make(path)
    content = path.read_bytes()
    with pytest.raises(DataError, match=rf"r\.sqlite: .*{re.escape(message)}|r\.sqlite: {re.escape(message)}"):
        Record.open(path, WATCH).__enter__()
    assert path.read_bytes() == content


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none/r.sqlite", "its folder does not exist"), (tmp_path, "a folder; give")):
        with pytest.raises(DataError, match=message):
            Record.open(path, WATCH).__enter__()


def test_one_at_a_time_writes_it_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.sqlite").symlink_to(tmp_path / "r.sqlite")
    with Record.open(tmp_path / "r.sqlite", WATCH):
        for name in ("r.sqlite", "link.sqlite"):
            with pytest.raises(DataError, match="another process is writing the record"):
                Record.open(tmp_path / name, WATCH).__enter__()
    with Record.open(tmp_path / "r.sqlite", WATCH):
        pass


@pytest.mark.parametrize(
    ("change", "kept"),
    [(lambda path: path.rename(path.with_name("old.sqlite")), ["a.png"]), (Path.unlink, [])],
    ids=["moved", "deleted"],
)
def test_one_that_is_moved_away_is_begun_again(
    tmp_path: Path, change: Callable[[Path], object], kept: list[str]
) -> None:
    path = tmp_path / "r.sqlite"
    with Record.open(path, WATCH) as record:
        record.add(decision("a.png"))
        change(path)
        record.add(decision("b.png"))
    assert [row["image_path"] for row in recorded(path)] == ["b.png"]
    assert [row["image_path"] for row in recorded(tmp_path / "old.sqlite")] == kept


def test_several_threads_write_it(tmp_path: Path) -> None:
    with Record.open(tmp_path / "r.sqlite", WATCH) as record:
        threads = [
            threading.Thread(target=lambda k=k: [record.add(decision(f"{k}-{i}.png")) for i in range(10)])  # type: ignore[misc]
            for k in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [row["id"] for row in recorded(tmp_path / "r.sqlite")] == list(range(1, 41))


@pytest.mark.parametrize("content", [b"x", b"mine\n", bytes(50)])
def test_a_small_file_of_others_is_no_empty_record(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"r\.sqlite"), Record.open(path, {WRITTEN_BY: "watch"}):
        pass
    assert path.read_bytes() == content
