"""The paper's auto-encoder on real photographs: what its documentation promises."""

from collections.abc import Callable
from pathlib import Path

import pytest

from blemish.data.folder import read_folder
from blemish.evaluation.evaluate import evaluate_model
from blemish.inference.predictor import Predictor
from blemish.training.settings import make_settings
from blemish.training.train import train_model


@pytest.mark.data
def test_hazelnuts_with_default_settings(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    data = real_data("hazelnut_toy")
    train_model(data, tmp_path / "m.safetensors", make_settings("conv_autoencoder"))
    results = evaluate_model(Predictor.load(tmp_path / "m.safetensors"), read_folder(data), tmp_path / "out").results
    assert results.image["auroc"] == 1.0
    assert results.pixel["auroc"] >= 0.97
    assert results.pixel["oracle_f1"] >= 0.60
