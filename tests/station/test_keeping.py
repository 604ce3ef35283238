"""What is kept and for how long, and the head of the audit trail kept elsewhere."""

import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from sqlalchemy import select, update
from typer.testing import CliRunner

from blemish.cli import app as cli
from blemish.data.progress import Progress
from blemish.errors import SettingsError
from blemish.station import heads, intake, queue, reviews
from blemish.station.app import Station, make_app
from blemish.station.database import Database
from blemish.station.folder import StationFolder, keep_content
from blemish.station.heads import Head, head_of, read_head, send_daily, set_address
from blemish.station.hooks import SIGNATURE, is_signed
from blemish.station.intake import Inbox
from blemish.station.judge import Judged, commit
from blemish.station.retention import Retention, make_retention, read_retention, set_retention, sweep
from blemish.station.tables import Decision, Entry, Image, Setting
from blemish.station.trail import append
from station.browser import PASSWORD, visit
from station.line import Line, picture, set_up_line
from station.waiting import serving

DAY_S = 86_400.0


@pytest.fixture
def line(database: Database, folder: StationFolder, onnx_file: Path) -> Line:
    return set_up_line(database, folder, onnx_file)


Keep = Callable[..., int]


@pytest.fixture
def keep(database: Database, folder: StationFolder, line: Line) -> Keep:
    """An image that was decided some days ago."""

    def keep(
        seed: int,
        days: float,
        verdict: str = "good",
        *,
        is_audit: bool = False,
        is_decided: bool = True,
        name: str = "",
    ) -> int:
        inbox = Inbox(database, folder, draw=lambda: -1.0 if is_audit else 1.0)
        content = picture(seed, side=8)
        image_id = inbox.receive(line.source_id, name or f"{seed}.png", content).image_id
        at = _days_ago(days)
        with database.write() as session:
            session.execute(update(Image).where(Image.id == image_id).values(received_at=at))
        if is_decided:
            for task in queue.take(database, "me"):
                commit(database, "me", task, Judged(None, 1.0))
            with database.write() as session:
                session.execute(update(Decision).where(Decision.image_id == image_id).values(verdict=verdict))
        return image_id

    return keep


def _days_ago(days: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time.time() - days * DAY_S, UTC).isoformat(timespec="microseconds")


def there(database: Database, folder: StationFolder) -> list[int]:
    """The images whose files are there."""
    with database.read() as session:
        images = list(session.scalars(select(Image).order_by(Image.id)))
    kept = [image.id for image in images if image.removed_at is None]
    assert all(folder.image_path(image.sha256, image.suffix).is_file() for image in images if image.id in kept)
    return kept


def test_images_go_by_age_and_rejects_and_audit_images_later(
    database: Database, folder: StationFolder, keep: Keep
) -> None:
    old, reject, audit = keep(1, 40), keep(2, 40, "anomalous"), keep(3, 40, is_audit=True)
    judged, unreadable, ancient = keep(4, 40), keep(5, 40, "unreadable"), keep(6, 400, "anomalous")
    noted, new, waits = keep(9, 40), keep(7, 10), keep(8, 400, is_decided=False)
    reviews.add_note(database, "eva", noted, "to be talked about")
    reviews.give_verdict(database, "eva", judged, "good")
    assert sweep(database, folder).images == 0  # for ever unless told otherwise
    set_retention(database, "eva", make_retention(30, 365, None), "the disk is small")
    removed = sweep(database, folder)
    assert removed.images == 2
    assert there(database, folder) == [reject, audit, judged, unreadable, noted, new, waits]
    assert sum(path.is_file() for path in (folder.root / "images").rglob("*.png")) == 7
    with database.read() as session:
        entries = [json.loads(one) for one in session.scalars(select(Entry.detail).where(Entry.action == "removed"))]
        assert len(session.scalars(select(Decision)).all()) == 8  # rows stay
    assert [(one["image_ids"], one["why"]) for one in entries] == [
        (f"[{old}]", "older than 30 days"),
        (f"[{ancient}]", "older than 365 days"),
    ]
    assert sweep(database, folder).images == 0


def test_images_go_by_size_the_oldest_first_and_good_ones_before_others(
    database: Database, folder: StationFolder, keep: Keep
) -> None:
    reject = keep(1, 50, "anomalous")
    good = [keep(seed, 40 - seed) for seed in range(2, 6)]
    with database.write() as session:
        session.execute(update(Image).values(size_bytes=1_000_000))
    set_retention(database, "eva", Retention(max_gb=0.003), "the disk is small")
    told: list[Progress] = []
    assert sweep(database, folder, told.append) == (2, 2_000_000)
    assert told[-1] == Progress("images removed", 2, 0)
    assert there(database, folder) == [reject, *good[2:]]
    set_retention(database, "eva", Retention(max_gb=0.000001), "the disk is tiny")
    sweep(database, folder)
    assert there(database, folder) == []


def test_a_file_stays_as_long_as_one_image_needs_it(database: Database, folder: StationFolder, keep: Keep) -> None:
    keep(1, 40, name="a.png")
    new = keep(1, 1, name="b.png")
    set_retention(database, "eva", make_retention(30, None, None), "the disk is small")
    assert sweep(database, folder).images == 1
    assert there(database, folder) == [new]


def test_a_file_that_is_removed_while_the_same_photo_comes_again_is_written_again(
    database: Database, folder: StationFolder, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(1, 40, name="a.png")
    set_retention(database, "eva", make_retention(30, None, None), "the disk is small")
    with monkeypatch.context() as patch:

        def then_sweep(path: Path, content: bytes) -> None:
            keep_content(path, content)
            patch.undo()
            assert sweep(database, folder).images == 1

        patch.setattr(intake, "keep_content", then_sweep)
        new = keep(1, 1, name="b.png")
    assert there(database, folder) == [new]


def test_an_image_that_was_removed_and_comes_again_leaves_no_file(
    database: Database, folder: StationFolder, keep: Keep
) -> None:
    first = keep(1, 40)
    set_retention(database, "eva", make_retention(30, None, None), "the disk is small")
    sweep(database, folder)
    assert keep(1, 40) == first
    assert not list((folder.root / "images").rglob("*.png"))


def test_a_sweep_that_was_killed_is_done_again(
    database: Database, folder: StationFolder, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blemish.station import retention

    keep(1, 40)
    set_retention(database, "eva", make_retention(30, None, None), "the disk is small")

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(retention, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            sweep(database, folder)
    assert not list((folder.root / "images").rglob("*.png"))  # the file was gone before it was noted
    assert sweep(database, folder).images == 1


@pytest.mark.parametrize(
    "wrong", [(0, None, None), (None, -1, None), (30, 10, None), (None, 10, None), (None, None, 0)]
)
def test_a_retention_that_is_none_is_refused(wrong: tuple[float | None, float | None, float | None]) -> None:
    with pytest.raises(SettingsError, match="retention"):
        make_retention(*wrong)


@pytest.mark.slow
def test_pages_say_what_was_removed(sqlite: Database, folder: StationFolder, onnx_file: Path) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    inbox = Inbox(sqlite, folder, draw=lambda: -1.0)  # the line's rate is 0
    image_id = inbox.receive(line.source_id, "a.png", picture(1, side=8)).image_id
    for task in queue.take(sqlite, "me"):
        commit(sqlite, "me", task, Judged(None, 1.0))
    station = Station(sqlite, folder)
    app = make_app(station)
    boss = visit(station, app, "administrator")
    form = {"csrf": boss.csrf, "days": "0,000001", "days_rejects": "0.000001", "reason": "for a test"}
    assert boss.client.post("/storage", data={**form, "password": "wrong"}).status_code == 422
    assert boss.client.post("/storage", data={**form, "password": PASSWORD, "days": "x"}).status_code == 422
    assert boss.client.post("/storage", data={**form, "password": PASSWORD}).status_code == 303
    time.sleep(0.2)
    assert sweep(sqlite, folder).images == 1
    assert "The file was removed" in boss.client.get(f"/images/{image_id}").text  # nobody can audit it any more
    with sqlite.write() as session:
        session.execute(update(Decision).values(verdict="good"))
    assert "The file was removed" in boss.client.get("/").text
    assert boss.client.get("/audit").text.count("data-audit") == 0
    assert "their decisions, scores and verdicts stay" in boss.client.get("/storage").text
    assert boss.client.get(f"/api/v1/images/{image_id}").json()["removed_at"] is not None


def test_the_retention_is_set_from_the_terminal(folder: StationFolder, sqlite: Database) -> None:
    said = CliRunner().invoke(
        cli, ["station", "keep", str(folder.root), "--days", "30", "--days-rejects", "300", "--now"]
    )
    assert said.exit_code == 0, said.output
    assert "days: 30" in said.output
    said = CliRunner().invoke(cli, ["station", "keep", str(folder.root), "--days-rejects", "0", "--max-gb", "5"])
    assert "days_rejects: no limit" in said.output
    with sqlite.read() as session:
        assert read_retention(session) == Retention(days=30, max_gb=5)
    assert CliRunner().invoke(cli, ["station", "keep", str(folder.root), "--max-gb", "-1"]).exit_code == 2


@pytest.mark.parametrize("command", ["head", "backup"])
def test_a_head_or_a_backup_replaces_its_like_and_nothing_else(
    command: str, sqlite: Database, folder: StationFolder, tmp_path: Path
) -> None:
    out = tmp_path / "kept.zip"
    ask = ["station", command, str(folder.root), "-o", str(out)]
    assert [CliRunner().invoke(cli, ask).exit_code for _ in range(2)] == [0, 0]
    out.write_bytes(b"mine")
    said = CliRunner().invoke(cli, ask)
    assert (said.exit_code, "blemish did not write that" in said.stderr, out.read_bytes()) == (2, True, b"mine")


def test_a_saved_head_proves_that_nothing_before_it_was_rewritten(
    sqlite: Database, folder: StationFolder, tmp_path: Path
) -> None:
    for number in range(5):
        with sqlite.write() as session:
            append(session, "test", "act", number, {"n": number})
    saved = tmp_path / "head.json"
    said = CliRunner().invoke(cli, ["station", "head", str(folder.root), "-o", str(saved)])
    assert said.exit_code == 0, said.output
    printed = CliRunner().invoke(cli, ["station", "head", str(folder.root)]).stdout
    assert json.loads(printed) | {"at": ""} == json.loads(saved.read_text(encoding="utf-8")) | {"at": ""}
    verify = ["station", "verify", str(folder.root), "--head", str(saved)]
    with sqlite.write() as session:
        append(session, "test", "act", "later", {})
    holds = CliRunner().invoke(cli, verify)
    assert (holds.exit_code, "; the head noted before is among them" in holds.output) == (0, True)
    with sqlite.write() as session:  # an insider writes the chain again from the third entry on
        rows = list(session.scalars(select(Entry).order_by(Entry.seq)))
        details = [(row.subject, row.detail) for row in rows[2:]]
        for row in rows[2:]:
            session.delete(row)
        session.flush()
        for subject, detail in details:
            append(session, "test", "act", subject, {**json.loads(detail), "n": 99})
    assert CliRunner().invoke(cli, verify[:3]).exit_code == 0  # by itself the chain holds
    said = CliRunner().invoke(cli, verify)
    assert said.exit_code == 1


def test_a_head_is_told_from_other_things(folder: StationFolder, sqlite: Database, tmp_path: Path) -> None:
    with sqlite.read() as session:
        head = head_of(session, folder)
    assert (head.seq, head.sha256) == (0, "0" * 64)
    assert read_head(head.to_json(), folder) == read_head(head.sha256, folder) == head.sha256
    other = tmp_path / "other.json"
    other.write_text(head._replace(station="f" * 32).to_json())
    for wrong, why in (
        (str(other), "another station"),
        ("abc", "expected 64"),
        (str(tmp_path / "none"), "expected 64"),
    ):
        with pytest.raises(SettingsError, match=why):
            read_head(wrong, folder)


def test_the_page_prints_a_head_and_finds_it_again(sqlite: Database, folder: StationFolder) -> None:
    station = Station(sqlite, folder)
    app = make_app(station)
    who = visit(station, app, "administrator")
    saved = who.client.get("/trail/head?download").text.strip()
    head = Head(**json.loads(saved))
    page = who.client.get("/trail/head").text
    assert head.sha256 in page
    assert "blemish station verify STATION --head" in page
    assert who.client.get("/api/v1/trail/head").json()["sha256"] == head.sha256
    for given in (saved, head.sha256):
        assert "entries hold" in who.client.get("/trail", params={"check": True, "head": given}).text
    assert "its end was cut off" in who.client.get("/trail", params={"check": True, "head": "1" * 64}).text
    assert who.client.get("/trail", params={"check": True, "head": "/etc/passwd"}).status_code == 422
    form = {"csrf": who.csrf, "url": "ftp://example", "password": PASSWORD}
    assert who.client.post("/trail/head", data=form).status_code == 422
    told = who.client.post("/trail/head", data={**form, "url": "https://example.org/heads"})
    assert "shown this once" in told.text


def test_an_address_that_is_changed_while_the_head_is_sent_stays_changed(
    sqlite: Database, folder: StationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(*_: object) -> str:
        set_address(sqlite, "eva", "")
        return ""

    set_address(sqlite, "eva", "https://old.example/heads")
    monkeypatch.setattr(heads, "post", change)
    send_daily(sqlite, folder, print)
    with sqlite.read() as session:
        assert heads.address_of(session)["url"] == ""


def test_the_head_is_sent_once_a_day_signed_and_again_until_it_was_taken(
    sqlite: Database, folder: StationFolder
) -> None:
    got: list[tuple[bytes, str]] = []
    answers = [500, 204, 204]

    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((body, self.headers[SIGNATURE]))
            self.send_response(answers.pop(0))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    said: list[str] = []
    with serving(server):
        send_daily(sqlite, folder, said.append)  # nobody wants it
        secret = set_address(sqlite, "eva", f"http://127.0.0.1:{server.server_port}/heads")
        for _ in range(4):
            send_daily(sqlite, folder, said.append)
    assert len(got) == 2  # refused, taken, and then not the same day
    assert len(said) == 1
    assert "answers 500" in said[0]
    with sqlite.read() as session:
        assert json.loads(got[1][0])["sha256"] == head_of(session, folder).sha256
    assert is_signed(secret, got[1][0], got[1][1], time.time())
    assert not is_signed(secret, got[1][0], got[1][1], time.time() + 400)  # replayed
    with sqlite.write() as session:
        kept = session.get_one(Setting, "head")
        kept.value = json.dumps({**json.loads(kept.value), "day": "2000-01-01"})
    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    with sqlite.write() as session:
        kept = session.get_one(Setting, "head")
        kept.value = json.dumps({**json.loads(kept.value), "url": f"http://127.0.0.1:{server.server_port}/heads"})
    with serving(server):
        send_daily(sqlite, folder, said.append)
    assert len(got) == 3
