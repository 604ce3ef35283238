"""The commands in docs/howto/station-connect.md work as they are printed."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from blemish.cli import app as command
from blemish.station.app import Station, make_app
from blemish.station.connect import CameraIn
from blemish.station.database import open_database
from blemish.station.folder import open_folder
from station.browser import visit
from station.test_cameras import film

PAGE = (Path(__file__).parents[2] / "docs/howto/station-connect.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_commands_and_requests_work_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "belt.avi")
    lines = [line.split("#")[0] for line in PAGE.splitlines() if re.match("blemish station (add|tell|export) ", line)]
    assert len(lines) == 5
    for line in lines:
        ran = CliRunner().invoke(command, shlex.split(line)[1:])
        assert ran.exit_code == 0, (line, ran.output)
    folder = open_folder(Path("STATION"))
    database = open_database(folder.default_database, folder.id)
    station = Station(database, folder)
    engineer = visit(station, make_app(station), "engineer")
    body = CameraIn(**json.loads(re.findall(r"-d '(\{.*\})'", PAGE)[0])).model_dump()
    body["address"] += "?2"  # the command before has entered the address itself
    headers = {"X-CSRF-Token": engineer.csrf}
    assert engineer.client.post("/api/v1/sources", json=body, headers=headers).status_code == 201
    (asked,) = re.findall(r"127\.0\.0\.1:8742(/api/v1/exports/[^\"]*)", PAGE)
    assert engineer.client.get(asked).status_code == 200
    database.close()
