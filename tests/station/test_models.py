"""Models that are made and compared at a station: recalibration, training, challenge, the shadow."""

import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from blemish.data.folder import ID_DIGITS
from blemish.data.progress import Progress
from blemish.errors import CalibrationError, DataError, SettingsError
from blemish.inference.overlay import encode
from blemish.inference.predictor import Predictor
from blemish.inspection.decisions import now
from blemish.station import queue, reviews, run_kinds, runs, shadow
from blemish.station.app import Station
from blemish.station.database import Database
from blemish.station.drift import alarms_of
from blemish.station.folder import StationFolder, keep_content
from blemish.station.judge import Judge
from blemish.station.kept_images import Own, confirmed_good, own_images, put_images
from blemish.station.products import add_product, go_live, header_of_model
from blemish.station.recalibrate import propose
from blemish.station.tables import DriftAlarm, Entry, Image, Model, Product, Run, Shadow, Source
from blemish.station.trail import verify_trail
from blemish.station.words import Say
from conftest import draw_part
from station.browser import PASSWORD, judge_all, visit
from station.line import Line, picture
from station.waiting import WITHIN_S, wait_until

Arrive = Callable[..., list[int]]


@pytest.fixture
def arrive(station: Station, line: Line) -> Arrive:
    """Drawn parts come, all into the audit lane unless told otherwise, and are judged by the model."""
    rng = np.random.default_rng(7)

    def arrive(number: int, audit_rate: float = 1.0, defect: bool = False) -> list[int]:
        with station.database.write() as session:
            session.execute(update(Product).values(audit_rate=audit_rate))
        found = []
        for _ in range(number):
            content = encode(np.asarray(draw_part(rng, defect=defect)[0].convert("RGB")), "PNG")
            name = f"part-{rng.integers(1 << 40)}.png"
            found.append(station.inbox.receive(line.source_id, name, content).image_id)
        judge_all(station)
        return found

    return arrive


def say(station: Station, images: list[int], judgement: str, *, is_audit: bool = True) -> None:
    for image_id in images:
        reviews.give_verdict(station.database, "eva", image_id, judgement, is_audit=is_audit)


def perform(station: Station, kind: str, asked: dict[str, object], product_id: int) -> Run:
    """A run in this process."""
    with station.database.write() as session:
        run = Run(product_id=product_id, kind=kind, asked=json.dumps(asked), state="waiting", actor="eva")
        run.created_at = now()
        session.add(run)
        session.flush()
    runs.perform(station.database, station.folder, run.id)
    with station.database.read() as session:
        return session.get_one(Run, run.id)


def test_only_what_the_audit_lane_confirmed_recalibrates(station: Station, line: Line, arrive: Arrive) -> None:
    good, other = arrive(4), arrive(3)
    rejects = arrive(3, audit_rate=0.0)
    say(station, good, "good")
    say(station, other[:1], "unsure")
    say(station, other[1:2], "defective")
    say(station, rejects, "good", is_audit=False)  # called false alarms in the review
    say(station, good[:1], "defective", is_audit=False)  # disputed since
    with station.database.read() as session:
        assert [image.id for image in confirmed_good(session, line.product_id, "")] == good[1:]
        assert confirmed_good(session, line.product_id, now()) == []


@pytest.mark.slow
def test_a_recalibration_goes_live_by_hand_and_is_taken_back(
    station: Station, app: FastAPI, line: Line, arrive: Arrive
) -> None:
    who = visit(station, app, "engineer")
    assert "Not yet" in who.client.get("/recalibrate").text
    say(station, arrive(30), "good")
    with station.database.read() as session:
        before = header_of_model(session.get_one(Model, line.model_id))
        proposal = propose(session, session.get_one(Product, line.product_id))
    assert proposal is not None
    assert (len(proposal.images), proposal.is_added, proposal.helps) == (30, True, True)
    n = len(before.calibration_scores)
    assert (proposal.smallest_before, proposal.smallest_after) == pytest.approx((1 / (n + 1), 1 / (n + 31)))
    page = who.client.get("/recalibrate").text
    assert "It helps" in page
    assert "would guarantee nothing" in page  # why rejects do not count
    run = perform(station, "recalibrate", {"max_false_alarm_rate": 0.05}, line.product_id)
    assert run.state == "done", run.result
    result = json.loads(run.result)
    with station.database.read() as session:
        model = session.get_one(Model, result["model_id"])
        after = header_of_model(model)
        assert session.scalars(select(Product.model_id)).one() == line.model_id  # nothing has changed yet
    assert (after.max_false_alarm_rate, len(after.calibration_scores)) == (0.05, n + 30)
    assert (result["images"], result["after"]["n"], result["last"]) == (30, n + 30, 30)
    assert result["after"]["flagged"] <= result["before"]["flagged"] + 30
    assert "30 images of the audit lane" in model.origin
    page = who.client.get("/recalibrate").text
    assert "Let it judge" in page
    form = {"csrf": who.csrf, "model_id": model.id, "reason": "more images", "password": PASSWORD}
    gone = who.client.post("/products/live", data={**form, "back": "/recalibrate"})
    assert gone.headers["location"] == f"/recalibrate?product={line.product_id}&noted=true"
    page = who.client.get(gone.headers["location"]).text
    assert ("Take it back" in page, "It is noted" in page) == (True, True)
    back = who.client.post("/products/live", data={**form, "model_id": line.model_id, "reason": "worse than before"})
    assert back.status_code == 303
    with station.database.read() as session:
        assert session.scalars(select(Product.model_id)).one() == line.model_id
        reasons = [json.loads(one)["reason"] for one in session.scalars(_entries("live"))]
        assert verify_trail(session).problem is None
    assert reasons[-2:] == ["more images", "worse than before"]


def _entries(action: str) -> object:
    return select(Entry.detail).where(Entry.action == action).order_by(Entry.seq)


@pytest.mark.slow
def test_after_an_alarm_only_images_that_came_later_count(station: Station, line: Line, arrive: Arrive) -> None:
    say(station, arrive(5), "good")
    with station.database.write() as session:
        alarm = DriftAlarm(product_id=line.product_id, model_id=line.model_id, stream="score", usual=1.0)
        alarm.found, alarm.images, alarm.image, alarm.raised_at, alarm.trail_seq = 2.0, 5, "a.png", now(), 1
        session.add(alarm)
    late = arrive(24)
    say(station, late, "good")
    with station.database.read() as session:
        proposal = propose(session, session.get_one(Product, line.product_id))
    assert proposal is not None
    assert ([image.id for image in proposal.images], proposal.is_added, proposal.helps) == (late, False, True)
    run = perform(station, "recalibrate", {}, line.product_id)
    assert run.state == "done", run.result
    with station.database.write() as session:
        model = session.get_one(Model, json.loads(run.result)["model_id"])
        assert len(header_of_model(model).calibration_scores) == 24
        product = session.get_one(Product, line.product_id)
        product.model_id = model.id
        assert alarms_of(session, product) == []  # the guarantee stands again


@pytest.mark.slow
def test_the_same_picture_twice_counts_once(station: Station, line: Line, arrive: Arrive) -> None:
    images = arrive(20)
    with station.database.read() as session:
        first = session.get_one(Image, images[0])
    content = station.folder.image_path(first.sha256, first.suffix).read_bytes()
    bmp = encode(np.asarray(_decoded(content)), "BMP")
    again = station.inbox.receive(line.source_id, "again.bmp", bmp).image_id
    judge_all(station)
    say(station, [*images, again], "good")
    run = perform(station, "recalibrate", {}, line.product_id)
    assert run.state == "done", run.result
    result = json.loads(run.result)
    assert result["images"] == 20
    assert result["left_out"] == {"again.bmp": "the same picture as one that counts already"}


def _decoded(content: bytes) -> object:
    import io

    from PIL import Image as Pillow

    return Pillow.open(io.BytesIO(content))


def test_without_images_a_recalibration_says_so(station: Station, line: Line) -> None:
    run = perform(station, "recalibrate", {}, line.product_id)
    assert (run.state, "no new image was confirmed good" in run.result) == ("failed", True)
    with pytest.raises(DataError, match="none that waits"):
        runs.perform(station.database, station.folder, run.id)
    with pytest.raises(DataError, match="none that waits"):
        runs.perform(station.database, station.folder, 99)


def test_images_go_into_a_folder_under_names_that_lead_nowhere_else(station: Station, tmp_path: Path) -> None:
    names = ["../../evil.png", "3-part.png", "a/part.png", "b/part.png", "c\\part.png", "x" * 900 + ".png", ".h.png"]
    images = [Image(id=place, name=name, sha256=f"{place:064}", suffix=".png") for place, name in enumerate(names)]
    for image in images:
        keep_content(station.folder.image_path(image.sha256, ".png"), image.name.encode())
    removed = Image(id=9, name="removed.png", sha256="9" * 64, suffix=".png")
    placed = put_images(station.folder, [*images, removed], tmp_path / "good")
    kept = ["evil.png", "3-part.png", "part.png", "3-3-part.png", "4-part.png", "5-.png", "6-.h.png"]
    assert list(placed) == kept
    assert sorted(path.name for path in (tmp_path / "good").iterdir()) == sorted(kept)
    for image in images:  # no other's content was written through a link
        assert station.folder.image_path(image.sha256, ".png").read_bytes() == image.name.encode()


def test_a_model_is_challenged_on_no_image_that_it_was_fitted_on(
    station: Station, line: Line, arrive: Arrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = arrive(3)
    say(station, numbers, "good")
    with station.database.write() as session:
        images = session.scalars(select(Image).order_by(Image.id)).all()
        fitted, unseen = images[:2], images[2].name
        header = header_of_model(session.get_one(Model, line.model_id))
        card = header.data_card.model_copy(update={"fit_ids": tuple(one.sha256[:ID_DIGITS] for one in fitted)})
    placed = list[str]()
    monkeypatch.setattr(Predictor, "load", lambda *_: SimpleNamespace(header=SimpleNamespace(data_card=card)))
    monkeypatch.setattr(run_kinds, "put_images", lambda _, images, __: placed.extend(one.name for one in images))
    run = perform(station, "challenge", {"model_id": line.model_id}, line.product_id)
    assert placed == [unseen]
    assert "fitted on every image" in run.result


def test_one_run_at_a_time_and_a_dead_one_is_called_failed(
    station: Station, app: FastAPI, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "start", lambda *_: None)
    who = visit(station, app, "engineer")
    first = who.client.post("/recalibrate", data={"csrf": who.csrf, "product_id": line.product_id})
    assert first.headers["location"] == "/runs/1"
    (runs.out_of(station.folder, 1) / "log.txt").touch()  # as its process does at its beginning
    second = who.client.post("/recalibrate", data={"csrf": who.csrf, "product_id": line.product_id, "rate": "20"})
    assert (second.status_code, "run 1 is not done yet" in second.text) == (422, True)
    assert "begins" in who.client.get("/runs/1").text
    monkeypatch.setattr(runs, "START_S", -1.0)
    assert "its process was ended" in who.client.get("/runs/1").text
    assert who.client.get("/runs/1/state").json()["state"] == "failed"
    for rate in ("0", "100", "x", "nan"):
        form = {"csrf": who.csrf, "product_id": line.product_id, "rate": rate}
        assert who.client.post("/recalibrate", data=form).status_code == 422, rate


def test_a_run_that_has_not_begun_yet_is_not_taken_for_dead(
    station: Station, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_before(database: Database, folder: StationFolder, run_id: int) -> None:
        runs.settle(database, folder)  # as every page does that shows runs
        with database.read() as session:
            assert session.get_one(Run, run_id).state == "waiting"

    monkeypatch.setattr(runs, "start", look_before)
    runs.begin(station.database, station.folder, "eva", line.product_id, "recalibrate", {})


def test_a_run_is_cancelled_also_where_the_database_was_away_meanwhile(
    station: Station, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "start", lambda *_: None)
    monkeypatch.setattr(runs, "LOOK_EVERY_S", 0.01)
    run_id = runs.begin(station.database, station.folder, "eva", line.product_id, "recalibrate", {})
    with station.database.write() as session:
        session.get_one(Run, run_id).is_cancelled = True
    over, away = threading.Event(), iter([True, True, False])
    real = station.database.read

    def read() -> AbstractContextManager[Session]:
        if next(away, False):
            raise OperationalError("", {}, sqlite3.OperationalError("database is locked"))
        return real()

    monkeypatch.setattr(station.database, "read", read)
    monkeypatch.setattr(os, "_exit", lambda _code: over.set())
    doing = runs.Doing(station.database, station.folder, line.product_id, "eva", {}, tmp_path)
    (doing.images / "sub").mkdir(parents=True)
    runs._end_when_cancelled(doing, run_id, over)
    with real() as session:
        assert session.get_one(Run, run_id).state == "cancelled"
    assert not doing.images.exists()


def test_what_is_missing_for_training_is_said_with_what_to_install(
    station: Station, app: FastAPI, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run_kinds.KINDS, "train", run_kinds.KINDS["train"]._replace(needs=("no_such_torch",)))
    who = visit(station, app, "administrator")
    assert "no_such_torch is not installed" in who.client.get(f"/train?product={line.product_id}").text.replace(
        "\n", " "
    )
    form = {"csrf": who.csrf, "product_id": line.product_id, "name": "new", "path": str(tmp_path)}
    answer = who.client.post("/products/train", data=form)
    assert answer.status_code == 422
    assert "pip install" in answer.text


def test_engineers_train_on_folders_of_sources_and_nowhere_else(
    station: Station, app: FastAPI, line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blemish.station.products import add_folder

    monkeypatch.setattr(runs, "start", lambda *_: None)
    watched, other = tmp_path / "camera" / "good", tmp_path / "other"
    for path in (watched, other):
        path.mkdir(parents=True)
    add_folder(station.database, "test", line.product_id, tmp_path / "camera")
    who, boss = visit(station, app, "engineer"), visit(station, app, "administrator")
    form = {"product_id": line.product_id, "name": "new"}
    for path in (other, tmp_path / "camera" / ".." / "other", "/etc", ""):
        refused = who.client.post("/products/train", data={**form, "csrf": who.csrf, "path": str(path)})
        assert refused.status_code == 422, path
    assert boss.client.post("/products/train", data={**form, "csrf": boss.csrf, "path": "/none"}).status_code == 422
    for name in ("", "a/b", "x" * 81):
        wrong = {**form, "name": name, "csrf": boss.csrf, "path": str(other)}
        assert boss.client.post("/products/train", data=wrong).status_code == 422, name
    assert who.client.post("/products/train", data={**form, "csrf": who.csrf, "path": str(watched)}).status_code == 303
    with station.database.read() as session:
        run = session.scalars(select(Run)).one()
    asked = {
        "path": str(watched),
        "images": "",
        "name": "new",
        "detector": "",
        "skip_bad": False,
        "roi": "",
        "ignore": "",
    }
    assert json.loads(run.asked) == asked


def test_a_run_tells_how_far_it_is(station: Station, line: Line, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, object]] = []
    who = visit(station, app, "viewer")

    def work(doing: runs.Doing) -> dict[str, object]:
        doing.say("<b>hello")
        doing.report(Progress("fitting", 3, 10, "loss 0.1"))
        seen.append(who.client.get("/runs/1/state").json())
        seen.append({"page": who.client.get("/runs/1").text})
        raise CalibrationError("too few good images")

    monkeypatch.setitem(run_kinds.KINDS, "train", runs.Kind(work))
    run = perform(station, "train", {"path": "/data"}, line.product_id)
    assert (run.state, run.result) == ("failed", "too few good images")
    assert seen[0]["progress"] == {"what": "fitting", "done": 3, "total": 10, "note": "loss 0.1"}
    assert (seen[0]["state"], seen[0]["log"]) == ("running", "<b>hello\n")
    assert "&lt;b&gt;hello" in str(seen[1]["page"])
    assert "too few good images" in who.client.get("/runs/1").text


def test_a_model_in_the_shadow_is_compared_and_decides_nothing(
    station: Station, app: FastAPI, line: Line, arrive: Arrive
) -> None:
    with station.database.write() as session:
        live = session.get_one(Model, line.model_id)
        other = Model(product_id=live.product_id, sha256=live.sha256[::-1], name="next.onnx", header=live.header)
        other.parity, other.created_at, other.created_by = "", now(), "test"
        session.add(other)
    images = arrive(6, audit_rate=0.0)
    hidden = arrive(1)
    shadow.set_shadow(station.database, "eva", line.product_id, other.id, "is it better?")

    class Other(Judge):
        def predictor(self, model_sha256: str) -> object:  # type: ignore[override]
            assert model_sha256 == other.sha256
            return super().predictor(live.sha256).with_threshold(0.0)  # calls everything anomalous

    judge = Other.__new__(Other)
    judge.__dict__.update(station.judge.__dict__)
    said: list[str] = []
    beside = shadow.ShadowJudge(station.database, station.folder, judge, said.append)
    while beside.step():
        pass
    assert said == []
    say(station, images[:2], "good", is_audit=False)
    with station.database.read() as session:
        assert len(session.scalars(select(Shadow)).all()) == 7
        found = shadow.compare(session, session.get_one(Product, line.product_id))
        verdicts = dict(session.execute(select(Image.id, Shadow.verdict).join(Shadow)).all())
    assert set(verdicts.values()) == {"anomalous"}
    assert found.both == 7
    assert sum(n for (_, theirs), n in found.table.items() if theirs == "anomalous") == 7
    assert hidden[0] not in [one.image.id for one in found.differing]
    assert found.said_good[0] == 2
    assert found.said_good[2] == 2
    with station.database.write() as session:  # one of them trained the other model, one the live one
        product = session.get_one(Product, line.product_id)
        for model_id, image_id, left in ((other.id, images[0], 1), (line.model_id, images[1], 0)):
            model = session.get_one(Model, model_id)
            header, fit_id = header_of_model(model), session.get_one(Image, image_id).sha256[:ID_DIGITS]
            card = header.data_card.model_copy(update={"fit_ids": (*header.data_card.fit_ids, fit_id)})
            model.header = header.model_copy(update={"data_card": card}).model_dump_json()
            session.flush()
            assert shadow.compare(session, product).said_good[0] == left
    who = visit(station, app, "engineer")
    page = who.client.get("/shadow").text
    assert "next.onnx" in page
    form = {"csrf": who.csrf, "product_id": line.product_id, "reason": "enough seen", "model_id": ""}
    assert who.client.post("/shadow", data={**form, "model_id": "all"}).status_code == 422  # not taken for none
    assert "No model is in the shadow" not in who.client.get("/shadow").text
    assert who.client.post("/shadow", data=form).status_code == 303
    assert beside.step() is False
    assert "No model is in the shadow" in who.client.get("/shadow").text
    with pytest.raises(DataError, match="there is none"):
        shadow.set_shadow(station.database, "eva", line.product_id, 99, "no such model")
    with pytest.raises(SettingsError, match="reason"):
        shadow.set_shadow(station.database, "eva", line.product_id, other.id, "")


def test_a_broken_model_in_the_shadow_is_said_once_and_stops_nothing(
    station: Station, line: Line, arrive: Arrive
) -> None:
    with station.database.write() as session:
        live = session.get_one(Model, line.model_id)
        gone = Model(product_id=live.product_id, sha256="0" * 64, name="gone.onnx", header=live.header)
        gone.parity, gone.created_at, gone.created_by = "", now(), "test"
        session.add(gone)
    arrive(2, audit_rate=0.0)
    shadow.set_shadow(station.database, "eva", line.product_id, gone.id, "is it better?")
    said: list[str] = []
    beside = shadow.ShadowJudge(station.database, station.folder, station.judge, said.append)
    assert [beside.step(), beside.step()] == [True, False]
    assert len(said) == 1
    assert "gone.onnx, in the shadow" in said[0]


def test_a_model_is_read_once_by_many_at_a_time(station: Station, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    with station.database.read() as session:
        sha256 = session.get_one(Model, line.model_id).sha256
    read, load = [], Predictor.load.__func__  # type: ignore[attr-defined]

    def slowly(*given: Any, **named: Any) -> Any:
        read.append(1)
        time.sleep(0.1)
        return load(Predictor, *given, **named)

    monkeypatch.setattr(Predictor, "load", slowly)
    threads = [Thread(target=station.judge.predictor, args=(sha256,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read) == 1


@pytest.mark.slow
def test_a_model_is_trained_in_a_process_of_its_own_and_challenged(
    station: Station, app: FastAPI, line: Line, shared_parts: Path, tmp_path: Path
) -> None:
    who = visit(station, app, "administrator")
    form = {"csrf": who.csrf, "product_id": line.product_id, "name": "new", "path": str(shared_parts)}
    refused = who.client.post("/products/train", data={**form, "detector": "padin"})
    assert (refused.status_code, "did you mean 'padim'?" in refused.text) == (422, True)
    areas = {"roi": "[0, 0, 0.5, 1]", "ignore": "[0, 0, 0.25, 1]"}
    began = who.client.post("/products/train", data={**form, "detector": "padim", **areas})
    assert began.status_code == 303, began.text
    state = wait(station, 1)
    assert state["state"] == "done", state
    result = json.loads(state["result"])
    with station.database.read() as session:
        model = session.get_one(Model, result["model_id"])
    assert (model.name, model.origin) == ("new.onnx", f"trained here on {shared_parts}")
    page = who.client.get("/runs/1").text
    assert ("It judges nothing yet" in page, "75.2 % of each photo is not judged" in page) == (True, True)
    good, rng = tmp_path / "unseen", np.random.default_rng(11)
    good.mkdir()
    for place in range(8):
        draw_part(rng)[0].save(good / f"{place}.png")
    run = perform(station, "challenge", {"model_id": line.model_id, "path": str(good)}, line.product_id)
    assert run.state == "done", run.result
    found = json.loads(run.result)
    assert {curve["defects"] for curve in found["curves"]} <= set(range(run_kinds.CHALLENGE_DEFECTS + 1))
    assert "Synthetic defects on" in who.client.get(f"/runs/{run.id}").text
    challenge = {"csrf": who.csrf, "product_id": line.product_id, "model_id": line.model_id}
    assert who.client.post("/products/challenge", data=challenge).status_code == 303
    assert "no image was confirmed good" in wait(station, 3)["result"]


def test_one_trains_on_images_that_wait_or_were_confirmed_good(
    station: Station, app: FastAPI, line: Line, arrive: Arrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "start", lambda *_: None)
    say(station, arrive(2), "good")
    for place in (1, 2):  # the same picture twice, from two days
        station.inbox.receive(line.source_id, f"{place}/a.png", picture(1))
    station.inbox.receive(line.source_id, "b.png", b"no image")
    with station.database.read() as session:
        found = [[one.name for one in own_images(session, line.product_id, which)] for which in get_args(Own)]
    assert [len(names) for names in found] == [2, 2]
    who = visit(station, app, "engineer")
    page = who.client.get(f"/train?product={line.product_id}").text
    assert ("3 that wait to be judged" in page, "2 confirmed good in the audit lane" in page) == (True, True)
    page = who.client.get(f"/train?product={line.product_id}&images=waiting").text
    assert "1 good image of 64 \N{MULTIPLICATION SIGN} 64 px" in page
    shown = re.findall(r"/images/\d+/photo.jpg", page)
    assert {who.client.get(at).status_code for at in shown} == {200}
    form = {"csrf": who.csrf, "product_id": line.product_id, "name": "new", "images": "waiting"}
    assert who.client.post("/products/train", data={**form, "roi": "[0, 0, 65, 9]"}).status_code == 422
    assert who.client.post("/products/train", data={**form, "images": "all"}).status_code == 422
    assert who.client.post("/products/train", data={**form, "roi": "[0, 0, 9, 9]"}).status_code == 303
    assert "images that waited to be judged" in who.client.get("/runs/1").text


def test_a_failed_training_names_images_and_no_folder_of_its_own(station: Station, line: Line) -> None:
    for place in range(40):
        station.inbox.receive(line.source_id, f"{place}.png", picture(place, side=8))
    station.inbox.receive(line.source_id, "bad.png", b"no image")
    run = perform(station, "train", {"path": "", "images": "waiting", "name": "new"}, line.product_id)
    assert run.result.startswith("bad.png: not an image"), run.result
    assert run.result.endswith("; set the tick that leaves out such images")
    assert Say("de").told(run.result).endswith("; setzen Sie den Haken, der solche Bilder auslässt")


def test_of_nothing_that_waits_no_model_is_trained(station: Station, app: FastAPI, line: Line) -> None:
    run = perform(station, "train", {"path": "", "images": "waiting", "name": "new"}, line.product_id)
    assert (run.state, run.result.startswith("no image waits")) == ("failed", True)
    who = visit(station, app, "engineer")
    assert "wait to be judged" not in who.client.get(f"/train?product={line.product_id}").text
    assert who.client.get(f"/train?product={line.product_id}&images=confirmed").status_code == 422


@pytest.mark.slow
def test_a_model_that_was_trained_on_waiting_images_judges_them(
    station: Station, app: FastAPI, shared_parts: Path
) -> None:
    product_id = add_product(station.database, "test", "new")
    good = sorted((shared_parts / "train" / "good").iterdir())
    with station.database.read() as session:
        source_id = session.scalars(select(Source.id).where(Source.product_id == product_id)).one()
    for place, path in enumerate(good):  # a camera that begins anew each day
        station.inbox.receive(source_id, f"{place // 5}/{place % 5}.png", path.read_bytes())
    who = visit(station, app, "engineer")
    form = {"csrf": who.csrf, "product_id": product_id, "name": "first", "images": "waiting", "detector": "padim"}
    assert who.client.post("/products/train", data=form).status_code == 303
    state = wait(station, 1)
    assert state["state"] == "done", state
    result = json.loads(state["result"])
    assert result["fitted"] + result["calibrated"] == len(good)
    assert not (runs.out_of(station.folder, 1) / runs.IMAGES).exists()
    with station.database.read() as session:
        model = session.get_one(Model, result["model_id"])
        header = header_of_model(model)
        received = {sha256[:ID_DIGITS] for sha256 in session.scalars(select(Image.sha256))}
    assert model.origin == f"trained here on {len(good)} images that waited to be judged"
    assert header.made_of() == received
    go_live(station.database, station.folder, "eva", model.id, "the first one")
    judge_all(station)
    assert queue.waiting(station.database) == 0


@pytest.mark.slow
def test_a_run_that_is_cancelled_ends(station: Station, app: FastAPI, line: Line, shared_parts: Path) -> None:
    who = visit(station, app, "administrator")
    form = {"csrf": who.csrf, "product_id": line.product_id, "name": "new", "path": str(shared_parts)}
    assert who.client.post("/products/train", data=form).status_code == 303
    assert wait_until(lambda: who.client.get("/runs/1/state").json()["state"] != "waiting")
    assert who.client.post("/runs/cancel", data={"csrf": who.csrf, "run_id": 1}).status_code == 303
    assert wait(station, 1)["state"] == "cancelled"
    with station.database.read() as session:
        assert len(session.scalars(select(Model)).all()) == 1


def wait(station: Station, run_id: int) -> dict[str, str]:
    """A run that has ended, and whose process has let go of its lock."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        with station.database.read() as session:
            run = session.get_one(Run, run_id)
        if run.state not in runs.OPEN and not runs._is_alive(station.folder, run_id):
            return {"state": run.state, "result": run.result, "log": runs.log_of(station.folder, run_id)}
        time.sleep(0.2)
    raise AssertionError(runs.log_of(station.folder, run_id))
