"""The files for deployment: their syntax, and that what they name is there."""

import configparser
import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from sqlalchemy import make_url

from blemish.cli import app
from blemish.station.app import Station
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.service import metrics

DEPLOY = Path(__file__).parents[2] / "deploy"


def options_of(*names: str) -> set[str]:
    command = typer.main.get_command(app)
    for name in names:
        command = command.commands[name]  # type: ignore[attr-defined]
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")}


def options_of_serve() -> set[str]:
    return options_of("station", "serve")


@pytest.mark.parametrize(("name", "command"), [("station", ("station", "serve")), ("watch", ("watch",))])
def test_the_units_start_the_commands_with_options_they_have(name: str, command: tuple[str, ...]) -> None:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / f"blemish-{name}.service")
    assert set(parser.sections()) == {"Unit", "Service", "Install"}
    words = shlex.split(parser["Service"]["ExecStart"])
    assert words[1] == name
    assert {word for word in words if word.startswith("--")} <= options_of(*command)


def test_the_container_copies_what_is_there_and_starts_the_command() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    for line in lines:
        if line.startswith("COPY"):
            for name in line.split()[1:-1]:
                assert (DEPLOY.parent / name).exists(), name
    (entry,) = [json.loads(line.partition(" ")[2]) for line in lines if line.startswith("ENTRYPOINT")]
    assert entry[:2] == ["blemish", "station"]
    assert {word for word in entry if word.startswith("--")} <= options_of_serve()


def test_the_services_of_the_compose_file_fit_together() -> None:
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    station, database = content["services"]["station"], content["services"]["database"]
    url = make_url(station["environment"]["BLEMISH_STATION_DATABASE"])
    assert (url.host, url.database) == ("database", database["environment"]["POSTGRES_DB"])
    assert url.username == database["environment"]["POSTGRES_USER"]
    for service in content["services"].values():
        assert set(service["secrets"]) <= set(content["secrets"])
    assert {word for word in station["command"] if word.startswith("--")} <= options_of_serve()
    assert yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]


def test_the_dashboard_asks_for_metrics_there_are(sqlite: Database, folder: StationFolder) -> None:
    told = bytes(metrics(Station(sqlite, folder)).body).decode()
    known = set(re.findall(r"^# TYPE (\w+)", told, re.MULTILINE))
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    asked = {name for panel in dashboard["panels"] for name in re.findall(r"blemish_\w+", panel["targets"][0]["expr"])}
    assert asked <= known
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
