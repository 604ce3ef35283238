"""Every detector that can be exported judges in ONNX as in torch; a new row in DETECTORS is tested here unasked."""

from pathlib import Path
from typing import Any

import pytest

from blemish.errors import ArtifactError
from blemish.inference.parity import verify
from blemish.inference.predictor import Predictor
from blemish.models import DETECTORS, PRESETS, settings_of_name
from blemish.training.export import export_model
from blemish.training.settings import make_settings
from blemish.training.train import train_model
from reference.tiny_encoders import needed

pytestmark = pytest.mark.slow

QUICK = [
    "data.size_px=[64, 96]",
    "train.epochs=1",
    "train.max_steps=4",
    "train.batch_size=4",
    "augment.images_of_one=2",
]
SMALL = {"latent": 8, "width": 8, "search_steps": 2, "samples": 3}
"""Given to every detector that has a setting of this name."""


def small(name: str) -> list[str]:
    detector = settings_of_name(name)["detector"]
    kind: Any = DETECTORS[detector]
    own = {key: value for key, value in SMALL.items() if key in kind.Settings.model_fields}
    return [f"model.{key}={value}" for key, value in {**needed(detector), **own}.items()]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*DETECTORS, *(name for name in PRESETS if name != "seed")])
def test_it_judges_in_onnx_as_in_torch(name: str, channels: int, shared_parts: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "m.safetensors", tmp_path / "m.onnx"
    settings = make_settings(name, assignments=[*QUICK, *small(name), f"data.channels={channels}"])
    train_model(shared_parts, model, settings)
    why_not = DETECTORS[settings.detector].why_not_exported
    if why_not:
        with pytest.raises(ArtifactError, match=why_not):
            export_model(model, out)
        assert not out.exists()
        return
    card = export_model(model, out, good=shared_parts)
    assert card.tolerance <= 1e-4
    assert verify(out).is_within
    trained, exported = Predictor.load(model, device="cpu"), Predictor.load(out)
    good = {trained.predict(path).score for path in shared_parts.glob("train/good/*.png")}
    assert set(trained.header.calibration_scores) <= good  # bit for bit
    for path in sorted(shared_parts.glob("t*/*/*.png")):
        expected, found = trained.predict(path), exported.predict(path)
        assert found.score == pytest.approx(expected.score, rel=1e-4)
        margin = 2 * card.tolerance * trained.threshold
        if min(abs(expected.score - score) for score in trained.header.calibration_scores) > margin:
            assert (found.p_value, found.is_anomalous) == (expected.p_value, expected.is_anomalous)
