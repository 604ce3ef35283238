"""`blemish export` and `blemish verify` as typed."""

from pathlib import Path

import pytest

from blemish.inference.runtime import header_of
from reference.command import run

pytestmark = pytest.mark.slow


def test_a_model_is_exported_and_verified(model_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    exported = run("export", model_file, "-o", out)
    assert exported.exit_code == 0, exported.stderr
    assert "compared               7 images with the trained model" in exported.stdout
    assert "p-values and verdicts  the same" in exported.stdout
    raised, before = (header_of(path).threshold for path in (out, model_file))
    assert raised > before
    assert f"{raised:.9g}, raised by the tolerance from {before:.9g}" in exported.stdout
    verified = run("verify", out, "--threads", 1)
    assert verified.exit_code == 0
    assert "judges here as where it was made" in verified.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("opset", [18, 20, 23])
def test_every_opset_on_offer_works(model_file: Path, tmp_path: Path, opset: int) -> None:
    assert run("export", model_file, "-o", tmp_path / "m.onnx", "--opset", opset).exit_code == 0
    assert run("verify", tmp_path / "m.onnx").exit_code == 0


def test_errors_are_one_line_and_exit_code_2(model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    for arguments, message in (
        (["export", model_file, "-o", tmp_path / "m.onnx", "--opset", 7], "--opset: should be greater than"),
        (["export", model_file, "-o", tmp_path], "a folder; give the name of a file"),
        (
            ["verify", model_file, "--device", "cpu"],
            "a trained model, and on the processor there is nothing to compare it with",
        ),
        (["verify", tmp_path / "notes.txt", "--device", "cpu"], "notes.txt: not a model file, or a truncated one"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.strip().count("\n") == 0
