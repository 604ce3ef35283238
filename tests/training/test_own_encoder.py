"""A model with an encoder of one's own: trained, loaded where the encoder is known, refused where it is not."""

from pathlib import Path

import pytest

from blemish.errors import BlemishError
from blemish.inference.predictor import Predictor
from blemish.models.encoders import ENCODERS
from blemish.training.settings import make_settings
from blemish.training.train import train_model
from reference.blocks_encoder import BlocksEncoder


def test_the_model_file_brings_the_weights_and_the_program_the_code(
    shared_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "m.safetensors"
    photo = next((shared_parts / "test/bar").iterdir())
    with monkeypatch.context() as patch:
        patch.setitem(ENCODERS, "blocks", BlocksEncoder)
        settings = make_settings("patchcore", assignments=["model.encoder=blocks", "data.size_px=[64, 64]"])
        header = train_model(shared_parts, model, settings)
        prediction = Predictor.load(model).predict(photo)
    assert header.run.model["encoder"] == "blocks"
    assert prediction.is_anomalous
    with pytest.raises(BlemishError, match=r"m\.safetensors: .*unknown encoder 'blocks' \(.*ENCODERS before"):
        Predictor.load(model)
