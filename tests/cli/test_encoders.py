"""`blemish encoders`, and a model with an encoder of a folder from training to inspection."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blemish.inference.artifact import read_artifact
from blemish.inference.predictor import Predictor
from blemish.inference.runtime import header_of
from reference.command import run
from reference.hub import NAME, Hub, serving
from reference.tiny_encoders import save_tiny

pytest.importorskip("transformers")

WITHOUT = """
import sys
for name in ("torch", "transformers", "onnx", "sklearn"):
    sys.modules[name] = None
from blemish.cli import app
app()
"""
"""The command line where the base install alone is there."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLEMISH_ENCODERS", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def hub(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = save_tiny("dinov2", tmp_path / "saved")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with serving(Hub(files, {"license": "apache-2.0"})) as running:
        monkeypatch.setenv("BLEMISH_HUB_URL", running.url)
        yield running


def listed() -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(run("encoders", "list", "--format", "json").stdout)}


@pytest.mark.slow
def test_list_fetch_and_measure(hub: Hub) -> None:
    fetched = run("encoders", "fetch", f"hf:{NAME}")
    assert fetched.exit_code == 0, fetched.output
    assert "its licence: apache-2.0" in fetched.output
    rows = listed()
    assert rows["efficientnet_lite0"]["how_to_get"] == ""
    assert rows["efficientnet_lite0"]["milliseconds"] is None
    assert (rows[f"hf:{NAME}"]["family"], rows[f"hf:{NAME}"]["licence"]) == ("dinov2", "apache-2.0")
    measured = run("encoders", "list", "--measure")
    assert measured.exit_code == 0, measured.output
    assert all(isinstance(row["milliseconds"], float) for row in listed().values())
    assert f"hf:{NAME}" in measured.stdout


@pytest.mark.slow
def test_where_nothing_can_be_noted_the_encoders_are_listed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home := tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("BLEMISH_ENCODERS", str(home))
    measured = run("encoders", "list", "--measure")
    assert measured.exit_code == 0, measured.output
    said = "".join(measured.stderr.split())  # a long path is folded
    assert f"notmeasured:efficientnet_lite0:{home}:cannotbewritten" in said
    assert "efficientnet_lite0" in measured.stdout


def test_errors_end_with_2_and_one_line(home: Path, shared_parts: Path, tmp_path: Path) -> None:
    missing = run("train", shared_parts, "-o", tmp_path / "m.safetensors", "--set", "model.encoder=hf:some/one")
    assert missing.exit_code == 2
    assert "blemish encoders fetch hf:some/one" in missing.stderr
    assert not (tmp_path / "m.safetensors").exists()
    assert run("encoders", "accept", "mit").exit_code == 2
    assert run("encoders", "accept", "dinov3-license").exit_code == 0
    assert list(json.loads((home / "accepted.json").read_text())) == ["dinov3-license"]


def test_data_check_looks_with_the_encoder_that_is_named(shared_parts: Path, tmp_path: Path) -> None:
    folder = save_tiny("dinov2", tmp_path / "tiny-dinov2")
    checked = run("data", "check", shared_parts, "--set", f"model.encoder=folder:{folder}")
    assert checked.exit_code in (0, 1), checked.output
    gone = run("data", "check", shared_parts, "--set", "model.encoder=folder:gone")
    assert gone.exit_code == 2
    assert "folder:gone: no such folder" in gone.stderr


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["feature_ensemble", "patchcore"])
def test_from_a_folder_to_an_inspection_in_the_base_install(
    detector: str, shared_parts: Path, tmp_path: Path, home: Path
) -> None:
    folder = save_tiny("dinov2", tmp_path / "tiny-dinov2")
    (folder / "LICENSE").write_text("A licence of our own, version 1.\n")
    model, onnx = tmp_path / "m.safetensors", tmp_path / "m.onnx"
    options = ("--detector", detector, "--set", f"model.encoder=folder:{folder}", "--set", "data.speed=fast")
    trained = run("train", shared_parts, "-o", model, *options)
    assert trained.exit_code == 0, trained.output
    assert "its licence is unknown" in trained.stderr
    header = read_artifact(model)[0]
    assert all(side % 14 == 0 for side in header.policy.size_px)
    assert header.encoder is not None
    assert header.encoder.name == "folder:tiny-dinov2"
    assert header.encoder.licence_text == "A licence of our own, version 1.\n"
    shutil.rmtree(folder)  # another machine
    exported = run("export", model, "-o", onnx)
    assert exported.exit_code == 0, exported.output
    assert header_of(onnx).encoder == header.encoder
    assert run("encoders", "licence", onnx).stdout.endswith("\n\nA licence of our own, version 1.\n")
    photos = shared_parts / "test/bar"
    command = [sys.executable, "-c", WITHOUT, "inspect", str(onnx), str(photos), "--format", "json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode in (0, 1), ran.stderr
    predictor = Predictor.load(model)
    for row in json.loads(ran.stdout):
        assert row["score"] == pytest.approx(predictor.predict(row["path"]).score, rel=1e-4)
