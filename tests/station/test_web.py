"""Pages and API: who may do what, attacks, and one way through each page."""

import io
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from PIL import Image as Picture
from sqlalchemy import select, update

from blemish.errors import ArtifactError, SettingsError
from blemish.inspection.decisions import now
from blemish.station import accounts, limits, sign_in
from blemish.station.access import COOKIE, Rule, rule_of
from blemish.station.app import Station, make_app
from blemish.station.products import add_product
from blemish.station.service import static_files
from blemish.station.tables import (
    ROLES,
    Decision,
    DriftAlarm,
    Entry,
    Image,
    Model,
    Product,
    Run,
    Session,
    Source,
    Token,
    User,
    Verdict,
)
from blemish.station.trail import verify_trail
from station.browser import CHEAP, PASSWORD, Visitor, judge_all, roles_below, visit
from station.line import Line, picture

NASTY = '"><img src=x onerror=alert(1)>.png'


INLINE = re.compile(r"style$|on")


def tags_of(page: str) -> list[tuple[str, list[str]]]:
    """Every tag of a page, with the names of its attributes."""
    found: list[tuple[str, list[str]]] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, [name for name, _ in attrs]))

    Tags().feed(page)
    return found


@pytest.fixture
def judged(station: Station, line: Line) -> list[int]:
    """Images that were decided, one of them unreadable, none in the audit lane."""
    with station.database.write() as session:
        session.execute(update(Product).values(audit_rate=0.0))
    found = [station.inbox.receive(line.source_id, f"{seed}.png", picture(seed)).image_id for seed in range(4)]
    found.append(station.inbox.receive(line.source_id, NASTY, b"no image").image_id)
    judge_all(station)
    return found


def routes_of(app: FastAPI) -> Iterator[tuple[str, str, Any]]:
    """Method, path and endpoint of every route there is."""
    for outer in app.routes:
        inner = getattr(outer, "original_router", None)
        for route in [outer] if inner is None else inner.routes:
            assert isinstance(route, APIRoute), f"{route} does not go through the guard"
            for method in sorted(route.methods):
                yield method, route.path, route.endpoint


def ask(who: Visitor, method: str, path: str) -> int:
    address = re.sub(r"\{show\}", "photo", re.sub(r"\{name\}", "none.css", re.sub(r"\{\w+_id\}", "999", path)))
    if address == "/live/events":
        address += "?after=x"  # refused for what it asks, not for who asks
    return int(who.client.request(method, address, headers={"X-CSRF-Token": who.csrf}).status_code)


@pytest.mark.slow
def test_every_route_is_open_to_its_role_and_to_nobody_below(station: Station, app: FastAPI, line: Line) -> None:
    table = list(routes_of(app))
    assert len(table) > 40
    visitors = {role: visit(station, app, role) for role in (None, *ROLES)}
    for method, path, endpoint in table:
        rule = rule_of(endpoint)
        assert rule is not None, f"{method} {path} names no role"
        if path in ("/logout", "/account/password", "/users/change", "/users/password"):
            continue  # ends sessions; see below
        allowed = [None, *ROLES] if rule.role is None else ROLES[ROLES.index(rule.role) :]
        for role, who in visitors.items():
            status = ask(who, method, path)
            if role in allowed:
                assert status not in (401, 403), (method, path, role, status)
            elif role is None:
                assert status in (303, 401), (method, path, status)
            else:
                assert status == 403, (method, path, role, status)


def test_what_ends_sessions_is_closed_to_those_below(station: Station, app: FastAPI) -> None:
    paths = {"/users/change": "administrator", "/users/password": "administrator", "/account/password": "viewer"}
    for path, role in paths.items():
        for below in roles_below(role):
            assert ask(visit(station, app, below), "POST", path) in ((303,) if below is None else (403,))


def test_a_route_that_names_no_role_is_closed_to_everybody(station: Station, app: FastAPI) -> None:
    @app.get("/forgotten")
    def forgotten() -> str:
        return "secret"

    assert visit(station, app, "administrator").client.get("/forgotten").status_code == 403


def test_there_are_no_routes_beside_the_guard(app: FastAPI) -> None:
    assert rule_of(object()) is None
    assert {path for _, path, endpoint in routes_of(app) if rule_of(endpoint) == Rule(None)} == {
        "/static/{name}",
        "/healthz",
        "/readyz",
        "/login",
    }


def test_a_change_needs_the_token_of_the_session(station: Station, app: FastAPI, judged: list[int]) -> None:
    who = visit(station, app, "operator")
    said = {"image_id": judged[0], "judgement": "good"}
    other = visit(station, app, "engineer")
    for csrf in ("", "wrong", other.csrf):
        assert who.client.post("/verdict", data={**said, "csrf": csrf}).status_code == 403
    headers = {"Origin": "https://evil.example", "X-CSRF-Token": who.csrf}
    assert who.client.post("/verdict", data=said, headers=headers).status_code == 403
    headers = {"Sec-Fetch-Site": "cross-site", "X-CSRF-Token": who.csrf}
    assert who.client.post("/verdict", data=said, headers=headers).status_code == 403
    assert who.client.post("/api/v1/verdicts", json=said).status_code == 403
    with station.database.read() as session:
        assert session.scalars(select(Verdict)).all() == []
    assert who.client.post("/verdict", data={**said, "csrf": who.csrf}).status_code == 303


def test_another_site_cannot_log_a_browser_in(station: Station, app: FastAPI) -> None:
    who = visit(station, app, None)
    accounts.add_user(station.database, "test", "eva", PASSWORD, "viewer")
    form = {"name": "eva", "password": PASSWORD}
    assert who.client.post("/login", data=form, headers={"Origin": "https://evil.example"}).status_code == 403
    assert who.client.post("/login", data=form, headers={"Origin": "http://testserver"}).status_code == 303


def test_the_cookie_is_drawn_at_log_in_and_hidden_from_scripts(station: Station, app: FastAPI) -> None:
    accounts.add_user(station.database, "test", "eva", PASSWORD, "viewer")
    client = visit(station, app, None).client
    client.cookies.set(COOKIE, "chosen by an attacker")
    first = client.post("/login", data={"name": "eva", "password": PASSWORD})
    cookie = first.headers["set-cookie"]
    assert "chosen" not in cookie
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    before = cookie.split(";")[0].partition("=")[2]
    client.cookies.clear()
    client.cookies.set(COOKIE, before)
    client.post("/login", data={"name": "eva", "password": PASSWORD})
    client.cookies.clear()
    client.cookies.set(COOKIE, before)
    assert client.get("/").headers["location"] == "/login?next=/"  # the session of before has ended
    client.base_url = "https://testserver"
    assert "Secure" in client.post("/login", data={"name": "eva", "password": PASSWORD}).headers["set-cookie"]


def test_log_in_says_the_same_of_a_wrong_name_and_a_wrong_password(station: Station, app: FastAPI) -> None:
    accounts.add_user(station.database, "test", "eva", PASSWORD, "viewer")
    locked = accounts.add_user(station.database, "test", "ben", PASSWORD, "viewer")
    accounts.add_user(station.database, "test", "root", PASSWORD, "administrator")
    accounts.change_user(station.database, "test", locked, is_active=False)
    client = visit(station, app, None).client
    answers = [
        client.post("/login", data={"name": name, "password": password})
        for name, password in (("eva", "wrong"), ("nobody", "wrong"), ("ben", PASSWORD))
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1


def test_a_name_that_is_not_there_takes_as_long_as_one_that_is(station: Station, monkeypatch: Any) -> None:
    asked: list[str] = []

    class Counting:
        hash = staticmethod(CHEAP.hash)

        @staticmethod
        def verify(password: str, hashed: str) -> bool:
            asked.append(hashed)
            return CHEAP.verify(password, hashed)

    accounts.add_user(station.database, "test", "eva", PASSWORD, "viewer")
    monkeypatch.setattr(accounts, "PASSWORDS", Counting)
    assert accounts.check_password(station.database, "eva", "wrong") is None
    assert accounts.check_password(station.database, "nobody", "wrong") is None
    assert len(asked) == 2


def test_too_many_wrong_passwords_are_tried_no_more(station: Station, app: FastAPI, monkeypatch: Any) -> None:
    accounts.add_user(station.database, "test", "eva", PASSWORD, "viewer")
    client = visit(station, app, None).client
    for _ in range(sign_in.LIMITS["name and address"]):
        assert client.post("/login", data={"name": "eva", "password": "wrong"}).status_code == 401
    refused = client.post("/login", data={"name": "Eva ", "password": PASSWORD})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "300")
    later = time.monotonic() + 301
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert client.post("/login", data={"name": "eva", "password": PASSWORD}).status_code == 303


def test_of_many_passwords_at_the_same_time_no_more_are_tried(
    station: Station, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts.add_user(station.database, "test", "eva", PASSWORD, "viewer")
    client, tried, at_once, most = visit(station, app, None).client, list[str](), Counter[str](), 0

    class Slow:
        @staticmethod
        def verify(password: str, hashed: str) -> bool:
            nonlocal most
            tried.append(password)
            at_once.update(["now"])
            most = max(most, at_once["now"])
            time.sleep(0.02)
            at_once.subtract(["now"])
            return CHEAP.verify(password, hashed)

    monkeypatch.setattr(accounts, "PASSWORDS", Slow)
    with ThreadPoolExecutor(12) as guessers:
        asked = [guessers.submit(client.post, "/login", data={"name": "eva", "password": f"{n}"}) for n in range(12)]
    assert Counter(one.result().status_code for one in asked) == {401: 5, 429: 7}
    assert (len(tried), most) == (5, 2)


@pytest.mark.parametrize("name", ["Émile", "ÉMILE", "émile "])
def test_a_name_is_one_in_any_case_of_letters(station: Station, name: str) -> None:
    accounts.add_user(station.database, "test", "Émile", PASSWORD, "viewer")
    found = accounts.check_password(station.database, name, PASSWORD)
    assert found is not None
    assert found.name == "Émile"
    with pytest.raises(SettingsError, match="there is one of that name"):
        accounts.add_user(station.database, "test", name, PASSWORD, "viewer")


@pytest.mark.parametrize("name", ["station", "Terminal"])
def test_nobody_has_a_name_that_the_trail_has_for_no_person(station: Station, name: str) -> None:
    with pytest.raises(SettingsError, match="other than station or terminal"):
        accounts.add_user(station.database, "test", name, PASSWORD, "viewer")


def test_a_session_ends_with_idleness_logging_out_and_another_role(station: Station, app: FastAPI) -> None:
    boss = visit(station, app, "administrator")
    who = visit(station, app, "viewer")
    with station.database.write() as session:
        user_id = session.scalars(select(User.id).where(User.role == "viewer")).one()
        mine = session.scalars(select(Session).where(Session.user_id == user_id)).one()
        mine.seen_s -= accounts.IDLE_S + 1
    assert who.client.get("/").status_code == 303
    who = visit(station, app, "viewer")
    assert who.client.get("/").status_code == 200
    who.client.post("/logout", data={"csrf": who.csrf})
    assert who.client.get("/").status_code == 303
    who = visit(station, app, "viewer")
    boss.client.post("/users/change", data={"csrf": boss.csrf, "user_id": user_id, "role": "operator"})
    assert who.client.get("/").status_code == 303


def test_the_last_administrator_stays_one(station: Station, app: FastAPI) -> None:
    boss = visit(station, app, "administrator")
    for change in ({"role": "viewer", "is_active": "true"}, {"role": "administrator"}):
        answer = boss.client.post("/users/change", data={"csrf": boss.csrf, "user_id": 1, **change})
        assert answer.status_code == 422
        assert "last administrator" in answer.text
    assert boss.client.get("/users").status_code == 200


def test_a_token_does_what_its_scopes_say_and_no_more(station: Station, app: FastAPI, judged: list[int]) -> None:
    who = visit(station, app, "engineer")
    form = {"csrf": who.csrf, "name": "PLC", "password": PASSWORD, "scopes": ["read"]}
    page = who.client.post("/account/token", data=form).text
    token = re.search(r"blm_[\w-]+", page)
    assert token is not None
    assert token[0] not in who.client.get("/account").text
    with station.database.read() as session:
        assert token[0] not in session.scalars(select(Token.token_sha256)).one()
    program = visit(station, app, None).client
    program.headers["Authorization"] = f"Bearer {token[0]}"
    assert program.get("/api/v1/images").status_code == 200
    assert program.get("/metrics").status_code == 200
    assert program.post("/api/v1/verdicts", json={"image_id": 1, "judgement": "good"}).status_code == 403
    assert program.get("/").status_code == 403  # pages are for people
    program.headers["Authorization"] = "Bearer blm_wrong"
    assert program.get("/api/v1/images").status_code == 401
    program.headers["Authorization"] = f"Bearer {token[0]}"
    who.client.post("/account/token/end", data={"csrf": who.csrf, "token_id": 1})
    assert program.get("/api/v1/images").status_code == 401


@pytest.mark.parametrize("path", ["/api/v1/predict?product=disc&name=a.png", "/login", "/products/model"])
def test_a_body_of_ten_gigabytes_is_refused_before_it_is_read(station: Station, app: FastAPI, path: str) -> None:
    who = visit(station, app, "engineer")

    def never() -> Iterator[bytes]:
        raise AssertionError("the body was asked for")
        yield b""

    headers = {"Content-Length": str(10 * 1024 * limits.MIB), "X-CSRF-Token": who.csrf}
    answer = who.client.build_request("POST", path, headers=headers)
    answer.headers["content-length"] = headers["Content-Length"]
    assert who.client.send(answer).status_code == 413


def test_a_body_that_does_not_say_its_length_is_cut_off(station: Station, app: FastAPI) -> None:
    station.max_image_bytes = limits.MIB
    who, sent = visit(station, make_app(station), "operator"), []

    def endless() -> Iterator[bytes]:
        for _ in range(64):
            sent.append(1)
            yield bytes(limits.MIB // 4)

    address = "/api/v1/predict?product=disc&name=a.png"
    answer = who.client.post(address, content=endless(), headers={"X-CSRF-Token": who.csrf})
    assert answer.status_code == 413
    assert "1 MiB" in answer.json()["error"]


def test_nobody_uploads_before_being_let_in(station: Station, app: FastAPI, line: Line) -> None:
    answer = visit(station, app, None).client.post("/api/v1/predict?product=disc&name=a.png", content=picture(1))
    assert answer.status_code == 401
    assert list((station.folder.root / "images").rglob("*.png")) == []


def test_paths_lead_nowhere_else(station: Station, app: FastAPI, line: Line) -> None:
    who = visit(station, app, "operator")
    for path in ("/static/..%2f..%2fapp.py", "/static/%2e%2e/app.py", "/static/app.py", "/static//etc/passwd"):
        assert who.client.get(path).status_code == 404
    form = {"csrf": (None, who.csrf), "product": (None, "disc"), "image": ("../../../evil.png", picture(1))}
    assert who.client.post("/products/image", files=form).status_code == 303
    with station.database.read() as session:
        assert session.scalars(select(Image.name)).one() == "evil.png"
    assert not list(station.folder.root.parent.rglob("evil.png"))
    assert set(static_files()) >= {"station.css", "station.js", "live.js"}


def test_after_logging_in_one_stays_here(station: Station, app: FastAPI) -> None:
    accounts.add_user(station.database, "test", "eva", PASSWORD, "viewer")
    client = visit(station, app, None).client
    for where in ("//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"):
        answer = client.post("/login", data={"name": "eva", "password": PASSWORD, "where": where})
        assert answer.headers["location"] == "/"


@pytest.mark.slow
def test_what_people_and_files_say_is_text_on_every_page(
    station: Station, app: FastAPI, judged: list[int], line: Line
) -> None:
    boss = visit(station, app, "administrator")
    reason = "<script>alert(1)</script>"
    form = {"csrf": boss.csrf, "image_id": judged[-1], "judgement": "defective", "defect_type": "<b>crack"}
    assert boss.client.post("/verdict", data=form).status_code == 303
    form = {"csrf": boss.csrf, "product_id": line.product_id, "rate": 3, "reason": reason}
    assert boss.client.post("/products/audit-rate", data=form).status_code == 303
    accounts.add_user(station.database, "test", "<b>crack", PASSWORD, "viewer")
    with station.database.write() as session:
        told = {"path": "<b>crack", "name": "<b>crack"}
        run = Run(product_id=line.product_id, kind="train", asked=json.dumps(told), state="failed", result="<b>crack")
        run.actor, run.created_at = "<b>crack", now()
        session.add(run)
        session.add(Source(product_id=line.product_id, kind="record", path="<b>crack", trouble="<b>crack"))
        session.add(Product(name="<b>crack", created_at=now()))  # of an earlier version
    not_pages = ("/api/", "/metrics", "/healthz", "/readyz", "/live/events")
    gets = {path for method, path, _ in routes_of(app) if method == "GET" and not path.startswith(not_pages)}
    assert {path for path in gets if "{" in path} == {
        *(
            "/static/{name}",
            "/images/{image_id}",
            "/images/{image_id}/{show}.jpg",
            "/runs/{run_id}",
            "/runs/{run_id}/state",
        )
    }
    pages = sorted(path for path in gets if "{" not in path)
    assert {"/storage", "/trail/head", "/recalibrate", "/login"} <= set(pages)
    for page in [*pages, "/trail?everything=true", "/runs/1", f"/images/{judged[-1]}", f"/images/{judged[0]}"]:
        text = boss.client.get(page).text
        assert "<b>crack" not in text, page
        inline = [(tag, name) for tag, attributes in tags_of(text) for name in attributes if INLINE.match(name)]
        assert inline == [], f"{page}: CSP refuses inline styles and handlers"
        assert all("src" in attributes for tag, attributes in tags_of(text) if tag == "script"), page
        assert len(text.encode()) < 100_000, page
    assert "&lt;script&gt;" in boss.client.get("/trail").text


def test_every_answer_tells_the_browser_what_it_may_do(station: Station, app: FastAPI, judged: list[int]) -> None:
    who = visit(station, app, "viewer")
    for address in ("/", "/static/station.js", "/api/v1/images", "/images/1/map.jpg", "/nowhere", "/healthz"):
        answer = who.client.get(address)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert who.client.get("/").headers["cache-control"] == "no-store"


def test_a_decompression_bomb_is_unreadable(station: Station, app: FastAPI, line: Line) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    image_id = station.inbox.receive(line.source_id, "bomb.png", bomb).image_id
    judge_all(station)
    who = visit(station, app, "viewer")
    assert who.client.get(f"/api/v1/images/{image_id}").json()["verdict"] == "unreadable"
    assert who.client.get(f"/images/{image_id}/photo.jpg").status_code == 422


def test_a_program_sends_an_image_and_gets_the_decision(station: Station, app: FastAPI, line: Line) -> None:
    user_id = accounts.add_user(station.database, "test", "plc", PASSWORD, "operator")
    token = accounts.add_token(station.database, "test", user_id, "PLC", ["predict", "read", "judge"])
    program = visit(station, app, None).client
    program.headers["Authorization"] = f"Bearer {token}"
    address = "/api/v1/predict?product=disc&name=part-7.png"
    waiting = program.post(f"{address}&wait_s=0", content=picture(7))
    assert (waiting.status_code, waiting.json()["verdict"]) == (202, "waiting")
    judge_all(station)
    got = program.post(address, content=picture(7))
    assert got.status_code == 200
    assert got.json()["image_id"] == waiting.json()["image_id"]
    with station.database.read() as session:
        decision = session.scalars(select(Decision)).one()
    assert got.json()["score"] == decision.score
    assert program.get("/api/v1/images").json() == [got.json()]
    said = program.post("/api/v1/verdicts", json={"image_id": 1, "judgement": "defective", "defect_type": "crack"})
    assert said.status_code == 201
    assert program.get("/api/v1/verdicts/1").json()[0]["defect_type"] == "crack"
    report = program.get("/api/v1/reports/shift?start=2020-01-01&end=2100-01-01").json()
    assert sum(report["counts"].values()) == 1
    assert report["defect_types"] == [["crack", 1]]
    lines = program.get("/api/v1/exports/decisions.csv?start=2020-01-01&end=2100-01-01").text.splitlines()
    assert len(lines) == 2
    assert ",crack," in lines[1]
    summary = program.get("/api/v1/reports/summary.csv?start=2020-01-01&end=2100-01-01").text.splitlines()
    assert "defect type,crack,1,1,,,," in summary
    for wrong, status in (
        ("/api/v1/images/99", 404),
        ("/api/v1/images?limit=0", 422),
        ("/api/v1/reports/shift?start=x&end=y", 422),
        ("/api/v1/reports/shift?start=2026-01-01&end=2026-13-01", 422),
        ("/api/v1/reports/shift?start=2026-01-01&end=0001-01-01", 422),
        ("/api/v1/images/1/original", 422),
    ):
        answer = program.get(wrong)
        assert answer.status_code == status
        assert answer.json()["error"]
    assert program.post("/api/v1/predict?product=none&name=a.png", content=b"x").status_code == 404
    assert program.post("/api/v1/predict?product=disc&name=a.exe", content=b"x").status_code == 422


def test_the_description_names_every_route_of_the_api(station: Station, app: FastAPI) -> None:
    described = visit(station, app, "viewer").client.get("/api/v1/openapi.json").json()
    listed = {path for _, path, _ in routes_of(app) if path.startswith("/api/v1/")} - {"/api/v1/openapi.json"}
    assert set(described["paths"]) == listed


def test_a_number_that_no_database_holds_is_refused(station: Station, app: FastAPI, line: Line) -> None:
    who, large = visit(station, app, "engineer"), str(2**70)
    asked = (
        "/api/v1/images?product_id=",
        "/review?product=",
        "/trail?before=",
        "/live/events?after=",
        "/threshold?at=",
    )
    for address in asked[:-1]:
        assert who.client.get(f"{address}{large}").status_code == 422, address
    assert who.client.get(f"{asked[-1]}{large}").status_code == 200  # the nearest there is
    assert "larger than the database" in who.client.get(f"/trail?before={large}").text
    form = {"csrf": who.csrf, "product_id": large, "rate": 1, "reason": "a test"}
    assert who.client.post("/products/audit-rate", data=form).status_code == 422


def test_no_bar_of_a_good_image_stands_beyond_the_highest(
    station: Station, app: FastAPI, line: Line, judged: list[int]
) -> None:
    page = visit(station, app, "viewer").client.get("/threshold").text
    (highest,) = re.findall(r'class="unknown" x="([\d.]+)"', page)
    bars = re.findall(r'class="bar" x="([\d.]+)" y="[\d.]+" width="\d+" height="([\d.]+)"', page)
    standing = [float(x) for x, height in bars if float(height)]
    assert float(highest) - 1000 / 60 - 0.1 <= max(standing) < float(highest) - 0.1


def test_moving_the_threshold_is_signed_and_has_a_reason(
    station: Station, app: FastAPI, line: Line, judged: list[int]
) -> None:
    who = visit(station, app, "engineer")
    page = who.client.get("/threshold").text
    options = json.loads(re.search(r'data-options="([^"]+)"', page)[1].replace("&#34;", '"'))  # type: ignore[index]
    chosen = len(options) - 12
    form = {
        "csrf": who.csrf,
        "product_id": line.product_id,
        "model_id": line.model_id,
        "at": chosen,
        "expected": options[chosen][0],
        "reason": "lamp was changed",
        "password": PASSWORD,
    }
    for wrong in ({"password": "wrong"}, {"reason": " "}, {"model_id": 99}, {"expected": "nan"}, {"expected": "-1"}):
        assert who.client.post("/threshold", data={**form, **wrong}).status_code == 422
    with station.database.read() as session:
        assert session.scalars(select(Product.threshold)).one() is None
    assert who.client.post("/threshold", data=form).status_code == 303
    with station.database.read() as session:
        assert session.scalars(select(Product.threshold)).one() == options[chosen][0]
        entry = session.scalars(select(Entry).where(Entry.action == "threshold")).one()
        assert verify_trail(session).problem is None
    assert (entry.actor, json.loads(entry.detail)["reason"]) == ("the engineer", "lamp was changed")
    assert "lamp was changed" in who.client.get("/trail").text
    moved = who.client.get("/trail?action=threshold").text
    assert ("lamp was changed" in moved, 'title="login"' in moved) == (True, False)
    page = who.client.get("/threshold").text
    (now_at,) = re.findall('name="before" value="([^"]*)"', page)
    assert float(now_at) == options[chosen][0]
    stale = who.client.post("/threshold", data={**form, "before": float(now_at) + 0.1})  # of a page of before
    assert (stale.status_code, "somebody has moved its threshold" in stale.text) == (422, True)
    assert who.client.post("/threshold", data={**form, "before": now_at}).status_code == 303
    assert who.client.get(f"/threshold?at={chosen}").status_code == 200
    assert who.client.get("/threshold?at=100000").status_code == 200


def test_a_model_goes_live_and_back_with_a_signature(
    station: Station, app: FastAPI, line: Line, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = visit(station, app, "engineer")
    form = {"csrf": (None, who.csrf), "product_id": (None, str(line.product_id))}
    broken = who.client.post("/products/model", files={**form, "model": ("bad.onnx", onnx_file.read_bytes()[:-1])})
    assert broken.status_code == 422
    assert "bad.onnx" in broken.text
    assert len(list((station.folder.root / "models").iterdir())) == 1
    assert who.client.post("/products/model", files={**form, "model": ("b.onnx", b"junk")}).status_code == 422
    with station.database.write() as session:
        session.execute(update(Product).values(model_id=None))
    form_live = {"csrf": who.csrf, "model_id": line.model_id, "reason": "back to it", "password": PASSWORD}
    kept = next((station.folder.root / "models").iterdir())
    for damaged in (kept.read_bytes()[:-1], None):  # checked again when it is to judge
        kept.unlink()
        if damaged is not None:
            kept.write_bytes(damaged)
        answer = who.client.post("/products/live", data=form_live)
        assert (answer.status_code, "was changed since it came" in answer.text) == (422, True)
    content = onnx_file.read_bytes()
    kept.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    again = who.client.post("/products/model", files={**form, "model": ("m.onnx", content)})
    assert (again.status_code, kept.read_bytes() == content) == (303, True)
    with monkeypatch.context() as patched:
        patched.setattr("blemish.station.products.verify", _judges_otherwise)
        answer = who.client.post("/products/live", data=form_live)
    assert (answer.status_code, "judges otherwise" in answer.text) == (422, True)
    with station.database.read() as session:
        assert session.scalars(select(Product.model_id)).one() is None
    assert who.client.post("/products/live", data={**form_live, "password": "wrong"}).status_code == 422
    assert who.client.post("/products/live", data=form_live).status_code == 303
    with station.database.read() as session:
        assert session.scalars(select(Product.model_id)).one() == line.model_id
        entry = session.scalars(select(Entry).where(Entry.action == "live").order_by(Entry.seq.desc())).first()
    assert entry is not None
    assert "largest difference" in json.loads(entry.detail)["parity"]


def _judges_otherwise(path: Path, _device: str) -> None:
    raise ArtifactError(f"{path}: this machine judges otherwise")


def test_the_audit_lane_hides_our_verdict_until_a_person_has_judged(station: Station, app: FastAPI, line: Line) -> None:
    with station.database.write() as session:
        session.execute(update(Product).values(audit_rate=1.0))
    image_id = station.inbox.receive(line.source_id, "a.png", picture(3)).image_id
    judge_all(station)
    with station.database.read() as session:
        ours = session.scalars(select(Decision.verdict)).one()
    who = visit(station, app, "operator")
    live = who.client.get("/").text
    assert 'class="card audit"' in live
    assert f'class="card {ours}"' not in live
    assert who.client.get("/review").text.count("<article") == 0
    assert who.client.get(f"/images/{image_id}").headers["location"] == f"/audit?image={image_id}"
    assert who.client.get(f"/images/{image_id}/map.jpg").status_code == 403
    assert "we said" not in who.client.get("/audit").text
    ours_elsewhere = f'"{ours}"'
    for path in ("images", f"images/{image_id}", "exports/decisions.json", "exports/decisions.jsonl"):
        text = who.client.get(f"/api/v1/{path}").text.replace(" ", "")
        assert (ours_elsewhere in text, '"verdict":"audit"' in text, '"score":null' in text) == (False, True, True), (
            path
        )
    assert [len(who.client.get(f"/api/v1/images?verdict={one}").json()) for one in ("audit", ours)] == [1, 0]
    assert who.client.get(f"/api/v1/images/{image_id}/map").status_code == 403
    assert who.client.get(f"/api/v1/images/{image_id}/photo").status_code == 200
    trail = who.client.get("/trail?everything=true").text
    assert ("shown when a person has judged it" in trail, f"<i>verdict</i> {ours}<" in trail) == (True, False)
    told = Visitor(TestClient(app), "").client  # what waits for a part acts on it at once
    user_id = accounts.add_user(station.database, "test", "plc", "correct horse battery", "operator")
    token = accounts.add_token(station.database, "test", user_id, "PLC", ["predict", "read"])
    told.headers["Authorization"] = f"Bearer {token}"
    assert told.get(f"/api/v1/images/{image_id}").json()["verdict"] == ours
    assert told.get("/api/v1/images").json()[0]["verdict"] == "audit"
    form = {"csrf": who.csrf, "image_id": image_id, "judgement": "defective"}
    done = who.client.post("/audit", data=form)
    assert "we said" in who.client.get(done.headers["location"]).text
    assert "late=true" in who.client.post("/audit", data={**form, "judgement": "good"}).headers["location"]
    assert f'class="card {ours}"' in who.client.get("/").text
    assert ours_elsewhere in who.client.get("/api/v1/exports/decisions.json").text
    assert f"<i>verdict</i> {ours}<" in who.client.get("/trail?everything=true").text
    assert who.client.get(f"/images/{image_id}").status_code == 200


def test_review_shows_the_worst_first_and_leaves_out_what_was_judged(
    station: Station, app: FastAPI, judged: list[int]
) -> None:
    who = visit(station, app, "operator")

    def shown() -> list[int]:
        return [int(found) for found in re.findall(r'data-image="(\d+)"', who.client.get("/review").text)]

    with station.database.read() as session:
        rejects = session.scalars(select(Decision).where(Decision.verdict == "anomalous")).all()
    expected = [one.image_id for one in sorted(rejects, key=lambda one: (one.p_value, -(one.score or 0)))]
    assert shown() == expected
    assert expected
    who.client.post("/verdict", data={"csrf": who.csrf, "image_id": expected[0], "judgement": "unsure"})
    assert shown() == expected[1:]
    assert f"<b data-left>{len(expected) - 1}</b>" in who.client.get("/review").text
    said = {"csrf": who.csrf, "image_id": expected[0], "judgement": "defective", "defect_type": "crack"}
    who.client.post("/verdict", data=said)
    assert "<kbd>1</kbd> defect type" in who.client.get("/review").text


@pytest.fixture
def doubtful(station: Station, line: Line) -> list[int]:
    """Numbers of an image that is flagged, and of one that is as odd but passes a threshold set by hand."""
    numbers = []
    for seed, values in ((1, {}), (2, {"threshold": 1e6, "doubt_rate": 0.5})):
        with station.database.write() as session:
            session.execute(update(Product).values(**values) if values else update(Product).values(doubt_rate=0.5))
        numbers.append(station.inbox.receive(line.source_id, f"{seed}.png", picture(seed)).image_id)
        judge_all(station)
    return numbers


def test_what_passes_but_is_doubtful_is_reviewed_after_the_rejects(
    station: Station, app: FastAPI, line: Line, doubtful: list[int]
) -> None:
    flagged, passed = doubtful
    who = visit(station, app, "operator")
    page = who.client.get("/review").text
    assert re.findall(r'class="card (\w+)" data-image="(\d+)"', page) == [
        ("anomalous", str(flagged)),
        ("doubtful", str(passed)),
    ]
    assert "<b data-left>2</b>" in page
    assert 'class="card doubtful"' in who.client.get("/").text
    assert re.findall(r'data-image="(\d+)"', who.client.get("/images?verdict=doubtful").text) == [str(passed)]
    assert "a person is to look at it" in who.client.get(f"/images/{passed}").text
    told = [who.client.get(f"/api/v1/images/{one}").json() for one in doubtful]
    assert [(one["verdict"], one["is_doubtful"]) for one in told] == [("anomalous", False), ("good", True)]
    exported = who.client.get("/api/v1/exports/decisions.json").json()
    assert [one["is_doubtful"] for one in exported] == [False, True]
    assert "nobody has judged them yet" in who.client.get("/report").text
    who.client.post("/verdict", data={"csrf": who.csrf, "image_id": passed, "judgement": "defective"})
    assert "people called 1 of 1 defective" in who.client.get("/report").text
    summary = "/api/v1/reports/summary.csv?start=2000-01-01&end=2999-01-01"
    assert "doubtful,defective,1,1" in who.client.get(summary).text
    assert re.findall(r'data-image="(\d+)"', who.client.get("/review").text) == [str(flagged)]
    with station.database.read() as session:
        assert verify_trail(session).problem is None


def test_rejects_of_different_thresholds_are_reviewed_by_how_far_they_exceed_theirs(
    station: Station, app: FastAPI, line: Line
) -> None:
    for seed, threshold in ((1, 1e-3), (2, None)):
        with station.database.write() as session:
            session.execute(update(Product).values(threshold=threshold))
        station.inbox.receive(line.source_id, f"{seed}.png", picture(seed))
        judge_all(station)
    with station.database.read() as session:
        decisions = session.scalars(select(Decision).order_by(Decision.id)).all()
        order = [str(one.image_id) for one in decisions]
        assert decisions[0].p_value == decisions[1].p_value
        assert (decisions[0].score or 0.0) < (decisions[1].score or 0.0)
    assert re.findall(r'data-image="(\d+)"', visit(station, app, "operator").client.get("/review").text) == order


def test_what_is_doubtful_is_hidden_as_long_as_a_verdict_is(
    station: Station, app: FastAPI, doubtful: list[int]
) -> None:
    with station.database.write() as session:
        session.execute(update(Image).values(is_audit=True))
    who = visit(station, app, "operator")
    assert who.client.get("/review").text.count("<article") == 0
    assert who.client.get("/images?verdict=doubtful").text.count("<article") == 0
    assert 'class="card doubtful"' not in who.client.get("/").text
    assert "looked at again" not in who.client.get("/report").text
    assert who.client.get(f"/api/v1/images/{doubtful[1]}").json()["is_doubtful"] is None
    assert [one["is_doubtful"] for one in who.client.get("/api/v1/exports/decisions.json").json()] == [None, None]


def test_a_second_rate_is_one_at_which_something_can_be_doubtful(station: Station, app: FastAPI, line: Line) -> None:
    who = visit(station, app, "engineer")
    form = {"csrf": who.csrf, "product_id": line.product_id, "reason": "parts are dear"}

    def answer(rate: float) -> tuple[int, str]:
        sent = who.client.post("/products/doubt-rate", data={**form, "rate": rate})
        return sent.status_code, sent.text

    assert answer(70.0)[0] == 303
    for rate, why in (
        (100.0, "less than 100 %"),
        (-1.0, "less than 100 %"),
        (float("nan"), "less than 100"),
        (60.0, "66.7 %: give at least that, or 0"),  # two calibration images: p-values are thirds
    ):
        status, text = answer(rate)
        assert (status, why in text) == (422, True), rate
    assert "At most 70\N{NO-BREAK SPACE}% are flagged or doubtful" in who.client.get("/products").text
    with station.database.write() as session:  # below all calibration scores: everything may be flagged
        session.get_one(Product, line.product_id).threshold = 0.0
    page = who.client.get("/products").text
    assert ("% are flagged or doubtful" in page, "something would be from 100\N{NO-BREAK SPACE}% on" in page) == (
        False,
        True,
    )
    assert "nothing that passes would be doubtful: give 0 for none" in answer(99.0)[1]
    assert answer(0.0)[0] == 303
    assert "doubtful:" not in who.client.get("/products").text
    with station.database.read() as session:
        assert session.scalars(select(Entry.subject).where(Entry.action == "doubt rate")).all() == ["disc", "disc"]


@pytest.mark.slow
def test_events_are_the_cards_of_the_page(
    station: Station, app: FastAPI, judged: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from blemish.station import pages

    monkeypatch.setattr(pages, "STREAM_S", 0.2)
    monkeypatch.setattr(pages, "LOOK_EVERY_S", 0.05)
    who = visit(station, app, "viewer")
    text = who.client.get("/live/events?after=2").text
    events = [json.loads(one) for one in re.findall(r"^id: \d+\ndata: (.*)$", text, re.MULTILINE)]
    states = [json.loads(one)["html"] for one in re.findall(r"^event: state\ndata: (.*)$", text, re.MULTILINE)]
    assert len(states) == 1  # it has not changed
    assert 'class="promise"' in states[0]
    assert len(events) == len(judged) - 2
    assert "&lt;img src=x" in events[-1]["html"]
    resumed = who.client.get("/live/events?after=0", headers={"Last-Event-ID": "4"}).text
    assert re.findall(r"^id: (\d+)$", resumed, re.MULTILINE) == ["5"]


def test_a_page_that_is_open_turns_amber_when_the_guarantee_goes(
    station: Station, app: FastAPI, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blemish.station import pages

    monkeypatch.setattr(pages, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(pages, "STATE_EVERY_S", 0.01)
    who, looked, draw = visit(station, app, "viewer"), [], pages._state

    def change_after_the_first(*given: Any) -> str:
        html = draw(*given)
        if looked:
            monkeypatch.setattr(pages, "STREAM_S", 0.0)  # however long it took: the stream ends after the second look
        else:
            with station.database.write() as session:
                alarm = DriftAlarm(product_id=line.product_id, model_id=line.model_id, stream="brightness", usual=0.5)
                alarm.found, alarm.images, alarm.image, alarm.raised_at, alarm.trail_seq = 0.4, 9, "a.png", now(), 1
                session.add(alarm)
        looked.append(html)
        return html

    monkeypatch.setattr(pages, "_state", change_after_the_first)
    text = who.client.get("/live/events?after=0").text
    states = [json.loads(one)["html"] for one in re.findall(r"^event: state\ndata: (.*)$", text, re.MULTILINE)]
    assert len(states) == 2
    assert 'class="promise open"' in states[1]
    assert "the brightness" in states[1]


def test_ready_means_database_and_worker(station: Station, app: FastAPI) -> None:
    client = visit(station, app, None).client
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/readyz").json() == {"problems": ["the worker does not run"]}
    station.folder.heartbeat.touch()
    assert client.get("/readyz").status_code == 200


def test_metrics_count_what_was_decided(station: Station, app: FastAPI, judged: list[int]) -> None:
    text = visit(station, app, "viewer").client.get("/metrics").text
    assert 'blemish_decisions_total{product="disc",verdict="unreadable"} 1.0' in text
    assert "blemish_queue_images 0.0" in text
    assert "blemish_worker_up 0.0" in text


def test_a_withdrawn_certificate_turns_the_promise_amber_and_says_what_to_do(
    station: Station, app: FastAPI, line: Line
) -> None:
    who = visit(station, app, "engineer")
    assert 'class="promise"' in who.client.get("/").text
    with station.database.write() as session:
        alarm = DriftAlarm(product_id=line.product_id, model_id=line.model_id, stream="brightness", usual=0.5)
        alarm.found, alarm.images, alarm.image, alarm.raised_at, alarm.trail_seq = 0.4, 9, NASTY, now(), 1
        session.add(alarm)
    text = who.client.get("/").text
    assert 'class="promise open"' in text
    assert "the brightness: 0.5000 → 0.4000" in text
    assert "Judging goes on, without a guarantee." in text
    form = {"csrf": who.csrf, "product_id": line.product_id, "stops": "true", "smallest_change": "2.5"}
    assert who.client.post("/products/drift", data={**form, "reason": ""}).status_code == 422
    assert who.client.post("/products/drift", data={**form, "reason": "no parts unchecked"}).status_code == 303
    station.inbox.receive(line.source_id, "a.png", picture(1))
    assert "Judging has stopped; 1 image waits." in who.client.get("/").text
    assert "blemish_guarantee_withdrawn" in who.client.get("/metrics").text


def test_pages_stand_a_model_of_another_version(station: Station, app: FastAPI, line: Line, judged: list[int]) -> None:
    with station.database.write() as session:
        session.execute(update(Model).values(header='{"format": 99}'))
    who = visit(station, app, "administrator")
    for page in ("/", "/products", "/review", "/report", "/audit", f"/images/{judged[0]}"):
        assert who.client.get(page).status_code == 200, page
    assert "another version" in who.client.get("/products").text
    assert who.client.get("/threshold").status_code == 200


def test_a_page_about_a_model_begins_with_a_product_that_has_one(station: Station, line: Line, app: FastAPI) -> None:
    add_product(station.database, "test", "a product without a model")
    who = visit(station, app, "viewer")
    for path in ("/recalibrate", "/threshold"):
        assert f'<option value="{line.product_id}" selected>' in who.client.get(path).text


def test_pages_of_several_products_show_all_of_them_or_one(station: Station, line: Line, app: FastAPI) -> None:
    other = add_product(station.database, "test", "nut & bolt")
    who = visit(station, app, "viewer")
    for path in ("/", "/review", "/report"):
        for query, chosen in (("", ""), ("?product=", ""), (f"?product={other}", str(other))):
            page = who.client.get(f"{path}{query}").text
            assert '<option value="">all products</option>' in page
            assert re.findall(r'<option value="(\d+)" selected>', page) == ([chosen] if chosen else []), (path, query)
    assert who.client.get("/?product=x").status_code == 422
    assert "/api/v1/predict?product=nut%20%26%20bolt<" in who.client.get("/products").text


def test_an_image_says_its_product_where_a_page_shows_those_of_several(
    station: Station, line: Line, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blemish.station import pages

    monkeypatch.setattr(pages, "STREAM_S", 0.1)
    monkeypatch.setattr(pages, "LOOK_EVERY_S", 0.01)
    station.inbox.receive(line.source_id, "a.png", b"<html>")
    judge_all(station)
    client = visit(station, app, "viewer").client
    paths = ("/", "/images", "/live/events?after=0")
    assert [path for path in paths if "name product" in client.get(path).text] == []
    add_product(station.database, "test", "nut & bolt")
    for path in paths:
        assert re.findall(r'"name product\\?">(\w+)<', client.get(path).text) == ["disc"], path
        mark = "&" if "?" in path else "?"
        assert "name product" not in client.get(f"{path}{mark}product={line.product_id}").text


def test_an_entry_that_was_tampered_with_is_shown_all_the_same(station: Station, line: Line, app: FastAPI) -> None:
    with station.database.write() as session:
        session.execute(update(Entry).where(Entry.seq == 2).values(detail="{<cut"))
    page = visit(station, app, "viewer").client.get("/trail?check=true").text
    assert "{&lt;cut" in page
    assert "entry 2 was changed" in page


def test_the_card_of_an_unreadable_image_says_why(station: Station, line: Line, app: FastAPI) -> None:
    station.inbox.receive(line.source_id, "a.png", b"<html>")
    judge_all(station)
    page = visit(station, app, "viewer").client.get("/", headers={"Accept-Language": "de"}).text
    assert "<small>eine HTML-Seite oder SVG-Zeichnung; gelesen werden" in page


@pytest.mark.parametrize(("language", "good", "unreadable"), [("en", "good", "unreadable"), ("de", "gut", "unlesbar")])
def test_pictures_that_lead_to_an_image_have_a_name(
    station: Station, app: FastAPI, judged: list[int], language: str, good: str, unreadable: str
) -> None:
    with station.database.write() as session:
        session.execute(update(Decision).where(Decision.image_id == judged[0]).values(verdict="good"))
        session.execute(update(Decision).where(Decision.image_id == judged[1]).values(verdict="anomalous"))
    client = visit(station, app, "viewer").client
    client.headers["Accept-Language"] = language
    for page, wanted in (("/", 5), ("/review", 1)):
        text = client.get(page).text
        links = re.findall(r'<a class="picture".*?</a>', text, re.DOTALL)
        assert len(links) >= wanted
        assert [one for one in links if not re.search(r'alt="\w+, \d\.png"|"unseen">\w+, ', one)] == []
        if page == "/":
            assert f'alt="{good}, 0.png"' in text
            assert f'<span class="unseen">{unreadable}, ' in text


@pytest.mark.parametrize(("language", "said"), [("en", "4095 of 65535: 12 bits in 16?"), ("de", "12 Bit in 16?")])
def test_the_page_of_a_photo_of_few_bits_in_sixteen_says_so(
    station: Station, line: Line, app: FastAPI, language: str, said: str
) -> None:
    deep = io.BytesIO()
    Picture.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(deep, "PNG")
    image_id = station.inbox.receive(line.source_id, "deep.png", deep.getvalue()).image_id
    judge_all(station)
    client = visit(station, app, "viewer").client
    assert said in client.get(f"/images/{image_id}", headers={"Accept-Language": language}).text
    assert "12 bits in 16?" in client.get(f"/api/v1/images/{image_id}").json()["message"]


HTML, SCRIPT = {"Accept": "text/html"}, {"Accept": "application/json"}


def test_a_script_is_never_answered_with_the_page_to_log_in(station: Station, app: FastAPI, judged: list[int]) -> None:
    who = visit(station, app, "operator")
    said = {"csrf": who.csrf, "image_id": judged[0], "judgement": "good"}
    assert who.client.post("/verdict", data=said, headers=SCRIPT).status_code == 204
    who.post("/logout")
    answer = who.client.post("/verdict", data=said, headers=SCRIPT)  # a 303 to a page would count as taken
    assert (answer.status_code, answer.json()) == (401, {"error": "log in, or send a token"})
    with station.database.read() as session:
        assert len(session.scalars(select(Verdict)).all()) == 1


def test_one_comes_back_to_where_something_did_not_work(station: Station, app: FastAPI, line: Line) -> None:
    who, form = visit(station, app, "engineer"), {"product_id": line.product_id, "rate": 200, "reason": "as agreed"}
    for before, back in (("http://testserver/products?a=b", "/products?a=b"), ("http://evil.example/products", "")):
        headers = {**HTML, "Referer": before, "X-CSRF-Token": who.csrf}
        answer = who.client.post("/products/audit-rate", data=form, headers=headers)
        links = re.findall('<a href="([^"]*)" data-back>', answer.text)
        assert (answer.status_code, links) == (422, [back] if back else [])
    who.post("/logout")
    headers = {"Referer": "http://testserver/products"}
    answer = who.client.post("/products/audit-rate", data=form, headers=headers)
    assert answer.headers["location"] == "/login?next=/products"


def test_a_form_that_was_taken_says_so(station: Station, app: FastAPI, line: Line) -> None:
    who = visit(station, app, "administrator")
    answers = [
        who.post("/users/password", user_id="1", password="another horse battery"),
        visit(station, app, "engineer").post("/products/audit-rate", product_id="1", rate="3", reason="as agreed"),
    ]
    assert [one.headers["location"] for one in answers] == ["/users?noted=true", "/products?noted=true"]  # type: ignore[attr-defined]
    assert 'role="status">It is noted' in visit(station, app, "engineer").client.get("/products?noted=true").text


def test_an_image_that_is_sent_by_hand_is_shown(station: Station, app: FastAPI, line: Line) -> None:
    who = visit(station, app, "operator")
    sent = {"csrf": who.csrf, "product": "disc"}
    answer = who.client.post("/products/image", data=sent, files={"image": ("a.png", picture(1))})
    assert answer.headers["location"] == "/images/1"
    waits = 'http-equiv="refresh"'
    assert waits in who.client.get("/images/1").text
    judge_all(station)
    assert waits not in who.client.get("/images/1").text


def test_what_is_too_large_is_told_on_a_page(station: Station, app: FastAPI) -> None:
    headers = {**HTML, "Content-Length": str(10 * 1024 * limits.MIB)}
    answer = TestClient(app).post("/products/image", headers=headers)
    assert answer.status_code == 413
    assert "<h1>Too large</h1>" in answer.text
    assert "Content-Security-Policy" in answer.headers


def test_a_fault_of_ours_has_a_page_with_a_way_back(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("blemish.station.sign_in.render", fail)
    client = TestClient(app, raise_server_exceptions=False)
    answer = client.get("/login", headers={**HTML, "Accept-Language": "de"})
    assert (answer.status_code, "ein Fehler in blemish selbst" in answer.text) == (500, True)
    assert 'href="/"' in answer.text
    assert "Content-Security-Policy" in answer.headers


def drawn_for_the_audit_lane(station: Station, line: Line, number: int) -> list[int]:
    """Images that were decided and wait for a person."""
    with station.database.write() as session:
        session.execute(update(Product).values(audit_rate=1.0))
    found = [station.inbox.receive(line.source_id, f"drawn-{n}.png", picture(n)).image_id for n in range(number)]
    judge_all(station)
    return found


def test_counts_of_the_live_page_leave_out_what_is_hidden_and_stay_as_they_are(
    station: Station, app: FastAPI, line: Line, judged: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from blemish.station import pages

    monkeypatch.setattr(pages, "STREAM_S", 0.05)
    monkeypatch.setattr(pages, "LOOK_EVERY_S", 0.05)
    who = visit(station, app, "operator")
    count = r'data-count="(\w+)">(\d+)<'
    before = dict(re.findall(count, who.client.get("/").text))
    assert sum(int(before[one]) for one in ("good", "anomalous", "unreadable")) == len(judged)
    last = max(judged)
    drawn = drawn_for_the_audit_lane(station, line, 2)
    expected = {**before, "audit": "2"}
    assert dict(re.findall(count, who.client.get("/").text)) == expected
    for after in (last, last + 1, last + 2):
        text = who.client.get(f"/live/events?after={after}").text
        told = json.loads(re.findall(r"^event: state\ndata: (.*)$", text, re.MULTILINE)[-1])["counts"]
        assert {name: str(number) for name, number in told.items()} == expected
    who.post("/audit", image_id=str(drawn[0]), judgement="good")
    now = dict(re.findall(count, who.client.get("/").text))
    assert now["audit"] == "1"
    assert sum(int(number) for number in now.values()) == len(judged) + 2


def test_streams_end_when_the_server_does(station: Station, app: FastAPI, line: Line) -> None:
    station.stopping.set()
    begun = time.monotonic()
    assert visit(station, app, "viewer").client.get("/live/events?after=0").text == "retry: 1000\n\n"
    assert time.monotonic() - begun < 30.0


def test_two_people_in_the_audit_lane_do_not_get_in_each_others_way(station: Station, app: FastAPI, line: Line) -> None:
    drawn_for_the_audit_lane(station, line, 7)
    people = [visit(station, app, "operator"), visit(station, app, "engineer")]
    shown = [re.findall(r'name="image_id" value="(\d+)"', one.client.get("/audit").text)[0] for one in people]
    assert shown[0] != shown[1]
    first, second = people
    said = {"image_id": shown[0], "judgement": "good"}
    again = [first.post("/audit", **said).headers["location"] for _ in range(2)]  # type: ignore[attr-defined]
    assert again == [f"/audit?done={shown[0]}"] * 2  # pressed twice
    late = second.post("/audit", **said).headers["location"]  # type: ignore[attr-defined]
    assert "yours was not noted" in second.client.get(late).text


def test_the_audit_lane_takes_a_defect_by_its_type_and_stays_with_the_product(
    station: Station, app: FastAPI, line: Line
) -> None:
    drawn = drawn_for_the_audit_lane(station, line, 2)
    who = visit(station, app, "operator")
    form = {"image_id": str(drawn[0]), "product": str(line.product_id)}
    assert who.post("/audit", **form).status_code == 422  # type: ignore[attr-defined]  # neither said nor pressed
    done = who.post("/audit", **form, defect_type="crack").headers["location"]  # type: ignore[attr-defined]
    assert done == f"/audit?done={drawn[0]}&product={line.product_id}"
    text = who.client.get(done).text
    assert (f'name="product" value="{line.product_id}"' in text, 'name="defect_type" value="crack"' in text) == (
        True,
        True,
    )
    assert (
        f"/audit?done={drawn[0]}&late=true&product=" in who.post("/audit", **form, judgement="good").headers["location"]
    )  # type: ignore[attr-defined]
    with station.database.read() as session:
        said = session.scalars(select(Verdict)).one()
    assert (said.lane, said.judgement, said.defect_type) == ("audit", "defective", "crack")


def test_a_viewer_is_told_why_an_image_is_not_shown(station: Station, app: FastAPI, line: Line) -> None:
    (image_id,) = drawn_for_the_audit_lane(station, line, 1)
    answer = visit(station, app, "viewer").client.get(f"/images/{image_id}", headers=HTML)
    assert (answer.status_code, "when a person has judged it" in answer.text) == (403, True)


def test_images_are_found_by_name_verdict_and_time(
    station: Station, app: FastAPI, line: Line, judged: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from blemish.station import pages

    (drawn,) = drawn_for_the_audit_lane(station, line, 1)
    who = visit(station, app, "viewer")

    def shown(**asked: object) -> list[int]:
        page = who.client.get("/images", params=asked, headers=HTML).text
        return [int(found) for found in re.findall(r'data-image="(\d+)"', page)]

    assert shown() == [drawn, *reversed(judged)]
    assert shown(name="IMG SRC=X") == [judged[-1]]
    assert shown(name="%") == shown(start="2100-01-01T00:00") == shown(end="2026-01-01T00:00") == []
    assert shown(verdict="audit") == [drawn]
    assert shown(verdict="unreadable", start="2026-01-01T00:00", end="2100-01-01T00:00") == [judged[-1]]
    assert drawn not in shown(verdict="good") + shown(verdict="anomalous")
    assert who.client.get("/images?verdict=bad").status_code == 422
    monkeypatch.setattr(pages, "IMAGES_A_PAGE", 4)
    page = who.client.get("/images?verdict=&name=.PNG").text
    (older,) = re.findall('<a href="(/images[?][^"]*)">Older', page)
    assert re.findall(r'data-image="(\d+)"', who.client.get(older.replace("&amp;", "&")).text) == ["2", "1"]
    report = who.client.get("/report").text
    links = [one.replace("&amp;", "&") for one in re.findall('href="(/images[?][^"]*)"', report)]
    assert all(who.client.get(one).status_code == 200 for one in links)
    counts = {name: int(n) for name, n in re.findall(r'href="/images[?]verdict=(\w+)&[^"]*">(\d+)<', report)}
    assert counts == {name: len(shown(verdict=name)) for name in ("good", "anomalous", "unreadable", "audit")}


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("/images?name=a%00b", 422),
        ("/images?start=9999-12-31T23:59-14:00", 422),
        ("/report?end=0001-01-01T00:00%2B14:00", 422),
        ("/images?name=%22%3E%3Cscript%3E", 200),
    ],
)
def test_hostile_queries_are_refused_or_find_nothing(asked: str, status: int, station: Station, app: FastAPI) -> None:
    answer = visit(station, app, "viewer").client.get(asked, headers=HTML)
    assert (answer.status_code, "<script>" in answer.text) == (status, False)


def test_a_report_that_ends_before_it_begins_is_refused(station: Station, app: FastAPI) -> None:
    who = visit(station, app, "viewer")
    answer = who.client.get("/report?start=2026-11-27T14:00&end=2026-11-27T06:00", headers=HTML)
    assert (answer.status_code, "give an end after the beginning" in answer.text) == (422, True)


def test_a_page_that_is_not_there_has_the_menu_of_whoever_is_logged_in(station: Station, app: FastAPI) -> None:
    page = visit(station, app, "viewer").client.get("/nowhere", headers=HTML)
    assert (page.status_code, '<a href="/report"' in page.text, 'action="/logout"' in page.text) == (404, True, True)
    german = visit(station, app, "viewer").client.get("/nowhere", headers={**HTML, "Accept-Language": "de"})
    assert "unter dieser Adresse gibt es keine Seite" in german.text
    stranger = TestClient(app).get("/nowhere", headers=HTML)
    assert (stranger.status_code, "/report" in stranger.text) == (404, False)
