"""The watch over the line: alarms in the store, what they do to the queue, and what pages say of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from blemish.data.folder import ID_DIGITS
from blemish.data.photo_values import PHOTO_VALUES
from blemish.errors import SettingsError
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.monitor_state import Alarm, default_state_path, write_state
from blemish.inference.predictor import Prediction
from blemish.inspection.monitor_bets import Watch as Bets
from blemish.station import queue, state
from blemish.station.app import Station, make_app
from blemish.station.database import Database
from blemish.station.drift import LineWatch, set_drift
from blemish.station.folder import StationFolder, sha256_of
from blemish.station.intake import Inbox
from blemish.station.judge import Judged, commit
from blemish.station.tables import DriftAlarm, Entry, Model, Product, Watch
from blemish.station.trail import verify_trail
from station.browser import visit
from station.line import Line, picture, set_up_line

N = 60


@pytest.fixture
def line(database: Database, folder: StationFolder, onnx_file: Path) -> Line:
    """A line whose model knows sixty good images."""
    made = set_up_line(database, folder, onnx_file)
    with database.write() as session:
        model = session.get_one(Model, made.model_id)
        header = ArtifactHeader.model_validate_json(model.header)
        rng = np.random.default_rng(0)
        values = {name: tuple(sorted(rng.normal(0.5, 0.02, N).tolist())) for name in PHOTO_VALUES}
        card = header.calibration.model_copy(update={"photo_values": values, "margin": 0.0})
        changed = {"calibration": card, "calibration_scores": tuple(sorted(rng.normal(0.1, 0.01, N).tolist()))}
        model.header = header.model_copy(update=changed).model_dump_json()
    return made


Decide = Callable[..., None]


@pytest.fixture
def decide(database: Database, folder: StationFolder, line: Line) -> Decide:
    """Decides some images, whose photos are as bright as told."""
    inbox, rng, made = Inbox(database, folder, draw=lambda: 1.0), np.random.default_rng(1), iter(range(10_000))

    def decide(number: int, brightness: float = 0.5) -> None:
        for place in (next(made) for _ in range(number)):
            inbox.receive(line.source_id, f"{place}.png", picture(place, side=2))
        while tasks := queue.take(database, "me"):
            for task in tasks:
                score = float(rng.normal(0.1, 0.01))
                found = Prediction(None, score, 0.5, 1.0, np.zeros((2, 2), np.float32), (2, 2), 1.0)
                values = dict(zip(PHOTO_VALUES, rng.normal(0.5, 0.02, len(PHOTO_VALUES)).tolist(), strict=True))
                values["brightness"] += brightness - 0.5
                commit(database, "me", task, Judged(found, 1.0, "", values))

    return decide


def watch(database: Database, folder: StationFolder) -> LineWatch:
    made = LineWatch(database, folder, lambda _: None)
    made._rng = np.random.default_rng(0)  # the same bets in each run
    return made


@pytest.mark.slow
def test_a_change_of_the_line_is_an_alarm_in_the_store_once(
    database: Database, folder: StationFolder, line: Line, decide: Decide
) -> None:
    over = watch(database, folder)
    decide(30)
    assert over.look() == set()
    with database.read() as session:
        assert session.scalars(select(DriftAlarm)).all() == []
        assert session.scalars(select(Watch.images)).one() == 30
    decide(30, brightness=0.7)
    over.look()
    decide(5, brightness=0.7)
    over.look()
    with database.read() as session:
        alarm = session.scalars(select(DriftAlarm)).one()
        entry = session.get_one(Entry, alarm.trail_seq)
        assert verify_trail(session).problem is None
    assert (alarm.stream, alarm.product_id, alarm.model_id) == ("brightness", line.product_id, line.model_id)
    assert alarm.usual == pytest.approx(0.5, abs=0.01)
    assert 0.55 < alarm.found < 0.75  # the median of the last twenty
    assert (entry.action, entry.actor, entry.subject) == ("drift", "station", "disc")


def test_what_the_model_was_fitted_on_is_not_watched(
    database: Database, folder: StationFolder, line: Line, decide: Decide
) -> None:
    with database.write() as session:
        model = session.get_one(Model, line.model_id)
        header = ArtifactHeader.model_validate_json(model.header)
        fitted = tuple(sha256_of(picture(place, side=2))[:ID_DIGITS] for place in range(30))
        card = header.data_card.model_copy(update={"fit_ids": fitted})
        model.header = header.model_copy(update={"data_card": card}).model_dump_json()
    over = watch(database, folder)
    decide(30, brightness=0.7)
    over.look()
    decide(1)
    over.look()
    over.save()
    with database.read() as session:
        assert session.scalars(select(DriftAlarm)).all() == []
        assert session.scalars(select(Watch.images)).one() == 1


def alarm_beside(database: Database, folder: StationFolder, line: Line) -> None:
    with database.read() as session:
        model = session.get_one(Model, line.model_id)
    header = ArtifactHeader.model_validate_json(model.header)
    alarm = Alarm(stream="sharpness", images=9, image="a.png", usual=0.5, now=0.4)
    kept = Bets(header, None, None).to_state().model_copy(update={"alarms": (alarm,)})
    write_state(default_state_path(folder.model_path(model.sha256)), kept)


def test_alarms_that_the_database_does_not_take_are_raised_once_it_does(
    database: Database, folder: StationFolder, line: Line, decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = watch(database, folder)
    alarm_beside(database, folder, line)
    decide(30, brightness=0.7)

    def fails(_self: Database) -> None:
        raise OperationalError("", {}, Exception("database is locked"))

    with monkeypatch.context() as patched:
        patched.setattr(Database, "write", fails)
        for _ in range(2):
            with pytest.raises(OperationalError):
                over.look()
    over.look()
    with database.read() as session:
        assert sorted(session.scalars(select(DriftAlarm.stream))) == ["brightness", "sharpness"]


def test_a_watch_goes_on_where_it_was_kept(
    database: Database, folder: StationFolder, line: Line, decide: Decide
) -> None:
    first = watch(database, folder)
    decide(10)
    first.look()
    decide(4)
    first.look()  # within the seconds in which nothing is kept
    decide(3)
    second = watch(database, folder)  # the first one was killed
    second.look()
    second.save()
    with database.read() as session:
        assert session.scalars(select(Watch.images)).one() == 17


@pytest.mark.slow
def test_images_wait_after_an_alarm_where_the_product_says_so(
    database: Database, folder: StationFolder, line: Line, decide: Decide
) -> None:
    set_drift(database, "eva", line.product_id, stops=True, smallest_change=0.0, reason="no guarantee, no parts")
    over = watch(database, folder)
    decide(60, brightness=0.7)
    assert over.look() == {line.product_id}
    Inbox(database, folder).receive(line.source_id, "next.png", picture(99_999, side=2))
    assert queue.take(database, "me") == []
    with database.read() as session:
        promise = state.promise_of(session, session.get_one(Product, line.product_id))
    assert promise is not None
    assert (promise.waiting, [alarm.stream for alarm in promise.alarms]) == (1, ["brightness"])
    set_drift(database, "eva", line.product_id, stops=False, smallest_change=0.0, reason="the shift must go on")
    assert [task.name for task in queue.take(database, "me")] == ["next.png"]


def test_the_setting_is_an_entry_with_a_reason(database: Database, line: Line) -> None:
    for change, reason in ((1.0, "a reason"), (-0.1, "a reason"), (float("nan"), "a reason"), (0.1, " ")):
        with pytest.raises(SettingsError):
            set_drift(database, "eva", line.product_id, stops=True, smallest_change=change, reason=reason)
    set_drift(database, "eva", line.product_id, stops=True, smallest_change=0.1, reason="lamps age")
    with database.read() as session:
        entry = session.scalars(select(Entry).where(Entry.action == "drift setting")).one()
        assert session.scalars(select(Product.stops_when_withdrawn)).one() is True
    assert '"reason":"lamps age"' in entry.detail


def test_a_change_that_is_said_to_be_none_raises_no_alarm(
    database: Database, folder: StationFolder, line: Line, decide: Decide
) -> None:
    set_drift(database, "eva", line.product_id, stops=False, smallest_change=0.6, reason="lamps age")
    decide(60, brightness=0.7)
    assert watch(database, folder).look() == set()
    with database.read() as session:
        assert session.scalars(select(DriftAlarm)).all() == []


def test_an_alarm_of_the_command_line_counts_too(
    database: Database, folder: StationFolder, line: Line, decide: Decide
) -> None:
    alarm_beside(database, folder, line)
    watch(database, folder).look()
    with database.read() as session:
        assert session.scalars(select(DriftAlarm.stream)).all() == ["sharpness"]


@pytest.mark.slow
def test_a_model_that_does_not_know_its_photos_is_not_watched_and_that_is_said(
    sqlite: Database, folder: StationFolder, onnx_file: Path
) -> None:
    made = set_up_line(sqlite, folder, onnx_file)
    with sqlite.write() as session:
        model = session.get_one(Model, made.model_id)
        header = ArtifactHeader.model_validate_json(model.header)
        card = header.calibration.model_copy(update={"photo_values": {}})
        model.header = header.model_copy(update={"calibration": card}).model_dump_json()
    watch(sqlite, folder).look()
    who = visit(Station(sqlite, folder), make_app(Station(sqlite, folder)), "viewer")
    text = who.client.get("/").text
    assert "Drift is not watched" in text
    assert "does not say how bright" in text
