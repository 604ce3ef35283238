"""An export judges real photos as the trained model does: rounding apart, and that is measured."""

from collections.abc import Callable
from pathlib import Path

import pytest

from blemish.inference.parity import verify
from blemish.inference.predictor import Predictor
from blemish.training.export import export_model
from blemish.training.settings import make_settings
from blemish.training.train import train_model

pytestmark = pytest.mark.data

QUICK = ["train.max_steps=6", "augment.images_of_one=1", "train.batch_size=4"]


@pytest.mark.parametrize(("name", "preset"), [("hazelnut_toy", "seed"), ("kolektorsdd", "ae_ssim")])
def test_real_photos_are_judged_alike(real_data: Callable[[str], Path], tmp_path: Path, name: str, preset: str) -> None:
    root, model, out = real_data(name), tmp_path / "m.safetensors", tmp_path / "m.onnx"
    train_model(root, model, make_settings(preset, assignments=[*QUICK, "data.size_px=[128, 128]"]))
    card = export_model(model, out)
    assert card.worst <= 5e-5  # half of what is allowed; similarity magnifies what reconstructions differ by
    assert verify(out).is_within
    trained, exported = Predictor.load(model, device="cpu"), Predictor.load(out)
    for path in sorted(root.glob("test/*/*"))[::6]:
        expected, found = trained.predict(path), exported.predict(path)
        assert found.score == pytest.approx(expected.score, rel=card.tolerance)
        assert found.is_anomalous == expected.is_anomalous
