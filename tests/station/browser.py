"""A browser without a window, and people who log in with it, for the tests of pages and API."""

import re
from collections.abc import Iterator
from typing import NamedTuple, final

from fastapi.testclient import TestClient
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from blemish.station import accounts, queue
from blemish.station.app import Station
from blemish.station.judge import commit
from blemish.station.tables import ROLES, Role

CHEAP = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))
PASSWORD = "correct horse battery"


@final
class Visitor(NamedTuple):
    """A client that is logged in, or not; it follows no redirects, and sends the CSRF token of its session."""

    client: TestClient
    csrf: str

    def get(self, address: str, **more: object) -> object:
        return self.client.get(address, **more)  # type: ignore[arg-type]

    def post(self, address: str, **fields: object) -> object:
        return self.client.post(address, data={"csrf": self.csrf, **fields})


def visit(station: Station, app: object, role: Role | None) -> Visitor:
    """Log in as somebody of that role, who is made where there is none."""
    client = TestClient(app, follow_redirects=False)  # type: ignore[arg-type]
    if role is None:
        return Visitor(client, "")
    name = f"the {role}"
    if accounts.check_password(station.database, name, PASSWORD) is None:
        accounts.add_user(station.database, "test", name, PASSWORD, role)
    answer = client.post("/login", data={"name": name, "password": PASSWORD})
    assert answer.status_code == 303, answer.text
    found = re.search(r'<meta name="csrf" content="([^"]+)"', client.get("/trail").text)
    assert found is not None
    return Visitor(client, found[1])


def judge_all(station: Station) -> None:
    """Decide everything in the queue."""
    while tasks := queue.take(station.database, "test"):
        for task in tasks:
            commit(station.database, "test", task, station.judge.judge(task))


def roles_below(role: Role) -> Iterator[Role | None]:
    """Those who may less."""
    yield None
    yield from ROLES[: ROLES.index(role)]
