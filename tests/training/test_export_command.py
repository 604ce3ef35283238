"""`blemish export` and `blemish verify` as typed; and the 8-bit half, where it passes and where it is refused."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from blemish.cli import app
from blemish.data.folder import read_folder
from blemish.inference.predictor import Predictor
from blemish.inference.runtime import open_onnx
from blemish.training.export import INT8_TOLERANCE, label_images, split_again
from blemish.training.settings import make_settings
from blemish.training.train import train_model
from conftest import TINY, write_parts

pytestmark = pytest.mark.slow


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def many_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parts(tmp_path_factory.mktemp("many") / "parts", good=30, test=8)


@pytest.fixture(scope="module")
def fitted(many_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that tells good from defective."""
    path = tmp_path_factory.mktemp("fitted") / "model.safetensors"
    train_model(
        many_parts, path, make_settings("seed", assignments=[*TINY, "train.epochs=30", "model.smoothing_sigma_px=2"])
    )
    return path


def test_a_model_is_exported_and_verified(model_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    exported = run("export", model_file, "-o", out)
    assert exported.exit_code == 0, exported.stderr
    assert "compared               7 images with the trained model" in exported.stdout
    assert "p-values and verdicts  the same" in exported.stdout
    verified = run("verify", out, "--threads", 1)
    assert verified.exit_code == 0
    assert "judges here as where it was made" in verified.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("opset", [18, 20, 23])
def test_every_opset_on_offer_works(model_file: Path, tmp_path: Path, opset: int) -> None:
    assert run("export", model_file, "-o", tmp_path / "m.onnx", "--opset", opset).exit_code == 0
    assert run("verify", tmp_path / "m.onnx").exit_code == 0


def test_errors_are_one_line_and_exit_code_2(model_file: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (["export", model_file, "-o", tmp_path / "m.onnx", "--precision", "int8"], "--precision int8 needs --good"),
        (["export", model_file, "-o", tmp_path / "m.onnx", "--opset", 7], "--opset: should be greater than"),
        (["export", model_file, "-o", tmp_path], "a folder; give the name of a file"),
        (["verify", model_file], "not an ONNX file that blemish exported"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.strip().count("\n") == 0


def test_int8_gets_a_threshold_of_its_own(fitted: Path, many_parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    result = run("export", fitted, "-o", out, "--precision", "int8", "--good", many_parts)
    assert result.exit_code == 0, result.stderr
    assert "AUROC" in result.stdout
    assert run("verify", out).exit_code == 0
    model, predictor = open_onnx(out).header, Predictor.load(out)
    held_out = split_again(read_folder(many_parts), Predictor.load(fitted).header).held_out
    scores = sorted(predictor.predict(sample.path).score for sample in held_out)
    margins = np.array(model.model.calibration_scores) - scores
    assert np.all(margins > 0)
    assert margins == pytest.approx(INT8_TOLERANCE * scores[-1], rel=1e-3)
    assert model.model.threshold == model.model.calibration_scores[-1]
    assert model.export.agreement >= 0.95


def test_int8_that_judges_otherwise_is_refused(many_parts: Path, tmp_path: Path) -> None:
    """Hardly trained, all its scores are nearly the same, so that 8 bits reorder them."""
    model, out = tmp_path / "m.safetensors", tmp_path / "m.onnx"
    train_model(many_parts, model, make_settings("seed", assignments=TINY))
    result = run("export", model, "-o", out, "--precision", "int8", "--good", many_parts)
    assert result.exit_code == 2
    assert "get the same verdict (at least 95 % must)" in result.stderr
    assert "the worst is t" in result.stderr
    assert not out.exists()


def test_without_defective_images_good_ones_are_spoiled(fitted: Path, many_parts: Path) -> None:
    header = Predictor.load(fitted).header
    folder = read_folder(many_parts / "train/good")
    images = label_images(folder, folder.train[:4], header)
    assert [label for *_, label in images] == [False] * 4 + [True] * 4
    assert images[5][0] == "001.png with an inverted square"
