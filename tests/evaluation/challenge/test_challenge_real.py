"""A challenge on photographs: at their own size, colour and grey."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from blemish.data.folder import read_folder
from blemish.data.synthetic.defects import DEFECTS
from blemish.evaluation.challenge.challenge import ChallengeSettings, challenge_model
from blemish.inference.predictor import Predictor
from blemish.training.settings import make_settings
from blemish.training.train import train_model

QUICK = ["data.side_px=128", "model.latent=16", "train.epochs=2", "augment.images_of_one=1"]


@pytest.mark.data
@pytest.mark.parametrize("name", ["hazelnut_toy", "kolektorsdd"])
def test_every_kind_of_defect_is_put_on_photographs(
    name: str, real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    root, model = real_data(name), tmp_path / "model.safetensors"
    train_model(root, model, make_settings("conv_autoencoder", assignments=QUICK), device="cpu")
    settings = ChallengeSettings(contrasts=(0.1,), defects=10)
    found = challenge_model(Predictor.load(model, device="cpu"), read_folder(root), tmp_path / "out", settings)
    results = json.loads(found.results_path.read_text(encoding="utf-8"))
    assert [curve["defect_type"] for curve in results["curves"]] == list(DEFECTS)
    assert all(curve["defects"] + curve["alarmed_before"] + curve["no_place"] == 10 for curve in results["curves"])
    assert sum(curve["defects"] for curve in results["curves"]) >= 50
    shorter = min(results["photo_size_px"])
    assert all(row["size_px"] <= 0.21 * shorter + 1 for row in results["defects"])
