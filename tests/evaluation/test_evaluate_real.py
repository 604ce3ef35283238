"""Evaluation of photographs: the files are whole, every gap has its reason, and a second run agrees."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from blemish.data.folder import read_folder
from blemish.evaluation.evaluate import evaluate_model
from blemish.inference.predictor import Predictor
from blemish.training.settings import make_settings
from blemish.training.train import train_model

QUICK = ["data.side_px=64", "model.latent=16", "train.epochs=2", "augment.images_of_one=1"]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "defect_type", "good", "defective"), [("hazelnut_toy", "colour", 6, 17), ("kolektorsdd", "defect", 67, 52)]
)
def test_photographs_are_evaluated(
    name: str, defect_type: str, good: int, defective: int, real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    root, model = real_data(name), tmp_path / "model.safetensors"
    train_model(root, model, make_settings("conv_autoencoder", assignments=QUICK), device="cpu")
    found = evaluate_model(Predictor.load(model, device="cpu"), read_folder(root), tmp_path / "out")
    results = json.loads(found.results_path.read_text(encoding="utf-8"))
    assert (results["count"]["good"], results["count"]["defective"]) == (good, defective)
    assert list(results["by_type"]) == [defect_type]
    assert all(0.0 <= results["pixel"][name] <= 1.0 for name in ("auroc", "ap", "aupro", "aupimo", "oracle_f1"))
    low, high = results["intervals"]["image"]["auroc"]
    assert low <= results["image"]["auroc"] <= high
    page = found.report_path.read_text(encoding="utf-8")
    assert "http://" not in page
    assert "https://" not in page
