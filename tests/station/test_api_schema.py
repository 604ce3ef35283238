"""The API against its own description: requests made from the schema, right and wrong ones, find no error of ours."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, seed, settings
from sqlalchemy import update

from blemish.station import accounts
from blemish.station.app import Station, make_app
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.tables import Product
from station.browser import judge_all
from station.line import picture, set_up_line

pytestmark = pytest.mark.slow

SCOPES = ("predict", "read", "judge", "manage")
EXAMPLES = 12
"""Requests of each kind to each address."""


def test_requests_from_the_schema_are_answered_as_it_says(
    sqlite: Database, folder: StationFolder, onnx_file: Path
) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="no schemathesis")
    line = set_up_line(sqlite, folder, onnx_file)
    with sqlite.write() as session:
        session.execute(update(Product).values(audit_rate=0.0))
    station = Station(sqlite, folder)
    for number in range(3):
        station.inbox.receive(line.source_id, f"{number}.png", picture(number))
    judge_all(station)
    user_id = accounts.add_user(sqlite, "test", "program", "correct horse battery", "engineer")
    token = accounts.add_token(sqlite, "test", user_id, "fuzz", list(SCOPES))
    app = make_app(station)
    schema = schemathesis.openapi.from_dict(app.openapi())
    client = TestClient(app, raise_server_exceptions=True, headers={"Authorization": f"Bearer {token}"})
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @seed(0)
        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            nonlocal asked
            kwargs = case.as_transport_kwargs(base_url="http://testserver")
            kwargs["params"] = {**(kwargs.get("params") or {}), **_at_once(case.path)}
            kwargs.pop("cookies", None)
            data = kwargs.pop("data", None)
            answer = client.request(**kwargs, **({} if data is None else {"content": data}))
            asked += 1
            described = case.operation.definition.raw["responses"]
            assert answer.status_code < 500, (case.method, case.path, kwargs, answer.text)
            assert str(answer.status_code) in described or answer.status_code in (400, 401, 403, 404, 405, 413, 422), (
                case.method,
                case.path,
                answer.status_code,
            )
            if answer.status_code >= 400:
                assert answer.json()["error"]

        ask()
    assert asked > 100


def _at_once(path: str) -> dict[str, str]:
    """Nobody judges here: do not wait for it."""
    return {"wait_s": "0"} if path == "/api/v1/predict" else {}
