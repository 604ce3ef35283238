"""What people write about images: kept as it is, in the audit trail, found, exported; and shown to whom it may be."""

import json
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import update

from blemish.errors import DataError, SettingsError
from blemish.station import queue, reviews
from blemish.station.app import Station
from blemish.station.database import Database
from blemish.station.exports import Wanted, export
from blemish.station.folder import StationFolder
from blemish.station.intake import Inbox
from blemish.station.judge import Judge, commit
from blemish.station.notes import LONGEST_NOTE, notes_of
from blemish.station.products import product_of
from blemish.station.reports import shift_report
from blemish.station.shadow import compare
from blemish.station.tables import Image, Note
from blemish.station.trail import verify_trail
from station.browser import judge_all, roles_below, visit
from station.line import Line, picture, set_up_line

DIRT = "scratch is dirt, wiped off"


@pytest.fixture
def judged(station: Station, line: Line) -> int:
    """An image that was judged."""
    image_id = station.inbox.receive(line.source_id, "a.png", picture(1)).image_id
    judge_all(station)
    return image_id


def texts(database: Database, image_id: int) -> list[str]:
    with database.read() as session:
        return [note.text for note in notes_of(session, [image_id]).get(image_id, [])]


def test_a_note_is_kept_as_it_is_and_one_that_was_changed_is_noticed(station: Station, judged: int) -> None:
    database = station.database
    for text in (DIRT, f" {DIRT}\r\n", "and a second look", DIRT):  # the second one is the first, sent twice
        reviews.add_note(database, "eva", judged, text)
    assert texts(database, judged) == [DIRT, "and a second look", DIRT]
    for text in ("", " \n", "\u200d", "x" * (LONGEST_NOTE + 1), "a\0b", "\ud800", "\u202egnp.exe"):
        with pytest.raises(SettingsError, match="note: "):
            reviews.add_note(database, "eva", judged, text)
    with pytest.raises(DataError, match="image 99: there is none"):
        reviews.add_note(database, "eva", 99, DIRT)
    with database.write() as session:
        session.execute(update(Image).values(is_audit=True))
    with pytest.raises(DataError, match="waits in the audit lane"):  # whoever judges it reads nothing before
        reviews.add_note(database, "eva", judged, DIRT)
    with pytest.raises(DataError, match="waits in the audit lane"):
        reviews.give_verdict(database, "eva", judged, "good", note=DIRT)
    with database.read() as session:
        assert verify_trail(session).problem is None
    with database.write() as session:
        session.execute(update(Note).where(Note.id == 2).values(text="all is well"))
    with database.read() as session:
        assert (verify_trail(session).problem or "").startswith("note 2 was changed: entry ")


def test_a_note_is_seen_found_and_exported(station: Station, app: FastAPI, line: Line, judged: int) -> None:
    station.inbox.receive(line.source_id, "b.png", picture(2))
    judge_all(station)
    who = visit(station, app, "operator")
    text = f"<b>{DIRT}</b>\n100 % sure \N{WOMAN}\N{ZWJ}\N{WRENCH}"  # one sign of three
    assert who.client.post("/note", data={"csrf": who.csrf, "image_id": judged, "text": text}).status_code == 303
    for path in (f"/images/{judged}", "/", "/images", "/report", "/images?notes=true", "/images?name=100+%25+S"):
        page = who.client.get(path).text
        assert "<bdi>&lt;b&gt;scratch is dirt" in page, path  # whichever way it is written
        assert ("the operator" in page, "<b>scratch" in page) == (True, False), path
    for path in ("/images?notes=true", "/images?name=wiped"):
        assert who.client.get(path).text.count("<article") == 1, path
    assert "There is no such image" in who.client.get("/images?name=wiped_").text
    trail = who.client.get("/trail").text
    assert ">note</td>" in trail
    with station.database.read() as session:
        (noted,) = shift_report(session, "2000", "9999-01-01").notes
    assert (noted.image, noted.user_name, noted.text) == ("a.png", "the operator", text)
    for kind in ("csv", "json"):
        content = b"".join(export(station.database, "test", kind, Wanted())).decode()
        assert "scratch is dirt" in content
    told = json.loads(content)
    assert [[(note["user_name"], note["text"]) for note in row["notes"]] for row in told] == [
        [("the operator", text)],
        [],
    ]


def test_a_note_comes_with_a_verdict_and_from_a_program(
    station: Station, app: FastAPI, line: Line, judged: int
) -> None:
    who = visit(station, app, "operator")
    token = who.client.post(
        "/account/token",
        data={"csrf": who.csrf, "name": "t", "password": "correct horse battery", "scopes": ["judge", "read"]},
    )
    headers = {"Authorization": "Bearer blm_" + token.text.partition("<code>blm_")[2].partition("<")[0]}
    api, said = "/api/v1", {"image_id": judged, "judgement": "good", "note": DIRT}
    assert who.client.post(f"{api}/verdicts", json=said, headers=headers).status_code == 201
    answer = who.client.post(f"{api}/notes", json={"image_id": judged, "text": "more"}, headers=headers)
    assert [one["text"] for one in answer.json()] == [DIRT, "more"]
    assert who.client.get(f"{api}/notes/{judged}", headers=headers).json() == answer.json()
    surrogate = f'{{"image_id": {judged}, "text": "\\ud800"}}'
    refused = who.client.post(
        f"{api}/notes", content=surrogate, headers={**headers, "Content-Type": "application/json"}
    )
    assert refused.status_code == 422
    with station.database.write() as session:
        session.execute(update(Image).values(is_audit=True))
    form = {"csrf": who.csrf, "image_id": judged, "judgement": "good", "note": "from the audit lane"}
    assert who.client.post("/audit", data=form).status_code == 303
    assert texts(station.database, judged)[-1] == "from the audit lane"
    with station.database.read() as session:
        assert verify_trail(session).problem is None


def test_who_may_not_judge_writes_no_note(station: Station, app: FastAPI, judged: int) -> None:
    for role in roles_below("operator"):
        who = visit(station, app, role)
        form = {"csrf": who.csrf, "image_id": judged, "text": DIRT}
        assert who.client.post("/note", data=form).status_code in (303 if role is None else 403, 403), role
        assert 'name="text"' not in who.client.get(f"/images/{judged}").text
    assert texts(station.database, judged) == []


def test_a_refused_verdict_leaves_no_note(station: Station, judged: int) -> None:
    for judgement, note in (("maybe", DIRT), ("good", "x" * 1001)):
        with pytest.raises(SettingsError):
            reviews.give_verdict(station.database, "eva", judged, judgement, note=note)
    with station.database.read() as session:
        assert (reviews.verdicts_of(session, judged), notes_of(session, [judged])) == ([], {})


def test_notes_are_found_and_reported_on_both_databases(
    database: Database, folder: StationFolder, onnx_file: Path
) -> None:
    line, inbox, judge = set_up_line(database, folder, onnx_file), Inbox(database, folder), Judge(folder, threads=1)
    for seed in range(2):
        inbox.receive(line.source_id, f"{seed}.png", picture(seed))
    for task in queue.take(database, "me"):
        commit(database, "me", task, judge.judge(task))
    reviews.give_verdict(database, "eva", 2, "good", note="Kratzer: Öl, 100 %")
    with database.read() as session:
        for within in (reviews.Within(notes=True), reviews.Within(name="00 %"), reviews.Within(name="kratzer: öl")):
            assert [row.image.id for row in reviews.recent(session, None, within=within)] == [2]
        report = shift_report(session, "2000", "9999-01-01")
        assert ([note.image_id for note in report.notes], report.judged_good) == ([2], 1)
        assert compare(session, product_of(session, line.product_id)).said_good == (0, 0, 0)
        assert verify_trail(session).problem is None
