"""What the store keeps, on SQLite and on PostgreSQL."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, func, inspect, select, text, update

from blemish.data.photo_values import PHOTO_VALUES
from blemish.errors import DataError, SettingsError
from blemish.inference.predictor import Predictor
from blemish.inspection.decisions import now
from blemish.station import queue
from blemish.station.accounts import add_user, change_user
from blemish.station.database import Database, _engine, migrate, open_database
from blemish.station.folder import StationFolder
from blemish.station.intake import Inbox
from blemish.station.judge import Judge, Judged, commit, keep_map, load_map
from blemish.station.products import add_product, product_named
from blemish.station.tables import Base, Decision, Entry, Image, Job, Model, Product, Source, Tally, User
from blemish.station.trail import STATION, append, decision_detail, verify_trail
from station.line import Line, picture, set_up_line

Receive = Callable[..., int]


@pytest.fixture
def line(database: Database, folder: StationFolder, onnx_file: Path) -> Line:
    return set_up_line(database, folder, onnx_file)


def judge_all(database: Database, folder: StationFolder) -> list[int]:
    judge = Judge(folder, threads=1)
    tasks = queue.take(database, "me")
    return [commit(database, "me", task, judge.judge(task)) or 0 for task in tasks]


def test_migrations_lead_to_the_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_product_is_called_as_in_a_fleet_and_older_ones_keep_their_names(database: Database, line: Line) -> None:
    for name, said in (("a/b", "has '/' in its name"), ("..", "begins with a dot"), ("Disc", "there is one of that")):
        with pytest.raises(SettingsError, match=f"product '{name}'.* {said}.*; give another"):
            add_product(database, "test", name)
    with database.write() as session:
        session.add_all([Product(id=number, name=name, created_at=now()) for number, name in ((8, "a/b"), (9, "DISC"))])
    assert [product_named(database, "test", name) for name in ("a/b", "DISC")] == [8, 9]


def test_migrations_keep_what_is_in_the_tables(database_url: str, folder: StationFolder) -> None:
    first = Database(_engine(database_url))
    migrate(first.engine, "0001")
    tables = MetaData()
    tables.reflect(first.engine)
    assert "hooks" not in tables.tables
    decision = Decision(id=1, image_id=1, product_id=1, image_path="a.png", image_sha256="1" * 64, model_id=1)
    decision.model_sha256, decision.score, decision.p_value, decision.threshold = "0" * 64, 0.5, 0.5, 1.0
    decision.verdict, decision.message, decision.regions, decision.latency_ms = "good", "", "[]", 1.0
    decision.decided_at = now()
    with first.write() as session:
        decision.trail_seq = append(session, STATION, "decision", 1, decision_detail(decision))
        for row in (
            Product(id=1, name="disc", audit_rate=0.02, created_at=now()),
            Model(
                id=1,
                product_id=1,
                sha256="0" * 64,
                name="m.onnx",
                header="{}",
                parity="",
                created_at=now(),
                created_by="eva",
            ),
            Source(id=1, product_id=1, kind="upload", path="", is_on=True, trouble=""),
            Image(
                id=1,
                product_id=1,
                source_id=1,
                name="a.png",
                sha256="1" * 64,
                suffix=".png",
                size_bytes=3,
                received_at=now(),
                is_audit=False,
            ),
            decision,
        ):
            table = tables.tables[row.__tablename__]
            values = {one.name: told for one in table.columns if (told := getattr(row, one.name, None)) is not None}
            session.execute(table.insert().values(values))
    first.close()
    again = open_database(database_url, folder.id)
    assert "hooks" in inspect(again.engine).get_table_names()
    with again.read() as session:
        assert session.scalar(select(Decision.image_path)) == "a.png"
        assert session.scalars(select(Tally.images)).all() == [1]  # counted from the decisions
        assert verify_trail(session).problem is None
    again.close()


def test_two_stations_that_start_at_once_both_find_the_tables(database_url: str, folder: StationFolder) -> None:
    opened: list[Database | Exception] = []

    def start() -> None:
        try:
            opened.append(open_database(database_url, folder.id))
        except Exception as error:
            opened.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one for one in opened if not isinstance(one, Database)] == []
    for one in opened:
        one.close()


def test_one_writer_at_a_time(database: Database) -> None:
    """So the last administrator stays one, whatever two people do at the same moment."""
    boss, other = (add_user(database, "test", name, "correct horse", "administrator") for name in ("boss", "other"))

    def demote() -> None:
        with pytest.raises(SettingsError, match="the last administrator"):
            change_user(database, "test", other, role="viewer")

    with ThreadPoolExecutor(1) as pool:
        with database.write() as session:
            session.get_one(User, boss).role = "viewer"
            session.flush()
            second = pool.submit(demote)
            time.sleep(0.1)
            assert not second.done()
        second.result()


def test_a_database_of_another_station_is_refused(database: Database, database_url: str) -> None:
    with pytest.raises(DataError, match="another station"):
        open_database(database_url, "other")


def test_a_newer_database_is_refused(database: Database, database_url: str, folder: StationFolder) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DataError, match=r"newer version \(migration 9999\); upgrade blemish"):
        open_database(database_url, folder.id)


def test_a_database_with_other_tables_is_refused(database_url: str, folder: StationFolder) -> None:
    from blemish.station.database import _engine

    engine = _engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE customers (id INTEGER)"))
    engine.dispose()
    with pytest.raises(DataError, match=r"other tables \(customers\)"):
        open_database(database_url, folder.id)


@pytest.mark.parametrize("address", ["mysql://root@localhost/x", "nonsense"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match="--database"):
        open_database(address, "")


def test_a_server_that_is_not_there_is_one_line() -> None:
    with pytest.raises(DataError, match=r"postgresql.*:1/none: cannot be used") as caught:
        open_database("postgresql://me:secret@127.0.0.1:1/none", "")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_image_is_taken_in_once(database: Database, line: Line, receive: Receive) -> None:
    first = receive(line.source_id, "a.png", picture(1))
    assert receive(line.source_id, "a.png", picture(1)) == first
    assert receive(line.source_id, "a.png", picture(2)) != first
    assert receive(line.source_id, "b.png", picture(1)) != first
    assert queue.waiting(database) == 3


def test_an_image_is_taken_in_once_by_several_at_a_time(database: Database, folder: StationFolder, line: Line) -> None:
    content, got = picture(1), []
    inbox = Inbox(database, folder)
    threads = [
        threading.Thread(target=lambda: got.append(inbox.receive(line.source_id, "a.png", content))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 6
    assert len({one.image_id for one in got}) == 1
    assert sum(one.is_new for one in got) == 1


@pytest.mark.parametrize("name", ["a.exe", "x" * 1001 + ".png", "a\0.png"])
def test_a_name_that_is_none_is_refused(database: Database, line: Line, receive: Receive, name: str) -> None:
    with pytest.raises(DataError):
        receive(line.source_id, name, picture(1))
    assert queue.waiting(database) == 0


def test_a_decision_names_image_model_threshold_verdict_and_time(
    database: Database, folder: StationFolder, line: Line, receive: Receive, onnx_file: Path, tmp_path: Path
) -> None:
    image_id = receive(line.source_id, "day/a.png", picture(1))
    judge_all(database, folder)
    with database.read() as session:
        decision = session.scalars(select(Decision)).one()
        image = session.get(Image, image_id)
        entry = session.get(Entry, decision.trail_seq)
    (tmp_path / "a.png").write_bytes(picture(1))
    predictor = Predictor.load(onnx_file, threads=1)
    prediction = predictor.predict(tmp_path / "a.png")
    assert (decision.score, decision.p_value) == (prediction.score, prediction.p_value)
    assert decision.threshold == predictor.threshold
    assert decision.verdict == ("anomalous" if prediction.is_anomalous else "good")
    assert image is not None
    assert entry is not None
    assert (decision.image_path, decision.image_sha256) == ("day/a.png", image.sha256)
    assert json.loads(entry.detail)["model_sha256"] == decision.model_sha256
    assert bool(json.loads(decision.regions)) == prediction.is_anomalous
    assert queue.waiting(database) == 0


def test_decisions_are_counted_as_they_are_made(
    database: Database, folder: StationFolder, line: Line, receive: Receive
) -> None:
    for seed in range(3):
        receive(line.source_id, f"{seed}.png", picture(seed))
    receive(line.source_id, "none.png", b"no image")
    judge_all(database, folder)
    with database.read() as session:
        decided = session.execute(select(Decision.verdict, func.count()).group_by(Decision.verdict)).all()
        tallied = session.execute(select(Tally.verdict, func.sum(Tally.images)).group_by(Tally.verdict)).all()
        values = [json.loads(text) for text in session.scalars(select(Decision.photo_values).order_by(Decision.id))]
    assert sorted(map(tuple, decided)) == sorted(map(tuple, tallied))
    assert all(set(one) == set(PHOTO_VALUES) for one in values[:3])
    assert values[3] == {}


def test_a_threshold_of_the_product_is_the_one_that_judges(
    database: Database, folder: StationFolder, line: Line, receive: Receive
) -> None:
    receive(line.source_id, "a.png", picture(1))
    with database.write() as session:
        session.execute(update(Product).values(threshold=1e9))
    judge_all(database, folder)
    with database.read() as session:
        decision = session.scalars(select(Decision)).one()
    assert (decision.threshold, decision.verdict) == (1e9, "good")


def test_what_is_no_image_is_decided_to_be_unreadable(
    database: Database, folder: StationFolder, line: Line, receive: Receive
) -> None:
    receive(line.source_id, "broken.png", picture(1)[:500])
    judge_all(database, folder)
    with database.read() as session:
        decision = session.scalars(select(Decision)).one()
    assert (decision.verdict, decision.score) == ("unreadable", None)
    assert decision.message.startswith("broken.png: ")


@pytest.mark.parametrize("left", [b"", b"PK", b"half"])
def test_a_map_that_is_damaged_is_none(folder: StationFolder, left: bytes) -> None:
    keep_map(folder, 1, np.ones((8, 8), np.float32))
    path = folder.map_path(1)
    assert load_map(path) is not None
    path.write_bytes(path.read_bytes()[:100] if left == b"half" else left)
    assert load_map(path) is None


def test_an_image_that_was_changed_in_the_folder_is_not_judged(
    database: Database, folder: StationFolder, line: Line, receive: Receive
) -> None:
    receive(line.source_id, "a.png", picture(1))
    (kept,) = (folder.root / "images").rglob("*.png")
    kept.write_bytes(picture(2))
    judge_all(database, folder)
    with database.read() as session:
        decision = session.scalars(select(Decision)).one()
    assert decision.verdict == "unreadable"
    assert "changed since it came" in decision.message


def test_a_lease_is_one_workers_until_it_ends(
    database: Database, line: Line, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        receive(line.source_id, f"{seed}.png", picture(seed))
    first = queue.take(database, "one", limit=2)
    second = queue.take(database, "two", limit=2)
    assert [task.name for task in first + second] == ["0.png", "1.png", "2.png"]
    assert queue.take(database, "two") == []
    later = time.time() + queue.LEASE_S + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert len(queue.take(database, "two")) == 3


def test_a_worker_that_waited_for_the_database_takes_no_lease_that_began_meanwhile(
    database: Database, line: Line, receive: Receive, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(2):
        receive(line.source_id, f"{seed}.png", picture(seed))
    begun = time.time()
    monkeypatch.setattr(time, "time", lambda: begun + 5)
    (first,) = queue.take(database, "one", limit=1)
    monkeypatch.setattr(time, "time", lambda: begun)
    assert [task.name for task in queue.take(database, "two", limit=2)] == ["1.png"]
    assert first.name == "0.png"


def test_who_lost_the_lease_decides_nothing(
    database: Database, folder: StationFolder, line: Line, receive: Receive
) -> None:
    receive(line.source_id, "a.png", picture(1))
    (task,) = queue.take(database, "one")
    queue.release_all(database, "one")
    queue.take(database, "two")
    assert commit(database, "one", task, Judged(None, 1.0, "late")) is None
    assert commit(database, "two", task, Judged(None, 1.0, "in time")) is not None
    with database.read() as session:
        assert session.scalars(select(Decision.message)).all() == ["in time"]


def test_several_at_a_time_take_every_image_once(database: Database, line: Line, receive: Receive) -> None:
    for seed in range(12):
        receive(line.source_id, f"{seed}.png", picture(seed, side=8))
    taken: list[int] = []

    def work(owner: str) -> None:
        while tasks := queue.take(database, owner, limit=2):
            taken.extend(task.image_id for task in tasks)
            for task in tasks:
                commit(database, owner, task, Judged(None, 1.0))

    threads = [threading.Thread(target=work, args=(f"worker {number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 12
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Decision)) == 12
        assert verify_trail(session).problem is None


def test_an_image_that_ends_the_worker_again_and_again_comes_last_and_is_given_up(
    database: Database, folder: StationFolder, line: Line, receive: Receive
) -> None:
    receive(line.source_id, "bomb.png", picture(1))
    receive(line.source_id, "good.png", picture(2))
    with database.write() as session:
        session.execute(update(Job).where(Job.image_id == 1).values(attempts=queue.MAX_ATTEMPTS))
    judge_all(database, folder)
    with database.read() as session:
        rows = session.execute(select(Decision.image_path, Decision.verdict).order_by(Decision.id)).all()
    assert rows[0][0] == "good.png"
    assert tuple(rows[1]) == ("bomb.png", "unreadable")


def test_without_a_model_images_wait(database: Database, folder: StationFolder, line: Line, receive: Receive) -> None:
    receive(line.source_id, "a.png", picture(1))
    with database.write() as session:
        session.execute(update(Product).values(model_id=None))
    assert queue.take(database, "me") == []
    assert queue.waiting(database) == 1


def test_the_trail_holds_and_names_the_first_entry_that_was_changed(
    database: Database, folder: StationFolder, line: Line, receive: Receive
) -> None:
    for seed in range(4):
        receive(line.source_id, f"{seed}.png", picture(seed))
    judge_all(database, folder)
    with database.read() as session:
        whole = verify_trail(session)
        assert whole.problem is None
        assert whole.entries == session.scalar(select(func.count()).select_from(Entry))
    attacks = {
        "UPDATE trail SET actor = 'nobody' WHERE seq = 4": r"entry 4 was changed",
        "DELETE FROM decisions WHERE trail_seq = 5": r"entries 'decision' in the trail: 4; rows of the table: 3",
        "UPDATE decisions SET verdict = 'good', score = 0 WHERE trail_seq = 6": r"decision 3 was changed: entry 6",
        "UPDATE decisions SET is_known = true WHERE trail_seq = 6": r"decision 3 was changed: entry 6",
    }
    for attack, problem in attacks.items():
        with database.write() as session:
            session.execute(text(attack))
            found = verify_trail(session)
            session.rollback()
        assert found.problem is not None
        assert problem in found.problem


def test_a_trail_that_was_cut_off_at_its_end_misses_the_noted_head(database: Database) -> None:
    with database.write() as session:
        for number in range(3):
            append(session, "me", "act", number, {"number": number})
    with database.read() as session:
        head = verify_trail(session).head
    with database.write() as session:
        append(session, "me", "act", "later", {})
    with database.read() as session:
        assert verify_trail(session, head).problem is None
    with database.write() as session:
        session.execute(text("DELETE FROM trail WHERE seq >= 3"))
    with database.read() as session:
        assert verify_trail(session).problem is None
        assert "cut off" in str(verify_trail(session, head).problem)


def test_an_entry_left_out_is_named(database: Database) -> None:
    with database.write() as session:
        for number in range(4):
            append(session, "me", "act", number, {})
        session.execute(text("DELETE FROM trail WHERE seq = 2"))
        assert verify_trail(session)[::2] == (1, "entry 2 is missing")
