"""`blemish doctor`: what is said of a sound installation, and of one that is not."""

import base64
import importlib.metadata
import json
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from onnx import TensorProto, helper

from blemish.errors import ArtifactError
from blemish.evaluation import doctor
from blemish.evaluation.doctor import SPOT_GRAPH, examine
from reference.command import run


def states(folder: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for finding in examine(folder, self_test=False):
        found.setdefault(finding.topic, set()).add(finding.state)
    return found


def test_here_nothing_is_wrong(tmp_path: Path) -> None:
    assert "bad" not in set().union(*states(tmp_path).values())
    assert list(tmp_path.iterdir()) == []  # it tried to write, and left nothing


@pytest.mark.parametrize(("free", "state"), [(3_000_000, "bad"), (300_000_000, "note"), (3_000_000_000, "good")])
def test_a_disk_without_room_for_a_model_is_wrong(
    free: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    assert states(tmp_path)["disk"] == {state}


def test_the_spot_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._judge_spot().state == "good"
    identity = helper.make_graph(
        [helper.make_node("ReduceMin", ["images"], ["maps"], axes=[1], keepdims=0)],
        "another",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [None, 3, None, None])],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, [None, None, None])],
    )
    other = helper.make_model(identity, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    monkeypatch.setattr(doctor, "SPOT_GRAPH", base64.b64encode(other.SerializeToString()).decode())
    assert doctor._judge_spot().state == "bad"  # the brightest is not how far from the mean


def test_the_graph_of_the_spot_is_what_is_said_of_it() -> None:
    graph = onnx.load_from_string(base64.b64decode(SPOT_GRAPH)).graph
    assert [node.op_type for node in graph.node] == ["AveragePool", "Sub", "Abs", "ReduceMax"]


@pytest.mark.slow
def test_trains_and_judges() -> None:
    finding = doctor._train_and_judge()
    assert finding.state == "good", finding


def test_a_package_that_is_too_old_and_one_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "torch":
            return "2.1.0"
        if name == "sqlalchemy":
            raise importlib.metadata.PackageNotFoundError(name)
        return importlib.metadata.version(name)

    monkeypatch.setattr(doctor, "version", version)
    by_topic = {finding.topic: finding for finding in doctor._packages(tmp_path)}
    assert by_topic["train"].state == "bad"
    assert "torch 2.1.0 where >=2.6 is needed" in by_topic["train"].found
    assert "blemish[train]" in by_topic["train"].advice
    assert (by_topic["station"].state, by_topic["station"].found) == ("note", "without sqlalchemy")
    assert by_topic["base"].state == "good"


def test_a_folder_that_is_not_there_and_one_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert states(tmp_path / "absent")["folder"] == {"bad"}

    def refuse(path: Path) -> None:
        raise ArtifactError(f"{path}: read-only")

    monkeypatch.setattr(doctor, "atomic_write", refuse)
    assert states(tmp_path)["folder"] == {"bad"}


def test_a_check_that_fails_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(folder: Path) -> None:
        raise RuntimeError("a broken package")

    monkeypatch.setattr(doctor, "CHECKS", {"devices": break_down})
    (finding,) = examine(tmp_path)
    assert (finding.topic, finding.state) == ("devices", "bad")
    assert "a broken package" in finding.found


def test_the_command(tmp_path: Path) -> None:
    sound = run("doctor", tmp_path, "--no-self-test", "--json")
    assert sound.exit_code == 0
    assert {json.loads(line)["state"] for line in sound.stdout.splitlines()} <= {"good", "note"}
    absent = run("doctor", tmp_path / "absent", "--no-self-test")
    assert absent.exit_code == 1
    assert absent.stdout.splitlines()[-1] == "wrong: folder (marked !)"
